"""port.tx_rings[k].rate_mbps: the NIC limits a queue, and everything else about it."""

from __future__ import annotations

import pytest

from ixrings import open_port
from ixrings.driver.errors import NotOffered, PortClosed
from ixrings.hw.emulator import Emulated82599
from ixrings.hw.registers import Registers

FRAME = bytes(range(2, 8)) + bytes([2, 0, 0, 0, 0, 9]) + b"\x88\xb5" + bytes(46)
WIRE_BYTES = 64


def test_a_queue_sends_at_its_rate_and_the_others_do_not_wait() -> None:
    nic = Emulated82599("sink", manual=True)
    with open_port(nic, tx_queues=2, tx_slots=512) as port:
        nic.step(0, 1_000_000)
        port.tx_rings[1].rate_mbps = 200
        assert [ring.rate_mbps for ring in port.tx_rings] == [None, 200]
        for _ in range(120):
            for ring in port.tx_rings:
                span = ring.reserve(32)
                span.len[:] = len(FRAME)
                ring.advance(len(span))
            port.txsync()
            nic.step(64, 10_000)
        port.txsync()
        stats = port.stats()
        sent = [stats.tx[queue]["QPTC"] * WIRE_BYTES * 8 / 1200 for queue in range(2)]
        assert sent[1] == pytest.approx(200, rel=0.02) and sent[0] > 1000


def test_none_ends_the_limit_and_so_does_close() -> None:
    with Emulated82599("sink") as nic:
        regs = Registers(nic)
        with open_port(nic, tx_queues=2, mtu=9000) as port:
            port.tx_rings[0].rate_mbps = 10
            port.tx_rings[1].rate_mbps = 2500.5
            assert (regs.RTTBCNRC.read().RF_INT, regs.RTTBCNRM.read().MMW_SIZE) == (3, 20)
            port.tx_rings[1].rate_mbps = None
            assert regs.RTTBCNRC.read() == 0 and port.tx_rings[1].rate_mbps is None
            regs.RTTDQSEL.write(0)
            assert regs.RTTBCNRC.read().RF_INT == 1000
            ring = port.tx_rings[0]
        regs.RTTDQSEL.write(0)
        assert regs.RTTBCNRC.read() == 0
        with pytest.raises(PortClosed, match="closed"):
            ring.rate_mbps = 100


def test_a_port_clears_the_rates_that_a_killed_program_left() -> None:
    with Emulated82599("sink") as nic:
        regs = Registers(nic)
        regs.RTTDQSEL.write(3)
        regs.RTTBCNRM.write(MMW_SIZE=4)
        regs.RTTBCNRC.write(RS_ENA=1, RF_INT=1000)
        with open_port(nic):
            regs.RTTDQSEL.write(3)
            assert regs.RTTBCNRC.read() == 0


def test_another_speed_of_the_link_keeps_the_rate() -> None:
    with Emulated82599("sink") as nic, open_port(nic) as port:
        port.tx_rings[0].rate_mbps = 250
        nic._raw.LINKS.update(SPEED=2)  # 1 Gbit/s, which no emulated cable has
        assert port.link.speed_mbps == 1000
        assert nic.read32(0x4984) == 1 << 31 | 4 << 14
        with pytest.raises(ValueError, match="1000 Mbit/s"):
            port.tx_rings[0].rate_mbps = 2000
        nic._raw.LINKS.update(SPEED=3)
        port.poll(0)
        port.tx_rings[0].rate_mbps = 250
        assert nic.read32(0x4984) == 1 << 31 | 40 << 14


@pytest.mark.parametrize(
    "rate", [9.9, 10_001, *(pytest.param(rate, marks=pytest.mark.slow) for rate in (0, float("nan"), -1))]
)
def test_a_rate_that_the_nic_cannot_keep_is_refused(rate: float) -> None:
    with open_port("emulated:sink") as port:
        with pytest.raises(ValueError, match="from 10 Mbit/s to the speed of the link, 10000 Mbit/s. None ends"):
            port.tx_rings[0].rate_mbps = rate
        with pytest.raises(TypeError, match="rate_mbps takes Mbit/s, or None"):
            port.tx_rings[0].rate_mbps = "fast"  # type: ignore[assignment]
        assert port.tx_rings[0].rate_mbps is None


def test_a_virtual_function_says_who_limits_its_queues() -> None:
    with open_port("emulated-vf:sink") as port:
        with pytest.raises(
            NotOffered, match="the PF limits its queues. On the host, .* ip link set PF vf N max_tx_rate 100"
        ):
            port.tx_rings[0].rate_mbps = 100
        with pytest.raises(NotOffered, match="max_tx_rate"):
            assert port.tx_rings[0].rate_mbps
