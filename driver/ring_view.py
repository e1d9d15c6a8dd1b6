"""A snapshot of a ring: its pointers, the content of each slot, and its owner.

    with open_port("emulated") as port:
        recording = Recording(port)
        port.txsync()
        recording.look("after the first txsync")
        Path("ring.html").write_text(page(recording.steps))     # driver/cli/ring_html.py

netmap's contract: the program owns the slots [head, tail), the driver owns the others (netmap(4)). Of these, the NIC
owns the slots from its head register up to its tail register (82599 7.1.9, 7.2.3.5). The slots before them are finished
by the NIC; the slots after them were released by the program since the last sync.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np

from ixrings.rings import Interface, RxRing, TxRing

from . import descriptors
from .session import Session


class Owner(Enum):
    """The owner of a slot: a letter, words, and the colour in drawings."""

    PROGRAM = ("P", "owned by the program", "#4c9f50")
    GIVEN = ("g", "released by the program; the next sync gives it to the NIC", "#e8b93c")
    NIC = ("N", "owned by the NIC", "#3b6fb5")
    DONE = ("d", "finished by the NIC; the next sync gives it to the program", "#a05cb5")
    UNUSED = ("-", "unused, so that a full ring differs from an empty one", "#c8c8c8")
    DRIVER = ("D", "owned by the driver or the NIC", "#3b6fb5")

    def __init__(self, letter: str, words: str, colour: str) -> None:
        self.letter, self.words, self.colour = letter, words, colour


@dataclass(frozen=True)
class SlotView:
    """A slot, and its descriptor in words ("" if it cannot be seen)."""

    owner: Owner
    buf_idx: int
    len: int
    flags: int
    descriptor: str


@dataclass(frozen=True)
class RingView:
    """pointers: name -> slot. The NIC's pointers are missing if they cannot be seen."""

    name: str
    transmits: bool
    num_slots: int
    pointers: Mapping[str, int]
    slots: tuple[SlotView, ...]


@dataclass(frozen=True)
class PortView:
    """The rings of a port, TX first."""

    name: str
    rings: tuple[RingView, ...]


@dataclass(frozen=True)
class Step:
    """The rings after an event, which `caption` describes."""

    caption: str
    port: PortView


class OpenPort(Protocol):
    """What this module needs of a Port."""

    name: str

    def _owned(self) -> Session: ...


class Recording:
    """Snapshots of a port, to step through later."""

    def __init__(self, port: OpenPort) -> None:
        self._port = port
        self.steps: list[Step] = []

    def look(self, caption: str) -> None:
        """Take a snapshot. Raises DeviceGone."""
        self.steps.append(Step(caption, view_port(self._port)))


def view_port(port: OpenPort) -> PortView:
    """Every ring of a port of this program, TX first. It only reads registers and memory. Raises DeviceGone."""
    session = port._owned()
    rings: list[TxRing | RxRing] = [*session.interface.tx_rings, *session.interface.rx_rings]
    return PortView(port.name, tuple(view_queue_ring(session, ring) for ring in rings))


def view_queue_ring(session: Session, ring: TxRing | RxRing) -> RingView:
    """A ring of an open port, with the NIC's head and tail. Raises DeviceGone."""
    nic = session.function.queues
    head, tail = (nic.TDH, nic.TDT) if isinstance(ring, TxRing) else (nic.RDH, nic.RDT)
    written = session.descriptors(ring).tolist()
    pointers = {"NIC head": int(head[ring.ringid].read()), "NIC tail": int(tail[ring.ringid].read())}
    return view_ring(ring, pointers, written)


def view_interface(interface: Interface) -> PortView:
    """The rings of another program's port. Only the shared region can be seen."""
    rings: list[TxRing | RxRing] = [*interface.tx_rings, *interface.rx_rings]
    return PortView(interface.name, tuple(view_ring(ring, {}, []) for ring in rings))


def view_ring(ring: TxRing | RxRing, nic: Mapping[str, int], written: Sequence[Sequence[int]]) -> RingView:
    """nic: its head and tail register, empty if they cannot be seen. written: the halves of each descriptor."""
    transmits = isinstance(ring, TxRing)
    size = ring.num_slots
    raw = {"head": ring.head, "cur": ring.cur, "tail": ring.tail, **nic}
    pointers = {name: index % size for name, index in raw.items()}  # shared memory may hold any value
    decode = descriptors.transmit if transmits else descriptors.receive
    slots = np.array(ring.slots)
    return RingView(
        ring.name,
        transmits,
        size,
        pointers,
        tuple(
            SlotView(
                owner,
                int(slot["buf_idx"]),
                int(slot["len"]),
                int(slot["flags"]),
                decode(*written[index]) if written else "",
            )
            for index, (owner, slot) in enumerate(zip(owners(transmits, size, pointers), slots))
        ),
    )


def owners(transmits: bool, size: int, pointers: Mapping[str, int]) -> list[Owner]:
    """The owner of each slot. Invalid pointers give a wrong picture, but no endless loop."""
    head, tail = pointers["head"], pointers["tail"]
    nic_head, nic_tail = pointers.get("NIC head"), pointers.get("NIC tail")
    if nic_head is None or nic_tail is None:
        at, stretches = head, [(Owner.PROGRAM, tail)]
    elif transmits:
        at, stretches = (
            tail,
            [
                (Owner.UNUSED, tail + 1),
                (Owner.DONE, nic_head),
                (Owner.NIC, nic_tail),
                (Owner.GIVEN, head),
                (Owner.PROGRAM, tail),
            ],
        )
    else:
        at, stretches = (
            head,
            [
                (Owner.PROGRAM, tail),
                (Owner.DONE, nic_head),
                (Owner.NIC, nic_tail),
                (Owner.UNUSED, nic_tail + 1),
                (Owner.GIVEN, head),
            ],
        )
    found = [Owner.DRIVER] * size
    for owner, stop in stretches:
        while at != stop % size:
            found[at] = owner
            at = (at + 1) % size
    return found
