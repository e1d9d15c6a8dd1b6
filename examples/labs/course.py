"""What the scripts of the labs import: the NIC, access to DMA memory, and the solved steps of earlier labs.

python examples/labs/check.py 03                        # your lab.py on a strict emulated 82599
python examples/labs/check.py 03 --nic 0000:03:00.0     # the same file on a real 82599, unchecked
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from pathlib import Path

from ixrings.hw.device import Device, DmaMemory
from ixrings.hw.errors import DeviceError
from ixrings.hw.registers import Registers
from ixrings.hw.vfio import VfioDevice
from ixrings.hw.vfio_user import VfioUserDevice

DESCRIPTOR = 16  # bytes


def nic_name() -> str:
    """The NIC's name from the command line, given by check.py or by you: 0000:03:00.0 or vfio-user:SOCKET."""
    if len(sys.argv) != 2:
        lab = Path(sys.argv[0]).resolve().parent.name[:2]
        number = lab if lab.isdigit() else "NN"
        raise SystemExit(
            f"no NIC was named. Run: python examples/labs/check.py {number} {sys.argv[0]} [--nic 0000:03:00.0]"
        )
    return sys.argv[1]


def open_nic() -> Device:
    """The NIC as it is, before any register access: `with open_nic() as device:`. Raises DeviceError."""
    kind, _, socket = nic_name().partition(":")
    return VfioUserDevice(socket) if kind == "vfio-user" else VfioDevice(nic_name())


def pf(command: str) -> str:
    """What the administrator of the physical function does; the answer. After `ip link set PF` the same words do it on
    a real one, so there this function shows the command and waits for Enter.

    "vf 1 spoofchk off", "vf 1 trust on" and so on change VF 1; "vf 0 mac" asks for an address; "spoofed" asks how many
    frames the NIC has dropped because of their source address. Raises DeviceError if it is refused.
    """
    place = Path(nic_name().partition(":")[2]).with_name("pf")
    if not place.is_socket():
        return input(f"On the host: ip link set PF {command}. Then type the answer, or just Enter: ")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as administrator:
        administrator.connect(str(place))
        administrator.sendall(f"{command}\n".encode())
        answer = administrator.makefile(encoding="utf-8").readline().strip()
    if answer.startswith("refused: "):
        raise DeviceError(answer)
    return answer


def store(memory: DmaMemory, index: int, q0: int, q1: int) -> None:
    """Write descriptor `index` of a ring: two 64-bit words in little-endian order."""
    at = index * DESCRIPTOR
    memory.view[at : at + DESCRIPTOR] = bytearray(struct.pack("<QQ", q0, q1))


def load(memory: DmaMemory, index: int) -> tuple[int, int]:
    """Read descriptor `index` of a ring: its two 64-bit words."""
    at = index * DESCRIPTOR
    q0, q1 = struct.unpack("<QQ", memory.view[at : at + DESCRIPTOR].tobytes())
    return q0, q1


def put(memory: DmaMemory, at: int, data: bytes) -> None:
    """Copy `data` into DMA memory, from byte `at` on."""
    memory.view[at : at + len(data)] = bytearray(data)


def get(memory: DmaMemory, at: int, length: int) -> bytes:
    """Copy `length` bytes out of DMA memory, from byte `at` on."""
    return memory.view[at : at + length].tobytes()


# ---- labs 01 and 02, solved ----


def read_mac(nic: Registers) -> bytes:
    """The NIC's address from its first receive address (8.2.3.7.8, 8.2.3.7.9)."""
    return int(nic.RAL[0].read()).to_bytes(4, "little") + nic.RAH[0].read().RAH.to_bytes(2, "little")


def bring_up(device: Device) -> Registers:
    """Reset the NIC, start its link, and allow it to access memory (4.6.3, 4.6.4.2). All queues stay off."""
    nic = Registers(device)
    device.enable_bus_master(True)
    nic.EIMC.write(0x7FFF_FFFF)
    nic.CTRL.update(RST=1)
    time.sleep(0.010)
    nic.CTRL.wait(RST=0, timeout=0.1)
    nic.EIMC.write(0x7FFF_FFFF)
    nic.EEC.wait(AUTO_RD=1, EE_PRES=1, timeout=0.1)
    if nic.FWSM.read().EXT_ERR_IND:
        raise DeviceError("the NIC's firmware reports a fault. Power the machine off and on again")
    nic.RDRXCTL.wait(DMAIDONE=1, timeout=0.1)
    nic.ESDP.update(SDP3_DATA=0)
    nic.AUTOC.update(LMS=3, RESTART_AN=1)
    nic.LINKS.wait(LINK_UP=1, timeout=10)
    return nic


# ---- registers that every driver sets in the same way; the labs do not repeat them ----


def prepare_transmit(nic: Registers) -> None:
    """Set one packet buffer of 160 KB and no rate limits (4.6.8, 4.6.11.3.4). You set DMATXCTL.TE and the queues."""
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
    """Clear the filter tables, which a reset does not do; strip CRCs; disable no-snoop (4.6.7). You set RXCTRL.RXEN
    and the queues."""
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
    nic.RQSMR[0].write(0x03020100)  # queues 0 to 3 have counters of their own (8.2.3.23.71)


# ---- labs 03 and 04, solved ----


def start_transmit_queue(nic: Registers, queue: int, ring: DmaMemory, slots: int) -> None:
    """Give the queue its ring and enable it (4.6.8). Call prepare_transmit() first."""
    nic.DMATXCTL.update(TE=1)
    nic.TDBAL[queue].write(ring.iova & 0xFFFF_FFFF)
    nic.TDBAH[queue].write(ring.iova >> 32)
    nic.TDLEN[queue].write(slots * DESCRIPTOR)
    nic.TXDCTL[queue].update(ENABLE=1)
    nic.TXDCTL[queue].wait(ENABLE=1, timeout=0.1)


def start_receive_queue(nic: Registers, queue: int, ring: DmaMemory, slots: int) -> None:
    """Give the queue its ring, with buffers of 2 KB and advanced descriptors, and enable it (4.6.7). Call
    prepare_receive() first. You write the tail."""
    nic.RDBAL[queue].write(ring.iova & 0xFFFF_FFFF)
    nic.RDBAH[queue].write(ring.iova >> 32)
    nic.RDLEN[queue].write(slots * DESCRIPTOR)
    nic.SRRCTL[queue].update(BSIZEPACKET=2, DESCTYPE=1)
    nic.DCA_RXCTRL[queue].update(MUST_BE_ZERO=0)
    nic.RXDCTL[queue].update(ENABLE=1)
    nic.RXDCTL[queue].wait(ENABLE=1, timeout=0.1)


def start_receiving(nic: Registers) -> None:
    """Switch reception on (4.6.7 step 11)."""
    nic.SECRXCTRL.update(RX_DIS=1)
    nic.SECRXSTAT.wait(SECRX_RDY=1, timeout=0.1)
    nic.RXCTRL.update(RXEN=1)
    nic.SECRXCTRL.update(RX_DIS=0)
