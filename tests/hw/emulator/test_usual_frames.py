"""What is found out quickly about usual frames is what the general parser finds out about them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from ixrings.hw.emulator.engine.header import write_headers
from tests.support.by_hand import ByHand
from tests.support.steered import UDP, ethernet, packet

HERE = Path(__file__).resolve().parent
ENGINE = HERE.parent.parent.parent / "hw/emulator/engine"
PARSER = ("classify", "flow", "checksum", "steer", "director", "timestamp", "time", "findings")


def compare(folder: Path, seed: int, frames: int, *flags: str) -> None:
    """Compare this many random frames. A third of them are usual, and some of those have a wrong checksum."""
    compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"no C compiler ({compiler[0]}); run: apt install gcc libc6-dev")
    write_headers(folder)
    program, sources = folder / "usual_frames", [str(ENGINE / f"{name}.c") for name in PARSER]
    command = [*compiler, "-std=c11", *flags, f"-I{ENGINE}", f"-I{folder}", str(HERE / "usual_frames.c"), *sources]
    subprocess.run([*command, "-o", str(program)], check=True, timeout=120)
    done = subprocess.run([program, str(seed), str(frames)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = [int(number) for number in re.findall(r"\d+", done.stdout)]
    assert counts[0] == frames and counts[1] > frames / 4, done.stdout
    assert counts[2] > counts[1] / 50 and counts[3] > counts[1] / 4, done.stdout


def test_usual_frames_get_the_verdicts_of_the_general_parser(tmp_path: Path) -> None:
    compare(tmp_path, 1, 20_000, "-O1")


def test_frames_count_in_the_statistics_set_that_their_queue_had_when_they_came() -> None:
    udp = ethernet(packet(UDP))
    by_hand = ByHand("loop", rx=1)
    try:
        regs = by_hand.regs
        regs.RAL[0].write(int.from_bytes(udp[:4], "little"))
        regs.RAH[0].write(int.from_bytes(udp[4:6], "little") | 1 << 31)
        by_hand.send(udp, udp)
        regs.RQSMR[0].write(0x03020105)
        by_hand.send(udp)
        counts = {number: (int(regs.QPRC[number].read()), int(regs.QBRC_L[number].read())) for number in range(16)}
        assert {number: count for number, count in counts.items() if any(count)} == {
            0: (2, 2 * len(udp)),
            5: (1, len(udp)),
        }
    finally:
        by_hand.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 6))
def test_usual_frames_get_the_verdicts_of_the_general_parser_in_many_frames(tmp_path: Path, seed: int) -> None:
    compare(tmp_path, seed, 500_000, "-O2", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
