"""`ixrings extcap`, driven as Wireshark drives it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ixrings import Port, open_port
from ixrings.driver.cli import main
from ixrings.hw.capture.pcap import read_capture
from tests.support.netmap_client import RunningDaemon, daemon
from tests.support.programs import ENVIRONMENT, wait_for

PATIENCE_S = 30
EXTCAP = [sys.executable, "-c", "from ixrings.driver.cli import program; program()", "extcap"]


def hexadecimal(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", ""))


ETHERNET = "020000000002 020000000001"
TCP = hexadecimal(ETHERNET + "0800 4500 0028 0000 0000 40060000 0a000001 0a000102 0050 1f90" + "00" * 16)
UDP = hexadecimal(ETHERNET + "0800 4500 0020 0000 0000 40110000 0a000002 c0a80001 0035 0050 000c 0000" + "00" * 4)
LATER = hexadecimal(ETHERNET + "0800 4500 0020 0000 0001 40110000 0a000002 c0a80001 0035 0050 000c 0000" + "00" * 4)
OPTIONS = hexadecimal(
    ETHERNET + "0800 4700 0028 0000 0000 40110000 0a000003 0a000001" + "01" * 8 + "0035 1234" + "00" * 8
)
ICMP = hexadecimal("ffffffffffff 020000000003 0800 4500 001c 0000 0000 40010000 0a000001 0a000003 0800" + "00" * 6)
ARP = hexadecimal("ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000002")
IPV6 = hexadecimal(
    ETHERNET
    + "86dd 60000000 000c 11 40"
    + "fe80"
    + "00" * 13
    + "01"
    + "fe80"
    + "00" * 13
    + "02"
    + "0035 0050 000c 0000"
    + "00" * 4
)
ICMP6 = hexadecimal(
    ETHERNET + "86dd 60000000 0008 3a 40" + "fe80" + "00" * 13 + "01" + "ff02" + "00" * 13 + "01" + "8000" + "00" * 6
)
VLAN = hexadecimal(ETHERNET + "8100 0005 0800 4500 0028" + "00" * 40)
FRAMES = [TCP, UDP, LATER, OPTIONS, ICMP, ARP, IPV6, ICMP6, VLAN, TCP.ljust(200, b"\0")]


def run_extcap(*arguments: str, socket: str = "", home: Path | None = None) -> tuple[int, str, str]:
    environment = ENVIRONMENT | {"IXRINGS_SOCKET": socket} | ({"HOME": str(home)} if home else {})
    done = subprocess.run([*EXTCAP, *arguments], env=environment, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """ix0 is a loop."""
    with daemon(tmp_path_factory.mktemp("daemon"), "ix0=emulated:loop", "--slots", "256") as found:
        yield found


@pytest.fixture
def port(running: RunningDaemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[Port]:
    """A program's port, which is watched."""
    monkeypatch.setenv("IXRINGS_SOCKET", running.path)
    with open_port("netmap:ix0", promiscuous=True) as found:
        yield found


class Reader(threading.Thread):
    """Reads a named pipe, as Wireshark does."""

    def __init__(self, fifo: Path) -> None:
        super().__init__()
        self._fifo = fifo
        self.data = b""
        self.leaves = threading.Event()
        self.start()

    def run(self) -> None:
        with open(self._fifo, "rb", buffering=0) as pipe:
            while not self.leaves.is_set() and (more := pipe.read(1 << 16)):
                self.data += more


@contextmanager
def capturing(running: RunningDaemon, folder: Path, *arguments: str) -> Iterator[tuple[Reader, subprocess.Popen[str]]]:
    """A capture of ix0 that has begun."""
    fifo = folder / "fifo"
    os.mkfifo(fifo)
    command = [*EXTCAP, "--capture", "--extcap-interface", "netmap:ix0", "--fifo", str(fifo), *arguments]
    process = subprocess.Popen(
        command, env=ENVIRONMENT | {"IXRINGS_SOCKET": running.path}, stderr=subprocess.PIPE, text=True
    )
    reader = Reader(fifo)
    try:
        wait_for(lambda: len(running.status()["handles"]) == 2, "nothing is captured", PATIENCE_S)
        wait_for(lambda: len(reader.data) >= 24, "no header has come", PATIENCE_S)
        yield reader, process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
        reader.join()


def captured(reader: Reader, folder: Path) -> list[bytes]:
    """The frames that have come so far."""
    file = folder / "so_far.pcap"
    file.write_bytes(reader.data)
    capture = read_capture(file, allow_truncated=True)
    return [capture.frame(index) for index in range(len(capture))]


def in_this_process(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    return main(["extcap", *arguments]), capsys.readouterr().out


def test_wireshark_finds_the_ports_their_link_type_and_options(
    running: RunningDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    status, told, _ = run_extcap("--extcap-interfaces", "--extcap-version=4.2", socket=running.path)
    assert status == 0
    assert re.fullmatch(
        r"extcap \{version=[^}]+\}\{display=[^}]+\}\ninterface \{value=netmap:ix0\}\{display=ix0 .*\}\n", told
    )
    status, told = in_this_process(capsys, "--extcap-interface", "netmap:ix0", "--extcap-dlts")
    assert (status, told) == (0, "dlt {number=1}{name=EN10MB}{display=Ethernet}\n")
    status, told = in_this_process(capsys, "--extcap-interface", "netmap:ix0", "--extcap-config")
    assert status == 0
    for line in told.splitlines():
        assert re.fullmatch(r"(arg \{number=\d\}\{call=--[a-z]+\}|value \{arg=\d\})(\{[a-z]+=[^{}]+\})+", line), line


@pytest.mark.slow
def test_without_a_daemon_there_is_no_interface_and_no_failure(tmp_path: Path) -> None:
    status, told, errors = run_extcap("--extcap-interfaces", socket=str(tmp_path / "none"))
    assert status == 0 and "interface {" not in told
    assert "no daemon listens there" in errors


def test_a_wrong_filter_is_a_sentence_and_a_good_one_is_silence(capsys: pytest.CaptureFixture[str]) -> None:
    ask = ("--extcap-interface", "netmap:ix0", "--extcap-capture-filter")
    assert in_this_process(capsys, *ask, "udp port 53 and not host 10.0.0.1") == (0, "")
    status, told = in_this_process(capsys, *ask, "udp prot 53")
    assert status == 0 and told.startswith("'prot' is not understood here.")


def test_what_a_program_sends_and_receives_is_in_the_pipe_at_once(
    running: RunningDaemon, port: Port, tmp_path: Path
) -> None:
    with capturing(running, tmp_path, "--extcap-capture-filter", "udp or arp", "--snaplen", "50") as (reader, process):
        port.send(FRAMES)
        wanted = [frame.ljust(60, b"\0")[:50] for frame in (UDP, LATER, OPTIONS, ARP, IPV6)]

        def all_came() -> bool:
            port.poll(0.1)
            return len(captured(reader, tmp_path)) >= 10

        wait_for(all_came, "sent and received frames are not in the pipe", PATIENCE_S)
        came = captured(reader, tmp_path)
        for frame in wanted:
            assert sum(each[:42] == frame[:42] for each in came) == 2, frame.hex()
        process.terminate()
        assert process.wait(PATIENCE_S) == 0


def test_a_capture_that_cannot_begin_says_why_and_ends_its_reader(running: RunningDaemon, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = Reader(fifo)
    try:
        arguments = ("--capture", "--extcap-interface", "netmap:ix0", "--fifo", str(fifo))
        status, _, errors = run_extcap(*arguments, "--extcap-capture-filter", "mpls", socket=running.path)
        assert status == 1 and errors.startswith("ixrings: 'mpls' is not understood here")
        reader.join(PATIENCE_S)
        assert not reader.is_alive()
    finally:
        os.close(os.open(fifo, os.O_RDWR))  # a reader that still waits for a writer goes on
        reader.join()


@pytest.mark.slow
def test_a_capture_ends_when_nobody_reads(running: RunningDaemon, port: Port, tmp_path: Path) -> None:
    with capturing(running, tmp_path, "--direction", "t") as (reader, process):
        reader.leaves.set()

        def ended() -> bool:
            port.send([TCP])  # the reader returns from its read()
            return process.poll() is not None

        wait_for(ended, "the capture goes on without a reader", PATIENCE_S)
        assert process.returncode == 0 and process.stderr and not process.stderr.read()


@pytest.mark.slow
def test_a_capture_goes_on_with_the_next_program(running: RunningDaemon, port: Port, tmp_path: Path) -> None:
    with capturing(running, tmp_path, "--direction", "t") as (reader, _):
        port.close()
        with open_port("netmap:ix0") as again:

            def came() -> bool:
                again.send([ARP])
                again.flush()
                return any(each[:42] == ARP[:42] for each in captured(reader, tmp_path))

            wait_for(came, "frames of the second program are not in the pipe", PATIENCE_S)


@pytest.mark.slow
def test_the_wrapper_calls_the_command(running: RunningDaemon, tmp_path: Path) -> None:
    status, told, _ = run_extcap("--install", socket=running.path, home=tmp_path)
    assert status == 0
    for folder in (".local/lib/wireshark/extcap", ".config/wireshark/extcap"):  # from Wireshark 4.2 on; before
        wrapper = tmp_path / folder / "ixrings"
        assert str(wrapper) in told
        done = subprocess.run([wrapper, "--extcap-interfaces"], env=ENVIRONMENT, capture_output=True, text=True)
        assert "value=netmap:ix0" in done.stdout


@pytest.fixture
def tshark(running: RunningDaemon, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the real tshark, for which the wrapper is installed."""
    if not shutil.which("tshark"):
        pytest.skip("tshark is not installed. Run: apt install tshark")
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "LD_PRELOAD"}
    environment |= {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / ".config"), "LC_ALL": "C"}
    started: list[subprocess.Popen[str]] = []
    assert run_extcap("--install", socket=running.path, home=tmp_path)[0] == 0
    if sanitizer := ENVIRONMENT.get("LD_PRELOAD"):  # the extcap needs it, and tshark cannot run with it
        for wrapper in tmp_path.rglob("extcap/ixrings"):
            wrapper.write_text(
                wrapper.read_text().replace("exec ", f"exec env LD_PRELOAD={shlex.quote(sanitizer)} ", 1)
            )

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["tshark", *arguments],
            env=environment,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_tshark_lists_the_ports_and_captures_with_filter_and_options(
    tshark: Callable[..., subprocess.Popen[str]], port: Port
) -> None:
    told, errors = tshark("-D").communicate(timeout=120)
    assert "netmap:ix0 (ix0 beside its programs (ixrings))" in told, errors
    options = ("-o", "extcap.netmap_ix0.direction:r", "-o", "extcap.netmap_ix0.snaplen:50")
    fields = ("-T", "fields", "-e", "udp.srcport", "-e", "frame.cap_len")
    process = tshark("-i", "netmap:ix0", "-f", "udp port 80", *options, "-c", "3", *fields)

    def ended() -> bool:
        port.send([TCP, UDP, ARP])
        for _ in port.recv(0):
            pass
        return process.poll() is not None

    wait_for(ended, "tshark has not captured three frames", 120)
    told, errors = process.communicate()
    assert (process.returncode, told) == (0, "53\t50\n" * 3), errors


@pytest.mark.slow
def test_tshark_shows_why_a_capture_cannot_begin(tshark: Callable[..., subprocess.Popen[str]]) -> None:
    process = tshark("-i", "netmap:ix0", "-f", "mpls", "-c", "1")
    _, errors = process.communicate(timeout=120)
    assert "'mpls' is not understood here" in errors and "Traceback" not in errors


@pytest.mark.slow
def test_tshark_ends_at_ctrl_c_with_what_it_has_captured(
    tshark: Callable[..., subprocess.Popen[str]], port: Port, tmp_path: Path
) -> None:
    file = tmp_path / "captured.pcapng"
    process = tshark("-q", "-i", "netmap:ix0", "-w", str(file))

    def captured_some() -> bool:
        port.send(FRAMES)
        for _ in port.recv(0):
            pass
        return file.exists() and file.stat().st_size > 4096

    wait_for(captured_some, "tshark has not captured anything", 120)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: tshark, dumpcap and the wrapper get it
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert len(read_capture(file)) > 0
