"""Ports of one emulated NIC, with virtual functions or without: what engine.py and virtual.py measure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from loops import fill

from ixrings import Port, open_port
from ixrings.hw.emulator import DEFAULT_MAC, Emulated82599, PfAgent
from ixrings.hw.registers import Registers

LINK_TIMEOUT_S = 10


@dataclass(frozen=True)
class Way:
    """wire: the far end. vfs: ports on virtual functions, while an agent plays the PF's driver; 0: the port is on the
    PF. idle: virtual functions without a port, which the PF's port serves. queues: to receive by."""

    wire: str
    vfs: int = 0
    idle: int = 0
    queues: int = 1

    @property
    def only_sends(self) -> bool:
        return self.wire == "sink" and self.vfs < 2


WAYS = {
    "tx": Way("sink"),
    "rx": Way("source"),
    "rx8": Way("source", queues=8),
    "loop": Way("loop"),
    "vf-tx": Way("sink", vfs=1),
    "vf-rx": Way("source", vfs=1),
    "vf-loop": Way("loop", vfs=1),
    "idle-tx": Way("sink", idle=2),
    "idle-rx": Way("source", idle=2),
    "idle-loop": Way("loop", idle=2),
    "switch": Way("sink", vfs=2),
}


@dataclass(frozen=True)
class Scene:
    """The sender and the receiver may be one port."""

    nic: Emulated82599
    sender: Port
    receiver: Port


@contextmanager
def scene(way: Way, *, manual: bool = False) -> Iterator[Scene]:
    """The ports, opened; the sender's buffers hold UDP frames to the receiver. manual: only nic.step() moves frames."""
    timeout = 0 if manual else LINK_TIMEOUT_S
    with ExitStack() as stack:
        nic = stack.enter_context(Emulated82599(way.wire, manual=manual, vfs=way.vfs + way.idle))
        if way.vfs:
            agent = stack.enter_context(PfAgent(nic))
            if way.wire == "source":  # its frames are for the PF's address, which becomes the VF's alone
                Registers(nic).RAH[0].write(0)
                agent.set_vf(0, mac=DEFAULT_MAC)
            ports = [stack.enter_context(open_port(nic.vf(number), link_timeout=timeout)) for number in range(way.vfs)]
        else:
            ports = [stack.enter_context(open_port(nic, rx_queues=way.queues, link_timeout=timeout))]
        if manual:
            nic.step(0)
        fill(ports[0], destination_mac=ports[-1].mac)
        yield Scene(nic, ports[0], ports[-1])
