"""Rings without a NIC, and the programs that have them. Program.txsync() asks through the control pages, and the
service runs in the same thread until it would sleep: so a test sees each step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ixrings.rings import Interface, Region, RxRing, TxRing
from ixrings.rings.service import EVENT_ERROR, Asks, Handle, Kind, Kring, Reason, Service, SoftQueue, Task
from ixrings.rings.soft import Switch, SwitchPort, put_behind

MOREFRAG = 0x20
BUFFERS = 1024


class World:
    """A service, a region, and what is made in it. close() it."""

    def __init__(self, *, buffers: int = BUFFERS, buf_size: int = 2048) -> None:
        self.region = Region(buffers=buffers, metadata=1 << 20, buf_size=buf_size)
        self.service = Service(spin_ns=0)
        self.programs: list[Program] = []
        self.ports: list[SwitchPort] = []
        self.tasks: tuple[Task, ...] = ()

    def program(self, name: str, *, slots: int = 64, tx: int = 1, rx: int = 1, region: Region | None = None) -> Program:
        """A program with soft rings of its own."""
        where = region or self.region
        interface = where.register(name, tx_slots=[slots] * tx, rx_slots=[slots] * rx)
        rings: list[TxRing | RxRing] = [*interface.tx_rings, *interface.rx_rings]
        krings = [Kring(Kind.NULL, SoftQueue(ring, where), tx=i < tx) for i, ring in enumerate(rings)]
        return self.add(interface, krings[:tx], krings[tx:])

    def add(self, interface: Interface, tx: Sequence[Kring], rx: Sequence[Kring]) -> Program:
        program = Program(self, interface, tx, rx)
        self.programs.append(program)
        self._tell()
        return program

    def port(self, switch: Switch) -> SwitchPort:
        """A new port of the switch."""
        self.ports.append(switch.add())
        return self.ports[-1]

    def plug(self, switch: Switch, program: Program) -> SwitchPort:
        """A new port of the switch, which the program has."""
        port = self.port(switch)
        port.open(program.ktx, program.krx)
        return port

    def work(self, *tasks: Task) -> None:
        """The service does these tasks, too, from now on."""
        self.tasks = tasks
        self._tell()

    def _tell(self) -> None:
        self.service.set([program.handle for program in self.programs], self.tasks)

    def run(self) -> None:
        """Until there is nothing left to do."""
        while self.service.run() is not Reason.SLEEP:
            pass

    def buffers_in_slots(self) -> list[int]:
        """Every buffer in a slot of a program, sorted: none lost and none doubled if it is as before."""
        held: list[int] = []
        for program in self.programs:
            for ring in (*program.interface.tx_rings, *program.interface.rx_rings):
                held += ring.slots["buf_idx"].tolist()
        return sorted(held)

    def close(self) -> None:
        handles, self.programs = [program.handle for program in self.programs], []
        for kring in (kring for handle in handles for kring in (*handle.tx, *handle.rx)):
            put_behind(kring, None)  # what keeps each other in memory would need garbage collection
        for port in self.ports:
            port.close()
        self.service.close()
        for handle in handles:
            handle.close()
        self.region.close()


class Program:
    """What one program has: its rings, and its control pages."""

    def __init__(self, world: World, interface: Interface, tx: Sequence[Kring], rx: Sequence[Kring]) -> None:
        self.world = world
        self.interface = interface
        self.ktx, self.krx = tuple(tx), tuple(rx)
        self.handle = Handle(tx, rx)
        self._asks = Asks.from_buffer(self.handle._asks.memory)

    @property
    def tx(self) -> TxRing:
        return self.interface.tx_rings[0]

    @property
    def rx(self) -> RxRing:
        return self.interface.rx_rings[0]

    def txsync(self) -> None:
        self._asks.tx.ticket += 1
        self._answered("tx")

    def rxsync(self) -> None:
        self._asks.rx.ticket += 1
        self._answered("rx")

    def poll(self, events: int) -> int:
        """What is ready; the rest is armed."""
        self._asks.poll.events |= events
        self._asks.poll.ticket += 1
        self._answered("poll")
        return int(self.handle.answers.poll.ready) & (events | EVENT_ERROR)

    def _answered(self, kind: str) -> None:
        self.world.run()
        assert getattr(self.handle.answers, kind).done == getattr(self._asks, kind).ticket

    def put(self, *frames: bytes, ring: TxRing | None = None, flags: int = 0) -> int:
        """Write frames into the TX ring, in several slots where necessary, while there is room. Returns how many."""
        tx = ring or self.tx
        size = self.interface.buffers.shape[1]
        for done, frame in enumerate(frames):
            parts = [frame[i : i + size] for i in range(0, len(frame), size)] or [b""]
            if len(parts) > tx.space:
                return done
            for k, part in enumerate(parts):
                slot = tx.slots[tx.head]
                self.interface.buffers[slot["buf_idx"], : len(part)] = np.frombuffer(part, np.uint8)
                slot["len"] = len(part)
                slot["flags"] = flags | (MOREFRAG if k < len(parts) - 1 else 0)
                tx.advance(1)
        return len(frames)

    def send(self, *frames: bytes, flags: int = 0) -> int:
        done = self.put(*frames, flags=flags)
        self.txsync()
        return done

    def take(self, most: int = 1 << 30, ring: RxRing | None = None) -> list[bytes]:
        """The frames in the RX ring, in order. Their slots are released, and the next rxsync takes them back."""
        rx = ring or self.rx
        frames: list[bytes] = []
        parts = b""
        while rx.space and len(frames) < most:
            slot = rx.slots[rx.head]
            parts += self.interface.buffers[slot["buf_idx"], : slot["len"]].tobytes()
            if not slot["flags"] & MOREFRAG:
                frames.append(parts)
                parts = b""
            rx.advance(1)
        assert not parts, "the ring shows a frame without its end"
        return frames

    def receive(self, most: int = 1 << 30) -> list[bytes]:
        self.rxsync()
        return self.take(most)


def numbered(count: int, length: int = 60, first: int = 0) -> list[bytes]:
    """Frames that differ."""
    return [first_bytes(k + first, length) for k in range(count)]


def first_bytes(number: int, length: int) -> bytes:
    return (number.to_bytes(4, "big") * (length // 4 + 1))[:length]
