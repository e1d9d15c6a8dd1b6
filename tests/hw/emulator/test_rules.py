"""Every datasheet rule: steps that break it are reported, the same steps done right are not (rule_cases/)."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest

from ixrings import open_port
from ixrings.hw.device import DmaMapping
from ixrings.hw.emulator import Emulated82599, Policy, RuleBroken, Severity
from ixrings.hw.emulator.engine.findings import FindingKind
from ixrings.hw.emulator.nic import FIRST_IOVA
from ixrings.hw.emulator.rules.__main__ import text
from ixrings.hw.emulator.rules.book import CHAPTERS, Book
from ixrings.hw.errors import DeviceError
from tests.support.by_hand import ByHand, Ring, frame

from .rule_cases import cases
from .rule_cases.steps import bring_up, clear_rate_limits

ROOT = Path(__file__).resolve().parent.parent.parent.parent
RULES = {rule.name: rule for rule in Book.of_all_chapters().rules}
CASES = cases()
ALSO = {  # rules that a case breaks besides its own, because neither can be broken alone
    "no_header_split": {"descriptor_type_here"},
    "descriptor_type_here": {"no_header_split"},
}


@contextmanager
def bare(rules: Policy = Policy.RECORD) -> Iterator[ByHand]:
    nic = ByHand("loop", bare=True, rules=rules)
    try:
        yield nic
    finally:
        nic.close()


def test_every_rule_has_a_case() -> None:
    assert CASES.keys() == RULES.keys()


def test_every_file_of_the_folder_is_a_chapter() -> None:
    files = {file.stem for file in (ROOT / "hw/emulator/rules").glob("*.py")} - {
        "__init__",
        "__main__",
        "access",
        "book",
        "findings",
        "inspector",
    }
    assert sorted(files) == sorted(chapter.__name__.rpartition(".")[2] for chapter in CHAPTERS)


@pytest.mark.breaks_rules
@pytest.mark.parametrize("name", CASES)
def test_a_broken_rule_is_reported(name: str) -> None:
    with bare() as nic:
        CASES[name](nic, True)
        assert {violation.rule.name for violation in nic.nic.violations} == {name} | ALSO.get(name, set())
        (violation, *_) = (violation for violation in nic.nic.violations if violation.rule.name == name)
    assert RULES[name].sentence in str(violation) and RULES[name].section in str(violation)
    assert violation.register in violation.text or violation.is_dma_fault or violation.register == "DMA window"


@pytest.mark.parametrize("name", CASES)
def test_a_kept_rule_is_not_reported(name: str) -> None:
    with bare() as nic:
        CASES[name](nic, False)
        assert nic.nic.violations == []


def test_one_rule_explains_each_kind_of_finding() -> None:
    assert sorted(found.kind for rule in RULES.values() for found in rule.found) == list(FindingKind)


def test_the_list_of_rules_is_current() -> None:
    assert (ROOT / "hw/emulator/rules/README.md").read_text() == text(), (
        "run: python -m ixrings.hw.emulator.rules > hw/emulator/rules/README.md"
    )


@pytest.mark.breaks_rules
@pytest.mark.parametrize(("kb", "broken"), [(64, set()), (65, {"receive_packet_buffer"})])
def test_with_dcb_the_packet_buffers_together_have_at_most_512_kb(kb: int, broken: set[str]) -> None:
    with bare() as nic:
        nic.regs.RTTDCS.update(ARBDIS=1)
        nic.regs.MTQC.write(RT_ENA=1, NUM_TC_OR_Q=3)
        nic.regs.MRQC.write(MRQE=2)
        nic.set_up_reception()
        nic.regs.FCRTH[0].write(RTH=0x100)
        for buffer in nic.regs.RXPBSIZE:
            buffer.write(SIZE=kb)
        for transmit_buffer, threshold in zip(nic.regs.TXPBSIZE, nic.regs.TXPBTHRESH):
            transmit_buffer.write(SIZE=20)
            threshold.write(THRESH=18)
        nic.start_reception()
        nic.set_up_transmission()
        nic.regs.DMATXCTL.update(TE=1)
        assert {violation.rule.name for violation in nic.nic.violations} == broken


@pytest.mark.breaks_rules("rate_limits_cleared")
@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        (1, "RTTDT1C of queue 0 had not been written since the reset"),
        (3, "RTTDT1C of queue 0 and 2 more had not been written since the reset"),
    ],
)
def test_without_dcb_the_queues_whose_rate_limit_was_not_cleared_are_counted(missing: int, sentence: str) -> None:
    with bare() as nic:
        clear_rate_limits(nic, range(missing, 128))
        (violation,) = nic.nic.violations
    assert violation.text.endswith(f": {sentence}")


def test_with_dcb_the_rate_limits_need_not_be_cleared() -> None:
    with bare() as nic:
        nic.regs.RTTDCS.update(ARBDIS=1)
        nic.regs.MTQC.write(RT_ENA=1, NUM_TC_OR_Q=3)
        for buffer, threshold in zip(nic.regs.TXPBSIZE, nic.regs.TXPBTHRESH):
            buffer.write(SIZE=20)
            threshold.write(THRESH=18)
        clear_rate_limits(nic, range(0))
        assert nic.nic.violations == []


# ---- what a violation says ----


@pytest.mark.breaks_rules("tail_after_enable")
def test_a_violation_names_rule_section_register_values_and_the_earlier_access() -> None:
    with bare() as nic:
        CASES["tail_after_enable"](nic, True)
        (violation,) = nic.nic.violations
    assert (violation.rule.severity, violation.register, violation.queue, violation.values) == (
        Severity.ERROR,
        "RDT[0]",
        0,
        (1023,),
    )
    assert str(violation) == (
        "error: A tail is written only after ENABLE was read as 1 (82599 4.6.7, 4.6.8). RDT[0] written 1023: "
        "RXDCTL[0] was last written 0x02000000 and ENABLE had not been read as 1"
    )


def store(address: int, value: int) -> None:
    """A store as a driver's C loop makes it; `write32` does not see it."""
    ctypes.c_uint32.from_address(address).value = value


@pytest.mark.breaks_rules("tail_within_ring")
@pytest.mark.parametrize("register", ["RDT", "TDT"])
def test_the_engine_reports_a_tail_stored_beyond_the_ring(register: str) -> None:
    with bare() as nic:
        bring_up(nic)
        store(nic.nic.doorbell(getattr(nic.regs, register)[0].offset), 64)
        nic.nic.step()
        for _ in range(2 if register == "RDT" else 0):
            nic.send(*[frame()] * 40)  # the engine reads RDT again when it needs more descriptors
        assert [str(violation).partition(". ")[2] for violation in nic.nic.violations] == [
            f"{register}[0] is 64, the ring has 64 descriptors"
        ]


@pytest.mark.breaks_rules("tail_after_enable")
def test_a_tail_stored_at_its_doorbell_too_early_is_reported_when_enable_is_read() -> None:
    with bare() as nic:
        nic.read_ready_bits()
        nic.set_up_transmission()
        nic.regs.DMATXCTL.update(TE=1)
        nic.place_transmit_ring(0, Ring(nic.nic, 64))
        nic.regs.TXDCTL[0].write(ENABLE=1)
        store(nic.nic.doorbell(nic.regs.TDT[0].offset), 3)
        nic.regs.TXDCTL[0].read()
        assert [violation.register for violation in nic.nic.violations] == ["TXDCTL[0]"]


def test_other_bits_of_a_running_queue_may_change_without_reading_enable_again() -> None:
    with bare() as nic:
        CASES["no_snoop_disabled"](nic, False)
        nic.regs.RXDCTL[0].write(ENABLE=1, VME=1)
        nic.regs.RDT[0].write(63)


@pytest.mark.breaks_rules
def test_violations_are_in_order_of_time_and_outlive_the_nic() -> None:
    with bare() as nic:
        CASES["paylen"](nic, True)
        nic.nic.write32(0x1FFFC, 5)
        nic.tx[0].tail = 1
        nic.post(frame(), address=0x1000)
        nic.kick()
        nic.nic.step()
    assert [violation.rule.name for violation in nic.nic.violations] == ["paylen", "unknown_register", "dma_read"]


# ---- policies ----


@pytest.mark.breaks_rules
def test_with_raise_the_access_is_carried_out_and_raises() -> None:
    with bare(rules=Policy.RAISE) as nic:
        with pytest.raises(
            RuleBroken, match=r"multiple of 128 bytes \(82599 8.2.3.8.1, 8.2.3.9.5\). RDBAL\[0\] written 0x00001040"
        ) as broken:
            nic.regs.RDBAL[0].write(0x1040)
        assert broken.value.violation.rule.name == "ring_alignment" and isinstance(broken.value, DeviceError)
        assert nic.regs.RDBAL[0].read() == 0x1000
        with pytest.raises(RuleBroken):  # again, each time
            nic.regs.RDBAL[0].write(0x1040)


@pytest.mark.breaks_rules
def test_with_raise_a_finding_of_the_engine_is_raised_by_the_next_access() -> None:
    with bare(rules=Policy.RAISE) as nic:
        CASES["paylen"](nic, True)
        with pytest.raises(RuleBroken, match="PAYLEN is 59"):
            nic.regs.STATUS.read()
        nic.regs.STATUS.read()


@pytest.mark.breaks_rules
def test_with_raise_a_finding_of_the_engine_is_raised_by_the_next_sync_and_the_port_closes() -> None:
    with Emulated82599(rules=Policy.RAISE) as nic:
        port = open_port(nic)
        nic.unmap_dma(DmaMapping(port.region.address, port.region.size, FIRST_IOVA))
        with pytest.raises(RuleBroken, match=r"only memory that is mapped for it \(IOMMU\). queue 0 read 60 bytes"):
            for _ in range(100_000):
                port.send([bytes(60)])
        port.close()


@pytest.mark.breaks_rules
def test_with_ignore_only_dma_faults_are_recorded() -> None:
    with bare(rules=Policy.IGNORE) as nic:
        for name in ("ring_alignment", "unknown_register", "dma_read"):
            CASES[name](nic, True)
        assert [violation.rule.name for violation in nic.nic.violations] == ["dma_read"]


def test_a_port_keeps_all_rules_on_a_nic_that_raises() -> None:
    with open_port("emulated@rules=raise", promiscuous=True) as port:
        port.send([bytes(60)] * 100)
        assert len(list(islice(port.recv(timeout=30), 100))) == 100
        assert isinstance(port.device, Emulated82599) and port.device.violations == []
