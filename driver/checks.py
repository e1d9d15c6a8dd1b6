"""What a caller gave, checked against what a function, an option or a filter takes. Errors say what to give."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import fields
from functools import cache
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

# Other types that are as good: numpy's numbers for numbers, any buffer of bytes for bytes.
ALSO: dict[type, tuple[type, ...]] = {
    int: (Integral,),
    float: (Real,),
    bool: (Integral,),
    bytes: (bytearray, memoryview),
}
WORDS = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "a string",
    bytes: "bytes",
    NoneType: "None",
}


def kinds_of(hint: Any) -> tuple[type, ...]:
    """The classes of a type hint: `int | None` is (int, NoneType)."""
    members = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return tuple(get_origin(each) or each for each in members)


def in_words(kinds: tuple[type, ...]) -> str:
    """`a whole number or None`."""
    return " or ".join(WORDS.get(kind, kind.__name__) for kind in kinds)


def require(what: str, value: Any, hint: Any, takes: str = "") -> Any:
    """`value`, numpy's integers as int. Raises TypeError unless it is of the hinted type.

    what: the name of the argument. takes: what to give.
    """
    kinds = kinds_of(hint)
    if not isinstance(value, kinds + tuple(other for kind in kinds for other in ALSO.get(kind, ()))):
        raise TypeError(f"{what} takes {takes or in_words(kinds)}; {value!r} is of type {type(value).__name__}")
    # numpy's integers overflow where int does not.
    return int(value) if not isinstance(value, int) and isinstance(value, Integral) else value


@cache
def hints_of(record: Hashable) -> dict[str, Any]:
    return get_type_hints(record)


def require_fields(record: Any) -> None:
    """Raise TypeError unless each field of a dataclass has a value of its type. numpy's integers become int."""
    kind: type = type(record)
    hints = hints_of(kind)
    for field in fields(record):
        value = getattr(record, field.name)
        object.__setattr__(record, field.name, require(f"{kind.__name__}({field.name}=...)", value, hints[field.name]))
