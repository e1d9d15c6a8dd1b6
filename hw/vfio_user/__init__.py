"""An 82599 in another process, over a UNIX socket: client and server of the vfio-user protocol (see README.md here)."""

from .client import VfioUserDevice

__all__ = ["VfioUserDevice"]
