"""A NIC driven by hand, register by register: the small driver that the emulator's tests use."""

from __future__ import annotations

import struct

from ixrings.hw.device import Device
from ixrings.hw.emulator import Emulated82599, Policy
from ixrings.hw.registers import Registers

BUFFER = 2048
DD, EOP = 1, 2


class Ring:
    """One descriptor ring, its buffers and its head write-back word in DMA memory."""

    def __init__(self, nic: Device, slots: int) -> None:
        self.slots = slots
        self.descriptors = nic.alloc_dma(slots * 16)
        self.buffers = nic.alloc_dma(slots * BUFFER)
        self.writeback = nic.alloc_dma(4096)
        self.tail = 0

    def write(self, index: int, q0: int, q1: int) -> None:
        self.descriptors.view[16 * index : 16 * index + 16] = list(struct.pack("<QQ", q0, q1))

    def read(self, index: int) -> tuple[int, int]:
        q0, q1 = struct.unpack("<QQ", self.descriptors.view[16 * index : 16 * index + 16].tobytes())
        return q0, q1

    def buffer(self, index: int) -> int:
        return self.buffers.iova + index * BUFFER

    def bytes(self, index: int, length: int) -> bytes:
        return self.buffers.view[index * BUFFER : index * BUFFER + length].tobytes()


class ByHand:
    """A stepped NIC with link, bus master, promiscuous reception, `rx` and `tx` queues, brought up as in 4.6.

    bare: only bus master is on. legacy: receive descriptors are legacy. The steps are methods, so that a test can
    take a wrong one.
    """

    def __init__(
        self,
        wire: str = "loop",
        *,
        rx: int = 1,
        tx: int = 1,
        slots: int = 64,
        drop_en: int = 0,
        head_writeback: bool = True,
        wthresh: int = 0,
        promiscuous: int = 1,
        bare: bool = False,
        legacy: bool = False,
        manual: bool = True,
        paced: bool = False,
        link_up_s: float = 0.0,
        rules: Policy = Policy.RECORD,
    ) -> None:
        self.nic = Emulated82599(wire, manual=manual, paced=paced, link_up_s=link_up_s, rules=rules)
        self.regs = Registers(self.nic)
        self.nic.enable_bus_master(True)
        if bare:
            return
        self.read_ready_bits()
        self.set_up_reception(promiscuous)
        self.rx = [self.receive_queue(q, slots, drop_en, legacy) for q in range(rx)]
        self.start_reception()
        self.set_up_transmission()
        self.regs.DMATXCTL.update(TE=1)
        self.tx = [self.transmit_queue(q, slots, head_writeback, wthresh) for q in range(tx)]

    def read_ready_bits(self) -> None:
        """4.6.3: read that the NIC is ready after a reset."""
        for register in (self.regs.EEC, self.regs.FWSM, self.regs.RDRXCTL):
            register.read()

    def set_up_reception(self, promiscuous: int = 1) -> None:
        """4.6.7, the steps before the queues."""
        regs = self.regs
        for table in (regs.PFUTA, regs.VFTA, regs.PFVLVF, regs.PFVLVFB, regs.MTA, regs.MPSAR, regs.FTQF):
            for entry in table:
                entry.write(0)
        regs.FCTRL.write(BAM=1, UPE=promiscuous, MPE=promiscuous)
        regs.RDRXCTL.update(CRCSTRIP=1, RSCFRSTSIZE=0, RSCACKC=1, FCOE_WRFIX=1)
        regs.FCRTH[0].write(RTH=0x3D00)
        regs.CTRL_EXT.update(NS_DIS=1)

    def start_reception(self) -> None:
        """4.6.7 step 11."""
        self.regs.SECRXCTRL.update(RX_DIS=1)
        self.regs.SECRXSTAT.read()
        self.regs.RXCTRL.write(RXEN=1)
        self.regs.SECRXCTRL.update(RX_DIS=0)

    def set_up_transmission(self) -> None:
        """4.6.8 and 4.6.11.3.4, the steps before the queues."""
        self.regs.DTXMXSZRQ.write(MAX_BYTES_NUM_REQ=0xFFF)
        for queue in range(len(self.regs.TXDCTL)):
            self.regs.RTTDQSEL.write(queue)
            self.regs.RTTDT1C.write(0)

    def place_receive_ring(self, q: int, ring: Ring, drop_en: int = 0, legacy: bool = False) -> None:
        regs = self.regs
        regs.RDBAL[q].write(ring.descriptors.iova & 0xFFFFFFFF)
        regs.RDBAH[q].write(ring.descriptors.iova >> 32)
        regs.RDLEN[q].write(ring.slots * 16)
        regs.SRRCTL[q].write(BSIZEPACKET=BUFFER // 1024, BSIZEHEADER=4, DESCTYPE=int(not legacy), DROP_EN=drop_en)
        regs.DCA_RXCTRL[q].update(MUST_BE_ZERO=0)

    def receive_queue(self, q: int, slots: int = 64, drop_en: int = 0, legacy: bool = False) -> Ring:
        ring, regs = Ring(self.nic, slots), self.regs
        self.place_receive_ring(q, ring, drop_en, legacy)
        regs.RXDCTL[q].write(ENABLE=1)
        regs.RXDCTL[q].read()
        for index in range(slots):
            ring.write(index, ring.buffer(index), 0)
        regs.RDT[q].write(slots - 1)
        return ring

    def place_transmit_ring(self, q: int, ring: Ring, head_writeback: bool = True) -> None:
        regs = self.regs
        regs.TDBAL[q].write(ring.descriptors.iova & 0xFFFFFFFF)
        regs.TDBAH[q].write(ring.descriptors.iova >> 32)
        regs.TDLEN[q].write(ring.slots * 16)
        if head_writeback:
            regs.DCA_TXCTRL[q].update(TXDESCWBRO=0)
            regs.TDWBAH[q].write(ring.writeback.iova >> 32)
            regs.TDWBAL[q].write((ring.writeback.iova & 0xFFFFFFFF) | 1)

    def transmit_queue(self, q: int, slots: int = 64, head_writeback: bool = True, wthresh: int = 0) -> Ring:
        ring, regs = Ring(self.nic, slots), self.regs
        self.place_transmit_ring(q, ring, head_writeback)
        regs.TXDCTL[q].write(ENABLE=1, WTHRESH=wthresh, PTHRESH=32, HTHRESH=1)
        regs.TXDCTL[q].read()
        return ring

    def post(
        self,
        *pieces: bytes,
        queue: int = 0,
        rs: bool = True,
        ifcs: bool = True,
        paylen: int | None = None,
        address: int | None = None,
    ) -> None:
        """Write one frame into the ring, one descriptor per piece; `kick` sends it."""
        ring = self.tx[queue]
        total = sum(map(len, pieces)) if paylen is None else paylen
        for i, piece in enumerate(pieces):
            index, last = ring.tail, i == len(pieces) - 1
            ring.buffers.view[index * BUFFER : index * BUFFER + len(piece)] = list(piece)
            command = 0x20 | (1 if last else 0) | (2 if ifcs else 0) | (8 if last and rs else 0)
            q1 = len(piece) | 3 << 20 | command << 24 | (total << 46 if i == 0 else 0)
            ring.write(index, ring.buffer(index) if address is None else address, q1)
            ring.tail = (ring.tail + 1) % ring.slots

    def kick(self, queue: int = 0) -> None:
        """Store the tail."""
        self.regs.TDT[queue].write(self.tx[queue].tail)

    def send(self, *frames: bytes, queue: int = 0) -> None:
        for frame in frames:
            self.post(frame, queue=queue)
        self.kick(queue)
        while self.nic.step():
            pass

    def head(self, queue: int = 0) -> int:
        """The head in its write-back word."""
        return int(self.tx[queue].writeback.view[:4].view("<u4")[0])

    def received(self, queue: int = 0) -> list[bytes]:
        """The frames from the ring's start to the first descriptor without DD, pieces joined."""
        frames, piece = [], b""
        for index in range(self.rx[queue].slots):
            _, q1 = self.rx[queue].read(index)
            if not q1 & DD:
                break
            piece += self.rx[queue].bytes(index, q1 >> 32 & 0xFFFF)
            if q1 & EOP:
                frames.append(piece)
                piece = b""
        return frames

    def close(self) -> None:
        self.nic.close()


def frame(
    length: int = 60, *, to: bytes = b"\x02\x82\x59\x90\x00\x01", kind: bytes = b"\x88\xb5", fill: int = 0
) -> bytes:
    """An Ethernet frame of `length` bytes without CRC, by default of the experimental EtherType."""
    head = to + bytes([2, 0, 0, 0, 0, 9]) + kind
    return head + bytes((fill + i) & 0xFF for i in range(length - len(head)))
