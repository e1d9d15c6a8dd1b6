"""The commands that look at a NIC, on a virtual function of the emulator."""

from __future__ import annotations

import pytest

from ixrings.driver.cli import main


def output(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(words) == 0
    return capsys.readouterr().out


def test_the_commands_show_a_virtual_function(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "VTIVAR_MISC      0x00000000 -> 0x00000082" in output(
        capsys, "regs", "emulated-vf:sink", "--diff", "8.3.5.2"
    )
    assert "82599 virtual function" in output(capsys, "info", "emulated-vf:sink")
    assert "0  VFGOTC" in output(capsys, "stats", "emulated-vf:sink", "--all")
    assert "owned by the NIC" in output(capsys, "ring", "emulated-vf:sink")
    for words, says in (
        (("regs", "emulated-vf:sink", "LINKS"), "of a virtual function of the 82599 is known. Did you mean VFLINKS?"),
        (("sfp", "emulated-vf:sink"), "Look at its physical function"),
    ):
        assert main(words) == 1
        assert says in capsys.readouterr().err


def test_the_commands_show_the_virtual_functions_of_a_nic(capsys: pytest.CaptureFixture[str]) -> None:
    assert "virtual functions 3" in output(capsys, "info", "emulated@vfs=3:sink")
    assert "virtual functions" not in output(capsys, "info", "emulated:sink")
    shown = output(capsys, "stats", "emulated@vfs=3:sink", "--all")
    assert "0  VFGPRC[2]" in shown and "VFGPRC[3]" not in shown
    assert "PFVTCTL          0x00000000 -> 0x40000181" in output(
        capsys, "regs", "emulated@vfs=3:sink", "--diff", "8.2.3.27"
    )
