"""What the labs' scripts start from: the NIC, and what earlier labs have already made of it.

python examples/labs/check.py 03                        # your lab.py on a strict emulated 82599
python examples/labs/check.py 03 --nic 0000:03:00.0     # the same file on a real one, unchecked
"""

from __future__ import annotations

import struct
import sys
import time

from ixrings.hw.device import Device, DmaMemory
from ixrings.hw.errors import DeviceError
from ixrings.hw.registers import Registers
from ixrings.hw.vfio import VfioDevice
from ixrings.hw.vfio_user import VfioUserDevice

DESCRIPTOR = 16  # bytes


def nic_name() -> str:
    """The NIC that check.py, or you, named: 0000:03:00.0, or vfio-user:SOCKET."""
    if len(sys.argv) != 2:
        raise SystemExit("which NIC? Run: python examples/labs/check.py NN YOUR_FILE.py [--nic 0000:03:00.0]")
    return sys.argv[1]


def open_nic() -> Device:
    """The NIC, untouched: `with open_nic() as device:`. Raises DeviceError."""
    kind, _, socket = nic_name().partition(":")
    return VfioUserDevice(socket) if kind == "vfio-user" else VfioDevice(nic_name())


def store(memory: DmaMemory, index: int, q0: int, q1: int) -> None:
    """Write descriptor `index` of a ring: two 64-bit words, little-endian."""
    at = index * DESCRIPTOR
    memory.view[at : at + DESCRIPTOR] = bytearray(struct.pack("<QQ", q0, q1))


def load(memory: DmaMemory, index: int) -> tuple[int, int]:
    """Read descriptor `index` of a ring."""
    at = index * DESCRIPTOR
    q0, q1 = struct.unpack("<QQ", memory.view[at : at + DESCRIPTOR].tobytes())
    return q0, q1


def put(memory: DmaMemory, at: int, data: bytes) -> None:
    """Copy bytes into DMA memory."""
    memory.view[at : at + len(data)] = bytearray(data)


def get(memory: DmaMemory, at: int, length: int) -> bytes:
    """Copy bytes out of DMA memory."""
    return memory.view[at : at + length].tobytes()


# ---- lab 01 and 02, done ----


def read_mac(nic: Registers) -> bytes:
    """8.2.3.7.8, 8.2.3.7.9."""
    return int(nic.RAL[0].read()).to_bytes(4, "little") + nic.RAH[0].read().RAH.to_bytes(2, "little")


def bring_up(device: Device) -> Registers:
    """A NIC that is reset, has its link, and may use memory (4.6.3, 4.6.4.2). No queue is on."""
    nic = Registers(device)
    device.enable_bus_master(True)
    nic.EIMC.write(0x7FFF_FFFF)
    nic.CTRL.update(RST=1)
    time.sleep(0.010)
    nic.CTRL.wait(RST=0, timeout=0.1)
    nic.EIMC.write(0x7FFF_FFFF)
    nic.EEC.wait(AUTO_RD=1, EE_PRES=1, timeout=0.1)
    if nic.FWSM.read().EXT_ERR_IND:
        raise DeviceError("the NIC's firmware reports a fault; power the machine off and on")
    nic.RDRXCTL.wait(DMAIDONE=1, timeout=0.1)
    nic.ESDP.update(SDP3_DATA=0)
    nic.AUTOC.update(LMS=3, RESTART_AN=1)
    nic.LINKS.wait(LINK_UP=1, timeout=10)
    return nic


# ---- registers that every driver sets the same way, so that the labs need not ----


def prepare_transmit(nic: Registers) -> None:
    """4.6.8, 4.6.11.3.4: one packet buffer of 160 KB, no rate limits. DMATXCTL.TE and the queues are left to you."""
    nic.RTTDCS.update(ARBDIS=1)
    nic.MTQC.write(0)
    nic.TXPBSIZE[0].write(SIZE=160)
    nic.TXPBTHRESH[0].write(THRESH=158)
    nic.DTXMXSZRQ.write(MAX_BYTES_NUM_REQ=0xFFF)
    for queue in range(len(nic.TXDCTL)):
        nic.RTTDQSEL.write(queue)
        nic.RTTDT1C.write(0)
    nic.RTTDCS.update(ARBDIS=0)


def prepare_receive(nic: Registers) -> None:
    """4.6.7: filter tables are not cleared by a reset; CRC is stripped; no snoop off. RXCTRL.RXEN and the queues are left to you."""
    for table in (nic.PFUTA, nic.PFVLVF, nic.PFVLVFB, nic.VFTA, nic.MTA, nic.FTQF):
        for entry in table:
            entry.write(0)
    for index, pool in enumerate(nic.MPSAR):
        pool.write(1 if index % 2 == 0 else 0)
    nic.FCTRL.write(BAM=1)
    nic.HLREG0.update(RXCRCSTRP=1)
    nic.RDRXCTL.update(CRCSTRIP=1, RSCFRSTSIZE=0, RSCACKC=1, FCOE_WRFIX=1)
    nic.RXPBSIZE[0].write(SIZE=512)
    nic.FCRTH[0].write(RTH=(512 * 1024 - 0x6000) >> 5)
    nic.CTRL_EXT.update(NS_DIS=1)
    nic.RQSMR[0].write(0x03020100)  # queues 0 to 3 count for themselves (8.2.3.23.71)


# ---- lab 03 and 04, done ----


def start_transmit_queue(nic: Registers, queue: int, ring: DmaMemory, slots: int) -> None:
    """4.6.8, after prepare_transmit()."""
    nic.DMATXCTL.update(TE=1)
    nic.TDBAL[queue].write(ring.iova & 0xFFFF_FFFF)
    nic.TDBAH[queue].write(ring.iova >> 32)
    nic.TDLEN[queue].write(slots * DESCRIPTOR)
    nic.TXDCTL[queue].update(ENABLE=1)
    nic.TXDCTL[queue].wait(ENABLE=1, timeout=0.1)


def start_receive_queue(nic: Registers, queue: int, ring: DmaMemory, slots: int) -> None:
    """4.6.7, after prepare_receive(): buffers of 2 KB, advanced descriptors. Its tail is left to you."""
    nic.RDBAL[queue].write(ring.iova & 0xFFFF_FFFF)
    nic.RDBAH[queue].write(ring.iova >> 32)
    nic.RDLEN[queue].write(slots * DESCRIPTOR)
    nic.SRRCTL[queue].update(BSIZEPACKET=2, DESCTYPE=1)
    nic.DCA_RXCTRL[queue].update(MUST_BE_ZERO=0)
    nic.RXDCTL[queue].update(ENABLE=1)
    nic.RXDCTL[queue].wait(ENABLE=1, timeout=0.1)


def start_receiving(nic: Registers) -> None:
    """4.6.7 step 11, once the rings have their buffers."""
    nic.SECRXCTRL.update(RX_DIS=1)
    nic.SECRXSTAT.wait(SECRX_RDY=1, timeout=0.1)
    nic.RXCTRL.update(RXEN=1)
    nic.SECRXCTRL.update(RX_DIS=0)
