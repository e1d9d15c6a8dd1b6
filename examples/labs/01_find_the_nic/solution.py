"""Lab 01: find the NIC and read its MAC address."""

from course import open_nic

from ixrings.hw.device import Device
from ixrings.hw.registers import Registers


def find(device: Device) -> None:
    """Print vendor:device, as lspci does."""
    device.enable_bus_master(False)  # registers answer now, but the NIC is not allowed to use DMA yet
    vendor, product = 0, 0
    # GAP 1: Read vendor and product from configuration space: 2 bytes at 0x00 and 2 bytes at 0x02.
    #   device.config_read(offset, size) returns a number.
    vendor, product = device.config_read(0x00, 2), device.config_read(0x02, 2)

    print(f"{vendor:04x}:{product:04x}")


def read_mac(nic: Registers) -> bytes:
    """The six bytes of the NIC's address, in the order in which they are sent."""
    status = 0xFFFF_FFFF
    # GAP 2: Read STATUS. The bus returns all ones if the device is gone.
    status = nic.STATUS.read()

    if status == 0xFFFF_FFFF:
        raise SystemExit("the NIC does not answer")
    # GAP 3: Wait until EEC.AUTO_RD is 1, for 0.1 s at most: then the address is copied from the EEPROM.
    nic.EEC.wait(AUTO_RD=1, timeout=0.1)

    low, high = 0, 0
    # GAP 4: Read the address: RAL[0] has its first four bytes, RAH[0].RAH the last two.
    low = int(nic.RAL[0].read())
    high = nic.RAH[0].read().RAH

    mac = bytes(6)
    # GAP 5: Make six bytes out of the two numbers. The lowest bits are sent first.
    mac = low.to_bytes(4, "little") + high.to_bytes(2, "little")

    return mac


with open_nic() as device:
    find(device)
    print(read_mac(Registers(device)).hex(":"))
