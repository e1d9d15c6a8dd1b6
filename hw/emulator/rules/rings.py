"""Descriptor rings and their pointers, receive and transmit (82599 4.6.7, 4.6.8, 7.1.9, 8.2.3.8, 8.2.3.9)."""

from __future__ import annotations

from ... import fields as f
from ..engine.findings import FindingKind
from .access import DESCRIPTOR, Access
from .findings import ERROR, WARNING, Found, rule

ALIGNMENT = 128
LONGEST = 8192 * DESCRIPTOR
DONE = 1  # DD: bit 0 of a receive descriptor's second half
EOP, DEXT, DTYP, CONTEXT = 1 << 24, 1 << 29, 0xF << 20, 2 << 20  # in a transmit descriptor's second half (7.2.3.2)
SENT = 1 << 32  # DD in a transmit descriptor's second half


@rule("8.2.3.8.1, 8.2.3.9.5", ERROR, "A ring starts at a multiple of 128 bytes", writes=("RDBAL", "TDBAL"))
def ring_alignment(now: Access) -> str | None:
    low = now.value % ALIGNMENT
    return f"the low 7 bits, {low:#x}, are ignored: the ring starts at {now.value - low:#x}" if low else None


@rule(
    "7.2.3.3, 8.2.3.8.3, 8.2.3.9.7",
    ERROR,
    "A ring's length is a multiple of 128 bytes and at most 8192 descriptors",
    writes=("RDLEN", "TDLEN"),
)
def ring_length(now: Access) -> str | None:
    if not now.value % ALIGNMENT and now.value <= LONGEST:
        return None
    return f"the ring would have {now.value / DESCRIPTOR:g} descriptors"


@rule(
    "4.6.7, 4.6.8",
    ERROR,
    "A ring's base and length are programmed before its queue is enabled",
    writes=("RXDCTL", "TXDCTL"),
)
def ring_before_enable(now: Access) -> str | None:
    if not now.rises("ENABLE"):
        return None
    return now.not_written([now.ring.low, now.ring.length]) or (
        None if now.ring.slots else f"{now.ring.length.name} is 0"
    )


@rule(
    "4.6.7, 4.6.8",
    ERROR,
    "A ring's base and length do not change while its queue is enabled",
    writes=("RDBAL", "RDBAH", "RDLEN", "TDBAL", "TDBAH", "TDLEN"),
)
def ring_stays(now: Access) -> str | None:
    changes = now.ring.enabled and now.value != now.before
    if not changes:
        return None
    return f"the previous value was {now.before:#x}; {now.last_write(now.ring.control)}, which enabled the queue"


@rule(
    "4.6.7, 4.6.8",
    ERROR,
    "A tail is written only after ENABLE was read as 1",
    writes=("RDT", "TDT"),
    reads=("RXDCTL", "TXDCTL"),
)
def tail_after_enable(now: Access) -> str | None:
    if now.is_read and not f.RXDCTL(now.before).ENABLE:
        return None
    ring = now.ring
    if not now.is_read:
        return now.unconfirmed(ring.control, ENABLE=1) if now.value else None
    # A store to the doorbell is not seen here as an access. The next read of ENABLE finds the tail changed.
    rung = ring.tail.read() != now.history.of(ring.head).written
    unseen = now.unconfirmed(ring.control, ENABLE=1) if rung else None
    return f"{ring.tail.name} is {int(ring.tail.read())} already; {unseen}" if unseen else None


@rule(
    "8.2.3.8.5, 8.2.3.9.9",
    ERROR,
    "A tail is less than the ring's number of descriptors",
    writes=("RDT", "TDT"),
    found=(
        Found(FindingKind.TX_TAIL, "TDT[{queue}]", "TDT[{queue}] is {first}, the ring has {second} descriptors"),
        Found(FindingKind.RX_TAIL, "RDT[{queue}]", "RDT[{queue}] is {first}, the ring has {second} descriptors"),
    ),
)
def tail_within_ring(now: Access) -> str | None:
    if not now.ring.enabled or now.value < now.ring.slots:
        return None
    return f"the ring has {now.ring.slots} descriptors; {now.last_write(now.ring.length)}"


@rule(
    "7.1.9",
    ERROR,
    "A tail moves only forward and does not pass the head: the NIC owns the descriptors from head to tail",
    writes=("RDT", "TDT"),
)
def tail_moves_forward(now: Access) -> str | None:
    ring = now.ring
    head = int(ring.head.read())
    if (
        not ring.enabled
        or max(now.value, now.before, head) >= ring.slots
        or ring.ahead(head, now.value) >= ring.ahead(head, now.before)
    ):
        return None
    owned = f"the NIC owned {ring.ahead(head, now.before)} descriptors, now {ring.ahead(head, now.value)}"
    return f"the previous tail was {now.before} and {ring.head.name} is {head}: {owned}"


@rule(
    "4.6.7",
    WARNING,
    "The first receive tail differs from the head: an equal tail gives the NIC no descriptors",
    writes=("RDT",),
)
def first_tail_gives_descriptors(now: Access) -> str | None:
    ring = now.ring
    first = ring.enabled and now.history.of(ring.tail).written_at < now.history.of(ring.control).written_at
    return f"{ring.head.name} is {now.value}, too" if first and now.value == ring.head.read() else None


@rule("8.2.3.8.4, 8.2.3.9.8", WARNING, "A head is written only before its queue is enabled", writes=("RDH", "TDH"))
def head_before_enable(now: Access) -> str | None:
    return now.last_write(now.ring.control) if now.ring.enabled else None


def gives_descriptors(now: Access) -> bool:
    """Whether the write moves the tail of an enabled queue to another place within the ring."""
    return now.ring.enabled and max(now.value, now.before) < now.ring.slots and now.value != now.before


@rule("7.1.6.1", WARNING, "DD is 0 in a receive descriptor that is given to the NIC", writes=("RDT",))
def receive_descriptor_cleared(now: Access) -> str | None:
    ring = now.ring
    if not gives_descriptors(now):
        return None
    done = int((now.descriptors(ring, now.before, now.value)[:, 1] & DONE).sum())
    if done:
        return f"{done} of the descriptors from {now.before} to {(now.value - 1) % ring.slots} have DD set"
    return None


@rule("7.2.3.2", WARNING, "DD is 0 in a transmit descriptor that is given to the NIC", writes=("TDT",))
def transmit_descriptor_cleared(now: Access) -> str | None:
    ring = now.ring
    if not gives_descriptors(now):
        return None
    second = now.descriptors(ring, now.before, now.value)[:, 1]
    done = int(((second & (DEXT | DTYP) != DEXT | CONTEXT) & (second & SENT != 0)).sum())
    if done:
        return f"{done} of the descriptors from {now.before} to {(now.value - 1) % ring.slots} have DD set"
    return None


@rule("7.2.3.2.4", ERROR, "The last descriptor before a transmit tail ends a frame: it has EOP", writes=("TDT",))
def transmit_tail_after_eop(now: Access) -> str | None:
    ring = now.ring
    if not gives_descriptors(now):
        return None
    last = (now.value - 1) % ring.slots
    (q1,) = now.descriptors(ring, last, last + 1)[:, 1].tolist() or (EOP,)
    if q1 & (DEXT | DTYP) != DEXT | CONTEXT and not q1 & EOP:
        return f"descriptor {last} has Q1 {q1:#018x} without EOP"
    return None


@rule(
    "4.6.7.1.2, 4.6.8.1",
    ERROR,
    "After a queue is disabled, ENABLE is read as 0 before its ring changes or the queue is enabled again",
    writes=("RDBAL", "RDBAH", "RDLEN", "RXDCTL", "TDBAL", "TDBAH", "TDLEN", "TXDCTL"),
)
def disable_awaited(now: Access) -> str | None:
    control = now.ring.control
    if (
        now.ring.enabled
        or not f.RXDCTL(now.history.of(control).ever).ENABLE
        or (now.name == control.row.name and not now.rises("ENABLE"))
    ):
        return None
    return now.unconfirmed(control, ENABLE=0)


@rule("4.6.7.1.2, 4.6.8.1", ERROR, "A ring's memory stays mapped until its queue is disabled", unmaps=True)
def ring_memory_stays(now: Access) -> str | None:
    for ring in now.rings:
        if ring.iova < now.value + now.size and now.value < ring.iova + DESCRIPTOR * ring.slots:
            return f"{ring.control.name}.ENABLE is 1 and its ring is at {ring.iova:#x}"
    return None
