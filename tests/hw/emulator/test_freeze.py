"""The lock between the engine and Python is given in the order in which threads ask for it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ENGINE = HERE.parent.parent.parent / "hw/emulator/engine"


def test_the_lock_is_given_in_the_order_of_arrival(tmp_path: Path) -> None:
    compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"no C compiler ({compiler[0]}); run: apt install gcc libc6-dev")
    program = tmp_path / "freeze_order"
    source = HERE / "freeze_order.c"
    command = [*compiler, "-std=c11", "-O1", "-pthread", f"-I{ENGINE}", str(source), "-o", str(program)]
    subprocess.run(command, check=True, timeout=60)
    done = subprocess.run([program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "20 rounds of 70 threads in order\n", done.stdout
