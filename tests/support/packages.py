"""Packages from PyPI for tests of other people's programs. They stay outside the development environment."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest


def package(requirement: str) -> Path:
    """The folder for PYTHONPATH with a package such as "scapy==2.8.0". Skips the test if it cannot be installed.

    It is installed once, into IXRINGS_PACKAGES or ~/.cache/ixrings-packages, for this version of Python.
    """
    cache = Path(os.environ.get("IXRINGS_PACKAGES") or Path.home() / ".cache/ixrings-packages")
    place = cache / f"{sys.implementation.cache_tag}-{requirement}"
    if not place.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            made = Path(folder, "made")
            done = subprocess.run(
                [sys.executable, "-m", "pip", "install", "-q", "--target", made, requirement],
                capture_output=True, text=True, timeout=300,
            )  # fmt: skip
            if done.returncode:
                pytest.skip(f"{requirement} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
            if not place.exists():
                made.rename(place)
    return place
