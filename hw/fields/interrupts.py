"""Interrupts (82599 8.2.3.5)."""

from __future__ import annotations

from ..field import bit, bits
from ..register import Word


class CAUSES(Word):
    """EICR, and the registers with the same layout."""

    RTX_QUEUE = bits(15, 0, "receive and transmit queues, as IVAR maps them")
    FLOW_DIR = bit(16, "flow director: no room for a filter")
    RX_MISS = bit(17, "packets missed: the packet buffer was full")
    PCI_EX = bit(18, "PCIe error; PICAUSE shows which")
    MAILBOX = bit(19, "a VF sent a message or was reset")
    LSC = bit(20, "link status change")
    LINKSEC = bit(21, "LinkSec: packet numbers run out")
    MNG = bit(22, "manageability event")
    TS = bit(23, "time stamp")
    GPI_SDP0 = bit(24, "pin SDP0 has changed")
    GPI_SDP1 = bit(25, "pin SDP1 has changed")
    GPI_SDP2 = bit(26, "pin SDP2 has changed")
    GPI_SDP3 = bit(27, "pin SDP3 has changed")
    ECC = bit(28, "ECC error that cannot be corrected")
    TCP_TIMER = bit(30)
    OTHER = bit(31, "any other cause")


class EITR(Word):
    ITR_INTERVAL = bits(11, 3, "least time between interrupts, in 2.048 us at 10 Gbit/s")
    LLI_MOD = bit(15, "low latency interrupts are moderated")
    LLI_CREDIT = bits(20, 16, "low latency interrupts left")
    ITR_COUNTER = bits(27, 21, "time until the next interrupt")
    CNT_WDIS = bit(31, "the write does not change the counters")


class GPIE(Word):
    SDP0_GPIEN = bit(0, "a change of SDP0 is a cause")
    SDP1_GPIEN = bit(1, "a change of SDP1 is a cause")
    SDP2_GPIEN = bit(2, "a change of SDP2 is a cause")
    SDP3_GPIEN = bit(3, "a change of SDP3 is a cause")
    MSIX_MODE = bit(4, "1: MSI-X, 0: MSI or a line")
    OCD = bit(5, "other clear disable: a read of EICR clears the other causes only")
    EIMEN = bit(6, "causes set with EICS interrupt at once")
    LL_INTERVAL = bits(10, 7, "low latency credits are renewed after this time, in 4 us")
    RSC_DELAY = bits(13, 11, "delay from the end of a large receive to its interrupt")
    VT_MODE = bits(15, 14, "number of virtual functions' pools")
    EIAME = bit(30, "EIAM acts when an MSI-X message is sent")
    PBA_SUPPORT = bit(31, "pending bits as MSI-X needs them")


class IVAR(Word):
    """Register i has the vectors of queues 2i and 2i+1."""

    INT_ALLOC_0 = bits(5, 0, "vector of receive queue 2i")
    INT_ALLOC_VAL_0 = bit(7, "INT_ALLOC_0 is valid")
    INT_ALLOC_1 = bits(13, 8, "vector of transmit queue 2i")
    INT_ALLOC_VAL_1 = bit(15, "INT_ALLOC_1 is valid")
    INT_ALLOC_2 = bits(21, 16, "vector of receive queue 2i+1")
    INT_ALLOC_VAL_2 = bit(23, "INT_ALLOC_2 is valid")
    INT_ALLOC_3 = bits(29, 24, "vector of transmit queue 2i+1")
    INT_ALLOC_VAL_3 = bit(31, "INT_ALLOC_3 is valid")


class IVAR_MISC(Word):
    INT_ALLOC_0 = bits(6, 0, "vector of the TCP timer")
    INT_ALLOC_VAL_0 = bit(7, "INT_ALLOC_0 is valid")
    INT_ALLOC_1 = bits(14, 8, "vector of all other causes")
    INT_ALLOC_VAL_1 = bit(15, "INT_ALLOC_1 is valid")


class L34TIMIR(Word):
    SIZE_BP = bit(12, "size bypass: packets of any size")
    MUST_BE_ONE = bit(19)
    LLI = bit(20, "a match raises a low latency interrupt")
    RX_QUEUE = bits(27, 21)


class LLITHRESH(Word):
    SIZE_THRESH = bits(11, 0, "shorter packets raise a low latency interrupt")


class IMIRVP(Word):
    VLAN_PRI = bits(2, 0, "this priority and those above raise a low latency interrupt")
    VLAN_PRI_EN = bit(3)
