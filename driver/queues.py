"""Receive and transmit initialisation: of the port, then of each queue (82599 4.6.7, 4.6.8, 4.6.11.3.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ixrings.hw.pf.pools import Pools
from ixrings.hw.registers import Registers
from ixrings.rings.queue import RxQueue, TxQueue

from .config import STANDARD_FRAME, PortOptions, frame_size, rx_buffer_kb
from .queue_registers import QueueRegisters

DESCRIPTOR_SIZE = 16
ADVANCED_ONE_BUFFER = 1
KB = 1024
TX_BUFFER_KB = 160  # the whole transmit packet buffer (8.2.3.9.13)
QUEUES_WITHOUT_DCB = 64  # transmit queues 64 to 127 "should not be used" without DCB or virtualisation (7.2.1.2.1)
FOUR_CLASSES = 2  # MTQC.NUM_TC_OR_Q
RX_HEADROOM = 0x6000  # bytes that FCRTH leaves free (4.6.3.2)
RX_RESUME = 0x10000  # bytes: the other end may resume when the buffer holds this much less than FCRTH
PAUSE_QUANTA = 0xFFFF  # in units of 512 bit times: 3.4 ms; the pause frame is repeated after half of it

# The NIC prefetches TX descriptors in runs; without it, 64-byte frames do not reach line rate. It starts a fetch when
# fewer than PTHRESH descriptors are on the chip and at least HTHRESH wait in memory. The chip holds 40 (8.2.3.9.10).
PTHRESH = 36
HTHRESH = 8


def clear_tables(nic: Registers) -> None:
    """Clear the filter tables before receive and transmit are enabled: a reset does not (4.6.7, 8.2.3.7, 8.2.3.27)."""
    for table in (nic.PFUTA, nic.PFVLVF, nic.PFVLVFB, nic.VFTA, nic.MTA):
        for entry in table:
            entry.write(0)
    for index, pool in enumerate(nic.MPSAR):
        # Every address belongs to pool 0, the only pool without VMDq (8.2.3.7.10).
        pool.write(1 if index % 2 == 0 else 0)
    for address in range(1, len(nic.RAH)):  # entry 0 is the port's own address, from the EEPROM
        nic.RAL[address].write(0)
        nic.RAH[address].write(0)
    for filter_queue in nic.FTQF:
        filter_queue.update(QUEUE_ENABLE=0)
    for ether_type in nic.ETQF:
        ether_type.write(0)
    nic.SYNQF.write(0)


def init_receive(nic: Registers, options: PortOptions) -> None:
    """Carry out 4.6.7 up to the queues. Reception stays off until enable_receive()."""
    nic.RXCTRL.update(RXEN=0)
    clear_tables(nic)
    # Two units strip the CRC, and both must be set alike (8.2.3.8.8).
    nic.HLREG0.update(RXCRCSTRP=1, JUMBOEN=int(frame_size(options) > STANDARD_FRAME), LPBK=int(options["loopback"]))
    nic.RDRXCTL.update(CRCSTRIP=1, RSCFRSTSIZE=0, RSCACKC=1, FCOE_WRFIX=1)
    nic.MAXFRS.update(MFS=frame_size(options))
    nic.RXPBSIZE[0].write(SIZE=rx_buffer_kb(options))
    for packet_buffer in range(1, len(nic.RXPBSIZE)):
        nic.RXPBSIZE[packet_buffer].write(0)
    init_flow_control(nic, options)
    nic.CTRL_EXT.update(NS_DIS=1)  # snoop every access: the rings are in cached memory (4.6.7)


def init_flow_control(nic: Registers, options: PortOptions) -> None:
    """Send pause frames (802.3x) and obey them, or neither (4.6.3.2). FCRTH is always set.

    ASSUMPTION (datasheet contradicts itself): thresholds count units of 32 bytes, as their bits 18:5 say; the text says
    16.
    """
    on, high = int(options["flow_control"]), rx_buffer_kb(options) * KB - RX_HEADROOM
    nic.FCRTH[0].write(RTH=high >> 5, FCEN=on)
    nic.FCRTL[0].write(RTL=(high - RX_RESUME) >> 5 if on else 0, XONE=on)
    nic.FCTTV[0].write(TTV_0=PAUSE_QUANTA)
    nic.FCRTV.write(FC_REFRESH_TH=PAUSE_QUANTA // 2)
    nic.MFLCN.update(RFCE=on, DPF=on)
    nic.FCCFG.write(TFCE=on)


def start_receive_queues(
    nic: QueueRegisters, rings: Sequence[RxQueue], iovas: Sequence[int], buf_size: int, drop_en: bool
) -> None:
    """Set up and enable each queue that has a ring, and give it its buffers. iovas: of the descriptor rings."""
    for rx, iova in zip(rings, iovas):
        setup_receive_queue(nic, rx.ring.ringid, iova, rx.num_slots, buf_size, drop_en)
        enable_receive_queue(nic, rx.ring.ringid)
        rx.fill()


def setup_receive_queue(
    nic: QueueRegisters, queue: int, ring_iova: int, slots: int, buf_size: int, drop_en: bool
) -> None:
    """Set up a queue (4.6.7): the address of its ring, and how the NIC writes packets to it."""
    nic.RDBAL[queue].write(ring_iova & 0xFFFF_FFFF)
    nic.RDBAH[queue].write(ring_iova >> 32)
    nic.RDLEN[queue].write(slots * DESCRIPTOR_SIZE)
    # BSIZEPACKET counts whole KB: the NIC fills 2048 bytes of a 2112-byte buffer. A longer frame continues in the next
    # slot.
    nic.SRRCTL[queue].update(BSIZEPACKET=buf_size // KB, DESCTYPE=ADVANCED_ONE_BUFFER, DROP_EN=int(drop_en))
    nic.DCA_RXCTRL[queue].update(MUST_BE_ZERO=0)  # 8.2.3.11.1; the reset value was observed to corrupt payloads


def set_buffer_size(nic: QueueRegisters, queue: int, size: int) -> None:
    """How many bytes of a packet the NIC writes to one buffer, while the queue is off. Whole KB count."""
    nic.SRRCTL[queue].update(BSIZEPACKET=size // KB)


def enable_receive_queue(nic: QueueRegisters, queue: int) -> None:
    """Enable a queue. RDT written before ENABLE reads 1 is lost (4.6.7 step 8)."""
    nic.RXDCTL[queue].update(ENABLE=1)
    nic.RXDCTL[queue].wait(ENABLE=1, timeout=0.010, section="4.6.7")


@contextmanager
def reception_stopped(nic: Registers) -> Iterator[None]:
    """Inside, RXEN is 0; afterwards it has its former value.

    The data path is drained first: RX DMA can hang when RXEN changes in mid-packet (4.6.7).
    """
    nic.SECRXCTRL.update(RX_DIS=1)
    try:
        nic.SECRXSTAT.wait(SECRX_RDY=1, timeout=0.010, section="4.6.7 step 11")
        enabled = nic.RXCTRL.read().RXEN
        nic.RXCTRL.update(RXEN=0)
        try:
            yield
        finally:
            nic.RXCTRL.update(RXEN=enabled)
    finally:
        nic.SECRXCTRL.update(RX_DIS=0)


def enable_receive(nic: Registers) -> None:
    """Start reception (4.6.7 step 11), after every ring has its buffers."""
    nic.SECRXCTRL.update(RX_DIS=1)
    nic.SECRXSTAT.wait(SECRX_RDY=1, timeout=0.010, section="4.6.7 step 11")
    nic.RXCTRL.update(RXEN=1)
    nic.SECRXCTRL.update(RX_DIS=0)


def init_transmit(nic: Registers, options: PortOptions, pools: Pools | None = None) -> None:
    """Carry out 4.6.8 up to the queues. pools: of a PF with virtual functions.

    Up to 64 queues: one packet buffer, no DCB (4.6.11.3.4). More queues: DCB with four traffic classes.
    """
    # MTQC may be written only while ARBDIS is set, and the sizes have to change together with it.
    nic.RTTDCS.update(ARBDIS=1)
    classes = 1
    if pools is not None:
        pools.cut_transmit()
    elif options["tx_queues"] <= QUEUES_WITHOUT_DCB:
        nic.MTQC.write(0)
    else:
        classes = 4
        init_four_classes(nic)
    for packet_buffer in range(len(nic.TXPBSIZE)):
        size = TX_BUFFER_KB // classes if packet_buffer < classes else 0
        nic.TXPBSIZE[packet_buffer].write(SIZE=size)
        # Room for one more whole frame.
        nic.TXPBTHRESH[packet_buffer].write(THRESH=size - -(-frame_size(options) // KB) if size else 0)
    nic.DTXMXSZRQ.write(MAX_BYTES_NUM_REQ=0xFFF)
    for queue in range(len(nic.TXDCTL)):  # no rate limit; a reset does not clear the table
        nic.RTTDQSEL.write(queue)
        nic.RTTDT1C.write(0)
        nic.RTTBCNRC.write(0)
    nic.RTTDCS.update(ARBDIS=0)
    nic.HLREG0.update(TXCRCEN=1, TXPADEN=1)


def init_four_classes(nic: Registers) -> None:
    """Four traffic classes, each with its own packet buffer (7.2.1.2.1, 4.6.11.3.2).

    They have the queues 0..63, 64..95, 96..111 and 112..127. Virtualisation would give 128 queues and one packet
    buffer. But MTQC.VT_ENA must equal PFVTCTL.VT_ENA, and with that RSS no longer spreads over 16 queues. Arbiters stay
    at round robin (TDPAC, VMPAC, TPPAC 0), which needs no credits. DTXMXSZRQ stays at its maximum: with DCB, drivers
    lower it only for more precise arbiters.

    ASSUMPTION (datasheet silent): receive and transmit may have different numbers of classes; DPDK also configures them
    separately.
    """
    nic.MTQC.write(RT_ENA=1, NUM_TC_OR_Q=FOUR_CLASSES)
    # With several packet buffers the NIC looks for room in each of them. Linux sets this with DCB.
    nic.RTTDCS.update(BDPM=0, BPBFSM=0)
    nic.RTTPCS.update(ARBD=0x004)
    nic.SECTXMINIFG.update(SECTXDCB=0x1F)


def setup_transmit_queues(
    nic: QueueRegisters, rings: Sequence[TxQueue], iovas: Sequence[int], head_iovas: Sequence[int]
) -> None:
    """Set up each queue that has a ring."""
    for tx, iova, head in zip(rings, iovas, head_iovas):
        setup_transmit_queue(nic, tx.ring.ringid, iova, tx.num_slots, head)


def enable_transmit_queues(nic: QueueRegisters, rings: Sequence[TxQueue]) -> None:
    for tx in rings:
        enable_transmit_queue(nic, tx.ring.ringid)


def setup_transmit_queue(nic: QueueRegisters, queue: int, ring_iova: int, slots: int, head_iova: int) -> None:
    """Set up a queue (4.6.8). head_iova: where the NIC writes its head, 4 bytes, aligned to 16.

    ASSUMPTION (datasheet contradicts itself): the alignment is 16 bytes. The datasheet asks for 4 or 8 (7.2.3.5.2,
    8.2.3.9.11), but real cards ignored such addresses.
    """
    nic.TDBAL[queue].write(ring_iova & 0xFFFF_FFFF)
    nic.TDBAH[queue].write(ring_iova >> 32)
    nic.TDLEN[queue].write(slots * DESCRIPTOR_SIZE)
    nic.TDWBAH[queue].write(head_iova >> 32)
    nic.TDWBAL[queue].write(head_iova & 0xFFFF_FFFC, HEAD_WB_EN=1)
    # With relaxed ordering, a write-back could pass the reads of the packets that it reports as sent (7.2.3.5.2).
    nic.DCA_TXCTRL[queue].update(TXDESCWBRO=0)
    # WTHRESH 0: the NIC writes its head back at each RS bit, and at no other time (8.2.3.9.10).
    nic.TXDCTL[queue].update(PTHRESH=PTHRESH, HTHRESH=HTHRESH, WTHRESH=0)


def enable_transmit(nic: Registers) -> None:
    """Set DMATXCTL.TE, before any queue is enabled (4.6.8)."""
    nic.DMATXCTL.update(TE=1)


def enable_transmit_queue(nic: QueueRegisters, queue: int) -> None:
    """Enable a queue. TDT must not change before ENABLE reads 1 (4.6.8)."""
    nic.TXDCTL[queue].update(ENABLE=1)
    nic.TXDCTL[queue].wait(ENABLE=1, timeout=0.010, section="4.6.8")
