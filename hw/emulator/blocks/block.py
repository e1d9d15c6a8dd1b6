"""A block of the chip: registers that do more than hold a value.

A subclass has methods `read_NAME(index) -> int` and `write_NAME(index, value)` for registers of the table; the NIC
calls them with the engine frozen. A register without such a method behaves as its access type says. `self.raw` is the
register file itself: an access there has no effect beyond the value.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Protocol

from ...registers import Registers
from ..engine.library import Engine
from ..faults import Fault


class RegisterFile:
    """The values in the engine's memory: an AddressSpace without side effects."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def read32(self, offset: int, /) -> int:
        return self._engine.registers[offset >> 2]

    def write32(self, offset: int, value: int, /) -> None:
        self._engine.registers[offset >> 2] = value


class Chip(Protocol):
    """What a block may ask of the NIC that contains it."""

    @property
    def injected(self) -> Container[Fault]:
        """The faults that the NIC has now."""

    def reset(self) -> None:
        """Function-level reset; the engine must not be frozen."""

    def reset_registers(self) -> None:
        """Software reset (CTRL.RST); the engine is frozen."""

    def enable_vfs(self, count: int) -> None:
        """The SR-IOV capability enables so many VFs; the engine must not be frozen."""

    def forget_queues(self, queues: range) -> None:
        """These queues were reset: what a driver did to them before does not count for the rules."""

    def update_bus_master(self) -> None:
        """Tell the engine whether the NIC may send requests; the engine is frozen."""


class Block:
    """nic: the NIC that contains this block. raw: the register file."""

    def __init__(self, nic: Chip, engine: Engine) -> None:
        self.nic = nic
        self.engine = engine
        self.raw = Registers(RegisterFile(engine))

    def reset(self) -> None:
        """Called by a reset, after every register got its reset value."""
