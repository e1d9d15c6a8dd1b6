"""Checks after every test: the test left no thread, file descriptor, mapping or child process, and no emulated NIC of
this process reported a broken datasheet rule, except the rules that the test is marked to break."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from ixrings.hw.emulator.rules.inspector import Inspector
from ixrings.hw.memory.hugepages import free_hugepages, reserve
from tests.support.leaks import held
from tests.support.signals import stop_ignoring_signals

PATIENCE_S = 10.0  # /proc may list a joined thread for a moment longer
FAILED = pytest.StashKey[bool]()
SOME_HUGEPAGES = 16


def pytest_sessionstart() -> None:
    stop_ignoring_signals()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    item.stash[FAILED] = item.stash.get(FAILED, False) or report.failed
    return report


@pytest.fixture(autouse=True)
def nothing_is_left_after_a_test(request: pytest.FixtureRequest) -> Iterator[None]:
    before = held()
    yield
    if request.node.stash.get(FAILED, False):
        return  # the traceback keeps the local variables alive
    (getattr(request.node, "funcargs", None) or {}).clear()  # pytest keeps the values of fixtures that are finished
    left = held() - before
    end = time.monotonic() + PATIENCE_S
    while left and time.monotonic() < end:
        gc.collect()  # only when something is left: it costs more than all the rest
        left = held() - before
        time.sleep(0.01 if left else 0)
    assert not left, "the test left: " + "; ".join(sorted(left))


@pytest.fixture(autouse=True)
def no_datasheet_rule_is_broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test that breaks rules on purpose names them: `@pytest.mark.breaks_rules("tail_after_enable")`. Without names,
    all rules may be broken."""
    inspectors: list[Inspector] = []
    create = Inspector.__init__

    def remember(inspector: Inspector, *arguments: Any) -> None:
        create(inspector, *arguments)
        inspectors.append(inspector)

    monkeypatch.setattr(Inspector, "__init__", remember)
    yield
    marked = [marker.args for marker in request.node.iter_markers("breaks_rules")]
    if () in marked or request.node.stash.get(FAILED, False):
        return
    allowed = {name for names in marked for name in names}
    broken = [
        str(violation)
        for inspector in inspectors
        for violation in inspector.violations
        if violation.rule.name not in allowed
    ]
    assert not broken, "the test broke rules:\n" + "\n".join(broken)


@pytest.fixture
def some_hugepages() -> Iterator[None]:
    """16 free hugepages of 2 MiB. Root reserves them for the test; for other users the test is skipped if they are
    missing."""
    reserved = Path("/proc/sys/vm/nr_hugepages")
    if not reserved.exists():
        pytest.skip("this kernel has no hugepages")
    before = reserved.read_text()
    missing = SOME_HUGEPAGES - free_hugepages()
    if missing > 0 and os.access(reserved, os.W_OK):
        reserved.write_text(str(int(before) + missing))
    try:
        if free_hugepages() < SOME_HUGEPAGES:
            pytest.skip(f"needs {SOME_HUGEPAGES} free hugepages. Run: {reserve(SOME_HUGEPAGES)}")
        yield
    finally:
        if missing > 0 and os.access(reserved, os.W_OK):
            reserved.write_text(before)
