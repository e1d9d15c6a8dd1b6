"""Frames sent without IFCS: their last four bytes are the CRC, and the receiver checks it (82599 7.2.3.2.2)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest

from ixrings import open_port
from ixrings.hw.capture.pcap import read_capture
from ixrings.hw.emulator import Emulated82599
from ixrings.rings.layout import SlotFlag
from tests.support.by_hand import ByHand, frame
from tests.support.programs import wait_for

RXE = 1 << 29


@pytest.fixture
def nic() -> Iterator[ByHand]:
    nic = ByHand("loop")
    yield nic
    nic.close()


def right(bytes_of_frame: bytes) -> bytes:
    return bytes_of_frame + zlib.crc32(bytes_of_frame).to_bytes(4, "little")


def wrong(bytes_of_frame: bytes, bit: int = 0) -> bytes:
    crc = zlib.crc32(bytes_of_frame) ^ 1 << bit
    return bytes_of_frame + crc.to_bytes(4, "little")


def send(nic: ByHand, *frames: bytes) -> None:
    for each in frames:
        nic.post(each, ifcs=False)
    nic.kick()
    while nic.nic.step():
        pass


def test_a_frame_with_a_right_crc_is_received_without_it(nic: ByHand) -> None:
    draw = Random(5)
    frames = [frame(length, fill=draw.randrange(256)) for length in (60, 61, 67, 68, 100, 1514)]
    send(nic, *map(right, frames))
    assert nic.received() == frames
    assert nic.regs.CRCERRS.read() == 0 and nic.regs.GPRC.read() == nic.regs.GPTC.read() == len(frames)
    assert nic.regs.PRC64.read() == 1 and nic.regs.GORCL.read() == sum(map(len, frames)) + 4 * len(frames)


@pytest.mark.parametrize("bit", [0, 31])
def test_a_frame_with_one_wrong_bit_in_its_crc_is_an_error_and_in_no_ring(nic: ByHand, bit: int) -> None:
    send(nic, wrong(frame(60), bit), wrong(frame(1514), bit))
    nic.send(frame(70))
    assert nic.received() == [frame(70)]
    assert nic.regs.CRCERRS.read() == 2 and nic.regs.GPRC.read() == 1 and nic.regs.TPR.read() == 3
    assert nic.regs.GPTC.read() == 3 and nic.regs.GOTCL.read() == 64 + 1518 + 74


def test_frames_of_several_buffers_bring_their_crc_too(nic: ByHand) -> None:
    whole = right(frame(200))
    nic.post(whole[:50], whole[50:198], whole[198:], ifcs=False)
    broken = wrong(frame(200))
    nic.post(broken[:199], broken[199:], ifcs=False)
    nic.kick()
    while nic.nic.step():
        pass
    assert nic.received() == [frame(200)] and nic.regs.CRCERRS.read() == 1


@pytest.mark.breaks_rules("ifcs_with_padding")
def test_a_short_frame_is_not_padded_and_counts_as_undersize_or_as_a_fragment(nic: ByHand) -> None:
    send(nic, right(frame(59)), wrong(frame(40)))
    assert nic.received() == []
    assert (nic.regs.RUC.read(), nic.regs.RFC.read(), nic.regs.CRCERRS.read()) == (1, 1, 0)
    assert [each.rule.name for each in nic.nic.violations] == ["ifcs_with_padding"] * 2


def test_a_frame_that_is_too_long_with_a_wrong_crc_is_jabber(nic: ByHand) -> None:
    send(nic, wrong(frame(1515)))
    assert (nic.regs.RJC.read(), nic.regs.ROC.read(), nic.regs.CRCERRS.read()) == (1, 0, 0)


@pytest.mark.parametrize("strip", [True, False])
def test_with_sbp_it_is_stored_with_rxe_and_with_its_wrong_crc_unless_crcs_are_stripped(strip: bool) -> None:
    nic = ByHand("loop")
    nic.regs.RXCTRL.write(RXEN=0)
    nic.regs.FCTRL.update(SBP=1)
    nic.regs.RDRXCTL.update(CRCSTRIP=int(strip))
    nic.regs.HLREG0.update(RXCRCSTRP=int(strip))
    nic.start_reception()
    send(nic, wrong(frame(80)), right(frame(81)))
    first, second = (wrong(frame(80)), right(frame(81))) if not strip else (frame(80), frame(81))
    assert nic.received() == [first, second]
    assert [bool(nic.rx[0].read(i)[1] & RXE) for i in range(2)] == [True, False]
    assert nic.regs.CRCERRS.read() == 1 and nic.regs.GPRC.read() == 1
    nic.close()


def test_the_far_end_of_a_cable_counts_it() -> None:
    far = ByHand("cable=own-crc", manual=False)
    near = ByHand("cable=own-crc")
    send(near, wrong(frame(60)), right(frame(61)))
    wait_for(lambda: far.received() == [frame(61)], "the good frame did not arrive")
    assert far.regs.CRCERRS.read() == 1
    near.close()
    far.close()


def test_a_capture_has_the_frames_with_a_right_crc_only_and_without_it(tmp_path: Path) -> None:
    nic = ByHand(f"pcap=,{tmp_path / 'out.pcap'}")
    send(nic, wrong(frame(60)), right(frame(61)))
    nic.close()
    capture = read_capture(str(tmp_path / "out.pcap"))
    assert capture.lengths.tolist() == [61] and capture.data[capture.offsets[0] :][:61].tobytes() == frame(61)


# ---- the record of departures ----


def test_departures_are_in_wire_bytes_and_say_which_frames_were_damaged() -> None:
    nic = ByHand("sink")
    record = nic.nic.record_departures(3)
    nic.send(frame(60))
    send(nic, wrong(frame(100)))
    nic.send(frame(1514), frame(60))
    frames = record.frames()
    assert frames["position"].tolist() == [0, 84, 84 + 124]
    assert frames["bytes"].tolist() == [64, 104, 1518] and frames["damaged"].tolist() == [0, 1, 0]
    assert (record.count, record.lost) == (4, 1)
    record.end()
    nic.send(frame(60))
    assert record.count == 4 and len(record.frames()) == 3
    nic.close()


def test_on_a_paced_wire_idle_time_is_between_departures() -> None:
    nic = ByHand("sink", paced=True)
    record = nic.nic.record_departures()
    nic.nic.step(64, 100_000)
    for _ in range(2):
        nic.post(frame(60))
        nic.post(frame(60))
        nic.kick()
        nic.nic.step(64, 8000)
        nic.nic.step(64, 8000)
    assert np.diff(record.frames()["position"]).tolist() == [84, 20_000 - 84, 84]
    nic.close()


def test_a_second_record_ends_the_first_and_close_ends_both() -> None:
    with Emulated82599("sink") as nic:
        first = nic.record_departures()
        second = nic.record_departures(5)
        with pytest.raises(ValueError, match="room for 1 frame or more, not 0"):
            nic.record_departures(0)
    assert (first.count, second.count, len(first.frames())) == (0, 0, 0)


def test_a_departure_says_which_queue_sent_the_frame() -> None:
    nic = ByHand("sink", tx=3)
    record = nic.nic.record_departures()
    for queue in (2, 0, 1):
        nic.send(frame(60), queue=queue)
    assert record.frames()["queue"].tolist() == [2, 0, 1]
    nic.close()


def test_a_virtual_function_s_frame_with_a_wrong_crc_reaches_the_far_end_as_an_error() -> None:
    far = ByHand("cable=own-crc-vf", manual=False)
    with open_port("emulated-vf:cable=own-crc-vf") as port:
        port.wait_link(20)
        source = bytes.fromhex(port.mac.replace(":", ""))
        good = b"\xff" * 6 + source + frame(80)[12:]
        span = port.tx_rings[0].reserve(2)
        for row, sent in enumerate((wrong(good), right(good))):
            port.buffers[span.buf_idx[row], : len(sent)] = np.frombuffer(sent, np.uint8)
        span.len[:], span.flags[:] = len(sent), int(SlotFlag.NS_OWN_CRC)
        port.tx_rings[0].advance(2)
        port.flush(20)
        wait_for(lambda: far.received() == [good], "the good frame did not arrive")
        assert far.regs.CRCERRS.read() == 1
    far.close()
