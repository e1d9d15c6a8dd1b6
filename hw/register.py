"""What a register is: fields, a row of the table, and the accessors `nic.CTRL`, `nic.RXDCTL[q]`.

    nic.CTRL.write(RST=1, LRST=1)                      # whole register, named fields
    nic.RXDCTL[q].update(ENABLE=1)                     # read, change, write
    nic.RXDCTL[q].wait(ENABLE=1, timeout=0.010)        # bounded
    nic.LINKS.read().SPEED                             # a field of the value read

The table is hw/registers/, the fields are in hw/fields/.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from operator import index as whole
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, Protocol, TypeVar, overload

from .attributes import GuardedReads, did_you_mean, nearest, no_attribute, or_nothing
from .errors import RegisterTimeout
from .field import Field

ALL_ONES = 0xFFFF_FFFF


class AddressSpace(Protocol):
    """Where registers are read and written: BAR0 of a Device, or an emulator's register file."""

    def read32(self, offset: int, /) -> int: ...
    def write32(self, offset: int, value: int, /) -> None: ...


class Access(Enum):
    """How the datasheet lets software use a register (8.2.1)."""

    RW = "read/write"
    RO = "read only"
    WO = "write only"
    RC = "read to clear"
    W1S = "read, write 1 to set a bit"
    W1C = "read, write 1 to clear a bit"
    RC_W1C = "read to clear, write 1 to clear a bit"
    SEMAPHORE = "read to take the semaphore"
    LATCH = "read to latch or release another register's value"

    @property
    def read_has_effect(self) -> bool:
        """Whether a read changes the NIC."""
        return self in (Access.RC, Access.RC_W1C, Access.SEMAPHORE, Access.LATCH)


class Word(GuardedReads, int):
    """A register's value: an int. Subclasses (hw/fields/) name its fields."""

    __slots__ = ()

    fields: ClassVar[dict[str, Field]] = {}

    def __init_subclass__(cls) -> None:
        cls.fields = {name: entry for name, entry in vars(cls).items() if isinstance(entry, Field)}

    @classmethod
    def compose(cls, register: str, value: int, numbers: Mapping[str, int]) -> int:
        """`value` with the named fields set to `numbers`.

        Raises AttributeError for a field that the register does not have, ValueError for a number that does not fit,
        TypeError for a number that is not whole.
        """
        value = whole(value)
        if not 0 <= value <= ALL_ONES:
            raise ValueError(f"{register}: {value:#x} does not fit in 32 bits; choose 0 to {ALL_ONES:#x}")
        for name, number in numbers.items():
            field = cls.fields.get(name)
            if field is None:
                raise no_attribute(cls.no_field(register, name), name)
            try:
                value = (value & ~field.mask) | field.place(whole(number))
            except (ValueError, TypeError) as error:
                raise type(error)(f"{register}: {error}") from None
        return value

    @classmethod
    def no_field(cls, register: str, name: str) -> str:
        """The sentence for a field that does not exist."""
        hint = did_you_mean(name, cls.fields, f"it has: {', '.join(cls.fields) or 'no named fields'}")
        return f"{register} has no field {name}; {hint}"

    def _unknown(self, name: str) -> str:
        return self.no_field(type(self).__name__, name)

    def describe(self) -> str:
        """`ENABLE=1 SPEED=3 (10 Gbit/s)`: the fields that are not zero, and the meanings of their numbers."""
        shown = []
        for name, field in self.fields.items():
            number = (self >> field.low) & field.max
            if number:
                stands_for = field.values.get(number)
                width = field.high - field.low + 1
                text = f"{name}={number:#x}" if width > 8 else f"{name}={number}"
                shown.append(f"{text} ({stands_for})" if stands_for else text)
        return " ".join(shown)

    def __repr__(self) -> str:
        return f"{int(self):#010x} {self.describe()}".rstrip()

    @or_nothing
    def _repr_html_(self) -> str:
        from .notebook import value_html

        return value_html(self)

    def __dir__(self) -> list[str]:
        """For a prompt's Tab: the fields, and not what every int has."""
        return [*self.fields, "describe"]


W = TypeVar("W", bound=Word)


@dataclass(frozen=True)
class Run:
    """`count` registers, `stride` bytes apart; the first is at offset `first` and has index `index`."""

    first: int
    stride: int
    count: int
    index: int = 0


class Row(Generic[W]):
    """One line of the table: a register or an array of registers. hw/registers/__init__.py explains the columns."""

    def __init__(
        self,
        layout: type[W],
        runs: tuple[Run, ...],
        access: Access,
        reset: int,
        section: str,
        long_name: str,
        aliases: tuple[Run, ...],
        mask: int,
        also: tuple[str, ...],
        only_first: bool = False,
    ) -> None:
        self.layout, self.runs, self.access = layout, runs, access
        self.reset, self.section, self.long_name = reset, section, long_name
        self.aliases, self.mask, self.also = aliases, mask, also
        self.only_first = only_first
        self.count = max(run.index + run.count for run in runs)
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def offset(self, index: int = 0) -> int:
        """BAR0 offset of register `index`, in bytes. Raises IndexError."""
        for run in self.runs:
            if run.index <= index < run.index + run.count:
                return run.first + run.stride * (index - run.index)
        raise IndexError(f"{self.name}[{index}]: the 82599 has {self.name}[0..{self.count - 1}]")

    def reset_value(self, index: int = 0) -> int:
        """The value of register `index` after a reset."""
        return 0 if self.only_first and index else self.reset

    def label(self, index: int) -> str:
        """`RXDCTL[3]` of an array, `CTRL` of a single register."""
        return f"{self.name}[{index}]" if self.count > 1 else self.name

    def how_to_write(self, value: object) -> str:
        """What to write instead of an assignment."""
        label = self.label(0)
        some = next(iter(self.layout.fields), "")
        fields = f", nic.{label}.update({some}=...) changes a field" if some else ""
        return f"an assignment does not write {self.name}: nic.{label}.write({value!r}) writes it{fields}"

    def __set__(self, nic: RegisterMap, value: NoReturn) -> None:
        raise no_attribute(self.how_to_write(value), self.name)

    def span(self) -> str:
        """`RXDCTL[0..127]` of an array, `CTRL` of a single register."""
        return f"{self.name}[0..{self.count - 1}]" if self.count > 1 else self.name

    @property
    def quiet(self) -> bool:
        """Whether the register can be read, and a read changes nothing."""
        return not self.access.read_has_effect and self.access is not Access.WO

    def named(self, label: str) -> str:
        """`label`, followed by the long name."""
        return f"{label} ({self.long_name})" if self.long_name else label

    def __repr__(self) -> str:
        where = f"{self.offset():#07x} (82599 {self.section})" if self.section else f"{self.offset():#07x}"
        return f"{self.named(self.span())} at {where}: {self.access.value}"


class Register(Row[W]):
    """A single register: `nic.CTRL`."""

    def __init__(
        self,
        layout: type[W],
        offset: int,
        access: Access,
        reset: int = 0,
        section: str = "",
        long_name: str = "",
        *,
        aliases: tuple[int, ...] = (),
        mask: int = ALL_ONES,
        also: tuple[str, ...] = (),
    ) -> None:
        super().__init__(
            layout,
            (Run(offset, 4, 1),),
            access,
            reset,
            section,
            long_name,
            tuple(Run(alias, 4, 1) for alias in aliases),
            mask,
            also,
        )

    @overload
    def __get__(self, nic: None, owner: type) -> Register[W]: ...
    @overload
    def __get__(self, nic: RegisterMap, owner: type) -> Accessor[W]: ...
    def __get__(self, nic: RegisterMap | None, owner: type) -> Register[W] | Accessor[W]:
        return self if nic is None else Accessor(nic, self, 0)


class RegisterArray(Row[W]):
    """Registers of one layout, one for each queue or table entry: `nic.RXDCTL[q]`."""

    def __init__(
        self,
        layout: type[W],
        runs: Run | tuple[Run, ...],
        access: Access,
        reset: int = 0,
        section: str = "",
        long_name: str = "",
        *,
        aliases: tuple[Run, ...] = (),
        mask: int = ALL_ONES,
        also: tuple[str, ...] = (),
        only_first: bool = False,
    ) -> None:
        super().__init__(
            layout,
            (runs,) if isinstance(runs, Run) else runs,
            access,
            reset,
            section,
            long_name,
            aliases,
            mask,
            also,
            only_first,
        )

    @overload
    def __get__(self, nic: None, owner: type) -> RegisterArray[W]: ...
    @overload
    def __get__(self, nic: RegisterMap, owner: type) -> AccessorArray[W]: ...
    def __get__(self, nic: RegisterMap | None, owner: type) -> RegisterArray[W] | AccessorArray[W]:
        return self if nic is None else AccessorArray(nic, self)


class Accessor(GuardedReads, Generic[W]):
    """One register of one NIC."""

    __slots__ = ("_space", "index", "offset", "row")
    _space: RegisterMap
    row: Row[W]
    index: int
    offset: int

    def __init__(self, nic: RegisterMap, row: Row[W], index: int) -> None:
        set_space(self, nic)
        set_row(self, row)
        set_index(self, index)
        set_offset(self, row.offset(index))

    if not TYPE_CHECKING:  # type checkers refuse these uses themselves

        def __getitem__(self, index: object) -> NoReturn:
            raise TypeError(f"{self.name} is a single register; write nic.{self.name}.read()")

        def __bool__(self) -> NoReturn:
            raise TypeError(f"{self.name} is a register, not its value; write nic.{self.name}.read()")

    def _unknown(self, name: str) -> str:
        if name in self.row.layout.fields:
            return (
                f"{name} is a field of {self.name}: nic.{self.name}.read().{name} reads it, "
                f"nic.{self.name}.update({name}=...) changes it"
            )
        if name.isupper():
            return self.row.layout.no_field(self.name, name)
        return super()._unknown(name)

    @property
    def name(self) -> str:
        return self.row.label(self.index)

    def read(self) -> W:
        """One 32-bit load. Raises DeviceGone if the device no longer answers."""
        return self.row.layout(self._space.load(self.offset, self.name))

    def write(self, value: int = 0, /, **fields: int) -> None:
        """One 32-bit store of `value` with `fields` set in it; the other bits are as in `value`."""
        self._space.space.write32(self.offset, self.row.layout.compose(self.name, value, fields))

    def update(self, **fields: int) -> None:
        """Read, change the named fields, write."""
        self.write(self.read(), **fields)

    def wait(self, *, timeout: float, section: str = "", **fields: int) -> W:
        """Read until all `fields` have the given numbers, for at most `timeout` seconds. Returns the last value read.

        Raises RegisterTimeout, which names the register, the field, the expected number and the number read, the time
        waited and the datasheet's section, and TypeError without a field: such a wait would end at once.
        """
        if not fields:
            raise TypeError(
                f"{self.name}.wait() names no field to wait for. Write for example: wait(ENABLE=1, timeout=0.1)"
            )
        layout = self.row.layout
        mask = layout.compose(self.name, 0, {name: layout.fields[name].max for name in fields if name in layout.fields})
        expected = layout.compose(self.name, 0, fields)
        start = time.monotonic()
        while True:
            waited = time.monotonic() - start
            value = self.read()
            if value & mask == expected:
                return value
            if waited >= timeout:
                raise RegisterTimeout(self._missed(value, fields, waited, section or self.row.section))
            time.sleep(min(50e-6, timeout))

    def _missed(self, value: W, fields: Mapping[str, int], waited: float, section: str) -> str:
        wrong = [
            f"{name} is {(value >> field.low) & field.max:#x}, expected {fields[name]:#x}"
            for name, field in self.row.layout.fields.items()
            if name in fields and (value >> field.low) & field.max != fields[name]
        ]
        return (
            f"{self.name} ({self.offset:#07x}) read {value:#010x} after {waited * 1e3:.1f} ms: "
            f"{', '.join(wrong)} (82599 {section})"
        )

    def __repr__(self) -> str:
        """With the register's value, unless a read would change the NIC, or cannot be done any more."""
        place = f"{self.row.named(self.name)} at {self.offset:#07x}"
        if self.row.access is Access.WO:
            return f"{place}: {self.row.access.value}"
        if self.row.access.read_has_effect:
            return f"{place}: {self.row.access.value}; not shown, because a read has an effect (use .read())"
        try:
            return f"{place} = {self.read()!r}"
        except Exception as error:
            return f"{place}: {error}"

    @or_nothing
    def _repr_html_(self) -> str:
        from .notebook import register_html

        return register_html(self)


class AccessorArray(GuardedReads, Generic[W]):
    """All registers of one row of one NIC."""

    __slots__ = ("_space", "row")
    _space: RegisterMap
    row: Row[W]

    def __init__(self, nic: RegisterMap, row: Row[W]) -> None:
        set_array_space(self, nic)
        set_array_row(self, row)

    if not TYPE_CHECKING:

        def __setitem__(self, index: int, value: object) -> NoReturn:
            raise TypeError(self.row.how_to_write(value))

    def _unknown(self, name: str) -> str:
        if hasattr(Accessor, name) or name in self.row.layout.fields:
            first = f"nic.{self.row.name}[0].{name}"
            return f"{self.row.name} has {len(self)} entries, and {name} belongs to one of them: {first}"
        return super()._unknown(name)

    def __getitem__(self, index: int) -> Accessor[W]:
        try:
            return Accessor(self._space, self.row, index)
        except TypeError:
            raise TypeError(f"{self.row.name}[{index!r}]: choose one register, 0 to {len(self) - 1}") from None

    def __len__(self) -> int:
        return self.row.count

    def __iter__(self) -> Iterator[Accessor[W]]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        return f"{self.row.named(self.row.span())} from {self.row.offset():#07x}"


# For __init__: an assignment there would pass through Guarded.__setattr__, which takes three times as long.
set_space, set_row, set_index, set_offset = (
    getattr(Accessor, name).__set__ for name in ("_space", "row", "index", "offset")
)
set_array_space, set_array_row = (getattr(AccessorArray, name).__set__ for name in ("_space", "row"))


@dataclass(frozen=True)
class Place:
    """The register at an offset: register `index` of `row`."""

    row: Row[Any]
    index: int


class RegisterMap(GuardedReads):
    """A set of registers in one address space: the rows of a subclass and of its base classes.

    Two rows of one name, or two registers at one offset (aliases included), are a mistake in the table. Creating the
    subclass then raises TypeError.
    """

    __slots__ = ("space",)

    SIZE: ClassVar[int] = 0  # bytes of the address space
    WHAT: ClassVar[str] = "the 82599"
    LISTED_BY: ClassVar[str] = "ixrings regs emulated"
    _places: ClassVar[dict[int, Place]] = {}

    def __init_subclass__(cls) -> None:
        cls._places = {}
        names: set[str] = set()
        for row in cls.rows():
            if row.name in names:
                raise TypeError(f"{cls.__name__} has two rows with the name {row.name}")
            names.add(row.name)
            for run in (*row.runs, *row.aliases):
                for i in range(run.count):
                    cls._add(run.first + run.stride * i, Place(row, run.index + i))

    @classmethod
    def _add(cls, offset: int, new: Place) -> None:
        old = cls._places.setdefault(offset, new)
        if old is not new:
            labels = " and ".join(place.row.label(place.index) for place in (old, new))
            raise TypeError(f"{cls.__name__} has two registers at {offset:#07x}: {labels}")

    def __init__(self, space: AddressSpace) -> None:
        self.space = space

    def __repr__(self) -> str:
        name = getattr(self.space, "name", "")
        return f"<{type(self).__name__}{f' of {name}' if name else ''}: {len(self.rows())} names, such as .CTRL>"

    @or_nothing
    def _repr_html_(self) -> str:
        from .notebook import map_html

        return map_html(self)

    @classmethod
    def rows(cls) -> list[Row[Any]]:
        """Every row in the table's order; the rows of base classes come last, in the order of the bases."""
        return [row for part in cls.__mro__ for row in vars(part).values() if isinstance(row, Row)]

    def _unknown(self, name: str) -> str:
        names = {name: row.name for row in self.rows() for name in (row.name, *row.also)}
        wanted = names.get(name.upper()) or names.get(nearest(name, names))
        return f"{self.WHAT} has no register {name}; " + (
            f"did you mean {wanted}?" if wanted else f"`{self.LISTED_BY}` lists them"
        )

    @classmethod
    def find(cls, offset: int) -> Place | None:
        """The register at `offset`, aliases included; None if the table has no register there."""
        return cls._places.get(offset)

    def load(self, offset: int, name: str) -> int:
        """One 32-bit load. If it reads all ones, check_present() finds out whether the device is gone."""
        value = self.space.read32(offset)
        if value == ALL_ONES:
            self.check_present(name)
        return value

    def check_present(self, name: str) -> None:
        """Raise DeviceGone if the device is gone. The base class has no register for that check, so it does nothing."""
