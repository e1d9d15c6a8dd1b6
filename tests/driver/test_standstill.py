"""What a wait that finds nothing says: a cause that lasts ends it with PortStuck, a cause that may pass does not."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from select import POLLIN, POLLOUT

import pytest

from ixrings import Port, PortStuck, open_port
from ixrings.hw.emulator import Emulated82599, Fault
from tests.support.namespaces import ip, unique, why_not
from tests.support.programs import wait_for

FRAME = bytes(60)
WHY_NOT = why_not()


@pytest.fixture(autouse=True)
def look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ixrings.driver.standstill.LOOK_S", 0.05)


def fill(port: Port) -> None:
    """Advance every slot of the TX ring."""
    ring = port.tx_rings[0]
    ring.reserve(ring.num_slots).len[:] = len(FRAME)
    ring.advance(ring.space)


def wait_for_room(port: Port) -> None:
    fill(port)
    for _ in range(200):
        if port.poll(0.1, POLLOUT):
            fill(port)


def wait_for_a_frame(port: Port) -> None:
    for _ in range(200):
        port.poll(0.1, POLLIN)


def flush_without_a_limit(port: Port) -> None:
    port.txsync()
    fill(port)
    port.flush(None)


def receive_without_a_limit(port: Port) -> None:
    for _ in port.recv(None):
        pass


# A wait without a limit looks once a second, whatever LOOK_S is.
FLUSH = pytest.param(flush_without_a_limit, marks=pytest.mark.slow)
RECEIVE = pytest.param(receive_without_a_limit, marks=pytest.mark.slow)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The kernel refuses to let a file grow beyond `size` bytes, as a full disk does. Python ignores SIGXFSZ."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("wait", [wait_for_room, wait_for_a_frame, FLUSH])
def test_a_recording_that_cannot_grow_ends_a_wait_with_the_reason(wait: Callable[[Port], None], tmp_path: Path) -> None:
    with open_port(f"emulated:pcap=,{tmp_path}/full.pcap") as port:
        with files_of_at_most(4096):
            for _ in range(5):
                fill(port)
                port.txsync()
            wait_for(lambda: port.link.lost, "the wire has not failed")
            with pytest.raises(PortStuck, match=r"carries no more frames: pcap=.*too large\. Close the port"):
                wait(port)


@pytest.mark.network
@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
@pytest.mark.parametrize("wait", [wait_for_room, wait_for_a_frame, RECEIVE])
def test_a_deleted_tap_ends_a_wait_with_the_reason(wait: Callable[[Port], None]) -> None:
    tap = unique("ixs")
    with open_port(f"emulated:tap={tap}") as port:
        ip("link", "del", tap)
        wait_for(lambda: port.link.lost, "the wire has not failed")
        with pytest.raises(PortStuck, match=f"tap={tap}: the interface was deleted"):
            wait(port)


@pytest.mark.parametrize("wait", [wait_for_room, FLUSH])
def test_a_missing_head_write_back_ends_a_wait_with_the_queue(wait: Callable[[Port], None]) -> None:
    with Emulated82599("sink") as nic, open_port(nic) as port:
        nic.inject(Fault.HEAD_WRITE_BACK)
        with pytest.raises(PortStuck, match=r"queue 0 has sent them \(TDH is TDT\), but its head write-back"):
            wait(port)


def test_a_pulled_cable_is_waited_for() -> None:
    with Emulated82599("sink") as nic, open_port(nic) as port:
        nic.inject(Fault.LINK)
        fill(port)
        for _ in range(10):
            assert port.poll(0.06, POLLOUT) == 0
        assert not port.link.up and not port.link.lost
        nic.mend(Fault.LINK)
        port.flush(20)


def test_a_port_that_sends_and_rests_again_and_again_is_not_stuck() -> None:
    with open_port("emulated:sink") as port:
        for _ in range(5):
            port.send([FRAME])
            assert port.poll(0.08, POLLIN) == 0


def test_a_program_that_sent_frames_may_wait_long_for_an_answer() -> None:
    """The wire takes time, so the NIC reports the frames after txsync(), and recv() syncs no TX ring."""
    with open_port("emulated@paced:sink") as port:
        port.send([bytes(1500)] * 20)
        assert port.tx_rings[0].pending
        for _ in range(4):
            assert list(port.recv(0.06)) == []


@pytest.mark.slow
def test_a_missing_head_write_back_ends_also_a_wait_that_only_receives() -> None:
    with Emulated82599("sink") as nic, open_port(nic) as port:
        nic.inject(Fault.HEAD_WRITE_BACK)
        port.send([FRAME])
        with pytest.raises(PortStuck, match="head write-back does not arrive"):
            list(port.recv(timeout=20))
