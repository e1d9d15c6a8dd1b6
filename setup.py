"""Builds the three C libraries, each in the folder of the package that loads it. The rest is in pyproject.toml."""

from __future__ import annotations

import importlib
import os
import shlex
import shutil
import subprocess
import sys
import types
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
# hidden: the libraries export only the functions marked EXPORT, those that Python calls
STANDARD = ["-std=c11", "-O2", "-g", "-fPIC", "-shared", "-fvisibility=hidden"]
CONTROL_PAGES = ("rings/client.c", "rings/client.h", "rings/control.h")  # files that the preload library includes


def compiler() -> list[str]:
    """$CC, or the first C compiler found. Without a compiler the build ends here with one line."""
    wanted = shlex.split(os.environ.get("CC", ""))
    candidates = [wanted] if wanted else [["cc"], ["gcc"], ["clang"]]
    for command in candidates:
        if shutil.which(command[0]):
            return command
    missing = f"CC={wanted[0]} was not found" if wanted else "no C compiler was found"
    sys.exit(f"ixrings is partly C, and {missing}. Run: apt install gcc libc6-dev")


def write_engine_headers(folder: Path) -> None:
    """registers.h and findings.h of the C engine, from hw/registers/ and hw/emulator/engine/findings.py.

    The packages' __init__.py files do not run: they import numpy, which is missing while a wheel is built.
    """
    for name in ("ixrings", "ixrings.hw", "ixrings.hw.emulator", "ixrings.hw.emulator.engine"):
        package = types.ModuleType(name)
        package.__path__ = [str(ROOT.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = package
    importlib.import_module("ixrings.hw.emulator.engine.header").write_headers(folder)


class BuildLibraries(build_ext):
    """Runs the compiler once per library, without Python.h and Python's own flags: ctypes loads the libraries."""

    def get_ext_filename(self, fullname: str) -> str:
        return fullname.replace(".", os.sep) + ".so"

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return []

    def build_extension(self, ext: Extension) -> None:
        generated = Path(self.build_temp, "include")
        generated.mkdir(parents=True, exist_ok=True)
        write_engine_headers(generated)
        library = Path(self.get_ext_fullpath(ext.name))
        library.parent.mkdir(parents=True, exist_ok=True)
        warnings = ["-Wall", "-Wextra", "-Werror"] if os.environ.get("IXRINGS_WERROR") == "1" else []
        flags = [*STANDARD, *warnings, *shlex.split(os.environ.get("CFLAGS", "")), f"-I{generated}"]
        # -Bsymbolic: calls to exported functions inside a library do not use the dynamic linker's table
        link = ["-lpthread", "-Wl,-Bsymbolic", *shlex.split(os.environ.get("LDFLAGS", ""))]
        command = [*compiler(), *flags, "-o", str(library), *ext.sources, *link]
        print(shlex.join(command), flush=True)
        if subprocess.run(command).returncode:
            sys.exit(f"{library.name} did not compile; the compiler's messages are above")


class PlatformWheel(bdist_wheel):
    """Tag py3-none-<platform>: any Python 3 can load the libraries, but they run only on this kind of machine."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]

    def run(self) -> None:
        # An earlier build's modules would get into the wheel, also those that have been moved or removed since.
        shutil.rmtree(self.get_finalized_command("build").build_lib, ignore_errors=True)
        super().run()


def library(name: str, folder: str, *includes: str) -> Extension:
    def files(pattern: str) -> list[str]:
        return sorted(str(file.relative_to(ROOT)) for file in ROOT.joinpath(folder).glob(pattern))

    return Extension(name, files("*.c"), depends=[*files("*.h"), *includes])


def link_packages() -> None:
    """Make .package/ixrings/{driver,hw,rings} links to the folders where they are not: in an sdist, which has every
    file once, and where an archive was unpacked without links, which leaves files that hold the links' targets.
    """
    for name in ("driver", "hw", "rings"):
        link = ROOT / ".package" / "ixrings" / name
        if not link.is_dir():
            link.unlink(missing_ok=True)
            link.symlink_to(Path("..", "..", name))


compiler()
link_packages()
setup(
    ext_modules=[
        library("ixrings.rings.libhotloop", "rings"),
        library(
            "ixrings.rings.shim.libnetmap_shim", "rings/shim", "rings/client.c", "rings/client.h", "rings/control.h"
        ),
        library("ixrings.hw.emulator.engine.libengine", "hw/emulator/engine"),
    ],
    cmdclass={"build_ext": BuildLibraries, "bdist_wheel": PlatformWheel},
)
