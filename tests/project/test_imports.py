"""Who may import whom, and what stands at the top: the rules that keep driver, hw and rings three things."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

ALLOWED = {
    "driver": {"driver", "hw", "rings", "numpy"},
    "hw": {"hw", "numpy"},
    "rings": {"rings", "numpy"},
    "examples": {"driver", "hw", "rings", "numpy", "examples", "judge"} | {file.stem for file in (ROOT / "examples").rglob("*.py")},  # scripts: siblings by name
}
TOP_LEVEL = {"README.md", "pyproject.toml", "driver", "hw", "rings", "examples", "tests"}
PACKAGING = {"LICENSE", "MANIFEST.in", "setup.py"}
LEFT_BY_TOOLS = ("build", "dist", "*.egg-info", "__pycache__", ".*")


def imported(source: str, package: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Line and top-level name of each import of a module in `package`, those inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            for name in [node.module] if node.module else [alias.name for alias in node.names]:
                yield node.lineno, (*base, *name.split("."))[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("__import__", "import_module", "importlib.import_module"):
            target = node.args[0] if node.args else None
            yield node.lineno, str(target.value).partition(".")[0] if isinstance(target, ast.Constant) else "a computed name"


def forbidden(part: str) -> list[str]:
    allowed = ALLOWED[part] | set(sys.stdlib_module_names)
    return [
        f"{file.relative_to(ROOT)}:{line} imports {name}"
        for file in sorted((ROOT / part).rglob("*.py"))
        for line, name in imported(file.read_text(), file.relative_to(ROOT).parent.parts)
        if name not in allowed
    ]


@pytest.mark.parametrize("part", ALLOWED)
def test_a_part_imports_only_what_the_design_allows_it(part: str) -> None:
    assert any((ROOT / part).rglob("*.py")), f"{part}/ has no Python in it"
    assert forbidden(part) == []


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("import driver.port as p", "driver"),
        ("def f():\n    from rings.ring import Ring", "rings"),
        ("from . import pcap", "hw"),
        ("from ..register import Word", "hw"),
        ("from ... import driver", "driver"),
        ("from ...rings import ring", "rings"),
        ("importlib.import_module('driver.port')", "driver"),
        ("__import__(name)", "a computed name"),
    ],
)
def test_no_way_of_importing_goes_unseen(line: str, name: str) -> None:
    assert [found for _, found in imported(line, ("hw", "emulator"))] == [name]


def test_c_files_include_only_their_own_folder_and_the_system() -> None:
    generated = {"registers.h"}
    for file in [*ROOT.glob("rings/**/*.[ch]"), *ROOT.glob("hw/**/*.[ch]")]:
        for header in re.findall(r'^\s*#\s*include\s*"([^"]+)"', file.read_text(), re.MULTILINE):
            assert header in generated or ("/" not in header and (file.parent / header).exists()), f"{file.name} includes {header}"


def test_nothing_joins_the_top_level_that_the_design_does_not_name() -> None:
    present = {entry.name for entry in ROOT.iterdir() if not any(fnmatch(entry.name, pattern) for pattern in LEFT_BY_TOOLS)}
    assert present - TOP_LEVEL - PACKAGING == set()


def test_every_installed_package_is_marked_as_typed() -> None:
    assert [name for name in ("driver", "hw", "rings") if not (ROOT / name / "py.typed").exists()] == []
