"""What a prompt and a notebook show: reprs and HTML that never fail and change nothing, completion, single slots."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ixrings import Port, PortError, open_port
from ixrings.hw.emulator import Emulated82599
from ixrings.hw.registers import Registers
from tests.support.netmap_client import daemon
from tests.support.programs import ENVIRONMENT

EVIL = "</td><script>alert(1)</script>"
VOID = ("meta", "input", "br")


class Parsed(HTMLParser):
    """The text and the tags of some HTML, which must be closed in order."""

    def __init__(self, html: str | None) -> None:
        super().__init__()
        assert html
        self.tags, self.text, self._open = list[str](), "", list[str]()
        self.feed(html)
        self.close()
        assert self._open == [], html

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def html_of(shown: Any) -> Parsed:
    return Parsed(shown._repr_html_())


def parts_of(port: Port) -> dict[str, Any]:
    """What a program may have kept of a port."""
    queue = port.queue(0)
    return {
        "port": port,
        "queue": queue,
        "tx": port.tx_rings[0],
        "span": port.tx_rings[0].reserve(4),
        "nic": port.nic,
        "LINKS": port.nic.LINKS,
        "RXDCTL": port.nic.RXDCTL[0],
        "filters": port.filters,
        "clock": port.clock,
        "rss": port.rss,
        "vlan": port.vlan,
        "stats": port.stats(),
    }


# ---- reprs ----


@pytest.mark.slow
def test_a_port_shows_its_state_as_it_changes() -> None:
    with Emulated82599("loop") as nic:
        with open_port(nic, rx_queues=4, tx_slots=64, rx_slots=64) as port:
            assert repr(port) == f"<Port {nic.name}, up 10 Gbit/s, {port.mac}, 1 TX 4 RX rings>"
            nic.set_link(False)
            assert repr(port).startswith(f"<Port {nic.name}, down, {port.mac}, 1 TX 4 RX rings: ")
        assert repr(port) == f"<Port {nic.name}, closed>"


def test_what_is_shown_never_fails_after_the_end_of_the_port() -> None:
    with open_port("emulated:loop", tx_slots=64, rx_slots=64) as port:
        parts = parts_of(port)
        assert all(html_of(part).text for part in parts.values() if hasattr(part, "_repr_html_"))
    for name, part in parts.items():
        assert repr(part), name
        if hasattr(part, "_repr_html_"):
            part._repr_html_()
    assert "is closed" in repr(parts["LINKS"]) and "is closed" in repr(parts["vlan"])
    assert port._repr_html_() is None, "a notebook shows the repr then"


@pytest.mark.breaks_rules
def test_what_is_shown_never_fails_when_the_nic_is_gone() -> None:
    with Emulated82599("loop") as nic, open_port(nic, tx_slots=64, rx_slots=64) as port:
        parts = parts_of(port)
        nic.unplug()
        for name, part in parts.items():
            assert repr(part), name
            if hasattr(part, "_repr_html_"):
                part._repr_html_()
        assert "no longer answers" in repr(port)


def test_what_is_shown_never_fails_in_a_forked_child() -> None:
    with open_port("emulated:loop", tx_slots=64, rx_slots=64) as port:
        parts = parts_of(port)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                shown = [repr(part) for part in parts.values()]
                for part in parts.values():
                    if hasattr(part, "_repr_html_"):
                        part._repr_html_()
                os.write(write, shown[0].encode())
            except BaseException as error:
                os.write(write, repr(error).encode())
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read) as told:
            assert told.read() == "<Port emulated:loop, of the parent process>"
        os.waitpid(child, 0)


@pytest.mark.slow
def test_what_is_shown_never_fails_in_a_thread_while_the_port_closes() -> None:
    failed = list[BaseException]()
    for _ in range(3):
        port = open_port("emulated:loop", tx_slots=64, rx_slots=64)
        parts = parts_of(port)

        def look(shown: list[Any], port: Port = port) -> None:
            try:
                while not port.closed:
                    for part in shown:
                        repr(part)
                        if hasattr(part, "_repr_html_"):
                            part._repr_html_()
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=look, args=([parts[name] for name in ("port", "tx", "LINKS", "vlan")],))
        thread.start()
        port.close()
        thread.join()
    assert not failed


def test_what_is_shown_reads_no_register_that_a_read_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_port("emulated:loop", tx_slots=64, rx_slots=64) as port:
        parts = parts_of(port)
        offsets, read32 = set[int](), Emulated82599.read32

        def noted(self: Emulated82599, offset: int, /) -> int:
            offsets.add(offset)
            return read32(self, offset)

        with monkeypatch.context() as patch:
            patch.setattr(Emulated82599, "read32", noted)
            for part in (*parts.values(), port.nic.EICR):
                repr(part)
                if hasattr(part, "_repr_html_"):
                    part._repr_html_()
        places = [Registers.find(offset) for offset in offsets]
        assert len(places) > 500 and [place.row.name for place in places if place and not place.row.quiet] == []


@pytest.mark.slow
def test_a_port_of_a_daemon_that_has_ended_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with daemon(tmp_path, "ix0=emulated:loop", "--slots", "64") as running:
        monkeypatch.setenv("IXRINGS_SOCKET", running.path)
        with open_port("netmap:ix0") as port:
            assert "up 10 Gbit/s" in repr(port) and "netmap:ix0" in html_of(port).text
            with pytest.raises(PortError, match="this process has netmap:ix0 open"):
                open_port("netmap:ix0/x")
            running.end()
            assert "has ended" in repr(port) and port._repr_html_()


# ---- HTML ----


def test_a_port_is_drawn_with_its_rings_and_their_owners() -> None:
    nic = Emulated82599("loop", manual=True)
    with nic, open_port(nic, tx_slots=64, rx_slots=64, promiscuous=True, link_timeout=0) as port:
        port.send([bytes(60)] * 5)
        shown = html_of(port)
    assert shown.tags.count("svg") == 2 and "1 TX 1 RX ring" in shown.text
    assert re.search(r"■\s+5 owned by the NIC", shown.text) and re.search(r"58 owned by the program", shown.text)
    assert "NIC head 0" in shown.text and "NIC tail 5" in shown.text and "script" not in shown.tags


@pytest.mark.slow
def test_a_port_with_many_rings_shows_the_first_ones() -> None:
    with open_port("emulated:loop", tx_queues=6, rx_queues=6, tx_slots=64, rx_slots=64) as port:
        shown = html_of(port)
        assert shown.tags.count("svg") == 8 and "and 4 more rings" in shown.text


@pytest.mark.slow
def test_a_ring_is_drawn_alone() -> None:
    with open_port("emulated:loop", tx_slots=64, rx_slots=64) as port:
        ring = port.tx_rings[0]
        ring.advance(7)
        shown = html_of(ring)
        assert "head 7" in shown.text and "56 owned by the program" in shown.text and shown.tags.count("path") == 2
        ring.head = 99
        assert "is not a slot" in html_of(ring).text.lower() or "99" in html_of(ring).text
        ring.head = ring.cur = 0


@pytest.mark.slow
def test_a_span_shows_the_bytes_of_its_frames() -> None:
    with open_port("emulated:loop", tx_slots=64, rx_slots=64) as port:
        span = port.tx_rings[0].reserve(20)
        span.len[:] = 60
        port.write(span, b"\xab" * 60)
        shown = html_of(span)
        assert shown.text.count("ab ab ab") >= 16 and "and 4 more slots" in shown.text and shown.tags.count("tr") == 17
        span.buf_idx[0] = 0xFFFF_FFFF
        assert "no such buffer" in html_of(span).text


def test_registers_are_shown_with_fields_meanings_and_sections() -> None:
    with open_port("emulated:loop", tx_slots=64, rx_slots=64) as port:
        value = port.nic.LINKS.read()
        shown = html_of(value)
        assert "LINK_UP" in shown.text and "10 Gbit/s" in shown.text and "30" in shown.text
        assert "8.2.3.22.20" in html_of(port.nic.LINKS).text
        assert "a read would change the NIC" in html_of(port.nic.EICR).text
        table = html_of(port.nic)
        assert "RXDCTL[0]" in table.text and "EICR" not in table.text and "ENABLE=1" in table.text
        assert repr(port.nic) == f"<Registers of emulated:loop: {len(Registers.rows())} names, such as .CTRL>"


@pytest.mark.slow
def test_counters_are_shown_with_their_names_and_losses() -> None:
    with open_port("emulated:loop", tx_slots=64, rx_slots=64) as port:
        assert "All counters are 0" in html_of(port.stats()).text
        port.send([b"\x02" + bytes(59)] * 3)
        port.flush()
        shown = html_of(port.stats()).text
        assert "GPTC" in shown and "Good Packets Transmitted" in shown and "3 frames were refused" in shown


def test_names_are_escaped() -> None:
    with Emulated82599("loop") as nic:
        nic.name = EVIL
        with open_port(nic, tx_slots=64, rx_slots=64) as port:
            for shown in (port, port.tx_rings[0], port.tx_rings[0].reserve(1)):
                assert "script" not in html_of(shown).tags and "alert(1)" in html_of(shown).text


@pytest.mark.slow
def test_html_is_loaded_only_when_a_notebook_asks() -> None:
    program = "import sys, ixrings; print([name for name in sys.modules if 'notebook' in name or '_html' in name])"
    done = subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.stdout == "[]\n"


# ---- completion, slots ----


def test_tab_completes_fields_and_counters() -> None:
    with open_port("emulated:loop", tx_slots=64, rx_slots=64) as port:
        value = port.nic.LINKS.read()
        assert {"LINK_UP", "SPEED", "describe"} <= set(dir(value)) and "bit_length" not in dir(value)
        assert {"LINKS", "RXDCTL", "CTRL"} <= set(dir(port.nic)) and {"read", "write", "update"} <= set(
            dir(port.nic.CTRL)
        )
        assert {"GPRC", "MPC"} <= set(port.stats()._ipython_key_completions_())


def test_a_span_gives_its_slots_one_by_one() -> None:
    with open_port("emulated:loop", promiscuous=True, tx_slots=64, rx_slots=64) as port:
        ring = port.tx_rings[0]
        assert len(ring) == ring.num_slots == 64 and bool(ring)
        span = ring.reserve(3)
        for slot, byte in zip(span, (1, 2, 3)):
            slot.len = 60
            slot.buffer[:60] = byte
        assert [slot.index for slot in span] == [0, 1, 2] and span.len.tolist() == [60] * 3
        assert [slot.buf_idx for slot in span] == span.buf_idx.tolist()
        first = next(iter(span))
        first.ptr, first.flags = 7, 2
        assert (int(span.ptr[0]), int(span.flags[0])) == (7, 2) and "NS_REPORT" in repr(first)
        assert repr([*span][1]) == f"<Slot 1: buf_idx {span.buf_idx[1]}, len 60>"
        first.flags = 0
        first.buf_idx = int(span.buf_idx[0])
        ring.advance(3)
        port.txsync()
        assert [frame[0] for _, frame in zip(range(3), port.recv(30))] == [1, 2, 3]
