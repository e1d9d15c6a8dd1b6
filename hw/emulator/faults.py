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

    # of a PfAgent, which plays the PF's driver
    PF_SLOW = "pf-slow"  # answers come after 0.2 s
    PF_LATE = "pf-late"  # answers come after 1.5 s: drivers wait 1 s
    PF_TWICE = "pf-twice"  # each answer comes again when the VF has read it
    PF_SHORT = "pf-short"  # an answer's first word alone is written
    PF_GARBAGE = "pf-garbage"  # an answer's first word is right, the others are random
    PF_NONSENSE = "pf-nonsense"  # all words of an answer are random
    PF_ANOTHER = "pf-another"  # answers belong to another request
    PF_SILENT = "pf-silent"  # no answer, no acknowledgement, no message
    PF_NO_CTS = "pf-no-cts"  # answers lack CTS
    PF_KEEPS_BUFFER = "pf-keeps-buffer"  # the PF keeps the mailbox's buffer after an answer
    PF_MAC_ZERO = "pf-mac-zero"  # RESET is acknowledged with the address 0
    PF_NO_QUEUES = "pf-no-queues"  # GET_QUEUES grants 0 queues
    PF_MANY_QUEUES = "pf-many-queues"  # GET_QUEUES grants 200 queues
    PF_UNEVEN_QUEUES = "pf-uneven-queues"  # GET_QUEUES grants more queues to send than to receive
    PF_FLAPS = "pf-flaps"  # the link goes down and up 10 times a second
    PF_RSTI = "pf-rsti"  # the PF resets itself, and its reset does not end
    PF_RSTD = "pf-rstd"  # the PF resets itself; neither a message nor RSTD says so
    PF_DIES = "pf-dies"  # the PF's driver is gone, without a message; mended: a new one starts
    PF_REFUSES = "pf-refuses"  # every request is refused
    PF_REFUSES_RESET = "pf-refuses-reset"  # this request is refused
    PF_REFUSES_SET_MAC = "pf-refuses-set-mac"
    PF_REFUSES_SET_MULTICAST = "pf-refuses-set-multicast"
    PF_REFUSES_SET_VLAN = "pf-refuses-set-vlan"
    PF_REFUSES_SET_LPE = "pf-refuses-set-lpe"
    PF_REFUSES_SET_MACVLAN = "pf-refuses-set-macvlan"
    PF_REFUSES_API_NEGOTIATE = "pf-refuses-api-negotiate"
    PF_REFUSES_GET_QUEUES = "pf-refuses-get-queues"
    PF_REFUSES_UPDATE_XCAST = "pf-refuses-update-xcast"
    PF_REFUSES_GET_LINK_STATE = "pf-refuses-get-link-state"

    @property
    def of_the_pf(self) -> bool:
        """Whether a PfAgent has it, and not the NIC."""
        return self.value.startswith("pf-")


def parse_fault(text: str) -> tuple[Fault, int]:
    """The fault and the register access that injects it, 0 for now: `reset`, `removal+500`. Raises ValueError."""
    name, _, at = text.partition("+")
    if name not in {fault.value for fault in Fault} or not (at or "0").isdecimal() or text.endswith("+"):
        names = ", ".join(fault.value for fault in Fault if not fault.of_the_pf)
        agents = ", ".join(fault.value for fault in Fault if fault.of_the_pf)
        raise ValueError(
            f"{text!r} is not a fault. Write {names}; for virtual functions also {agents}; add +N for the N-th "
            "register access"
        )
    return Fault(name), int(at or 0)
