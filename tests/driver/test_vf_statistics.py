"""A virtual function's counters go on where their registers wrap."""

from __future__ import annotations

from ixrings.driver.vf_statistics import VfStatistics
from ixrings.hw.registers import VfRegisters


class Counters:
    """A register file."""

    def __init__(self) -> None:
        self.words: dict[int, int] = {}

    def read32(self, offset: int, /) -> int:
        return self.words.get(offset, 0)

    def write32(self, offset: int, value: int, /) -> None:
        self.words[offset] = value

    def octets(self, value: int) -> None:
        self.words[VfRegisters.VFGORC_LSB.offset()] = value & 0xFFFF_FFFF
        self.words[VfRegisters.VFGORC_MSB.offset()] = value >> 32


def test_counts_begin_at_zero_and_go_on_over_32_and_36_bits() -> None:
    nic = Counters()
    nic.words[VfRegisters.VFGPRC.offset()] = 0xFFFF_FFFE
    nic.octets((1 << 36) - 100)
    statistics = VfStatistics(VfRegisters(nic))
    assert statistics.totals()["VFGPRC"] == 0
    nic.words[VfRegisters.VFGPRC.offset()] = 3
    nic.octets(400)
    statistics.accumulate()
    statistics.accumulate()
    totals = statistics.totals()
    assert (totals["VFGPRC"], totals["VFGORC"], totals["VFGPTC"]) == (5, 500, 0)
    for octets in (1, 2, 3, 0, 1, 2, 3, 0):
        nic.octets(octets << 34)
        statistics.accumulate()
    assert repr(statistics.totals()) == f"<PortStatistics VFGPRC=5 VFGORC={100 + (2 << 36)}>"
    assert statistics.totals().losses == ()


def test_a_pf_that_was_reset_begins_its_counters_anew() -> None:
    nic = Counters()
    nic.words[VfRegisters.VFGPRC.offset()] = 1000
    nic.octets(64_000)
    statistics = VfStatistics(VfRegisters(nic))
    nic.words[VfRegisters.VFGPRC.offset()] = 2
    nic.octets(128)
    statistics.accumulate()
    assert repr(statistics.totals()) == "<PortStatistics VFGPRC=2 VFGORC=128>"
