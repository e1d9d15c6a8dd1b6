"""What the NIC does to frames for a port: VLAN tags, checksums, segments. What is expected is worked out here, by other means."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np
import pytest

from driver import Checksum, Port, open_port
from rings import RxRing, Span

OTHER = b"\x02\0\0\0\0\x02"
TCP, UDP = 6, 17
GOOD = Checksum.IP_CHECKED | Checksum.L4_CHECKED


@pytest.fixture
def port() -> Iterator[Port]:
    with open_port("emulated", promiscuous=True, rx_queues=2) as port:
        yield port


def total(data: bytes) -> int:
    """RFC 1071, the slow way."""
    data += b"\0" * (len(data) % 2)
    value: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while value >> 16:
        value = (value & 0xFFFF) + (value >> 16)
    return value


def inverted(value: int) -> bytes:
    return struct.pack("!H", ~value & 0xFFFF)


def ethernet(packet: bytes, kind: int = 0x0800, tag: bytes = b"") -> bytes:
    return OTHER + OTHER + tag + struct.pack("!H", kind) + packet


def tag(tci: int) -> bytes:
    return b"\x81\x00" + struct.pack("!H", tci)


def plain(number: int, tci: int | None = None) -> bytes:
    return ethernet(bytes([number]) * 50, 0x88B5, b"" if tci is None else tag(tci))


def udp4(payload: bytes) -> bytes:
    """An IPv4 packet with both checksums right."""
    addresses = bytes([10, 0, 0, 1, 10, 0, 0, 2])
    length = struct.pack("!H", 8 + len(payload))
    check = inverted(total(addresses + b"\0\x11" + length + struct.pack("!HH", 1, 2) + length + payload))
    start, end = struct.pack("!BBHHHBB", 0x45, 0, 28 + len(payload), 7, 0, 64, UDP), addresses
    return start + inverted(total(start + end)) + end + struct.pack("!HH", 1, 2) + length + check + payload


def come(port: Port, count: int) -> list[tuple[RxRing, Span]]:
    """Spans of `count` slots with frames, in all."""
    for _ in range(1000):
        spans = [(ring, ring.reserve(count)) for ring in port.rx_rings]
        if sum(len(span) for _, span in spans) >= count:
            return [(ring, span) for ring, span in spans if len(span)]
        port.poll(0.01)
        port.rxsync()
    raise AssertionError(f"{count} frames did not come")


def bytes_of(port: Port, span: Span) -> list[bytes]:
    return [port.buffers[index, :length].tobytes() for index, length in zip(span.buf_idx, span.len)]


# ---- VLAN tags of received frames ----


def test_the_vlan_filter_lets_in_its_vlans_and_frames_without_a_tag(port: Port) -> None:
    frames = [plain(1, 5), plain(2, 0xE005), plain(3, 6), plain(4, 4094), plain(5, 37), plain(6)]
    assert port.vlan.filter is None
    port.send(frames)
    assert list(port.recv(0.2)) == frames
    port.vlan.filter = {5, 4094}
    assert port.vlan.filter == {5, 4094}
    port.send(frames)
    assert list(port.recv(0.2)) == [frames[0], frames[1], frames[3], frames[5]]
    port.vlan.filter = set()
    port.send(frames)
    assert list(port.recv(0.2)) == [frames[5]]
    port.vlan.filter = None
    port.send(frames)
    assert list(port.recv(0.2)) == frames
    assert not any(word.read() for word in port.nic.VFTA)


def test_what_is_no_vlan_is_refused_and_the_filter_stays(port: Port) -> None:
    port.vlan.filter = {7}
    for wrong in (-1, 4095):
        with pytest.raises(ValueError, match="0 to 4094"):
            port.vlan.filter = {1, wrong}
    assert port.vlan.filter == {7}
    assert repr(port.vlan) == "<Vlan filter=[7], strip=False>"


def test_a_tag_that_was_taken_out_is_found_beside_its_frame(port: Port) -> None:
    port.vlan.strip = True
    assert port.vlan.strip and all(port.nic.RXDCTL[queue].read().VME for queue in (0, 1))
    port.send([plain(1, 0x6007), plain(2), plain(3, 0)])
    [(ring, span)] = come(port, 3)
    assert bytes_of(port, span) == [plain(1), plain(2), plain(3)]
    seen = port.received(ring, span)
    assert seen.tagged.tolist() == [True, False, True]
    assert seen.tci.tolist() == [0x6007, 0, 0]


def test_without_strip_the_tag_stays_in_the_frame(port: Port) -> None:
    port.vlan.strip = True
    port.vlan.strip = False
    port.send([plain(1, 9)])
    [(ring, span)] = come(port, 1)
    assert bytes_of(port, span) == [plain(1, 9)]
    assert not port.received(ring, span).tagged.any()


# ---- what is said of received frames ----


def test_right_and_wrong_checksums_are_told_apart(port: Port) -> None:
    good = ethernet(udp4(b"hello, checksum"))
    wrong_ip, wrong_udp = bytearray(good), bytearray(good)
    wrong_ip[14 + 8] -= 1
    wrong_udp[-1] ^= 1
    port.send([good, wrong_ip, wrong_udp, plain(1)])
    seen = {frame: (Checksum(int(found)), int(kind)) for ring, span in come(port, 4)
            for frame, found, kind in zip(bytes_of(port, span), port.received(ring, span).checksums, port.received(ring, span).rss_type)}
    assert seen[good.ljust(60, b"\0")] == (GOOD, 7)
    assert seen[bytes(wrong_ip).ljust(60, b"\0")] == (GOOD | Checksum.IP_WRONG, 7)
    assert seen[bytes(wrong_udp).ljust(60, b"\0")] == (GOOD | Checksum.L4_WRONG, 7)
    assert seen[plain(1)] == (Checksum(0), 0)


def test_what_is_said_stays_with_its_frame_after_slots_were_reused() -> None:
    with open_port("emulated", promiscuous=True, rx_slots=64) as port:
        port.vlan.strip = True
        for first in range(0, 200, 50):
            port.send([plain(number, number + 1) for number in range(first, first + 50)])
            for ring, span in come(port, 10):
                seen = port.received(ring, span)
                assert [frame[14] + 1 for frame in bytes_of(port, span)] == seen.tci.tolist()
                assert len(seen) == len(span)
            assert len([*port.recv(0.1)]) == 50


def test_the_hash_is_the_one_that_chose_the_queue(port: Port) -> None:
    port.send([ethernet(udp4(bytes([number]))) for number in range(20)])
    spans = come(port, 20)
    for ring, span in spans:
        assert set((port.received(ring, span).rss_hash & np.uint32(0x7F)) % 2) == {ring.ringid}


def test_a_ring_of_another_port_is_refused(port: Port) -> None:
    with open_port("emulated") as other:
        ring = other.rx_rings[0]
        with pytest.raises(ValueError, match="not a receive ring of emulated"):
            port.received(ring, ring.reserve(1))
