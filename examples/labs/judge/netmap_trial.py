"""Runs a netmap program in C on a daemon's NIC, beside another program, and collects the evidence (lab 11)."""

from __future__ import annotations

import errno
import os
import threading
from contextlib import ExitStack
from pathlib import Path
from random import Random

from ixrings.driver.cli.run import LIBRARY
from ixrings.hw.vfio_user.server import Server

from .cgroup import ControlGroup
from .evidence import Evidence, Lab
from .network import PORT, Network, Peer
from .nic import WatchedNic
from .sandbox import Script
from .trial import LIMIT_S, STOP_S, save

MOST_LINES = 8  # of the daemon's log that are shown after the program's output


def try_program(
    lab: Lab, file: Path, folder: Path, group: ControlGroup, *, seed: int | None = None, limit_s: float = LIMIT_S
) -> Evidence:
    """As try_script()."""
    setup = lab.setup(Random(seed))
    socket = folder / "nic"
    wire = f"cable=lab-{os.getpid()}"
    with ExitStack() as undo:
        script = undo.enter_context(  # fork first, as try_script() does
            Script(file, PORT, limit_s, group, {"IXRINGS_SOCKET": str(folder / "netmap"), "LD_PRELOAD": str(LIBRARY)})
        )
        nic = WatchedNic(wire, mac=setup.mac, link_up_s=setup.link_up_s, pace=setup.pace)
        undo.callback(nic.close)
        peer = Peer(wire, setup.answers)
        undo.callback(peer.close)
        with Server(nic, str(socket), trap_all=False) as server:
            folder.chmod(0o711)
            thread = threading.Thread(target=server.serve, name="vfio-user", daemon=True)
            thread.start()
            try:
                with Network(folder, socket, peer, script.user) as network:
                    network.wait()
                    script.spared += network.processes
                    nic.record.start_clock()
                    run = script.run()
                    goes_on = network.goes_on()
            finally:
                script.stop()
                server.stop()
                thread.join(STOP_S)
            if thread.is_alive():
                raise OSError(errno.ETIMEDOUT, f"the NIC was busy for {STOP_S:g} s after the program had ended")
        evidence = Evidence(
            setup, run, True, nic.record.accesses, nic.record.count, received=nic.received, violations=nic.violations,
            told=network.told, traffic=peer.traffic, goes_on=goes_on,
        )  # fmt: skip
    evidence.sent = [frame for _, frame in peer.traffic.sent]
    run.output += "".join(f"{line}\n" for line in network.told.lines[-MOST_LINES:])
    frames = sorted([*peer.traffic.sent, *peer.traffic.answered])
    save(evidence, file, [(int(at_s * 1e9), frame) for at_s, frame in frames])
    return evidence
