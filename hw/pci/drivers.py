"""Kernel drivers: load one, detach a function from its driver, let the drivers probe a function."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from ..errors import BindError
from .discovery import Function


def detach(function: Function) -> None:
    """Detach the function from its driver. Blocks in the kernel while a program has it open: check holders() first."""
    if (function.path / "driver").exists():
        (function.path / "driver/unbind").write_text(function.address)


def probe(function: Function, root: Path) -> None:
    """Let the drivers probe the function. The `driver` link shows the result, because the write hides some failures."""
    try:
        (root / "sys/bus/pci/drivers_probe").write_text(function.address)
    except PermissionError:
        raise
    except OSError:
        pass


def load_module(driver: str, root: Path) -> None:
    """Load a driver for programs unless the kernel has it. Raises BindError."""
    if not (root / "sys/bus/pci/drivers" / driver).exists():
        modprobe(driver)
    if not (root / "sys/bus/pci/drivers" / driver).exists():
        raise BindError(f"this kernel has no driver {driver}. Run: sudo modprobe {driver}")


def load_kernel_driver(function: Function, former: str, root: Path) -> None:
    """Load the module of the former driver, or of the function's modalias if there was none. It may be built in."""
    try:
        wanted = former or (function.path / "modalias").read_text().strip()
    except OSError:
        return
    if wanted and not (former and (root / "sys/bus/pci/drivers" / former).exists()):
        modprobe(wanted)


def modprobe(module: str) -> None:
    """Try to load a module. sysfs shows whether it worked."""
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
    """Whether VFIO accepts functions without an IOMMU."""
    try:
        return (root / "sys/module/vfio/parameters/enable_unsafe_noiommu_mode").read_text().strip() in ("Y", "1")
    except OSError:
        return False
