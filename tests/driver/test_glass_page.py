"""The page of `ixrings glass` in headless Chromium, as a lecturer uses it, and the programs that it shows."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ixrings.driver.errors import PortError
from ixrings.driver.glass.history import MOMENTS, History
from ixrings.driver.glass.looks import NicLook, ProgramLook
from ixrings.driver.glass.server import GlassServer
from ixrings.driver.glass.shown import ShownNic
from ixrings.driver.glass.stage import staged
from ixrings.driver.names import parse_port_name
from ixrings.driver.ring_memory import interfaces_of
from ixrings.hw.registers import Registers
from tests.support.chromium import CHROMIUM, Browser
from tests.support.programs import ENVIRONMENT, ROOT, first_line, interrupt, started, wait_for

pytestmark = pytest.mark.slow
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium. Run: apt install chromium")

IXRINGS = [sys.executable, "-m", "ixrings"]
SCRIPT = """
import sys
from ixrings import open_port
with open_port("emulated:loop", tx_slots=64, rx_slots=64, promiscuous=True) as port:
    port.send([bytes.fromhex("ffffffffffff 020000000001 88b5") + bytes(46)] * 3)
    print(sum(1 for _ in port.recv(timeout=1)), "came back")
sys.exit(7)
"""
LAST = "moments.length > 0 && moments[moments.length - 1]"
# Every text on the page with too little contrast to what is behind it (WCAG 2.1: 4.5 to 1).
WEAK = """(() => {
    const numbers = text => text.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map(v => v / 255).map(v => v <= .04045 ? v / 12.92 :
        ((v + .055) / 1.055) ** 2.4).reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
    const ratio = (one, other) => { const [a, b] = [light(one), light(other)].sort((x, y) => y - x);
        return (a + .05) / (b + .05); };
    const behind = element => { for (let e = element; e; e = e.parentElement) {
        const colour = numbers(getComputedStyle(e).backgroundColor);
        if (colour.length < 4 || colour[3] > 0) return colour; } return [255, 255, 255]; };
    const weak = [];
    const check = (text, front, back) => { if (ratio(front, back) < 4.5) weak.push([text, front, back]); };
    for (const element of document.querySelectorAll("body *")) {
        const own = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
        if (!own || !element.getClientRects().length || element.closest("script")) continue;
        const style = getComputedStyle(element);
        if (element.matches(".letter")) {
            const slot = element.previousElementSibling;
            check(element.textContent, numbers(style.fill), numbers(getComputedStyle(slot).fill));
        } else check(element.textContent, numbers(element.closest("svg") ? style.fill : style.color), behind(element));
    }
    return weak;
})()"""

BEYOND = """[...document.querySelectorAll("body *")].filter(each => !each.closest("svg") &&
    each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML)"""
CUT_OFF = """[...document.querySelectorAll("#rings svg text")].filter(each => {
    const text = each.getBoundingClientRect(), svg = each.closest("svg").getBoundingClientRect();
    return text.left < svg.left || text.right > svg.right || text.top < svg.top || text.bottom > svg.bottom;
}).map(each => each.textContent)"""


@contextmanager
def glass(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running command and the address that it printed."""
    with started([*IXRINGS, "glass", "--listen", "127.0.0.1:0", *arguments]) as process:
        line = first_line(process)
        assert line.startswith("Open http://127.0.0.1:"), (line, process.poll())
        try:
            yield process, line.split()[1]
        finally:
            if process.poll() is None:
                interrupt(process)
        assert process.returncode == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@needs_chromium
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_overflows_and_every_text_can_be_read(browser: Browser, width: int, dark: bool) -> None:
    with glass("emulated") as (_, url):
        browser.open(url, width, dark)
        browser.wait("moments.some(m => m.frames.length)")
        browser.click("#pause")
        browser.wait(f"({LAST}).state.paused")
        browser.click("#faults button[data-fault=link]")
        browser.wait("document.querySelector('#faults [aria-pressed=true]')")
        browser.value("document.querySelectorAll('details').forEach(each => each.open = true)")
        browser.wait("document.querySelectorAll('.slots li').length > 60")
        assert browser.value("document.documentElement.scrollWidth") == width
        assert browser.value(BEYOND) == []
        assert browser.value(CUT_OFF) == []
        browser.value("showLegend(new Set(Object.keys(OWNERS)))")  # also the owners that no slot has now
        assert browser.value(WEAK) == []
        assert browser.problems == []


@needs_chromium
def test_a_lecturer_pauses_steps_and_shares_a_moment_by_the_mouse(browser: Browser) -> None:
    with glass("emulated") as (_, url):
        browser.open(url)
        browser.wait("moments.some(m => m.frames.length)")
        assert "the demo runs" in browser.value("document.getElementById('state').textContent")
        browser.click("#pause")
        browser.wait("document.getElementById('pause').textContent === 'Run'")
        browser.wait(f"({LAST}).rings[0].owners.includes('N')")  # the program gave frames to the paused NIC
        clock = browser.value(f"({LAST}).state.clock_ns")
        browser.click("#step")
        browser.wait(f"({LAST}).state.clock_ns === {clock + 1000}")
        assert browser.value(f"moments.filter(m => m.state.clock_ns === {clock + 1000})[0].frames.length") == 1
        number = browser.value("moments.find(m => m.frames.length).n")
        browser.value(f"location.hash = '#{number}'")  # somebody follows a link
        browser.wait(f"shown.n === {number} && document.getElementById('live').ariaPressed === 'false'")
        assert browser.value("document.querySelectorAll('#wire .now').length") > 0
        browser.click("#live")
        browser.wait("following && shown === moments[moments.length - 1]")
        browser.click("#pause")
        browser.wait(f"!({LAST}).state.paused")
        browser.open("about:blank")
        browser.open(f"{url}#{number}")  # another reader opens the link
        browser.wait(f"shown && shown.n === {number}")
        browser.open("about:blank")
        browser.open(f"{url}#1000000")
        browser.wait("document.getElementById('message').textContent.includes('Moment 1000000 is not kept')")
        assert browser.problems == []


@needs_chromium
def test_the_page_is_used_by_the_keyboard_alone(browser: Browser) -> None:
    with glass("emulated") as (_, url):
        browser.open(url)
        browser.wait("moments.some(m => m.frames.length)")
        browser.press("p")
        browser.wait(f"({LAST}).state.paused && !document.getElementById('step').disabled")
        clock = browser.value(f"({LAST}).state.clock_ns")
        browser.press("s")
        browser.wait(f"({LAST}).state.clock_ns > {clock}")
        browser.press("ArrowLeft")
        browser.wait("!following && shown.n < moments[moments.length - 1].n")
        at = browser.value("shown.n")
        browser.press("ArrowLeft")
        browser.wait(f"shown.n === {at - 1} && location.hash === '#{at - 1}'")
        browser.press("ArrowRight")
        browser.wait(f"shown.n === {at}")
        browser.press("l")
        browser.wait("following")
        browser.press("p")
        browser.wait(f"!({LAST}).state.paused")
        reached = []
        for _ in range(60):
            browser.press("Tab")
            reached.append(browser.value("document.activeElement.dataset.fault || document.activeElement.id"))
            if reached[-1] == "interrupt":
                break
        assert {"pause", "at", "live", "filter", "registers", "wire", "link", "interrupt"} <= set(reached)
        browser.press("Enter")
        browser.wait(f"({LAST}).state.faults.includes('interrupt')")


@needs_chromium
def test_a_students_script_is_shown_and_its_end_is_said(browser: Browser, tmp_path: Path) -> None:
    script = tmp_path / "my_script.py"
    script.write_text(SCRIPT)
    with glass("--paused", "emulated:loop", "--", sys.executable, str(script)) as (process, url):
        browser.open(url)
        browser.wait("moments.some(m => m.rings.length === 2 && m.rings[0].owners.includes('NNN'))")
        browser.press("p")
        browser.wait("document.getElementById('state').textContent.includes('ended with status 7')")
        assert browser.value("moments.reduce((sum, m) => sum + m.frames.length, 0)") == 3
        browser.value("document.getElementById('filter').value = 'TXDCTL'; showRegisters(moments.indexOf(shown))")
        assert "ENABLE 0 → 1" in browser.value("document.getElementById('registers').textContent")
        assert "82599 8.2.3.9" in browser.value("document.getElementById('registers').textContent")
        output, _ = interrupt(process)
        assert "3 came back" in output
        browser.wait("ended && document.getElementById('state').textContent.startsWith('Ended')")
        assert browser.problems == []


def test_the_commands_of_the_readme_run_as_printed(tmp_path: Path) -> None:
    (tmp_path / "my_script.py").write_text(SCRIPT)
    text = (ROOT / "driver/glass/README.md").read_text(encoding="utf-8")
    printed = [line.partition(" #")[0] for line in text.split("```")[1].splitlines() if "ixrings glass" in line]
    assert len(printed) == 3
    for line in printed[:2]:
        words = shlex.split(line.replace("python my_script", f"{sys.executable} {tmp_path}/my_script"))
        assert words[:2] == [".venv/bin/ixrings", "glass"]
        with glass(*words[2:]) as (process, _):
            assert process.poll() is None


@needs_chromium
def test_the_rings_of_another_program_are_only_looked_at(browser: Browser) -> None:
    held = "from ixrings import open_port\nimport time\nwith open_port('emulated', tx_slots=64) as port:\n"
    held += "    print('open', flush=True)\n    time.sleep(300)\n"
    with started([sys.executable, "-c", held]) as other:
        assert first_line(other) == "open\n"
        with glass(f"pid:{other.pid}") as (_, url):
            browser.open(url)
            browser.wait("moments.length && shown.rings.length === 2")
            assert browser.value("document.getElementById('pause').getClientRects().length") == 0
            browser.value("order({do: 'pause'})")
            browser.wait("document.getElementById('message').textContent.includes('only looks')")
            other.kill()
            other.wait()
            browser.wait("document.getElementById('state').textContent.includes('has ended')")


@needs_chromium
def test_a_check_of_a_lab_is_shown(browser: Browser, tmp_path: Path) -> None:
    check, lab = ROOT / "examples/labs/check.py", tmp_path / "lab.py"
    lab.write_text((ROOT / "examples/labs/03_send_one_frame/solution.py").read_text())
    arguments = [sys.executable, str(check), "03", str(lab), "--glass", "127.0.0.1:0", "--json"]
    process = subprocess.Popen(
        arguments, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr
        line = process.stderr.readline()
        assert line.startswith("Open http"), line
        browser.open(line.split()[1])
        browser.wait("ended")
        assert browser.value("moments.reduce((sum, m) => sum + m.frames.length, 0)") == 1
        assert browser.value("moments.some(m => m.registers.some(r => r.name === 'TDT[0]'))")
        output, _ = process.communicate(timeout=60)
        assert json.loads(output)["passed"] is True
    finally:
        process.kill()
        process.communicate()


def test_a_reader_that_takes_nothing_is_dropped() -> None:
    with closing(ShownNic("loop")) as nic:
        history = History(NicLook(nic, "emulated:loop"))
        server = GlassServer(history, ("127.0.0.1", 0))
        with server.serve(), socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.connect(("127.0.0.1", server.server_port))
            path = urlsplit(server.url).path
            slow.sendall(f"GET {path}events HTTP/1.0\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
            wait_for(lambda: history.readers == 1, "nobody looks")

            def is_dropped() -> bool:
                nic.log.remark("x" * 100_000)
                time.sleep(0.05)
                return history.readers == 0

            wait_for(is_dropped, "the slow reader is still there")


def test_ctrl_c_ends_the_program_too(tmp_path: Path) -> None:
    note = tmp_path / "number"
    script = f"import os, time\nopen({str(note)!r}, 'w').write(str(os.getpid()))\ntime.sleep(300)\n"
    with glass("--now", "emulated", "--", sys.executable, "-c", script) as (process, _):
        wait_for(lambda: note.exists() and note.read_text(), "the program does not run")
        number = int(note.read_text())
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        assert process.returncode == 0
        with pytest.raises(ProcessLookupError):
            os.kill(number, 0)


def test_who_sends_a_request_byte_by_byte_is_cut_off() -> None:
    with closing(ShownNic("loop")) as nic:
        server = GlassServer(History(NicLook(nic, "emulated:loop")), ("127.0.0.1", 0))
        with server.serve(), socket.create_connection(("127.0.0.1", server.server_port), timeout=1.0) as slow:

            def is_cut_off() -> bool:
                try:
                    slow.sendall(b"G")
                    return slow.recv(1) == b""
                except TimeoutError:
                    return False
                except ConnectionError:
                    return True

            wait_for(is_cut_off, "a byte a second keeps the connection")


@needs_chromium
@pytest.mark.breaks_rules
def test_rules_that_are_no_longer_listed_are_counted(browser: Browser) -> None:
    with closing(ShownNic("loop")) as nic:
        nic.write32(Registers.TDT.offset(0), 1)  # of a queue without memory
        history = History(NicLook(nic, "emulated:loop"))
        for number in range(MOMENTS + 1):
            nic.log.remark(f"number {number}")
            history.take()
        server = GlassServer(history, ("127.0.0.1", 0))
        with server.serve():
            browser.open(server.url)
            browser.wait("shown && document.getElementById('broken-missed').textContent.startsWith('1 more')")
            assert browser.value("document.getElementById('no-broken').hidden") is True
            browser.open("about:blank")


def test_a_program_that_a_signal_without_a_name_ended_is_said_to_be_ended() -> None:
    script = "import os; os.kill(os.getpid(), 35)"
    with staged(parse_port_name("emulated:loop"), False) as stage:
        stage.start([sys.executable, "-c", script], "it")
        wait_for(lambda: "was ended by signal 35" in stage.look.program, "its end is not seen")


def test_the_rings_of_a_program_without_a_port_are_not_shown_as_live() -> None:
    """Also of one that has ended, while its parent has not yet asked for its status."""
    held = "import sys\nfrom ixrings import open_port\nwith open_port('emulated', tx_slots=64):\n"
    held += "    print('open', flush=True)\n    sys.stdin.read()\n"
    command = [sys.executable, "-c", held]
    with subprocess.Popen(command, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert first_line(other) == "open\n"
        look = ProgramLook("it", list(interfaces_of(str(other.pid))), str(other.pid))
        assert len(look.look()["rings"]) == 2  # type: ignore[arg-type]
        os.kill(other.pid, signal.SIGKILL)
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(PortError, match="no port open any more"):
            look.look()
