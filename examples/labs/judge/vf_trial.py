"""Runs a script on a virtual function, beside a neighbour and the PF's administrator, and collects the evidence
(lab 12)."""

from __future__ import annotations

import errno
import threading
from contextlib import ExitStack
from pathlib import Path
from random import Random

from ixrings.hw.capture.pcap import read_capture
from ixrings.hw.emulator import PfAgent
from ixrings.hw.vfio_user.server import Server

from .administrator import NEIGHBOUR, STUDENT, Administrator, Neighbour, NicWithVfs, WatchedVf
from .cgroup import ControlGroup
from .evidence import Evidence, Lab
from .sandbox import Script
from .trial import LEAVE_S, LIMIT_S, STOP_S, admit, memory_file, save

ARRIVE_S = 5.0  # for the neighbour's last frames


def try_function(
    lab: Lab, file: Path, folder: Path, group: ControlGroup, *, seed: int | None = None, limit_s: float = LIMIT_S
) -> Evidence:
    """As try_script()."""
    setup = lab.setup(Random(seed))
    socket = folder / f"vf{STUDENT}"
    with ExitStack() as undo:
        script = undo.enter_context(Script(file, f"vfio-user:{socket}", limit_s, group))  # fork first, as try_script()
        recorded = memory_file("out.pcap", undo)
        nic = NicWithVfs(f"pcap=,{recorded}", vfs=2)
        undo.callback(nic.close)
        agent = undo.enter_context(PfAgent(nic))
        for number, mac in ((NEIGHBOUR, setup.neighbour), (STUDENT, setup.mac)):
            agent.set_vf(number, mac=mac)
        neighbour = Neighbour(nic.vf(NEIGHBOUR))
        undo.callback(neighbour.close)
        vf = nic.vf(STUDENT)
        assert isinstance(vf, WatchedVf)
        closed, opened = threading.Event(), threading.Event()
        closed.set()

        def on_client(connected: bool) -> None:
            (opened if connected else closed).set()
            if connected:
                closed.clear()

        with Server(vf, str(socket), trap_all=True, each_tail=True, on_client=on_client) as server:
            admit(script.user, socket)
            thread = threading.Thread(target=server.serve, name="vfio-user", daemon=True)
            thread.start()
            try:
                with Administrator(folder / "pf", script.user, agent, vf.record) as administrator:
                    vf.record.start_clock()
                    run = script.run()
                    closed.wait(LEAVE_S)
            finally:
                script.stop()
                server.stop()
                thread.join(STOP_S)
            if thread.is_alive():
                raise OSError(errno.ETIMEDOUT, f"the NIC was busy for {STOP_S:g} s after the script had ended")
        sent = read_capture(recorded, allow_truncated=True)
        neighbour.wait(len(sent), ARRIVE_S)
        administrator.pools.neighbour = list(neighbour.frames)
        evidence = Evidence(setup, run, opened.is_set(), vf.record.accesses, vf.record.count, violations=nic.violations)
        evidence.sent, evidence.pools = list(sent), administrator.pools
        times_ns = sent.times_ns.tolist()
    save(evidence, file, list(zip(times_ns, evidence.sent)))
    return evidence
