"""An 82599 in another process, over a UNIX socket: the vfio-user protocol, its client and its server (README.md beside this file)."""

from .client import VfioUserDevice

__all__ = ["VfioUserDevice"]
