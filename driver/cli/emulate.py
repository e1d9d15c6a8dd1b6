"""`ixrings emulate`: serve an emulated 82599 at a vfio-user socket, for QEMU or for `vfio-user:SOCKET`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, TextIO

from ixrings.hw.errors import DeviceError

from ..arguments import SECONDS_OR_NONE, checked, whole
from ..config import unicast_mac
from ..names import POLICIES
from ..program import ending_signals

if TYPE_CHECKING:
    from ixrings.hw.emulator import Emulated82599, Fault, Violation
    from ixrings.hw.emulator.blocks.sfp import SfpModule
    from ixrings.hw.vfio_user.regions import Function
    from ixrings.hw.vfio_user.server import Server

EPILOG = """\
WIRE is the other end of the cable, as in the port name emulated:WIRE: loop[,delay=NS], sink[=NS], source[=LENGTH],
cable=NAME[,delay=NS], pcap=IN[,OUT] or tap=INTERFACE. Ctrl-C ends the command, as SIGTERM and SIGHUP do. SIGUSR1
pulls the cable, the next SIGUSR1 plugs it in again. SIGUSR2 repairs what --fault broke. Rules that a driver broke are
reported on stderr when it disconnects. With --vf, `ixrings vf DIR` shows and sets the virtual functions.

A guest gets the NIC with (QEMU 10.1 or later; guest memory must be shared, else each DMA is a message):
  -object memory-backend-memfd,id=mem,size=1G,share=on -machine q35,memory-backend=mem \\
  -device '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"PATH"}}'
"""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "emulate",
        help="serve an emulated NIC at a vfio-user socket",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--socket",
        required=True,
        metavar="PATH",
        help="UNIX socket to create and to listen at; with --vf a directory for vf0.sock, vf1.sock and so on",
    )
    parser.add_argument(
        "--vf", type=whole(0, 63), default=0, metavar="N", help="serve N virtual functions, each at a socket of its own"
    )
    parser.add_argument(
        "--pf-agent",
        choices=("linux", "dpdk", "none"),
        default="linux",
        help="with --vf: what answers the virtual functions in place of a PF driver (default: linux); none: a driver "
        "at pf.sock",
    )
    parser.add_argument("--wire", default="loop", metavar="WIRE", help="the other end of the cable (default: loop)")
    parser.add_argument(
        "--paced", action="store_true", help="run at 10 Gbit/s, as a real wire, instead of as fast as the machine can"
    )
    parser.add_argument(
        "--link", type=SECONDS_OR_NONE, default=0.0, metavar="SECONDS", help="duration of link training (default: 0)"
    )
    parser.add_argument(
        "--mac", type=checked(unicast_mac), metavar="MAC", help="the address in the EEPROM, such as 02:82:59:90:00:01"
    )
    parser.add_argument(
        "--sfp",
        type=checked(sfp_module),
        default="sr",
        metavar="MODULE",
        help="the module in the SFP+ cage: sr, lr, direct-attach, foreign-sr (drivers refuse it) or none (default: sr)",
    )
    parser.add_argument(
        "--rules",
        choices=POLICIES,
        default="record",
        help="what to do when the driver breaks a rule of the datasheet (see hw/emulator/rules/README.md). raise: "
        "answer its access with an error. record (default): report the rule when the driver disconnects. ignore: do "
        "nothing",
    )
    parser.add_argument(
        "--fault",
        type=checked(fault_of),
        action="append",
        default=[],
        metavar="NAME[+N]",
        help="break a part of the NIC, at the N-th register access: link, no-module, foreign-module, eeprom-checksum, "
        "reset, queue-enable, head-write-back, receive-write-back, interrupt, dma or removal; with --vf also a fault "
        "of the PF's driver, such as pf-silent (hw/emulator/FAULTS.md lists them); may be repeated",
    )
    parser.add_argument(
        "--trap-all", action="store_true", help="no doorbell region: every register access is a message"
    )
    parser.add_argument(
        "--trace", metavar="FILE", help="write a line to FILE for each message; `ixrings trace FILE` shows the lines"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="print JSON instead, one object per line: the socket, then each broken rule",
    )
    parser.set_defaults(run=run)


def sfp_module(text: str) -> SfpModule | None:
    """None for an empty cage. Raises ValueError for an unknown module."""
    from ixrings.hw.emulator.blocks.sfp import SfpModule

    names = {kind.name.lower().replace("_", "-"): kind for kind in SfpModule}
    if text != "none" and text not in names:
        raise ValueError(f"{text!r} is refused; choose one of {', '.join(names)}, none")
    return names.get(text)


def fault_of(text: str) -> tuple[Fault, int]:
    """Raises ValueError."""
    from ixrings.hw.emulator import parse_fault

    return parse_fault(text)


class Trace:
    """The file of --trace. An error, such as a full disk, ends the trace and not the NIC."""

    def __init__(self, file: TextIO, name: str) -> None:
        self._file: TextIO | None = file
        self._name = name
        self._start = time.monotonic()

    def write(self, line: str) -> None:
        if self._file is not None:
            self._do(self._file, f"{time.monotonic() - self._start:10.5f} {line}\n")

    def flush(self) -> None:
        if self._file is not None:
            self._do(self._file, "")

    def _do(self, file: TextIO, text: str) -> None:
        """Write `text`; without text, flush."""
        try:
            file.write(text) if text else file.flush()
        except OSError as error:
            self._file = None
            print(f"ixrings emulate: the trace ends here: {self._name}: {error.strerror}", file=sys.stderr, flush=True)
            with suppress(OSError):
                file.close()

    def close(self) -> None:
        self.flush()
        if self._file is not None:
            self._file.close()


def facts(violation: Violation) -> dict[str, object]:
    """A broken rule for JSON."""
    rule = violation.rule
    return {
        "rule": rule.name,
        "severity": rule.severity.value,
        "cite": rule.cite,
        "sentence": rule.sentence,
        "register": violation.register,
        "queue": violation.queue,
        "values": list(violation.values),
        "text": violation.text,
    }


def run(options: argparse.Namespace) -> int:
    from ixrings.hw.emulator import DEFAULT_MAC, Emulated82599, Fault, PfAgent, Policy
    from ixrings.hw.output import open_output
    from ixrings.hw.trace.device import TRACE, TRACE_HEAD
    from ixrings.hw.vfio_user.server import Server

    trace: Trace | None = None
    asked: deque[Callable[[], None]] = deque()  # by signals; their handlers must not touch the NIC

    def client(here: bool) -> None:
        if here:
            return
        for violation in nic.violations:
            if options.json:
                print(json.dumps(facts(violation)), flush=True)
            else:
                print(f"ixrings emulate: {violation}", file=sys.stderr, flush=True)
        nic.clear_violations()  # otherwise the same broken rule of the next client would not be reported
        if trace:
            trace.flush()

    def move_cable() -> None:
        (nic.mend if Fault.LINK in nic.injected else nic.inject)(Fault.LINK)

    def mend() -> None:
        for fault, _ in options.fault:
            nic.mend(fault)

    def ask(what: Callable[[], None], *_: object) -> None:
        asked.append(what)
        server.wake()

    def do_what_is_asked() -> None:
        while asked:
            asked.popleft()()

    with ExitStack() as undo:
        if options.trace:
            file = open(open_output(options.trace, TRACE), "w", encoding="ascii", errors="backslashreplace")
            file.write(f"{TRACE_HEAD} {options.socket}, in seconds since it began\n")
            trace = Trace(file, options.trace)
            undo.callback(trace.close)
        nic = Emulated82599(
            options.wire,
            paced=options.paced,
            link_up_s=options.link,
            mac=options.mac or DEFAULT_MAC,
            sfp=options.sfp,
            rules=Policy(options.rules),
            vfs=options.vf,
        )
        undo.callback(nic.close)
        agent = PfAgent(nic, options.pf_agent) if options.vf and options.pf_agent != "none" else None
        if agent is not None:
            undo.enter_context(agent)
        for fault in options.fault:
            nic.inject(*fault)
        served = functions(nic, options)
        if agent is not None:
            from .agent_socket import AgentSocket

            undo.enter_context(AgentSocket(Path(options.socket), agent))
        servers = [
            undo.enter_context(
                Server(
                    function,
                    path,
                    trap_all=options.trap_all,
                    trace=trace.write if trace else None,
                    on_wake=do_what_is_asked,
                    on_client=client,
                    clients=len(served),
                )
            )
            for function, path in served
        ]
        server = servers[0]
        # The kernel may give a signal to any thread, and only this one runs handlers: the byte ends its poll().
        undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(server.wake_fd, warn_on_full_buffer=False))
        for number in ending_signals():
            undo.callback(signal.signal, number, signal.signal(number, lambda *_: server.stop()))
        for number, what in ((signal.SIGUSR1, move_cable), (signal.SIGUSR2, mend)):
            undo.callback(signal.signal, number, signal.signal(number, partial(ask, what)))
        for function, path in served:
            print(
                json.dumps({"name": function.name, "socket": path})
                if options.json
                else f"{function.name} listens at {path}",
                flush=True,
            )
        serve_all(servers)
    return 0


def functions(nic: Emulated82599, options: argparse.Namespace) -> list[tuple[Function, str]]:
    """What is served, and where. With VFs the socket is a directory, which is created if it does not exist."""
    if not options.vf:
        return [(nic, options.socket)]
    folder = Path(options.socket)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise DeviceError(
            f"--socket {folder}: {error.strerror}. With --vf write a directory, such as --socket /tmp/nic"
        ) from None
    pf: list[tuple[Function, str]] = [(nic, str(folder / "pf.sock"))] if options.pf_agent == "none" else []
    return pf + [(nic.vf(number), str(folder / f"vf{number}.sock")) for number in range(options.vf)]


def serve_all(servers: list[Server]) -> None:
    """Serve until the first one is stopped; then all are."""
    others = [Thread(target=server.serve, name=f"serve {server.path}", daemon=True) for server in servers[1:]]
    for thread in others:
        thread.start()
    try:
        servers[0].serve()
    finally:
        for server in servers[1:]:
            server.stop()
        for thread in others:
            thread.join()
