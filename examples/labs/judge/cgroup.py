"""A control group for one script: bounds its memory, files in memory included, and the number of its processes.

Works with version 1 and version 2 of cgroups (cgroups(7)), where the checker may create a group.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

END_S = 2.0  # for processes that were killed
LIMITS = {  # by controller: files, and the limit that each gets; the first that exists is required, the rest are not
    "memory": (("memory.max", "memory.limit_in_bytes"), ("memory.memsw.limit_in_bytes", "memory.swap.max")),
    "pids": (("pids.max",), ()),
}


class ControlGroup:
    """limits: by controller ("memory" in bytes, "pids" in processes). held: the controllers that could be set."""

    def __init__(self, name: str, limits: dict[str, int]) -> None:
        self.held: set[str] = set()
        self._folders: list[Path] = []
        for controller, most in limits.items():
            with suppress(OSError):
                self._bound(controller, most, name)

    def _bound(self, controller: str, most: int, name: str) -> None:
        for parent in parents(controller):
            folder = parent / name
            try:
                folder.mkdir(exist_ok=True)
            except OSError:
                continue
            if folder not in self._folders:
                self._folders.append(folder)
            required, others = LIMITS[controller]
            next(folder / file for file in required if (folder / file).exists()).write_text(str(most))
            for file in others:
                if (folder / file).exists():
                    with suppress(OSError):
                        (folder / file).write_text("0" if "swap" in file else str(most))
            self.held.add(controller)
            return

    def join(self) -> set[str]:
        """Put this process into the group. Returns the controllers that then hold."""
        for folder in self._folders:
            try:
                (folder / "cgroup.procs").write_text(str(os.getpid()))
            except OSError:
                return set()
        return self.held

    def killed_for_memory(self) -> bool:
        """Whether the kernel has ended a process of the group because its memory was used up."""
        return any(
            line.startswith("oom_kill ") and line.split()[1] != "0"
            for folder in self._folders
            for file in ("memory.events", "memory.oom_control")
            if (folder / file).exists()
            for line in (folder / file).read_text().splitlines()
        )

    def close(self) -> None:
        """Kill the processes that are left, and remove the group."""
        end = time.monotonic() + END_S
        for folder in self._folders:
            with suppress(OSError):
                (folder / "pids.max").write_text("0")  # a process that is not yet killed starts no other
        while self._folders and time.monotonic() < end:
            for folder in self._folders:
                with suppress(OSError):
                    for pid in (folder / "cgroup.procs").read_text().split():
                        os.kill(int(pid), signal.SIGKILL)
            for folder in list(self._folders):
                with suppress(OSError):
                    folder.rmdir()
                    self._folders.remove(folder)
            if self._folders:
                time.sleep(0.005)

    def __enter__(self) -> ControlGroup:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()


def parents(controller: str) -> Iterator[Path]:
    """The folders in which a group with this controller may be created, the checker's own group first."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        root, mount = before.split()[3:5]
        kind, _, options = after.split(maxsplit=2)
        if kind == "cgroup2":
            own = own_group("")
        elif kind == "cgroup" and controller in options.split(","):
            own = own_group(controller)
        else:
            continue
        place = Path(mount, os.path.relpath(own, root)) if own.startswith(root) else Path(mount)
        while place.is_relative_to(mount):
            # Version 2 gives controllers only to the groups below one that says so, and it has no processes itself.
            if kind == "cgroup" or controller in (place / "cgroup.subtree_control").read_text().split():
                yield place
            place = place.parent


def own_group(controller: str) -> str:
    """The checker's group, as a path in the hierarchy of this controller ("": of version 2)."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path
    return "/"
