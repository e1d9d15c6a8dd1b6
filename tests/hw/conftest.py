"""The made-up machine for tests of what is read of sysfs and opened under /dev."""

from __future__ import annotations

from tests.support.sysfs_tree import machine

__all__ = ["machine"]
