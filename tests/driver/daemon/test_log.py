"""The log and the policy of the daemon, as it uses them."""

from __future__ import annotations

import os

import pytest

from ixrings.driver.daemon.errors import Refused
from ixrings.driver.daemon.log import LINES_A_SECOND, Log
from ixrings.driver.daemon.policy import Peer, Policy
from tests.support.programs import wait_for


@pytest.mark.slow
def test_a_noisy_program_does_not_hide_the_lines_of_another(capfd: pytest.CaptureFixture[str]) -> None:
    log = Log()
    for number in range(5 * LINES_A_SECOND):
        log(f"noise {number}", 1, 0)
    log("a broken rule", 2, 0)
    lines = capfd.readouterr().err
    assert "a broken rule" in lines
    assert LINES_A_SECOND <= lines.count("noise") < 5 * LINES_A_SECOND

    def told() -> bool:
        log.tick()
        return "more lines were left out" in capfd.readouterr().err

    wait_for(told, "nothing says that lines were left out", 20)


def test_what_is_said_once_is_not_repeated(capfd: pytest.CaptureFixture[str]) -> None:
    log = Log()
    for pid in (1, 1, 2, 1, 2):
        log("there is nothing to watch", pid, 0, once=True)
    assert capfd.readouterr().err.count("nothing to watch") == 2


@pytest.mark.parametrize("group", [0, 100])
@pytest.mark.parametrize("mode", [0o600, 0o660])
def test_members_of_the_daemons_own_group_are_others_if_they_may_connect(group: int, mode: int) -> None:
    before = os.getegid()
    if os.geteuid() == 0:
        os.setegid(group)
    try:
        policy = Policy(group=group, mode=mode)
        try:
            policy.check_connection(Peer(1, 12345, frozenset({group})))
            admitted = True
        except Refused:
            admitted = False
        assert policy.others == admitted == (group == 100 and mode == 0o660)
    finally:
        os.setegid(before)
