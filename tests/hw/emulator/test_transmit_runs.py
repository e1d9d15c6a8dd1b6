"""Runs of usual frames, which the engine sends in one loop, with other frames and broken rules between them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.by_hand import ByHand, frame

USUAL = 3 << 20 | 0x2B << 24  # data, DEXT, RS, IFCS, EOP
SIZES = [60, 61, 123, 124, 251, 252, 507, 508, 1019, 1020, 1514]  # without CRC: both ends of each size counter
CONTEXT = 14 << 9 | 20, 0x2 << 20 | 0x20 << 24


@pytest.fixture
def nic() -> Iterator[ByHand]:
    nic = ByHand("loop")
    nic.send(frame(fill=200))  # the engine's first access finds the windows; a run needs them found
    yield nic
    nic.close()


def test_frames_of_all_kinds_leave_in_the_order_of_the_ring(nic: ByHand) -> None:
    expected = [frame(fill=200)]
    for lap in range(4):
        for piece in range(3):
            nic.post(frame(fill=lap + piece))
            expected.append(frame(fill=lap + piece))
        whole = frame(90, fill=100 + lap)
        nic.post(whole[:40], whole[40:])
        ring = nic.tx[0]
        ring.write(ring.tail, *CONTEXT)
        ring.tail += 1
        nic.post(frame(70, fill=lap))
        expected += [whole, frame(70, fill=lap)]
    nic.kick()
    while nic.nic.step():
        pass
    assert nic.received() == expected
    assert nic.head() == nic.tx[0].tail
    assert nic.regs.GPTC.read() == len(expected)


@pytest.mark.breaks_rules()
@pytest.mark.parametrize(
    ("bits", "rule"),
    [
        (60 | 1 << 20 | 0x2B << 24 | 60 << 46, "transmit_descriptor_type"),
        (60 | USUAL | 99 << 46, "paylen"),
        (0 | USUAL, "frame_length"),
        (16000 | USUAL | 16000 << 46, "buffer_length"),
        (30 | 3 << 20 | 0x29 << 24 | 30 << 46, "ifcs_with_padding"),
    ],
)
def test_a_broken_rule_in_a_run_is_reported_after_the_frames_before_it(nic: ByHand, bits: int, rule: str) -> None:
    nic.post(frame(fill=1))
    nic.post(frame(fill=2))
    index = nic.tx[0].tail
    nic.tx[0].write(index, nic.tx[0].buffer(index), bits)
    nic.regs.TDT[0].write(index + 1)
    nic.nic.step()
    assert [violation.rule.name for violation in nic.nic.violations] == [rule]
    assert nic.received()[1:3] == [frame(fill=1), frame(fill=2)]


@pytest.mark.breaks_rules("dma_read")
def test_a_buffer_outside_the_windows_in_a_run_is_a_fault_and_ends_the_queue(nic: ByHand) -> None:
    nic.post(frame(fill=1))
    nic.post(frame(fill=2), address=0xDEAD_0000_0000)
    nic.post(frame(fill=3))
    nic.kick()
    nic.nic.step()
    assert nic.received()[1:] == [frame(fill=1)]
    assert nic.regs.TDH[0].read() == 2


def test_each_frame_of_a_run_is_counted_by_its_size_and_its_bytes(nic: ByHand) -> None:
    regs = nic.regs
    counters = (regs.PTC64, regs.PTC127, regs.PTC255, regs.PTC511, regs.PTC1023, regs.PTC1522)
    for counter in (*counters, regs.GOTCL, regs.QBTC_L[0], regs.MPTC, regs.BPTC):
        counter.read()  # clears it
    for length in SIZES:
        nic.post(frame(length))
    nic.post(frame(to=b"\x01\0\x5e\0\0\1"))
    nic.post(frame(to=b"\xff" * 6))
    nic.kick()
    nic.nic.step()
    assert [int(counter.read()) for counter in counters] == [3, 2, 2, 2, 2, 2]
    total = sum(SIZES) + 120
    assert [int(r.read()) for r in (regs.GOTCL, regs.QBTC_L[0])] == [total + 4 * (len(SIZES) + 2), total]
    assert [int(r.read()) for r in (regs.MPTC, regs.BPTC)] == [1, 1]


def test_in_a_run_only_descriptors_with_rs_get_dd() -> None:
    nic = ByHand("sink", head_writeback=False)
    nic.send(frame())
    for last in (False, False, True, False):
        nic.post(frame(), rs=last)
    nic.kick()
    nic.nic.step()
    assert [nic.tx[0].read(i)[1] >> 32 & 1 for i in range(1, 5)] == [0, 0, 1, 0]
    nic.close()
