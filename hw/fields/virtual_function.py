"""A virtual function's own registers (82599 8.3.5). Registers that it shares with the PF have the PF's classes."""

from __future__ import annotations

from ..field import bit, bits
from ..register import Word


class VFCTRL(Word):
    RST = bit(26, "resets the queues and interrupts of this VF")


class VFMAILBOX(Word):
    REQ = bit(0, "the VF has a message: interrupts the PF")
    ACK = bit(1, "the VF has read the PF's message: interrupts the PF")
    VFU = bit(2, "the VF uses the mailbox")
    PFU = bit(3, "the PF uses the mailbox")
    PFSTS = bit(4, "the PF has written a message since the last read")
    PFACK = bit(5, "the PF has read the VF's message since the last read")
    RSTI = bit(6, "the PF is in reset")
    RSTD = bit(7, "the PF has finished a reset since the last read")


class VECTORS(Word):
    """VTEICR, and the registers with the same layout."""

    VECTOR = bits(2, 0, "one bit for each MSI-X vector")


class VTIVAR(Word):
    """Register i has the vectors of queues 2i and 2i+1. A queue can have vector 0 or 1."""

    INT_ALLOC_0 = bit(0, "vector of receive queue 2i")
    INT_ALLOC_VAL_0 = bit(7, "INT_ALLOC_0 is valid")
    INT_ALLOC_1 = bit(8, "vector of transmit queue 2i")
    INT_ALLOC_VAL_1 = bit(15, "INT_ALLOC_1 is valid")
    INT_ALLOC_2 = bit(16, "vector of receive queue 2i+1")
    INT_ALLOC_VAL_2 = bit(23, "INT_ALLOC_2 is valid")
    INT_ALLOC_3 = bit(24, "vector of transmit queue 2i+1")
    INT_ALLOC_VAL_3 = bit(31, "INT_ALLOC_3 is valid")


class VTIVAR_MISC(Word):
    INT_ALLOC = bits(1, 0, "vector of the mailbox")
    INT_ALLOC_VAL = bit(7, "INT_ALLOC is valid")
