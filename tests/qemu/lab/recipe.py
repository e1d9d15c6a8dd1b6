"""The Debian packages of which the lab is made. A change here makes `prepare.py` build the changed parts again.

All packages come from one suite, so programs compiled on an older system run in the guest. Only QEMU comes from the
backports: `vfio-user-pci` needs QEMU 10.1. Kernels of other suites are optional. No Debian kernel has iommufd, so the
lab compiles one, and igb_uio with it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

ARCHITECTURE = "amd64"
SUITE = "trixie"
BACKPORTS = "trixie-backports"
OLDER = "bookworm"
KERNEL_SOURCE = "linux-source-6.12"


@dataclass(frozen=True)
class Part:
    """One folder of the lab: packages unpacked over each other, then finished by finish.py."""

    name: str
    packages: tuple[str, ...]
    target: str = SUITE  # the suite whose versions are preferred
    revision: int = 1  # increased when finish.py changes what it does to the part
    optional: bool = False
    bare: tuple[str, ...] = ()  # packages without their dependencies


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

IPXE = Part("ipxe", ("ipxe",))

# kmod makes the list of modules, busybox goes into the initramfs.
KERNEL_PACKAGES = ("linux-image-amd64", "kmod", "busybox-static")
DEBIAN_KERNEL = Part("debian-kernel", KERNEL_PACKAGES)
DEBIAN_KERNELS = {  # by suite
    OLDER: Part(f"debian-kernel-{OLDER}", KERNEL_PACKAGES, target=OLDER, optional=True),
    SUITE: DEBIAN_KERNEL,
    BACKPORTS: Part(f"debian-kernel-{BACKPORTS}", KERNEL_PACKAGES, target=BACKPORTS, optional=True),
}
# dpdk-kmods-dkms has the sources of igb_uio.
IOMMUFD_KERNEL = Part(
    "iommufd-kernel", (KERNEL_SOURCE, "kmod", "busybox-static"), optional=True, bare=("dpdk-kmods-dkms",)
)

PARTS = (QEMU, ROOT, IPXE, *DEBIAN_KERNELS.values(), IOMMUFD_KERNEL)

# Loaded from the initramfs with their dependencies. A module that does not exist is built into the kernel.
BOOT_MODULES = ("virtio_pci", "9pnet_virtio", "9p")

FOLDER = Path(__file__).resolve().parent
KERNEL_CONFIG = FOLDER / "kernel.config"
INITRAMFS_INIT = FOLDER / "initramfs.sh"


def recipe_key(part: Part) -> str:
    """A hash of everything, except the packages' versions, that changes the finished part."""
    text = repr(part) + INITRAMFS_INIT.read_text() + repr(BOOT_MODULES)
    if part is IOMMUFD_KERNEL:
        text += KERNEL_CONFIG.read_text()
    return hashlib.sha256(text.encode()).hexdigest()[:16]
