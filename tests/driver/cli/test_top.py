"""`ixrings top`: ports of other programs, of the daemon and of its own; its screen, keys and end in a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ixrings import Port, PortClosed, PortError, open_port, open_ports
from ixrings.driver.cli import main
from ixrings.driver.cli.processes import Used, cpu_of, usage_of
from ixrings.driver.cli.terminal import keys_in
from ixrings.driver.cli.top import press
from ixrings.driver.cli.top_rates import Sight, Watched, facts
from ixrings.driver.cli.top_screen import View, count, screen
from ixrings.driver.cli.top_sources import Fill, Look, ProgramPort, Traffic, shown_ports
from ixrings.driver.window import HEADER, MAGIC, NAME, QUEUES_AT, TEXT_AT, Seen, Window, seen_ports
from tests.support.netmap_client import daemon
from tests.support.programs import ENVIRONMENT, ROOT, Process, command, first_line, interrupt, started, wait_for

TOP = [sys.executable, "-m", "ixrings", "top"]
FRAME = b"\x02" + bytes(11) + b"\x88\xb5" + bytes(46)
UP, DOWN = "\x1b[A", "\x1b[B"


# ---- what a port shows ----


def test_a_watcher_sees_frames_at_once_and_the_nics_counters_when_the_port_checks_its_nic() -> None:
    with open_port("emulated:loop", tx_slots=64, rx_slots=64) as port:
        (seen,) = seen_ports(os.getpid())
        top = ProgramPort(os.getpid(), seen)
        try:
            watched = Watched(top)
            watched.look()
            port.send([FRAME] * 10)  # for another address
            port.send([b"\xff" * 60] * 5)  # for everybody
            wait_for(lambda: port.poll(0) and port.rx_rings[0].space == 5, "not all came")
            watched.look()
            first = watched.sight
            assert first and first.rx and first.tx and first.drops is None
            assert (first.rx.total_frames, first.tx.total_frames, first.tx.total_bytes) == (5, 15, 15 * 64)
            assert [(fill.name, fill.filled) for fill, _ in first.fills][1] == ("RX 0", 5)
            assert any("has not looked at its NIC" in sentence for sentence in first.look.not_seen)
            before = port.stats()
            port.rx_rings[0].advance(5)
            wait_for(lambda: (port.poll(0.01), top.answered())[1], "the port did not answer")
            watched.look()
            second = watched.sight
            assert second and second.drops and not second.look.not_seen
            assert second.drops["refused"][1] == 10 and "up, 10 Gbit/s" in second.look.link
            assert port.stats().port == before.port, "the watcher took counts from the port"
            assert json.dumps(facts(second))
        finally:
            top.close()
    with pytest.raises(OSError, match="Bad file"):
        top.look()


def test_a_port_that_nobody_watches_writes_nothing() -> None:
    with open_port("emulated:loop", tx_slots=64, rx_slots=64) as port:
        (seen,) = seen_ports(os.getpid())
        try:
            before = seen.facts()
            port.poll(0.01)
            session = port._owned()
            session.check()
            assert seen.facts() == before and "stats" not in before
        finally:
            seen.close()


@pytest.mark.slow
def test_a_program_whose_waits_always_find_a_frame_answers_its_watcher() -> None:
    def send(port: Port) -> None:
        while not ends.wait(0.01):
            port.send([b"\xff" * 60])

    ends = threading.Event()
    with open_ports("emulated:cable=top", "emulated:cable=top", tx_slots=64, rx_slots=64) as (left, right):
        thread = threading.Thread(target=send, args=(left,))
        thread.start()
        found = seen_ports(os.getpid(), lambda facts: facts["rings"][0]["ring_at"] == right.tx_rings[0].offset)
        top = ProgramPort(os.getpid(), found[0])
        try:
            polls = 0
            while not top.answered() and polls < 400:  # 4096 syncs would take more
                polls += right.poll(30) > 0
                right.rx_rings[0].advance(right.rx_rings[0].space)
            assert top.answered()
        finally:
            ends.set()
            thread.join()
            top.close()


@pytest.mark.slow
def test_a_closed_port_has_ended_for_its_watcher() -> None:
    with open_port("emulated:loop", tx_slots=64, rx_slots=64):
        (seen,) = seen_ports(os.getpid())
        top = ProgramPort(os.getpid(), seen)
    with pytest.raises(PortClosed, match="has closed it"):
        top.look()
    top.close()


def test_nobody_else_can_write_to_the_file_of_a_port() -> None:
    with Window(1, 1) as window:
        path = f"/proc/self/fd/{window._fd}"
        other = os.open(path, os.O_RDWR)
        try:
            with pytest.raises(PermissionError):
                os.pwrite(other, b"x", 0)
            with pytest.raises(PermissionError):
                os.ftruncate(other, 0)
        finally:
            os.close(other)


def test_a_file_that_is_not_a_ports_is_refused(tmp_path: Path) -> None:
    for content in (
        b"",
        b"x" * 100,
        bytes(40000),
        b"ixport01" + struct.pack("=2Q", 2, 5) + bytes(40) + b"[1,2]" * 9000,
    ):
        file = tmp_path / "file"
        file.write_bytes(content)
        with pytest.raises(ValueError, match="not the file of a port|closed|Expecting|Extra data"):
            Seen(file)


RING = '{"side": "tx", "queue": 0, "ring_at": 0, "slots": 4, "at": %d}'
SHOWN = '"name": "x", "device": "d", "region": 1, "layout": {"tx": {"packets": %d, "bytes": 0}}, "rings": [%s]'


@pytest.mark.parametrize(
    "text",
    [
        "[" * 20_000,
        '{"pid": []}',
        '{"pid": %d, ' + SHOWN % (2**70, RING % 0) + "}",
        '{"pid": %d, ' + SHOWN % (0, RING % 2**80) + "}",
        '{"pid": %d, ' + SHOWN % (0, "") + ', "stats": {"rx": [], "port": {}}, "link": "", "speed_mbps": Infinity}',
        '{"pid": %d, ' + SHOWN % (0, RING.replace('"slots": 4', '"slots": 1') % 0) + "}",
        '{"pid": %d, '
        + SHOWN % (0, "")
        + ', "stats": {"rx": [], "tx": [], "port": {}, '
        + '"rx_others": {}, "tx_others": {}}, "link": "", "mac": "", "at_s": 0, "speed_mbps": 1'
        + "0" * 400
        + "}",
    ],
)
def test_whatever_another_program_shows_ends_in_a_sentence(text: str) -> None:
    """It may be a program of another user, and the watcher is root."""
    file, region = os.memfd_create(NAME), os.memfd_create("netmap-region")
    os.truncate(region, 4096)
    text = text.replace("%d", str(os.getpid())).replace('"region": 1', f'"region": {os.fstat(region).st_ino}')
    try:
        head = HEADER.pack(MAGIC, 2, len(text)).ljust(TEXT_AT, b"\0")
        os.write(file, (head + text.encode()).ljust(QUEUES_AT + 4096, b"\0"))
        sources = []
        with pytest.raises(PortError, match="not understood|nothing is shown"):
            sources += shown_ports(os.getpid(), seen_ports(os.getpid()))
            for source in sources:
                watched = Watched(source)
                watched.look()
                assert watched.sight and screen([watched.sight], View(1.0), 80, 24)
            raise PortError("nothing is shown")
        for source in sources:
            source.close()
    finally:
        os.close(file)
        os.close(region)


def test_a_half_written_text_is_not_read() -> None:
    with Window(0, 0) as window:
        window.show({"name": "a"})
        seen = Seen(Path(f"/proc/self/fd/{window._fd}"))
        memory = window._memory
        assert memory is not None
        struct.pack_into("=Q", memory, 8, 3)  # odd: a writer is at work
        try:
            with pytest.raises(ValueError, match="not the file of a port"):
                seen.facts()
        finally:
            seen.close()
            del memory


@pytest.mark.slow
def test_a_virtual_functions_port_says_what_it_does_not_count() -> None:
    with open_port("emulated-vf", tx_slots=64, rx_slots=64) as port:
        (seen,) = seen_ports(os.getpid())
        top = ProgramPort(os.getpid(), seen)
        try:
            wait_for(lambda: (port.poll(0.01), top.answered())[1], "the port did not answer")
            look = top.look()
            assert look.drops is None and "virtual function" in look.not_seen[0] and look.speed_mbps == 10000
        finally:
            top.close()


# ---- numbers ----


def test_the_rate_of_a_full_line_is_a_hundred_percent() -> None:
    class Steps(ProgramPort):
        def __init__(self) -> None:
            self.name, self.what, self.pid, self.frames = "p", "open", None, 0

        def look(self) -> Look:
            self.frames += 14_880_952
            return Look(self.frames / 14_880_952, Traffic((self.frames, 64 * self.frames), (0, 0)), "it", "up", 10_000)

        def fills(self) -> tuple[Fill, ...]:
            return ()

    watched = Watched(Steps())
    watched.look()
    watched.look()
    rx = watched.sight and watched.sight.rx
    assert rx and round(rx.frames) == 14_880_952 and rx.line == pytest.approx(100, abs=1e-4)


def test_an_answer_that_has_not_changed_keeps_its_rates() -> None:
    looks = [(1.0, 1.0, 10), (2.0, 1.0, 10), (3.0, 3.0, 30), (4.0, 3.0, 30)]

    class Answers(ProgramPort):
        def __init__(self) -> None:
            self.name, self.what, self.pid = "p", "open", None

        def look(self) -> Look:
            at_s, drops_at_s, missed = looks.pop(0)
            return Look(at_s, Traffic((0, 0), (0, 0)), "it", drops={"missed": missed}, drops_at_s=drops_at_s)

    watched = Watched(Answers())
    found = []
    for _ in range(4):
        watched.look()
        assert watched.sight and watched.sight.drops
        found.append(watched.sight.drops["missed"])
    assert found == [(None, 10), (None, 10), (10.0, 30), (10.0, 30)]


def test_the_processor_time_of_this_process_and_its_threads_is_found() -> None:
    before = usage_of(os.getpid())
    end = time.process_time() + 0.03
    while time.process_time() < end:
        pass
    cpu = cpu_of(os.getpid(), before, usage_of(os.getpid()), 0.03)
    assert cpu and cpu.percent > 30 and os.getpid() in [tid for tid, _, _ in cpu.threads]
    assert cpu_of(7, {0: Used("a", 1, 5)}, {0: Used("b", 9, 6)}, 1) is None, "another process got the number"
    assert usage_of(999_999_999) == {}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (7, "7"), (0.31, "0.3"), (999, "999"), (1000, "1 k"), (14_880_952, "14.9 M"), (999_999, "1 M"),
     (9.87e9, "9.87 G")],
)  # fmt: skip
def test_numbers_are_short(value: float, text: str) -> None:
    assert count(value) == text


# ---- the screen ----


def some_sight(name: str = "emulated:loop", filled: int | None = 500, **drops: tuple[float | None, int]) -> Sight:
    look = Look(1, Traffic((1, 2), (3, 4)), "its rings", "up, 10 Gbit/s", 10_000, "02:00:00:00:00:01",
                not_seen=("the moon " * 40,))  # fmt: skip
    fills = tuple((Fill(bool(side), queue, 1024, filled), 1023) for side in (1, 0) for queue in range(16))
    return Sight(name, "open in pktgen.py (12)", look, drops=drops, fills=fills)


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (40, 10), (20, 4), (200, 60)])
@pytest.mark.parametrize("colour", [True, False])
def test_the_screen_fits_the_terminal(columns: int, rows: int, colour: bool) -> None:
    sights = [some_sight("a" * 50), some_sight("b", missed=(5.0, 9)), some_sight("c\x1b[2J", None)]
    for view in (View(1, colour=colour), View(1, colour=colour, help=True), View(1, chosen=2, threads=True)):
        lines = screen(sights, view, columns, rows)
        plain = [re.sub(r"\x1b\[\d+m", "", line) for line in lines]
        assert len(plain) <= rows and max(map(len, plain)) <= columns
        assert all(line.isprintable() for line in plain), "a name reaches the terminal as it is"
    assert colour == any("\x1b" in line for line in screen(sights, View(1, colour=colour), columns, rows))


def test_the_screen_shows_each_port_and_the_chosen_one_in_detail() -> None:
    sights = [some_sight("one"), some_sight("two", missed=(5.0, 9))]
    view = View(1)
    text = "\n".join(screen(sights, view, 100, 60))
    assert "> one" in text and "  two" in text and "one: open in pktgen.py" in text
    press(view, "down", 2)
    text = "\n".join(screen(sights, view, 100, 60))
    assert "> two" in text and "5 frames/s, 9 in all: the packet buffer was full (MPC)" in text
    assert "[###############...............] 500 of 1023, at most 1023" in text
    for _ in range(3):
        press(view, "s", 2)
    assert [sight.name for sight in view.ordered(sights)] == ["two", "one"]


def test_keys_are_found_in_what_a_terminal_sends() -> None:
    assert keys_in(b"q\x1b[A\x1bOB\tx\x1b[15~s\x00\xff\r") == ["q", "up", "down", "down", "x", "s", "enter"]
    assert keys_in(b"\x1b") == ["escape"] and keys_in(b"\x1b[") == [] and keys_in(b"") == []


# ---- the command ----


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("pid:999999999",), "there is no program with the number 999999999"),
        (("pid:x",), "there is no program with the number x"),
        (("eth0",), "'eth0' is not a port name"),
        (("vale0:x",), "ixrings daemon --status"),
        (("pid:1",), "has no port open"),
    ],
)
def test_an_error_is_one_sentence(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str) -> None:
    if words == ("pid:1",) and os.geteuid():
        says = "is not yours"
    assert main(["top", *words, "--once"]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and says in printed.err and printed.err.count("\n") == 1


def in_json(*words: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [*TOP, *words, "--once", "--json"], env=ENVIRONMENT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    ports: list[dict[str, Any]] = json.loads(done.stdout)["ports"]
    return ports


@contextmanager
def pktgen(*arguments: str) -> Iterator[Process]:
    with started(command("pktgen", *arguments)) as process:
        wait_for(lambda: seen_ports_of(process.pid), "pktgen has not opened its port")
        yield process


def seen_ports_of(pid: int) -> bool:
    ports = seen_ports(pid)
    for port in ports:
        port.close()
    return bool(ports)


@pytest.mark.slow
def test_once_json_measures_a_running_pktgen_and_leaves_its_counts_alone() -> None:
    with pktgen("-i", "emulated:loop", "-f", "tx", "-R", "20000", "--json") as process:
        (port,) = in_json(f"pid:{process.pid}", "-i", "2")
        process.send_signal(signal.SIGINT)
        summary = json.loads(process.communicate(timeout=30)[0])
    assert port["sent"]["frames_per_s"] > 2000 and port["counted_by"] == "its rings"
    assert port["sent"]["bits_per_s"] == pytest.approx(port["sent"]["frames_per_s"] * 64 * 8, rel=0.01)
    assert port["drops"]["missed"]["frames"] > 0 and port["drops"]["missed"]["per_s"] > 0
    rings = {(ring["side"], ring["queue"]): ring for ring in port["rings"]}
    assert [rings[side, 0]["slots"] for side in ("tx", "rx")] == [1024, 1024]
    assert port["cpu"]["pid"] == process.pid and port["cpu"]["percent"] > 0
    assert f"pktgen.py ({process.pid})" in port["who"] and port["link"].startswith("up")
    assert summary["sent"] >= port["sent"]["frames"]


@pytest.mark.slow
def test_a_ring_is_as_full_as_at_the_last_sync_of_its_program() -> None:
    program = """
import signal
from ixrings import open_port
with open_port("emulated:loop", promiscuous=True, tx_slots=64, rx_slots=64) as port:
    port.send([bytes(60)] * 20)
    port.flush()
    while port.rx_rings[0].space < 20:
        port.poll(1.0)
    port.tx_rings[0].advance(7)
    print("full", flush=True)
    signal.pause()
"""
    with started([sys.executable, "-c", program]) as process:
        assert first_line(process) == "full\n"
        (port,) = in_json(f"pid:{process.pid}")
    assert {ring["side"]: ring["filled"] for ring in port["rings"]} == {"tx": 7, "rx": 20}


@pytest.mark.slow
def test_the_owner_still_counts_what_was_lost_while_top_watched() -> None:
    program = """
import sys, time
from ixrings import open_port
with open_port("emulated:loop", promiscuous=True, tx_slots=64, rx_slots=64) as port:
    print("open", flush=True)
    end, sent = time.monotonic() + 4, 0
    while time.monotonic() < end:
        sent += port.send([bytes(60)] * 20)
        port.flush()
        port.poll(0.001, 0)
    stats = port.stats()
    print(sent, stats["GPTC"], stats["TPR"], flush=True)
"""
    with started([sys.executable, "-c", program]) as process:
        assert process.stdout and process.stdout.readline() == "open\n"
        (port,) = in_json(f"pid:{process.pid}", "-i", "1")
        assert port["drops"] and port["sent"]["frames_per_s"] > 0
        sent, counted, arrived = map(int, process.communicate(timeout=60)[0].split())
    assert sent == counted == arrived


@pytest.mark.slow
def test_once_json_asks_the_daemon_for_its_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with daemon(tmp_path, "ix0=emulated:loop", "--slots", "64") as running:
        monkeypatch.setitem(ENVIRONMENT, "IXRINGS_SOCKET", running.path)
        with started(command("pktgen", "-i", "netmap:ix0", "-f", "tx", "-R", "5000", "--json")) as process:
            wait_for(lambda: running.status()["handles"], "pktgen has no handle")
            (port,) = in_json("netmap:ix0")
            (own,) = in_json(f"pid:{running.process.pid}")
            (user,) = port["users"]
            assert port["counted_by"] == "the NIC"
            assert (user["pid"], user["drops"]) == (process.pid, 0) and user["cpu_percent"] > 0
            assert port["cpu"]["pid"] == running.process.pid and [ring["slots"] for ring in port["rings"]] == [64, 64]
            assert port["drops"] is not None
            done = subprocess.run([*TOP, f"pid:{process.pid}"], env=ENVIRONMENT, capture_output=True, text=True)
            assert done.returncode == 1 and "ixrings top netmap:ix0" in done.stderr
            summary = json.loads(interrupt(process)[0])
        for each in (port, own):  # a busy machine lets the program send less, and so does this rate
            assert each["sent"]["frames_per_s"] > summary["sent"] / summary["seconds"] / 20


@pytest.mark.slow
def test_a_port_of_its_own_receives_and_discards() -> None:
    (port,) = in_json("emulated:source", "-i", "0.5")
    assert port["received"]["frames_per_s"] > 1000 and port["counted_by"] == "the NIC" and "discards" in port["who"]


@pytest.mark.slow
def test_without_a_name_every_port_of_this_user_is_shown() -> None:
    with pktgen("-i", "emulated:source", "-f", "rx") as process:
        assert process.pid in [port["cpu"] and port["cpu"]["pid"] for port in in_json()]


@pytest.mark.slow
def test_into_a_pipe_blocks_of_lines_are_written_until_the_program_ends() -> None:
    with pktgen("-i", "emulated:source", "-f", "rx") as process:
        with started([*TOP, f"pid:{process.pid}", "-i", "0.2"]) as top:
            assert top.stdout
            lines = [top.stdout.readline() for _ in range(20)]
            assert sum("received" in line for line in lines) >= 2 and not any("\x1b" in line for line in lines)
            process.kill()
            rest, errors = top.communicate(timeout=30)
            assert (top.returncode, errors) == (0, "") and "has ended" in rest


# ---- in a terminal ----


class Screen:
    """A terminal with `ixrings top` in it."""

    def __init__(
        self, *words: str, columns: int = 80, rows: int = 24, command: Sequence[str] = TOP, **environment: str
    ) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(columns, rows)
        self.before = termios.tcgetattr(self.slave)
        self.output = b""
        self.process = subprocess.Popen(
            [*command, *words],
            cwd=ROOT,
            env={**ENVIRONMENT, "TERM": "xterm", **environment},
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C and Ctrl-Z reach it
        )

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def read(self) -> None:
        while select.select([self.master], [], [], 0.02)[0]:
            try:
                self.output += os.read(self.master, 65536)
            except OSError:
                return

    def lines(self) -> list[str]:
        """What the screen shows: the last drawing that is complete."""
        self.read()
        drawings = [
            each.partition("\x1b[J")[0] for each in self.output.decode().split("\x1b[H")[1:] if "\x1b[J" in each
        ]
        return [re.sub(r"\x1b\[[\d;]*[mK]", "", line) for line in re.split(r"\r+\n", drawings[-1])] if drawings else []

    def wait_for(self, pattern: str) -> str:
        text = ""

        def shown() -> bool:
            nonlocal text
            text = "\n".join(self.lines())
            return bool(re.search(pattern, text))

        try:
            wait_for(shown, f"the screen does not show {pattern}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{text}\n{self.output[-500:]!r}") from None
        return text

    def wait_for_end(self) -> int:
        wait_for(lambda: self.lines() and self.process.poll() is not None, "top has not ended")
        self.read()
        return self.process.returncode

    def is_as_before(self) -> bool:
        """Whether the modes are as before, and the last thing written is the way back from the other screen."""
        return termios.tcgetattr(self.slave) == self.before and self.output.endswith(b"\x1b[?25h\x1b[?1049l")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@contextmanager
def top_in_terminal(*words: str, **settings: Any) -> Iterator[Screen]:
    shown = Screen(*words, **settings)
    try:
        yield shown
    finally:
        shown.close()


@pytest.mark.slow
def test_a_terminal_shows_rates_of_a_running_program_and_takes_keys() -> None:
    with pktgen("-i", "emulated:loop", "-f", "tx", "-R", "5000") as process, pktgen("-i", "emulated:source") as other:
        with top_in_terminal(f"pid:{process.pid}", f"pid:{other.pid}", "-i", "0.3", NO_COLOR="1") as top:
            top.wait_for(r"> emulated:loop .* \d.* k")
            text = top.wait_for(r"link +up, 10 Gbit/s")
            assert f"pktgen.py ({process.pid})" in text
            assert b"\x1b[7m" not in top.output and b"\x1b[1m" not in top.output, "colours in spite of NO_COLOR"
            top.wait_for(r"drops .* in all: the packet buffer was full \(MPC\)")
            top.type(DOWN)
            assert f"pktgen.py ({other.pid})" in top.wait_for(r"> emulated:sour")
            top.type(UP)
            top.wait_for(r"> emulated:loop")
            top.type("h")
            top.wait_for("these keys")
            top.type("h")
            top.wait_for("> emulated")
            top.type("s")
            top.wait_for(r"by frames received[^$]*emulated:source[^$]*emulated:loop")
            top.type("p")
            top.wait_for("PAUSED")
            frozen = top.lines()[1:]
            top.type("-")
            top.wait_for(r"every 0\.15 s")
            assert top.lines()[1:] == frozen
            top.type("pt")
            top.wait_for(r"\d %  82599 \(\d+\)")
            top.type("q")
            assert top.wait_for_end() == 0 and top.is_as_before()


@pytest.mark.slow
def test_the_screen_follows_the_size_of_the_terminal() -> None:
    with top_in_terminal("emulated:source", "-i", "0.3", columns=80, rows=24) as top:
        top.wait_for("counted by the NIC")
        assert b"\x1b[1m" in top.output, "a terminal has colours"
        top.resize(40, 8)
        text = top.wait_for("more lines; make the terminal higher")
        assert max(map(len, text.splitlines())) <= 40 and len(text.splitlines()) == 8
        top.resize(100, 40)
        top.wait_for("ring RX 0")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["Ctrl-C", "Ctrl-\\", "SIGTERM", "SIGHUP"])
def test_the_terminal_is_restored_at_every_end(how: str) -> None:
    with top_in_terminal("emulated:source", "-i", "0.3") as top:
        top.wait_for("counted by the NIC")
        assert termios.tcgetattr(top.slave) != top.before
        if how.startswith("SIG"):
            top.process.send_signal(getattr(signal, how))
        else:
            top.type({"Ctrl-C": "\x03", "Ctrl-\\": "\x1c"}[how])
        assert top.wait_for_end() == 0 and top.is_as_before()


@pytest.mark.slow
def test_the_commands_of_the_readme_show_a_running_program() -> None:
    (block,) = re.findall(r"```\n([^`]*ixrings top[^`]*)```", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert block.count(".venv/bin/") == 2
    commands = block.replace(".venv/bin/python", sys.executable).replace(".venv/bin/ixrings", " ".join(TOP[:-1]))
    with top_in_terminal(command=["bash", "-c", f"{commands}status=$?; kill %1; wait; exit $status"]) as top:
        top.wait_for(r"received +[\d,]{5,} frames/s")
        top.type("q")
        assert top.wait_for_end() == 0


@pytest.mark.slow
def test_ctrl_z_gives_the_terminal_back_and_fg_takes_it_again() -> None:
    with top_in_terminal("emulated:source", "-i", "0.3") as top:
        top.wait_for("counted by the NIC")
        top.type("\x1a")
        stat = Path(f"/proc/{top.process.pid}/stat")
        wait_for(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "top was not stopped")
        top.read()
        assert top.is_as_before()
        top.output = b""
        top.process.send_signal(signal.SIGCONT)
        top.wait_for("counted by the NIC")
        top.type("q")
        assert top.wait_for_end() == 0 and top.is_as_before()


@pytest.mark.slow
def test_a_program_that_ends_is_shown_as_ended() -> None:
    with pktgen("-i", "emulated:source", "-f", "rx") as process:
        with top_in_terminal(f"pid:{process.pid}", "-i", "0.2") as top:
            top.wait_for("counted by its rings")
            process.kill()
            top.wait_for("has ended")
            top.type("q")
            assert top.wait_for_end() == 0 and top.is_as_before()


def test_a_port_error_of_a_program_of_another_user_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    from ixrings.driver.cli import top_sources

    def refused(*_: object) -> list[Seen]:
        raise PermissionError

    monkeypatch.setattr(top_sources, "seen_ports", refused)
    with pytest.raises(PortError, match="sudo"):
        top_sources.program_ports("1")
