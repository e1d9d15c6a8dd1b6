"""Offloads: VLAN tags, checksums, segmentation. The tests compute the expected frames independently."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import pytest

from ixrings import Checksum, Offload, Port, open_port
from ixrings.rings import RxRing, Span
from ixrings.rings.layout import SlotFlag
from tests.support.arrivals import came
from tests.support.checksums import total
from tests.support.driver_watch import emulated

OTHER = b"\x02\0\0\0\0\x02"
TCP, UDP, SCTP, IGMP = 6, 17, 132, 2
FIN, PSH, ACK, CWR = 0x01, 0x08, 0x10, 0x80
FOUR = bytes([10, 0, 0, 1, 10, 0, 0, 2])
SIX = bytes(15) + b"\1" + bytes(15) + b"\2"
GOOD = Checksum.IP_CHECKED | Checksum.L4_CHECKED


@pytest.fixture
def port() -> Iterator[Port]:
    with open_port("emulated", promiscuous=True, rx_queues=2) as port:
        yield port


def inverted(value: int) -> bytes:
    return struct.pack("!H", ~value & 0xFFFF)


def ethernet(packet: bytes, kind: int = 0x0800, tag: bytes = b"") -> bytes:
    return OTHER + OTHER + tag + struct.pack("!H", kind) + packet


def tag(tci: int) -> bytes:
    return b"\x81\x00" + struct.pack("!H", tci)


def plain(number: int, tci: int | None = None) -> bytes:
    return ethernet(bytes([number]) * 50, 0x88B5, b"" if tci is None else tag(tci))


def l4(protocol: int, payload: bytes, addresses: bytes, sequence: int = 1000, flags: int = ACK) -> bytes:
    """A TCP segment or UDP datagram with its checksum."""
    if protocol == TCP:
        before, after = struct.pack("!HHIIBBH", 1, 2, sequence, 0, 5 << 4, flags, 100), bytes(2) + payload
    else:
        before, after = struct.pack("!HHH", 1, 2, 8 + len(payload)), payload
    pseudo = addresses + struct.pack("!II", len(before) + 2 + len(after), protocol)
    return before + (inverted(total(pseudo + before + bytes(2) + after))) + after


def ip4(protocol: int, body: bytes, number: int = 7, fragment: int = 0) -> bytes:
    start = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(body), number, fragment, 64, protocol)
    return start + inverted(total(start + FOUR)) + FOUR + body


def ip6(protocol: int, body: bytes, number: int = 0) -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(body), protocol, 64) + SIX + body


def packet(version: int, protocol: int, payload: bytes, part: int = 0, at: int = 0, flags: int = ACK) -> bytes:
    """A correct Ethernet frame. part, at: the number of the segment, and its offset in the stream."""
    body = l4(protocol, payload, FOUR if version == 4 else SIX, (0xFFFF_F000 + at) % 2**32, flags)
    return ethernet(ip4(protocol, body, 7 + part)) if version == 4 else ethernet(ip6(protocol, body), 0x86DD)


def unfinished(frame: bytes, version: int, protocol: int, *, lengths: bool = False) -> bytes:
    """The frame with wrong values in the fields that the NIC fills in."""
    ip, body = 14, 34 if version == 4 else 54
    changed = bytearray(frame)
    check = body + (16 if protocol == TCP else 6)
    changed[check : check + 2] = b"\xab\xcd"
    if version == 4:
        changed[ip + 10 : ip + 12] = b"\x12\x34"
    if lengths:
        at = ip + (2 if version == 4 else 4)
        changed[at : at + 2] = b"\0\1"
    return bytes(changed)


def with_tag(frame: bytes, tci: int) -> bytes:
    return frame[:12] + tag(tci) + frame[12:]


def udp4(payload: bytes) -> bytes:
    return ip4(UDP, l4(UDP, payload, FOUR))


def comes_back(port: Port, *frames: bytes, offload: Offload | None) -> list[bytes]:
    assert port.send(frames, offload=offload) == len(frames)
    port.send([plain(0xEE)])
    got: list[bytes] = []
    for frame in port.recv(30):
        if frame == plain(0xEE):
            assert emulated(port).violations == []
            return got
        got.append(frame)
    raise AssertionError(f"the last frame did not arrive; {len(got)} others did")


def arrived(port: Port, count: int) -> list[tuple[RxRing, Span]]:
    """Wait for `count` slots with frames. Returns their spans."""
    for _ in range(3000):
        spans = [(ring, ring.reserve(count)) for ring in port.rx_rings]
        if sum(len(span) for _, span in spans) >= count:
            return [(ring, span) for ring, span in spans if len(span)]
        port.poll(0.01)
        port.rxsync()
    raise AssertionError(f"{count} frames did not arrive")


def bytes_of(port: Port, span: Span) -> list[bytes]:
    return [port.buffers[index, :length].tobytes() for index, length in zip(span.buf_idx, span.len)]


# ---- VLAN tags of received frames ----


def test_the_vlan_filter_accepts_its_vlans_and_frames_without_a_tag(port: Port) -> None:
    frames = [plain(1, 5), plain(2, 0xE005), plain(3, 6), plain(4, 4094), plain(5, 37), plain(6)]
    assert port.vlan.filter is None
    port.send(frames)
    assert came(port, 6) == frames
    port.vlan.filter = {5, 4094}
    assert port.vlan.filter == {5, 4094}
    port.send(frames)
    assert came(port, 4) == [frames[0], frames[1], frames[3], frames[5]]
    port.vlan.filter = set()
    port.send(frames)
    assert came(port, 1) == [frames[5]]
    port.vlan.filter = None
    port.send(frames)
    assert came(port, 6) == frames
    assert not any(word.read() for word in port.nic.VFTA)


def test_a_bad_vlan_is_refused_and_the_filter_stays(port: Port) -> None:
    port.vlan.filter = {7}
    for wrong in (-1, 4095):
        with pytest.raises(ValueError, match="0 to 4094"):
            port.vlan.filter = {1, wrong}
    assert port.vlan.filter == {7}
    assert repr(port.vlan) == "<Vlan filter=[7], strip=False>"


def test_a_stripped_tag_is_reported_with_its_frame(port: Port) -> None:
    port.vlan.strip = True
    assert port.vlan.strip and all(port.nic.RXDCTL[queue].read().VME for queue in (0, 1))
    port.send([plain(1, 0x6007), plain(2), plain(3, 0)])
    [(ring, span)] = arrived(port, 3)
    assert bytes_of(port, span) == [plain(1), plain(2), plain(3)]
    seen = port.received(ring, span)
    assert seen.tagged.tolist() == [True, False, True]
    assert seen.tci.tolist() == [0x6007, 0, 0]


def test_without_strip_the_tag_stays_in_the_frame(port: Port) -> None:
    port.vlan.strip = True
    port.vlan.strip = False
    port.send([plain(1, 9)])
    [(ring, span)] = arrived(port, 1)
    assert bytes_of(port, span) == [plain(1, 9)]
    assert not port.received(ring, span).tagged.any()


# ---- what the NIC reports about received frames ----


def test_right_and_wrong_checksums_are_distinguished(port: Port) -> None:
    good = ethernet(udp4(b"hello, checksum"))
    wrong_ip, wrong_udp = bytearray(good), bytearray(good)
    wrong_ip[14 + 8] -= 1
    wrong_udp[-1] ^= 1
    port.send([good, wrong_ip, wrong_udp, plain(1)])
    seen = {
        frame: (Checksum(int(found)), int(kind))
        for ring, span in arrived(port, 4)
        for frame, found, kind in zip(
            bytes_of(port, span), port.received(ring, span).checksums, port.received(ring, span).rss_type
        )
    }
    assert seen[good.ljust(60, b"\0")] == (GOOD, 7)
    assert seen[bytes(wrong_ip).ljust(60, b"\0")] == (GOOD | Checksum.IP_WRONG, 7)
    assert seen[bytes(wrong_udp).ljust(60, b"\0")] == (GOOD | Checksum.L4_WRONG, 7)
    assert seen[plain(1)] == (Checksum(0), 0)


def test_reports_belong_to_their_frames_after_slots_were_reused() -> None:
    with open_port("emulated", promiscuous=True, rx_slots=64) as port:
        port.vlan.strip = True
        for first in range(0, 200, 50):
            port.send([plain(number, number + 1) for number in range(first, first + 50)])
            for ring, span in arrived(port, 10):
                seen = port.received(ring, span)
                assert [frame[14] + 1 for frame in bytes_of(port, span)] == seen.tci.tolist()
                assert len(seen) == len(span)
            assert len(came(port, 50)) == 50


def test_the_hash_is_the_one_that_chose_the_queue(port: Port) -> None:
    port.send([ethernet(udp4(bytes([number]))) for number in range(20)])
    spans = arrived(port, 20)
    for ring, span in spans:
        assert set((port.received(ring, span).rss_hash & np.uint32(0x7F)) % 2) == {ring.ringid}


def test_a_ring_of_another_port_is_refused(port: Port) -> None:
    with open_port("emulated") as other:
        ring = other.rx_rings[0]
        with pytest.raises(ValueError, match="not a receive ring of emulated"):
            port.received(ring, ring.reserve(1))


# ---- offloads of sent frames ----

KINDS = pytest.mark.parametrize(("version", "protocol"), [(4, TCP), (4, UDP), (6, TCP), (6, UDP)])


@pytest.fixture
def one() -> Iterator[Port]:
    """A port with one queue, so that frames arrive in the order they were sent."""
    with open_port("emulated", promiscuous=True) as port:
        yield port


@KINDS
@pytest.mark.parametrize("length", [26, 27, 1001])
def test_checksums_are_filled_in(one: Port, version: int, protocol: int, length: int) -> None:
    right = packet(version, protocol, bytes(i % 251 for i in range(length)))
    assert comes_back(one, unfinished(right, version, protocol), offload=Offload(checksums=True)) == [
        right.ljust(60, b"\0")
    ]


def test_padding_after_the_packet_is_not_in_the_checksum(one: Port) -> None:
    right = packet(4, UDP, b"short")
    assert comes_back(one, unfinished(right, 4, UDP) + b"\xff" * 13, offload=Offload(checksums=True)) == [
        right.ljust(60, b"\0")
    ]


def test_an_sctp_checksum_is_a_crc(one: Port) -> None:
    common = struct.pack("!HHI", 1, 2, 3)
    body = common + struct.pack("<I", crc32c(common + bytes(4) + b"chunk")) + b"chunk"
    sent = ethernet(ip4(SCTP, common + b"junk" + b"chunk"))
    assert comes_back(one, sent, offload=Offload(checksums=True)) == [ethernet(ip4(SCTP, body)).ljust(60, b"\0")]


def crc32c(data: bytes) -> int:
    """RFC 9260, appendix A."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F6_3B78 if crc & 1 else 0)
    return crc ^ 0xFFFF_FFFF


@pytest.mark.parametrize(
    "body, protocol, fragment", [(bytes(40), IGMP, 0), (b"\x55" * 40, UDP, 0x2005), (b"\x55" * 40, TCP, 5)]
)
def test_other_protocols_and_fragments_get_the_ip_checksum_only(
    one: Port, body: bytes, protocol: int, fragment: int
) -> None:
    right = ethernet(ip4(protocol, body, fragment=fragment))
    sent = right[:24] + b"\x12\x34" + right[26:]
    assert comes_back(one, sent, offload=Offload(checksums=True)) == [right]


def test_frames_without_ip_are_sent_unchanged(one: Port) -> None:
    frames = [plain(1), plain(2, 7), ethernet(ip6(59, bytes(30)), 0x86DD)]
    assert comes_back(one, *frames, offload=Offload(checksums=True)) == frames


def test_headers_after_a_tag_are_found(one: Port) -> None:
    right = packet(4, TCP, bytes(100))
    assert comes_back(one, with_tag(unfinished(right, 4, TCP), 9), offload=Offload(checksums=True)) == [
        with_tag(right, 9)
    ]


def test_a_tag_is_inserted_and_stripped(one: Port) -> None:
    frames = [plain(1), packet(4, UDP, bytes(200))]
    assert comes_back(one, *frames, offload=Offload(vlan=4094, priority=7)) == [
        with_tag(frame, 0xEFFE) for frame in frames
    ]
    assert comes_back(one, *frames, offload=Offload(vlan=0)) == [with_tag(frame, 0) for frame in frames]
    one.vlan.strip = True
    one.send(frames, offload=Offload(vlan=5, priority=1))
    [(ring, span)] = arrived(one, 2)
    assert bytes_of(one, span) == frames and one.received(ring, span).tci.tolist() == [0x2005] * 2


@KINDS
@pytest.mark.parametrize("vlan", [None, 5])
@pytest.mark.parametrize("length", [2801, 60_000])
def test_a_large_frame_is_segmented(one: Port, version: int, protocol: int, vlan: int | None, length: int) -> None:
    mss, payload = 1400, bytes(i * 7 % 251 for i in range(length))
    whole = packet(version, protocol, payload, flags=ACK | PSH | FIN | CWR)
    pieces = range(0, length, mss)
    flags = [ACK | (CWR if at == 0 else 0) | (PSH | FIN if at + mss >= length else 0) for at in pieces]
    right = [
        packet(version, protocol, payload[at : at + mss], number, at, flags[number]) for number, at in enumerate(pieces)
    ]
    if vlan is not None:
        right = [with_tag(frame, vlan) for frame in right]
    right = [frame.ljust(60, b"\0") for frame in right]
    assert (
        comes_back(one, unfinished(whole, version, protocol, lengths=True), offload=Offload(mss=mss, vlan=vlan))
        == right
    )
    assert one.stats()["GPTC"] == len(right) + 1


@KINDS
@pytest.mark.parametrize("length", [0, 1, 1000])
def test_a_frame_within_the_mss_gets_only_checksums(one: Port, version: int, protocol: int, length: int) -> None:
    right = packet(version, protocol, b"\x77" * length)
    assert comes_back(one, unfinished(right, version, protocol, lengths=True), offload=Offload(mss=1000)) == [
        right.ljust(60, b"\0")
    ]


def test_many_large_and_small_frames_keep_their_order_across_the_end_of_the_ring() -> None:
    with open_port("emulated", promiscuous=True, tx_slots=64, rx_slots=4096) as port:
        right = []
        for turn in range(40):
            payload = bytes([turn]) * (3000 + 97 * turn)
            port.send([packet(4, UDP, payload)], offload=Offload(mss=1400))
            port.send([plain(turn)])
            right += [
                packet(4, UDP, payload[at : at + 1400], part).ljust(60, b"\0")
                for part, at in enumerate(range(0, len(payload), 1400))
            ]
            right.append(plain(turn))
        assert comes_back(port, offload=None) == right
        assert port.stats()["GPTC"] == len(right) + 1


@pytest.mark.parametrize(
    "frame, offload, words",
    [
        (plain(1), Offload(mss=100), "only IPv4 and IPv6"),
        (ethernet(ip4(IGMP, bytes(40))), Offload(mss=100), "only TCP and UDP"),
        (ethernet(ip4(SCTP, bytes(40))), Offload(mss=100), "only TCP and UDP"),
        (packet(4, TCP, bytes(3000)), Offload(mss=1500), "Choose mss=1464 or less"),
        (packet(4, TCP, bytes(60_000))[:40], Offload(checksums=True), "but the frame holds only 26"),
        (ethernet(ip4(TCP, bytes(10))), Offload(checksums=True), "10 bytes of a TCP header of 20"),
        (ethernet(b"\x45\0"), Offload(checksums=True), "but no IP header"),
        (ethernet(ip4(TCP, bytes(12) + b"\xf0" + bytes(30))), Offload(checksums=True), "claims 60 bytes"),
        (bytes(13), Offload(vlan=1), "no Ethernet header"),
        (bytes(1515), Offload(vlan=1), "sends 1 to 1514"),
    ],
)
def test_a_frame_that_cannot_be_offloaded_is_refused_and_frames_before_it_are_sent(
    one: Port, frame: bytes, offload: Offload, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        one.send([packet(4, UDP, bytes(30)), frame], offload=offload)
    assert len(comes_back(one, offload=None)) == 1


@pytest.mark.parametrize(
    "vlan, priority, mss, words",
    [
        (4095, 0, 0, "not a VLAN"),
        (1, 8, 0, "not a priority"),
        (None, 3, 0, "vlan=0"),
        (None, 0, 65536, "65535 bytes"),
    ],
)
def test_a_bad_offload_is_refused(vlan: int | None, priority: int, mss: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Offload(vlan, priority, mss=mss)


def test_a_frame_too_long_to_segment_is_refused(one: Port) -> None:
    with pytest.raises(ValueError, match="this port segments at most 80256"):
        one.send([packet(4, TCP, bytes(60_000)) + bytes(40_000)], offload=Offload(mss=1000))


def test_the_nic_sends_the_longest_frame_that_the_hot_loop_accepts() -> None:
    with open_port("emulated:sink", buf_size=15872, mtu=9000) as port:
        ring = port.tx_rings[0]
        span = ring.reserve(2)
        span.len[:] = 15872, 16380 - 15872
        span.flags[:] = SlotFlag.NS_MOREFRAG, 0
        ring.advance(2)
        port.txsync()
        port.flush(2)
        assert port.stats()["GPTC"] == 1
