"""Files, links and directories of sysfs and proc. A missing one reads as empty."""

from __future__ import annotations

import os
from pathlib import Path

CAP_IPC_LOCK, CAP_SYS_RAWIO, CAP_SYS_ADMIN = 14, 17, 21  # linux/capability.h


def entries_of(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def link_of(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def target_of(link: Path) -> str:
    return os.path.basename(link_of(link))


def text_of(file: Path) -> str:
    try:
        return file.read_text().strip()
    except (OSError, ValueError):
        return ""


def hex_of(file: Path) -> int:
    return int(text_of(file) or "0", 16)


def has_capability(number: int, root: Path) -> bool:
    """Whether this process has a capability in effect (capabilities(7))."""
    for line in text_of(root / "proc/self/status").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


def lockdown_mode(root: Path) -> str:
    """`none`, `integrity` or `confidentiality`; "" if the kernel does not show it (kernel_lockdown(7))."""
    return text_of(root / "sys/kernel/security/lockdown").partition("[")[2].partition("]")[0]
