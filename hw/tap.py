"""TAP interfaces: a descriptor of this process is the other end of an interface of Linux."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import struct

from .errors import WireError

TUNSETIFF, TUNGETIFF = 0x400454CA, 0x800454D2
IFF_TAP, IFF_NO_PI = 0x0002, 0x1000
IFNAMSIZ = 16
GET_FLAGS, GET_MTU, SET_MTU, SET_ADDRESS = 0x8913, 0x8921, 0x8922, 0x8924  # SIOC
IFF_UP = 1
ARPHRD_ETHER = 1


def open_tap(name: str) -> int:
    """A non-blocking TAP fd for interface `name`, which is created if it does not exist. Raises WireError."""
    if not 0 < len(name.encode()) < IFNAMSIZ or "/" in name or name != name.strip():
        raise WireError(f"tap={name}: an interface name has 1 to {IFNAMSIZ - 1} characters, no / and no spaces")
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        hint = "Run: modprobe tun" if error.errno in (errno.ENOENT, errno.ENODEV) else "Run as root"
        raise WireError(f"tap={name}: /dev/net/tun cannot be opened: {error.strerror}. {hint}") from None
    try:
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI))
    except OSError as error:
        os.close(fd)
        reasons = {
            errno.EBUSY: "another program (or port) has it open",
            errno.EPERM: f"not permitted. Run as root, or once: ip tuntap add dev {name} mode tap user $USER",
            errno.EINVAL: "an interface of that name exists and is not a TAP",
        }
        raise WireError(f"tap={name}: {reasons.get(error.errno or 0, error.strerror)}") from None
    return fd


def is_up(name: str) -> bool:
    """Whether Linux has switched the interface on. Raises OSError."""
    return bool(struct.unpack_from("H", ask(name, GET_FLAGS), IFNAMSIZ)[0] & IFF_UP)


def mtu_of(name: str) -> int:
    """In bytes. Raises OSError."""
    return int(struct.unpack_from("i", ask(name, GET_MTU), IFNAMSIZ)[0])


def ask(name: str, number: int) -> bytes:
    """An ifreq, filled by Linux. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        return fcntl.ioctl(sock, number, struct.pack("16s24x", name.encode()))


def name_of(fd: int) -> str:
    """The interface of a TAP's descriptor; it may have been renamed. Raises OSError."""
    answer = fcntl.ioctl(fd, TUNGETIFF, bytes(40))
    return bytes(answer[:IFNAMSIZ]).split(b"\0")[0].decode("utf-8", "replace")


def is_deleted(fd: int) -> bool:
    """Whether somebody has deleted the interface of a TAP's descriptor."""
    poll = select.poll()
    poll.register(fd, 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def set_address_and_mtu(name: str, mac: bytes, mtu: int) -> None:
    """Raises OSError, if this process is not root, for example."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        fcntl.ioctl(sock, SET_ADDRESS, struct.pack("16sH6s16x", name.encode(), ARPHRD_ETHER, mac))
        fcntl.ioctl(sock, SET_MTU, struct.pack("16si20x", name.encode(), mtu))
