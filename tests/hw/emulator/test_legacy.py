"""Legacy descriptors of the software 82599, as a driver from before the advanced ones would use them (82599 7.1.5, 7.2.3.2.2)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

from tests.hw.emulator.test_offload import TCP, UDP, ethernet, ipv4, pseudo, right, tcp, total, udp
from tests.support.by_hand import BUFFER, ByHand, frame

EOP, IFCS, IC, RS, VLE = 0x01, 0x02, 0x04, 0x08, 0x40  # CMD
PLAIN = EOP | IFCS | RS
DD = 1 << 32  # in Q1, of either direction
RX_EOP, VP, UDPCS, L4CS, IPCS = 0x02, 0x08, 0x10, 0x20, 0x40  # status
TCPE, IPE = 0x40, 0x80  # errors
L4_AT, TCP_CHECKSUM_AT = 34, 50


@pytest.fixture
def nic() -> Iterator[ByHand]:
    """Its receive ring has legacy descriptors; of what it sends DD is written back."""
    by_hand = ByHand("loop", legacy=True, head_writeback=False)
    yield by_hand
    by_hand.close()


def put(nic: ByHand, piece: bytes, command: int = PLAIN, *, cso: int = 0, css: int = 0, vlan: int = 0) -> int:
    """A legacy descriptor behind the last; returns its Q1."""
    ring = nic.tx[0]
    ring.buffers.view[ring.tail * BUFFER : ring.tail * BUFFER + len(piece)] = list(piece)
    q1 = len(piece) | cso << 16 | command << 24 | css << 40 | vlan << 48
    ring.write(ring.tail, ring.buffer(ring.tail), q1)
    ring.tail = (ring.tail + 1) % ring.slots
    return q1


def go(nic: ByHand) -> None:
    nic.kick()
    while nic.nic.step():
        pass


def came(nic: ByHand) -> list[tuple[bytes, int, int, int, int]]:
    """Of each descriptor written back: bytes, fragment checksum, status, errors, VLAN tag."""
    found: list[tuple[bytes, int, int, int, int]] = []
    for index in range(nic.rx[0].slots):
        q0, q1 = nic.rx[0].read(index)
        if not q1 & DD:
            return found
        assert q0 == nic.rx[0].buffer(index), "the address stays in a legacy write-back"
        length, checksum, status, errors, tag = struct.unpack("<HHBBH", struct.pack("<Q", q1))
        found.append((nic.rx[0].bytes(index, length), checksum, status & ~1, errors, tag))
    return found


def test_a_frame_goes_out_and_comes_in_and_both_descriptors_say_so(nic: ByHand) -> None:
    q1 = put(nic, frame(100))
    go(nic)
    assert nic.tx[0].read(0)[1] == q1 | DD, "a legacy write-back keeps what stood there"
    assert came(nic) == [(frame(100), 0, RX_EOP, 0, 0)]
    assert nic.regs.QPTC[0].read() == nic.regs.QPRC[0].read() == 1
    assert nic.nic.violations == []


def test_dd_comes_where_rs_asks_for_it(nic: ByHand) -> None:
    put(nic, frame(), EOP | IFCS)
    put(nic, frame())
    go(nic)
    assert [nic.tx[0].read(index)[1] >> 32 & 1 for index in range(2)] == [0, 1]


def test_head_write_back_is_for_legacy_descriptors_too() -> None:
    nic = ByHand("loop", legacy=True)
    try:
        q1 = put(nic, frame())
        go(nic)
        assert nic.head() == 1 and nic.tx[0].read(0)[1] == q1
    finally:
        nic.close()


def test_a_frame_in_pieces_waits_for_its_end_and_fills_several_buffers(nic: ByHand) -> None:
    nic.regs.HLREG0.update(JUMBOEN=1)
    nic.regs.MAXFRS.write(MFS=9728)
    whole = frame(3000)
    put(nic, whole[:10], IFCS)
    put(nic, whole[10:2000], IFCS)
    put(nic, whole[2000:], EOP | RS | IFCS)
    go(nic)
    assert came(nic) == [(whole[:2048], 0, 0, 0, 0), (whole[2048:], 0, RX_EOP, 0, 0)]
    assert nic.nic.violations == []


def test_a_descriptor_without_bytes_may_stand_between_frames(nic: ByHand) -> None:
    put(nic, frame(fill=1))
    put(nic, b"")
    put(nic, frame(fill=2))
    go(nic)
    assert [each[0] for each in came(nic)] == [frame(fill=1), frame(fill=2)]
    assert [nic.tx[0].read(index)[1] >> 32 & 1 for index in range(3)] == [1, 1, 1]
    assert nic.nic.violations == []


def test_a_short_frame_is_padded(nic: ByHand) -> None:
    put(nic, frame(20))
    go(nic)
    assert came(nic)[0][0] == frame(20) + bytes(40)


@pytest.mark.parametrize("length", [0, 1, 6, 901])
def test_a_checksum_is_put_in_at_cso_over_all_from_css_on(nic: ByHand, length: int) -> None:
    """Software leaves the pseudo header's sum where the checksum goes, and the IP checksum is its own affair."""
    body = tcp(bytes(range(256)) * 4, check=0)[: 20 + length]
    body = body[:16] + struct.pack("!H", pseudo(TCP, len(body))) + body[18:]
    packet = bytearray(ipv4(TCP, body))
    packet[10:12] = (0xFFFF - total(bytes(packet[:20]))).to_bytes(2, "big")
    put(nic, ethernet(bytes(packet)), PLAIN | IC, cso=TCP_CHECKSUM_AT, css=L4_AT)
    go(nic)
    ((sent, _, status, errors, _),) = came(nic)
    assert right(sent)
    assert (status & (L4CS | IPCS), errors) == (L4CS | IPCS, 0)
    assert nic.nic.violations == []


def test_a_tag_is_put_in_and_the_checksums_place_does_not_count_it(nic: ByHand) -> None:
    body = tcp(b"hello", check=pseudo(TCP, 25))
    put(nic, ethernet(ipv4(TCP, body)), PLAIN | IC | VLE, cso=TCP_CHECKSUM_AT, css=L4_AT, vlan=0x6007)
    go(nic)
    ((sent, _, status, _, tag),) = came(nic)
    assert sent[12:16] == b"\x81\x00\x60\x07" and not status & VP and not tag
    untagged = sent[:12] + sent[16:]
    assert total(struct.pack("!H", pseudo(TCP, 25)) + untagged[L4_AT : L4_AT + 25]) == 0xFFFF
    assert nic.nic.violations == []


@pytest.mark.parametrize(("cso", "css"), [(59, 34), (200, 34), (50, 61), (255, 255)])
@pytest.mark.breaks_rules("legacy_checksum_place")
def test_a_checksum_outside_the_frame_is_left_out_and_told(nic: ByHand, cso: int, css: int) -> None:
    put(nic, frame(60), PLAIN | IC, cso=cso, css=css)
    go(nic)
    assert came(nic)[0][0] == frame(60)
    assert [violation.values for violation in nic.nic.violations] == [(css, cso)]


def test_a_stripped_tag_and_checksum_errors_stand_in_the_descriptor(nic: ByHand) -> None:
    nic.regs.RXDCTL[0].update(VME=1)
    broken = ethernet(ipv4(TCP, tcp(b"hello")))
    put(nic, broken, PLAIN | VLE, vlan=5)
    go(nic)
    ((sent, _, status, errors, tag),) = came(nic)
    assert (sent[: len(broken)], tag) == (broken, 5)
    assert status & (VP | L4CS | IPCS) == VP | L4CS | IPCS and errors == TCPE | IPE


@pytest.mark.breaks_rules("rxcsum_while_reception_is_off")
def test_a_udp_fragment_has_its_sum_when_rxcsum_asks_for_it(nic: ByHand) -> None:
    payload = udp(bytes(range(100)))
    fragment = bytearray(ipv4(UDP, payload))
    fragment[6] = 0x20
    for asked, expected in (({}, 0), ({"IPPCSE": 1, "PCSD": 1}, 0), ({"IPPCSE": 1}, total(payload))):
        nic.regs.RXCSUM.write(**asked)
        put(nic, ethernet(bytes(fragment)))
        put(nic, ethernet(ipv4(UDP, payload)))
        go(nic)
        assert [each[1] for each in came(nic)[-2:]] == [expected, 0]


def test_legacy_and_advanced_frames_may_follow_each_other(nic: ByHand) -> None:
    put(nic, frame(fill=1))
    nic.post(frame(fill=2))
    put(nic, frame(fill=3))
    go(nic)
    assert [each[0] for each in came(nic)] == [frame(fill=number) for number in (1, 2, 3)]
    assert [nic.tx[0].read(index)[1] >> 32 & 1 for index in range(3)] == [1, 1, 1]


@pytest.mark.breaks_rules("transmit_descriptor_type")
@pytest.mark.parametrize("legacy_first", [True, False])
def test_but_not_in_one_frame(nic: ByHand, legacy_first: bool) -> None:
    if legacy_first:
        put(nic, frame(), IFCS)
    nic.post(frame(), b"x" * 10) if not legacy_first else nic.post(frame())
    if not legacy_first:
        nic.tx[0].write(1, nic.tx[0].buffer(1), 10 | PLAIN << 24)
    go(nic)
    assert came(nic) == []
    assert [violation.rule.name for violation in nic.nic.violations] == ["transmit_descriptor_type"]


def test_queues_of_both_kinds_receive_side_by_side() -> None:
    nic = ByHand("loop", rx=2)
    try:
        nic.regs.ETQS[0].write(RX_QUEUE=2, QUEUE_EN=1)
        nic.regs.ETQF[0].write(ETYPE=0x88B5, FILTER_EN=1)
        nic.rx = [nic.receive_queue(2, legacy=True)]
        nic.send(frame())
        assert came(nic) == [(frame(), 0, RX_EOP, 0, 0)]
    finally:
        nic.close()


@pytest.mark.breaks_rules()
def test_no_legacy_descriptor_makes_the_engine_look_outside_the_frame(nic: ByHand) -> None:
    for number in range(60):
        put(nic, b"\x02" * (1 + number), PLAIN | IC | VLE | 0x90, cso=number * 37 & 0xFF, css=number * 91 & 0xFF)
        go(nic)
    assert len(came(nic)) == 60
