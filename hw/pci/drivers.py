"""Kernel drivers: loading them, and letting go of or trying a function."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from ixrings.hw.errors import BindError

from .discovery import Function


def detach(function: Function) -> None:
    """Blocks in the kernel for as long as a program has the function open: look for such programs before."""
    if (function.path / "driver").exists():
        (function.path / "driver/unbind").write_text(function.address)


def probe(function: Function, root: Path) -> None:
    """Let the drivers try; what came of it is in the `driver` link, the write reports only some failures."""
    try:
        (root / "sys/bus/pci/drivers_probe").write_text(function.address)
    except PermissionError:
        raise
    except OSError:
        pass


def load_module(driver: str, root: Path) -> None:
    if not (root / "sys/bus/pci/drivers" / driver).exists():
        modprobe(driver)
    if not (root / "sys/bus/pci/drivers" / driver).exists():
        raise BindError(f"this kernel has no driver {driver}. Run: sudo modprobe {driver}")


def load_kernel_driver(function: Function, former: str, root: Path) -> None:
    """The former driver's module, or the one that the function's own description asks for; it may be built in."""
    try:
        wanted = former or (function.path / "modalias").read_text().strip()
    except OSError:
        return
    if wanted and not (former and (root / "sys/bus/pci/drivers" / former).exists()):
        modprobe(wanted)


def modprobe(module: str) -> None:
    """Whether it worked is seen in sysfs."""
    command = shutil.which("modprobe") or "/sbin/modprobe"
    try:
        subprocess.run(
            [command, "--", module],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        pass


def noiommu_mode(root: Path) -> bool:
    try:
        return (root / "sys/module/vfio/parameters/enable_unsafe_noiommu_mode").read_text().strip() in ("Y", "1")
    except OSError:
        return False
