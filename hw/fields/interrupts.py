"""Interrupts (82599 8.2.3.5)."""

from __future__ import annotations

from ixrings.hw.register import Word, bit, bits


class CAUSES(Word):
    """EICR and the registers laid out like it."""

    RTX_QUEUE = bits(15, 0)
    FLOW_DIR = bit(16)
    RX_MISS = bit(17)
    PCI_EX = bit(18)
    MAILBOX = bit(19)
    LSC = bit(20)  # link status change
    LINKSEC = bit(21)
    MNG = bit(22)
    TS = bit(23)
    GPI_SDP0 = bit(24)
    GPI_SDP1 = bit(25)
    GPI_SDP2 = bit(26)
    GPI_SDP3 = bit(27)
    ECC = bit(28)
    TCP_TIMER = bit(30)
    OTHER = bit(31)


class EITR(Word):
    ITR_INTERVAL = bits(11, 3)  # units of 2.048 us at 10 Gbit/s
    LLI_MOD = bit(15)
    LLI_CREDIT = bits(20, 16)
    ITR_COUNTER = bits(27, 21)
    CNT_WDIS = bit(31)  # the write leaves the counters alone


class GPIE(Word):
    SDP0_GPIEN = bit(0)
    SDP1_GPIEN = bit(1)
    SDP2_GPIEN = bit(2)  # a change of SDP2 is a cause
    SDP3_GPIEN = bit(3)
    MSIX_MODE = bit(4)
    OCD = bit(5)  # a read of EICR clears the other causes only
    EIMEN = bit(6)
    LL_INTERVAL = bits(10, 7)  # units of 4 us
    RSC_DELAY = bits(13, 11)
    VT_MODE = bits(15, 14)
    EIAME = bit(30)  # EIAM acts when an MSI-X message is sent
    PBA_SUPPORT = bit(31)


class IVAR(Word):
    """Two queues a register: RX 2i, TX 2i, RX 2i+1, TX 2i+1."""

    INT_ALLOC_0 = bits(5, 0)
    INT_ALLOC_VAL_0 = bit(7)
    INT_ALLOC_1 = bits(13, 8)
    INT_ALLOC_VAL_1 = bit(15)
    INT_ALLOC_2 = bits(21, 16)
    INT_ALLOC_VAL_2 = bit(23)
    INT_ALLOC_3 = bits(29, 24)
    INT_ALLOC_VAL_3 = bit(31)


class IVAR_MISC(Word):
    INT_ALLOC_0 = bits(6, 0)  # TCP timer
    INT_ALLOC_VAL_0 = bit(7)
    INT_ALLOC_1 = bits(14, 8)  # all other causes
    INT_ALLOC_VAL_1 = bit(15)


class L34TIMIR(Word):
    SIZE_BP = bit(12)
    MUST_BE_ONE = bit(19)
    LLI = bit(20)
    RX_QUEUE = bits(27, 21)


class LLITHRESH(Word):
    SIZE_THRESH = bits(11, 0)


class IMIRVP(Word):
    VLAN_PRI = bits(2, 0)
    VLAN_PRI_EN = bit(3)
