"""Prepares the QEMU lab from Debian packages: `python -m tests.qemu.prepare [--kernel] [--debian SUITE]`.

It installs nothing: it downloads packages with apt into a separate folder (IXRINGS_LAB, or ~/.cache/ixrings-qemu) and
unpacks them there. Each part is built beside its place and moved there when it is complete, so you may interrupt and
repeat the command.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.qemu.lab.archive import Apt, ArchiveError
from tests.qemu.lab.finish import FINISHERS
from tests.qemu.lab.prepared import LabError, lab_folder, read_manifest, write_manifest
from tests.qemu.lab.recipe import ARCHITECTURE, DEBIAN_KERNELS, IOMMUFD_KERNEL, PARTS, SUITE, Part, recipe_key

NEEDED = {  # program: its package
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "tar": "tar",
}
NEEDED_FOR_KERNEL = {
    "make": "make",
    "gcc": "gcc",
    "ld": "binutils",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "perl": "perl",
    "xz": "xz-utils",
    "/usr/include/libelf.h": "libelf-dev",
}
NO_ARCHIVE = 3  # exit status when no Debian archive can be reached
UNPACKED_MB = {"qemu": 400, "root": 400, "ipxe": 10, "iommufd-kernel": 6000}
KERNEL_MB = 600


def say(text: str) -> None:
    print(f"lab: {text}", flush=True)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Lock the folder, so only one prepare works in it. The kernel releases the lock however the process ends."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("waiting for another prepare, which works in this folder")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def check_programs(kernel: bool) -> None:
    needed = NEEDED | (NEEDED_FOR_KERNEL if kernel else {})
    missing = sorted(
        {package for program, package in needed.items() if not (shutil.which(program) or Path(program).is_file())}
    )
    if missing:
        raise LabError(f"these packages are missing. Run: apt-get install {' '.join(missing)}")
    machine = os.uname().machine
    if machine != "x86_64":
        raise LabError(f"the lab has {ARCHITECTURE} packages and needs x86_64; this machine is {machine}")


def check_room(folder: Path, parts: list[Part]) -> None:
    free = shutil.disk_usage(folder).free >> 20
    needed = sum(UNPACKED_MB.get(part.name, KERNEL_MB) for part in parts)
    if free < needed:
        raise LabError(
            f"{folder} has {free} MB free; the lab needs {needed} MB. Choose another folder: IXRINGS_LAB=FOLDER"
        )


def remove_left_overs(folder: Path) -> None:
    """Remove what an interrupted prepare has left, and parts that the manifest no longer names."""
    kept = {entry["folder"] for entry in read_manifest(folder).values()}
    for entry in folder.iterdir():
        of_a_part = any(entry.name.startswith(f"{part.name}-") for part in PARTS)
        if entry.is_dir() and entry.name not in kept and (of_a_part or entry.name.startswith("building-")):
            say(f"removing {entry.name}, which is not used any more")
            shutil.rmtree(entry)


def build(part: Part, apt: Apt, folder: Path, name: str) -> None:
    started = time.monotonic()
    archives = apt.download(part, say)
    building = Path(tempfile.mkdtemp(prefix="building-", dir=folder))
    building.chmod(0o755)
    say(f"{part.name}: unpacking {len(archives)} packages")
    for archive in archives:
        unpack(archive, building)
    FINISHERS[part.name](building, say)
    building.replace(folder / name)
    say(f"{part.name}: ready after {time.monotonic() - started:.0f} s")


def unpack(archive: Path, target: Path) -> None:
    """Unpack like `dpkg -x`, but keep the links /bin, /lib and /sbin into /usr."""
    for name in ("bin", "sbin", "lib", "lib64"):
        (target / "usr" / name).mkdir(parents=True, exist_ok=True)
        if not (target / name).is_symlink():
            (target / name).symlink_to(f"usr/{name}")
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(archive)], stdout=subprocess.PIPE) as data:
        command = [
            "tar",
            "-x",
            "-C",
            str(target),
            "--keep-directory-symlink",
            "--no-same-owner",
            "--exclude=./usr/share/doc/*",
            "--exclude=./usr/share/man/*",
            "--exclude=./usr/share/locale/*",
        ]
        status = subprocess.run(command, stdin=data.stdout).returncode
    if status or data.returncode:
        raise LabError(f"{archive.name} could not be unpacked into {target}")


def prepare(folder: Path, chosen: Collection[Part]) -> None:
    """Make the parts that every lab has, and of the optional ones those that are chosen."""
    parts = [part for part in PARTS if part in chosen or not part.optional]
    manifest = read_manifest(folder)
    apt = Apt(folder / "apt")
    try:
        apt.update(sorted({part.target for part in parts}), say)
    except ArchiveError as error:
        current = [part for part in parts if manifest.get(part.name, {}).get("recipe") == recipe_key(part)]
        if len(current) == len(parts):
            say(f"the archive cannot be reached; the lab stays as it is ({error})")
            return
        raise
    wanted = {
        part: f"{part.name}-{hashlib.sha256((recipe_key(part) + apt.resolve(part)).encode()).hexdigest()[:16]}"
        for part in parts
    }
    missing = [part for part in parts if not (folder / wanted[part]).is_dir()]
    check_room(folder, missing)
    for part in parts:
        if part in missing:
            build(part, apt, folder, wanted[part])
        else:
            say(f"{part.name}: is up to date")
        manifest[part.name] = {"folder": wanted[part], "recipe": recipe_key(part)}
        write_manifest(folder, manifest)
    for part in PARTS:
        if manifest.get(part.name, {}).get("recipe") not in (None, recipe_key(part)):
            say(f"{part.name} is older than its recipe. Make it again with {option_of(part)}")
    apt.remove_downloads()
    remove_left_overs(folder)


def option_of(part: Part) -> str:
    return "--kernel" if part is IOMMUFD_KERNEL else f"--debian {part.target}"


def run(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Prepares the QEMU lab; `pytest -m qemu` uses it.")
    parser.add_argument(
        "--kernel", action="store_true", help="also compile the kernel with iommufd (once, about 7 minutes on 2 cores)"
    )
    parser.add_argument(
        "--debian",
        action="append",
        default=[],
        choices=[suite for suite in DEBIAN_KERNELS if suite != SUITE],
        help="also prepare the kernel of this suite; IXRINGS_LAB_KERNEL=SUITE then selects it",
    )
    options = parser.parse_args(arguments)
    chosen = [DEBIAN_KERNELS[suite] for suite in options.debian] + [IOMMUFD_KERNEL] * options.kernel
    started = time.monotonic()
    folder = lab_folder()
    try:
        check_programs(options.kernel)
        folder.mkdir(parents=True, exist_ok=True)
        with alone_in(folder):
            remove_left_overs(folder)
            prepare(folder, chosen)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except ArchiveError as error:
        print(f"lab: {error}", file=sys.stderr)
        return NO_ARCHIVE
    except OSError as error:
        print(
            f"lab: {error.filename or folder}: {error.strerror}. Choose another folder: IXRINGS_LAB=FOLDER",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted. Complete parts are kept; run the command again to go on", file=sys.stderr)
        return 130
    say(f"the lab in {folder} is ready after {time.monotonic() - started:.0f} s. Run: pytest -m qemu")
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
