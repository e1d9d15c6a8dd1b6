"""What can go wrong with a port, beside the device (hw.register) and the rings (rings.rules)."""

from __future__ import annotations


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
