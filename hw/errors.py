"""Exceptions of hw. Every message names the observed cause and what to do."""

from __future__ import annotations


class DeviceError(Exception):
    """The NIC, or the way to it, did not do what was asked."""


class DeviceGone(DeviceError):
    """Every read returns 0xFFFFFFFF: the function was removed, reset from outside, or put to sleep."""


class RegisterTimeout(DeviceError):
    """A register did not reach the expected value in time."""


class DmaError(DeviceError):
    """The device cannot be given access to memory."""


class NoSuchFunction(DeviceError):
    """There is no PCI function at that address."""


class BindError(DeviceError):
    """A function could not be bound or given back. It has its former driver, or the message names its driver."""


class WireError(DeviceError):
    """There is no such wire, or it cannot be attached. The message lists the possible wires."""


class CaptureError(Exception):
    """A capture file cannot be read or written."""


class CaptureTruncated(CaptureError):
    """A capture file ends inside a record: its writer was stopped, or is still writing."""


class ServerError(DeviceError):
    """The vfio-user server cannot listen at its socket."""
