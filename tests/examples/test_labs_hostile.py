"""Scripts that do what no student should: the checker outlives them, bounds them, and says what they did."""

from __future__ import annotations

import os
import re

import pytest

from tests.support.lab_verdicts import Case, Verdict, judged

OPEN = "from course import open_nic\nfrom ixrings.hw.registers import Registers\ndevice = open_nic()\nnic = Registers(device)\n"
SOON_S = 0.5
OUT_OF_MEMORY = (
    "AddressSanitizer" if "asan" in os.environ.get("LD_PRELOAD", "") else "more than 512 MB of memory"
)  # who sees it first

ENDLESS = {  # what it does: the script
    "computes": "while True: pass",
    "polls a register": OPEN + "while True: nic.STATUS.read()",
    "ignores every signal": "import signal, time\nfor n in range(1, 30):\n    try: signal.signal(n, signal.SIG_IGN)\n    except OSError: pass\ntime.sleep(60)",
    "writes all over the BAR": OPEN
    + "import random\nwhile True: device.write32(random.randrange(0, 0x20000, 4), random.getrandbits(32))",
}

ENDING = {  # what it does: the script, a part of what the checker says
    "fills the BAR": (OPEN + "for at in range(0, 0x20000, 4): device.write32(at, 0xFFFFFFFF)", "EIMC"),
    "has no ring": (OPEN + "nic.TDT[0].write(1)\nnic.RDT[0].write(1)", "TDT[0]"),
    "maps nothing": (
        OPEN
        + "device.enable_bus_master(True)\nnic.TDBAL[0].write(0x10000); nic.TDBAH[0].write(0); nic.TDLEN[0].write(1024)\nnic.DMATXCTL.update(TE=1)\n"
        "nic.TXDCTL[0].write(ENABLE=1); nic.TXDCTL[0].wait(ENABLE=1, timeout=0.1)\nnic.AUTOC.update(RESTART_AN=1)\nnic.TDT[0].write(1)\n"
        "import time; time.sleep(0.2)",
        "IOVA 0x10000, which is not mapped",
    ),
    "is empty": ("", "did not open the NIC"),
    "exits at once": ("import os; os._exit(3)", "exit code 3"),
    "exits quietly": ("raise SystemExit", "did not open the NIC"),
    "raises": ("raise RuntimeError('no\\nidea')", "line 1: raise RuntimeError"),
    "is no Python": ("this is no Python", "SyntaxError"),
    "names a field that is none": (OPEN + "nic.CTRL.write(RTS=1)", "CTRL has no field RTS"),
    "touches memory that is none": ("import ctypes; ctypes.string_at(0)", "SEGV"),
    "kills itself": ("import os; os.kill(os.getpid(), 9)", "SIGKILL"),
    "prints for ever": ("while True: print('x' * 1000)", "printed more than 256 KB"),
    "prints what is no text": ("print('\\udcff\\0\\x1b')", "did not open the NIC"),
    "takes memory": ("x = bytearray(4 << 30)", OUT_OF_MEMORY),
    "maps for ever": (OPEN + "while True: device.alloc_dma(1 << 24)", "cannot be mapped"),
    "maps and keeps": (OPEN + "kept = []\nwhile True: kept.append(device.alloc_dma(1 << 24))", "cannot be mapped"),
    "forks": ("import os\nos.fork()", "may not start processes"),
    "starts a program": ("import subprocess\nsubprocess.run(['true'])", "may not start processes"),
    "leaves a process": (
        "import ctypes, time\nif ctypes.CDLL(None).fork() == 0:\n    ctypes.CDLL(None).setsid()\n    time.sleep(600)",
        "did not open the NIC",
    ),
    "closes what is open": (
        OPEN
        + "import os\nfor fd in range(3, 200):\n    try: os.close(fd)\n    except OSError: pass\nnic.STATUS.read()",
        "EIMC",
    ),
    "cuts its memory short": (
        OPEN
        + "import os\nm = device.alloc_dma(1 << 16)\nfor fd in range(3, 64):\n    try: os.ftruncate(fd, 0)\n    except OSError: pass\n"
        "nic.TDBAL[0].write(m.iova & 0xffffffff); nic.TDBAH[0].write(m.iova >> 32); nic.TDLEN[0].write(1024)\nnic.TDT[0].write(9)",
        "EIMC",
    ),
}


@pytest.fixture(scope="module")
def verdicts() -> dict[str, Verdict]:
    """One after the other, so that each meets what the one before has left."""
    cases = {name: Case("02", text, SOON_S) for name, text in ENDLESS.items()} | {
        name: Case("02", text) for name, (text, _) in ENDING.items()
    }
    return dict(zip(cases, judged(list(cases.values()))))


@pytest.mark.parametrize("script", ENDLESS)
def test_what_does_not_end_is_ended(script: str, verdicts: dict[str, Verdict]) -> None:
    assert not verdicts[script].passed
    ran = re.search(r"was still running after ([\d.]+) s", verdicts[script].ending)
    assert ran and SOON_S <= float(ran[1]) < 20 * SOON_S  # a busy machine lets the checker look later


def test_a_script_that_was_ended_is_told_what_it_did_last(verdicts: dict[str, Verdict]) -> None:
    assert "Its last access to the NIC was `read  STATUS" in verdicts["polls a register"].ending


@pytest.mark.parametrize("script", ENDING)
def test_what_ends_is_told_how(script: str, verdicts: dict[str, Verdict]) -> None:
    verdict = verdicts[script]
    assert not verdict.passed
    assert ENDING[script][1] in "\n".join((verdict.missing, *verdict.complaints, verdict.ending))
