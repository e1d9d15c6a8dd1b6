"""Checksums, VLAN tags and segmentation of the software 82599; expected values are computed independently."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import pytest

from tests.support.by_hand import ByHand
from tests.support.checksums import total

from .packets import ACK, CWR, FIN, MAC, PSH, TCP, UDP, checksums_right, ethernet, ipv4, pseudo, tcp, udp

IXSM, TXSM, TSE, VLE = 1 << 40, 1 << 41, 1 << 31, 1 << 30
VP, L4I, IPCS, L4E, IPE = 1 << 3, 1 << 5, 1 << 6, 1 << 30, 1 << 31
CHECKSUMS = L4I | IPCS | L4E | IPE


@pytest.fixture
def nic() -> Iterator[ByHand]:
    by_hand = ByHand("loop", slots=256)
    yield by_hand
    by_hand.close()


def context(nic: ByHand, l4: int, *, l4_length: int = 0, mss: int = 0, vlan: int = 0, index: int = 0) -> None:
    """A context descriptor for Ethernet and IPv4 without options; l4: 0 UDP, 1 TCP, 2 SCTP."""
    ring = nic.tx[0]
    ring.write(
        ring.tail,
        20 | 14 << 9 | vlan << 16,
        1 << 10 | l4 << 11 | 2 << 20 | 1 << 29 | index << 36 | l4_length << 40 | mss << 48,
    )
    ring.tail += 1


def send(nic: ByHand, frame: bytes, offloads: int, headers: int = 0, index: int = 0) -> None:
    """Send a frame in pieces of at most 2 KB. headers: their length, with segmentation. index: of the context."""
    first = nic.tx[0].tail
    nic.post(*(frame[at : at + 2048] for at in range(0, len(frame), 2048)), paylen=len(frame) - headers)
    q0, q1 = nic.tx[0].read(first)
    nic.tx[0].write(first, q0, q1 | offloads | index << 36)
    nic.kick()
    while nic.nic.step():
        pass


def statuses(nic: ByHand) -> list[int]:
    """Q1 of the descriptors that were written back."""
    values = (nic.rx[0].read(index)[1] for index in range(nic.rx[0].slots))
    return [value & 0xFFFF_0000_FFFF_FFFF for value in values if value & 1]


# ---- transmit ----


@pytest.mark.parametrize(("protocol", "l4", "segment"), [(TCP, 1, tcp), (UDP, 0, udp)], ids=["tcp", "udp"])
@pytest.mark.parametrize("length", [0, 1, 18, 901])
def test_checksums_are_inserted(
    nic: ByHand, protocol: int, l4: int, segment: Callable[..., bytes], length: int
) -> None:
    payload = bytes(range(256)) * 4
    body = segment(payload[:length], check=pseudo(protocol, len(segment(payload[:length]))))
    context(nic, l4)
    send(nic, ethernet(ipv4(protocol, body)), IXSM | TXSM)
    (frame,) = nic.received()
    assert checksums_right(frame)
    assert statuses(nic)[0] & CHECKSUMS == L4I | IPCS
    assert nic.nic.violations == []


def test_a_udp_checksum_of_0_is_sent_as_ffff(nic: ByHand) -> None:
    body = udp(b"\0\0")
    filler = 0xFFFF - total(struct.pack("!H", pseudo(UDP, len(body))) + body)
    context(nic, 0)
    send(nic, ethernet(ipv4(UDP, udp(struct.pack("!H", filler), check=pseudo(UDP, len(body))))), TXSM)
    assert nic.received()[0][40:42] == b"\xff\xff"


def test_a_large_tcp_send_is_segmented(nic: ByHand) -> None:
    payload = bytes(i * 7 % 251 for i in range(10_000))
    body = tcp(payload, flags=ACK | PSH | FIN | CWR, sequence=0xFFFF_F000, check=pseudo(TCP, 0))
    context(nic, 1, l4_length=20, mss=1460)
    send(nic, ethernet(ipv4(TCP, body)), IXSM | TXSM | TSE, headers=54)
    frames = nic.received()
    assert [len(frame) - 54 for frame in frames] == [1460] * 6 + [1240]
    assert b"".join(frame[54:] for frame in frames) == payload
    assert all(checksums_right(frame) for frame in frames)
    assert [int.from_bytes(frame[18:20], "big") for frame in frames] == list(range(7, 14))
    assert [int.from_bytes(frame[38:42], "big") for frame in frames] == [
        (0xFFFF_F000 + 1460 * i) % 2**32 for i in range(7)
    ]
    assert [frame[47] for frame in frames] == [ACK | CWR] + [ACK] * 5 + [ACK | PSH | FIN]
    assert nic.nic.violations == []
    assert nic.regs.GPTC.read() == 7


def test_a_large_udp_send_is_segmented(nic: ByHand) -> None:
    context(nic, 0, l4_length=8, mss=1000)
    send(nic, ethernet(ipv4(UDP, udp(bytes(2500), check=pseudo(UDP, 0)))), IXSM | TXSM | TSE, headers=42)
    frames = nic.received()
    assert [int.from_bytes(frame[38:40], "big") for frame in frames] == [1008, 1008, 508]
    assert all(checksums_right(frame) for frame in frames)


def test_ipv6_segments_get_their_payload_length(nic: ByHand) -> None:
    addresses = bytes(15) + b"\1" + bytes(15) + b"\2"
    body = tcp(bytes(3000), check=total(addresses + struct.pack("!IBBBB", 0, 0, 0, 0, TCP)))
    ring = nic.tx[0]
    ring.write(ring.tail, 40 | 14 << 9, 1 << 11 | 2 << 20 | 1 << 29 | 20 << 40 | 1440 << 48)
    ring.tail += 1
    send(nic, ethernet(struct.pack("!IHBB", 6 << 28, 0, TCP, 64) + addresses + body, 0x86DD), TXSM | TSE, headers=74)
    frames = nic.received()
    assert [int.from_bytes(frame[18:20], "big") for frame in frames] == [1460, 1460, 140]
    assert [status & CHECKSUMS for status in statuses(nic)[:1]] == [L4I]


def test_a_queue_keeps_two_contexts(nic: ByHand) -> None:
    context(nic, 0, vlan=5, index=0)
    context(nic, 0, vlan=6, index=1)
    for index in (1, 0, 1):
        send(nic, ethernet(bytes(60), 0x88B5), VLE, index=index)
    assert [frame[12:16] for frame in nic.received()] == [b"\x81\x00\0\x06", b"\x81\x00\0\x05", b"\x81\x00\0\x06"]


@pytest.mark.breaks_rules()
def test_a_frame_that_does_not_fit_its_context_is_reported_and_stops_the_queue(nic: ByHand) -> None:
    send(nic, ethernet(ipv4(TCP, tcp(b""))), TXSM | TSE)
    assert [violation.rule.name for violation in nic.nic.violations if violation.rule.name != "paylen"] == [
        "context_before_use"
    ]
    assert nic.received() == []


@pytest.mark.parametrize(
    ("q0", "q1"), [(0, 0), (0x1FF | 0x7F << 9, 0), (511, 3 << 11), (20 | 14 << 9, 1 << 11 | 0xFF << 40 | 0xFFFF << 48)]
)
@pytest.mark.breaks_rules()
def test_no_context_makes_the_engine_look_outside_the_frame(nic: ByHand, q0: int, q1: int) -> None:
    nic.tx[0].write(0, q0, q1 | 2 << 20 | 1 << 29)
    nic.tx[0].tail = 1
    for offloads in (IXSM, TXSM, TSE, VLE, IXSM | TXSM | TSE | VLE):
        send(nic, ethernet(ipv4(TCP, tcp(bytes(20)))), offloads)
        nic.regs.TXDCTL[0].update(ENABLE=0)
        nic.regs.TXDCTL[0].update(ENABLE=1)
        nic.tx[0].tail = int(nic.regs.TDH[0].read())


# ---- receive ----


def status_of(nic: ByHand, frame: bytes) -> int:
    """Loop this frame back unchanged; returns the status and errors of its descriptor."""
    nic.send(frame)
    return statuses(nic)[-1]


def test_wrong_checksums_are_reported_and_the_frame_is_received(nic: ByHand) -> None:
    body = tcp(b"hello")
    packet = bytearray(ipv4(TCP, body))
    packet[10:12] = (0xFFFF - total(bytes(packet[:20]))).to_bytes(2, "big")
    assert status_of(nic, ethernet(bytes(packet))) & CHECKSUMS == IPCS | L4I | L4E
    packet[8] -= 1
    assert status_of(nic, ethernet(bytes(packet))) & CHECKSUMS == IPCS | IPE | L4I | L4E
    assert len(nic.received()) == 2


@pytest.mark.parametrize("change", ["fragment", "no checksum", "truncated", "other protocol"])
def test_a_checksum_that_cannot_be_checked_has_no_l4i(nic: ByHand, change: str) -> None:
    packet = bytearray(ipv4(UDP, udp(b"hello", check=0 if change == "no checksum" else 1)))
    if change == "fragment":
        packet[6] = 0x20
    elif change == "truncated":
        packet[2:4] = (900).to_bytes(2, "big")
    elif change == "other protocol":
        packet[9] = 99
    assert not status_of(nic, ethernet(bytes(packet))) & (L4I | L4E)


def test_a_tag_is_stripped_only_in_a_queue_with_vme(nic: ByHand) -> None:
    tagged = MAC + b"\x02\0\0\0\0\x02" + b"\x81\x00\x60\x07" + b"\x88\xb5" + bytes(60)
    nic.send(tagged)
    nic.regs.RXDCTL[0].update(VME=1)
    nic.send(tagged)
    assert nic.received() == [tagged, tagged[:12] + tagged[16:]]
    first, second = (nic.rx[0].read(index)[1] for index in (0, 1))
    assert not first & VP and second & VP and second >> 48 == 0x6007


def test_the_vlan_filter_accepts_the_vlans_in_its_table(nic: ByHand) -> None:
    def tagged(vlan: int) -> bytes:
        return MAC + b"\x02\0\0\0\0\x02" + b"\x81\x00" + struct.pack("!H", vlan) + b"\x88\xb5" + bytes(60)

    nic.regs.VLNCTRL.update(VFE=1)
    nic.regs.VFTA[2].write(1 << 5)  # 69
    nic.send(tagged(69), tagged(70), tagged(5), ethernet(bytes(60), 0x88B5))
    assert nic.received() == [tagged(69), ethernet(bytes(60), 0x88B5)]


def test_mac_loopback_needs_no_link() -> None:
    nic = ByHand("sink")
    try:
        nic.nic.set_link(False)
        nic.regs.HLREG0.update(LPBK=1)
        frame = ethernet(bytes(60), 0x88B5)
        nic.send(frame)
        assert nic.received() == [frame]
    finally:
        nic.close()
