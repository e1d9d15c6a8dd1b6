"""Virtual functions and their PF in processes of their own: each may end at any moment, and the others go on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice, permutations
from pathlib import Path

import pytest

from ixrings import open_port
from ixrings.driver.port import Port
from ixrings.hw.errors import DeviceGone
from tests.support.programs import Process, started

pytestmark = pytest.mark.slow
PATIENCE_S = 30.0

# Sends broadcasts, and receives, as fast as it can.
BUSY = """
import sys
from ixrings import open_port
with open_port(sys.argv[1], link_timeout=30) as port:
    frame = (b"\\xff" * 6 + bytes.fromhex(port.mac.replace(":", "")) + b"\\x88\\xb5").ljust(60, b"\\0")
    print("ready", flush=True)
    while True:
        port.send([frame] * 64)
        for _ in range(port.poll(0.001)):
            next(port.recv(0), None)
"""

# A PF's driver without rings at DIR/pf.sock, as the emulator's agent is one inside.
PF = """
import sys, time
from ixrings.hw.emulator.pf_setup import PfSetup
from ixrings.hw.pf.serving import Serving
from ixrings.hw.registers import Registers
from ixrings.hw.vfio_user import VfioUserDevice
with VfioUserDevice(sys.argv[1]) as device:
    regs = Registers(device)
    setup = PfSetup(regs, 2, 32, bytes([2, 0, 0, 0, 0, 1]), rss=True)
    serving = Serving(regs, setup, max_frame=1518)
    setup.open(1518)
    serving.restart()
    regs.CTRL_EXT.update(PFRSTD=1)
    print("ready", flush=True)
    while True:
        if not serving.serve():
            time.sleep(0.0005)
"""


@contextmanager
def running(program: str, *arguments: str) -> Iterator[Process]:
    """The program, once it is ready."""
    with started([sys.executable, "-c", program, *arguments]) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == "ready\n", line + process.communicate(timeout=PATIENCE_S)[1]
        yield process


@contextmanager
def emulating(folder: Path, vfs: int, *words: str, sockets: int) -> Iterator[Process]:
    command = [sys.executable, "-m", "ixrings", "emulate", "--vf", str(vfs), "--socket", str(folder), *words]
    with started(command) as process:
        assert process.stdout is not None
        for _ in range(sockets):
            assert " listens at " in process.stdout.readline()
        yield process


def open_vf(folder: Path, number: int) -> Port:
    return open_port(f"vfio-user:{folder}/vf{number}.sock", link_timeout=PATIENCE_S)


def frames_move(one: Port, two: Port, number: int) -> None:
    """Frames of `one` reach `two`, among those of others, who may fill its ring: then some are lost."""
    to, sender = (bytes.fromhex(port.mac.replace(":", "")) for port in (two, one))
    frame = (to + sender + b"\x88\xb5" + bytes([number])).ljust(60, b"\0")
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        one.send([frame] * 20)
        one.flush(PATIENCE_S)
        if any(each == frame for each in islice(two.recv(0.05), 2000)):
            return
    raise AssertionError(f"no frame came: {one.link}, {two.link}")


def until(done: Callable[[], object], *ports: Port) -> None:
    end = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < end, f"nothing changed in time: {[port.link for port in ports]}"
        for port in ports:
            for _ in port.recv(0.01):
                pass


def test_programs_that_are_killed_in_traffic_disturb_no_other_function(tmp_path: Path) -> None:
    folder = tmp_path / "nic"
    with ExitStack() as stack:
        stack.enter_context(emulating(folder, 3, sockets=3))
        one, two = (stack.enter_context(open_vf(folder, number)) for number in (0, 2))
        for turn in range(4):
            with running(BUSY, f"vfio-user:{folder}/vf1.sock") as victim:
                frames_move(one, two, turn)
                victim.kill()
                frames_move(two, one, turn)
        with open_vf(folder, 1) as again:
            frames_move(one, again, 100)
            frames_move(again, two, 101)
        assert one.vf.recoveries == two.vf.recoveries == 0


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_sockets_are_closed_in_any_order(tmp_path: Path, order: tuple[int, ...]) -> None:
    folder = tmp_path / "nic"
    with ExitStack() as stack:
        emulator = stack.enter_context(emulating(folder, 3, sockets=3))
        ports = [stack.enter_context(open_vf(folder, number)) for number in range(3)]
        frames_move(ports[0], ports[1], 1)
        left = set(range(3))
        for number in order:
            ports[number].close()
            left.remove(number)
            if len(left) == 2:
                first, second = (ports[each] for each in sorted(left))
                frames_move(first, second, 2)
        emulator.terminate()
        assert emulator.wait(PATIENCE_S) == 0
        assert sorted(each.name for each in folder.iterdir()) == []


def test_a_pf_that_is_killed_in_traffic_and_started_again_gets_its_functions_back(tmp_path: Path) -> None:
    folder = tmp_path / "nic"
    with ExitStack() as stack:
        emulator = stack.enter_context(emulating(folder, 2, "--pf-agent", "none", sockets=3))
        with running(PF, f"{folder}/pf.sock") as pf:
            one, two = (stack.enter_context(open_vf(folder, number)) for number in range(2))
            frames_move(one, two, 1)
            pf.kill()
            pf.wait(PATIENCE_S)
        until(lambda: "the PF is in reset" in one.link.reason and "the PF is in reset" in two.link.reason, one, two)
        assert one.poll(0.01) == 0
        for turn in range(2):
            with running(PF, f"{folder}/pf.sock"):
                until(lambda: one.link.up and two.link.up, one, two)
                frames_move(one, two, 10 + turn)
                frames_move(two, one, 20 + turn)
            until(lambda: not one.link.up and not two.link.up, one, two)
        one.close()
        two.close()
        assert emulator.poll() is None


def test_an_emulator_that_is_killed_ends_its_ports_with_a_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "nic"
    with ExitStack() as stack:
        emulator = stack.enter_context(emulating(folder, 2, sockets=2))
        ports = [stack.enter_context(open_vf(folder, number)) for number in range(2)]
        frames_move(ports[0], ports[1], 1)
        emulator.kill()
        emulator.wait(PATIENCE_S)
        for port in ports:
            with pytest.raises(DeviceGone, match="no longer answers|has closed|is gone"):
                until(lambda: False, port)
