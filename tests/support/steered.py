"""Frames for filters, and the queues they arrive on."""

from __future__ import annotations

import socket
import struct

from ixrings import Port

MAC = b"\x02\x82\x59\x90\x00\x01"
TCP, UDP, SCTP, ICMP = 6, 17, 132, 1
SYN, ACK = 0x02, 0x10
FIRST_FRAGMENT = 0x2000


def ethernet(payload: bytes, kind: int | None = None, *, tag: int | None = None) -> bytes:
    """kind: the EtherType; None: from the packet's IP version.

    tag: the 16 bits of a VLAN tag, priority in the top ones.
    """
    if kind is None:
        kind = 0x86DD if payload[0] >> 4 == 6 else 0x0800
    return (
        MAC
        + b"\x02\0\0\0\0\x09"
        + (b"" if tag is None else struct.pack("!HH", 0x8100, tag))
        + struct.pack("!H", kind)
        + payload
    ).ljust(60, b"\0")


def packet(
    protocol: int = TCP,
    source: str = "10.0.0.1",
    destination: str = "10.0.0.2",
    sport: int = 1000,
    dport: int = 2000,
    *,
    flags: int = ACK,
    fragment: int = 0,
) -> bytes:
    """An IPv4 or IPv6 packet without checksums."""
    l4 = struct.pack("!HHIIBBHHH", sport, dport, 1, 0, 5 << 4, flags, 0, 0, 0)
    if ":" in source:
        return (
            struct.pack("!IHBB", 6 << 28, len(l4), protocol, 64)
            + socket.inet_pton(socket.AF_INET6, source)
            + socket.inet_pton(socket.AF_INET6, destination)
            + l4
        )
    return (
        struct.pack(
            "!BBHHHBBH4s4s",
            0x45,
            0,
            20 + len(l4),
            0,
            fragment,
            64,
            protocol,
            0,
            socket.inet_aton(source),
            socket.inet_aton(destination),
        )
        + l4
    )


LAST = ethernet(b"", 0x9999)


def take(port: Port) -> dict[bytes, int]:
    """Take all frames from the rings. Returns the queue of each frame."""
    came = {}
    for ring in port.rx_rings:
        while ring.space:
            slot = ring.slots[ring.head]
            came[port.buffers[slot["buf_idx"], : slot["len"]].tobytes()] = ring.ringid
            ring.advance(1)
    return came


def queue_of(port: Port, frame: bytes) -> int | None:
    """The queue that a looped frame arrives on; None if it is dropped.

    A second frame is sent after it. When that one has arrived, the first one has been dropped or has arrived, too.
    """
    port.send([frame, LAST])
    came: dict[bytes, int] = {}
    while LAST not in came:
        assert port.poll(30)
        came |= take(port)
    port.rxsync()  # the first one may be in a ring that was synced before
    came |= take(port)
    assert set(came) <= {frame, LAST}
    return came.get(frame)
