"""A guest with virtual functions of one emulated NIC for our driver; the test's process has the PF and the far end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ixrings import Port, open_port
from ixrings.hw.emulator import PfAgent
from tests.support.namespaces import unique

from .guest import Guest
from .ours import Scripts
from .prepared import Kernel, Lab
from .served import ServedVfs

ECHO = (0x88B6).to_bytes(2, "big")
LOOK_S = 0.02


@dataclass
class VfGuest(Scripts):
    """VF n is at 0000:(n + 1):00.0."""

    served: ServedVfs
    wire: str

    def far_end(self, mtu: int = 1500) -> Port:
        """A port at the far end of the cable. Its rings are long, because a guest is slow."""
        return open_port(f"emulated:{self.wire}", mtu=mtu, promiscuous=True, rx_slots=4096, tx_slots=4096)


@contextmanager
def vf_guest(
    lab: Lab, folder: Path, *, kernel: Kernel | None = None, iommu: bool = True, kind: str = "linux"
) -> Iterator[VfGuest]:
    """kind: of the PF's agent."""
    wire = f"cable={unique('v')}"
    with ExitStack() as stack:
        served = stack.enter_context(ServedVfs(folder, wire, 2, kind))
        guest = stack.enter_context(Guest(lab, folder, nics=served.sockets, kernel=kernel, iommu=iommu))
        yield VfGuest(guest, served, wire)


@contextmanager
def echoing(port: Port) -> Iterator[None]:
    """Send frames of the type ECHO back to their senders, in a thread."""
    with until_stopped(lambda: port.send([back(each) for each in port.recv(LOOK_S) if each[12:14] == ECHO])):
        yield


@contextmanager
def until_stopped(work: Callable[[], object]) -> Iterator[None]:
    """Repeat `work` in a thread until the context ends."""
    stopping = threading.Event()

    def repeat() -> None:
        while not stopping.wait(LOOK_S):
            work()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def back(frame: bytes) -> bytes:
    return frame[6:12] + frame[:6] + frame[12:]


@contextmanager
def hands(agent: PfAgent, share: Path) -> Iterator[None]:
    """Do to the PF what programs in the guest ask for by files: the text of ask-N, such as `mtu 9000`, then done-N."""

    def look() -> None:
        for file in sorted(share.glob("ask-*")):
            do(agent, file.read_text().split())
            file.unlink()
            (share / file.name.replace("ask", "done", 1)).touch()

    with until_stopped(look):
        yield


def do(agent: PfAgent, words: list[str]) -> None:
    match words:
        case ["reset"]:
            agent.reset()
        case ["down"]:
            agent.down()
        case ["up"]:
            agent.up()
        case ["mtu", size]:
            agent.mtu(int(size))
        case ["trust", vf, state]:
            agent.set_vf(int(vf), trust=state == "on")
        case ["state", vf, state]:
            agent.set_vf(int(vf), state=state)
        case ["mac", vf, address]:
            agent.set_vf(int(vf), mac=bytes.fromhex(address.replace(":", "")))
        case _:
            raise ValueError(f"hands cannot do {words}")
