"""Faults that can be injected, to try drivers on.

In Python: `nic.inject(Fault.RESET)`. In a port's name: `emulated@fault=reset`. On the command line:
`ixrings emulate --fault reset`.
"""

from __future__ import annotations

from enum import Enum


class Fault(Enum):
    """What breaks."""

    LINK = "link"  # the cable is pulled out
    NO_MODULE = "no-module"
    FOREIGN_MODULE = "foreign-module"  # a module of a vendor that Linux refuses
    EEPROM_CHECKSUM = "eeprom-checksum"
    RESET = "reset"  # CTRL.RST does not clear itself
    QUEUE_ENABLE = "queue-enable"  # RXDCTL.ENABLE and TXDCTL.ENABLE stay 0
    HEAD_WRITE_BACK = "head-write-back"  # frames are sent, but the head is not written back
    RECEIVE_WRITE_BACK = "receive-write-back"  # frames arrive, but no descriptor is written back
    INTERRUPT = "interrupt"  # messages are lost
    DMA = "dma"  # the NIC reaches no memory
    REMOVAL = "removal"  # reads return all ones, writes are lost


def parse_fault(text: str) -> tuple[Fault, int]:
    """The fault and the register access that injects it, 0 for now: `reset`, `removal+500`. Raises ValueError."""
    name, _, at = text.partition("+")
    if name not in {fault.value for fault in Fault} or not (at or "0").isdecimal() or text.endswith("+"):
        names = ", ".join(fault.value for fault in Fault)
        raise ValueError(f"{text!r} is not a fault. Write {names}; add +N for the N-th register access")
    return Fault(name), int(at or 0)
