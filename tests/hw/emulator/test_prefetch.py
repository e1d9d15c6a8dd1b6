"""The engine prefetches lines that it writes by the instruction for it, not by a read prefetch."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ixrings.hw.emulator import engine

ENGINE = Path(engine.__file__).resolve().parent
# function -> write prefetches in it: each has its own place in the source
WRITERS = {"receive_write_back": 1, "receive_step": 2, "mac_receive": 2}


def disassembly(function: str) -> str:
    library = str(ENGINE / "libengine.so")
    if shutil.which("objdump"):
        command = ["objdump", "-d", "--no-show-raw-insn", f"--disassemble={function}", library]
    elif shutil.which("gdb"):
        command = ["gdb", "-nx", "-batch", "-ex", f"disassemble {function}", library]
    else:
        pytest.skip("no program to disassemble with; run: apt install binutils")
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors have another write prefetch")
@pytest.mark.parametrize(("function", "count"), WRITERS.items())
def test_lines_that_the_engine_will_write_are_prefetched_to_be_written(function: str, count: int) -> None:
    listing = disassembly(function)
    assert "ret" in listing, f"{function} was found"
    assert len(re.findall(r"\bprefetchw\b", listing)) >= count


def test_no_file_of_the_engine_asks_the_compiler_for_a_write_prefetch() -> None:
    sources = [*ENGINE.glob("*.c"), *ENGINE.glob("*.h")]
    users = {file.name for file in sources if re.search(r"__builtin_prefetch\([^;]*, 1", file.read_text())}
    assert users == {"prefetch.h"}
