"""A block of the chip: registers that do more than hold a value.

A subclass has methods `read_NAME(index) -> int` and `write_NAME(index, value)` for registers of the table; the NIC calls
them with the engine frozen. Registers without such a method behave as their access says. `self.raw` is the register
file itself: reading and writing there has no effect beyond the value.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Protocol

from ixrings.hw.emulator.engine.library import Engine
from ixrings.hw.emulator.faults import Fault
from ixrings.hw.registers import Registers


class RegisterFile:
    """The values as they stand in the engine's memory: an AddressSpace without side effects."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def read32(self, offset: int, /) -> int:
        return self._engine.registers[offset >> 2]

    def write32(self, offset: int, value: int, /) -> None:
        self._engine.registers[offset >> 2] = value


class Chip(Protocol):
    """What a block may ask of the NIC that it is a part of."""

    @property
    def injected(self) -> Container[Fault]: ...
    def reset_registers(self) -> None: ...
    def update_bus_master(self) -> None: ...


class Block:
    def __init__(self, nic: Chip, engine: Engine) -> None:
        self.nic = nic
        self.engine = engine
        self.raw = Registers(RegisterFile(engine))

    def reset(self) -> None:
        """After every register got its reset value."""
