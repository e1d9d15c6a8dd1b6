"""How programs end: by any signal, by a reader that has gone, by a far end that is gone. Nothing captured is lost."""

from __future__ import annotations

import fcntl
import json
import os
import random
import resource
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ixrings import Port, open_port
from ixrings.hw.capture.pcap import read_capture
from ixrings.hw.emulator import Emulated82599
from tests.support.programs import (
    ENVIRONMENT,
    Process,
    command,
    handles_interrupt,
    run_example,
    started,
    wait_for,
    wait_until_it_has_begun,
)
from tests.support.vfio_user_peer import emulate, served

PATIENCE_S = 30.0
BUFFERED = {name: value for name, value in ENVIRONMENT.items() if name != "PYTHONUNBUFFERED"}
IXRINGS = [sys.executable, "-m", "ixrings"]


def ended(process: Process) -> tuple[str, str]:
    return process.communicate(timeout=PATIENCE_S)


@contextmanager
def slow_traffic(folder: Path) -> Iterator[tuple[str, Port]]:
    """The name of a port in this process, and the port at the other end of its cable."""
    cable = f"cable=ends{os.getpid()}"
    with (
        Emulated82599(cable) as nic,
        served(nic, folder / "nic.sock") as name,
        open_port(f"emulated:{cable}", mac="02:00:00:00:00:01", link_timeout=0) as sender,
    ):
        yield name, sender


def frames_in(file: Path) -> int:
    return len(read_capture(file, allow_truncated=True)) if file.exists() and file.stat().st_size >= 24 else 0


# ---- signals ----


@pytest.mark.slow
def test_slow_traffic_is_on_disk_while_it_lasts_and_sigterm_ends_the_file_with_the_last_frame(tmp_path: Path) -> None:
    file, sent = tmp_path / "slow.pcap", 0
    with slow_traffic(tmp_path) as (name, sender), started(command("capture", "-i", name, "-w", file)) as process:
        assert sender.wait_link(PATIENCE_S).up
        end = time.monotonic() + PATIENCE_S
        while frames_in(file) < 5:
            assert time.monotonic() < end and process.poll() is None, "no frame is in the file while traffic lasts"
            sent += sender.send([b"\xff" * 6 + sent.to_bytes(54, "big")])
            time.sleep(0.05)  # the rate of the traffic
        sender.flush()
        process.send_signal(signal.SIGTERM)
        output, errors = ended(process)
    numbers = [int.from_bytes(frame[6:], "big") for frame in read_capture(file)]
    assert (process.returncode, errors) == (0, "") and output.startswith(f"received {len(numbers)} frames")
    assert numbers == list(range(numbers[0], sent))


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)], ids=["SIGTERM", "SIGHUP"]
)
def test_a_signal_ends_an_example_as_ctrl_c_does(number: signal.Signals, tmp_path: Path) -> None:
    file = tmp_path / "fast.pcap"
    with started(command("capture", "-i", "emulated:source", "-w", file, "--json")) as process:
        wait_for(lambda: frames_in(file) > 1000, "nothing is captured", PATIENCE_S)
        process.send_signal(number)
        output, errors = ended(process)
    assert (process.returncode, errors) == (0, "")
    assert json.loads(output)["received"] == len(read_capture(file))


@pytest.mark.slow
def test_a_closed_terminal_ends_a_capture_with_a_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "terminal.pcap"
    terminal, end = os.openpty()
    process = subprocess.Popen(
        command("capture", "-i", "emulated:source", "-w", file),
        env=ENVIRONMENT,
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    try:
        os.close(end)
        wait_for(lambda: frames_in(file) > 1000, "nothing is captured", PATIENCE_S)
        os.close(terminal)
        process.wait(PATIENCE_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode in (0, 1) and len(read_capture(file)) > 1000


@pytest.mark.slow
def test_a_program_under_nohup_survives_the_end_of_its_terminal(tmp_path: Path) -> None:
    file = tmp_path / "nohup.pcap"
    with started(["nohup", *command("capture", "-i", "emulated:source", "-w", file)]) as process:
        wait_for(lambda: frames_in(file) > 1000, "nothing is captured", PATIENCE_S)
        process.send_signal(signal.SIGHUP)
        before = frames_in(file)
        wait_for(lambda: frames_in(file) > before, "the capture does not go on", PATIENCE_S)
        process.send_signal(signal.SIGTERM)
        ended(process)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("emulate", "--socket", "{}/nic.sock"), ("stats", "emulated", "--watch", "0.1")])
def test_ctrl_c_at_any_moment_of_its_start_ends_a_command_quietly(arguments: tuple[str, ...], tmp_path: Path) -> None:
    rng = random.Random(82599)
    for delay in (0.0, *(rng.uniform(0, 0.3) for _ in range(3))):
        with started([*IXRINGS, *(each.format(tmp_path) for each in arguments)]) as process:
            wait_until_it_has_begun(process)
            time.sleep(delay)
            process.send_signal(signal.SIGINT)
            _, errors = ended(process)
        assert errors == "" and process.returncode in (0, 130, -signal.SIGINT), (delay, errors)


def test_ctrl_c_ends_line_rate_with_a_summary_and_without_a_verdict() -> None:
    with started(command("line_rate", "-t", "60")) as process:
        assert process.stdout and "Sending" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        output, errors = ended(process)
    assert (process.returncode, errors) == (0, "") and output.startswith("sent ") and "FAILED" not in output


# ---- readers ----


@pytest.mark.parametrize("program", [
    command("pktgen", "--help"),
    pytest.param(command("line_rate", "-t", "0.1"), marks=pytest.mark.slow),
    command("capture", "-i", "emulated:source", "-w", "-"),
    pytest.param([*IXRINGS, "emulate", "--socket", "{}/nic.sock"], marks=pytest.mark.slow),
], ids=lambda program: " ".join(program[1:4]).rpartition("/")[2])  # fmt: skip
def test_a_reader_that_has_gone_ends_a_program_quietly(program: list[str], tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [each.format(tmp_path) for each in program],
            env=BUFFERED,
            stdout=writer,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
        )
    finally:
        os.close(writer)
    words = [line for line in done.stderr.splitlines() if not line.startswith("received ")]
    assert words == [] and done.returncode in (0, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "program", [command("pktgen", "-n", "1", "-i", "emulated:source"), [*IXRINGS, "info", "emulated"]]
)
def test_output_that_cannot_be_written_is_an_error(program: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(program, env=BUFFERED, stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S)
    assert done.returncode == 1
    assert done.stderr.endswith(": standard output cannot be written: No space left on device\n"), done.stderr


# ---- a capture on standard output ----


@pytest.mark.parametrize("name", ["-", pytest.param("/dev/stdout", marks=pytest.mark.slow)])
def test_a_capture_on_standard_output_is_pcap_and_nothing_else(name: str, tmp_path: Path) -> None:
    file = tmp_path / "out.pcap"
    with open(file, "wb") as out:
        done = subprocess.run(
            ["sh", "-c", f"{' '.join(command('capture', '-i', 'emulated:source=100', '-w', name, '-c', 50))} | cat"],
            env=ENVIRONMENT,
            cwd=tmp_path,
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
        )
    assert list(tmp_path.iterdir()) == [file] and done.stderr.startswith("received 50 frames"), done.stderr
    assert set(read_capture(file).lengths.tolist()) == {100} and len(read_capture(file)) == 50


@pytest.mark.slow
def test_a_capture_into_a_full_pipe_is_whole_after_ctrl_c(tmp_path: Path) -> None:
    """The reader begins only after Ctrl-C: at that moment the program waits in the middle of a record."""
    with started(command("capture", "-i", "emulated:source=1000", "-w", "-")) as process:
        assert process.stdout and process.stderr
        wait_for(lambda: handles_interrupt(process), "the example does not run", PATIENCE_S)
        stuck = lambda: select.select([process.stdout], [], [], 0)[0] and waits_in_write(process)  # noqa: E731
        wait_for(stuck, "the pipe is not full", PATIENCE_S)
        process.send_signal(signal.SIGINT)
        with open(tmp_path / "piped.pcap", "wb") as file:
            while data := os.read(process.stdout.fileno(), 1 << 16):
                file.write(data)
        _, errors = ended(process)
    count = len(read_capture(tmp_path / "piped.pcap"))
    assert process.returncode == 0 and errors.startswith(f"received {count:,} frames"), (count, errors)


@pytest.mark.slow
def test_a_second_signal_ends_a_capture_whose_reader_has_stopped() -> None:
    with started(command("capture", "-i", "emulated:source=1000", "-w", "-")) as process:
        wait_for(lambda: handles_interrupt(process), "the example does not run", PATIENCE_S)
        wait_for(lambda: waits_in_write(process), "the pipe is not full", PATIENCE_S)
        process.send_signal(signal.SIGTERM)
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_S)
        while process.stdout and os.read(process.stdout.fileno(), 1 << 16):
            pass  # the bytes in the pipe are no text
        assert process.stderr and "Traceback" not in process.stderr.read() and process.returncode == 130


def waits_in_write(process: Process) -> bool:
    """Whether the program's main thread sleeps in write() to a pipe."""
    return "pipe_write" in Path(f"/proc/{process.pid}/wchan").read_text()


@pytest.mark.slow
def test_snaplen_zero_keeps_whole_frames(tmp_path: Path) -> None:
    done = run_example("capture", "-i", "emulated:source=9000", "--mtu", 9000, "-w", tmp_path / "all", "-c", 5, "-s", 0)
    assert done.returncode == 0 and set(read_capture(tmp_path / "all").lengths.tolist()) == {9000}


# ---- the far end ----

RECORD = "emulated:pcap=,{}/full.pcap"


@pytest.mark.slow
@pytest.mark.parametrize("program", [
    ("pktgen", "-f", "tx", "-i", RECORD),
    ("replay", "-i", RECORD, "{}/in.pcap", "-R", "1000"),
    ("bridge", "-i", RECORD, "-i", "emulated:source"),
], ids=lambda program: program[0])  # fmt: skip
def test_a_recording_that_cannot_grow_ends_a_program_with_the_reason(program: tuple[str, ...], tmp_path: Path) -> None:
    assert run_example("capture", "-i", "emulated:source", "-w", tmp_path / "in.pcap", "-c", 60_000).returncode == 0
    recording = tmp_path / "full.pcap"
    with started(command(program[0], *(each.format(tmp_path) for each in program[1:]))) as process:
        wait_for(lambda: frames_in(recording) > 0, "nothing is recorded", PATIENCE_S)
        # As on a full disk. The region is a file, too, and has its size already.
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
        output, errors = ended(process)
    assert process.returncode == 1 and "frames" in output, "no summary"
    assert "carries no more frames" in errors.splitlines()[-1] and "File too large" in errors, errors


@pytest.mark.slow
def test_a_missing_head_write_back_ends_a_program_with_the_reason() -> None:
    done = run_example("pktgen", "-f", "tx", "-i", "emulated@fault=head-write-back:sink", "-n", "200000", "--json")
    assert done.returncode == 1 and "head write-back does not arrive" in done.stderr
    assert json.loads(done.stdout)["unsent"] == json.loads(done.stdout)["sent"] > 0


@pytest.mark.slow
def test_a_pulled_cable_is_said_once_and_waited_for(tmp_path: Path) -> None:
    recording = tmp_path / "out.pcap"
    with (
        emulate(tmp_path / "nic.sock", "--wire", f"pcap=,{recording}") as far,
        started(command("pktgen", "-f", "tx", "-i", far.port, "-R", "1000", "--json")) as process,
    ):
        assert process.stderr
        wait_for(lambda: frames_in(recording) > 0, "nothing is recorded", PATIENCE_S)
        lines = []
        for _ in range(2):
            far.process.send_signal(signal.SIGUSR1)
            lines.append(process.stderr.readline())
            time.sleep(2.5)  # more than two looks at the link
        process.send_signal(signal.SIGTERM)
        output, rest = ended(process)
    assert "the link is down" in lines[0] and "waiting for it" in lines[0] and "the link is up" in lines[1]
    assert rest == "" and json.loads(output)["unsent"] == 0 and process.returncode == 0


@pytest.mark.slow
def test_a_client_waits_for_a_server_that_is_just_starting(tmp_path: Path) -> None:
    path = tmp_path / "late.sock"
    with (
        started(command("pktgen", "-f", "rx", "-i", f"vfio-user:{path}", "-n", "100")) as client,
        started([*IXRINGS, "emulate", "--socket", str(path), "--wire", "source"]),
    ):
        output, errors = ended(client)
    assert (client.returncode, errors) == (0, "") and output.startswith("received 100 frames")


IN_A_DEL = """
import os, signal, time
from ixrings.driver.program import run

class Closed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(100):  # Python calls the handler here
            pass

def main():
    Closed()
    time.sleep(30)

run(main)
"""


def test_a_signal_that_comes_while_python_deletes_an_object_ends_the_program() -> None:
    done = subprocess.run([sys.executable, "-c", IN_A_DEL], env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "")
