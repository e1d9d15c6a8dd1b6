"""Which faults an emulated NIC has now, which come at a later access, and how each is carried out."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Protocol

from .blocks.sfp import SfpModule
from .faults import Fault


class Breakable(Protocol):
    """What of a NIC can be broken."""

    def set_link(self, up: bool) -> None: ...
    def insert_module(self, module: SfpModule | None) -> None: ...
    def spoil_eeprom(self) -> None: ...
    def break_write_back(self, *, head: bool, receive: bool) -> None: ...
    def reconnect_interrupts(self) -> None: ...
    def unmap_dma_all(self) -> None: ...
    def unplug(self) -> None: ...


class Faults:
    """Of one NIC: which are there, and which come at a later access. `mend` undoes all but REMOVAL and what DMA broke.

    Threads use the NIC while others break it, and a signal's handler may do so in the middle of an access: a lock would not help against
    the latter, so each step here is one that the interpreter does in one go.
    """

    def __init__(self, nic: Breakable) -> None:
        self._nic = nic
        self._present: set[Fault] = set()
        self._accesses = itertools.count()
        self._coming: dict[Fault, int] = {}  # with which of them

    def __contains__(self, fault: Fault) -> bool:
        return fault in self._present

    def __bool__(self) -> bool:
        """Whether accesses are to be counted."""
        return bool(self._coming)

    def count(self) -> None:
        """A register access is about to be made."""
        now = next(self._accesses)
        for fault, at in list(self._coming.items()):
            if at <= now and self._coming.pop(fault, 0):
                self.add(fault)

    def add(self, fault: Fault, at: int = 0) -> None:
        """Now, or with the `at`-th register access from now."""
        if at:
            self._coming[fault] = next(self._accesses) + at
        elif fault not in self._present:
            self._present.add(fault)
            self._carry_out(fault, True)

    def remove(self, fault: Fault) -> None:
        self._coming.pop(fault, None)
        if fault in self._present:
            self._present.remove(fault)
            self._carry_out(fault, False)

    def _carry_out(self, fault: Fault, broken: bool) -> None:
        """Those that are not here are looked up where they matter: `fault in nic.injected`."""
        nic = self._nic
        effects: dict[Fault, Callable[[], object]] = {
            Fault.LINK: lambda: nic.set_link(not broken),
            Fault.NO_MODULE: lambda: nic.insert_module(None if broken else SfpModule.SR),
            Fault.FOREIGN_MODULE: lambda: nic.insert_module(SfpModule.FOREIGN_SR if broken else SfpModule.SR),
            Fault.EEPROM_CHECKSUM: nic.spoil_eeprom,
            Fault.HEAD_WRITE_BACK: self._tell_engine,
            Fault.RECEIVE_WRITE_BACK: self._tell_engine,
            Fault.INTERRUPT: nic.reconnect_interrupts,
            Fault.DMA: nic.unmap_dma_all if broken else lambda: None,
            Fault.REMOVAL: nic.unplug if broken else lambda: None,
        }
        if fault in effects:
            effects[fault]()

    def _tell_engine(self) -> None:
        self._nic.break_write_back(head=Fault.HEAD_WRITE_BACK in self, receive=Fault.RECEIVE_WRITE_BACK in self)
