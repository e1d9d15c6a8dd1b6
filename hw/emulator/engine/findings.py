"""What the C engine can notice: one list for C (header.py prints findings.h from it) and for the rules."""

from __future__ import annotations

from enum import IntEnum

FINDINGS_KEPT = 224  # per NIC
FINDINGS_PER_KIND = 16  # so that no kind hides all others


class FindingKind(IntEnum):
    """`FINDING_NAME` in C. hw/emulator/rules has the rule and the words for each."""

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
    TX_SHORT = 14
    TX_LEGACY_MODE = 15
    TX_LEGACY_RS = 16
    TX_LEGACY_CHECKSUM = 17
    TX_OFFLOAD_IFCS = 18
