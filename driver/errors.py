"""What can go wrong with a port. What can with the device stands in hw/errors.py, with the rings in rings/errors.py."""

from __future__ import annotations

from ixrings.hw.errors import CaptureError, DeviceError
from ixrings.rings.errors import LibraryError, RegionError, RingError


class PortError(Exception):
    """A port cannot do what was asked; the message says what to do."""


class PortClosed(PortError):
    """The port was closed."""


class PortBusy(PortError):
    """Someone else has the device."""


class PortTimeout(PortError, TimeoutError):
    """Something did not happen within the time given."""


class DmaRefused(PortError):
    """The NIC was told to read memory that it does not reach; the queue that wanted it stands still until the port is opened anew."""


class LinkDown(DeviceError):
    """The link did not come up in time; the message says why, as far as the NIC knows."""


class PortNameError(ValueError):
    """A port name that cannot be read; the message says what is allowed."""


# What a program that uses ixrings may be told, as `except ERRORS as error:` takes it. Each message says what to do.
ERRORS = (PortError, PortNameError, DeviceError, CaptureError, RegionError, RingError, LibraryError)
