"""BAR0 of the software 82599: a block carries out an access to its registers; access types say what the rest do."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np

from ..register import ALL_ONES, Access, Row
from ..registers import BAR0_SIZE, Registers
from .blocks.block import Block
from .engine.library import Engine


class RegisterAccess:
    """Carries out register accesses of one NIC; call it with the engine frozen.

    read_hooks, write_hooks: the blocks' methods `read_NAME` and `write_NAME`, by NAME.
    """

    def __init__(self, engine: Engine, blocks: Iterable[Block]) -> None:
        self._engine = engine
        self.read_hooks: dict[str, Callable[[int], int]] = {}
        self.write_hooks: dict[str, Callable[[int, int], None]] = {}
        for block in blocks:
            for method in dir(block):
                kind, _, name = method.partition("_")
                if kind == "read":
                    self.read_hooks[name] = getattr(block, method)
                elif kind == "write":
                    self.write_hooks[name] = getattr(block, method)

    def read(self, row: Row[Any], index: int) -> int:
        hook = self.read_hooks.get(row.name)
        if hook is not None:
            return int(hook(index)) & ALL_ONES
        if row.access is Access.RC:
            return self._read_and_clear(row.offset(index))
        return 0 if row.access is Access.WO else self._engine.registers[row.offset(index) >> 2]

    def write(self, row: Row[Any], index: int, value: int) -> None:
        hook = self.write_hooks.get(row.name)
        if hook is not None:
            hook(index, value)
        elif row.access is Access.RW:
            kept = self._engine.registers[row.offset(index) >> 2] & ~row.mask
            self._engine.registers[row.offset(index) >> 2] = kept | (value & row.mask)
        elif row.access is Access.W1C:
            self._engine.registers[row.offset(index) >> 2] &= ~value & ALL_ONES

    def load_reset_values(self) -> None:
        ctypes.memmove(self._engine.register_address, reset_image(), BAR0_SIZE)

    def _read_and_clear(self, offset: int) -> int:
        """A read clears a statistics register; what the engine has counted is added first (8.2.3.23)."""
        self._engine.call("nic_flush_counters")
        value = self._engine.registers[offset >> 2]
        self._engine.registers[offset >> 2] = 0
        return value


@cache
def reset_image() -> bytes:
    """BAR0 after a reset: the reset values of the register table."""
    image = np.zeros(BAR0_SIZE // 4, dtype=np.uint32)
    for row in Registers.rows():
        for index in range(row.count):
            image[row.offset(index) // 4] = row.reset_value(index)
    return image.tobytes()
