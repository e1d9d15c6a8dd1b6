"""Every register of the 82599: one table, read by the driver, the emulator, the tracer and `ixrings regs`.

A register is one line in the file of its chapter (the files are named as those of hw/fields/):

    NAME = Register(layout, offset, access, reset value, section of the datasheet, long name, mask=...)

layout      a class of hw/fields/, or Word for a register without named fields
access      how software may use it: Access.RW, Access.RC, ...
mask=       the bits that software can write
aliases=    further addresses of the same register
also=       names that other drivers give it
only_first= only register 0 of the array has the reset value (without DCB only packet buffer 0 has a size: 4.6.11.3.4)

The chapters are plain classes that contain only such lines. `Registers` inherits from them, so editors and mypy know
the type of each register, and a register is added with one line in one file. Two registers at one offset, or with one
name, are refused when the class is created (RegisterMap).

The table of a virtual function's own BAR0 is virtual_function.py, in the same columns: `VfRegisters`.

If no source cites a register's section, a counter gets the number that follows from the nearest cited counter, and any
other register gets the number of its chapter. If no source gives a long name, the long name describes the register;
"(Debug)" marks registers that drivers only dump. Four names of other drivers are not in the table: RCTL is not a
register of the 82599; TDSTAT, TDHMPN and TIC_DW are at addresses where the 82599 has transmit queues 112 to 127.
"""

from __future__ import annotations

from ..errors import DeviceGone
from ..register import ALL_ONES, RegisterMap
from .general import General
from .interrupts import Interrupts
from .mac import Mac
from .offloads import Offloads
from .queues import COUNTERS, QUEUES
from .receive import Receive
from .system import System
from .transmit import Transmit
from .virtual_function import VF_QUEUES, VF_VECTORS, VfRegisters

__all__ = ["BAR0_SIZE", "COUNTERS", "QUEUES", "VF_QUEUES", "VF_VECTORS", "Registers", "VfRegisters", "table_of"]

BAR0_SIZE = 0x20000  # 128 KB of registers, no flash (8.1)


class Registers(
    General,  # 8.2.3.1 to 8.2.3.4
    Interrupts,  # 8.2.3.5, 8.2.3.6
    Receive,  # 8.2.3.7, 8.2.3.8
    Transmit,  # 8.2.3.9 to 8.2.3.11
    Offloads,  # 8.2.3.12 to 8.2.3.21
    Mac,  # 8.2.3.22
    System,  # 8.2.3.23 to 8.2.3.27
    RegisterMap,
):
    """`Registers(device)`: the registers of one NIC, `.CTRL`, `.RXDCTL[queue]` and so on."""

    SIZE = BAR0_SIZE

    def check_present(self, name: str) -> None:
        # STATUS has reserved bits that read 0, so all ones in it mean that the device no longer answers the bus.
        if self.space.read32(Registers.STATUS.offset()) == ALL_ONES:
            raise DeviceGone(
                f"the NIC no longer answers: {name} and STATUS read 0xffffffff. It was unplugged, reset or put to "
                "sleep; close the port, check `lspci`, and open it again"
            )


def table_of(virtual: bool) -> type[RegisterMap]:
    """The table of a device's BAR0; virtual: as Device.virtual says."""
    return VfRegisters if virtual else Registers
