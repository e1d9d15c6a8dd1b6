"""IEEE 1588 messages, as far as the 82599 reads them, and the exchange that measures the difference of two clocks."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ixrings import Offload, Port
from tests.support.steered import UDP, ethernet, packet

SYNC, DELAY_REQ, PDELAY_REQ, PDELAY_RESP, FOLLOW_UP = 0, 1, 2, 3, 8
ETHER_TYPE, EVENT_PORT = 0x88F7, 319
CYCLE_NS = 6.4  # of the 82599's clock at 10 Gbit/s (7.9.3.1)
SOURCE = bytes([1, 2, 3, 4, 5, 6])  # version 1 has sourceUuid there, version 2 the end of clockIdentity


def message(kind: int = SYNC, sequence: int = 1, *, version: int = 2, length: int = 44) -> bytes:
    """kind: messageType; in version 1, control."""
    header = struct.pack("!BB20x6s2xHB3x", kind if version == 2 else 0, version, SOURCE, sequence, kind)
    return header.ljust(length, b"\0")[:length]


def on_ethernet(body: bytes, *, tag: int | None = None) -> bytes:
    return ethernet(body, ETHER_TYPE, tag=tag)


def on_udp(body: bytes, port: int = EVENT_PORT) -> bytes:
    """The checksum is left out (RFC 768)."""
    ip = bytearray(packet(UDP, dport=port)[:20])
    ip[2:4] = struct.pack("!H", 28 + len(body))
    return ethernet(bytes(ip) + struct.pack("!HHHH", EVENT_PORT, port, 8 + len(body), 0) + body)


@dataclass(frozen=True)
class Exchange:
    """Four stamps of Sync and Delay_Req, in ns. offset: how far the slave is ahead. delay: one way on the wire."""

    t1: int
    t2: int
    t3: int
    t4: int

    @property
    def offset(self) -> int:
        """In whole nanoseconds: a float has no room for those of a date."""
        return ((self.t2 - self.t1) - (self.t4 - self.t3)) // 2

    @property
    def delay(self) -> float:
        return ((self.t2 - self.t1) + (self.t4 - self.t3)) / 2

    def uncertainty(self, ppm: float) -> float:
        """The largest error of the offset, in ns, for clocks whose rates differ by at most `ppm`.

        Each way takes 0 ns or more. Each stamp is as old as a cycle of its clock, and is in whole nanoseconds.
        """
        return max(0.0, self.delay) + CYCLE_NS + 1 + 2 * ppm / 1e6 * (self.t4 - self.t1)


def crossing(sender: Port, receiver: Port, kind: int, sequence: int) -> tuple[int, int]:
    """When a message left and when it arrived, each by its own port's clock."""
    sender.send([on_ethernet(message(kind, sequence))], offload=Offload(timestamp=True))
    left, came = sender.clock.sent(1), receiver.clock.received()
    assert came is not None and came.sequence == sequence
    return left, came.ns


def exchange(master: Port, slave: Port, sequence: int) -> Exchange:
    return Exchange(*crossing(master, slave, SYNC, sequence), *crossing(slave, master, DELAY_REQ, sequence))


def best(master: Port, slave: Port, tries: int = 20) -> Exchange:
    """The shortest exchange: other programs of the machine delayed it least."""
    return min((exchange(master, slave, sequence) for sequence in range(tries)), key=lambda each: each.t4 - each.t1)
