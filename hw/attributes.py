"""Objects that refuse a misspelt attribute, with the nearest name.

For Python an assignment makes a new attribute, so `port.promisc = True` would do nothing, without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from functools import wraps
from typing import TYPE_CHECKING, Any


def nearest(name: str, names: Iterable[str]) -> str:
    """The one of `names` that is closest to `name`, whatever the case of its letters; "" if none is close."""
    folded = {each.casefold(): each for each in names}
    closest = get_close_matches(name.casefold(), folded, 1)
    return folded[closest[0]] if closest else ""


def did_you_mean(name: str, names: Iterable[str], otherwise: str) -> str:
    """`did you mean CTRL?`, or `otherwise` if no name is close."""
    closest = nearest(name, names)
    return f"did you mean {closest}?" if closest else otherwise


def public_names(kind: type) -> list[str]:
    return [name for name in dir(kind) if not name.startswith("_")]


def no_attribute(message: str, name: str) -> AttributeError:
    """The error. `obj` is None, so that Python does not add a suggestion of its own to the one in the message."""
    return AttributeError(message, name=name, obj=None)


def always(describe: Callable[[Any], str]) -> Callable[[Any], str]:
    """A __repr__ that never fails: a prompt also shows objects of closed ports, of lost NICs, and in a fork."""

    @wraps(describe)
    def described(self: object) -> str:
        try:
            return describe(self)
        except Exception as error:
            return f"<{type(self).__name__}: {error}>"

    return described


def or_nothing(draw: Callable[[Any], str]) -> Callable[[Any], str | None]:
    """A _repr_html_ that never fails: with None, a notebook shows the __repr__."""

    @wraps(draw)
    def drawn(self: object) -> str | None:
        try:
            return draw(self)
        except Exception:
            return None

    return drawn


class Guarded:
    """A class whose objects have the attributes that the class names, and no others.

    Subclasses name their attributes in __slots__. For reads Python's own error is left: with __getattr__, each call of
    a method would take 80 ns more.
    """

    __slots__ = ()

    if not TYPE_CHECKING:  # type checkers know the attributes; with this method they would accept any name

        def __setattr__(self, name: str, value: object) -> None:
            found = getattr(type(self), name, None)
            if not hasattr(found, "__set__") or (isinstance(found, property) and found.fset is None):
                raise no_attribute(self._unsettable(name), name)
            object.__setattr__(self, name, value)

    def _unsettable(self, name: str) -> str:
        """The sentence for an assignment to an unknown name, a method, or a property that cannot be set."""
        found = getattr(type(self), name, None)
        if found is None:
            return self._unknown(name)
        what = "is a method; call it" if callable(found) else "cannot be set"
        return f"{type(self).__name__}.{name} {what}"

    def _unknown(self, name: str) -> str:
        """The sentence for an attribute that does not exist."""
        kind = type(self)
        if hasattr(kind, name):  # a slot that __init__ has not set
            return f"{kind.__name__}.{name} has no value yet"
        names = public_names(kind)
        return f"{kind.__name__} has no attribute {name}; {did_you_mean(name, names, 'it has ' + ', '.join(names))}"


class GuardedReads(Guarded):
    """As Guarded, and reads have the same sentences."""

    __slots__ = ()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            if name.startswith("__"):  # Python and numpy look for these, and need no sentence
                raise AttributeError(name)
            raise no_attribute(self._unknown(name), name)
