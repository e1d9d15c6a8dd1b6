"""Builds the two C libraries, plain shared objects beside the packages that load them. Everything else is in pyproject.toml."""

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
STANDARD = ["-std=c11", "-O2", "-g", "-fPIC", "-shared"]


def compiler() -> list[str]:
    """$CC, or the first C compiler there is. Without one the build ends here, with one line."""
    wanted = shlex.split(os.environ.get("CC", ""))
    candidates = [wanted] if wanted else [["cc"], ["gcc"], ["clang"]]
    for command in candidates:
        if shutil.which(command[0]):
            return command
    missing = f"CC={wanted[0]} is not there" if wanted else "no C compiler is there"
    sys.exit(f"ixrings is partly C and {missing}. Run: apt install gcc libc6-dev")


def registers_header() -> str:
    """The C engine's registers.h, from the table in hw/registers/.

    The packages are entered without running their __init__.py: what those import (numpy) is not there while a wheel is built.
    """
    for name in ("ixrings", "ixrings.hw", "ixrings.hw.emulator", "ixrings.hw.emulator.engine"):
        package = types.ModuleType(name)
        package.__path__ = [str(ROOT.joinpath(*name.split(".")[1:]))]
        sys.modules[name] = package
    text: str = importlib.import_module("ixrings.hw.emulator.engine.header").text()
    return text


class BuildLibraries(build_ext):
    """Runs the compiler once a library. No Python.h and none of Python's own flags: the libraries are loaded with ctypes."""

    def get_ext_filename(self, fullname: str) -> str:
        return fullname.replace(".", os.sep) + ".so"

    def get_export_symbols(self, ext: Extension) -> list[str]:
        return []

    def build_extension(self, ext: Extension) -> None:
        generated = Path(self.build_temp, "include")
        generated.mkdir(parents=True, exist_ok=True)
        (generated / "registers.h").write_text(registers_header(), encoding="ascii")
        library = Path(self.get_ext_fullpath(ext.name))
        library.parent.mkdir(parents=True, exist_ok=True)
        warnings = ["-Wall", "-Wextra", "-Werror"] if os.environ.get("IXRINGS_WERROR") == "1" else []
        flags = [*STANDARD, *warnings, *shlex.split(os.environ.get("CFLAGS", "")), f"-I{generated}"]
        # -Bsymbolic: calls from file to file go straight there, not by the dynamic linker's table; they are made for every packet
        link = ["-lpthread", "-Wl,-Bsymbolic", *shlex.split(os.environ.get("LDFLAGS", ""))]
        command = [*compiler(), *flags, "-o", str(library), *ext.sources, *link]
        print(shlex.join(command), flush=True)
        if subprocess.run(command).returncode:
            sys.exit(f"{library.name} did not compile; the compiler's own words are above")


class PlatformWheel(bdist_wheel):
    """py3-none-<platform>: any Python 3 loads the libraries, only this kind of machine runs them."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


def library(name: str, folder: str) -> Extension:
    def files(pattern: str) -> list[str]:
        return sorted(str(file.relative_to(ROOT)) for file in ROOT.joinpath(folder).glob(pattern))

    return Extension(name, files("*.c"), depends=files("*.h"))


compiler()
setup(
    ext_modules=[
        library("ixrings.rings.libhotloop", "rings"),
        library("ixrings.hw.emulator.engine.libengine", "hw/emulator/engine"),
    ],
    cmdclass={"build_ext": BuildLibraries, "bdist_wheel": PlatformWheel},
)
