"""Loopback inside the MAC, and LEDs."""

from __future__ import annotations

from pathlib import Path

from ixrings import open_port
from ixrings.hw.emulator import Emulated82599
from tests.support.arrivals import came
from tests.support.steered import ethernet, packet


def test_a_port_in_loopback_receives_what_it_sends_without_a_cable() -> None:
    with open_port("emulated:cable=nobody", loopback=True, link_timeout=0) as port:
        assert port.link.up
        port.send([ethernet(packet())])
        assert port.poll(30)
        assert next(port.recv(0)) == ethernet(packet())


def test_a_port_in_loopback_neither_receives_from_outside_nor_sends_there() -> None:
    with (
        open_port("emulated:cable=both") as other,
        open_port("emulated:cable=both", loopback=True, promiscuous=True) as port,
    ):
        other.send([ethernet(packet(sport=7))])
        other.flush(30)
        port.send([ethernet(packet(sport=8))])
        assert came(port, 1) == [ethernet(packet(sport=8))]
        assert other.stats()["GPRC"] == 0
    with open_port("emulated:source", loopback=True, promiscuous=True) as port:
        assert not list(port.recv(0.01))


def test_loopback_ends_when_the_nic_is_opened_again() -> None:
    with Emulated82599("sink") as nic:
        with open_port(nic, loopback=True) as port:
            assert port.nic.HLREG0.read().LPBK and port.nic.AUTOC.read().FLU
        with open_port(nic) as port:
            assert not port.nic.HLREG0.read().LPBK and not port.nic.AUTOC.read().FLU
            port.send([ethernet(packet())])
            port.flush(30)
            assert not list(port.recv(0.01))


def test_identify_blinks_all_leds_and_restores_them(tmp_path: Path) -> None:
    with open_port("emulated", trace=tmp_path / "trace") as port:
        before = port.nic.LEDCTL.read()
        port.identify(0)
        assert port.nic.LEDCTL.read() == before != 0
    written = [line for line in (tmp_path / "trace").read_text().splitlines() if "LEDCTL" in line and "write" in line]
    assert len(written) == 2
    for led in range(4):
        assert f"LED{led}_BLINK=1" in written[0] and f"LED{led}_MODE=14" in written[0]
        assert f"LED{led}_BLINK=1" not in written[1]
