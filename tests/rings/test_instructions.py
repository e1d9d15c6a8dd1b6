"""Instructions a packet in the C loop, counted by valgrind: a change that adds instructions is seen on any machine.

`python -m pytest -m slow tests/rings/test_instructions.py -rP` shows them (gcc 12, -O2). The ceilings are about 15 %
higher.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
RINGS, BENCH = ROOT / "rings", ROOT / "tests/bench/hotloop_bench.c"
FLAGS = ["-std=c11", "-O2", "-g", "-fPIC"]  # as setup.py
REGION = 256  # packets, as in hotloop_bench.c
SHORT, LONG = 20, 60  # regions; the difference of both runs is without set-up and warm-up
SYNCS = ("txsync", "rxsync", "forward")

# Instructions a packet in the sync itself, without the application's and the NIC's steps. By operation, batch, and
# slots at once: 4 with AVX2, 0 without vectors (valgrind does not know AVX-512).
CEILING = {
    ("tx", 32, 4): 19.5, ("tx", 256, 4): 13, ("rx", 32, 4): 25.5, ("rx", 256, 4): 19,
    ("forward", 32, 4): 41.5, ("forward", 256, 4): 31,
    ("tx", 32, 0): 46, ("tx", 256, 0): 40.5, ("rx", 32, 0): 53, ("rx", 256, 0): 47,
    ("forward", 32, 0): 103, ("forward", 256, 0): 95, ("tx", 1, 0): 61.5, ("rx", 1, 0): 81.5,
}  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("valgrind"), reason="instructions are counted by valgrind. Run: apt install valgrind"
    ),
    pytest.mark.skipif(not shutil.which("gcc"), reason="the ceilings are those of gcc's code. Run: apt install gcc"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the ceilings are those of x86-64 code"),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("instructions") / "hotloop_bench"
    subprocess.run(
        ["gcc", *FLAGS, f"-I{RINGS}", "-o", str(path), str(BENCH), *map(str, RINGS.glob("*.c")), "-lpthread"],
        check=True,
        timeout=60,
    )
    return path


def instructions(program: Path, op: str, batch: int, at_once: int, regions: int) -> int:
    """Instructions in the sync functions and in what they call, over a whole run."""
    counts = program.with_name(f"{op}.{batch}.{at_once}.{regions}")
    cpu = str(min(os.sched_getaffinity(0)))
    command = [
        "valgrind",
        "--tool=callgrind",
        f"--callgrind-out-file={counts}",
        *(f"--toggle-collect={sync}" for sync in SYNCS),
        str(program),
        op,
        str(batch),
        "same",
        str(regions),
        "1024",
        "2112",
        "head",
        str(at_once),
        "1",
        cpu,
        cpu,
        "plain",
    ]
    plain = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}  # no sanitizer inside valgrind
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=plain)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stderr}"
    found = re.search(r"^totals: (\d+)", counts.read_text(), re.MULTILINE)
    assert found, f"callgrind counted nothing: {done.stderr}"
    return int(found.group(1))


@pytest.mark.parametrize(
    "op, batch, at_once", CEILING, ids=[f"{op}-{batch}-{at_once}" for op, batch, at_once in CEILING]
)
def test_a_packet_costs_no_more_instructions_than_the_ceiling(program: Path, op: str, batch: int, at_once: int) -> None:
    if at_once and "avx2" not in Path("/proc/cpuinfo").read_text().split():
        pytest.skip("this processor has no AVX2")
    difference = instructions(program, op, batch, at_once, LONG) - instructions(program, op, batch, at_once, SHORT)
    per_packet = difference / ((LONG - SHORT) * REGION)
    print(f"{op}, batch {batch}, {at_once} slots at once: {per_packet:.1f} instructions a packet")
    assert 1 < per_packet <= CEILING[op, batch, at_once]
