"""What the page looks at: an emulated NIC of this process, the rings of another program, a NIC that a driver owns.

look() gives one moment as data for the page. One thread takes the moments.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import numpy as np
import numpy.typing as npt

from ixrings.hw.errors import DeviceError
from ixrings.hw.register import RegisterMap
from ixrings.hw.registers import QUEUES, Registers
from ixrings.rings import RxRing, TxRing
from ixrings.rings.interface import Interface

from .. import descriptors
from ..errors import PortError
from ..ring_memory import REGION, ports_in
from ..ring_view import Owner, RingView, SlotView, view_interface, view_ring
from ..window import files_of
from .decode import line_of
from .register_log import RegisterLog

Moment = dict[str, object]
Order = Mapping[str, object]
WHOLE = 128  # a ring of so many slots is sent with all of them; of a longer one, those that carry a frame
CARRYING = 64  # the most of those
FRAMES = 100  # of one moment
MOST_STEP_FRAMES, MOST_STEP_NS = 4096, 10_000_000_000
ONLY_LOOKS = "This page only looks: {} is not an emulated NIC of ixrings glass, so nothing is written to it."


class Look(ABC):
    """name: of the port. about: a sentence on what is shown, and what cannot be seen."""

    name: str
    about: str
    faults: Sequence[str] = ()  # that can be injected
    acts = False  # whether pause, step and faults work
    every_s = 0.1  # between two looks

    def watched(self, on: bool) -> None:  # noqa: B027  # most have nothing to do
        """Somebody looks from now on, or nobody."""

    @abstractmethod
    def look(self) -> Moment:
        """What is seen now. Raises DeviceError, PortError when there is nothing to see any more."""

    def act(self, order: Order) -> None:
        """Do what a reader of the page asked for. Raises PortError with the sentence for him."""
        raise PortError(ONLY_LOOKS.format(self.name))


class NicLook(Look):
    """An emulated NIC (a ShownNic) and the rings of the program that drives it."""

    acts = True

    def __init__(self, nic: object, name: str) -> None:
        from ixrings.hw.emulator import Fault

        from .shown import ShownNic

        assert isinstance(nic, ShownNic)
        self._nic, self.name = nic, name
        self.about = "An emulated NIC. Its rings, registers and frames are shown while a program uses it."
        self.faults = [fault.value for fault in Fault if not fault.of_the_pf]
        self.program = "no program has opened the port yet"
        self._seen = 0
        self._interfaces: dict[int, list[Interface]] = {}

    def watched(self, on: bool) -> None:
        with suppress(DeviceError):  # closed meanwhile
            self._nic.watch_wire(on)
        self._seen = 0

    def look(self) -> Moment:
        words = self._nic.register_words()
        lines, missed = self._nic.log.lines(words)
        frames, unseen = self._frames()
        return {
            "rings": [ring_data(view) for view in self._rings(words)],
            "registers": lines,
            "registers_missed": missed,
            "frames": frames,
            "frames_missed": unseen,
            "broken": [
                {"text": str(each), "register": each.register, "section": each.rule.cite}
                for each in self._nic.violations
            ],
            "state": {
                "paused": self._nic.paused,
                "clock_ns": self._nic.now_ns if self._nic.paused else None,
                "faults": [fault for fault in self.faults if self._has(fault)],
                "link": self._link(words),
                "program": self.program,
            },
        }

    def _has(self, fault: str) -> bool:
        from ixrings.hw.emulator import Fault

        return Fault(fault) in self._nic.injected

    def _link(self, words: npt.NDArray[np.uint32]) -> str:
        links = Registers.LINKS.layout(int(words[Registers.LINKS.offset() >> 2]))
        return self._nic.link_trouble() or f"link {'up' if links.LINK_UP else 'down'}"

    def _frames(self) -> tuple[list[dict[str, object]], int]:
        count, frames = self._nic.frames_seen(self._seen)
        missed = count - self._seen - len(frames[-FRAMES:])
        self._seen = count
        return [
            {
                "ns": frame.time_ns,
                "leaves": frame.leaves,
                "length": frame.length,
                "text": line_of(frame.data, frame.length),
                "bytes": frame.data.hex(" "),
            }
            for frame in frames[-FRAMES:]
        ], missed

    # ---- rings ----

    def _rings(self, words: npt.NDArray[np.uint32]) -> list[RingView]:
        """The rings of the program's regions, then queues of the NIC that no region has, as a driver by hand uses."""
        self._find_interfaces()
        views: list[RingView] = []
        known: set[tuple[bool, int]] = set()
        for interface in [each for found in self._interfaces.values() for each in found]:
            rings: list[TxRing | RxRing] = [*interface.tx_rings, *interface.rx_rings]
            for ring in rings:
                transmits = isinstance(ring, TxRing)
                queue = NicQueue(words, transmits, ring.ringid)
                if queue.slots == ring.num_slots and (transmits, ring.ringid) not in known:
                    views.append(self._of_program(ring, queue))
                    known.add((transmits, ring.ringid))
        for transmits in (True, False):
            for number in range(QUEUES):
                queue = NicQueue(words, transmits, number)
                if queue.slots and queue.enabled and (transmits, number) not in known:
                    views.append(queue.view(self._descriptors(queue)))
        return sorted(views, key=lambda view: not view.transmits)

    def _of_program(self, ring: TxRing | RxRing, queue: NicQueue) -> RingView:
        return view_ring(ring, {"NIC head": queue.head, "NIC tail": queue.tail}, self._descriptors(queue))

    def _descriptors(self, queue: NicQueue) -> list[list[int]]:
        data = self._nic.peek_memory(queue.number, queue.base, 16 * queue.slots)
        found: list[list[int]] = np.frombuffer(data or b"", "<u8").reshape(-1, 2).tolist()
        return found

    def _find_interfaces(self) -> None:
        """Regions come and go with the program. A region has its interface a moment after it was mapped."""
        now = dict(self._nic.regions())
        for iova in [iova for iova in self._interfaces if iova not in now]:
            del self._interfaces[iova]
        for iova, fd in now.items():
            try:
                if not self._interfaces.get(iova):
                    self._interfaces[iova] = list(ports_in(fd))
            finally:
                os.close(fd)

    # ---- what a click does ----

    def act(self, order: Order) -> None:
        what = order.get("do")
        if what == "pause":
            self._nic.pause()
        elif what == "go":
            self._nic.go_on()
        elif what == "step":
            self._step(order)
        elif what == "fault":
            self._fault(order)
        else:
            raise PortError(f"{what!r} is not an order. Orders are: pause, go, step, fault")

    def _step(self, order: Order) -> None:
        if not self._nic.paused:
            raise PortError("the NIC runs. Pause it, then step")
        frames, ns = (order.get(name) for name in ("frames", "ns"))
        if not (isinstance(frames, int) and 1 <= frames <= MOST_STEP_FRAMES):
            raise PortError(f"a step moves 1 to {MOST_STEP_FRAMES} frames, not {frames}")
        if not (isinstance(ns, int) and 0 <= ns <= MOST_STEP_NS):
            raise PortError(f"a step takes 0 to {MOST_STEP_NS} ns, not {ns}")
        self._nic.step(frames, ns)

    def _fault(self, order: Order) -> None:
        from ixrings.hw.emulator import Fault

        name = order.get("name")
        if name not in self.faults:
            raise PortError(f"{name!r} is not a fault. Faults are: {', '.join(self.faults)}")
        (self._nic.inject if order.get("on") else self._nic.mend)(Fault(name))


class NicQueue:
    """A queue of the NIC as its registers have it. base: IOVA of its descriptors."""

    def __init__(self, words: npt.NDArray[np.uint32], transmits: bool, number: int) -> None:
        self.number, self.transmits = number, transmits
        nic = Registers
        low, high, length, head, tail, control = (
            (nic.TDBAL, nic.TDBAH, nic.TDLEN, nic.TDH, nic.TDT, nic.TXDCTL)
            if transmits
            else (nic.RDBAL, nic.RDBAH, nic.RDLEN, nic.RDH, nic.RDT, nic.RXDCTL)
        )

        def value(row: object) -> int:
            return int(words[row.offset(number) >> 2])  # type: ignore[attr-defined]

        self.base = value(high) << 32 | value(low)
        self.slots = value(length) // 16
        self.head, self.tail = value(head), value(tail)
        self.enabled = bool(control.layout(value(control)).ENABLE)

    def view(self, written: Sequence[Sequence[int]]) -> RingView:
        """The ring of a driver without netmap's rings: a slot is the NIC's or the program's."""
        decode = descriptors.transmit if self.transmits else descriptors.receive
        owners = [Owner.PROGRAM] * self.slots
        at = self.head % self.slots
        while at != self.tail % self.slots:
            owners[at] = Owner.NIC
            at = (at + 1) % self.slots
        return RingView(
            f"{'TX' if self.transmits else 'RX'} queue {self.number}, by hand",
            self.transmits,
            self.slots,
            {"NIC head": self.head % self.slots, "NIC tail": self.tail % self.slots},
            tuple(
                SlotView(owner, 0, 0, 0, decode(*written[index]) if index < len(written) else "")
                for index, owner in enumerate(owners)
            ),
        )


class ProgramLook(Look):
    """The rings of another program of this user: only the memory that it shares can be seen."""

    def __init__(self, name: str, interfaces: Sequence[Interface], pid: str) -> None:
        self.name, self._interfaces, self._pid = name, interfaces, pid
        self.about = (
            f"The rings of program {pid}, from its shared memory. Its NIC's registers and frames cannot be seen from "
            "here, so the slots of the driver and of the NIC have one colour."
        )

    def look(self) -> Moment:
        if not self._has_ports():
            gone = "has ended" if not os.path.exists(f"/proc/{self._pid}") else "has no port open any more"
            raise PortError(f"program {self._pid} {gone}")
        rings = [ring_data(ring) for each in self._interfaces for ring in view_interface(each).rings]
        return {"rings": rings, "state": {"program": f"program {self._pid} runs"}}

    def _has_ports(self) -> bool:
        """Not after its end, also if its parent has not yet asked for its status."""
        try:
            return any(files_of(self._pid, REGION))
        except OSError:
            return False


class RegistersLook(Look):
    """The registers of a NIC that another driver owns. `read` gives BAR0's words without a read that has an effect."""

    every_s = 1.0

    def __init__(
        self, name: str, holder: str, table: type[RegisterMap], read: Callable[[], npt.NDArray[np.uint32]]
    ) -> None:
        self.name, self._read = name, read
        self._log = RegisterLog(table)
        self.about = (
            f"Registers of {name}, read once a second; {holder} owns the NIC. Registers that a read would change are "
            "left out, and so are values between two reads. Rings and frames cannot be seen from here: for the rings "
            "of a program run ixrings glass pid:PID."
        )

    def look(self) -> Moment:
        lines, missed = self._log.lines(self._read())
        for line in lines:
            line["who"] = "changed"
        return {"rings": [], "registers": lines, "registers_missed": missed, "state": {"program": ""}}


def ring_data(view: RingView) -> Moment:
    """A ring as the page's script reads it. A slot: [index, buf_idx, len, flags, descriptor]."""
    carrying = (Owner.GIVEN, Owner.NIC, Owner.DONE) if view.transmits else (Owner.PROGRAM, Owner.DONE, Owner.GIVEN)
    numbers = [index for index, slot in enumerate(view.slots) if view.num_slots <= WHOLE or slot.owner in carrying][
        : max(CARRYING, WHOLE if view.num_slots <= WHOLE else 0)
    ]
    return {
        "name": view.name,
        "tx": view.transmits,
        "pointers": dict(view.pointers),
        "owners": "".join(slot.owner.letter for slot in view.slots),
        "slots": [
            [index, slot.buf_idx, slot.len, slot.flags, slot.descriptor]
            for index, slot in ((index, view.slots[index]) for index in numbers)
        ],
    }


def since(start: float) -> float:
    return round(time.monotonic() - start, 3)
