"""A forked child: it works with ports of its own, and it cannot disturb those of its parent."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from ixrings import Port, open_port, open_ports
from ixrings.driver.errors import PortError
from ixrings.hw.emulator import Emulated82599
from ixrings.hw.errors import DeviceError
from ixrings.hw.trace.device import TracedDevice
from ixrings.rings import RegionError, attach

FRAME = bytes.fromhex("ffffffffffff02000000000188b5") + bytes(46)
PATIENCE_S = 30


def in_child(work: Callable[[], object]) -> str:
    """Run `work` in a forked child. Returns what it printed: its result, or its error."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        signal.alarm(PATIENCE_S)
        try:
            answer = str(work())
        except BaseException as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(write, answer.encode())
        os._exit(0)
    os.close(write)
    with open(read, encoding="utf-8") as pipe:
        answer = pipe.read()
    assert os.waitpid(child, 0)[1] == 0, f"the child hung or crashed; it said {answer!r}"
    return answer


def exchange() -> int:
    """Open a port, send five frames, and return how many came back."""
    with open_port("emulated:loop") as port:
        port.send([FRAME] * 5)
        frames = port.recv(PATIENCE_S)
        return len([next(frames) for _ in range(5)])


@pytest.mark.parametrize("forks", [5, pytest.param(100, marks=pytest.mark.slow)])
def test_a_child_of_a_busy_parent_opens_a_port_of_its_own(forks: int) -> None:
    with open_port("emulated:loop") as port:
        for _ in range(forks):
            port.send([FRAME] * 200)
            port.rxsync()
            assert in_child(exchange) == "5"
            for _ in port.recv(0):
                pass


def test_a_child_works_although_a_thread_of_its_parent_held_the_engine() -> None:
    held, done = threading.Event(), threading.Event()
    with Emulated82599("loop") as nic:

        def hold() -> None:
            with nic._engine.frozen():
                held.set()
                done.wait(PATIENCE_S)

        thread = threading.Thread(target=hold)
        thread.start()
        assert held.wait(PATIENCE_S)
        try:
            assert in_child(exchange) == "5"
        finally:
            done.set()
            thread.join()


USES: dict[str, Callable[[Port], object]] = {
    "tx_rings": lambda port: port.tx_rings,
    "buffers": lambda port: port.buffers,
    "memory": lambda port: port.memory,
    "device": lambda port: port.device,
    "nic": lambda port: port.nic,
    "mac": lambda port: port.mac,
    "set mac": lambda port: setattr(port, "mac", bytes(6)),
    "promiscuous": lambda port: setattr(port, "promiscuous", True),
    "link": lambda port: port.link,
    "stats": lambda port: port.stats(),
    "txsync": lambda port: port.txsync(),
    "rxsync": lambda port: port.rxsync(),
    "poll": lambda port: port.poll(0),
    "fileno": lambda port: port.fileno(),
    "flush": lambda port: port.flush(),
    "send": lambda port: port.send([FRAME]),
    "recv": lambda port: list(port.recv(0)),
    "forward": lambda port: port.forward(port),
}


def test_every_use_of_the_parents_port_is_refused_and_the_parent_notices_nothing() -> None:
    with open_port("emulated:loop") as port:
        port.send([FRAME])
        assert port.poll(PATIENCE_S)
        ring, tx, nic, session = port.rx_rings[0], port.tx_rings[0], port.nic, port._session
        assert session is not None
        iterator = port.recv(0)
        kept: dict[str, Callable[[], object]] = {
            "space": lambda: ring.space,
            "reserve": lambda: ring.reserve(1),
            "advance": lambda: ring.advance(1),
            "head": lambda: setattr(ring, "head", 0),
            "ts": lambda: ring.ts,
            "pending": lambda: tx.pending,
            "sync": session.tx_sync,
            "busy": lambda: session.busy(1000),
            "read": lambda: nic.CTRL.read(),
            "write": lambda: nic.CTRL.update(RST=1),
            "iterator": lambda: next(iterator),
        }

        def use() -> list[str]:
            allowed = []
            for name, call in [*((name, lambda use=use: use(port)) for name, use in USES.items()), *kept.items()]:
                try:
                    call()
                    allowed.append(name)
                except (PortError, RegionError, DeviceError) as error:
                    if "belongs to the parent" not in str(error) or "spawn" not in str(error):
                        allowed.append(f"{name}: {error}")
            return allowed

        assert in_child(use) == "[]"
        port.send([FRAME] * 3)
        frames = port.recv(PATIENCE_S)
        assert [next(frames) for _ in range(4)] == [FRAME] * 4


def test_close_in_a_child_closes_its_descriptors_and_leaves_the_device_alone() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    without = descriptors()
    with open_port("emulated:loop") as port:
        opened = descriptors()

        def close() -> int:
            inherited = descriptors()
            port.close()
            port.close()
            gc.collect()
            assert port.closed and inherited <= opened + 1
            return descriptors() - 1  # the pipe to the parent

        assert opened > without
        assert in_child(close) == str(without)
        port.send([FRAME])
        assert next(port.recv(PATIENCE_S)) == FRAME


def test_a_child_attaches_to_the_rings_of_its_parent() -> None:
    with open_port("emulated:loop") as port:
        port.send([FRAME])
        assert port.poll(PATIENCE_S)

        def take() -> int:
            ring = attach(port.region.fd, port.if_offset).rx_rings[0]
            span = ring.reserve(ring.space)
            ring.advance(len(span))
            return len(span)

        assert in_child(take) == "1"
        assert list(port.recv(0)) == []


def test_a_cable_of_the_parent_has_no_end_in_the_child() -> None:
    def join() -> bool:
        with open_ports("emulated:cable=forked", "emulated:cable=forked") as (left, right):
            left.send([FRAME])
            return next(right.recv(PATIENCE_S)) == FRAME

    with open_port("emulated:cable=forked", link_timeout=0):
        assert in_child(join) == "True"


def test_a_child_writes_nothing_into_the_trace_of_its_parent(tmp_path: Path) -> None:
    with (tmp_path / "trace").open("w") as file, TracedDevice(Emulated82599("loop"), file) as device:

        def read() -> None:
            with suppress(DeviceError):
                device.read32(0)
            file.flush()

        before = file.tell()
        in_child(read)
        assert os.fstat(file.fileno()).st_size == before
        device.read32(0)
        assert os.fstat(file.fileno()).st_size > before


def test_a_forked_worker_of_multiprocessing_is_told_about_spawn() -> None:
    with open_port("emulated:loop") as port:

        def work() -> str:
            with multiprocessing.get_context("fork").Pool(1) as pool:
                return str(pool.apply(exchange))

        assert work() == "5"
        assert "spawn" in in_child(lambda: port.send([FRAME]))
