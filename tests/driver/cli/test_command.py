"""The `ixrings` command itself: its version, and the one sentence of an error."""

from __future__ import annotations

import pytest

import ixrings
from ixrings.driver import cli


def test_the_command_prints_the_version_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"ixrings {ixrings.__version__}\n"


@pytest.mark.parametrize("error", [*ixrings.ERRORS, ValueError, OSError])
def test_an_expected_error_is_printed_as_one_line_and_the_exit_status_is_1(
    error: type[Exception], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        expected = error.__new__(error)  # without __init__(), which may need more arguments than the sentence
        expected.args = ("what to type",)
        raise expected

    monkeypatch.setattr(cli.nic, "find_nics", fail)
    assert cli.main(["list"]) == 1
    assert "what to type" in capsys.readouterr().err
