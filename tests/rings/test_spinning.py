"""How the service and its clients wait where both have one processor: a spin there keeps the other one from working."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from tests.support.rings_nic import Bench
from tests.support.service_daemon import Daemon, build_client, finished, handle_of, started

SYNCS = 2000
SPIN_NS = 20_000


def processor_s() -> float:
    """Of programs that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_spins_in_vain_are_left_out(tmp_path: Path) -> None:
    """Otherwise each sync would cost its program a whole spin."""
    bench = Bench(256)
    handle = handle_of(bench)
    program = build_client(tmp_path)
    cpu = min(os.sched_getaffinity(0))
    with Daemon([handle], spin_ns=SPIN_NS) as daemon:
        daemon.call(lambda: os.sched_setaffinity(0, {cpu}))
        before = processor_s()
        command = "sync", "tx", SYNCS
        with started(program, bench.region, bench.interface, handle, *command, spin_ns=SPIN_NS) as process:
            os.sched_setaffinity(process.pid, {cpu})
            finished(process)
    assert (processor_s() - before) / SYNCS < 0.5 * SPIN_NS / 1e9
