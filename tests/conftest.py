"""After every test: no thread, descriptor, mapping or child process is left that was not there before (issue 2, section 7), and no
emulated NIC of this process saw a datasheet rule broken but those that the test is marked to break."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from ixrings.hw.emulator.rules.inspector import Inspector
from ixrings.hw.memory.hugepages import free_hugepages, reserve
from tests.support.leaks import held

PATIENCE_S = 1.0  # a thread that was joined may be listed for a moment longer
FAILED = pytest.StashKey[bool]()
SOME = 16  # hugepages


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
        return  # its traceback holds what the frames held
    getattr(request.node, "funcargs", {}).clear()  # and pytest what the other fixtures gave; they are finished
    left = held() - before
    end = time.monotonic() + PATIENCE_S
    while left and time.monotonic() < end:
        gc.collect()  # only now: it costs more than all the rest
        left = held() - before
        time.sleep(0.01 if left else 0)
    assert not left, "the test left behind: " + "; ".join(sorted(left))


@pytest.fixture(autouse=True)
def no_datasheet_rule_is_broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`@pytest.mark.breaks_rules("tail_after_enable")` for those that a test breaks on purpose, without names for any."""
    inspectors: list[Inspector] = []
    create = Inspector.__init__

    def noted(inspector: Inspector, *arguments: object) -> None:
        create(inspector, *arguments)  # type: ignore[arg-type]  # whatever they are
        inspectors.append(inspector)

    monkeypatch.setattr(Inspector, "__init__", noted)
    yield
    asked = [marker.args for marker in request.node.iter_markers("breaks_rules")]
    if () in asked or request.node.stash.get(FAILED, False):
        return
    allowed = {name for names in asked for name in names}
    broken = [
        str(violation)
        for inspector in inspectors
        for violation in inspector.violations
        if violation.rule.name not in allowed
    ]
    assert not broken, "rules were broken:\n" + "\n".join(broken)


@pytest.fixture
def some_hugepages() -> Iterator[None]:
    """16 free ones of 2 MiB; who is root has them reserved for the test."""
    reserved = Path("/proc/sys/vm/nr_hugepages")
    if not reserved.exists():
        pytest.skip("this kernel has no hugepages")
    before = reserved.read_text()
    missing = SOME - free_hugepages()
    if missing > 0 and os.access(reserved, os.W_OK):
        reserved.write_text(str(int(before) + missing))
    try:
        if free_hugepages() < SOME:
            pytest.skip(f"needs {SOME} free hugepages. Run: {reserve(SOME)}")
        yield
    finally:
        if missing > 0 and os.access(reserved, os.W_OK):
            reserved.write_text(before)
