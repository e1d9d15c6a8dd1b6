"""A field: a number in some bits of a register."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn, overload

from .attributes import no_attribute


class Field:
    """Bits [high:low] of a register. As an attribute of a value that was read, it is the number in these bits.

    meaning: the purpose of the field, "" if its name is enough. values: the meaning of single numbers.
    """

    def __init__(self, high: int, low: int, meaning: str = "", values: Mapping[int, str] | None = None) -> None:
        if not 0 <= low <= high <= 31:
            raise ValueError(f"a field lies in bits 31:0, not [{high}:{low}]")
        self.high, self.low = high, low
        self.meaning, self.values = meaning, dict(values or {})
        self.max = (1 << (high - low + 1)) - 1
        self.mask = self.max << low
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, value: None, owner: type) -> Field: ...
    @overload
    def __get__(self, value: int, owner: type) -> int: ...
    def __get__(self, value: int | None, owner: type) -> Field | int:
        return self if value is None else (value >> self.low) & self.max

    def __set__(self, value: int, number: NoReturn) -> None:
        raise no_attribute(
            f"{self.name} is part of a value that was read, which does not change; to change the NIC write "
            f"nic.REGISTER.update({self.name}={number!r})",
            self.name,
        )

    def place(self, number: int) -> int:
        """`number` shifted to the bits of the field. Raises ValueError if it does not fit."""
        if not 0 <= number <= self.max:
            raise ValueError(
                f"{self.name}={number:#x} does not fit: the field is bits [{self.high}:{self.low}], "
                f"at most {self.max:#x}"
            )
        return number << self.low


def bit(position: int, meaning: str = "", values: Mapping[int, str] | None = None) -> Field:
    """A field of one bit."""
    return Field(position, position, meaning, values)


def bits(high: int, low: int, meaning: str = "", values: Mapping[int, str] | None = None) -> Field:
    """A field in the datasheet's notation: `bits(31, 16)` is [31:16]."""
    return Field(high, low, meaning, values)
