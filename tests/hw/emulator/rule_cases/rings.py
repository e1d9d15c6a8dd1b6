"""Cases of hw/emulator/rules/rings.py."""

from __future__ import annotations

from tests.support.by_hand import ByHand, Ring, frame

from .steps import bring_up, data_descriptor, disable_queues, send_descriptor


def ring_alignment(nic: ByHand, wrong: bool) -> None:
    nic.regs.RDBAL[0].write(0x1040 if wrong else 0x1080)


def ring_length(nic: ByHand, wrong: bool) -> None:
    nic.regs.TDLEN[5].write(8192 * 16 + 128 * wrong)


def ring_before_enable(nic: ByHand, wrong: bool) -> None:
    nic.read_ready_bits()
    if not wrong:
        nic.place_receive_ring(0, Ring(nic.nic, 64))
    nic.regs.SRRCTL[0].write(BSIZEPACKET=2, DESCTYPE=1)
    nic.regs.RXDCTL[0].write(ENABLE=1)


def ring_stays(nic: ByHand, wrong: bool) -> None:
    bring_up(nic)
    if not wrong:
        disable_queues(nic)
    nic.regs.TDLEN[0].write(32 * 16)


def tail_after_enable(nic: ByHand, wrong: bool) -> None:
    nic.read_ready_bits()
    nic.place_receive_ring(0, Ring(nic.nic, 1024))
    nic.regs.RXDCTL[0].write(ENABLE=1)
    if not wrong:
        nic.regs.RXDCTL[0].read()
    nic.regs.RDT[0].write(1023)


def tail_within_ring(nic: ByHand, wrong: bool) -> None:
    bring_up(nic, rx=0)
    nic.regs.TDT[0].write(64 if wrong else 0)
    nic.nic.step()


def tail_moves_forward(nic: ByHand, wrong: bool) -> None:
    bring_up(nic)
    nic.send(*[frame()] * 10)
    for index in range(10):
        nic.rx[0].write(index, nic.rx[0].buffer(index), 0)
    nic.regs.RDT[0].write(11 if wrong else 8)  # ten were used: the tail may move to 8, not beyond the head


def first_tail_gives_descriptors(nic: ByHand, wrong: bool) -> None:
    nic.read_ready_bits()
    nic.place_receive_ring(0, Ring(nic.nic, 64))
    nic.regs.RXDCTL[0].write(ENABLE=1)
    nic.regs.RXDCTL[0].read()
    nic.regs.RDT[0].write(0 if wrong else 63)


def head_before_enable(nic: ByHand, wrong: bool) -> None:
    nic.regs.RDH[0].write(0)
    bring_up(nic)
    if wrong:
        nic.regs.RDH[0].write(0)


def receive_descriptor_cleared(nic: ByHand, wrong: bool) -> None:
    bring_up(nic)
    nic.send(frame(), frame())
    for index in () if wrong else range(2):
        nic.rx[0].write(index, nic.rx[0].buffer(index), 0)
    nic.regs.RDT[0].write(1)


def transmit_descriptor_cleared(nic: ByHand, wrong: bool) -> None:
    send_descriptor(nic, data_descriptor(60) | wrong << 32)


def transmit_tail_after_eop(nic: ByHand, wrong: bool) -> None:
    send_descriptor(nic, data_descriptor(60, command=0x2A if wrong else 0x2B))


def disable_awaited(nic: ByHand, wrong: bool) -> None:
    bring_up(nic)
    nic.regs.TXDCTL[0].write(0)
    if not wrong:
        nic.regs.TXDCTL[0].read()
    nic.regs.TDBAL[0].write(0x8000)


def ring_memory_stays(nic: ByHand, wrong: bool) -> None:
    bring_up(nic, tx=0)
    if not wrong:
        nic.regs.RXDCTL[0].write(0)
    nic.rx[0].descriptors.release()
