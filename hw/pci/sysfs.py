"""Files, links and directories of sysfs and proc. A missing one reads as empty."""

from __future__ import annotations

import os
from pathlib import Path


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
