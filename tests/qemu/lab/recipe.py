"""What the lab is made of: Debian packages, and what is done to them. A change here makes `prepare.py` build anew.

Everything comes from one suite, so that programs compiled on an older system run in the guest; QEMU alone is taken from
its backports, because `vfio-user-pci` came with QEMU 10.1. No Debian kernel has iommufd, so one is compiled for it, and igb_uio with it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

ARCHITECTURE = "amd64"
SUITE = "trixie"
BACKPORTS = "trixie-backports"
KERNEL_SOURCE = "linux-source-6.12"


@dataclass(frozen=True)
class Part:
    """One directory of the lab: packages unpacked over each other, then `finish` (see prepare.py)."""

    name: str
    packages: tuple[str, ...]
    target: str = SUITE  # the suite whose versions are preferred
    revision: int = 1  # of what prepare.py does after unpacking
    optional: bool = False
    bare: tuple[str, ...] = ()  # packages, without what they depend on


QEMU = Part("qemu", ("qemu-system-x86",), target=BACKPORTS)

ROOT = Part(
    "root",
    (
        "base-files",
        "base-passwd",
        "bash",
        "busybox-static",
        "coreutils",
        "dash",
        "grep",
        "sed",
        "util-linux",
        "mount",
        "procps",
        "python3",
        "python3-numpy",
        "python3-pytest",
        "iproute2",
        "ethtool",
        "iputils-ping",
        "kmod",
        "pciutils",
        "tcpdump",
        "dpdk",
        "dpdk-dev",
        "librte-net-ixgbe25",
        "librte-mempool-ring25",
        "librte-bus-pci25",  # dpdk-dev has testpmd
    ),
    revision=3,
)

# kmod and busybox make the list of modules and the first RAM disk.
DEBIAN_KERNEL = Part("debian-kernel", ("linux-image-amd64", "kmod", "busybox-static"))
IOMMUFD_KERNEL = Part(
    "iommufd-kernel", (KERNEL_SOURCE, "kmod", "busybox-static"), optional=True, bare=("dpdk-kmods-dkms",)
)  # igb_uio's source

PARTS = (QEMU, ROOT, DEBIAN_KERNEL, IOMMUFD_KERNEL)

# Read by the kernel's loader in the guest's first RAM disk, with what they depend on; built in where they are missing.
BOOT_MODULES = ("virtio_pci", "9pnet_virtio", "9p")

FOLDER = Path(__file__).resolve().parent
KERNEL_CONFIG = FOLDER / "kernel.config"
INITRAMFS_INIT = FOLDER / "initramfs.sh"


def recipe_key(part: Part) -> str:
    """Changes whenever the part would be made differently from the same packages."""
    text = repr(part) + INITRAMFS_INIT.read_text() + repr(BOOT_MODULES)
    if part is IOMMUFD_KERNEL:
        text += KERNEL_CONFIG.read_text()
    return hashlib.sha256(text.encode()).hexdigest()[:16]
