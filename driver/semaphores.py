"""Semaphores for what software shares with the firmware and with the driver of the other port (82599 10.5.4)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from ixrings.hw.errors import DeviceError, RegisterTimeout
from ixrings.hw.registers import Registers

SEMAPHORE_S = 0.1  # for each step, as in Linux; holders keep a semaphore for some ms
RESOURCE_S = 1.0
PAUSE_S = 0.0005


@contextmanager
def phy_of_port(nic: Registers) -> Iterator[None]:
    """Inside, the PHY and the module's two-wire bus are ours. Raises DeviceError if another holder keeps them."""
    number = nic.STATUS.read().LAN_ID & 1
    ours, firmwares = f"SW_PHY_SM{number}", f"FW_PHY_SM{number}"
    take(nic, ours, firmwares)
    try:
        yield
    finally:
        with register_semaphore(nic):
            nic.SW_FW_SYNC.update(**{ours: 0})


def take(nic: Registers, ours: str, firmwares: str) -> None:
    """Take a resource. If software has held it for RESOURCE_S, its holder is dead and the resource is taken over.

    Linux does the same. Raises DeviceError if the firmware keeps the resource.
    """
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
                f"the firmware has kept {firmwares} for {RESOURCE_S:g} s (SW_FW_SYNC = {held!r}, 82599 10.5.4). Power "
                "the machine off and on"
            )
        time.sleep(PAUSE_S)


@contextmanager
def register_semaphore(nic: Registers) -> Iterator[None]:
    """Inside, SW_FW_SYNC may be changed. SMBI excludes other drivers, SWESMBI the firmware (8.2.3.4.9).

    Raises RegisterTimeout, DeviceError.
    """
    try:
        nic.SWSM.wait(SMBI=0, timeout=SEMAPHORE_S, section="10.5.4")  # a read that returns 0 takes it
    except RegisterTimeout:  # its holder died: release it, once
        nic.SWSM.write(SMBI=0, SWESMBI=0)
        nic.SWSM.wait(SMBI=0, timeout=SEMAPHORE_S, section="10.5.4")
    try:
        end = time.monotonic() + SEMAPHORE_S
        while True:
            nic.SWSM.update(SWESMBI=1)
            if nic.SWSM.read().SWESMBI:  # the bit stays set only if the firmware does not hold it
                break
            if time.monotonic() >= end:
                raise DeviceError(
                    "the firmware does not release SWSM.SWESMBI (82599 10.5.4). Power the machine off and on"
                )
            time.sleep(PAUSE_S)
        yield
    finally:
        nic.SWSM.write(SMBI=0, SWESMBI=0)
