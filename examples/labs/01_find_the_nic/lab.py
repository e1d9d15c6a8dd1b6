"""Lab 01: find the NIC and read its MAC address."""

from course import open_nic

from ixrings.hw.device import Device
from ixrings.hw.registers import Registers


def find(device: Device) -> None:
    """Print who it is, as lspci does: vendor:device."""
    device.enable_bus_master(False)  # memory space on, so that registers answer; no DMA yet
    vendor, product = 0, 0
    ...  # GAP 1: Read vendor and product from configuration space: 2 bytes at 0x00, 2 at 0x02.
    #   device.config_read(offset, size) gives a number.

    print(f"{vendor:04x}:{product:04x}")


def read_mac(nic: Registers) -> bytes:
    """The six bytes of the NIC's address, in the order of the wire."""
    status = 0xFFFF_FFFF
    ...  # GAP 2: Read STATUS. All ones is what a bus says for a device that is not there.

    if status == 0xFFFF_FFFF:
        raise SystemExit("no NIC answers")
    ...  # GAP 3: Wait until EEC.AUTO_RD is 1, for 0.1 s at most: the address comes from the EEPROM.

    low, high = 0, 0
    ...  # GAP 4: Read the address: RAL[0] has its first four bytes, RAH[0].RAH the last two.

    mac = bytes(6)
    ...  # GAP 5: Make six bytes of the two numbers. The lowest bits go onto the wire first.

    return mac


with open_nic() as device:
    find(device)
    print(read_mac(Registers(device)).hex(":"))
