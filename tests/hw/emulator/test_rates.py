"""Rates of transmit queues: bytes of each queue over the NIC's time, on paced and unpaced wires (82599 8.2.3.10.16)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ixrings.hw.emulator import Policy
from tests.support.by_hand import ByHand, frame

LINK_MBPS = 10_000
SHORT, LONG = 60, 1514  # bytes without CRC
CRC, OVERHEAD = 4, 20
MMW_KB = 4


class Sender:
    """Three queues whose rings are full of equal frames, each with counters of its own."""

    def __init__(self, paced: bool, *lengths: int) -> None:
        self.hand = ByHand("sink", tx=len(lengths), paced=paced, head_writeback=False, rules=Policy.IGNORE)
        self.regs = self.hand.regs
        self.regs.TQSM[0].write(0x03020100)
        self.regs.RTTBCNRM.write(MMW_SIZE=MMW_KB)
        self.lengths = lengths
        self.bytes = [0] * len(lengths)
        for queue, length in enumerate(lengths):
            for _ in range(self.hand.tx[queue].slots):
                self.hand.post(frame(length), queue=queue, rs=False)

    def limit(self, queue: int, mbps: float | None) -> None:
        factor = 0 if mbps is None else 1 << 31 | int(LINK_MBPS * (1 << 14) / mbps)
        self.regs.RTTDQSEL.write(queue)
        self.regs.RTTBCNRC.write(factor)

    def run(self, us: int, step_ns: int = 1000, queues: range | None = None) -> list[int]:
        """Keep the rings of `queues` full for so long. Returns the bytes with CRC that each queue sent."""
        for _ in range(us * 1000 // step_ns):
            for queue in queues or range(len(self.lengths)):
                self.regs.TDT[queue].write((self.regs.TDH[queue].read() - 1) % self.hand.tx[queue].slots)
            self.hand.nic.step(64, step_ns)
        return [
            self.regs.QPTC[queue].read() * (length + CRC) for queue, length in enumerate(self.lengths)
        ]  # a read clears it


@pytest.fixture(params=[True, False], ids=["paced", "unpaced"])
def paced(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def senders() -> Iterator[list[Sender]]:
    made: list[Sender] = []
    yield made
    for sender in made:
        sender.hand.close()


def mbps(sent: float, us: int) -> float:
    return sent * 8 / us


def test_two_queues_keep_their_rates_to_a_percent(senders: list[Sender], paced: bool) -> None:
    senders.append(sender := Sender(paced, SHORT, LONG))
    sender.limit(0, 150)
    sender.limit(1, 1200)
    sender.run(100)  # the first frames are early (MMW_SIZE)
    sent = sender.run(1200)
    assert mbps(sent[0], 1200) == pytest.approx(150, rel=0.01)
    assert mbps(sent[1], 1200) == pytest.approx(1200, rel=0.01)


def test_a_queue_without_a_rate_gets_the_rest_of_the_wire(senders: list[Sender]) -> None:
    senders.append(sender := Sender(True, SHORT, LONG, LONG))
    sender.limit(0, 200)
    sender.limit(1, 2000)
    sender.run(50)
    sent = sender.run(400)
    assert mbps(sent[0], 400) == pytest.approx(200, rel=0.01)
    assert mbps(sent[1], 400) == pytest.approx(2000, rel=0.02)  # a frame more or less is 1.5 %
    wire = sum(count * (1 + OVERHEAD / (length + CRC)) for count, length in zip(sent, sender.lengths))
    assert mbps(wire, 400) == pytest.approx(LINK_MBPS, rel=0.01)


def test_a_queue_that_waits_for_its_rate_gives_no_other_queue_time_that_has_passed(senders: list[Sender]) -> None:
    senders.append(sender := Sender(True, LONG, LONG))
    sender.limit(0, 20)
    sender.run(200, queues=range(1))  # the wire is idle most of the time
    assert sum(sender.run(20, queues=range(1, 2))) * 8 / 20 < LINK_MBPS


def test_a_queue_makes_up_for_as_much_as_mmw_size_after_it_was_idle(senders: list[Sender], paced: bool) -> None:
    senders.append(sender := Sender(paced, SHORT))
    sender.limit(0, 100)
    sender.run(50)
    sender.hand.nic.step(64, 0)
    for _ in range(1000):  # the ring runs empty
        sender.hand.nic.step(64, 10_000)
    sender.regs.QPTC[0].read()
    early = sender.run(10, step_ns=500)[0]
    assert early == pytest.approx(MMW_KB * 1024 + 100 / 8 * 10, abs=2 * (SHORT + CRC))


def test_the_end_of_a_rate_lets_the_queue_send_at_once(senders: list[Sender]) -> None:
    senders.append(sender := Sender(False, LONG))
    sender.limit(0, 10)
    sender.run(100)
    assert sender.run(100) == [0]  # a frame takes 1.2 ms
    sender.limit(0, None)
    assert sender.run(1)[0] == (LONG + CRC) * 63


def test_rttbcnrc_shows_the_rate_of_the_queue_that_rttdqsel_chooses_and_a_reset_keeps_it(senders: list[Sender]) -> None:
    senders.append(sender := Sender(False, LONG, LONG))
    regs = sender.regs
    sender.limit(1, 4000)
    assert (regs.RTTBCNRC.read().RF_INT, regs.RTTBCNRC.read().RF_DEC) == (2, 1 << 13)
    regs.RTTDQSEL.write(0)
    assert regs.RTTBCNRC.read() == 0
    sender.hand.nic.reset()
    regs.RTTDQSEL.write(1)
    assert regs.RTTBCNRC.read().RS_ENA == 1
