"""Finds the prepared lab, and checks that it was made from this checkout's recipe."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from .recipe import DEBIAN_KERNELS, IOMMUFD_KERNEL, IPXE, PARTS, QEMU, ROOT, SUITE, Part, recipe_key

PREPARE = "python -m tests.qemu.prepare"
PREPARE_KERNEL = "python -m tests.qemu.prepare --kernel"
KERNEL = "IXRINGS_LAB_KERNEL"  # the suite whose kernel is "Debian's kernel" in all scenarios
MANIFEST = "lab.json"


class LabError(Exception):
    """The lab is missing, or a guest failed. The message says what to do."""


def lab_folder() -> Path:
    """IXRINGS_LAB, or else a folder in the user's cache."""
    chosen = os.environ.get("IXRINGS_LAB")
    if chosen:
        return Path(chosen).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ixrings-qemu"


@dataclass(frozen=True)
class Kernel:
    image: Path
    initramfs: Path
    modules: Path  # mounted as /lib/modules

    @classmethod
    def within(cls, part: Path) -> Kernel:
        return cls(part / "vmlinuz", part / "initramfs.gz", part / "usr/lib/modules")


@dataclass(frozen=True)
class Lab:
    """The folders of the finished parts, by their names in recipe.py."""

    parts: dict[str, Path]

    @classmethod
    def load(cls, folder: Path | None = None) -> Lab:
        """The lab in `folder` (None: lab_folder()). Raises LabError, which names the command that prepares the lab."""
        folder = folder or lab_folder()
        found = read_manifest(folder)
        if not found:
            raise LabError(f"the QEMU lab is not prepared in {folder}. Run: {PREPARE}")
        current = {part.name for part in PARTS if found.get(part.name, {}).get("recipe") == recipe_key(part)}
        wrong = [part.name for part in PARTS if not part.optional and part.name not in current]
        if wrong:
            raise LabError(f"the QEMU lab in {folder} is older than its recipe ({', '.join(wrong)}). Run: {PREPARE}")
        return cls({name: folder / found[name]["folder"] for name in current})

    def _part(self, part: Part, command: str) -> Path:
        if part.name not in self.parts:
            raise LabError(f"the QEMU lab has no {part.name}. Run: {command}")
        return self.parts[part.name]

    @property
    def qemu(self) -> Path:
        return self._part(QEMU, PREPARE)

    @property
    def root(self) -> Path:
        return self._part(ROOT, PREPARE)

    @property
    def ipxe(self) -> Path:
        """iPXE with all its drivers, in the format of a Linux kernel."""
        return self._part(IPXE, PREPARE) / "ipxe.lkrn"

    @property
    def debian_kernel(self) -> Kernel:
        """The kernel of the suite in IXRINGS_LAB_KERNEL, or that of the guest's own suite."""
        suite = os.environ.get(KERNEL) or SUITE
        if suite not in DEBIAN_KERNELS:
            raise LabError(f"{KERNEL} is {suite!r}; the lab has kernels of {', '.join(DEBIAN_KERNELS)}")
        return Kernel.within(self._part(DEBIAN_KERNELS[suite], f"{PREPARE} --debian {suite}"))

    @property
    def iommufd_kernel(self) -> Kernel:
        return Kernel.within(self._part(IOMMUFD_KERNEL, PREPARE_KERNEL))

    def qemu_command(self) -> list[str]:
        """QEMU, started by its own loader with its own libraries, because it is not installed."""
        usr = f"{self.qemu}/usr"
        loader = [f"{usr}/lib64/ld-linux-x86-64.so.2", "--library-path", f"{usr}/lib/x86_64-linux-gnu"]
        return [*loader, f"{usr}/bin/qemu-system-x86_64", "-L", f"{usr}/share/qemu", "-L", f"{usr}/share/seabios"]

    def qemu_environment(self) -> dict[str, str]:
        return {**os.environ, "QEMU_MODULE_DIR": f"{self.qemu}/usr/lib/x86_64-linux-gnu/qemu"}


def read_manifest(folder: Path) -> dict[str, dict[str, str]]:
    """{part: {"folder": name, "recipe": key}} for the parts with a folder; {} without a manifest."""
    try:
        manifest: dict[str, dict[str, str]] = json.loads((folder / MANIFEST).read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return {name: entry for name, entry in manifest.items() if (folder / entry["folder"]).is_dir()}


def write_manifest(folder: Path, manifest: dict[str, dict[str, str]]) -> None:
    """Replace the manifest in one step, so that a reader sees either the previous lab or this one."""
    new = folder / f"{MANIFEST}.new"
    new.write_text(json.dumps(manifest, indent=1))
    new.replace(folder / MANIFEST)
