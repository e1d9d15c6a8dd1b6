"""One trial: a fresh NIC, the student's script on it, and the evidence of what happened, some of it left beside the script."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random

from ixrings.hw.capture.pcap import CaptureWriter, read_capture
from ixrings.hw.errors import CaptureError
from ixrings.hw.vfio_user.server import Server

from .evidence import Evidence, Lab
from .nic import KEPT, WatchedNic
from .sandbox import Script

LIMIT_S = 10.0
LEAVE_S = 5.0


def try_script(lab: Lab, file: Path, *, seed: int | None = None, limit_s: float = LIMIT_S) -> Evidence:
    """Leaves packets.pcap and trace.txt beside `file`. seed: of what is different in each run (addresses, bytes of frames)."""
    setup = lab.setup(Random(seed))
    began_ns = time.time_ns()
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="ixrings-")))
        socket, played, recorded = folder / "nic", folder / "in.pcap", folder / "out.pcap"
        with CaptureWriter(played) as capture:
            for frame in setup.frames:
                capture.write(frame, began_ns)
        # Before the NIC, whose thread a fork would leave behind.
        script = undo.enter_context(Script(file, f"vfio-user:{socket}", limit_s))
        wire = f"pcap={played if setup.frames else ''},{recorded}"
        nic = WatchedNic(wire, mac=setup.mac, link_up_s=setup.link_up_s, pace=setup.pace)
        undo.callback(nic.close)
        gone, came = threading.Event(), threading.Event()
        gone.set()

        def on_client(here: bool) -> None:
            (came if here else gone).set()
            if here:
                gone.clear()

        with Server(nic, str(socket), trap_all=not setup.awaited, on_client=on_client) as server:
            thread = threading.Thread(target=server.serve, name="vfio-user")
            thread.start()
            try:
                nic.start_clock()
                run = script.run()
                gone.wait(LEAVE_S)  # posted writes may still be on their way
            finally:
                script.stop()
                server.stop()
                thread.join()
        evidence = Evidence(
            setup, run, came.is_set(), nic.accesses, nic.count, [], nic.frames_played, nic.received, nic.violations
        )
        nic.close()
        sent = read_capture(recorded, allow_truncated=True)
        evidence.sent = list(sent)
        times_ns = sent.times_ns.tolist()
    try:
        leave_capture(file.with_name("packets.pcap"), evidence, began_ns, times_ns)
        leave_trace(file.with_name("trace.txt"), evidence)
    except (OSError, CaptureError) as error:  # the script may have taken its folder away, or it is somebody else's
        evidence.not_left = f"packets.pcap and trace.txt could not be left beside the file: {error}"
    return evidence


def leave_capture(path: Path, evidence: Evidence, began_ns: int, times_ns: list[int]) -> None:
    """What came in has the run's beginning as its time, what was sent its own."""
    path.unlink(missing_ok=True)  # a script may have put a link there, to a file of the teacher's
    with CaptureWriter(path) as capture:
        for frame in evidence.setup.frames[: evidence.played]:
            capture.write(frame, began_ns)
        for frame, time_ns in zip(evidence.sent, times_ns):
            capture.write(frame, time_ns)


def leave_trace(path: Path, evidence: Evidence) -> None:
    path.unlink(missing_ok=True)
    with open(path, "x", encoding="ascii", errors="backslashreplace") as trace:
        trace.writelines(trace_lines(evidence))


def trace_lines(evidence: Evidence) -> Iterator[str]:
    """As `ixrings trace` reads them."""
    yield "# ixrings trace of an emulated NIC, in seconds since the script got it\n"
    for access in evidence.record:
        yield f"{access.at_s:11.6f} {access}\n"
    if evidence.accesses > KEPT:
        yield f"# and {evidence.accesses - KEPT} more\n"
