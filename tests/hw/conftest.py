"""A simulated machine with the files that hw reads in sysfs and opens in /dev."""

from __future__ import annotations

from tests.support.sysfs_tree import machine

__all__ = ["machine"]
