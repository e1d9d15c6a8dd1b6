"""The C files of the engine: calls go downward only, in the order of the table in their README."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from ixrings.hw.emulator.engine.header import write_headers
from tests.support.circles import circle

ENGINE = Path(__file__).resolve().parent.parent.parent.parent / "hw/emulator/engine"
Calls = dict[str, dict[str, list[str]]]  # caller's file -> callee's file -> functions


def calls_between(objects: list[Path]) -> Calls:
    """Which symbols each object file takes from another one. Calls through a pointer (a wire's `send`) are not seen."""
    tables = {file: [line.split()[:2] for line in symbols_of(file).splitlines()] for file in objects}
    home = {name: file.stem for file, table in tables.items() for name, kind in table if kind in "TDBR"}
    calls: Calls = {file.stem: {} for file in objects}
    for file, table in tables.items():
        for name, kind in table:
            if kind == "U" and name in home:
                calls[file.stem].setdefault(home[name], []).append(name)
    return calls


def symbols_of(file: Path) -> str:
    return subprocess.run(["nm", "-P", "-g", file], capture_output=True, text=True, check=True).stdout


def compile_all(sources: list[Path], folder: Path, include: Path) -> list[Path]:
    wanted = shlex.split(os.environ.get("CC", "")) or ["cc"]
    if shutil.which(wanted[0]) is None or shutil.which("nm") is None:
        pytest.skip(f"no C compiler ({wanted[0]}) or no nm; run: apt install gcc libc6-dev binutils")
    objects = [folder / f"{source.stem}.o" for source in sources]
    for source, file in zip(sources, objects):
        command = [*wanted, "-std=c11", "-O0", "-fPIC", f"-I{include}", "-c", str(source), "-o", str(file)]
        subprocess.run(command, check=True, timeout=60)
    return objects


pytestmark = pytest.mark.slow  # compiles every file of the engine


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Calls:
    folder = tmp_path_factory.mktemp("objects")
    write_headers(folder)
    return calls_between(compile_all(sorted(ENGINE.glob("*.c")), folder, folder))


def test_no_call_between_the_engines_files_runs_in_a_circle(calls: Calls) -> None:
    way = circle(calls)
    assert [*pairwise(way)] == []


def test_every_call_goes_to_a_file_further_down_in_the_readme(calls: Calls) -> None:
    order = re.findall(r"^\| `(\w+)\.c` \|", (ENGINE / "README.md").read_text(), re.MULTILINE)
    assert sorted(order) == sorted(calls), "README.md lists each C file once"
    upward = [
        f"{caller}.c calls {callee}.c: {', '.join(names)}"
        for caller, callees in calls.items()
        for callee, names in callees.items()
        if order.index(callee) < order.index(caller)
    ]
    assert upward == []


def test_calls_are_seen_and_a_circle_is_found(calls: Calls, tmp_path: Path) -> None:
    assert sorted(calls["receive"]["accept"]) == [
        "mac_accepts",
        "mac_stores_damaged",
        "multicast_table_match",
        "pool_of_usual",
    ]
    (tmp_path / "a.c").write_text("void g(void);\nvoid f(void)\n{\n    g();\n}\n")
    (tmp_path / "b.c").write_text("void f(void);\nvoid g(void)\n{\n    f();\n}\n")
    objects = compile_all([tmp_path / "a.c", tmp_path / "b.c"], tmp_path, tmp_path)
    assert sorted(set(circle(calls_between(objects)))) == ["a", "b"]
