"""Scripts that do damage: the checker survives them, bounds them, and says what they did."""

from __future__ import annotations

import os
import re

import pytest

from tests.support.lab_verdicts import Case, Verdict, judged

pytestmark = pytest.mark.slow

OPEN = """\
from course import open_nic
from ixrings.hw.registers import Registers
device = open_nic()
nic = Registers(device)
"""
SOON_S = 0.5
# The sanitizer, if there is one, reports it before the script's MemoryError.
OUT_OF_MEMORY = "AddressSanitizer" if "asan" in os.environ.get("LD_PRELOAD", "") else "more than 512 MB of memory"

IGNORE_SIGNALS = """\
import signal, time
for n in range(1, 30):
    try: signal.signal(n, signal.SIG_IGN)
    except OSError: pass
time.sleep(60)
"""
UNMAPPED_RING = """\
device.enable_bus_master(True)
nic.TDBAL[0].write(0x10000); nic.TDBAH[0].write(0); nic.TDLEN[0].write(1024)
nic.DMATXCTL.update(TE=1)
nic.TXDCTL[0].write(ENABLE=1); nic.TXDCTL[0].wait(ENABLE=1, timeout=5)
nic.AUTOC.update(RESTART_AN=1)
nic.TDT[0].write(1)
import time; time.sleep(0.5)
"""
LEAVE_PROCESS = """\
import ctypes, time
if ctypes.CDLL(None).fork() == 0:
    ctypes.CDLL(None).setsid()
    time.sleep(600)
"""
CLOSE_FILES = """\
import os
for fd in range(3, 200):
    try: os.close(fd)
    except OSError: pass
nic.STATUS.read()
"""
TRUNCATE_MEMORY = """\
import os
m = device.alloc_dma(1 << 16)
for fd in range(3, 64):
    try: os.ftruncate(fd, 0)
    except OSError: pass
nic.TDBAL[0].write(m.iova & 0xffffffff); nic.TDBAH[0].write(m.iova >> 32); nic.TDLEN[0].write(1024)
nic.TDT[0].write(9)
"""

ENDLESS = {  # what it does: the script
    "computes": "while True: pass",
    "polls a register": OPEN + "while True: nic.STATUS.read()",
    "ignores every signal": IGNORE_SIGNALS,
    "writes at random to the BAR": OPEN
    + "import random\nwhile True: device.write32(random.randrange(0, 0x20000, 4), random.getrandbits(32))",
}

ENDING = {  # what it does: the script, a part of the checker's answer
    "fills the BAR": (OPEN + "for at in range(0, 0x20000, 4): device.write32(at, 0xFFFFFFFF)", "EIMC"),
    "has no ring": (OPEN + "nic.TDT[0].write(1)\nnic.RDT[0].write(1)", "TDT[0]"),
    "has a ring that is not mapped": (OPEN + UNMAPPED_RING, "IOVA 0x10000, which is not mapped"),
    "is empty": ("", "did not open the NIC"),
    "exits at once": ("import os; os._exit(3)", "exit code 3"),
    "exits without an error": ("raise SystemExit", "did not open the NIC"),
    "raises an exception": ("raise RuntimeError('no\\nidea')", "lab.py, line 1: raise RuntimeError"),
    "is not Python": ("int main(void) { return 0; }", "SyntaxError"),
    "names a field that does not exist": (OPEN + "nic.CTRL.write(RTS=1)", "CTRL has no field RTS"),
    "reads memory that does not exist": ("import ctypes; ctypes.string_at(0)", "SEGV"),
    "kills itself": ("import os; os.kill(os.getpid(), 9)", "SIGKILL"),
    "prints without end": ("while True: print('x' * 1000)", "printed more than 256 KB"),
    "prints bytes that are not text": ("print('\\udcff\\0\\x1b')", "did not open the NIC"),
    "allocates 4 GB": ("x = bytearray(4 << 30)", OUT_OF_MEMORY),
    "maps memory without end": (OPEN + "while True: device.alloc_dma(1 << 24)", "cannot be mapped"),
    "maps memory without end and keeps it": (
        OPEN + "kept = []\nwhile True: kept.append(device.alloc_dma(1 << 24))",
        "cannot be mapped",
    ),
    "forks": ("import os\nos.fork()", "may not start processes"),
    "starts a program": ("import subprocess\nsubprocess.run(['true'])", "may not start processes"),
    "leaves a process": (LEAVE_PROCESS, "did not open the NIC"),
    "closes all its files": (OPEN + CLOSE_FILES, "EIMC"),
    "truncates its memory": (OPEN + TRUNCATE_MEMORY, "EIMC"),
}


@pytest.fixture(scope="module")
def verdicts() -> dict[str, Verdict]:
    """The scripts run one after the other, so each runs in what the previous one has left."""
    cases = {name: Case("02", text, SOON_S) for name, text in ENDLESS.items()} | {
        name: Case("02", text) for name, (text, _) in ENDING.items()
    }
    return dict(zip(cases, judged(list(cases.values()))))


@pytest.mark.parametrize("script", ENDLESS)
def test_a_script_without_end_is_stopped(script: str, verdicts: dict[str, Verdict]) -> None:
    assert not verdicts[script].passed
    ran = re.search(r"was still running after ([\d.]+) s", verdicts[script].ending)
    assert ran and SOON_S <= float(ran[1]) < 20 * SOON_S  # on a busy machine the checker looks later


def test_the_verdict_names_the_last_access_of_a_stopped_script(verdicts: dict[str, Verdict]) -> None:
    assert "Its last access to the NIC was `read  STATUS" in verdicts["polls a register"].ending


@pytest.mark.parametrize("script", ENDING)
def test_the_verdict_says_how_a_script_ended(script: str, verdicts: dict[str, Verdict]) -> None:
    verdict = verdicts[script]
    assert not verdict.passed
    assert ENDING[script][1] in "\n".join((verdict.missing, *verdict.complaints, verdict.ending))
