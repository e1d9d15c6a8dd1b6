"""Frames through the software 82599, stepped by hand: descriptors, write-back, filters, overflow, faults."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ixrings.hw.emulator import Emulated82599
from ixrings.hw.errors import WireError
from tests.support.by_hand import ByHand, frame

Start = Callable[..., ByHand]
"""Creates a NIC that is closed at the end of the test; arguments as for ByHand."""


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[ByHand] = []

    def begin(wire: str = "loop", **options: Any) -> ByHand:
        running.append(ByHand(wire, **options))
        return running[-1]

    yield begin
    while running:  # pytest keeps this closure for a while, so the list must be empty
        running.pop().close()


def test_a_frame_sent_on_loop_comes_back_and_is_counted(start: Start) -> None:
    nic = start()
    nic.send(frame(100))
    assert nic.received() == [frame(100)]
    assert nic.head() == 1
    regs = nic.regs
    assert [int(r.read()) for r in (regs.GPTC, regs.GOTCL, regs.PTC127, regs.QPTC[0], regs.QBTC_L[0])] == [
        1,
        104,
        1,
        1,
        100,
    ]
    assert [int(r.read()) for r in (regs.GPRC, regs.GORCL, regs.PRC127, regs.QPRC[0], regs.QBRC_L[0])] == [
        1,
        104,
        1,
        1,
        100,
    ]
    assert nic.nic.violations == []


@pytest.mark.breaks_rules("te_before_queues")
def test_a_queue_that_is_enabled_before_te_sends_its_frames_once_te_is_set(start: Start) -> None:
    nic = start(tx=0)
    nic.regs.DMATXCTL.update(TE=0)
    nic.tx = [nic.transmit_queue(0)]
    nic.send(frame(100))
    assert nic.received() == [] and nic.head() == 0
    nic.regs.DMATXCTL.update(TE=1)
    nic.nic.step()
    assert nic.received() == [frame(100)] and nic.head() == 1
    assert [violation.rule.name for violation in nic.nic.violations] == ["te_before_queues"]


@pytest.mark.parametrize(
    ("register", "off", "on"), [("DMATXCTL", {"TE": 0}, {"TE": 1}), ("SECTXCTRL", {"TX_DIS": 1}, {"TX_DIS": 0})]
)
def test_nothing_is_sent_while_transmission_is_stopped_and_nothing_is_lost(
    start: Start, register: str, off: dict[str, int], on: dict[str, int]
) -> None:
    nic = start()
    nic.send(frame(fill=1))
    getattr(nic.regs, register).update(**off)
    nic.send(frame(fill=2), frame(fill=3))
    assert nic.received() == [frame(fill=1)] and nic.head() == 1
    getattr(nic.regs, register).update(**on)
    nic.nic.step()
    assert nic.received() == [frame(fill=fill) for fill in (1, 2, 3)]


def test_statistics_are_cleared_by_the_read(start: Start) -> None:
    nic = start()
    nic.send(frame(), frame())
    assert (nic.regs.GPTC.read(), nic.regs.GPTC.read()) == (2, 0)


def test_short_frames_are_padded_to_60_bytes(start: Start) -> None:
    nic = start()
    nic.send(frame(20))
    assert nic.received() == [frame(20) + bytes(40)]


def test_a_frame_uses_several_descriptors_in_both_directions(start: Start) -> None:
    nic = start()
    nic.regs.HLREG0.update(JUMBOEN=1)
    nic.regs.MAXFRS.write(MFS=9728)
    whole = frame(5000)
    nic.post(whole[:1500], whole[1500:1501], whole[1501:2900], whole[2900:4800], whole[4800:])
    nic.kick()
    nic.nic.step()
    assert nic.received() == [whole]
    lengths = [nic.rx[0].read(i)[1] >> 32 & 0xFFFF for i in range(3)]
    assert lengths == [2048, 2048, 904]
    assert [nic.rx[0].read(i)[1] & 3 for i in range(3)] == [1, 1, 3]


@pytest.mark.breaks_rules("buffers_stay", "srrctl_values")
def test_an_enabled_queue_obeys_a_new_buffer_size(start: Start) -> None:
    nic = start()
    nic.regs.SRRCTL[0].update(BSIZEPACKET=0)
    nic.send(frame(fill=1))
    nic.regs.SRRCTL[0].update(BSIZEPACKET=1)
    nic.send(frame(1500))
    assert nic.received() == [frame(1500)] and nic.regs.QPRDC[0].read() == 1
    assert [nic.rx[0].read(i)[1] >> 32 & 0xFFFF for i in range(2)] == [1024, 476]
    assert [violation.rule.name for violation in nic.nic.violations] == ["buffers_stay", "srrctl_values"]


def test_an_enabled_queue_obeys_a_new_head_write_back_address(start: Start) -> None:
    nic = start(head_writeback=False)
    nic.send(frame())
    assert nic.head() == 0 and nic.tx[0].read(0)[1] == 1 << 32
    nic.place_transmit_ring(0, nic.tx[0])
    nic.send(frame())
    assert nic.head() == 2


@pytest.mark.breaks_rules("transmit_tail_after_eop")
def test_a_frame_waits_for_its_last_descriptor(start: Start) -> None:
    nic = start()
    whole = frame(200)
    nic.post(whole[:100], whole[100:])
    nic.regs.TDT[0].write(1)
    assert nic.nic.step() == 0
    nic.kick()
    assert nic.nic.step() == 1
    assert nic.received() == [whole]


def test_the_head_is_written_back_only_for_rs(start: Start) -> None:
    nic = start()
    nic.post(frame(), rs=False)
    nic.post(frame(), rs=True)
    nic.post(frame(), rs=False)
    nic.kick()
    nic.nic.step()
    assert nic.regs.TDH[0].read() == 3
    assert nic.head() == 2


def test_without_head_write_back_descriptors_with_rs_get_dd(start: Start) -> None:
    nic = start(head_writeback=False)
    nic.post(frame(), rs=False)
    nic.post(frame(), rs=True)
    nic.kick()
    nic.nic.step()
    assert [nic.tx[0].read(i)[1] >> 32 & 1 for i in range(2)] == [0, 1]


def test_with_wthresh_write_backs_are_gathered_with_rs_or_without(start: Start) -> None:
    nic = start(head_writeback=False, wthresh=4)
    for _ in range(6):
        nic.post(frame(), rs=True)
    nic.kick()
    nic.nic.step()
    done = [nic.tx[0].read(i)[1] >> 32 & 1 for i in range(6)]
    assert done == [1, 1, 1, 1, 0, 0]
    nic.nic.step()
    assert [nic.tx[0].read(i)[1] >> 32 & 1 for i in range(6)] == [1] * 6


def test_length_and_dd_carry_the_packet_type(start: Start) -> None:
    nic = start()
    ip = bytes([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]) + bytes([0, 7, 0, 9, 0, 8, 0, 0])
    nic.send(frame()[:12] + b"\x08\x00" + ip + bytes(40))
    q0, q1 = nic.rx[0].read(0)
    assert q0 & 0xFFF0 == 0x10 | 0x200
    assert q1 >> 32 & 0xFFFF == 82


MULTICAST = b"\x01\x00\x5e\x01\x02\x03"


@pytest.mark.breaks_rules("fctrl_while_reception_is_off")
def test_filters_accept_what_the_registers_select(start: Start) -> None:
    nic = start(promiscuous=0)
    mine, other, broadcast = frame(), frame(to=b"\x02\x82\x59\x90\x00\x02"), frame(to=b"\xff" * 6)
    multicast = frame(to=MULTICAST)
    nic.send(mine, other, broadcast, multicast)
    assert nic.received() == [mine, broadcast]
    nic.regs.FCTRL.write(BAM=0)
    nic.send(broadcast)
    assert len(nic.received()) == 2
    nic.regs.FCTRL.write(UPE=1)
    nic.send(other, multicast)
    assert nic.received()[2:] == [other]
    nic.regs.FCTRL.write(MPE=1)
    nic.send(other, multicast)
    assert nic.received()[3:] == [multicast]


def test_the_multicast_table_is_indexed_by_address_bits_47_to_36(start: Start) -> None:
    nic = start(promiscuous=0)
    bits = (MULTICAST[4] >> 4) | (MULTICAST[5] << 4)  # MO = 0: bits [47:36]
    nic.regs.MTA[bits // 32].write(1 << bits % 32)
    nic.send(frame(to=MULTICAST))
    assert nic.received() == []
    nic.regs.MCSTCTRL.write(MFE=1)
    nic.send(frame(to=MULTICAST), frame(to=MULTICAST[:5] + b"\x13"))
    assert nic.received() == [frame(to=MULTICAST)]
    assert nic.rx[0].read(0)[1] >> 7 & 1 == 1  # PIF: an inexact filter accepted it


def test_frames_that_are_too_long_are_counted_and_not_received(start: Start) -> None:
    nic = start()
    nic.send(frame(1514), frame(1515))
    assert nic.received() == [frame(1514)]
    assert nic.regs.ROC.read() == 1


@pytest.mark.breaks_rules("receive_packet_buffer_divided_first")
def test_a_full_ring_fills_the_packet_buffer_and_then_counts_in_mpc(start: Start) -> None:
    nic = start(slots=128)
    nic.regs.RXPBSIZE[0].write(SIZE=1)  # takes effect only at reset: the buffer keeps its 512 KB
    for _ in range(4):
        nic.send(*[frame(1500)] * 100)
    assert len(nic.received()) == 127
    assert nic.regs.MPC[0].read() == max(0, 400 - 127 - 512 * 1024 // 1536)


def test_a_full_packet_buffer_counts_in_mpc_and_drains_in_order(start: Start) -> None:
    nic = start(slots=64)
    frames = [frame(1500, fill=i & 0xFF) for i in range(500)]
    for i in range(0, 500, 50):
        nic.send(*frames[i : i + 50])
    missed = nic.regs.MPC[0].read()
    assert missed > 0
    kept = 500 - missed
    got: list[bytes] = []
    ring = nic.rx[0]
    tail = 63
    while len(got) < kept:
        before = len(got)
        for index in range(64):
            position = (tail + 1 + index) % 64
            _, q1 = ring.read(position)
            if not q1 & 1:
                break
            got.append(ring.bytes(position, q1 >> 32 & 0xFFFF))
            ring.write(position, ring.buffer(position), 0)
            tail_next = position
        assert len(got) > before
        tail = tail_next
        nic.regs.RDT[0].write(tail)
        nic.nic.step()
    assert got == frames[:kept]


def test_drop_en_drops_at_the_queue_and_not_in_the_packet_buffer(start: Start) -> None:
    nic = start(slots=64, drop_en=1)
    for _ in range(2):
        nic.send(*[frame()] * 50)
    assert nic.regs.QPRDC[0].read() == 100 - 63
    assert nic.regs.MPC[0].read() == 0


@pytest.mark.breaks_rules("rxcsum_while_reception_is_off")
def test_rss_spreads_flows_by_the_toeplitz_hash(start: Start) -> None:
    """Key and vectors of Microsoft's RSS verification suite (82599 7.1.2.8)."""
    key = bytes.fromhex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")
    vectors = [
        ("66.9.149.187", 2794, "161.142.100.80", 1766, 0x51CCC178),
        ("199.92.111.2", 14230, "65.69.140.83", 4739, 0xC626B0EA),
        ("24.19.198.95", 12898, "12.22.207.184", 38024, 0x5C2B394A),
    ]
    nic = start(rx=4)
    for i in range(10):
        nic.regs.RSSRK[i].write(int.from_bytes(key[4 * i : 4 * i + 4], "little"))
    for i in range(32):
        nic.regs.RETA[i].write(ENTRY_0=0, ENTRY_1=1, ENTRY_2=2, ENTRY_3=3)
    nic.regs.RXCSUM.write(PCSD=1)
    nic.regs.MRQC.write(MRQE=1, TCPIPV4=1, IPV4=1)
    for source, sport, destination, dport, expected in vectors:
        address = [bytes(map(int, text.split("."))) for text in (source, destination)]
        ip = (
            bytes([0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0])
            + address[0]
            + address[1]
            + struct.pack("!HH", sport, dport)
            + bytes(16)
        )
        nic.send(frame()[:12] + b"\x08\x00" + ip + bytes(20))
        queue = expected & 0x7F & 3
        done = [i for i in range(64) if nic.rx[queue].read(i)[1] & 1]
        q0, _ = nic.rx[queue].read(done[-1])
        assert (q0 >> 32, q0 & 0xF) == (expected, 1)


@pytest.mark.breaks_rules("dma_read")
def test_dma_outside_the_windows_is_a_fault_without_effect(start: Start) -> None:
    nic = start()
    nic.post(frame(), address=0x1000)
    nic.kick()
    nic.nic.step()
    assert nic.received() == []
    (fault,) = nic.nic.faults
    assert (fault.rule.name, fault.queue, fault.values[0]) == ("dma_read", 0, 0x1000)
    assert "0x1000" in str(fault)
    assert nic.regs.EICR.read().PCI_EX == 1


@pytest.mark.breaks_rules("dma_read")
def test_a_buffer_that_ends_outside_its_window_is_a_fault(start: Start) -> None:
    nic = start()
    nic.post(frame(), address=nic.tx[0].buffers.iova + nic.tx[0].buffers.size - 59)
    nic.kick()
    nic.nic.step()
    assert [fault.rule.name for fault in nic.nic.faults] == ["dma_read"]


@pytest.mark.breaks_rules("dma_write")
def test_a_receive_buffer_outside_the_windows_is_a_fault(start: Start) -> None:
    nic = start()
    nic.rx[0].write(0, 0xDEAD000, 0)
    nic.send(frame())
    assert [(fault.rule.name, fault.values) for fault in nic.nic.faults] == [("dma_write", (0xDEAD000, 60))]


def test_nothing_moves_without_bus_master(start: Start) -> None:
    nic = start()
    nic.nic.enable_bus_master(False)
    nic.send(frame())
    assert nic.received() == []
    nic.nic.enable_bus_master(True)
    nic.nic.step()
    assert nic.received() == [frame()]


@pytest.mark.parametrize(
    ("bits", "name"),
    [
        (lambda: 60 | 1 << 20 | 0x2B << 24 | 60 << 46, "transmit_descriptor_type"),
        (lambda: 60 | 3 << 20 | 0x2B << 24 | 99 << 46, "paylen"),
        (lambda: 0 | 3 << 20 | 0x2B << 24, "frame_length"),
        (lambda: 16000 | 3 << 20 | 0x2B << 24 | 16000 << 46, "buffer_length"),
        (lambda: 30 | 3 << 20 | 0x29 << 24 | 30 << 46, "ifcs_with_padding"),
    ],
)
@pytest.mark.breaks_rules()
def test_an_invalid_descriptor_is_reported_by_its_rule(start: Start, bits: Callable[[], int], name: str) -> None:
    nic = start()
    nic.tx[0].write(0, nic.tx[0].buffer(0), bits())
    nic.regs.TDT[0].write(1)
    nic.nic.step()
    assert [violation.rule.name for violation in nic.nic.violations] == [name]


@pytest.mark.breaks_rules("chain_length")
@pytest.mark.parametrize("descriptors, sent", [(40, 40), (41, 0)])
def test_a_chain_that_is_too_long_is_reported_and_sent_if_the_chip_can_hold_it(
    start: Start, descriptors: int, sent: int
) -> None:
    nic = start()
    nic.post(*[b"x" * 10] * descriptors)
    nic.kick()
    nic.nic.step()
    assert [violation.rule.name for violation in nic.nic.violations] == ["chain_length"]
    assert nic.regs.TDH[0].read() == sent


@pytest.mark.breaks_rules("tail_after_enable")
def test_tails_before_enable_are_reported(start: Start) -> None:
    nic = start(rx=0, tx=0)
    nic.regs.RDT[0].write(5)
    nic.regs.TDT[0].write(5)
    assert [violation.rule.name for violation in nic.nic.violations] == ["tail_after_enable", "tail_after_enable"]


def test_a_cable_carries_frames_in_both_directions_and_needs_both_ends(start: Start) -> None:
    first = start("cable=test")
    assert first.regs.LINKS.read().LINK_UP == 0
    assert "no port at its other end" in first.nic.link_trouble()
    second = start("cable=test")
    assert first.regs.LINKS.read().LINK_UP == 1
    first.send(frame(70))
    second.send(frame(80))
    assert second.received() == [frame(70)]
    assert first.received() == [frame(80)]
    second.close()
    assert first.regs.LINKS.read().LINK_UP == 0


def test_the_source_numbers_its_frames_and_waits_for_descriptors(start: Start) -> None:
    nic = start("source")
    for _ in range(4):
        nic.nic.step(64)
    frames = nic.received()
    assert [int.from_bytes(f[42:50], "big") for f in frames] == list(range(63))
    assert nic.regs.MPC[0].read() == 0


def test_with_paced_a_64_byte_frame_takes_67_2_ns(start: Start) -> None:
    nic = start("sink", slots=8192, paced=True)
    for _ in range(8191):
        nic.post(frame(), rs=False)
    nic.nic.step(ns=10_000_000)  # idle time is not kept for later
    nic.kick()
    assert nic.nic.step(8192) == 1
    assert nic.nic.step(8192, ns=67_200) == 1000
    assert nic.regs.TDH[0].read() == 1001
    assert nic.nic.step(8192, ns=67) == 0
    assert nic.nic.step(8192, ns=1) == 1


@pytest.mark.parametrize("length", [60, 1514])
def test_a_slow_sink_takes_a_frame_each_so_many_nanoseconds(start: Start, length: int) -> None:
    nic = start("sink=5000", slots=256)
    for _ in range(255):
        nic.post(frame().ljust(length, b"\0"), rs=False)
    nic.nic.step(ns=10_000_000)
    nic.kick()
    assert nic.nic.step(256) == 1
    assert nic.nic.step(256, ns=500_000) == 100
    assert nic.nic.step(256, ns=4_999) == 0
    assert nic.nic.step(256, ns=1) == 1


@pytest.mark.parametrize("time", ["0", "1000000001", "-1", "x"])
def test_a_sink_that_takes_frames_in_no_time_or_never_is_refused(time: str) -> None:
    with pytest.raises(WireError, match=f"sink={time}: a sink takes a frame in 1 to 1000000000 nanoseconds"):
        Emulated82599(f"sink={time}")


@pytest.mark.breaks_rules("fctrl_while_reception_is_off")
def test_a_far_end_obeys_changed_registers_while_only_the_near_end_is_stepped(start: Start) -> None:
    near, far = start("cable=test"), start("cable=test")
    far.nic.step()
    stranger = frame(to=b"\x02\x82\x59\x90\x00\x77")
    near.send(frame(fill=1), stranger)
    far.regs.FCTRL.update(UPE=0)
    near.send(stranger, frame(fill=2))
    far.regs.HLREG0.update(RXCRCSTRP=0)
    near.send(frame(fill=3))
    assert [len(received) for received in far.received()] == [60, 60, 60, 64], (
        "as the registers were when each frame came"
    )
    assert far.received()[:3] == [frame(fill=1), stranger, frame(fill=2)]
    assert far.regs.TPR.read() == 5 and far.regs.GPRC.read() == 4


def test_a_step_uses_more_descriptors_than_one_gathered_write_back_holds(start: Start) -> None:
    nic = start(slots=512)
    nic.regs.HLREG0.update(JUMBOEN=1)
    nic.regs.MAXFRS.write(MFS=9728)
    whole = [frame(5000, fill=i) for i in range(50)]
    for each in whole:
        nic.post(each[:2000], each[2000:4000], each[4000:])
    nic.kick()
    assert nic.nic.step(512) == 50
    assert nic.received() == whole


@pytest.mark.breaks_rules("dma_write")
def test_memory_unmapped_between_two_frames_is_not_touched_for_the_second(start: Start) -> None:
    nic = start()
    nic.send(frame(fill=1))
    assert nic.received() == [frame(fill=1)]
    before = nic.rx[0].bytes(1, 60)
    buffers = nic.rx[0].buffers
    nic.nic.unmap_dma_range(buffers.iova, len(buffers.view))
    nic.send(frame(fill=2))
    assert nic.rx[0].bytes(1, 60) == before
    assert [fault.values[0] for fault in nic.nic.faults] == [nic.rx[0].buffer(1)]


def test_head_registers_are_current_also_after_the_queues_were_disabled(start: Start) -> None:
    nic = start()
    nic.send(frame(), frame())
    assert (nic.regs.TDH[0].read(), nic.regs.RDH[0].read()) == (2, 2)
    nic.send(frame())
    nic.regs.TXDCTL[0].write(ENABLE=0)
    nic.regs.RXDCTL[0].write(ENABLE=0)
    assert (nic.regs.TDH[0].read(), nic.regs.RDH[0].read()) == (3, 3)
