"""Fixtures of the QEMU scenarios. The report of a failed scenario names the folder with its logs."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.qemu.lab.prepared import Kernel, Lab, LabError
from tests.qemu.turns import DAYS, TURN, has_its_turn
from tests.support.namespaces import why_not

RESULTS = "IXRINGS_LAB_RESULTS"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    turn = os.environ.get(TURN)
    if not turn:
        return
    if turn not in DAYS.values():
        raise pytest.UsageError(f"{TURN} is {turn!r}; it may be even or odd")
    others = [item for item in items if not has_its_turn(f"{item.path.stem}[{parameters(item)}]", turn)]
    items[:] = [item for item in items if item not in others]
    config.hook.pytest_deselected(items=others)


def parameters(item: pytest.Item) -> str:
    callspec = getattr(item, "callspec", None)
    return callspec.id if callspec else ""


@pytest.fixture(scope="session")
def lab() -> Lab:
    try:
        found = Lab.load()
        assert found.qemu and found.root and found.debian_kernel  # each raises LabError if it is missing
    except LabError as error:
        pytest.skip(str(error))
    reason = why_not()
    if reason:
        pytest.skip(reason)
    return found


@pytest.fixture(scope="module", params=["group", "iommufd"])
def vfio_kernel(request: pytest.FixtureRequest, lab: Lab) -> Kernel:
    """Debian's kernel has only VFIO groups. Our own kernel has iommufd too, and the driver prefers it."""
    try:
        return lab.debian_kernel if request.param == "group" else lab.iommufd_kernel
    except LabError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for the scenarios' folders: IXRINGS_LAB_RESULTS, or pytest's temporary folder."""
    chosen = os.environ.get(RESULTS)
    return Path(chosen).absolute() if chosen else tmp_path_factory.mktemp("qemu")


@pytest.fixture(scope="module")
def module_folder(request: pytest.FixtureRequest, results: Path) -> Path:
    return results / Path(str(request.path)).stem


@pytest.fixture
def folder(request: pytest.FixtureRequest, results: Path) -> Path:
    return results / re.sub(r"\W+", "-", request.node.name).strip("-")[:80]


@pytest.fixture(autouse=True)
def nothing_is_left_after_a_test() -> Iterator[None]:
    """Replaces the fixture of tests/conftest.py: several scenarios share a guest, which may map memory at any time."""
    yield


@pytest.fixture(autouse=True)
def no_datasheet_rule_is_broken() -> Iterator[None]:
    """Replaces the fixture of tests/conftest.py: other drivers break rules, and the scenarios say which."""
    yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for name in ("folder", "module_folder"):
            left = getattr(item, "funcargs", {}).get(name)
            if left is not None:
                report.sections.append(
                    ("QEMU lab", f"console.log, nic.trace, nic.findings and the scripts' output are in {left}")
                )
    return report
