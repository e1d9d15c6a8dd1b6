"""Bad input is refused with a sentence, and nothing is lost or leaked. With whole ports and examples.

tests/rings has a test for each rule of the rings. conftest.py checks after every test that nothing is left open.
"""

from __future__ import annotations

import gc
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ixrings import Port, PortBusy, open_port, open_ports
from ixrings.hw.capture.pcap import CaptureWriter, read_capture
from ixrings.hw.emulator import Emulated82599
from ixrings.hw.errors import WireError
from ixrings.rings import RegionError, RingError
from ixrings.rings.layout import SlotFlag
from tests.support.arrivals import came
from tests.support.driver_watch import emulated
from tests.support.leaks import held
from tests.support.programs import (
    ENVIRONMENT,
    command,
    handles_interrupt,
    run_example,
    started,
    wait_for,
    wait_until_it_has_begun,
)

FRAME = b"\xff" * 6 + bytes([2, 0, 0, 0, 0, 9, 0x88, 0xB5]) + bytes(46)


def exchange(port: Port, count: int = 40) -> None:
    """Send frames and receive them back from the loop."""
    assert port.send([FRAME] * count) == count
    assert sum(1 for _ in zip(range(count), port.recv(30))) == count


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit status 1, one line on stderr with all of `words`, and no other output."""
    assert done.returncode == 1, done
    assert len(done.stderr.splitlines()) == 1 and "Traceback" not in done.stderr, done.stderr
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr


# ---- rings ----


def head_out_of_range(port: Port) -> None:
    port.tx_rings[0].head = 1024


def head_past_tail(port: Port) -> None:
    ring = port.tx_rings[0]
    for _ in range(100):
        if (ring.tail + 1) % 1024 != ring.head:
            break
        exchange(port)  # the last sync saw all frames sent: the program owns every slot, so none is past tail
    ring.head = ring.cur = (ring.tail + 1) % 1024


def head_backwards(port: Port) -> None:
    port.rxsync()
    port.rx_rings[0].head = (port.rx_rings[0].head - 1) % 1024


def cur_behind_head(port: Port) -> None:
    ring = port.tx_rings[0]
    ring.advance(2)
    ring.cur = ring.head - 1


def slot_of(port: Port, **fields: int) -> None:
    ring = port.tx_rings[0]
    for name, value in fields.items():
        ring.slots[name][ring.head] = value
    ring.advance(1)


@pytest.mark.parametrize(("mistake", "rule"), [
    (head_out_of_range, "HEAD_RANGE"),
    (head_past_tail, "HEAD_PAST_TAIL"),
    (head_backwards, "HEAD_BACKWARDS"),
    (cur_behind_head, "CUR_BEHIND_HEAD"),
    (lambda port: slot_of(port, buf_idx=0, len=60), "BUF_IDX"),
    (lambda port: slot_of(port, buf_idx=1, len=60), "BUF_IDX"),
    (lambda port: slot_of(port, buf_idx=port.region.total_buffers, len=60), "BUF_IDX"),
    (lambda port: slot_of(port, len=0), "LEN_ZERO"),
    (lambda port: slot_of(port, len=2113), "LEN_OVER_BUFFER"),
    (lambda port: slot_of(port, len=60, flags=int(SlotFlag.NS_MOREFRAG)), "CHAIN_NOT_ENDED"),
])  # fmt: skip
def test_a_mistake_in_a_ring_is_reported_and_the_port_continues(mistake: Callable[[Port], None], rule: str) -> None:
    with open_port("emulated", promiscuous=True) as port:
        exchange(port)
        slots = port.tx_rings[0].slots.copy()
        mistake(port)
        sent = port.stats()["GPTC"]
        with pytest.raises(RingError, match=rule) as error:
            port.rxsync() if "BACKWARDS" in rule else port.txsync()
        assert "emulated" in str(error.value)
        port.tx_rings[0].slots[:] = slots
        port.flush()
        assert port.stats()["GPTC"] == sent
        exchange(port)
        assert emulated(port).faults == []


def test_frames_under_sixty_bytes_are_padded_with_zeros_whatever_their_buffers_contain(tmp_path: Path) -> None:
    recording = tmp_path / "short.pcap"
    lengths = range(17, 61)
    with open_port(f"emulated:pcap=,{recording}") as port:
        port.buffers[2:] = 0xEE
        for length in lengths:
            port.send([b"\xab" * length])
        port.flush()
    assert list(read_capture(recording)) == [(b"\xab" * length).ljust(60, b"\0") for length in lengths]


# ---- options, names, owners ----


@pytest.mark.parametrize(("arguments", "words"), [
    (("pktgen", "-i", "emulated:wire"), ("sink[=NS], source",)),
    (("pktgen", "-i", "eth0"), ("0000:03:00.0",)),
    (("pktgen", "-i", "emulated:cable="), ("name after it",)),
    (("pktgen", "-i", "emulated:cable=nobody", "-f", "tx", "-w", "0.1"), ("no port at its other end",)),
    (("capture", "-w", "/no/such/directory/file"), ("/no/such/directory/file", "No such file")),
])  # fmt: skip
def test_an_example_answers_a_bad_argument_with_one_line_that_says_what_is_allowed(
    arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert_refused(run_example(*arguments), *words)


def test_a_device_has_one_port_and_a_cable_two() -> None:
    with Emulated82599("sink") as nic, open_port(nic):
        with pytest.raises(PortBusy, match="close that port first"):
            open_port(nic)
    with open_ports("emulated:cable=two", "emulated:cable=two"):
        with pytest.raises(WireError, match="already joins two ports"):
            open_port("emulated:cable=two")
    with open_ports("emulated:cable=two", "emulated:cable=two") as (left, right):
        assert left.link.up and right.link.up


# ---- files ----


def pcap(*frames: bytes) -> bytes:
    header = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)
    return header + b"".join(struct.pack("<IIII", 1, 0, len(frame), len(frame)) + frame for frame in frames)


FILES = {
    "empty": (b"", "is empty"),
    "text": (b"hello, this is no capture", "is not a pcap or pcapng file"),
    "header truncated": (pcap()[:20], "truncated"),
    "record truncated": (pcap(FRAME, FRAME)[:-1], "truncated"),
    "absurd record": (pcap() + struct.pack("<IIII", 1, 0, 2**31, 2**31), "damaged"),
    "other link type": (pcap()[:20] + struct.pack("<I", 113), "Ethernet"),
    "compressed": (b"BZh91AY", "bunzip2"),
    "compressed without contents": (b"\x1f\x8b\x08\0\0\0", "gzip's data end early, before the first frame"),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_cannot_be_played_is_refused_by_wire_and_replay(kind: str, tmp_path: Path) -> None:
    content, words = FILES[kind]
    file = tmp_path / "bad.pcap"
    file.write_bytes(content)
    with pytest.raises(WireError, match=words) as error:
        open_port(f"emulated:pcap={file}")
    assert str(file) in str(error.value)
    assert_refused(run_example("replay", file), str(file), words)


@pytest.mark.slow
def test_missing_giant_and_special_files_are_refused_at_once(tmp_path: Path) -> None:
    giant, pipe = tmp_path / "giant.pcap", tmp_path / "pipe"
    with open(giant, "wb") as file:  # sparse: it takes little space on the disk
        file.write(pcap())
        file.truncate(3 << 30)
    os.mkfifo(pipe)
    for path, words in (
        (giant, "at most 2147483647"),
        (pipe, "not a regular file"),
        (tmp_path, "directory"),
        (tmp_path / "none", "No such file"),
    ):
        with pytest.raises(WireError, match=words):
            open_port(f"emulated:pcap={path}")
        assert_refused(run_example("replay", path), words)
    with pytest.raises(WireError, match="cannot write"):
        open_port(f"emulated:pcap=,{tmp_path}")


@pytest.mark.slow
def test_the_replay_of_an_empty_capture_ends_at_once_with_a_summary(tmp_path: Path) -> None:
    file = tmp_path / "none.pcap"
    file.write_bytes(pcap())
    for pace in ("--speed=1", "-R10", "--flat-out"):
        done = run_example("replay", file, pace)
        assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("sent 0 frames")
    with open_port(f"emulated:pcap={file}") as port:
        assert port.poll(0.05) == 0


def test_frames_too_long_for_the_nic_are_counted_by_the_wire_and_refused_by_replay(tmp_path: Path) -> None:
    """Captures made with TSO or GRO contain such frames."""
    file = tmp_path / "long.pcap"
    file.write_bytes(pcap(FRAME, FRAME + bytes(200_000), FRAME))
    with open_port(f"emulated:pcap={file}", rx_slots=64, promiscuous=True) as port:
        assert came(port, 2) == [FRAME, FRAME]
        assert port.stats()["ROC"] == 1
    assert_refused(
        run_example("replay", file), str(file), "frame 2 has 200060 bytes", "at most 9724", "gro off", "--skip"
    )


def test_a_full_disk_takes_the_link_down_with_a_reason(tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    with pytest.raises((WireError, RegionError), match="No space left"), open_port("emulated:pcap=,/dev/full") as port:
        port.send([FRAME] * 10)
        port.flush()
        wait_for(lambda: not port.link.up, "the link is still up")
        raise WireError(port.link.reason)


# ---- memory ----


@contextmanager
def limited(kind: int, soft: int) -> Iterator[None]:
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


def test_a_region_without_enough_memory_is_refused_with_a_remedy() -> None:
    with pytest.raises(RegionError, match="memory are available.*smaller"):
        open_port("emulated", extra_bufs=1_000_000_000)
    with limited(resource.RLIMIT_FSIZE, 1 << 20), pytest.raises(RegionError, match="ulimit -f.*smaller"):
        open_port("emulated")
    with open_port("emulated", promiscuous=True) as port:
        exchange(port)


@pytest.mark.slow
def test_with_too_few_descriptors_opening_either_works_or_leaves_nothing() -> None:
    opened = refused = 0
    lowest = os.dup(0)  # the lowest free descriptor
    os.close(lowest)
    before = held()
    for more in range(30):
        with limited(resource.RLIMIT_NOFILE, lowest + more):
            try:
                with open_port("emulated", promiscuous=True) as port:
                    exchange(port)
                opened += 1
            except Exception as error:
                assert "open files" in str(error), repr(error)
                refused += 1
        gc.collect()
        assert held() <= before, more
    assert opened and refused


# ---- exceptions at any moment ----


class Interruption(Exception):
    """An exception raised at an arbitrary step."""


def whole_life() -> None:
    with open_port("emulated", tx_queues=2, rx_queues=2, tx_slots=64, rx_slots=64, promiscuous=True) as port:
        port.send([FRAME] * 40)
        port.flush()
        list(port.recv(0.01))
        port.stats()


class Moments:
    """Counts the steps of our own code (lines and returns) and raises at one of them."""

    def __init__(self, at: int) -> None:
        self.at, self.count = at, 0
        self.where = ""

    def trace(self, frame: types.FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        name = frame.f_globals.get("__name__", "")
        if not name.startswith("ixrings."):
            return None
        self.count += 1
        if self.count == self.at:
            self.where = f"{event} in {frame.f_code.co_name}:{frame.f_lineno}"
            raise Interruption
        return self.trace

    def run(self) -> None:
        sys.settrace(self.trace)
        try:
            whole_life()
        except Interruption:
            pass
        finally:
            sys.settrace(None)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [8, 100])
def test_an_exception_at_any_step_of_a_ports_life_leaves_nothing_and_the_next_port_opens(steps: int) -> None:
    whole = Moments(-1)
    whole.run()
    assert whole.count > 10_000
    before, rng = held(), random.Random(82599 + steps)
    for at in sorted(rng.sample(range(1, whole.count), steps)):
        moment = Moments(at)
        moment.run()
        gc.collect()
        left = held() - before
        assert not left, f"{moment.where} (step {at}) left {left}"
    whole_life()


# Python runs signal handlers after interrupted system calls. SIGALRM also interrupts waits for the engine's lock.
INTERRUPTED = """
import random, signal, sys, threading
from tests.driver.test_bad_input import Interruption, whole_life
from tests.support.leaks import held

kind = {"Interruption": Interruption, "KeyboardInterrupt": KeyboardInterrupt}[sys.argv[1]]

def interrupt(number, frame):
    raise kind

whole_life()
before = {what for what in held() if not what.startswith("descriptor")}
signal.signal(signal.SIGALRM, interrupt)
rng = random.Random(sys.argv[1])
for _ in range(int(sys.argv[2])):
    try:
        signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0002, 0.04))
        whole_life()
    except kind:
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
whole_life()
import gc, time
end = time.monotonic() + 20
while (left := {what for what in held() if not what.startswith("descriptor")} - before) and time.monotonic() < end:
    gc.collect()
    time.sleep(0.01)
print("left:", left)
"""


@pytest.mark.parametrize(
    ("kind", "times"),
    [
        ("KeyboardInterrupt", 15),
        *(pytest.param(kind, 60, marks=pytest.mark.slow) for kind in ("KeyboardInterrupt", "Interruption")),
    ],
)
def test_a_signal_handler_that_raises_at_any_moment_neither_hangs_the_engine_nor_leaves_memory(
    kind: str, times: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, kind, str(times)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "left: set()\n"), done.stdout + done.stderr


def test_ctrl_c_during_a_wait_for_the_engine_does_not_block_the_engine() -> None:
    code = """
import signal, threading, time
from ixrings.hw.emulator import Emulated82599

def interrupt(number, frame):
    raise KeyboardInterrupt

nic = Emulated82599("sink")
signal.signal(signal.SIGALRM, interrupt)

def hold():
    with nic._engine.frozen():
        time.sleep(0.2)

holder = threading.Thread(target=hold)
holder.start()
time.sleep(0.05)
signal.setitimer(signal.ITIMER_REAL, 0.05)
try:
    while True:
        nic.read32(8)
except KeyboardInterrupt:
    pass
other = threading.Thread(target=nic.read32, args=(8,), daemon=True)
other.start()
other.join(30)
print("runs" if not other.is_alive() else "hangs", flush=True)
nic.close()
"""
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "runs\n", done.stderr


# ---- Ctrl-C ----


PROGRAMS = {
    "pktgen tx": ("pktgen", "-f", "tx", "-i", "emulated:sink"),
    "pktgen rx": ("pktgen", "-f", "rx", "-i", "emulated:source"),
    "pktgen ping": ("pktgen", "-f", "ping", "-i", "emulated:loop"),
    "pktgen two queues": ("pktgen", "-f", "tx", "-p", "2", "-R", "1000", "-i", "emulated:loop", "--json"),
    "bridge": ("bridge", "-i", "emulated:source", "-i", "emulated:sink"),
    "capture": ("capture", "-i", "emulated:source", "-w", "/dev/null"),
    "responder": ("responder", "-i", "emulated:source"),
    "line_rate": ("line_rate", "-t", "60"),
}


EVERY_DAY = {"bridge"}


@pytest.mark.parametrize(
    "kind", [kind if kind in EVERY_DAY else pytest.param(kind, marks=pytest.mark.slow) for kind in PROGRAMS]
)
def test_ctrl_c_at_any_moment_ends_an_example_quickly_and_quietly(kind: str) -> None:
    rng = random.Random(kind)
    delays = [0.0, *(rng.uniform(0.0, 0.5) for _ in range(4))]
    for delay in delays:
        with started(command(*PROGRAMS[kind])) as process:
            wait_until_it_has_begun(process)
            time.sleep(delay)
            running = handles_interrupt(process)
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=30)
        assert errors == "", (delay, errors)
        assert process.returncode in ((0, 130) if running else (0, 130, -signal.SIGINT)), delay
        assert output or process.returncode, f"no summary after {delay} s"


@pytest.mark.slow
def test_a_second_ctrl_c_during_the_end_changes_nothing() -> None:
    rng = random.Random(2)
    for _ in range(6):
        with started(command("pktgen", "-f", "tx", "-i", "emulated:sink")) as process:
            wait_until_it_has_begun(process)
            wait_for(lambda: handles_interrupt(process), "the example does not run")
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            time.sleep(rng.uniform(0.0, 0.03))
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
        assert "Traceback" not in errors and process.returncode in (0, 130), errors


def test_a_capture_ended_by_ctrl_c_is_a_valid_file(tmp_path: Path) -> None:
    file = tmp_path / "cut.pcap"
    with started(command("capture", "-i", "emulated:source", "-w", file)) as process:
        wait_for(lambda: file.exists() and file.stat().st_size > 1_000_000, "nothing is captured")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=30)
    capture = read_capture(file)
    assert f"received {len(capture):,} frames" in output
    numbers = [int.from_bytes(capture.frame(i)[42:50], "big") for i in range(0, len(capture), 997)]
    assert numbers == list(range(0, len(capture), 997))


def test_ctrl_c_ends_a_replay_in_the_middle_of_a_pause(tmp_path: Path) -> None:
    file = tmp_path / "slow.pcap"
    with CaptureWriter(file) as writer:
        frames = np.zeros((2, 60), np.uint8)
        writer.write_batch(frames, np.array([60, 60], np.uint16), np.array([0, 3_600_000_000_000], np.int64))
    sent = tmp_path / "sent.pcap"
    with started(command("replay", file, "-i", f"emulated:pcap=,{sent}")) as process:
        wait_for(lambda: sent.exists() and sent.stat().st_size > 24, "replay does not run", 30)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert process.returncode == 0 and output.startswith("sent 1 frames") and not errors
