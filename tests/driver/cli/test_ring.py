"""Drawings of rings with the owner of each slot: in a terminal, on a page, and for another program's rings."""

from __future__ import annotations

import itertools
import json
import mmap
import random
import re
import struct
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ixrings import Port, open_port, open_ports
from ixrings.driver import descriptors
from ixrings.driver.cli import main
from ixrings.driver.cli.ring_draw import draw
from ixrings.driver.cli.ring_html import page
from ixrings.driver.cli.ring_story import play
from ixrings.driver.ring_memory import ports_in
from ixrings.driver.ring_view import Owner, PortView, Recording, RingView, Step, owners, view_port
from ixrings.hw.emulator import Emulated82599
from ixrings.rings.layout import IF_HEADER_SIZE
from tests.support.programs import first_line, started, wait_for

IXRINGS = [sys.executable, "-m", "ixrings"]
OTHER = """
import sys
from ixrings import open_ports
with open_ports("emulated:cable=a", "emulated:cable=b", tx_slots=64, rx_slots=128, tx_queues=2) as (left, right):
    left.tx_rings[1].advance(5)
    print("open", flush=True)
    sys.stdin.read()
"""


def stepped(wire: str = "loop") -> tuple[Emulated82599, Port]:
    nic = Emulated82599(wire, manual=True)
    return nic, open_port(nic, tx_slots=64, rx_slots=64, promiscuous=True, link_timeout=0)


def counts(view: RingView) -> dict[Owner, int]:
    return dict(Counter(slot.owner for slot in view.slots))


# ---- owners ----


def test_every_slot_of_a_tx_ring_has_its_owner_at_each_step() -> None:
    nic, port = stepped("sink")
    with nic, port:

        def seen() -> dict[Owner, int]:
            return counts(view_port(port).rings[0])

        assert seen() == {Owner.PROGRAM: 63, Owner.UNUSED: 1}
        span = port.tx_rings[0].reserve(10)
        span.len[:] = 60
        port.tx_rings[0].advance(10)
        assert seen() == {Owner.PROGRAM: 53, Owner.GIVEN: 10, Owner.UNUSED: 1}
        port.txsync()
        assert seen() == {Owner.PROGRAM: 53, Owner.NIC: 10, Owner.UNUSED: 1}
        nic.step(4)
        assert seen() == {Owner.PROGRAM: 53, Owner.NIC: 6, Owner.DONE: 4, Owner.UNUSED: 1}
        nic.step(6)
        port.txsync()
        assert seen() == {Owner.PROGRAM: 63, Owner.UNUSED: 1}


def test_every_slot_of_an_rx_ring_has_its_owner_at_each_step() -> None:
    nic, port = stepped()
    with nic, port:

        def seen() -> dict[Owner, int]:
            return counts(view_port(port).rings[1])

        assert seen() == {Owner.NIC: 63, Owner.UNUSED: 1}
        port.send([bytes(60)] * 8)
        nic.step(8)
        assert seen() == {Owner.DONE: 8, Owner.NIC: 55, Owner.UNUSED: 1}
        port.rxsync()
        assert seen() == {Owner.PROGRAM: 8, Owner.NIC: 55, Owner.UNUSED: 1}
        port.rx_rings[0].advance(5)
        assert seen() == {Owner.PROGRAM: 3, Owner.GIVEN: 5, Owner.NIC: 55, Owner.UNUSED: 1}
        port.rxsync()
        assert seen() == {Owner.PROGRAM: 3, Owner.NIC: 60, Owner.UNUSED: 1}


@pytest.mark.parametrize("transmits", [True, False])
def test_invalid_pointers_cause_no_endless_loop(transmits: bool) -> None:
    chance = random.Random(5)
    for _ in range(300):
        pointers = {name: chance.randrange(16) for name in ("head", "cur", "tail", "NIC head", "NIC tail")}
        assert len(owners(transmits, 16, pointers)) == 16


def test_a_ring_with_invalid_pointers_can_be_viewed() -> None:
    with open_port("emulated:sink", tx_slots=64) as port:
        port.tx_rings[0].head = 0xFFFF_FFFF
        assert view_port(port).rings[0].pointers["head"] == 0xFFFF_FFFF % 64
        port.tx_rings[0].head = 0


def test_a_snapshot_changes_nothing() -> None:
    nic, port = stepped()
    with nic, port:
        port.send([bytes(60)] * 8)
        nic.step(3)
        assert view_port(port) == view_port(port)
        assert nic.violations == []


# ---- descriptors in words ----


def test_descriptors_are_shown_as_they_were_written() -> None:
    nic, port = stepped()
    with nic, port:
        port.send([bytes(100)])
        nic.step(1)
        tx, rx = view_port(port).rings
        assert re.fullmatch(r"100 bytes of 100 EOP IFCS RS at 0x[0-9a-f]+", tx.slots[0].descriptor)
        assert rx.slots[0].descriptor == "100 bytes DD EOP" and rx.slots[1].descriptor.startswith(
            "waits for a frame at 0x"
        )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (descriptors.transmit(0, 0), ""),
        (descriptors.transmit(0x1000, 0x0003_0000_2B30_003C | 60 << 46), "60 bytes of 60 EOP IFCS RS at 0x1000"),
        (
            descriptors.transmit(14 << 9 | 20, 1460 << 48 | 20 << 40 | 1 << 29 | 2 << 20),
            "context: MACLEN 14, IPLEN 20, L4LEN 20, MSS 1460",
        ),
        (descriptors.transmit(0, 1 << 24), "0x0000000001000000: neither data nor context"),
        (
            descriptors.receive(0xAABBCCDD << 32 | 1, 5 << 48 | 64 << 32 | 1 << 29 | 0xB),
            "64 bytes DD EOP VP RXE hash 0xaabbccdd of TCPv4 VLAN 5",
        ),
    ],
)
def test_a_descriptor_in_words(text: str, expected: str) -> None:
    assert text == expected


# ---- the scene ----


def test_the_scene_wraps_the_rings_and_shows_what_the_program_owns() -> None:
    nic, port = stepped()
    with nic, port:
        steps = play(port, nic.step)
        assert nic.violations == []
        assert sum(stats["QPRC"] for stats in port.stats().rx) == port.stats()["GPTC"] > 64
    for step in steps:
        for ring in step.port.rings:
            space = (ring.pointers["tail"] - ring.pointers["head"]) % ring.num_slots
            assert (counts(ring).get(Owner.PROGRAM, 0), counts(ring)[Owner.UNUSED]) == (space, 1), step.caption
    seen = {slot.owner for step in steps for ring in step.port.rings for slot in ring.slots}
    assert seen == set(Owner) - {Owner.DRIVER}


# ---- drawn ----


def test_a_ring_is_drawn_as_a_ring_with_a_letter_for_each_slot() -> None:
    nic, port = stepped()
    with nic, port:
        port.send([bytes(60)] * 5)
        drawn = draw(view_port(port).rings[0])
    rows = drawn.splitlines()
    letters = Counter("".join(rows[:25]).replace("emulated:loop TX ring 0", "").replace("NIC ", ""))
    assert (letters["P"], letters["-"]) == (58, 1)
    assert letters["N"] == 5
    assert "N      5 slots owned by the NIC" in rows
    assert sum(row.startswith("N ") and "buf_idx" in row for row in rows) == 5
    assert "\033[34mN\033[0m" in draw(view_port_of(5), colour=True)


def view_port_of(frames: int) -> RingView:
    nic, port = stepped()
    with nic, port:
        port.send([bytes(60)] * frames)
        return view_port(port).rings[0]


def test_one_letter_of_a_long_ring_stands_for_several_slots() -> None:
    with open_port("emulated:sink", tx_slots=1024) as port:
        drawn = draw(view_port(port).rings[0])
    assert "One letter stands for 16 slots." in drawn and "P   1023 slots owned by the program" in drawn


# ---- the page ----


class Page(HTMLParser):
    """The tags and the script of a page, parsed as HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.script, self.open, self.sources = "", list[str](), list[str]()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.script += data


def test_the_page_has_every_step_and_is_self_contained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "ring.html"
    assert main(["ring", "emulated", "--html", str(file)]) == 0
    printed = capsys.readouterr()
    assert "43 steps" in printed.err and "RX ring 0" in printed.out
    seen = Page(file.read_text(encoding="utf-8"))
    assert seen.open == [] and seen.sources == []
    found = re.search(r"^const data = (.*);$", seen.script, re.MULTILINE)
    assert found
    data = json.loads(found[1])
    assert len(data["steps"]) == 43
    for step in data["steps"]:
        for ring in step["rings"]:
            assert len(ring["owners"]) == len(ring["slots"]) == 64 and set(ring["owners"]) <= set(data["owners"])


def test_a_name_with_markup_in_it_stays_text() -> None:
    evil = "</script><script>alert(1)</script>"
    text = page([Step(evil, PortView(evil, ()))])
    assert evil not in text and Page(text).open == []
    with pytest.raises(ValueError, match="record one first"):
        page([])


def test_a_program_records_its_own_port() -> None:
    with open_port("emulated:sink", tx_slots=64) as port:
        recording = Recording(port)
        recording.look("at first")
        port.send([bytes(60)] * 3)
        port.flush(30)
        recording.look("after three frames")
    assert [step.port.rings[0].pointers["head"] for step in recording.steps] == [0, 3]
    assert "after three frames" in page(recording.steps)


# ---- the command ----


def test_the_rings_of_another_program_are_read_from_its_shared_memory(capsys: pytest.CaptureFixture[str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", OTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "open\n"
            assert main(["ring", f"pid:{process.pid}", "--json"]) == 0
            steps = json.loads(capsys.readouterr().out)
            # netmap's names have 15 characters.
            assert [step["port"]["name"] for step in steps] == ["emulated:cable=", "emulated:cable="]
            rings = steps[0]["port"]["rings"]
            assert [(ring["num_slots"], ring["pointers"]) for ring in rings] == [
                (64, {"head": 0, "cur": 0, "tail": 63}),
                (64, {"head": 5, "cur": 5, "tail": 63}),
                (128, {"head": 0, "cur": 0, "tail": 0}),
            ]
            assert Counter(slot["owner"] for slot in rings[1]["slots"]) == {
                "owned by the program": 58,
                "owned by the driver or the NIC": 6,
            }
            assert main(["ring", f"pid:{process.pid}"]) == 0
            assert "emulated:cable= TX ring 1" in capsys.readouterr().out
        finally:
            process.kill()


@pytest.mark.slow
def test_another_programs_rings_are_watched_until_ctrl_c_and_written_as_a_page(tmp_path: Path) -> None:
    file = tmp_path / "watched.html"
    with subprocess.Popen(
        [sys.executable, "-c", OTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        try:
            assert other.stdout is not None and other.stdout.readline() == "open\n"
            with started(
                [*IXRINGS, "ring", f"pid:{other.pid}", "--watch", "0.05", "--json", "--html", str(file)]
            ) as process:
                assert process.stdout is not None
                assert all(json.loads(process.stdout.readline()) for _ in range(3))
                process.send_signal(2)
                wait_for(file.exists, "the page was not written")
                assert process.wait(30) == 0
        finally:
            other.kill()
    found = re.search(r"const data = (.*);", file.read_text())
    assert found and len(json.loads(found[1])["steps"]) >= 6


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("pid:999999999",), "there is no program with the number 999999999"),
        (("pid:self/../1x",), "there is no program with the number self/../1x"),
        (("emulated", "--watch"), "ixrings ring pid:PID"),
        (("eth0",), "'eth0' is not a port name"),
        (("emulated/R",), "sends"),
    ],
)
def test_an_error_is_one_sentence(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str) -> None:
    assert main(["ring", *words]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and says in printed.err and printed.err.count("\n") == 1


def test_a_program_without_a_port_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with started([sys.executable, "-c", "import signal; print('runs', flush=True); signal.pause()"]) as process:
        assert first_line(process) == "runs\n"
        assert main(["ring", f"pid:{process.pid}"]) == 1
        assert "has no port open" in capsys.readouterr().err


def test_a_region_that_points_back_is_read_once() -> None:
    with open_ports("emulated:cable=back", "emulated:cable=back") as (a, b):
        with mmap.mmap(a.region.fd, a.region.size) as memory:
            own, first = (struct.unpack_from("4q", memory, port.if_offset + IF_HEADER_SIZE) for port in (b, a))
            struct.pack_into(
                "4q",
                memory,
                b.if_offset + IF_HEADER_SIZE,
                *(each + a.if_offset - b.if_offset if each else 0 for each in first),
            )
            try:
                assert len(list(itertools.islice(ports_in(a.region.fd), 9))) == 2
            finally:
                struct.pack_into("4q", memory, b.if_offset + IF_HEADER_SIZE, *own)
