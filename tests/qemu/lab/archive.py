"""Downloads Debian packages with apt. apt uses separate lists, a separate cache, and the state of an empty system.

So it downloads everything that a part needs, whatever the machine has installed, and it does not change the machine.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from .recipe import ARCHITECTURE, SUITE, Part

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR = "IXRINGS_LAB_MIRROR"
UPDATE_S, DOWNLOAD_S = 300, 1800


class ArchiveError(Exception):
    """A package could not be found or downloaded. The message says what to do."""


def mirror() -> str:
    """The Debian archive that this machine is configured for; IXRINGS_LAB_MIRROR overrides it."""
    chosen = os.environ.get(MIRROR)
    if chosen:
        return chosen
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"], capture_output=True, text=True
    )
    for address in listing.stdout.split():
        if re.fullmatch(r".*/debian/?", address):
            return address
    raise ArchiveError(
        f"apt on this machine has no Debian archive configured. Run: {MIRROR}=URL python -m tests.qemu.prepare, "
        f"where URL is a mirror with {SUITE}"
    )


class Apt:
    """apt-get with its lists, cache and settings in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._options = {
            "Dir::State": folder / "state",
            "Dir::State::status": folder / "status",
            "Dir::Cache": folder / "cache",
            "Dir::Etc::sourcelist": folder / "sources.list",
            "Dir::Etc::sourceparts": "-",
            "Dir::Etc::preferences": "-",
            "Dir::Etc::preferencesparts": "-",
            "APT::Architecture": ARCHITECTURE,
            "APT::Architectures": ARCHITECTURE,
            "APT::Install-Recommends": "false",
            "APT::Sandbox::User": "",
            "APT::Update::Post-Invoke": "",
            "APT::Keep-Downloaded-Packages": "true",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Acquire::http::Timeout": "30",
        }

    def update(self, suites: Iterable[str], say: Callable[[str], None], kind: str = "deb") -> None:
        """kind: "deb" for packages, "deb-src" for their sources."""
        if not KEYRING.exists():
            raise ArchiveError(f"{KEYRING} is missing. Run: apt-get install debian-archive-keyring")
        for name in ("state/lists/partial", "cache/archives/partial", "none/partial"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        (self._folder / "status").touch()
        address = mirror()
        sources = [f"{kind} [signed-by={KEYRING}] {address} {suite} main" for suite in suites]
        (self._folder / "sources.list").write_text("\n".join(sources) + "\n")
        say(f"downloading the package lists of {', '.join(suites)}")
        self._run(UPDATE_S, "update", "--error-on=any")

    def resolve(self, part: Part) -> str:
        """All packages of the part, one a line: file name with version, size, and the hash if the archive gives one."""
        # apt omits packages that are in its cache, so it gets an empty one.
        output = self._run(
            60,
            "install",
            "--print-uris",
            "-qq",
            "-y",
            "-t",
            part.target,
            "-o",
            f"Dir::Cache::archives={self._folder / 'none'}",
            *part.packages,
        )
        if part.bare:
            output += self._run(60, "download", "--print-uris", "-qq", "-t", part.target, *part.bare)
        found = re.findall(r"^'[^']*' (\S+) (\d+) (\S*)$", output, re.MULTILINE)
        if not found:
            raise ArchiveError(f"apt cannot find {', '.join(part.packages)}:\n{output}")
        return "\n".join(sorted(" ".join(entry) for entry in found))

    def download(self, part: Part, say: Callable[[str], None]) -> list[Path]:
        wanted = [line.split()[:2] for line in self.resolve(part).splitlines()]
        say(
            f"{part.name}: downloading {len(wanted)} packages, {sum(int(size) for _, size in wanted) >> 20} MB, "
            "except those already there"
        )
        self._run(DOWNLOAD_S, "install", "--download-only", "-qq", "-y", "-t", part.target, *part.packages)
        cache = self._folder / "cache/archives"
        if part.bare:
            self._run(DOWNLOAD_S, "download", "-qq", "-t", part.target, *part.bare, folder=cache)
        archives = [cache / name for name, _ in wanted]
        missing = [archive.name for archive in archives if not archive.exists()]
        if missing:
            raise ArchiveError(f"apt did not download {', '.join(missing)}. Run the command again")
        return archives

    def source(self, name: str, suite: str, folder: Path) -> Path:
        """Download a source package into `folder`. Returns its upstream archive."""
        self._run(DOWNLOAD_S, "source", "--download-only", "-qq", "-t", suite, name, folder=folder)
        archives = sorted(folder.glob(f"{name}_*.orig.tar.*[!c]"))
        if not archives:
            raise ArchiveError(f"apt did not download the source of {name}. Run the command again")
        return archives[-1]

    def remove_downloads(self) -> None:
        shutil.rmtree(self._folder / "cache", ignore_errors=True)

    def _run(self, timeout_s: float, *arguments: str, folder: Path | None = None) -> str:
        options = [part for name, value in self._options.items() for part in ("-o", f"{name}={value}")]
        try:
            result = subprocess.run(
                ["apt-get", *options, *arguments],
                capture_output=True,
                text=True,
                timeout=timeout_s,
                stdin=subprocess.DEVNULL,
                cwd=folder,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"},
            )
        except subprocess.TimeoutExpired:
            raise ArchiveError(
                f"apt-get {arguments[0]} took more than {timeout_s:.0f} s. Is the network reachable?"
            ) from None
        if result.returncode:
            reason = (
                "\n  ".join(line for line in result.stderr.splitlines() if line.startswith(("E:", "W:")))
                or result.stderr.strip()
            )
            raise ArchiveError(f"apt-get {arguments[0]} failed. Is the network reachable?\n  {reason}")
        return result.stdout
