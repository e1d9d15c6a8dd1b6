"""Lab 09: a DMA fault, the IOMMU's answer, and the driver's recovery."""

from __future__ import annotations

from random import Random

from . import shared
from .evidence import Evidence, Lab, Setup
from .nic import Pace
from .sandbox import Ending
from .shared import any_mac

GOOD = b"after the fault"


def setup(random: Random) -> Setup:
    return Setup(any_mac(random), pace=Pace(0.002, after_tail_s=0.02), expects_faults=True)


def broken(evidence: Evidence) -> str | None:
    given = evidence.given("TDT")
    if not given:
        return "TDT[0] never gave the NIC a descriptor: there was no DMA that could fail."
    if not evidence.faults and not given[0].mapped:
        return (
            "The queue was switched off, or the script ended, before the NIC had fetched the bad descriptor. The NIC "
            "needs time for it: wait for DD until PATIENCE_S is over (7.2.3.2.4)."
        )
    if not evidence.faults:
        return (
            f"No DMA failed: descriptor {given[0].index} points to {given[0].q0:#x}, which is mapped. Give the NIC an "
            "address that is not mapped, far from buffer.iova."
        )
    return None


def noticed(evidence: Evidence) -> str | None:
    if evidence.printed("refused"):
        return None
    return (
        'The script did not print "refused". DD never comes for such a descriptor, but the PCI status register shows '
        "Received Master Abort; device.dma_refused() reads it (82599 9.3.3.4)."
    )


def stopped(evidence: Evidence) -> str | None:
    off = next((access for access in evidence.writes("TXDCTL") if not access.word.ENABLE), None)
    if off is None:
        return (
            f"TXDCTL[0].ENABLE was never cleared{evidence.instead('TXDCTL', 0)}: the queue waits at the bad "
            "descriptor until it is switched off (82599 4.6.8.1)."
        )
    after = [access for access in evidence.record[evidence.position(off) + 1 :] if access.index == 0]
    seen = next(
        (
            i
            for i, access in enumerate(after)
            if not access.write and access.name == "TXDCTL" and not access.word.ENABLE
        ),
        None,
    )
    on = next(
        (i for i, access in enumerate(after) if access.write and access.name == "TXDCTL" and access.word.ENABLE), None
    )
    touched = next(
        (i for i, access in enumerate(after) if access.write and access.name in ("TDH", "TDT", "TXDCTL")), len(after)
    )
    if seen is None or touched < seen:
        return (
            "TXDCTL[0].ENABLE was not read as 0 after it was cleared: the NIC may still use the ring (82599 4.6.8.1)."
        )
    if on is None:
        return "TXDCTL[0].ENABLE was not set again: the queue is off (82599 4.6.8)."
    for name in ("TDH", "TDT"):
        zero = next(
            (i for i, access in enumerate(after) if access.write and access.name == name and not access.value), None
        )
        if zero is None or zero > on:
            return (
                f"{name}[0] was not set to 0 while the queue was off: the queue starts at its head, "
                "and the script starts at descriptor 0 (82599 8.2.3.9.8)."
            )
    return None


def recovered(evidence: Evidence) -> str | None:
    right = [frame for frame in evidence.sent if GOOD in frame]
    if len(right) == 1 and len(evidence.sent) == 1:
        return (
            None
            if evidence.printed("recovered")
            else "The good frame is on the wire and the NIC has set DD, but send() did not return True: DD is bit 32 "
            "of the second word of descriptor 0, load(ring, 0)[1] & 1 << 32."
        )
    if not evidence.sent and len(evidence.given("TDT")) < 2:
        return (
            "TDT[0] was not moved after the queue was switched on again, so the NIC was not given the good frame "
            "(82599 7.2.3.1)."
        )
    if not evidence.given("TDT")[-1].mapped:
        return (
            f"The descriptor of the good frame points to {evidence.given('TDT')[-1].q0:#x}, which is not mapped "
            "either. The frame is at buffer.iova."
        )
    if not evidence.sent and evidence.run.ending is Ending.FINISHED:
        return (
            "The NIC was given the good frame, but the script ended before it was sent. Wait for DD, and then print "
            '"recovered".'
        )
    return (
        f"{len(evidence.sent)} frames were on the wire, {len(right)} of them with {GOOD.decode()!r} in it; the lab "
        "asks for one such frame and no other."
    )


LAB = Lab(
    "09",
    setup,
    (shared.transmit_on, shared.transmit_enabled, broken, noticed, stopped, shared.each_given("TDT"), recovered),
)
