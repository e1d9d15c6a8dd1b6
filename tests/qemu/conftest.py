"""Fixtures of the QEMU scenarios. A scenario that fails leaves its folder behind and says where it is."""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.qemu.lab.prepared import Kernel, Lab, LabError
from tests.support.namespaces import why_not

RESULTS = "IXRINGS_LAB_RESULTS"


@pytest.fixture(scope="session")
def lab() -> Lab:
    try:
        found = Lab.load()
        found.qemu, found.root, found.debian_kernel
    except LabError as error:
        pytest.skip(str(error))
    reason = why_not()
    if reason:
        pytest.skip(reason)
    return found


@pytest.fixture(scope="module", params=["group", "iommufd"])
def vfio_kernel(request: pytest.FixtureRequest, lab: Lab) -> Kernel:
    """Debian's kernel has VFIO by group only; one of our own has iommufd, which the driver then takes."""
    try:
        return lab.debian_kernel if request.param == "group" else lab.iommufd_kernel
    except LabError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every scenario has a folder: IXRINGS_LAB_RESULTS, else pytest's own."""
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
    """Instead of the one for all tests: a guest shared by several scenarios maps memory and connects interrupts as it likes."""
    yield


@pytest.fixture(autouse=True)
def no_datasheet_rule_is_broken() -> Iterator[None]:
    """Nor that one: other drivers break rules, and the scenarios say which."""
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
