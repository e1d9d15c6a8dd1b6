"""Makes each lab's script from its solution: python examples/labs/gaps.py

In a solution a gap is what follows a comment `# GAP 3: what to do`, up to the next empty line; in the lab `...` is left of it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

GAP = re.compile(r"( *)# GAP (\d+): ")
OPEN = re.compile(r"^ *\.\.\.  # GAP (\d+): ", re.MULTILINE)


def numbers(solution: str) -> list[int]:
    """The gaps there are."""
    return [int(found[2]) for line in solution.splitlines() if (found := GAP.match(line))]


def open_gaps(solution: str, which: Collection[int] | None = None) -> str:
    """`solution` without what these gaps hold (None: all gaps); the others stay filled."""
    lines: list[str] = []
    inside = False
    for line in solution.splitlines():
        gap = GAP.match(line)
        if gap and (which is None or int(gap[2]) in which):
            lines.append(f"{gap[1]}...  {line.strip()}")
            inside = True
        elif not inside or (line.strip().startswith("#   ") and lines[-1].lstrip().startswith(("...", "#   "))):
            lines.append(line)
        elif not line.strip():
            lines.append(line)
            inside = False
    return "\n".join(lines) + "\n"


def still_open(script: str) -> list[int]:
    """Gaps that a student left as they were."""
    return [int(number) for number in OPEN.findall(script)]


if __name__ == "__main__":
    for solution in sorted(Path(__file__).parent.glob("[0-9][0-9]_*/solution.py")):
        solution.with_name("lab.py").write_text(open_gaps(solution.read_text(encoding="utf-8")), encoding="utf-8")
