"""Runs your script of a lab on a strict emulated 82599 and says whether it did what the lab asks.

    python examples/labs/check.py 03                     check examples/labs/03_*/lab.py (lab 11: lab.c)
    python examples/labs/check.py 03 my_lab.py           check another file
    python examples/labs/check.py 03 --hint 1            show the first hint
    python examples/labs/check.py 03 --challenge         check challenge.py, the harder task at the end of the page
    python examples/labs/check.py 03 --glass             show the run live in a browser (ixrings glass)
    python examples/labs/check.py 03 --nic 0000:03:00.0  run the file on a real NIC, unchecked
    python examples/labs/check.py CLASS                  check a class: CLASS/STUDENT/NN_*/lab.py
    python examples/labs/check.py CLASS --json           the same as JSON: student, lab, passed, reason for each file

Each run writes two files beside yours: packets.pcap has the frames on the wire, trace.txt each access to a register.
"""

from __future__ import annotations

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during the imports ends quietly; main() restores it

import argparse
import json
import os
import re
import runpy
import sys
from collections.abc import Iterable
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is imported: the checker forks, so it has one thread

try:
    from judge.apart import Result, judged, unjudged
    from judge.challenges import CHALLENGES
    from judge.evidence import Lab
    from judge.explain import Verdict
    from judge.labs import LABS
    from judge.trial import LIMIT_S

    from ixrings.driver.arguments import checked
    from ixrings.hw.errors import DeviceError
except ModuleNotFoundError as missing:
    sys.exit(
        f"check.py: this Python ({sys.executable}) has no module {missing.name}. Run check.py with the Python in which "
        "ixrings is installed: .venv/bin/python examples/labs/check.py 01"
    )

HERE = Path(__file__).resolve().parent
GLASS, GLASS_S = "127.0.0.1:8082", 3600.0
SIGNS = {None: "-", True: "passed", False: "not yet"}


def listen_address(text: str) -> tuple[str, int]:
    from ixrings.driver.glass.server import parse_listen  # other runs do not need the driver

    return parse_listen(text)


def main() -> int:
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, lambda number, _: sys.exit(128 + number))  # so the script ends, too
    try:
        status = run(arguments())
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # `check.py CLASS | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at its end
        return 1
    except OSError as error:
        print(f"check.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def run(options: argparse.Namespace) -> int:
    if options.what in LABS:
        return one_lab(LABS[options.what], options)
    return whole_class(Path(options.what), options)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what", metavar="NN or CLASS", help=f"a lab, {min(LABS)} to {max(LABS)}, or the folder of a class"
    )
    parser.add_argument(
        "file", nargs="?", type=Path, help="your script (default: lab.py, or lab.c, in the lab's folder)"
    )
    parser.add_argument(
        "--challenge", action="store_true", help="check the lab's challenge, for which you copy lab.py to challenge.py"
    )
    parser.add_argument("--hint", type=int, metavar="N", help="show hint N of the lab")
    parser.add_argument(
        "--nic", metavar="ADDRESS", help="run the script on this NIC, unchecked; for example 0000:03:00.0"
    )
    parser.add_argument(
        "--glass",
        nargs="?",
        const=GLASS,
        type=checked(listen_address),
        metavar="ADDRESS:PORT",
        help=f"show the run in a page, with pause and step; the script starts when it is open (default: {GLASS})",
    )
    parser.add_argument(
        "--time",
        type=float,
        metavar="SECONDS",
        help=f"how long a script may run (default: {LIMIT_S:g}, with --glass {GLASS_S:g})",
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_intermixed_args()
    if options.time is None:
        options.time = GLASS_S if options.glass else LIMIT_S
    if options.what not in LABS and not Path(options.what).is_dir():
        number = options.what.zfill(2)
        parser.error(
            f"labs have two digits. Run: python {sys.argv[0]} {number}"
            if number in LABS
            else f"{options.what} is neither a lab ({', '.join(LABS)}) nor the folder of a class"
        )
    if options.challenge and options.what not in CHALLENGES:
        parser.error(
            f"the checker judges the challenges of the labs {', '.join(CHALLENGES)}. The page of another lab says how "
            "you see that yours is right"
        )
    if options.challenge and (options.hint is not None or options.nic):
        parser.error("--challenge checks a challenge; leave out --hint and --nic")
    if options.json and (options.hint is not None or options.nic):
        parser.error("--json prints the result of a check; leave out --hint and --nic")
    if options.glass and (options.what not in LABS or options.hint is not None or options.nic):
        parser.error("--glass shows one check; write: --glass with the number of a lab, without --hint and --nic")
    if options.glass and (LABS[options.what].on_vf or LABS[options.what].file.endswith(".c")):
        parser.error(f"--glass cannot show lab {options.what}, whose script does not drive a physical function itself")
    return options


# ---- one lab ----


def one_lab(lab: Lab, options: argparse.Namespace) -> int:
    if options.hint is not None:
        return show_hint(lab, options.hint)
    file: Path = (options.file or lab.folder / ("challenge.py" if options.challenge else lab.file)).absolute()
    if not file.is_file():
        copy = ". Copy your lab.py to it, and change the copy" if options.challenge and not options.file else ""
        print(f"check.py: the file {file} does not exist{copy}", file=sys.stderr)
        return 2
    if options.nic and file.suffix == ".c":
        print(
            f"check.py: lab {lab.number} needs a daemon. Run: ixrings daemon ix0={options.nic} & "
            f"cc -I {lab.folder} {file} -o lab && ixrings run ./lab ix0",
            file=sys.stderr,
        )
        return 2
    if options.nic:
        return run_unchecked(file, options.nic)
    task = CHALLENGES[lab.number] if options.challenge else lab
    result = judged(task, file, limit_s=options.time, glass=options.glass)
    verdict = result.verdict
    if options.json:
        print(
            json.dumps(
                {
                    **found(lab, verdict),
                    "explanation": str(verdict),
                    "output": result.output,
                    "saved": result.saved,
                },
                indent=2,
            )
        )
        return 0 if verdict.passed else 1
    if result.output:
        print("\n".join(f"| {line}" for line in result.output.splitlines()[:40]) + "\n")
    print(f"{'The challenge of lab' if options.challenge else 'Lab'} {title(lab)}: {SIGNS[verdict.passed]}.\n")
    if str(verdict):
        print(f"{verdict}\n")
    if result.saved:
        print(
            f"In {file.parent}: trace.txt has each access to the NIC, packets.pcap the frames on the wire "
            "(tcpdump -XXr packets.pcap)."
        )
    tell_what_is_not_held([result])
    if not verdict.passed and not options.challenge:
        print(f"A hint: python {sys.argv[0]} {lab.number} --hint 1")
    return 0 if verdict.passed else 1


def tell_what_is_not_held(results: Iterable[Result]) -> None:
    """Say on stderr, in one sentence, what this machine could not keep the scripts from."""
    texts = sorted({text for result in results for text in result.not_held})
    if texts:
        print(f"check.py: on this machine a script is not kept from {'; '.join(texts)}.", file=sys.stderr)


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
        print(f"check.py: lab {lab.number} has the hints 1 to {len(hints)}", file=sys.stderr)
        return 2
    print(f"Hint {number} of {len(hints)}:\n\n{hints[number - 1].strip()}")
    return 0


# ---- a class ----


def whole_class(folder: Path, options: argparse.Namespace) -> int:
    """The exit status: 0 when every file passed."""
    students = sorted(entry for entry in folder.iterdir() if entry.is_dir() and any(entry.glob("[0-9][0-9]_*/lab.*")))
    if not students:
        print(f"check.py: {folder} contains no file STUDENT/NN_*/lab.py or lab.c", file=sys.stderr)
        return 2
    return class_as_json(students, options.time) if options.json else class_as_table(students, options.time)


def class_as_json(students: list[Path], limit_s: float) -> int:
    results = [
        (student.name, lab, result)
        for student in students
        for lab, result in results_of(student, limit_s).items()
        if result
    ]
    rows = [{"student": student, **found(LABS[lab], result.verdict)} for student, lab, result in results]
    print(json.dumps(rows, indent=2))
    tell_what_is_not_held(result for _, _, result in results)
    return 0 if all(row["passed"] for row in rows) else 1


def class_as_table(students: list[Path], limit_s: float) -> int:
    """Print each student's line as soon as all files of this student are checked."""
    width = max(7, *(len(student.name) for student in students))
    print(f"{'student':{width}}  {'  '.join(f'{number:7}' for number in LABS)}".rstrip(), flush=True)
    judged_files: list[Result] = []
    reasons: list[str] = []
    for student in students:
        results = results_of(student, limit_s)
        signs = "  ".join(f"{SIGNS[result.verdict.passed if result else None]:7}" for result in results.values())
        print(f"{student.name:{width}}  {signs}".rstrip(), flush=True)
        for number, result in results.items():
            if result:
                judged_files.append(result)
                if not result.verdict.passed:
                    reasons.append(f"{student.name} {number}: {result.verdict.reason.splitlines()[0]}")
    if reasons:
        print("\n" + "\n".join(reasons))
    sys.stdout.flush()
    tell_what_is_not_held(judged_files)
    return 1 if reasons else 0


def results_of(student: Path, limit_s: float) -> dict[str, Result | None]:
    """The result of each lab, by the lab's number; None where the student has no file."""
    return {number: result_of(lab, student, limit_s) for number, lab in LABS.items()}


def result_of(lab: Lab, student: Path, limit_s: float) -> Result | None:
    file = next(iter(sorted(student.glob(f"{lab.number}_*/{lab.file}"))), None)
    if file is None:
        return None
    if not file.resolve().is_relative_to(student.resolve()):
        return unjudged(f"{file} is a link that leads out of the student's folder.")
    if not file.is_file():
        return unjudged(f"{file} is not a regular file.")
    return judged(lab, file.absolute(), limit_s=limit_s)


if __name__ == "__main__":
    sys.exit(main())
