"""What the software 82599 noticed: a DMA access the IOMMU would have stopped, or a datasheet rule that was broken."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Kind(IntEnum):
    """Numbers up to 99 are `enum finding_kind` of nic.h."""

    DMA_READ = 1
    DMA_WRITE = 2
    TX_DESCRIPTOR_TYPE = 3
    TX_CHAIN_TOO_LONG = 4
    TX_LENGTH = 5
    TX_PAYLEN = 6
    TX_IFCS = 7
    TX_TAIL = 8
    RX_TAIL = 9
    RX_DESCRIPTOR_TYPE = 10
    RX_BUFFER_SIZE = 11
    TX_CONTEXT = 12
    TX_LONG_BUFFER = 13
    TX_TAIL_BEFORE_ENABLE = 100
    RX_TAIL_BEFORE_ENABLE = 101
    HEAD_WRITEBACK_ALIGNMENT = 102
    UNKNOWN_REGISTER = 103


@dataclass(frozen=True)
class Rule:
    section: str
    text: str  # formatted with queue, first, second


RULES = {
    Kind.DMA_READ: Rule("IOMMU", "queue {queue} read {second} bytes at IOVA {first:#x}, which is not mapped"),
    Kind.DMA_WRITE: Rule("IOMMU", "queue {queue} wrote {second} bytes at IOVA {first:#x}, which is not mapped"),
    Kind.TX_DESCRIPTOR_TYPE: Rule("7.2.3.2.4", "TX queue {queue} descriptor {first}: neither advanced data nor context, Q1 is {second:#x}"),
    Kind.TX_CHAIN_TOO_LONG: Rule("7.2.3", "TX queue {queue}: the frame at descriptor {first} has more than 40 descriptors"),
    Kind.TX_LENGTH: Rule("7.2.3.2.2", "TX queue {queue} descriptor {first}: {second} bytes cannot be sent (15.5 KB a buffer, never 0 in all)"),
    Kind.TX_PAYLEN: Rule("7.2.3.2.4", "TX queue {queue}: PAYLEN is {first}, the frame's descriptors hold {second} bytes"),
    Kind.TX_IFCS: Rule("7.2.3.2.2", "TX queue {queue} descriptor {first}: a frame of {second} bytes is padded, so IFCS must be set"),
    Kind.TX_TAIL: Rule("8.2.3.9.9", "TDT[{queue}] is {first}, the ring has {second} descriptors"),
    Kind.RX_TAIL: Rule("8.2.3.8.5", "RDT[{queue}] is {first}, the ring has {second} descriptors"),
    Kind.RX_DESCRIPTOR_TYPE: Rule("8.2.3.8.7", "SRRCTL[{queue}].DESCTYPE is {first}; this emulator has advanced, one buffer (1)"),
    Kind.RX_BUFFER_SIZE: Rule("8.2.3.8.7", "SRRCTL[{queue}] is {first:#x}: BSIZEPACKET must be 1 to 16 KB"),
    Kind.TX_CONTEXT: Rule("7.2.3.2.3", "TX queue {queue}: the frame at descriptor {first} ({second} bytes) and its context do not fit each other"),
    Kind.TX_LONG_BUFFER: Rule("7.2.3.2.2", "TX queue {queue} had a buffer of more than {first} bytes (15.5 KB)"),
    Kind.TX_TAIL_BEFORE_ENABLE: Rule("4.6.8", "TDT[{queue}] was set to {first} before TXDCTL.ENABLE read 1"),
    Kind.RX_TAIL_BEFORE_ENABLE: Rule("4.6.7", "RDT[{queue}] was set to {first} before RXDCTL.ENABLE read 1: the chip loses it"),
    Kind.HEAD_WRITEBACK_ALIGNMENT: Rule("8.2.3.9.11", "TDWBAL[{queue}] is {first:#x}: the address must be 16-byte aligned or nothing is written"),
    Kind.UNKNOWN_REGISTER: Rule("8.2", "BAR0 offset {first:#07x} is no register of the table; {second:#010x} was written there"),
}


@dataclass(frozen=True)
class Violation:
    """A broken rule: its kind, the datasheet's section, the queue it concerns, and the sentence with the values."""

    kind: Kind
    section: str
    queue: int
    values: tuple[int, int]
    text: str

    @classmethod
    def of(cls, kind: Kind, queue: int, first: int, second: int = 0) -> Violation:
        rule = RULES[kind]
        return cls(kind, rule.section, queue, (first, second), rule.text.format(queue=queue, first=first, second=second))

    @property
    def is_dma_fault(self) -> bool:
        return self.kind in (Kind.DMA_READ, Kind.DMA_WRITE)

    def __str__(self) -> str:
        return f"{self.text} ({self.section if self.is_dma_fault else '82599 ' + self.section})"
