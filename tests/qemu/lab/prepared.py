"""Finds the prepared lab, and checks that it was made from this checkout's recipe."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from .recipe import DEBIAN_KERNEL, IOMMUFD_KERNEL, PARTS, QEMU, ROOT, Part, recipe_key

PREPARE = "python -m tests.qemu.prepare"
PREPARE_KERNEL = "python -m tests.qemu.prepare --kernel"
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
        stale = [part.name for part in PARTS if part.name in found and found[part.name]["recipe"] != recipe_key(part)]
        missing = [part.name for part in PARTS if not part.optional and part.name not in found]
        if missing or set(stale) - {IOMMUFD_KERNEL.name}:
            raise LabError(
                f"the QEMU lab in {folder} is older than its recipe ({', '.join(missing + stale)}). Run: {PREPARE}"
            )
        return cls({name: folder / entry["folder"] for name, entry in found.items() if name not in stale})

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
    def debian_kernel(self) -> Kernel:
        return Kernel.within(self._part(DEBIAN_KERNEL, PREPARE))

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
