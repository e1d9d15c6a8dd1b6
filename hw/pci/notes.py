"""Notes of `ixrings bind` in /run/ixrings: the driver and the interface of each NIC before the bind."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..errors import BindError
from .discovery import FOR_PROGRAMS, ROOT, Function


def state_file(address: str, root: Path = ROOT) -> Path:
    return root / "run/ixrings" / f"{address}.json"


def remembered(address: str, root: Path = ROOT) -> dict[str, str]:
    """The note about the function: "driver" and "netdev" before the bind; {} if there is none."""
    try:
        noted = json.loads(state_file(address, root).read_text())
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in noted.items()} if isinstance(noted, dict) else {}


def remember(function: Function, root: Path, undo: ExitStack) -> None:
    """Note driver and interface, but not a driver for programs: unbind() goes back to the kernel's own driver.

    `undo` restores the former note.
    """
    file = state_file(function.address, root)
    if function.driver in FOR_PROGRAMS or (not function.driver and file.exists()):
        return
    before = file.read_text() if file.exists() else None
    undo.callback(lambda: file.unlink(missing_ok=True) if before is None else file.write_text(before))
    file.write_text(json.dumps({"driver": function.driver, "netdev": next(iter(function.netdevs), "")}))


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Only one bind() or unbind() at a time. Raises BindError."""
    try:
        state_file("", root).parent.mkdir(parents=True, exist_ok=True)
        lock = open(root / "run/ixrings/lock", "w", encoding="ascii")
    except OSError as error:
        raise BindError(f"{error.filename} cannot be written: {error.strerror}. Run as root (sudo)") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BindError("another ixrings bind or unbind is running; try again when it has ended") from None
        yield
