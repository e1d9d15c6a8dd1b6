"""How the server's parts refuse a command, and how the client reports that its command was refused."""

from __future__ import annotations

import errno
import os

from ..errors import DeviceError
from .protocol import Command


class Refused(OSError):
    """Server: the command gets an error reply with this errno."""

    def __init__(self, number: int = errno.EINVAL) -> None:
        super().__init__(number, os.strerror(number))


class CommandRefused(DeviceError):
    """Client: the server answered the command with errno `number`."""

    def __init__(self, command: Command, number: int) -> None:
        super().__init__(f"the vfio-user server refused {command.name}: {os.strerror(number)}")
        self.number = number
