"""Runs a lab's script on a strict emulated 82599 and says what went right and what did not.

    python examples/labs/check.py 03                     your file is examples/labs/03_*/lab.py
    python examples/labs/check.py 03 my_lab.py           or this one
    python examples/labs/check.py 03 --hint 1            the first hint
    python examples/labs/check.py 03 --nic 0000:03:00.0  run it on a real NIC instead, unchecked
    python examples/labs/check.py CLASS                  a whole class: CLASS/STUDENT/NN_*/lab.py
    python examples/labs/check.py CLASS --json           the same for a program: student, lab, passed, reason, an object a file

Beside the file each run leaves packets.pcap, what was on the wire, and trace.txt, each access to a register.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import runpy
import sys
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: a fork should leave no threads behind

from judge.evidence import Evidence, Lab
from judge.explain import Verdict, judge
from judge.labs import LABS
from judge.trial import LIMIT_S, try_script

from ixrings.hw.errors import DeviceError

HERE = Path(__file__).resolve().parent
MOST_SOURCE = 1 << 20  # characters of a script that are looked at for open gaps
SIGNS = {None: "-", True: "passed", False: "not yet"}


def main() -> int:
    options = arguments()
    try:
        if options.what in LABS:
            return one_lab(LABS[options.what], options)
        return whole_class(Path(options.what), options)
    except OSError as error:
        print(f"check.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", metavar="NN or CLASS", help=f"a lab, {min(LABS)} to {max(LABS)}, or a class's folder")
    parser.add_argument("file", nargs="?", type=Path, help="the script (default: the lab's own lab.py)")
    parser.add_argument("--hint", type=int, metavar="N", help="show the lab's hint N")
    parser.add_argument("--nic", metavar="ADDRESS", help="run the script on this NIC, unchecked, such as 0000:03:00.0")
    parser.add_argument(
        "--time",
        type=float,
        default=LIMIT_S,
        metavar="SECONDS",
        help=f"how long a script may run (default: {LIMIT_S:g})",
    )
    parser.add_argument("--json", action="store_true", help="print what was found as JSON instead")
    options = parser.parse_args()
    if options.what not in LABS and not Path(options.what).is_dir():
        parser.error(f"{options.what} is neither a lab ({', '.join(LABS)}) nor a folder with a class's files")
    if options.json and (options.hint is not None or options.nic):
        parser.error("--json is for what was checked; leave out --hint and --nic")
    return options


# ---- one lab ----


def one_lab(lab: Lab, options: argparse.Namespace) -> int:
    if options.hint is not None:
        return show_hint(lab, options.hint)
    file: Path = (options.file or lab.folder / "lab.py").absolute()
    if not file.is_file():
        print(f"check.py: there is no file {file}", file=sys.stderr)
        return 2
    if options.nic:
        return run_unchecked(file, options.nic)
    evidence, verdict = checked(lab, file, options.time)
    if options.json:
        print(
            json.dumps(
                {
                    **found(lab, verdict),
                    "explanation": str(verdict),
                    "output": evidence.run.output,
                    "saved": not evidence.not_left,
                },
                indent=2,
            )
        )
        return 0 if verdict.passed else 1
    if evidence.run.output:
        print("\n".join(f"| {line}" for line in evidence.run.output.splitlines()[:40]) + "\n")
    print(f"Lab {title(lab)}: {SIGNS[verdict.passed]}.\n")
    if str(verdict):
        print(f"{verdict}\n")
    if not evidence.not_left:
        print(
            f"In {file.parent}: trace.txt has each access to the NIC, packets.pcap what was on the wire (tcpdump -XXr packets.pcap)."
        )
    if not verdict.passed:
        print(f"A hint: python {sys.argv[0]} {lab.number} --hint 1")
    return 0 if verdict.passed else 1


def checked(lab: Lab, file: Path, limit_s: float) -> tuple[Evidence, Verdict]:
    with open(file, encoding="utf-8", errors="replace") as source:
        script = source.read(MOST_SOURCE)
    evidence = try_script(lab, file, limit_s=limit_s)
    return evidence, judge(lab, evidence, script)


def found(lab: Lab, verdict: Verdict) -> dict[str, object]:
    return {"lab": lab.number, "passed": verdict.passed, "reason": verdict.reason}


def run_unchecked(file: Path, nic: str) -> int:
    sys.argv = [str(file), nic]
    try:
        runpy.run_path(str(file), run_name="__main__")
    except DeviceError as error:
        print(f"check.py: {error}", file=sys.stderr)
        return 1
    return 0


def title(lab: Lab) -> str:
    return lab.folder.name.replace("_", " ")


def show_hint(lab: Lab, number: int) -> int:
    hints = re.split(r"^## .*$", (lab.folder / "hints.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    if not 1 <= number <= len(hints):
        print(f"check.py: lab {lab.number} has hints 1 to {len(hints)}", file=sys.stderr)
        return 2
    print(f"Hint {number} of {len(hints)}:\n\n{hints[number - 1].strip()}")
    return 0


# ---- a class ----


def whole_class(folder: Path, options: argparse.Namespace) -> int:
    """0 when all that was handed in passed."""
    students = sorted(entry for entry in folder.iterdir() if entry.is_dir() and any(entry.glob("[0-9][0-9]_*/lab.py")))
    if not students:
        print(f"check.py: {folder} has no STUDENT/NN_*/lab.py", file=sys.stderr)
        return 2
    return class_as_json(students, options.time) if options.json else class_as_table(students, options.time)


def class_as_json(students: list[Path], limit_s: float) -> int:
    rows = [
        {"student": student.name, **found(LABS[number], verdict)}
        for student in students
        for number, verdict in verdicts_of(student, limit_s).items()
        if verdict
    ]
    print(json.dumps(rows, indent=2))
    return 0 if all(row["passed"] for row in rows) else 1


def class_as_table(students: list[Path], limit_s: float) -> int:
    """A line as soon as a student's files are done."""
    width = max(7, *(len(student.name) for student in students))
    print(f"{'student':{width}}  {'  '.join(f'{number:7}' for number in LABS)}".rstrip(), flush=True)
    reasons: list[str] = []
    for student in students:
        verdicts = verdicts_of(student, limit_s)
        signs = "  ".join(f"{SIGNS[verdict.passed if verdict else None]:7}" for verdict in verdicts.values())
        print(f"{student.name:{width}}  {signs}".rstrip(), flush=True)
        failed = {number: verdict for number, verdict in verdicts.items() if verdict and not verdict.passed}
        reasons += [f"{student.name} {number}: {verdict.reason.splitlines()[0]}" for number, verdict in failed.items()]
    if reasons:
        print("\n" + "\n".join(reasons))
    return 1 if reasons else 0


def verdicts_of(student: Path, limit_s: float) -> dict[str, Verdict | None]:
    """Of every lab, by its number."""
    return {number: verdict_of(lab, student, limit_s) for number, lab in LABS.items()}


def verdict_of(lab: Lab, student: Path, limit_s: float) -> Verdict | None:
    """None when the student has nothing for this lab."""
    file = next((file for file in sorted(student.glob(f"{lab.number}_*/lab.py")) if file.is_file()), None)
    return checked(lab, file.absolute(), limit_s)[1] if file else None


if __name__ == "__main__":
    sys.exit(main())
