"""Tests with a Python that has no GIL: `python -m tests.free_threaded --prepare`, then `python -m tests.free_threaded`.

Neither Debian nor PyPI has a free-threaded Python ready-made. --prepare builds one from Debian's source package of
CPython, with numpy and pytest from PyPI, in a folder of its own (IXRINGS_FREE_THREADED, or ~/.cache/ixrings-python).
It installs nothing else. You may interrupt and repeat it.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.qemu.lab.archive import Apt, ArchiveError

ROOT = Path(__file__).resolve().parent.parent
SOURCE, SUITE = "python3.13", "trixie"
TESTS = ("tests/rings", "tests/driver", "tests/hw/emulator")
NEEDED = {  # program or header: its package
    "apt-get": "apt",
    "tar": "tar",
    "xz": "xz-utils",
    "make": "make",
    "gcc": "gcc",
    "/usr/include/zlib.h": "zlib1g-dev",
    "/usr/include/openssl/ssl.h": "libssl-dev",
}
CONFIGURE = ("--disable-gil", "--disable-test-modules", "--with-ensurepip=install")
NO_ARCHIVE = 3  # exit status when no Debian archive can be reached


class NotPrepared(Exception):
    """The Python is missing or cannot be built. The message says what to type."""


def say(text: str) -> None:
    print(f"free-threaded: {text}", flush=True)


def cache_folder() -> Path:
    return Path(os.environ.get("IXRINGS_FREE_THREADED", Path.home() / ".cache" / "ixrings-python"))


def python_in(folder: Path) -> Path:
    """The interpreter with numpy and pytest. It exists only when all is complete."""
    return folder / "ready" / "bin" / "python"


def run(command: list[str | Path], folder: Path, log: Path) -> None:
    """Run one step of the build, with its output in `log`."""
    with log.open("a") as output:
        status = subprocess.run(command, cwd=folder, stdout=output, stderr=subprocess.STDOUT).returncode
    if status:
        tail = "\n  ".join(log.read_text(errors="replace").splitlines()[-5:])
        raise NotPrepared(f"{' '.join(map(str, command))} failed; all of its output is in {log}:\n  {tail}")


def check_programs() -> None:
    missing = [package for name, package in NEEDED.items() if not (shutil.which(name) or Path(name).is_file())]
    header = subprocess.run(["gcc", "-E", "-"], input="#include <ffi.h>", capture_output=True, text=True)
    missing += ["libffi-dev"] if header.returncode else []
    if missing:
        raise NotPrepared(f"these packages are missing. Run: apt-get install {' '.join(sorted(set(missing)))}")


def prepare(folder: Path) -> None:
    """Build the interpreter into folder/python and its environment into folder/ready."""
    started = time.monotonic()
    check_programs()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock, tempfile.TemporaryDirectory(prefix="building-", dir=folder) as temporary:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if python_in(folder).exists():
            say(f"{python_in(folder)} is ready")
            return
        building, log = Path(temporary), folder / "build.log"
        log.unlink(missing_ok=True)
        apt = Apt(folder / "apt")
        apt.update([SUITE], say, "deb-src")
        archive = apt.source(SOURCE, SUITE, building)
        run(["tar", "-xf", archive.name, "--strip-components=1", "--one-top-level=source"], building, log)
        say(f"building {archive.name.split('.orig')[0]} without the GIL; this takes some minutes")
        prefix, ready = folder / "python", folder / "ready"
        for left_over in (prefix, ready):
            shutil.rmtree(left_over, ignore_errors=True)
        run(["./configure", f"--prefix={prefix}", *CONFIGURE], building / "source", log)
        run(["make", f"-j{os.cpu_count() or 1}"], building / "source", log)
        run(["make", "install"], building / "source", log)
        fresh = building / "environment"
        run([prefix / "bin" / f"{SOURCE}t", "-m", "venv", fresh], building, log)
        packages = ["--only-binary", ":all:", "numpy", "pytest"]  # a numpy that has no wheel would be built for hours
        run([fresh / "bin" / "python", "-m", "pip", "install", "-q", *packages], building, log)
        fresh.rename(ready)  # `python -m ...` works in a moved environment
    say(f"ready after {time.monotonic() - started:.0f} s. Run: python -m tests.free_threaded")


def test(folder: Path, arguments: list[str]) -> int:
    """Run pytest with the arguments, or with TESTS, on this checkout. Returns its exit status."""
    python = python_in(folder)
    if not python.exists():
        raise NotPrepared(f"{python} is missing. Run: python -m tests.free_threaded --prepare")
    if not list((ROOT / "rings").glob("libhotloop.so")):
        raise NotPrepared("the C libraries of this checkout are missing. Run: pip install -e .")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".package"), "PYTHON_GIL": "0"}
    command = [python, "-m", "pytest", "-p", "no:cacheprovider", *(arguments or TESTS)]
    return subprocess.run(command, cwd=ROOT, env=environment).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepare", action="store_true", help="build the Python first, unless it is there")
    parser.add_argument("arguments", nargs="*", help=f"what to run instead of {' '.join(TESTS)}, after --")
    asked = parser.parse_args()
    try:
        if asked.prepare:
            prepare(cache_folder())
            return 0
        return test(cache_folder(), asked.arguments)
    except ArchiveError as error:
        say(str(error))
        return NO_ARCHIVE
    except NotPrepared as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
