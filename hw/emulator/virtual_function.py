"""A virtual function of the software 82599 as a Device: BAR0 shows registers of the PF, memory and vectors are its own.

Whatever the PF does, the VF stays usable as an object: when the PF is closed, its registers read all ones, as those of
a device that was unplugged.
"""

from __future__ import annotations

import os
from collections.abc import Container
from typing import Any, Protocol

from ..bar import check_value
from ..errors import DeviceError
from ..register import ALL_ONES, Row
from ..registers import Registers
from .blocks.vf_config_space import VfConfigSpace
from .blocks.virtual import READ_ONLY, VECTORS, registers_of
from .engine.library import FunctionEngine
from .engine.messages import DmaMessages
from .faults import Fault
from .vectors import Vectors
from .windows import ALL_IOVAS, FileWindows

BAR_SIZE = 0x4000
FIRST_IOVA = 0x20_0000_0000  # of VF 0; each VF has a range of its own, so that another function's address is a fault
RANGE = 0x10_0000_0000
TAILS = {base + 0x40 * queue for base in (0x1018, 0x2018) for queue in range(8)}  # VFRDT, VFTDT
Places = dict[int, tuple[Row[Any], int]]


class Faults(Container[Fault], Protocol):
    """The injected faults of the NIC."""

    def count_access(self, count: int = 1, /) -> None: ...


class Physical(Protocol):
    """What a VF needs of the NIC that it is a part of: Emulated82599 has it."""

    name: str

    @property
    def injected(self) -> Faults: ...
    @property
    def is_gone(self) -> bool: ...
    def close(self) -> None: ...
    def inject(self, fault: Fault, at: int = 0) -> None: ...
    def read_register(self, row: Row[Any], index: int, vf: int | None = None) -> int: ...
    def write_register(self, row: Row[Any], index: int, value: int, vf: int | None = None) -> None: ...
    def read_vf_interval(self, number: int, vector: int, index: int) -> int: ...
    def write_vf_interval(self, number: int, vector: int, index: int, value: int) -> None: ...
    def vf_has_eitr(self, number: int) -> bool: ...
    def queues_of_a_pool(self) -> int: ...
    def reset_vf(self, number: int, *, announce: bool) -> None: ...
    def forget_vf(self, number: int) -> None: ...
    def doorbell(self, offset: int) -> int: ...
    def guard_memory(self, on: bool) -> None: ...
    def link_trouble(self) -> str: ...
    def link_lost(self) -> bool: ...


class Agent(Protocol):
    """What plays the PF's driver: a PfAgent."""

    def close(self) -> None: ...


class VirtualFunction(FileWindows):
    """VF `number` of `pf`; Emulated82599.vf() makes it. Closing it resets it.

    pf: the emulated NIC. agent: what plays the PF's driver for this VF alone (emulated_vf() sets it); both are then
    closed with the VF.
    """

    bar0_size = BAR_SIZE
    msix_bar = 3
    has_line = False

    def __init__(self, pf: Physical, number: int, engine: FunctionEngine) -> None:
        self.pf, self.number = pf, number
        self.name = f"{pf.name.replace('emulated', f'emulated-vf{number}', 1)}"
        self.max_vectors = VECTORS
        self.agent: Agent | None = None
        self.owns_pf = False
        self._engine = engine
        self._closed = False
        self._next_iova = FIRST_IOVA + RANGE * number
        self._places: dict[int, Places] = {}
        self._vectors = Vectors(engine, pf.injected)
        self._config = VfConfigSpace(self)

    def close(self) -> None:
        if self._closed:
            return
        if not self.pf.is_gone:
            self.disable_interrupts()
            self.unmap_dma_all()
            self._engine_call("nic_set_bus_master", False)
            with self._engine.frozen():
                self.pf.reset_vf(self.number, announce=True)
        self._closed = True
        self._vectors.release()
        self.pf.forget_vf(self.number)
        if self.owns_pf:
            if self.agent is not None:
                self.agent.close()
            self.pf.close()

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()

    def _release_copies(self) -> None:
        self._vectors.release()

    def _engine_call(self, name: str, *arguments: object) -> int:
        """0 when the PF is gone."""
        with self._engine.frozen():  # so no other thread closes the PF in between
            return 0 if self.pf.is_gone else self._engine.call(name, *arguments)

    # ---- BAR0 ----

    def _place(self, offset: int) -> tuple[Row[Any], int] | None:
        """The PF's register at this offset. None: there is none, or it belongs to a queue that the VF does not have."""
        queues = self.pf.queues_of_a_pool()
        places = self._places.get(queues)
        if places is None:
            rows = {row.name: row for row in Registers.rows()}
            places = self._places[queues] = {
                at: (rows[name], index)
                for at, name, index in registers_of(self.number, queues)
                if index < rows[name].count  # a PF may cut the queues into fewer pools than there are VFs
            }
        place = places.get(offset)
        if place is not None and place[0].name == "EITR" and not self.pf.vf_has_eitr(self.number):
            return None
        return place

    def read32(self, offset: int, /) -> int:
        self._check_open()
        check_offset(offset)
        self.pf.injected.count_access()
        if self.pf.is_gone:
            return ALL_ONES
        place = self._place(offset)
        if place is None:
            return 0
        row, index = place
        if row.name == "EITR":
            return self.pf.read_vf_interval(self.number, offset >> 2 & 1, index)
        return self.pf.read_register(row, index, self.number)

    def write32(self, offset: int, value: int, /) -> None:
        self._check_open()
        check_offset(offset)
        check_value(value)
        self.pf.injected.count_access()
        if self.pf.is_gone:
            return
        place = self._place(offset)
        if place is None or place[0].name in READ_ONLY:
            return
        row, index = place
        if row.name == "EITR":
            self.pf.write_vf_interval(self.number, offset >> 2 & 1, index, value)
        else:
            self.pf.write_register(row, index, value, self.number)

    def doorbell(self, offset: int) -> int:
        self._check_open()
        place = self._place(offset)
        if offset not in TAILS:
            raise ValueError(f"{offset:#x} is not a tail register of {self.name}")
        if place is None:
            raise DeviceError(
                f"{self.name} has {self.pf.queues_of_a_pool()} queues each way, as the PF cuts its pools: the tail "
                f"register {offset:#x} of queue {(offset & 0xFFF) >> 6} belongs to none of them"
            )
        return self.pf.doorbell(place[0].offset(place[1]))

    def doorbell_file(self) -> Any:
        self._check_open()
        raise DeviceError(
            f"{self.name} cannot give a queue to another process: the page of its tail registers has those of other "
            "functions, too"
        )

    # ---- reset and configuration space ----

    def reset(self) -> None:
        self._check_open()
        if self.pf.is_gone:
            return
        self._config.reset()
        self.set_bus_master(False)
        with self._engine.frozen():
            self.pf.reset_vf(self.number, announce=True)

    def config_read(self, offset: int, size: int) -> int:
        self._check_open()
        return ALL_ONES >> (32 - 8 * size) if self.pf.is_gone else self._config.read(offset, size)

    def config_write(self, offset: int, size: int, value: int) -> None:
        self._check_open()
        if not self.pf.is_gone:
            self._config.write(offset, size, value)

    def set_bus_master(self, on: bool) -> None:
        self._engine_call("nic_set_bus_master", on)

    def aborted(self) -> bool:
        return bool(self._engine_call("nic_master_abort"))

    def forget_abort(self) -> None:
        self._engine_call("nic_clear_master_abort")

    # ---- DMA: an IOMMU domain of its own ----

    def map_dma_at(
        self, iova: int, size: int, fd: int | None, offset: int = 0, *, readable: bool = True, writable: bool = True
    ) -> None:
        self._check_open()
        access = readable | writable << 1
        error = self._engine_call("nic_map_dma", iova, size, -1 if fd is None else fd, offset, access)
        if error:
            raise OSError(error, os.strerror(error))

    def unmap_dma_range(self, iova: int, size: int) -> None:
        self._check_open()
        error = self._engine_call("nic_unmap_dma", iova, size)
        if error:
            raise OSError(error, os.strerror(error))

    def unmap_dma_all(self) -> None:
        self._check_open()
        self._engine_call("nic_unmap_dma", 0, ALL_IOVAS)

    @property
    def dma_windows(self) -> int:
        """The number of windows."""
        self._check_open()
        return self._engine_call("nic_window_count")

    @property
    def dma_messages(self) -> DmaMessages:
        """The VF's requests to memory that has no file."""
        return DmaMessages(self._engine)

    def guard_memory(self, on: bool) -> None:
        """As Emulated82599.guard_memory()."""
        self.pf.guard_memory(on)

    # ---- interrupts ----

    def enable_interrupts(self, vectors: int) -> list[int]:
        self._check_open()
        if not 1 <= vectors <= VECTORS:
            raise ValueError(f"a virtual function has 1 to {VECTORS} MSI-X vectors, not {vectors}")
        self.disable_interrupts()
        if self.pf.is_gone:
            raise DeviceError(f"{self.name} is gone: its physical function was closed")
        self._vectors.create(vectors)
        return list(self._vectors.eventfds.values())

    def disable_interrupts(self) -> None:
        if self.pf.is_gone:
            self._vectors.release()
        else:
            self._vectors.disconnect_all()

    def connect_interrupt(self, vector: int, fd: int) -> None:
        """As Emulated82599.connect_interrupt()."""
        self._check_open()
        if not self.pf.is_gone:
            self._vectors.connect(vector, fd)
        elif fd >= 0:
            os.close(fd)

    def connect_line(self, fd: int) -> None:
        """A VF has no INTx (9.5)."""
        raise DeviceError(f"{self.name} has no interrupt line")

    def mask_line(self, masked: bool) -> None:
        raise DeviceError(f"{self.name} has no interrupt line")

    def share_doorbells(self) -> int:
        """-1: its tails have no file of their own."""
        return -1

    def unshare_doorbells(self) -> None:
        """There is nothing to take back."""

    @property
    def injected(self) -> Faults:
        return self.pf.injected

    def link_trouble(self) -> str:
        return self.pf.link_trouble()

    def link_lost(self) -> bool:
        return self.pf.link_lost()


def check_offset(offset: int) -> None:
    """Raises ValueError if BAR0 of a VF has no register word at `offset`."""
    if offset % 4 or not 0 <= offset < BAR_SIZE:
        raise ValueError(f"BAR0 of a VF has 32-bit registers from 0 to {BAR_SIZE - 4:#x}, none at {offset:#x}")
