"""What the software 82599 does for its virtual functions (82599 4.6.10): VirtualFunction calls it.

The registers that both share are in blocks/virtual.py.
"""

from __future__ import annotations

from ..device import Device
from ..registers import Registers
from .blocks.virtual import Virtual
from .engine.library import Engine
from .rules.inspector import Inspector
from .virtual_function import VirtualFunction


class PhysicalSide(Device):
    """A part of Emulated82599, which makes everything that is named here."""

    _gone: bool
    _engine: Engine
    _raw: Registers
    _virtual: Virtual
    _vfs: dict[int, VirtualFunction]
    _orphans: set[int]  # VFs that were open when the NIC was closed
    _inspector: Inspector

    def forget_vf(self, number: int) -> None:
        """The VF was closed."""
        self._vfs.pop(number, None)
        self._orphans.discard(number)
        if self._closed and not self._orphans:
            self._engine.release_registers()

    def reset_vf(self, number: int, *, announce: bool) -> None:
        """Reset a VF; with `announce` the PF sees it in PFVFLRE. The engine is frozen."""
        self._virtual.reset_function(number, announce=announce)

    def enable_vfs(self, count: int) -> None:
        """The SR-IOV capability was written. The engine is not frozen."""
        with self._engine.frozen():
            self._virtual.enable(count)

    def forget_queues(self, queues: range) -> None:
        self._inspector.forget_queues(queues)

    @property
    def is_gone(self) -> bool:
        """Whether the NIC was closed or unplugged."""
        return self._closed or self._gone

    def queues_of_a_pool(self) -> int:
        """0 while VT mode is off."""
        with self._engine.frozen():  # so no other thread closes the NIC in between
            return 0 if self.is_gone else self._virtual.queues_of_a_pool()

    def vf_has_eitr(self, number: int) -> bool:
        """From VF 32 on, EITRSEL gives EITR to the VF or to the PF (8.2.3.5.11)."""
        with self._engine.frozen():
            return number < 32 or (not self.is_gone and bool(self._raw.EITRSEL.read() >> (number - 32) & 1))

    def read_vf_interval(self, number: int, vector: int, index: int) -> int:
        """VTEITR, which is EITR[index], with the time that is left of it."""
        with self._engine.frozen():
            return self._virtual.interval_of(number, vector, index)

    def write_vf_interval(self, number: int, vector: int, index: int, value: int) -> None:
        with self._engine.frozen():
            self._virtual.set_interval(number, vector, index, value)
