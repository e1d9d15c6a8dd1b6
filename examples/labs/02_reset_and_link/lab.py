"""Lab 02: reset the NIC and bring its link up."""

import time

from course import open_nic

from ixrings.hw.registers import Registers

ALL_CAUSES = 0x7FFF_FFFF
SPEEDS = {1: "100 Mbit/s", 2: "1 Gbit/s", 3: "10 Gbit/s"}


def reset(nic: Registers) -> None:
    """Mask interrupts, reset, mask them again, and wait until the NIC has initialised itself (4.6.3)."""
    ...  # GAP 1: Mask all interrupt causes: each 1 in EIMC masks one.

    ...  # GAP 2: Set CTRL.RST; update() keeps the other bits of CTRL.

    ...  # GAP 3: Do nothing with the NIC for 10 ms. Then wait until CTRL.RST reads 0, for 0.1 s at most.

    ...  # GAP 4: Mask all interrupt causes again.

    ...  # GAP 5: Wait until EEC.AUTO_RD is 1 (settings are loaded) and RDRXCTL.DMAIDONE is 1 (memories are cleared).


def start_link(nic: Registers) -> str:
    """Start the link at 10 Gbit/s over SFP+ (4.6.4.2). Returns the speed in words."""
    nic.ESDP.update(SDP3_DATA=0)  # switch on the module's laser; the previous user may have switched it off
    ...  # GAP 6: Set AUTOC.LMS to 3 (10G serial) and AUTOC.RESTART_AN to 1, in one update().

    links = nic.LINKS.read()
    ...  # GAP 7: Wait until LINKS.LINK_UP is 1, for 10 s at most. wait() returns the value that it read.

    speed = 0
    ...  # GAP 8: Take the speed from the field SPEED of `links`.

    return SPEEDS.get(speed, "unknown")


with open_nic() as device:
    device.enable_bus_master(True)
    nic = Registers(device)
    reset(nic)
    print("the link is up:", start_link(nic))
