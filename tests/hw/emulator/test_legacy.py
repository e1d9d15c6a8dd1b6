"""Legacy descriptors of the software 82599 (82599 7.1.5, 7.2.3.2.2)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from tests.support.by_hand import BUFFER, ByHand, frame
from tests.support.checksums import total

from .packets import TCP, UDP, checksums_right, ethernet, ipv4, pseudo, tcp, udp

EOP, IFCS, IC, RS, VLE = 0x01, 0x02, 0x04, 0x08, 0x40  # CMD
PLAIN = EOP | IFCS | RS
DD = 1 << 32  # in Q1, in both directions
RX_EOP, VP, UDPCS, L4CS, IPCS = 0x02, 0x08, 0x10, 0x20, 0x40  # status
TCPE, IPE = 0x40, 0x80  # errors
L4_AT, TCP_CHECKSUM_AT = 34, 50


@pytest.fixture
def nic() -> Iterator[ByHand]:
    """A NIC with legacy receive descriptors and without head write-back, so sent descriptors get DD."""
    by_hand = ByHand("loop", legacy=True, head_writeback=False)
    yield by_hand
    by_hand.close()


def put(nic: ByHand, piece: bytes, command: int = PLAIN, *, cso: int = 0, css: int = 0, vlan: int = 0) -> int:
    """Write the next legacy descriptor; returns its Q1."""
    ring = nic.tx[0]
    ring.buffers.view[ring.tail * BUFFER : ring.tail * BUFFER + len(piece)] = list(piece)
    q1 = len(piece) | cso << 16 | command << 24 | css << 40 | vlan << 48
    ring.write(ring.tail, ring.buffer(ring.tail), q1)
    ring.tail = (ring.tail + 1) % ring.slots
    return q1


def send_all(nic: ByHand) -> None:
    nic.kick()
    while nic.nic.step():
        pass


def written_back(nic: ByHand) -> list[tuple[bytes, int, int, int, int]]:
    """For each receive descriptor with DD: bytes, fragment checksum, status, errors, VLAN tag."""
    found: list[tuple[bytes, int, int, int, int]] = []
    for index in range(nic.rx[0].slots):
        q0, q1 = nic.rx[0].read(index)
        if not q1 & DD:
            return found
        assert q0 == nic.rx[0].buffer(index), "the address stays in a legacy write-back"
        length, checksum, status, errors, tag = struct.unpack("<HHBBH", struct.pack("<Q", q1))
        found.append((nic.rx[0].bytes(index, length), checksum, status & ~1, errors, tag))
    return found


def test_a_frame_is_sent_and_received_and_both_descriptors_are_written_back(nic: ByHand) -> None:
    q1 = put(nic, frame(100))
    send_all(nic)
    assert nic.tx[0].read(0)[1] == q1 | DD, "a legacy write-back keeps the other bits"
    assert written_back(nic) == [(frame(100), 0, RX_EOP, 0, 0)]
    assert nic.regs.QPTC[0].read() == nic.regs.QPRC[0].read() == 1
    assert nic.nic.violations == []


def test_only_descriptors_with_rs_get_dd(nic: ByHand) -> None:
    put(nic, frame(), EOP | IFCS)
    put(nic, frame())
    send_all(nic)
    assert [nic.tx[0].read(index)[1] >> 32 & 1 for index in range(2)] == [0, 1]


def test_head_write_back_works_for_legacy_descriptors() -> None:
    nic = ByHand("loop", legacy=True)
    try:
        q1 = put(nic, frame())
        send_all(nic)
        assert nic.head() == 1 and nic.tx[0].read(0)[1] == q1
    finally:
        nic.close()


def test_a_frame_in_pieces_waits_for_its_last_piece_and_fills_several_buffers(nic: ByHand) -> None:
    nic.regs.HLREG0.update(JUMBOEN=1)
    nic.regs.MAXFRS.write(MFS=9728)
    whole = frame(3000)
    put(nic, whole[:10], IFCS)
    put(nic, whole[10:2000], IFCS)
    put(nic, whole[2000:], EOP | RS | IFCS)
    send_all(nic)
    assert written_back(nic) == [(whole[:2048], 0, 0, 0, 0), (whole[2048:], 0, RX_EOP, 0, 0)]
    assert nic.nic.violations == []


def test_an_empty_descriptor_between_frames_is_skipped(nic: ByHand) -> None:
    put(nic, frame(fill=1))
    put(nic, b"")
    put(nic, frame(fill=2))
    send_all(nic)
    assert [each[0] for each in written_back(nic)] == [frame(fill=1), frame(fill=2)]
    assert [nic.tx[0].read(index)[1] >> 32 & 1 for index in range(3)] == [1, 1, 1]
    assert nic.nic.violations == []


def test_a_short_frame_is_padded(nic: ByHand) -> None:
    put(nic, frame(20))
    send_all(nic)
    assert written_back(nic)[0][0] == frame(20) + bytes(40)


@pytest.mark.parametrize("length", [0, 1, 6, 901])
def test_the_checksum_from_css_to_the_end_is_inserted_at_cso(nic: ByHand, length: int) -> None:
    """Software writes the pseudo header's sum into the checksum field, and the IP checksum itself."""
    body = tcp(bytes(range(256)) * 4, check=0)[: 20 + length]
    body = body[:16] + struct.pack("!H", pseudo(TCP, len(body))) + body[18:]
    packet = bytearray(ipv4(TCP, body))
    packet[10:12] = (0xFFFF - total(bytes(packet[:20]))).to_bytes(2, "big")
    put(nic, ethernet(bytes(packet)), PLAIN | IC, cso=TCP_CHECKSUM_AT, css=L4_AT)
    send_all(nic)
    ((sent, _, status, errors, _),) = written_back(nic)
    assert checksums_right(sent)
    assert (status & (L4CS | IPCS), errors) == (L4CS | IPCS, 0)
    assert nic.nic.violations == []


def test_a_tag_is_inserted_and_does_not_shift_cso(nic: ByHand) -> None:
    body = tcp(b"hello", check=pseudo(TCP, 25))
    put(nic, ethernet(ipv4(TCP, body)), PLAIN | IC | VLE, cso=TCP_CHECKSUM_AT, css=L4_AT, vlan=0x6007)
    send_all(nic)
    ((sent, _, status, _, tag),) = written_back(nic)
    assert sent[12:16] == b"\x81\x00\x60\x07" and not status & VP and not tag
    untagged = sent[:12] + sent[16:]
    assert total(struct.pack("!H", pseudo(TCP, 25)) + untagged[L4_AT : L4_AT + 25]) == 0xFFFF
    assert nic.nic.violations == []


@pytest.mark.parametrize(("cso", "css"), [(59, 34), (200, 34), (50, 61), (255, 255)])
@pytest.mark.breaks_rules("legacy_checksum_place")
def test_a_checksum_outside_the_frame_is_not_inserted_but_reported(nic: ByHand, cso: int, css: int) -> None:
    put(nic, frame(60), PLAIN | IC, cso=cso, css=css)
    send_all(nic)
    assert written_back(nic)[0][0] == frame(60)
    assert [violation.values for violation in nic.nic.violations] == [(css, cso)]


def test_the_descriptor_has_the_stripped_tag_and_checksum_errors(nic: ByHand) -> None:
    nic.regs.RXDCTL[0].update(VME=1)
    broken = ethernet(ipv4(TCP, tcp(b"hello")))
    put(nic, broken, PLAIN | VLE, vlan=5)
    send_all(nic)
    ((sent, _, status, errors, tag),) = written_back(nic)
    assert (sent[: len(broken)], tag) == (broken, 5)
    assert status & (VP | L4CS | IPCS) == VP | L4CS | IPCS and errors == TCPE | IPE


@pytest.mark.breaks_rules("rxcsum_while_reception_is_off")
def test_a_udp_fragment_has_its_checksum_with_rxcsum_ippcse(nic: ByHand) -> None:
    payload = udp(bytes(range(100)))
    fragment = bytearray(ipv4(UDP, payload))
    fragment[6] = 0x20
    for asked, expected in (({}, 0), ({"IPPCSE": 1, "PCSD": 1}, 0), ({"IPPCSE": 1}, total(payload))):
        nic.regs.RXCSUM.write(**asked)
        put(nic, ethernet(bytes(fragment)))
        put(nic, ethernet(ipv4(UDP, payload)))
        send_all(nic)
        assert [each[1] for each in written_back(nic)[-2:]] == [expected, 0]


def test_legacy_and_advanced_frames_may_follow_each_other(nic: ByHand) -> None:
    put(nic, frame(fill=1))
    nic.post(frame(fill=2))
    put(nic, frame(fill=3))
    send_all(nic)
    assert [each[0] for each in written_back(nic)] == [frame(fill=number) for number in (1, 2, 3)]
    assert [nic.tx[0].read(index)[1] >> 32 & 1 for index in range(3)] == [1, 1, 1]


@pytest.mark.breaks_rules("transmit_descriptor_type")
@pytest.mark.parametrize("legacy_first", [True, False])
def test_legacy_and_advanced_descriptors_in_one_frame_are_reported(nic: ByHand, legacy_first: bool) -> None:
    if legacy_first:
        put(nic, frame(), IFCS)
        nic.post(frame())
    else:
        nic.post(frame(), b"x" * 10)
        nic.tx[0].write(1, nic.tx[0].buffer(1), 10 | PLAIN << 24)
    send_all(nic)
    assert written_back(nic) == []
    assert [violation.rule.name for violation in nic.nic.violations] == ["transmit_descriptor_type"]


def test_queues_with_legacy_and_with_advanced_descriptors_receive_side_by_side() -> None:
    nic = ByHand("loop", rx=2)
    try:
        nic.regs.ETQS[0].write(RX_QUEUE=2, QUEUE_EN=1)
        nic.regs.ETQF[0].write(ETYPE=0x88B5, FILTER_EN=1)
        nic.rx = [nic.receive_queue(2, legacy=True)]
        nic.send(frame())
        assert written_back(nic) == [(frame(), 0, RX_EOP, 0, 0)]
    finally:
        nic.close()


@pytest.mark.breaks_rules()
def test_no_legacy_descriptor_makes_the_engine_look_outside_the_frame(nic: ByHand) -> None:
    for number in range(60):
        put(nic, b"\x02" * (1 + number), PLAIN | IC | VLE | 0x90, cso=number * 37 & 0xFF, css=number * 91 & 0xFF)
        send_all(nic)
    assert len(written_back(nic)) == 60
