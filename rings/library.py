"""The C library beside this file."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path

from .errors import LibraryError

PATH = Path(__file__).with_name("libhotloop.so")


@lru_cache(maxsize=1)
def load() -> ctypes.PyDLL:
    """The library's functions, which keep the GIL. Raises LibraryError."""
    try:
        return ctypes.PyDLL(str(PATH))
    except OSError as error:
        raise not_built(error) from error


def not_built(error: Exception) -> LibraryError:
    return LibraryError(f"{PATH.name} is not built for this machine ({error}). Run: pip install -e .")


def another_version() -> LibraryError:
    return LibraryError(f"{PATH.name} has another version than this package. Run: pip install -e .")
