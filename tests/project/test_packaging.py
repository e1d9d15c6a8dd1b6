"""The build: generated C headers, exported functions, the wheel, and the error without a compiler."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import ixrings.rings
from ixrings.hw.emulator.engine import header, library
from ixrings.hw.emulator.engine.findings import FindingKind
from ixrings.hw.registers import Registers

ROOT = Path(__file__).resolve().parent.parent.parent


def constants() -> dict[str, int]:
    return {
        name: int(value.rstrip("u"), 0)
        for name, value in re.findall(r"^#define (\w+) (\w+)$", header.registers_text(), re.MULTILINE)
    }


def test_c_has_every_register_at_the_address_in_the_table() -> None:
    known = constants()
    for row in Registers.rows():
        first = known[f"R_{row.name}"]
        assert first == row.offset(0)
        if row.count > 1:
            later = [run.index for run in row.runs[1:]]
            assert known[f"R_{row.name}_COUNT"] == row.count
            assert row.runs[0].count == 1 or first + known[f"R_{row.name}_STRIDE"] == row.offset(1)
            assert [known[f"R_{row.name}_{index}"] for index in later] == [row.offset(index) for index in later]


def test_c_has_every_field_at_the_bits_in_the_table() -> None:
    known = constants()
    assert (known["F_RXDCTL_ENABLE_SHIFT"], known["F_RXDCTL_ENABLE_MASK"]) == (25, 1 << 25)
    for row in Registers.rows():
        for field in row.layout.fields.values():
            name = f"F_{row.name}_{field.name}"
            assert (known[f"{name}_SHIFT"], known[f"{name}_MASK"]) == (field.low, field.mask)


def test_c_has_every_kind_of_finding_with_its_number() -> None:
    numbers = re.findall(r"^    FINDING_(\w+) = (\d+),$", header.findings_text(), re.MULTILINE)
    assert [(name, int(number)) for name, number in numbers] == [(kind.name, kind.value) for kind in FindingKind]


def test_the_headers_compile_and_every_register_name_is_defined_once(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler; run: apt install gcc libc6-dev")
    header.write_headers(tmp_path)
    (tmp_path / "use.c").write_text(
        '#include "registers.h"\n#include "findings.h"\n'
        '_Static_assert(R_RDBAL_64 == 0xD000u, "second run");\nenum finding_kind used = FINDING_TX_TAIL;\n'
    )
    subprocess.run(
        [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", "-c", "use.c"], cwd=tmp_path, check=True, timeout=20
    )
    names = re.findall(r"^#define (\w+)", header.registers_text(), re.MULTILINE)
    assert len(names) == len(set(names))


def exported(file: Path) -> set[str]:
    """The symbols that a library defines for others; a sanitizer's own begin with an underscore."""
    if shutil.which("nm") is None:
        pytest.skip("no nm; run: apt install binutils")
    table = subprocess.run(
        ["nm", "-D", "-P", "--defined-only", file], capture_output=True, text=True, check=True
    ).stdout
    return {name for name in (line.split()[0] for line in table.splitlines()) if not name.startswith("_")}


def test_the_engine_exports_exactly_the_functions_that_python_calls() -> None:
    assert exported(library.LIBRARY) == library.NIC_CALLS.keys() | library.PROCESS_CALLS.keys() | {
        "nic_ring",
        "nic_share_doorbells",
    }


def test_the_hot_loop_exports_only_names_that_python_uses() -> None:
    (folder,) = ixrings.rings.__path__
    used = {word for file in Path(folder).glob("*.py") for word in re.findall(r"\w+", file.read_text())}
    names = exported(Path(folder) / "libhotloop.so")
    assert {"txsync", "rxsync"} <= names <= used


def test_the_preload_library_exports_only_names_of_the_c_library() -> None:
    """A name of our own would replace the one that a program defines."""
    (folder,) = ixrings.rings.__path__
    library = Path(folder) / "shim" / "libnetmap_shim.so"
    if shutil.which("nm") is None:
        pytest.skip("no nm; run: apt install binutils")
    table = subprocess.run(
        ["nm", "-D", "-P", "--defined-only", library], capture_output=True, text=True, check=True
    ).stdout
    libc = ctypes.CDLL(None)
    names = {line.split()[0] for line in table.splitlines() if not line.startswith(("__asan", "__ubsan"))}
    assert {"open", "ioctl", "mmap", "__poll_chk", "epoll_wait"} <= names
    assert [name for name in sorted(names) if not hasattr(libc, name)] == []


def copy_sources(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    return shutil.copytree(
        ROOT,
        source,
        symlinks=True,
        ignore=shutil.ignore_patterns(".git", ".venv", ".*_cache", "build", "*.so", "*.egg-info", "__pycache__"),
    )


def build(tmp_path: Path, source: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`pip wheel` of the sources, in an environment of pip's own that has setuptools and no numpy."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(tmp_path), str(source)]
    variables = {**os.environ, **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_the_wheel_holds_the_libraries_and_no_sources_of_them(tmp_path: Path) -> None:
    source = copy_sources(tmp_path)
    stale = source / f"build/lib.{sysconfig.get_platform()}-{sys.implementation.cache_tag}" / "driver" / "port.py"
    stale.parent.mkdir(parents=True)
    stale.touch()  # an earlier build's module, which has been moved since
    done = build(tmp_path, source)
    assert done.returncode == 0, done.stderr
    assert not stale.exists()
    (wheel,) = tmp_path.glob("*.whl")
    assert re.fullmatch(r"ixrings-[\d.]+-py3-none-linux_\w+\.whl", wheel.name)
    names = set(zipfile.ZipFile(wheel).namelist())
    libraries = ("rings/libhotloop.so", "rings/shim/libnetmap_shim.so", "hw/emulator/engine/libengine.so")
    page = {f"ixrings/driver/glass/page.{kind}" for kind in ("html", "css", "js")}
    assert {"ixrings/py.typed", *page, *(f"ixrings/{name}" for name in libraries)} <= names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"ixrings"}, (
        "nothing generic lands in site-packages"
    )
    assert not [name for name in names if name.endswith((".c", ".h"))]


@pytest.mark.slow
@pytest.mark.parametrize("archive", ["sdist", "unpacked without links"])
def test_sources_without_the_links_of_the_package_folder_build_the_whole_wheel(archive: str, tmp_path: Path) -> None:
    source = copy_sources(tmp_path)
    for name in ("driver", "hw", "rings"):
        link = source / ".package/ixrings" / name
        target = os.readlink(link)
        link.unlink()
        if archive != "sdist":
            link.write_text(target)
    done = build(tmp_path, source)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {
        f"ixrings/{file.relative_to(ROOT)}"
        for part in ("driver", "hw", "rings")
        for file in (ROOT / part).rglob("*.py")
    }
    assert modules and modules <= names


@pytest.mark.slow
def test_without_a_c_compiler_one_line_names_the_package(tmp_path: Path) -> None:
    done = build(tmp_path, copy_sources(tmp_path), PATH=str(tmp_path), CC="")
    assert done.returncode != 0
    ours = [line.strip() for line in (done.stdout + done.stderr).splitlines() if "ixrings is partly C" in line]
    assert ours == ["ixrings is partly C, and no C compiler was found. Run: apt install gcc libc6-dev"]
    assert "Traceback" not in done.stderr
