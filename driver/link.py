"""The link: 10 Gbit/s serial over SFP+, its state, and the reason when it is down (82599 3.7.4, 8.2.3.22.19-23)."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from ixrings.hw.device import Device
from ixrings.hw.fields import LINKS
from ixrings.hw.rate import SPEEDS_MBPS
from ixrings.hw.registers import Registers

LMS_10G_SERIAL = 3
SERIAL_SFI = 2
POLL_S = 0.005


@dataclass(frozen=True)
class Link:
    """State of the link. When it is down, speed_mbps is 0 and reason is a sentence.

    lost: it stays down until the port is opened again, because what the cable led to is gone.
    """

    up: bool
    speed_mbps: int
    reason: str = ""
    lost: bool = False

    def __str__(self) -> str:
        return f"up, {self.speed_mbps / 1000:g} Gbit/s" if self.up else f"down: {self.reason}"


def setup_link(nic: Registers, loopback: bool = False) -> None:
    """Switch the laser on, select 10G serial over SFI, restart the link (4.6.4.2).

    loopback: FLU forces the link up without a partner (8.2.3.22.19).

    ASSUMPTION (datasheet silent): SDP3 drives the module's TX_DISABLE. It does on Intel's boards, and the datasheet
    leaves the pin to the board. On a board that uses SDP3 for something else, it stays 0.
    """
    nic.ESDP.update(SDP3_DATA=0)
    if nic.AUTOC2.read().PMA_PMD_10G_SERIAL != SERIAL_SFI:
        nic.AUTOC2.update(PMA_PMD_10G_SERIAL=SERIAL_SFI)
    nic.AUTOC.update(LMS=LMS_10G_SERIAL, FLU=int(loopback), RESTART_AN=1)


def read_link(device: Device, nic: Registers) -> Link:
    """The link now. Raises DeviceGone."""
    nic.LINKS.read()  # LNK_STAT latches a loss: the first read reports the past (8.2.3.22.20)
    links = nic.LINKS.read()
    if links.LINK_UP:
        return Link(True, SPEEDS_MBPS.get(links.SPEED, 0))
    return Link(False, 0, device.link_trouble() or why_down(nic, links), device.link_lost())


def why_down(nic: Registers, links: LINKS) -> str:
    """The most helpful sentence that the registers allow."""
    mode = nic.AUTOC.read().LMS
    if mode != LMS_10G_SERIAL:
        return f"AUTOC.LMS is {mode}, not 3 (10G serial): something else programmed the link"
    if not links.LINK_10G_SERIAL_EN:
        return "the 10G serial interface is not running. Is an SFP+ module in the cage?"
    return (
        "no valid signal from the other end. Is the cable plugged in at both ends, is the other port up at 10 Gbit/s, "
        f"and do both modules match? (LINKS = {links!r})"
    )


def wait_link(read: Callable[[], Link], timeout_s: float) -> Link:
    """The link as soon as `read` sees it up, or its state after `timeout_s`. Training usually takes 0.5 to 8 s."""
    end = time.monotonic() + timeout_s
    while True:
        link = read()
        left = end - time.monotonic()
        if link.up or left <= 0:
            return link
        time.sleep(min(POLL_S, left))
