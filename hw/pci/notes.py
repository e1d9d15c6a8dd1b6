"""What `ixrings bind` notes about a NIC in /run/ixrings, and the lock on it."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ixrings.hw.errors import BindError

from .discovery import FOR_PROGRAMS, ROOT, Function


def state_file(address: str, root: Path = ROOT) -> Path:
    return root / "run/ixrings" / f"{address}.json"


def remembered(address: str, root: Path = ROOT) -> dict[str, str]:
    """What `bind` noted about the function: its former driver; {} when nothing."""
    try:
        noted = json.loads(state_file(address, root).read_text())
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in noted.items()} if isinstance(noted, dict) else {}


def remember(function: Function, root: Path, undo: ExitStack) -> None:
    """The first driver counts: from vfio-pci to uio_pci_generic and back, it is still the kernel's own that gets it in the end."""
    file = state_file(function.address, root)
    if function.driver in FOR_PROGRAMS or (not function.driver and file.exists()):
        return
    before = file.read_text() if file.exists() else None
    undo.callback(lambda: file.unlink(missing_ok=True) if before is None else file.write_text(before))
    file.write_text(json.dumps({"driver": function.driver, "netdev": next(iter(function.netdevs), "")}))


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """One `ixrings bind` at a time."""
    try:
        state_file("", root).parent.mkdir(parents=True, exist_ok=True)
        lock = open(root / "run/ixrings/lock", "w", encoding="ascii")
    except OSError as error:
        raise BindError(f"{error.filename} cannot be written: {error.strerror}. Run as root (sudo)") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BindError("another ixrings bind or unbind is at work; try again when it is done") from None
        yield
