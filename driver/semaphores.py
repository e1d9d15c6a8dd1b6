"""What software shares with the firmware and with the driver of the NIC's other port is taken before it is used (82599 10.5.4)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ixrings.hw.errors import DeviceError, RegisterTimeout
from ixrings.hw.registers import Registers

SEMAPHORE_S = 0.1  # each step of taking one, as Linux; holders keep it for some ms
RESOURCE_S = 1.0
PAUSE_S = 0.0005


@contextmanager
def phy_of_port(nic: Registers) -> Iterator[None]:
    """The PHY and the module's two-wire bus, ours inside. Raises DeviceError when somebody else keeps them."""
    number = nic.STATUS.read().LAN_ID & 1
    ours, firmwares = f"SW_PHY_SM{number}", f"FW_PHY_SM{number}"
    take(nic, ours, firmwares)
    try:
        yield
    finally:
        with register_semaphore(nic):
            nic.SW_FW_SYNC.update(**{ours: 0})


def take(nic: Registers, ours: str, firmwares: str) -> None:
    """What software has kept for RESOURCE_S is taken from it: nobody keeps it that long who is alive. Linux does so, too."""
    end = time.monotonic() + RESOURCE_S
    while True:
        late = time.monotonic() >= end
        with register_semaphore(nic):
            held = nic.SW_FW_SYNC.read()
            if not getattr(held, firmwares) and (late or not getattr(held, ours)):
                nic.SW_FW_SYNC.update(**{ours: 1})
                return
        if late:
            raise DeviceError(
                f"the firmware has kept {firmwares} for {RESOURCE_S:g} s (SW_FW_SYNC = {held!r}, 82599 10.5.4). Power the machine off and on"
            )
        time.sleep(PAUSE_S)


@contextmanager
def register_semaphore(nic: Registers) -> Iterator[None]:
    """SW_FW_SYNC may be changed inside: SMBI against other drivers, SWESMBI against the firmware (8.2.3.4.9)."""
    try:
        nic.SWSM.wait(SMBI=0, timeout=SEMAPHORE_S, section="10.5.4")  # the read that shows 0 has taken it
    except RegisterTimeout:  # left behind by who died with it: taken back, once
        nic.SWSM.write(SMBI=0, SWESMBI=0)
        nic.SWSM.wait(SMBI=0, timeout=SEMAPHORE_S, section="10.5.4")
    try:
        end = time.monotonic() + SEMAPHORE_S
        while True:
            nic.SWSM.update(SWESMBI=1)
            if nic.SWSM.read().SWESMBI:  # it only stays when the firmware does not have it
                break
            if time.monotonic() >= end:
                raise DeviceError(
                    "the firmware does not give SWSM.SWESMBI to software (82599 10.5.4); power the machine off and on"
                )
            time.sleep(PAUSE_S)
        yield
    finally:
        nic.SWSM.write(SMBI=0, SWESMBI=0)
