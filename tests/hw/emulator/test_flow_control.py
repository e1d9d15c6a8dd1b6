"""Pause frames, sent and obeyed (82599 8.2.3.3)."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator

import pytest

from ixrings import Port, open_port
from tests.support.arrivals import came
from tests.support.by_hand import ByHand
from tests.support.programs import wait_for
from tests.support.steered import MAC, ethernet

GROUP = bytes.fromhex("0180c2000001")
QUANTUM_NS = 51.2  # 512 bit times


def pause(quanta: int) -> bytes:
    return (GROUP + b"\x02\0\0\0\0\x05" + struct.pack("!HHH", 0x8808, 1, quanta)).ljust(60, b"\0")


def numbered(count: int) -> list[bytes]:
    return [ethernet(struct.pack("!I", number) + bytes(1400), 0x88B5) for number in range(count)]


def until_counted(port: Port, counter: str) -> None:
    end = time.monotonic() + 30
    while not port.stats()[counter]:
        assert time.monotonic() < end, f"{counter} stays 0"
        time.sleep(0.001)


def test_with_flow_control_a_late_receiver_loses_nothing() -> None:
    with open_port("emulated", tx_slots=8192, rx_slots=64, flow_control=True) as port:
        frames = numbered(8000)
        port.send(frames)
        until_counted(port, "LXOFFTXC")
        assert came(port, len(frames)) == frames
        stats = port.stats()
        assert stats["MPC"] == 0
        assert stats["LXOFFTXC"] > 0 and stats["LXOFFTXC"] == stats["LXOFFRXCNT"]
        assert stats["LXONTXC"] > 0 and stats["LXONTXC"] == stats["LXONRXCNT"]


def test_without_flow_control_the_packet_buffer_overflows() -> None:
    with open_port("emulated", tx_slots=8192, rx_slots=64) as port:
        port.send(numbered(8000))
        until_counted(port, "MPC")
        received = 0

        def all_counted() -> bool:
            nonlocal received
            received += len(list(port.recv(0.05)))
            return received + port.stats()["MPC"] >= 8000

        wait_for(all_counted, "some frames were neither received nor missed")
        stats = port.stats()
        assert stats["MPC"] == 8000 - received > 0
        assert stats["LXOFFTXC"] == stats["LXOFFRXCNT"] == 0


def test_a_cable_is_paused_at_its_other_end() -> None:
    with (
        open_port("emulated:cable=fc", rx_slots=64, flow_control=True, promiscuous=True) as slow,
        open_port("emulated:cable=fc", tx_slots=8192, flow_control=True) as fast,
    ):
        frames = numbered(8000)
        fast.send(frames)
        until_counted(fast, "LXOFFRXCNT")
        assert came(slow, len(frames)) == frames
        assert slow.stats()["MPC"] == 0


def test_with_flow_control_a_queue_drops_only_with_the_drop_option() -> None:
    for options, drops in (({}, 1), ({"flow_control": True}, 0), ({"flow_control": True, "drop": True}, 1)):
        with open_port("emulated", rx_queues=2, **options) as port:  # type: ignore[arg-type]
            assert port.nic.SRRCTL[1].read().DROP_EN == drops


@pytest.fixture
def nic() -> Iterator[ByHand]:
    by_hand = ByHand("loop")
    by_hand.regs.MFLCN.update(RFCE=1)
    yield by_hand
    by_hand.close()


def step(nic: ByHand, ns: int) -> None:
    nic.nic.step(64, ns)


def test_a_pause_frame_holds_the_transmitter_for_its_quanta(nic: ByHand) -> None:
    nic.send(pause(1000))
    assert nic.received() == [], "only the MAC sees it"
    nic.post(ethernet(b"", 0x88B5))
    nic.kick()
    step(nic, int(1000 * QUANTUM_NS) - 100)
    assert nic.received() == []
    step(nic, 200)
    assert len(nic.received()) == 1
    assert (nic.regs.LXOFFRXCNT.read(), nic.regs.LXONRXCNT.read()) == (1, 0)


def test_a_paced_wire_does_not_catch_up_after_a_pause_or_a_lost_link() -> None:
    nic = ByHand("loop", paced=True, slots=256)
    try:
        nic.regs.MFLCN.update(RFCE=1)
        for each in [pause(1000)] + [ethernet(b"", 0x88B5)] * 200:
            nic.post(each)
        nic.kick()
        step(nic, 0)
        for _ in range(52):  # the pause takes 51.2 us of them
            step(nic, 1000)
        assert len(nic.received()) == 1
        step(nic, 1000)
        assert len(nic.received()) == 1 + 14, "67.2 ns a frame"
        nic.nic.set_link(False)
        step(nic, 100_000)
        nic.nic.set_link(True)
        step(nic, 0)
        assert len(nic.received()) == 1 + 14 + 1
    finally:
        nic.close()


def test_a_pause_in_the_middle_of_a_step_holds_the_next_frames(nic: ByHand) -> None:
    nic.send(ethernet(b"1", 0x88B5), pause(10), ethernet(b"2", 0x88B5))
    assert len(nic.received()) == 1
    step(nic, 1000)
    assert len(nic.received()) == 2


def test_a_pause_frame_of_0_quanta_ends_a_pause() -> None:
    """Over a cable: a paused NIC cannot send this frame to itself."""
    paused, other = ByHand("cable=xon"), ByHand("cable=xon")
    try:
        paused.regs.MFLCN.update(RFCE=1)
        step(paused, 0)
        step(other, 0)
        other.send(pause(0xFFFF))
        paused.send(ethernet(b"", 0x88B5))
        assert other.received() == []
        other.send(pause(0))
        step(paused, 0)
        assert len(other.received()) == 1
        assert (paused.regs.LXOFFRXCNT.read(), paused.regs.LXONRXCNT.read()) == (1, 1)
    finally:
        paused.close()
        other.close()


def test_a_pause_frame_is_not_obeyed_without_rfce_and_is_passed_on_with_pmcf(nic: ByHand) -> None:
    nic.regs.MFLCN.write(RFCE=0)
    nic.send(pause(0xFFFF), ethernet(b"", 0x88B5))
    assert [frame[:6] for frame in nic.received()] == [MAC]
    nic.regs.MFLCN.write(PMCF=1)
    nic.send(pause(0xFFFF))
    assert nic.received()[1] == pause(0xFFFF)
