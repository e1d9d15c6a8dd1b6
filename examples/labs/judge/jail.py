"""What a script is held to, by the rights that this machine gives: namespaces, a user of its own, a read-only view.

As root a script runs as a user that nobody else is. Without root it runs in a user namespace. Both are put into
namespaces of their own for processes and mounts, in which all files are read-only except /dev/shm. Each function
returns whether this machine allows it, and Held.missing() says what does not hold.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

FIRST_USER = 0x6000_0000  # user IDs from here on belong to nobody; each checker takes its own
ONLY_USER = 65533  # in containers, which may have 65,536 user IDs and no more
MOST_PROCESSES = 64  # threads included
SCRATCH = Path("/dev/shm")
MOST_SCRATCH = "64m"

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID = 0x0002_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000
MS_NOSUID, MS_NODEV, MS_REC, MS_PRIVATE = 0x2, 0x4, 0x4000, 0x4_0000
MOUNT_SETATTR, AT_RECURSIVE, MOUNT_ATTR_RDONLY = 442, 0x8000, 0x1  # Linux 5.12; the same number on all architectures
AT_FDCWD = -100
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 8, 24, 38
CAP_DAC_READ_SEARCH, CAPABILITIES = 2, 64
CAPABILITY_VERSION = 0x2008_0522  # two words for each set

libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Held:
    """What was possible for a script's process. groups: the controllers of its cgroup."""

    namespaces: bool = False
    read_only_view: bool = False
    own_user: bool = False
    groups: set[str] = field(default_factory=set)

    def missing(self) -> list[str]:
        """What does not hold, in words that continue "A script is not kept from"."""
        apart = self.own_user or self.namespaces
        return [
            text
            for text, holds in (
                ("stopping the checker (namespaces are not allowed)", apart),
                ("changing other files (a read-only view is not allowed)", self.own_user or self.read_only_view),
                ("leaving processes behind (namespaces are not allowed)", self.namespaces or bool(self.groups)),
                (
                    "starting processes without number (no cgroup could be made)",
                    "pids" in self.groups or os.getuid() != 0,
                ),
                ("filling memory with files (no cgroup could be made)", "memory" in self.groups),
            )
            if not holds
        ]


def call(function: Callable[..., int], *arguments: object) -> None:
    """Call a function of the C library. Raises OSError."""
    if function(*arguments) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def set_dumpable(dumpable: bool) -> None:
    """Whether processes of the same user may read and write this one's memory and open its files (PR_SET_DUMPABLE)."""
    libc.prctl(PR_SET_DUMPABLE, int(dumpable), 0, 0, 0)


def end_with_parent() -> None:
    """Let the kernel end this process when its parent ends."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def enter_namespaces() -> bool:
    """Give this process's children namespaces of their own, and a user namespace without root."""
    own = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC
    user, group = os.geteuid(), os.getegid()
    try:
        call(libc.unshare, own)
        return True
    except OSError:
        pass
    set_dumpable(True)  # else its files in /proc belong to root, and it may not write its own maps
    try:
        call(libc.unshare, own | CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    except OSError:
        return False
    finally:
        set_dumpable(False)
    return True


def make_view_read_only() -> bool:
    """Make all files read-only for this process and its children, except a new /dev/shm."""
    attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY, 0, 0, 0)
    try:
        call(libc.mount, None, b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None)
        call(
            libc.syscall,
            ctypes.c_long(MOUNT_SETATTR),
            ctypes.c_long(AT_FDCWD),
            b"/",
            ctypes.c_long(AT_RECURSIVE),
            attributes,
            ctypes.c_size_t(ctypes.sizeof(attributes)),
        )
    except OSError:
        return False
    options = f"size={MOST_SCRATCH},mode=1777".encode()
    with suppress(OSError):
        call(libc.mount, b"tmpfs", bytes(SCRATCH), b"tmpfs", ctypes.c_ulong(MS_NOSUID | MS_NODEV), options)
        os.environ["TMPDIR"] = str(SCRATCH)
    with suppress(OSError):  # in some containers /proc stays the outer one, which shows processes but opens none
        call(libc.mount, b"proc", b"/proc", b"proc", ctypes.c_ulong(MS_NOSUID | MS_NODEV), None)
    return True


def own_user() -> int | None:
    """The user ID of this checker's scripts; None if the checker is not root, or has no other user ID to give."""
    if os.geteuid() != 0:
        return None
    ranges = [tuple(map(int, line.split())) for line in Path("/proc/self/uid_map").read_text().splitlines()]
    for user in (FIRST_USER + os.getpid(), ONLY_USER):
        if any(first <= user < first + count for first, _, count in ranges):
            return user
    return None


def become(user: int | None) -> bool:
    """Become the script's user, and give up all rights except reading files. user: from own_user()."""
    for capability in range(CAPABILITIES):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    own = False
    if user is not None:
        libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
        with suppress(OSError):
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            own = True
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    keep_capabilities(1 << CAP_DAC_READ_SEARCH if own else 0)
    set_dumpable(True)
    return own


def keep_capabilities(wanted: int) -> None:
    """Give up all capabilities but these. Root's files can be read with CAP_DAC_READ_SEARCH, not written."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; the lower words, then the upper ones
    libc.capget(header, sets)
    kept = wanted & sets[1]
    sets[:] = [kept, kept, 0, 0, 0, 0]
    libc.capset(header, sets)


def bound_processes() -> None:
    """Bound the number of processes of this user. Root is not bound (setrlimit(2))."""
    most = tasks_of(os.getuid()) + MOST_PROCESSES
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))


def tasks_of(user: int) -> int:
    """The number of threads of this user: Linux before 5.14 counts all of them, also outside the namespace."""
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if process.stat().st_uid == user:
                count += len(os.listdir(process / "task"))
    return count
