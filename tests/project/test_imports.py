"""Which part may import which, no circles inside a folder, and the entries of the top level."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.circles import circle

ROOT = Path(__file__).resolve().parent.parent.parent

ALLOWED = {
    "driver": {"ixrings.driver", "ixrings.hw", "ixrings.rings", "numpy"},
    "hw": {"ixrings.hw", "numpy"},
    "rings": {"ixrings.rings", "numpy"},
    "examples": {"ixrings", "ixrings.driver", "ixrings.hw", "ixrings.rings", "numpy", "judge"}
    | {"scapy"}  # scapy_port.py says that it needs Scapy
    | {file.stem for file in (ROOT / "examples").rglob("*.py")},  # scripts import their siblings by name
}
TOP_LEVEL = {"README.md", "pyproject.toml", "driver", "hw", "rings", "examples", "tests"}
PACKAGING = {"LICENSE", "MANIFEST.in", "setup.py"}
LEFT_BY_TOOLS = ("build", "dist", "*.egg-info", "__pycache__", ".*")


def imported(source: str, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of each import of a module in `package`, also of imports inside functions.

    typing_extensions under TYPE_CHECKING is left out: only type checkers import it, and they bring it with them.
    """
    tree = ast.parse(source)
    checked = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    for_checkers = {inner for node in checked for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if node in for_checkers and isinstance(node, ast.ImportFrom) and node.module == "typing_extensions":
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module or "").split(".")) if node.module else base
            for alias in node.names:
                yield node.lineno, ".".join((*module, alias.name))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
            "__import__",
            "import_module",
            "importlib.import_module",
        ):
            target = node.args[0] if node.args else None
            yield node.lineno, str(target.value) if isinstance(target, ast.Constant) else "a computed name"


def part_of(name: str) -> str:
    """`ixrings.hw` for `ixrings.hw.registers.Registers`, `ixrings` for its exported names, `numpy` for numpy.uint8."""
    top, _, rest = name.partition(".")
    inside = rest.partition(".")[0]
    return f"{top}.{inside}" if top == "ixrings" and inside in ("driver", "hw", "rings") else top


def forbidden(part: str) -> list[str]:
    allowed = ALLOWED[part] | set(sys.stdlib_module_names)
    return [
        f"{file.relative_to(ROOT)}:{line} imports {name}"
        for file in sorted((ROOT / part).rglob("*.py"))
        for line, name in imported(file.read_text(), ("ixrings", *file.relative_to(ROOT).parent.parts))
        if part_of(name) not in allowed
    ]


@pytest.mark.parametrize("part", ALLOWED)
def test_a_part_imports_only_the_parts_that_it_may_use(part: str) -> None:
    assert any((ROOT / part).rglob("*.py")), f"{part}/ has no Python in it"
    assert forbidden(part) == []


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("import ixrings.driver.port as p", "ixrings.driver"),
        ("def f():\n    from ixrings.rings.ring import Ring", "ixrings.rings"),
        ("from ixrings import open_port", "ixrings"),
        ("from . import pcap", "ixrings.hw"),
        ("from ..register import Word", "ixrings.hw"),
        ("from ... import driver", "ixrings.driver"),
        ("from ...rings import ring", "ixrings.rings"),
        ("import driver", "driver"),
        ("importlib.import_module('ixrings.driver.port')", "ixrings.driver"),
        ("__import__(name)", "a computed name"),
    ],
)
def test_every_form_of_import_is_found(line: str, name: str) -> None:
    assert [part_of(found) for _, found in imported(line, ("ixrings", "hw", "emulator"))] == [name]


def entries_below(folder: Path, name: str) -> str:
    """The entry of `folder` (file or folder) that contains a dotted name; "" if the name is elsewhere."""
    path = ROOT.joinpath(*name.split(".")[1:])
    while not path.exists() and not path.with_suffix(".py").exists() and path != ROOT:
        path = path.parent
    return path.relative_to(folder).parts[0] if folder in path.parents else ""


def arrows_of(folder: Path) -> dict[str, dict[str, str]]:
    """importing entry -> imported entry -> one such import, for the entries of a folder. A subfolder is one entry."""
    found: dict[str, dict[str, str]] = {}
    for file in sorted(folder.rglob("*.py")):
        inside = file.relative_to(folder).with_suffix("").parts
        for line, name in imported(file.read_text(), ("ixrings", *file.parent.relative_to(ROOT).parts)):
            target = entries_below(folder, name) if name.startswith("ixrings.") else ""
            if target and target != inside[0]:
                found.setdefault(inside[0], {})[target] = f"{file.relative_to(ROOT)}:{line} imports {name}"
    return found


FOLDERS = sorted(
    {str(file.parent.relative_to(ROOT)) for part in ("driver", "hw", "rings") for file in (ROOT / part).rglob("*.py")}
)


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_between_the_entries_of_a_folder_form_no_circle(folder: str) -> None:
    arrows = arrows_of(ROOT / folder)
    way = circle(arrows)
    assert [arrows[a][b] for a, b in pairwise(way)] == []


def test_imports_between_folders_are_found_and_a_circle_is_reported() -> None:
    assert {"vfio", "memory"} <= arrows_of(ROOT / "hw").keys() | arrows_of(ROOT / "hw")["vfio"].keys()
    assert circle({"a": {"b": "", "d": ""}, "b": {"c": ""}, "c": {"a": ""}}) in (
        ["a", "b", "c", "a"],
        ["b", "c", "a", "b"],
        ["c", "a", "b", "c"],
    )
    assert circle({"a": {"b": "", "c": ""}, "b": {"c": ""}}) == []


def test_c_files_include_only_their_own_part_and_the_system() -> None:
    generated = {"registers.h", "findings.h"}
    for part in (ROOT / "rings", ROOT / "hw"):
        for file in part.rglob("*.[ch]"):
            for header in re.findall(r'^\s*#\s*include\s*"([^"]+)"', file.read_text(), re.MULTILINE):
                place = (file.parent / header).resolve()
                assert header in generated or (place.is_relative_to(part) and place.exists()), (
                    f"{file.name} includes {header}"
                )


def test_the_top_level_contains_only_listed_entries() -> None:
    present = {
        entry.name for entry in ROOT.iterdir() if not any(fnmatch(entry.name, pattern) for pattern in LEFT_BY_TOOLS)
    }
    assert present - TOP_LEVEL - PACKAGING == set()


def test_every_folder_of_code_is_installed() -> None:
    listed = re.findall(r'^    "(ixrings[\w.]*)",$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    folders = {file.parent for part in ("driver", "hw", "rings") for file in (ROOT / part).rglob("*.py")}
    assert sorted(listed) == sorted(
        ["ixrings", *(".".join(("ixrings", *folder.relative_to(ROOT).parts)) for folder in folders)]
    )
    assert (ROOT / ".package/ixrings/py.typed").exists()
