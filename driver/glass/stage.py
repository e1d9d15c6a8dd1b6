"""The emulated NIC that is shown, at a socket, and the program that is started to use it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ixrings.hw.emulator import DEFAULT_MAC, Policy, parse_fault
from ixrings.hw.vfio_user.server import Server

from ..errors import PortError, PortNameError
from ..names import Kind, PortName
from ..opening import SHOWN_SOCKET, SHOWN_WIRE
from .looks import NicLook
from .shown import ShownNic

PR_SET_PDEATHSIG = 1
END_S = 5.0  # for the program to end after SIGTERM


class Stage:
    """look: at the NIC. start() starts the program; `on_end` is called with a sentence when it has ended."""

    def __init__(self, name: PortName, nic: ShownNic, socket: Path) -> None:
        self.nic, self._socket, self._name = nic, socket, name
        self.look = NicLook(nic, name.text)
        self._child: subprocess.Popen[bytes] | None = None
        self._waiter: threading.Thread | None = None

    def start(self, command: Sequence[str], called: str) -> None:
        """called: its name on the page. Raises PortError if the program cannot be started."""
        environment = {**os.environ, SHOWN_WIRE: self._name.target, SHOWN_SOCKET: str(self._socket)}
        try:
            self._child = subprocess.Popen(command, env=environment, preexec_fn=begin_program)
        except OSError as error:
            raise PortError(
                f"{command[0]} cannot be started: {error.strerror}. Write a program and its arguments after --, such "
                "as: ixrings glass emulated:loop -- python my_script.py"
            ) from None
        self.look.program = f"{called} runs"
        self._waiter = threading.Thread(target=self._wait, args=(self._child, called), name="wait", daemon=True)
        self._waiter.start()

    def _wait(self, child: subprocess.Popen[bytes], name: str) -> None:
        status = child.wait()
        how = f"was ended by {signal_name(-status)}" if status < 0 else f"ended with status {status}"
        self.look.program = f"{name} {how}; its port is closed"

    def stop(self) -> None:
        child = self._child
        if child is None:
            return
        if self.nic.paused:  # the program may wait for the NIC in its end
            self.nic.go_on()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if child.poll() is None:
                child.send_signal(number)
            with suppress(subprocess.TimeoutExpired):
                child.wait(END_S)
        if self._waiter is not None:
            self._waiter.join()


def signal_name(number: int) -> str:
    """Python has no names for most real-time signals."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def begin_program() -> None:
    """In the program's process. Python ignores two signals, and exec() would keep that; and when this command is
    killed, the program gets SIGTERM."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


@contextmanager
def staged(name: PortName, paused: bool) -> Iterator[Stage]:
    """Raises PortError, PortNameError, DeviceError."""
    check(name)
    try:
        fault = parse_fault(name.fault) if name.fault else None
    except ValueError as error:
        raise PortNameError(f"{name.text!r}: {error}") from None
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="ixrings-glass-")))
        nic = ShownNic(
            name.target,
            paced=name.paced,
            link_up_s=name.link_up_s,
            mac=DEFAULT_MAC,
            rules=Policy(name.rules),
            vfs=name.vfs,
        )
        undo.callback(nic.close)
        if fault:
            nic.inject(*fault)
        if paused:
            nic.pause()
        server = undo.enter_context(Server(nic, str(folder / "nic")))
        thread = threading.Thread(target=server.serve, name="vfio-user", daemon=True)
        thread.start()
        undo.callback(thread.join)
        undo.callback(server.stop)
        stage = Stage(name, nic, folder / "nic")
        undo.callback(stage.stop)
        yield stage


def check(name: PortName) -> None:
    """Raises PortError for a port that cannot be shown this way."""
    if name.kind is Kind.EMULATED_VF:
        raise PortError(
            f"ixrings glass shows the physical function of an emulated NIC, and {name.text} is a virtual one. Write "
            f"emulated@vfs=1:{name.target}"
        )
    if name.target.startswith("cable="):
        raise PortError(
            f"{name.target} joins two ports of one program, and ixrings glass has one NIC. Use another wire, such as "
            "emulated:loop or emulated:tap=INTERFACE"
        )
    if name.queue is not None or name.flags:
        raise PortError(f"ixrings glass shows all queues of a NIC; leave out -k and /flags of {name.text}")
