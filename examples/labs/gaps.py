"""Makes each lab.py from its solution.py, and lab.c from solution.c.

    python examples/labs/gaps.py                        make the files with gaps again
    python examples/labs/gaps.py --class FOLDER         write a copy for students into FOLDER, without solutions
    python examples/labs/gaps.py --class FOLDER 01 02   a copy with these labs only

In a solution, a gap starts after a comment `# GAP 3: what to do` and ends before the next empty line. lab.py has `...`
in its place. In C the comment is `// GAP 3: what to do`, the gap also ends before the end of its block, and lab.c has
`;` in its place.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection
from pathlib import Path

GAP = re.compile(r"( *)(#|//) GAP (\d+): ")
OPEN = re.compile(r"^ *(?:\.\.\.  #|; //) GAP (\d+): ", re.MULTILINE)
PLACE = {"#": "...  ", "//": "; "}
MORE = re.compile(r" *(?:#|//)   ")  # the comment of a gap goes on


def numbers(solution: str) -> list[int]:
    """The numbers of the gaps in a solution."""
    return [int(found[3]) for line in solution.splitlines() if (found := GAP.match(line))]


def open_gaps(solution: str, which: Collection[int] | None = None) -> str:
    """`solution` with the gaps in `which` opened (None: all gaps). The other gaps keep their lines."""
    lines: list[str] = []
    inside, indent = False, 0
    for line in solution.splitlines():
        gap = GAP.match(line)
        if gap and (which is None or int(gap[3]) in which):
            lines.append(f"{gap[1]}{PLACE[gap[2]]}{line.strip()}")
            inside, indent = True, len(gap[1])
        elif not inside or (MORE.match(line) and (MORE.match(lines[-1]) or OPEN.match(lines[-1]))):
            lines.append(line)
        elif not line.strip() or len(line) - len(line.lstrip()) < indent:
            lines.append(line)
            inside = False
    return "\n".join(lines) + "\n"


def still_open(script: str) -> list[int]:
    """The numbers of the gaps that a student has not filled."""
    return [int(number) for number in OPEN.findall(script)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--class", dest="folder", type=Path, help="write a copy for students into this new folder")
    parser.add_argument("labs", nargs="*", metavar="NN", help="with --class: only these labs (default: all)")
    options = parser.parse_args()
    solutions = sorted(Path(__file__).parent.glob("[0-9][0-9]_*/solution.*"))
    if not solutions:
        parser.error("there are no solutions here: this is a copy for students. Run the gaps.py of the project")
    if options.folder:
        from classroom import write_class  # a student's copy has no classroom.py

        try:
            written = write_class(options.folder, options.labs)
        except ValueError as error:
            parser.error(f"{error}")
        print(f"{options.folder} has {len(written)} labs. A student runs: python {options.folder / 'check.py'} 01")
    elif options.labs:
        parser.error("labs are chosen for a copy: add --class FOLDER")
    else:
        for solution in solutions:
            script = open_gaps(solution.read_text(encoding="utf-8"))
            solution.with_name(f"lab{solution.suffix}").write_text(script, encoding="utf-8")


if __name__ == "__main__":
    from ixrings.driver.program import run  # the judge, which imports this file, does not need the driver

    run(main)
