"""Defects on request, for drivers to be tried on: `nic.inject(Fault.RESET)`, `emulated@fault=reset`, `ixrings emulate --fault reset`."""

from __future__ import annotations

from enum import Enum


class Fault(Enum):
    """What breaks."""

    LINK = "link"  # the cable is pulled
    NO_MODULE = "no-module"
    FOREIGN_MODULE = "foreign-module"  # one that drivers do not know
    EEPROM_CHECKSUM = "eeprom-checksum"
    RESET = "reset"  # CTRL.RST does not clear itself
    QUEUE_ENABLE = "queue-enable"  # RXDCTL.ENABLE and TXDCTL.ENABLE stay 0
    HEAD_WRITE_BACK = "head-write-back"  # frames are sent, and nobody is told
    RECEIVE_WRITE_BACK = "receive-write-back"  # frames come in, and no descriptor is written
    INTERRUPT = "interrupt"  # messages get lost
    DMA = "dma"  # the NIC reaches no memory
    REMOVAL = "removal"  # reads give all ones, writes are lost


def parse_fault(text: str) -> tuple[Fault, int]:
    """`reset`, or `removal+500`: with the 500th register access. Raises ValueError."""
    name, _, at = text.partition("+")
    if name not in {fault.value for fault in Fault} or not (at or "0").isdecimal() or text.endswith("+"):
        raise ValueError(
            f"{text!r} is no fault; write {', '.join(fault.value for fault in Fault)}, with +N behind it for the N-th register access"
        )
    return Fault(name), int(at or 0)
