"""Options, each defined once. An option is one row of a TypedDict: name, type, default, meaning and check.

Callers, type checkers, editors and help() use the same row.

The rows are in driver/config.py. A function that takes them by `**options: Unpack[Rows]` is decorated with
takes_options(Rows).
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_type_hints

from ixrings.hw.attributes import did_you_mean

from .checks import require

Function = TypeVar("Function", bound=Callable[..., Any])
Rows = TypeVar("Rows", bound=Mapping[str, object])  # a TypedDict

HELP_WIDTH = 100


@dataclass(frozen=True)
class Option:
    """The metadata of a row `name: Annotated[type, Option(...)]`.

    check(name, value) raises ValueError with what is allowed.
    """

    default: object
    meaning: str
    check: Callable[[str, Any], object] | None = None


def between(least: float, most: float, what: str) -> Callable[[str, Any], None]:
    """A check that a number is in least..most. what: the sentence of the error."""

    def check(name: str, value: float) -> None:
        if not least <= value <= most:
            raise ValueError(f"{name}={value}: {what}")

    return check


@cache
def rows_of(rows: type) -> Mapping[str, tuple[Any, Option]]:
    """Type and Option of each name, in the order of the definition."""
    found = {}
    for name, hint in get_type_hints(rows, include_extras=True).items():
        kind, option = get_args(hint)
        found[name] = kind, option
    return found


def complete(rows: type[Rows], given: Mapping[str, object], caller: str) -> Rows:
    """Every option of `rows`: as given, else its default.

    Raises TypeError for an unknown name or a value of another type, ValueError for a bad value.
    """
    known = rows_of(rows)
    options = {name: option for name, (_, option) in known.items()}
    for name in given:
        if name not in options:
            hint = did_you_mean(name, options, f"it has {', '.join(options)}")
            raise TypeError(f"{caller}() has no option {name!r}; {hint}")
    given = {name: require(f"{caller}({name}=...)", value, known[name][0]) for name, value in given.items()}
    for name, value in given.items():
        check = options[name].check
        if check is not None and value is not options[name].default:
            check(name, value)
    return cast(Rows, {name: given.get(name, option.default) for name, option in options.items()})


def takes_options(rows: type) -> Callable[[Function], Function]:
    """Show the options in the function's signature and help(), in place of its `**options`."""

    def show(function: Function) -> Function:
        signature = inspect.signature(function)
        named = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        options = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=kind)
            for name, (kind, option) in rows_of(rows).items()
        ]
        shown = cast(Any, function)
        shown.__signature__ = signature.replace(parameters=[*named, *options])
        shown.__annotations__ = {
            **{name: kind for name, kind in function.__annotations__.items() if name != "options"},
            **{name: kind for name, (kind, _) in rows_of(rows).items()},
        }
        shown.__doc__ = f"{inspect.cleandoc(function.__doc__ or '')}\n\nOptions, all by keyword:\n\n{listed(rows)}"
        return function

    return show


def listed(rows: type) -> str:
    """A paragraph for each option."""
    return "\n".join(
        textwrap.fill(f"{name} (default {option.default!r}): {option.meaning}", HELP_WIDTH, subsequent_indent=" " * 4)
        for name, (_, option) in rows_of(rows).items()
    )
