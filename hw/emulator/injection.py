"""The injected faults of one emulated NIC: those present, those due at a later register access, and their effects."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Protocol

from .blocks.sfp import SfpModule
from .faults import Fault


class Breakable(Protocol):
    """The parts of a NIC that a fault acts on."""

    def set_link(self, up: bool) -> None:
        """Plug the cable in, or pull it out."""

    def insert_module(self, module: SfpModule | None, /) -> None:
        """Exchange the SFP+ module, or (None) take it out."""

    def flip_eeprom_checksum(self) -> None:
        """Make the EEPROM's checksum wrong, or right again."""

    def break_write_back(self, *, head: bool, receive: bool) -> None:
        """Withhold head write-backs, receive descriptor write-backs, both or none."""

    def reconnect_interrupts(self) -> None:
        """Connect the eventfds again, with Fault.INTERRUPT or without."""

    def unmap_dma_all(self) -> None: ...

    def unplug(self) -> None:
        """Surprise removal."""


class InjectedFaults:
    """The faults of one NIC, now and later. `remove` undoes each, except REMOVAL and the unmapping that DMA did.

    Other threads use the NIC meanwhile, and a signal handler may call `add` or `remove` in the middle of an access. A
    lock does not help against the handler, so each step is a single operation of the interpreter.

    on_pf_change: called after a fault of the PF's driver has come or gone; a PfAgent sets it.
    """

    def __init__(self, nic: Breakable) -> None:
        self._nic = nic
        self._present: set[Fault] = set()
        self._accesses = itertools.count()
        self._due: dict[Fault, int] = {}  # by fault, the number of the access that injects it
        self.on_pf_change: Callable[[], None] = lambda: None

    def __contains__(self, fault: object) -> bool:
        return fault in self._present

    def count_access(self, accesses: int = 1) -> None:
        """Call it before register accesses; it injects the faults that are due."""
        for _ in range(accesses):
            if not self._due:
                return
            now = next(self._accesses)
            for fault, at in list(self._due.items()):
                if at <= now and self._due.pop(fault, 0):
                    self.add(fault)

    def add(self, fault: Fault, at: int = 0) -> None:
        """Inject it now, or at the `at`-th register access from now."""
        if at:
            self._due[fault] = next(self._accesses) + at
        elif fault not in self._present:
            self._present.add(fault)
            self._carry_out(fault, True)

    def remove(self, fault: Fault) -> None:
        self._due.pop(fault, None)
        if fault in self._present:
            self._present.remove(fault)
            self._carry_out(fault, False)

    def _carry_out(self, fault: Fault, broken: bool) -> None:
        """Act on the NIC. RESET and QUEUE_ENABLE need no action: their blocks look them up in `nic.injected`."""
        nic = self._nic
        effects: dict[Fault, Callable[[], object]] = {
            Fault.LINK: lambda: nic.set_link(not broken),
            Fault.NO_MODULE: lambda: nic.insert_module(None if broken else SfpModule.SR),
            Fault.FOREIGN_MODULE: lambda: nic.insert_module(SfpModule.FOREIGN_SR if broken else SfpModule.SR),
            Fault.EEPROM_CHECKSUM: nic.flip_eeprom_checksum,
            Fault.HEAD_WRITE_BACK: self._update_write_back,
            Fault.RECEIVE_WRITE_BACK: self._update_write_back,
            Fault.INTERRUPT: nic.reconnect_interrupts,
            Fault.DMA: nic.unmap_dma_all if broken else lambda: None,
            Fault.REMOVAL: nic.unplug if broken else lambda: None,
        }
        if fault in effects:
            effects[fault]()
        if fault.of_the_pf:
            self.on_pf_change()

    def _update_write_back(self) -> None:
        self._nic.break_write_back(head=Fault.HEAD_WRITE_BACK in self, receive=Fault.RECEIVE_WRITE_BACK in self)
