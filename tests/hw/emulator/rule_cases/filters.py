"""Cases of hw/emulator/rules/filters.py."""

from __future__ import annotations

from tests.support.by_hand import ByHand


def rss_programmed(nic: ByHand, wrong: bool) -> None:
    nic.set_up_reception()
    for register in [*nic.regs.RSSRK, *nic.regs.RETA][int(wrong) :]:
        register.write(1)
    nic.regs.MRQC.write(MRQE=1, IPV4=1)
    nic.start_reception()


def ether_type_not_ip(nic: ByHand, wrong: bool) -> None:
    nic.regs.ETQF[0].write(ETYPE=0x0800 if wrong else 0x88F7, FILTER_EN=1)


def ether_types_differ(nic: ByHand, wrong: bool) -> None:
    nic.regs.ETQF[0].write(ETYPE=0x88F7, FILTER_EN=1, UP_EN=1, UP=3)
    nic.regs.ETQF[5].write(ETYPE=0x88F7, FILTER_EN=1, UP_EN=1, UP=3 if wrong else 4)


def five_tuple_priority(nic: ByHand, wrong: bool) -> None:
    nic.regs.FTQF[7].write(QUEUE_ENABLE=1, POOL_MASK=1, PRIORITY=int(not wrong))


def five_tuple_without_pool(nic: ByHand, wrong: bool) -> None:
    nic.regs.FTQF[7].write(QUEUE_ENABLE=1, POOL_MASK=int(not wrong), PRIORITY=1)


def five_tuple_bit_19(nic: ByHand, wrong: bool) -> None:
    nic.regs.L34TIMIR[7].write(SIZE_BP=1, RX_QUEUE=3, MUST_BE_ONE=int(not wrong))
