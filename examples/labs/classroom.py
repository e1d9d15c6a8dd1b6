"""Writes the copy of the labs that a class gets: no solutions, and the steps that course.py solves are encoded.

What a student can still read is in README.md, "For teachers".
"""

from __future__ import annotations

import ast
import base64
import re
import shutil
import textwrap
import zlib
from collections.abc import Collection, Iterable
from pathlib import Path

from gaps import open_gaps

HERE = Path(__file__).resolve().parent
SECTION = re.compile(r"^# ---- (.*) ----$", re.MULTILINE)
LINK_OUT = re.compile(r"\[([^]]*)\]\((?:\.\./){2,}[^)]*\)")  # to a file of the project that is not in the copy
FOR_TEACHERS = "## For teachers"
WRAPPED = 110  # characters of a line
ABOUT_ENCODED = (
    "# Later labs use these steps. They are encoded, so that nobody reads the solution of a lab by accident."
)


def write_class(folder: Path, labs: Collection[str] = ()) -> list[str]:
    """Write the copy into `folder`, which is new or empty. labs: the numbers of those to write; none: all. Returns the
    names of the labs' folders. Raises OSError, and ValueError with a sentence."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} exists and is not an empty folder. Name a new one")
    sources = [file.parent for file in sorted(HERE.glob("[0-9][0-9]_*/solution.*"))]
    unknown = sorted(set(labs) - {source.name[:2] for source in sources})
    if unknown:
        raise ValueError(f"there is no lab {', '.join(unknown)}. Labs have two digits: 01 to {sources[-1].name[:2]}")
    chosen = [source for source in sources if not labs or source.name[:2] in labs]
    folder.mkdir(parents=True, exist_ok=True)
    for source in chosen:
        copy_lab(source, folder / source.name)
    shutil.copytree(HERE / "judge", folder / "judge", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("check.py", "gaps.py"):
        write(folder / name, read(HERE / name))
    page = read(HERE / "README.md").split(FOR_TEACHERS)[0].replace("hints, and a solution.", "and hints.")
    write(folder / "README.md", page.rstrip() + "\n")
    used = {name for source in chosen for name in taken_from_course(next(source.glob("solution.*")))}
    write(folder / "course.py", encode_solved(read(HERE / "course.py"), used))
    return [source.name for source in chosen]


def copy_lab(source: Path, target: Path) -> None:
    """The page, the hints, the script with all gaps open, and headers. The link to course.py stays a link."""
    target.mkdir()
    for file in (*source.glob("*.md"), *source.glob("*.h")):
        write(target / file.name, read(file))
    solution = next(source.glob("solution.*"))
    write(target / f"lab{solution.suffix}", open_gaps(read(solution)))
    if (source / "course.py").exists():
        (target / "course.py").symlink_to("../course.py")


def read(file: Path) -> str:
    return file.read_text(encoding="utf-8")


def write(file: Path, text: str) -> None:
    """Write the text. Its commands are run in the copy's folder, and it has no links out of the copy."""
    file.write_text(LINK_OUT.sub(r"\1", text).replace("examples/labs/", ""), encoding="utf-8")


# ---- course.py ----


def taken_from_course(script: Path) -> set[str]:
    """The names that a lab imports from course.py."""
    if script.suffix != ".py":
        return set()
    found = [node for node in ast.walk(ast.parse(read(script))) if isinstance(node, ast.ImportFrom)]
    return {name.name for node in found if node.module == "course" for name in node.names}


def encode_solved(course: str, used: Collection[str]) -> str:
    """course.py with its "solved" sections encoded. Functions in them that are not in `used` are left out."""
    text, *sections = SECTION.split(course)
    for title, body in zip(sections[::2], sections[1::2]):
        solved = [node for node in ast.parse(body).body if isinstance(node, ast.FunctionDef) and node.name in used]
        if not title.endswith("solved"):
            text += f"# ---- {title} ----{body}"
        elif solved:
            text += f"# ---- {title} ----\n\n{encoded(solved)}\n\n"
    return text.replace("import socket\n", "import base64\nimport socket\n", 1).replace(
        "import time\n", "import time\nimport zlib\n", 1
    )


def encoded(functions: Iterable[ast.FunctionDef]) -> str:
    """The functions: what they do, as comments, and their lines as one encoded string, which runs in any Python."""
    functions = list(functions)
    lines = [ABOUT_ENCODED]
    for function in functions:
        summary = (ast.get_docstring(function) or "").split("\n\n")[0].replace("\n", " ")
        about = f"{function.name}({ast.unparse(function.args)}): {summary}"
        lines += textwrap.wrap(about, WRAPPED, initial_indent="#   ", subsequent_indent="#     ")
    source = "\n\n\n".join(ast.unparse(function) for function in functions)
    letters = base64.b64encode(zlib.compress(source.encode(), 9)).decode("ascii")
    pieces = [letters[at : at + WRAPPED] for at in range(0, len(letters), WRAPPED)]
    lines += ["exec(zlib.decompress(base64.b64decode('''", *pieces, "''')))"]
    return "\n".join(lines) + "\n"
