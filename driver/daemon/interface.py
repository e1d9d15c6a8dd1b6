"""SIOC questions by name, which programs ask about a port as if Linux had it (struct ifreq, 40 bytes)."""

from __future__ import annotations

import errno
import struct

from .errors import Refused
from .nic import Nic
from .opener import Opener

SIZE = 40
NAME = 16
GET_FLAGS, SET_FLAGS, GET_MTU, GET_ADDRESS = 0x8913, 0x8914, 0x8921, 0x8927
ETHERNET = 1  # ARPHRD_ETHER
UP, BROADCAST, RUNNING, PROMISCUOUS, MULTICAST = 0x1, 0x2, 0x40, 0x100, 0x1000


def answer(opener: Opener, number: int, request: bytes) -> bytes:
    """The filled ifreq. Raises Refused: ENODEV for a name that no NIC has, EINVAL for a question to Linux."""
    if len(request) != SIZE:
        raise Refused(errno.EINVAL, f"an ifreq has {SIZE} bytes, not {len(request)}")
    name = request[:NAME].split(b"\0")[0].decode("utf-8", "replace")
    nic = opener.world.nics.get(name)
    if nic is None:
        raise Refused(errno.ENODEV, f"{name} is not a port of this daemon")
    if number == GET_MTU:
        return filled(request, struct.pack("i", nic.port.mtu))
    if number == GET_ADDRESS:
        return filled(request, struct.pack("H", ETHERNET) + bytes.fromhex(nic.port.mac.replace(":", "")))
    if number == GET_FLAGS:
        return filled(request, struct.pack("H", flags(nic)))
    if number == SET_FLAGS:
        (wanted,) = struct.unpack_from("H", request, NAME)
        opener.check_owner(nic)
        nic.port.promiscuous = bool(wanted & PROMISCUOUS)
        return request
    raise Refused(errno.EINVAL, f"ioctl {number:#x} is a question for the kernel")


def filled(request: bytes, value: bytes) -> bytes:
    return request[:NAME] + value.ljust(SIZE - NAME, b"\0")


def flags(nic: Nic) -> int:
    """IFF_ bits."""
    return UP | BROADCAST | MULTICAST | RUNNING * nic.port.link.up | PROMISCUOUS * nic.port.promiscuous
