"""Runs a script on a new NIC, collects the evidence, and saves packets.pcap and trace.txt beside the script."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from pathlib import Path
from random import Random

from ixrings.hw.capture.pcap import CaptureWriter, read_capture
from ixrings.hw.errors import CaptureError
from ixrings.hw.vfio_user.server import Server

from .cgroup import ControlGroup
from .evidence import Evidence, Lab, Setup
from .nic import WatchedNic
from .record import KEPT
from .sandbox import Script

LIMIT_S = 10.0
LEAVE_S = 5.0  # for posted writes that are still on their way when the script has ended
STOP_S = 20.0  # for the server's thread, which may be busy with a last message


def try_script(
    lab: Lab,
    file: Path,
    folder: Path,
    group: ControlGroup,
    *,
    seed: int | None = None,
    limit_s: float = LIMIT_S,
    glass: tuple[str, int] | None = None,
) -> Evidence:
    """The evidence of one run. folder: gets the NIC's socket. seed: chooses addresses and the bytes of frames; None:
    different in each run. glass: address and port of a page that shows the run. Raises OSError if the server's thread
    does not end, PortError if the page cannot be served."""
    setup = lab.setup(Random(seed))
    began_ns = time.time_ns()
    socket = folder / "nic"
    with ExitStack() as undo:
        # Fork first: what is made later, such as the recording, is not in the script's process. The NIC has threads,
        # and a fork does not copy them.
        script = undo.enter_context(Script(file, f"vfio-user:{socket}", limit_s, group))
        # Files in memory have no path that the script could reach.
        played, recorded = memory_file("in.pcap", undo), memory_file("out.pcap", undo)
        with CaptureWriter(played) as capture:
            for frame in setup.frames:
                capture.write(frame, began_ns)
        wire = f"pcap={played if setup.frames else ''},{recorded}"
        nic, page = nic_and_page(wire, setup, lab, glass)
        undo.callback(nic.close)
        closed, opened = threading.Event(), threading.Event()
        closed.set()

        def on_client(connected: bool) -> None:
            (opened if connected else closed).set()
            if connected:
                closed.clear()

        with Server(nic, str(socket), trap_all=not setup.awaited, each_tail=True, on_client=on_client) as server:
            admit(script.user, socket)
            thread = threading.Thread(target=server.serve, name="vfio-user", daemon=True)
            thread.start()
            try:
                with page:
                    nic.record.start_clock()
                    run = script.run()
                    closed.wait(LEAVE_S)
            finally:
                script.stop()
                server.stop()
                thread.join(STOP_S)
            if thread.is_alive():
                raise OSError(errno.ETIMEDOUT, f"the NIC was busy for {STOP_S:g} s after the script had ended")
        evidence = Evidence(
            setup,
            run,
            opened.is_set(),
            nic.record.accesses,
            nic.record.count,
            [],
            nic.frames_played,
            nic.received,
            nic.violations,
        )
        nic.close()
        sent = read_capture(recorded, allow_truncated=True)
        evidence.sent = list(sent)
        times_ns = sent.times_ns.tolist()
    # Frames sent to the NIC have the start of the run as their time; frames from the NIC have their own.
    frames = [(began_ns, frame) for frame in setup.frames[: evidence.played]]
    save(evidence, file, [*frames, *zip(times_ns, evidence.sent)])
    return evidence


def nic_and_page(
    wire: str, setup: Setup, lab: Lab, glass: tuple[str, int] | None
) -> tuple[WatchedNic, AbstractContextManager[None]]:
    """The NIC, and what shows it while the script runs."""
    if glass is None:
        return WatchedNic(wire, mac=setup.mac, link_up_s=setup.link_up_s, pace=setup.pace), nullcontext()
    from .glass import ShownWatchedNic, shown  # other runs do not need the driver

    nic = ShownWatchedNic(wire, mac=setup.mac, link_up_s=setup.link_up_s, pace=setup.pace)
    return nic, shown(nic, f"lab {lab.number}", glass)


def save(evidence: Evidence, file: Path, frames: list[tuple[int, bytes]]) -> None:
    """Write packets.pcap and trace.txt beside the script. frames: with times in ns."""
    try:
        write_capture(file.with_name("packets.pcap"), frames)
        write_trace(file.with_name("trace.txt"), evidence)
    except (OSError, CaptureError) as error:  # the script may have removed its folder, or the folder is read-only
        evidence.not_saved = f"packets.pcap and trace.txt could not be written beside the file: {error}"


def memory_file(name: str, undo: ExitStack) -> Path:
    """A new file in memory, as a path that only this process can open."""
    fd = os.memfd_create(name)
    undo.callback(os.close, fd)
    return Path(f"/proc/self/fd/{fd}")


def admit(user: int | None, socket: Path) -> None:
    """Let the script's user, and nobody else, connect to the socket."""
    if user is not None:
        with suppress(OSError):  # a root without the right to change owners cannot change users either
            os.chown(socket, user, -1)
        socket.parent.chmod(0o711)


def write_capture(path: Path, frames: Iterable[tuple[int, bytes]]) -> None:
    path.unlink(missing_ok=True)  # a script may have put a link to another file there
    with CaptureWriter(path) as capture:
        for time_ns, frame in frames:
            capture.write(frame, time_ns)


def write_trace(path: Path, evidence: Evidence) -> None:
    path.unlink(missing_ok=True)
    with open(path, "x", encoding="ascii", errors="backslashreplace") as trace:
        trace.writelines(trace_lines(evidence))


def trace_lines(evidence: Evidence) -> Iterator[str]:
    """The record in the format that `ixrings trace` reads."""
    yield "# ixrings trace of an emulated NIC, in seconds since the script started\n"
    for access in evidence.record:
        yield f"{access.at_s:11.6f} {access}\n"
    if evidence.accesses > KEPT:
        yield f"# and {evidence.accesses - KEPT} more\n"
