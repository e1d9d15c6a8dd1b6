"""The simulated machine, for tests of what hw reads in sysfs and opens in /dev."""

from __future__ import annotations

from tests.support.sysfs_tree import machine

__all__ = ["machine"]
