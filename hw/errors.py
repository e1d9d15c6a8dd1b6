"""What can go wrong with a device, or on the way to it."""

from __future__ import annotations


class DeviceError(Exception):
    """The NIC, or the way to it, did not do what was asked. The message says what to do."""


class DeviceGone(DeviceError):
    """Every read returns 0xFFFFFFFF: the function was removed, reset from outside, or put to sleep."""


class RegisterTimeout(DeviceError):
    """A register did not reach the value waited for within the bound."""


class DmaError(DeviceError):
    """Memory could not be made reachable for the device."""


class NoSuchFunction(DeviceError):
    """There is no PCI function at that address."""


class BindError(DeviceError):
    """A function could not be bound or given back; it is where it was before, or the message says where."""


class WireError(DeviceError):
    """A wire that cannot be had. The message says what can."""


class CaptureError(Exception):
    """A capture file that cannot be read or written; the message says why and what to do."""


class CaptureTruncated(CaptureError):
    """A capture file that ends within a record: its writer was stopped, or is still at work."""


class ServerError(DeviceError):
    """The socket cannot be had; the message says why."""
