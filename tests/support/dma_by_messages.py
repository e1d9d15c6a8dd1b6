"""Queues of a NIC behind a vfio-user socket, set up with few messages, and answers to the NIC's DMA requests."""

from __future__ import annotations

import struct

from ixrings.hw.emulator import Emulated82599
from ixrings.hw.registers import Registers
from ixrings.hw.vfio_user import protocol as p
from ixrings.hw.vfio_user.protocol import ACCESS, Command, Message
from tests.support.programs import wait_for
from tests.support.vfio_user_peer import Peer

MEMORY = 0x10_0000  # IOVA of the peer's memory
RING, FRAMES, HEAD = MEMORY, MEMORY + 0x1000, MEMORY + 0x2000


class ByMessages:
    """One transmit and one receive queue behind a Peer. Their memory is a file that the peer may share or not."""

    def __init__(self, peer: Peer) -> None:
        self.peer, self.regs = peer, Registers(peer)
        peer.write(4, 6, p.Region.CONFIG, 2)
        self.regs.FCTRL.write(BAM=1, UPE=1, MPE=1)
        self.regs.RXCTRL.write(RXEN=1)
        self.regs.DMATXCTL.update(TE=1)

    def transmit_queue(self, ring: int = RING, slots: int = 8, head: int = 0) -> None:
        regs = self.regs
        regs.TDBAL[0].write(ring & 0xFFFF_FFFF)
        regs.TDBAH[0].write(ring >> 32)
        regs.TDLEN[0].write(slots * 16)
        if head:
            regs.TDWBAL[0].write(head | 1)
            regs.TDWBAH[0].write(0)
        regs.TXDCTL[0].write(ENABLE=1)

    def wait_transmitted(self, frames: int) -> None:
        wait_for(lambda: self.regs.TDH[0].read() == frames, "TDH did not move")

    def receive_queue(self, ring: int, slots: int = 8) -> None:
        regs = self.regs
        regs.RDBAL[0].write(ring & 0xFFFF_FFFF)
        regs.RDBAH[0].write(ring >> 32)
        regs.RDLEN[0].write(slots * 16)
        regs.SRRCTL[0].write(BSIZEPACKET=2, DESCTYPE=1)
        regs.RXDCTL[0].write(ENABLE=1)
        regs.RDT[0].write(slots - 1)


def descriptor(address: int, length: int = 60) -> bytes:
    """An advanced transmit descriptor of a complete frame (EOP) with RS."""
    return struct.pack("<QQ", address, length | 3 << 20 | (0x20 | 1 | 2 | 8) << 24 | length << 46)


def faults(nic: Emulated82599) -> list[tuple[str, int]]:
    return [(fault.rule.name, fault.values[0]) for fault in nic.faults]


def wait_faults(nic: Emulated82599) -> list[tuple[str, int]]:
    wait_for(lambda: nic.faults, "no DMA fault came")
    return faults(nic)


def request(peer: Peer, command: Command) -> Message:
    message = peer.receive()
    assert message is not None and message.command == command and not message.is_reply
    return message


def reply(peer: Peer, message: Message, payload: bytes, *, error: int = 0) -> None:
    flags = p.REPLY | (p.ERROR if error else 0)
    peer.send_bytes(p.HEADER.pack(message.id, message.command, p.HEADER.size + len(payload), flags, error) + payload)


def ring_doorbell(by_hand: ByMessages, tail: int) -> None:
    by_hand.peer.send(Command.REGION_WRITE, ACCESS.pack(0x6018, 0, 4) + struct.pack("<I", tail), flags=p.NO_REPLY)
