"""Who may use the daemon, and which of its ports. SO_PEERCRED decides: the kernel fills it at connect()."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from .errors import Refused

SO_PEERGROUPS = 59  # <asm-generic/socket.h>; Python has no name for it
CREDENTIALS = struct.Struct("iII")
MOST_GROUPS = 1024
MOST_ID = 0xFFFF_FFFE  # the next one is chown()'s "leave it"
SHARE = 50  # percent


class Process(NamedTuple):
    """A process, told from a later one that has its number.

    pid: 0 if the process is in a PID namespace that the daemon does not see. started: in clock ticks since the boot
    (proc(5), field 22 of /proc/PID/stat), or 0 if it cannot be read. uid: of SO_PEERCRED. Because of it, processes of
    two users are never taken for one, whatever pid and started are.
    """

    pid: int
    started: int
    uid: int


@dataclass(frozen=True)
class Peer:
    """The process that connected. started: as of Process."""

    pid: int
    uid: int
    groups: frozenset[int]
    started: int = 0

    @property
    def process(self) -> Process:
        return Process(self.pid, self.started, self.uid)

    def __str__(self) -> str:
        return f"process {self.pid} of {user_name(self.uid)}"


@dataclass(frozen=True)
class Policy:
    """user, group, mode: as of the socket's file. allowed: for some ports, the users that may open them.

    everyone: also serve other users where no IOMMU keeps a NIC off other memory. share: percent of handles and of
    memory that each user besides the daemon's own may have.
    """

    user: int = field(default_factory=os.geteuid)
    group: int = field(default_factory=os.getegid)
    mode: int = 0o660
    allowed: Mapping[str, frozenset[int]] = field(default_factory=dict)
    everyone: bool = False
    share: int = SHARE

    @property
    def others(self) -> bool:
        """Whether users besides the daemon's own, and root, may connect."""
        return (
            self.user not in (os.geteuid(), 0)
            or bool(self.mode & 0o006)
            or (bool(self.mode & 0o060) and self.group != 0)  # also the daemon's own group may have other members
        )

    def own(self, peer: Peer) -> bool:
        """Whether the peer is root, or the daemon's own user."""
        return owner(peer.uid)

    def most(self, uid: int, total: int) -> int:
        """How much of something limited a user may have."""
        return total if owner(uid) else total * self.share // 100

    def owns(self, peer: Peer, port: str) -> bool:
        """Whether the peer may change settings of the port's NIC."""
        return self.own(peer) or peer.uid in self.allowed.get(port, ())

    def check_connection(self, peer: Peer) -> None:
        """Raises Refused(EACCES)."""
        if self.own(peer) or (peer.uid == self.user and self.mode & 0o600):
            return
        if self.group in peer.groups and self.mode & 0o060 and self.group != 0:
            return
        if not self.mode & 0o006:
            raise Refused(
                errno.EACCES, f"{peer} may not use this daemon. Start it with --user, --group or --mode to allow it"
            )

    def check_port(self, peer: Peer, port: str, user: int | None = None, *, scattered: bool = False) -> None:
        """Raises Refused(EPERM). user: who has made the port. scattered: a NIC without an IOMMU has its memory."""
        if self.own(peer):
            return
        whose = "" if user in (None, peer.uid) else f", because {user_name(user or 0)} has made it"
        if peer.uid not in self.allowed[port] if port in self.allowed else whose:
            raise Refused(
                errno.EPERM,
                f"{peer} may not open or change {port}{whose}. To allow it: --allow {port}={account(peer.uid)}",
            )
        if scattered and not self.everyone:
            raise Refused(
                errno.EPERM,
                f"{peer} may not open {port}: a NIC of this daemon has no IOMMU. A program can punch a hole into the "
                "shared memory. The kernel may then give the page to another one, while the NIC still writes to it. "
                "Bind the NIC to vfio-pci, or trust all programs: --trust-everyone",
            )


def owner(uid: int) -> bool:
    """Whether it is root, or the daemon's own user."""
    return uid in (0, os.geteuid())


def peer_of(sock: socket.socket) -> Peer:
    """Who is at the other end. Raises OSError."""
    pid, uid, gid = CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size))
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 4 * MOST_GROUPS)
    except OSError:  # more groups than that, or an old kernel
        raw = b""
    return Peer(pid, uid, frozenset({gid, *struct.unpack(f"{len(raw) // 4}I", raw)}), start_of(pid))


def start_of(pid: int) -> int:
    """When a process started, in clock ticks since the boot. 0: it has ended, or the daemon cannot see it."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])  # its name, before this ")", may have spaces
    except OSError:
        return 0


def number_of(text: str) -> int:
    """The number of a user or a group. Raises ValueError."""
    number = int(text)
    if number > MOST_ID:
        raise ValueError(f"{number} is too large for a user or a group; choose 0 to {MOST_ID}")
    return number


def user_id(text: str) -> int:
    """The number of a user. Raises ValueError."""
    try:
        return number_of(text) if text.isdecimal() else pwd.getpwnam(text).pw_uid
    except KeyError:
        raise ValueError(f"there is no user {text!r}; give a name of /etc/passwd, or a number") from None


def group_id(text: str) -> int:
    """The number of a group. Raises ValueError."""
    try:
        return number_of(text) if text.isdecimal() else grp.getgrnam(text).gr_gid
    except KeyError:
        raise ValueError(f"there is no group {text!r}; give a name of /etc/group, or a number") from None


def account(uid: int) -> str:
    """What names the user in an option."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def user_name(uid: int) -> str:
    return f"user {account(uid)}"
