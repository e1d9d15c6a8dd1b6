"""Lab 02: bring the NIC into a known state, and its link up."""

import time

from course import open_nic

from ixrings.hw.registers import Registers

ALL_CAUSES = 0x7FFF_FFFF
SPEEDS = {1: "100 Mbit/s", 2: "1 Gbit/s", 3: "10 Gbit/s"}


def reset(nic: Registers) -> None:
    """4.6.3: interrupts off, reset, interrupts off again, and wait until the NIC is done with itself."""
    # GAP 1: Mask all interrupt causes: each 1 written to EIMC masks one.
    nic.EIMC.write(ALL_CAUSES)

    # GAP 2: Set CTRL.RST; update() keeps CTRL's other bits.
    nic.CTRL.update(RST=1)

    # GAP 3: Leave the NIC alone for 10 ms, then wait until CTRL.RST reads 0, for 0.1 s at most.
    time.sleep(0.010)
    nic.CTRL.wait(RST=0, timeout=0.1)

    # GAP 4: Mask all interrupt causes again.
    nic.EIMC.write(ALL_CAUSES)

    # GAP 5: Wait for EEC.AUTO_RD (settings are loaded) and RDRXCTL.DMAIDONE (memories are cleared).
    nic.EEC.wait(AUTO_RD=1, timeout=0.1)
    nic.RDRXCTL.wait(DMAIDONE=1, timeout=0.1)


def start_link(nic: Registers) -> str:
    """4.6.4.2: 10 Gbit/s over SFP+. The speed, in words."""
    nic.ESDP.update(SDP3_DATA=0)  # the module's laser is on; who had the NIC before may have switched it off
    # GAP 6: Set AUTOC.LMS to 3 (10G serial) and AUTOC.RESTART_AN to 1, in one update().
    nic.AUTOC.update(LMS=3, RESTART_AN=1)

    links = nic.LINKS.read()
    # GAP 7: Wait until LINKS.LINK_UP is 1, for 10 s at most. wait() gives what it read.
    links = nic.LINKS.wait(LINK_UP=1, timeout=10)

    speed = 0
    # GAP 8: The speed is in the field SPEED of `links`.
    speed = links.SPEED

    return SPEEDS.get(speed, "unknown")


with open_nic() as device:
    device.enable_bus_master(True)
    nic = Registers(device)
    reset(nic)
    print("the link is up:", start_link(nic))
