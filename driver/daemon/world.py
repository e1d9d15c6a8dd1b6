"""What the daemon serves: NICs, ports by their names, memory, and the handles that programs have bound."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ixrings.rings.service import EVENT_RX, EVENT_TX, Service, Task, Work

from .abi import MONITOR, Flag, Mode, Register
from .errors import Refused
from .handles import Bound
from .host import HostSide
from .isolated import Isolated
from .log import Log
from .loop import Loop, Sleeper
from .memories import Memories
from .monitors import monitor_port
from .nic import Nic, NicPort
from .null import null_port
from .pipes import Pipes
from .policy import Policy
from .pool import Pool
from .ports import NetmapPort
from .spare import Spare
from .switches import Surroundings, Switches

BUSY_THREADS = 3  # a program, the service, and the thread of emulated NICs


class World(Surroundings):
    """memories: regions by number. loop: its thread makes every change, and calls what is here."""

    def __init__(self, policy: Policy, spin_ns: int) -> None:
        self.policy, self.spin_ns = policy, spin_ns
        self.log = Log()
        self.nics: dict[str, Nic] = {}
        self.ports: dict[str, NicPort] = {}
        self.switches = Switches(self)
        self.isolated: dict[str, Isolated] = {}
        self.hosts: dict[str, HostSide] = {}
        self.handles: list[Bound] = []
        self._monitors = 0
        self.spare = Spare()
        self.memories = Memories(policy, self.spare)
        self.pipes = Pipes(self._pipe_memory)
        self.started = time.monotonic()
        self.service = Service(spin_ns)
        self.loop = Loop(self.service, self._look_for_violations, self._lost)

    @property
    def pool(self) -> Pool:
        """Of the region that NICs and pipes share."""
        return self.memories.common

    # ---- handles ----

    def add(self, bound: Bound) -> None:
        """Serve a handle from now on."""
        self.handles.append(bound)
        self.serve()

    def leave(self, bound: Bound) -> None:
        """Answer a handle's requests no more: it is about to be closed."""
        self._look_for_violations([bound])  # the service tells of them only now and then
        bound.closing = True
        self.serve()

    def remove(self, bound: Bound) -> None:
        """Stop serving a handle, and close it."""
        self.handles.remove(bound)
        self.serve()
        try:
            bound.close()
        finally:
            self.serve()  # rings that nobody has any more are the host's again

    def serve(self) -> None:
        """After a change: give the service the handles and tasks that there are now."""
        tasks: list[Task] = []
        for switches in (self.switches, *self.isolated.values()):
            switches.join()
            tasks += [bridge.switch for bridge in switches.bridges.values()]
        for nic in self.nics.values():
            host, port = self.hosts.get(nic.name), self.ports.get(nic.name)
            if host is not None:
                if port is None:
                    host.leave()
                else:
                    host.join(port.host_tx, port.host_rx, self.handles, attached=port.attached)
                    tasks.append(host.host)
        handles = [bound.service for bound in self.handles if not bound.gone and not bound.closing]
        self.loop.serve(handles, [*tasks, *self._work_of_devices()])

    def _work_of_devices(self) -> list[Work]:
        """What emulated NICs do. With few processors the service does it while programs use them: each thread more that
        is always ready would hold up the others."""
        if len(os.sched_getaffinity(0)) >= BUSY_THREADS:
            return []
        used = [self.nics[name] for name, port in self.ports.items() if port.in_use or port.attached]
        return [Work(function) for function in {nic.session.device.work_function() for nic in used} if function]

    # ---- ports by name ----

    @contextmanager
    def looked_up(self, name: str, body: Register) -> Iterator[NetmapPort]:
        """The port that a registration names. A port such as a pipe is made if it is not there, and
        removed again if nothing is bound in the `with` block.

        Raises Refused.
        """
        port = self._find(name, body)
        try:
            yield port
        finally:
            port.released()

    def _find(self, name: str, body: Register) -> NetmapPort:
        if body.nr_mode == Mode.NULL:
            return null_port(name, self.memories.find(body.nr_mem_id), body)
        if body.nr_flags & MONITOR:
            return self._monitor(name, body)
        if "{" in name or "}" in name:
            own = {nic: each.port for nic, each in self.isolated.items() if each.port is not None}
            pipe = self.pipes.find(name, body, {**self.ports, **own})
            self.memories.find(pipe.mem_id)  # the name alone does not open another user's memory
            return pipe
        if name.startswith("vale"):
            return self.switches.find(name, body)
        if name in self.isolated:
            return self.isolated[name].open(body)
        port = self.find_open(name)
        if isinstance(port, NicPort) and self.memories.find(body.nr_mem_id) is not self.pool:
            return self._elsewhere(port, body)
        return port

    def _elsewhere(self, nic: NicPort, body: Register) -> NetmapPort:
        """A NIC for programs in another region: its own rings stay where they are, and the service copies. As in
        netmap, a NIC that is in use keeps its memory. Raises Refused."""
        if nic.in_use or nic.attached:
            nic.check_open(body)
            if self.memories.find(body.nr_mem_id).external:
                raise Refused(errno.EBUSY, f"{nic.name} is in use, so it cannot move to the program's own memory")
            return nic

        def end() -> None:
            self.isolated.pop(nic.name, None)  # it is not there any more if the NIC is gone

        lent = Isolated(nic, self.memories, end)
        port = lent.open(body)
        self.isolated[nic.name] = lent
        return port

    def _pipe_memory(self, parent: str, body: Register) -> Pool:
        """The region of a pipe that is about to be made: its parent's, or the one that the program names."""
        isolated, nic = self.isolated.get(parent), self.ports.get(parent)
        if isolated is not None and isolated.port is not None and isolated.lent:
            return self.memories.find(isolated.port.mem_id)
        return self.pool if nic is not None and nic.in_use else self.memories.find(body.nr_mem_id)

    def _monitor(self, name: str, body: Register) -> NetmapPort:
        watched = Register.from_buffer_copy(body)
        watched.nr_flags &= ~MONITOR
        with self.looked_up(name, watched) as parent:
            self._monitors += 1
            shown = "".join(
                letter
                for letter, flag in zip("zrt", (Flag.ZCOPY_MON, Flag.MONITOR_RX, Flag.MONITOR_TX))
                if body.nr_flags & flag
            )
            return monitor_port(parent, body, f"{name}/{shown}#{self._monitors}", self.memories)

    def find_open(self, name: str) -> NetmapPort:
        """A NIC or a persistent port. Raises Refused(ENXIO)."""
        port = self.ports.get(name) or self.switches.persistent.get(name)
        if port is None:
            raise Refused(errno.ENXIO, f"there is no port {name!r}; this daemon has {', '.join(self.ports)}")
        return port

    def existing(self, name: str) -> NetmapPort:
        """A port of any kind, if it is there already. Raises Refused."""
        if "{" in name or "}" in name:
            return self.pipes.existing(name)
        place = self.switches.place(name)
        return place.port if place is not None else self.find_open(name)

    # ---- called by the loop ----

    def wanted(self, nic: Nic) -> tuple[set[int], set[int]]:
        """The receive and transmit queues of a NIC that a poll or the host waits for."""
        host = self.hosts.get(nic.name)
        rx: set[int] = set(host.joined) if host is not None else set()
        if nic.name in self.ports and self.ports[nic.name].attached:
            rx.update(range(len(nic.rx)))
        tx: set[int] = set()
        if nic.name in self.isolated and self.isolated[nic.name].waits:
            tx.update(range(len(nic.tx)))
        for bound in self.handles:
            armed = 0 if bound.gone else bound.service.armed
            if armed & EVENT_RX:
                rx.update(number for number, ring in enumerate(nic.rx) if ring in bound.rings)
            if armed & EVENT_TX:
                tx.update(number for number, ring in enumerate(nic.tx) if ring in bound.rings)
        return rx, tx

    def _look_for_violations(self, handles: Iterable[Bound] | None = None) -> None:
        """handles: None for all."""
        for bound in self.handles if handles is None else handles:
            for ring in bound.rings:
                error = ring.kring.queue.take_error()
                if error is not None:
                    bound.last_error = error
                    self.log(f"process {bound.pid}: {error}", bound.pid, bound.uid)

    def _lost(self, sleeper: Sleeper, error: Exception) -> None:
        """A NIC is gone: its handles get EIO, as netmap's do. A TAP is gone: its NIC goes on without it."""
        if isinstance(sleeper, HostSide):
            self.log(str(error))
            del self.hosts[sleeper.name]
            if sleeper.name in self.ports:
                self.ports[sleeper.name].lose_host()
            self.serve()
        if not isinstance(sleeper, Nic):
            return
        sleeper.gone = str(error)
        self.log(f"{sleeper.name}: {error}")
        self.ports.pop(sleeper.name, None)
        isolated = self.isolated.pop(sleeper.name, None)
        gone = [bound for bound in self.handles if any(ring in bound.rings for ring in (*sleeper.tx, *sleeper.rx))]
        if isolated is not None:
            gone += [bound for bound in self.handles if bound.port is isolated.port]
        for bound in gone:
            bound.gone = True
        self.serve()
        for bound in gone:
            bound.service.close(errno.EIO)
