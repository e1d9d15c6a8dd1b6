"""Counters beyond 32 bits: every count is added exactly once."""

from __future__ import annotations

from ixrings import open_port
from ixrings.driver.statistics import PAIRS, Statistics
from ixrings.hw.registers import Registers


class Counting:
    """Counting registers: a read clears them; the read of the high half clears a 36-bit pair (8.2.3.23)."""

    def __init__(self) -> None:
        self.words: dict[int, int] = {}
        self.reads: list[str] = []

    def set(self, name: str, value: int, index: int = 0) -> None:
        self.words[getattr(Registers, name).offset(index)] = value

    def read32(self, offset: int, /) -> int:
        place = Registers.find(offset)
        assert place is not None
        name = place.row.name
        self.reads.append(name)
        if name.endswith("L") and name[:-1] + "H" in ("GORCH", "GOTCH", "TORH"):
            return self.words.get(offset, 0)
        if name in ("GORCH", "GOTCH", "TORH"):
            self.words[getattr(Registers, name[:-1] + "L").offset()] = 0
        return self.words.pop(offset, 0)

    def write32(self, offset: int, value: int, /) -> None: ...


def test_counts_continue_past_32_and_36_bits() -> None:
    nic = Counting()
    statistics = Statistics(Registers(nic), 2, 1)
    for _ in range(40):
        nic.set("GPRC", 0xFFFF_FFF0)
        nic.set("GORCL", 0x8000_0001)
        nic.set("GORCH", 0xF)
        nic.set("QBRC_L", 5, 1)
        nic.set("QBRC_H", 1, 1)
        nic.set("MPC", 3, 0)
        nic.set("MPC", 4, 7)
        statistics.accumulate()
    totals = statistics.totals()
    assert totals["GPRC"] == 40 * 0xFFFF_FFF0
    assert totals["GORC"] == 40 * 0xF_8000_0001
    assert totals["MPC"] == 40 * 7
    assert totals.rx[1]["QBRC"] == 40 * 0x1_0000_0005
    assert totals.rx[0]["QBRC"] == totals.tx[0]["QBTC"] == 0


def test_the_counters_of_a_port_can_be_iterated() -> None:
    totals = Statistics(Registers(Counting()), 1, 1).totals()
    assert set(totals) == set(totals.port) and "GPRC" in totals and "GPRX" not in totals


def test_the_low_half_of_a_pair_is_read_before_the_high_half() -> None:
    nic = Counting()
    Statistics(Registers(nic), 1, 1)
    for low, high in (*PAIRS.values(), ("QBRC_L", "QBRC_H"), ("QBTC_L", "QBTC_H")):
        assert nic.reads.index(low) + 1 == nic.reads.index(high)


def test_counts_from_before_the_port_was_opened_are_ignored() -> None:
    nic = Counting()
    nic.set("GPTC", 1000)
    assert Statistics(Registers(nic), 1, 1).totals()["GPTC"] == 0


def test_counters_are_read_automatically_before_they_are_full() -> None:
    with open_port("emulated:sink") as port:
        queue = port._owned().tx[0]
        assert 0 < queue.statistics_due <= 2**36 // (2 * 1518)  # 36 bits of octets in both directions, with a margin
        port.send([bytes(60)] * 10)
        port.flush(30)
        queue.statistics_due = queue.packets + 2
        port.send([bytes(60)] * 2)
        assert queue.statistics_due > 1000  # the sync at which reading was due set the next time
        port.flush(30)
        last = port.nic.GPTC.read()
        assert last <= 2  # the ten frames before were read and cleared
        assert port.stats()["GPTC"] + last == 12
