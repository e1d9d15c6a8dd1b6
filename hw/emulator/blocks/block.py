"""A block of the chip: registers that do more than hold a value.

A subclass has methods `read_NAME(index) -> int` and `write_NAME(index, value)` for registers of the table; the NIC calls
them with the engine frozen. Registers without such a method behave as their access says. `self.raw` is the register
file itself: reading and writing there has no effect beyond the value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hw.registers import Registers
from hw.emulator.engine.library import Engine

if TYPE_CHECKING:
    from hw.emulator.nic import Emulated82599


class RegisterFile:
    """The values as they stand in the engine's memory: an AddressSpace without side effects."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def read32(self, offset: int, /) -> int:
        return self._engine.registers[offset >> 2]

    def write32(self, offset: int, value: int, /) -> None:
        self._engine.registers[offset >> 2] = value


class Block:
    def __init__(self, nic: Emulated82599, engine: Engine) -> None:
        self.nic = nic
        self.engine = engine
        self.raw = Registers(RegisterFile(engine))

    def reset(self) -> None:
        """After every register got its reset value."""
