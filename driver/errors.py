"""Errors of a port. Errors of the device are in hw/errors.py, errors of the rings in rings/errors.py."""

from __future__ import annotations

from ixrings.hw.errors import CaptureError, DeviceError
from ixrings.rings.errors import LibraryError, RegionError, RingError


class PortError(Exception):
    """A port cannot do what was asked. The message says what to do."""


class PortClosed(PortError):
    """The port was closed."""


class PortBusy(PortError):
    """Another port, program or driver has the device."""


class PortTimeout(PortError, TimeoutError):
    """What a call waited for did not happen within its timeout."""


class NothingToWatch(PortError):
    """A monitor was asked for of a port that no program uses now."""


class DmaRefused(PortError):
    """A DMA access of the NIC was refused: no memory is mapped for it at that address.

    The queue of this access stops until the port is opened again.
    """


class PortStuck(PortError):
    """The port moves no more frames until it is opened again. The message names the cause.

    A wait raises it that found nothing for a second or more: the wire is gone for good (a TAP interface was deleted,
    the disk under a recording is full), or the NIC no longer reports what it has sent.
    """


class NotOffered(PortError):
    """The NIC's function does not have what was asked for: a virtual function has less than the whole NIC. The message
    says who has it."""


class RequestRefused(PortError):
    """The PF of a virtual function refused a request, or does not know it. The message says what the host can type.

    request: what was asked, such as "SET_VLAN".
    """

    def __init__(self, request: str, message: str) -> None:
        super().__init__(message)
        self.request = request


class PfNotReady(PortError):
    """The PF of a virtual function is in reset, or its driver does not answer."""


class LinkDown(DeviceError):
    """The link did not come up in time. The message says why, as far as the NIC knows."""


class NothingReceived(UserWarning):
    """recv() ended without a frame, although frames came. The message says where they went."""


class PortNameError(ValueError):
    """A port name does not follow the grammar. The message says what is allowed."""


# Every expected error, for `except ERRORS as error:`. Each message says what to do (driver/README.md, contract 6).
ERRORS = (PortError, PortNameError, DeviceError, CaptureError, RegionError, RingError, LibraryError)
