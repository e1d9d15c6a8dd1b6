"""The `ixrings` command itself: its version, and errors as one sentence."""

from __future__ import annotations

import pytest

import ixrings
from ixrings.driver import cli


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"ixrings {ixrings.__version__}\n"


@pytest.mark.parametrize("error", [*ixrings.ERRORS, ValueError, OSError])
def test_an_expected_error_is_one_line_and_exit_status_1(
    error: type[Exception], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        expected = error.__new__(error)  # some take more arguments than a sentence
        expected.args = ("what to type",)
        raise expected

    monkeypatch.setattr(cli.nic, "find_nics", fail)
    assert cli.main(["list"]) == 1
    assert "what to type" in capsys.readouterr().err
