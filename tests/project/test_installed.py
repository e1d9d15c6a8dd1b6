"""The package in a user's project: its name, its types, and files of the user that must not hide it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = """
from ixrings import Port, open_port
from ixrings.hw.registers import Registers

def link(port: Port) -> int:
    return port.nic.LINKS.read().LINK_UP

with open_port("emulated") as port:
    print(link(port), Registers.CTRL.offset())
"""


def run(*command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in the user's folder, with only the packages of the environment."""
    variables = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "MYPYPATH")}
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=100)


def installed() -> bool:
    spec = importlib.util.find_spec("ixrings")
    return run(sys.executable, "-c", "import ixrings", folder=Path("/")).returncode == 0 and spec is not None


needs_installation = pytest.mark.skipif(not installed(), reason="ixrings is not installed. Run: pip install -e .")


@pytest.mark.slow
@needs_installation
@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed. Run: pip install mypy")
def test_mypy_finds_the_package_and_its_types_in_a_users_project(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = run(sys.executable, "-m", "mypy", "--strict", "script.py", folder=tmp_path)
    assert "Success" in done.stdout, done.stdout
    (tmp_path / "wrong.py").write_text(SCRIPT.replace("LINK_UP", "LINK_UPP") + 'open_port("emulated", tx_slot=1)\n')
    done = run(sys.executable, "-m", "mypy", "--strict", "wrong.py", folder=tmp_path)
    assert '"LINK_UPP"' in done.stdout and '"tx_slot"' in done.stdout


@needs_installation
def test_a_users_files_called_driver_hw_and_rings_hide_nothing(tmp_path: Path) -> None:
    for name in ("driver", "hw", "rings"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name}.py of the user was imported')\n")
    (tmp_path / "script.py").write_text(SCRIPT)
    done = run(sys.executable, "script.py", folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "1 0\n"), done.stderr


@needs_installation
def test_tracebacks_and_debuggers_see_the_real_files(tmp_path: Path) -> None:
    program = (
        "import ixrings.driver.port as port, ixrings.hw.device as device, ixrings.rings as rings\n"
        "print(port.__file__, device.__file__, rings.__file__)"
    )
    files = run(sys.executable, "-c", program, folder=tmp_path).stdout.split()
    assert [Path(file).name for file in files] == ["port.py", "device.py", "__init__.py"]
    assert [str(Path(file).resolve()) for file in files] == files


def test_the_command_runs_as_a_module_too(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ixrings", "--help"],
        env={**os.environ, "PYTHONPATH": str(ROOT / ".package")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0 and "doctor" in done.stdout


@pytest.mark.parametrize("part", ["driver", "hw", "rings"])
def test_a_folder_of_a_checkout_is_not_imported_under_its_own_name(part: str) -> None:
    """A second copy of the modules would have its own error classes, which `except` then misses."""
    done = subprocess.run(
        [sys.executable, "-c", f"import {part}"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and f"import ixrings, not {part}" in done.stderr
