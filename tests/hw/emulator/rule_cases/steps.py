"""A driver's steps that several cases share."""

from __future__ import annotations

import time

from tests.support.by_hand import ByHand, Ring


def bring_up(nic: ByHand, *, rx: int = 1, tx: int = 1) -> None:
    """Bring the NIC up in the order that the datasheet gives."""
    nic.read_ready_bits()
    nic.set_up_reception()
    nic.rx = [nic.receive_queue(queue) for queue in range(rx)]
    nic.start_reception()
    nic.set_up_transmission()
    nic.regs.DMATXCTL.update(TE=1)
    nic.tx = [nic.transmit_queue(queue) for queue in range(tx)]


def clear_rate_limits(nic: ByHand, queues: range) -> None:
    """Clear the rate limits of these transmit queues, and start transmission."""
    for queue in queues:
        nic.regs.RTTDQSEL.write(queue)
        nic.regs.RTTDT1C.write(0)
    nic.regs.DTXMXSZRQ.write(MAX_BYTES_NUM_REQ=0xFFF)
    nic.regs.DMATXCTL.update(TE=1)


def disable_queues(nic: ByHand) -> None:
    """Disable queue 0 of both directions, and wait for it."""
    for control in (nic.regs.RXDCTL[0], nic.regs.TXDCTL[0]):
        control.update(ENABLE=0)
        control.read()


def disable_master(nic: ByHand) -> None:
    nic.regs.CTRL.update(GIO_DIS=1)
    nic.regs.STATUS.read()


def software_reset(nic: ByHand, wait_s: float = 0.011) -> None:
    nic.regs.CTRL.write(RST=1)
    time.sleep(wait_s)


def send_descriptor(nic: ByHand, q1: int) -> None:
    """Bring the NIC up and send one descriptor with this second half."""
    bring_up(nic)
    nic.tx[0].write(0, nic.tx[0].buffer(0), q1)
    nic.regs.TDT[0].write(1)
    nic.nic.step()


def data_descriptor(length: int, *, command: int = 0x2B, paylen: int | None = None) -> int:
    """Q1 of an advanced data descriptor (7.2.3.2.4); the command is DEXT, RS, IFCS, EOP."""
    return length | 3 << 20 | command << 24 | (length if paylen is None else paylen) << 46


def enable_receive_queue(nic: ByHand, **srrctl: int) -> None:
    """Enable queue 0 with these fields of SRRCTL."""
    nic.read_ready_bits()
    nic.place_receive_ring(0, Ring(nic.nic, 64))
    nic.regs.SRRCTL[0].update(**srrctl)
    nic.regs.RXDCTL[0].write(ENABLE=1)


def set_up_flow_director(nic: ByHand, *, hash_written: bool = True) -> None:
    """Give flow director 64 KB, and select the filter of the next command."""
    nic.regs.FDIRHKEY.write(1)
    nic.regs.FDIRSKEY.write(2)
    nic.regs.FDIRCTRL.write(PBALLOC=1)
    nic.regs.FDIRCTRL.read()
    if hash_written:
        nic.regs.FDIRHASH.write(HASH=3, SIGNATURE_SW_INDEX=7)
