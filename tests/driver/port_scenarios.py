"""Tests of a port on any transport: a NIC with a looped cable, and a NIC that receives without end.

pytest does not collect this file. It runs in guests (tests/qemu/test_our_driver.py) and over vfio-user. IXRINGS_LOOP
and IXRINGS_SOURCE contain the port names, IXRINGS_BRIDGE_S the seconds that a bridge needs to start and to carry
frames.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ixrings import Port, Share, open_port
from ixrings.hw.capture.pcap import read_capture
from ixrings.hw.errors import DeviceError
from tests.support.arrivals import came
from tests.support.programs import EXAMPLES, interrupt, run_example, started, wait_for
from tests.support.queue_worker import has_opened, last_words, worker

LOOP, SOURCE = os.environ["IXRINGS_LOOP"], os.environ["IXRINGS_SOURCE"]
SEQUENCE_AT = 42  # offset at which the source numbers its frames
EXAMPLE_S = 60


@pytest.fixture
def port() -> Iterator[Port]:
    opened = open_port(LOOP)
    yield opened
    opened.close()


def frame(to: str, number: int, length: int = 60) -> bytes:
    return (bytes.fromhex(to.replace(":", "")) + bytes(6) + b"\x88\xb5" + struct.pack("!I", number)).ljust(
        length, b"\0"
    )


def udp(to: str, flow: int) -> bytes:
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, 17, 0, bytes([10, 0, 0, flow]), bytes([10, 0, 1, flow]))
    return (
        bytes.fromhex(to.replace(":", "")) + bytes(6) + b"\x08\x00" + ip + struct.pack("!HHHH", 1000 + flow, 9, 8, 0)
    ).ljust(60, b"\0")


def test_every_frame_sent_comes_back_and_is_counted(port: Port) -> None:
    assert port.link.up
    frames = [frame(port.mac, n, 60 + n % 1400) for n in range(2000)]
    got: list[bytes] = []
    for first in range(0, len(frames), 200):
        port.send(frames[first : first + 200])
        received = port.recv(30)
        got += [next(received) for _ in range(200)]
    assert got == frames
    port.flush(30)
    stats = port.stats()
    assert stats["GPTC"] == stats["GPRC"] == stats.tx[0]["QPTC"] == stats.rx[0]["QPRC"] == 2000


def test_flows_are_sent_by_several_queues_and_spread_over_several() -> None:
    with open_port(LOOP, tx_queues=4, rx_queues=4, tx_slots=64, rx_slots=64) as port:
        for k in range(4):
            port.send([udp(port.mac, flow) for flow in range(16)], ring=k)
        port.flush(30)
        assert len(came(port, 64)) == 64
        stats = port.stats()
        assert [queue["QPTC"] for queue in stats.tx[:4]] == [16] * 4
        assert (
            sum(queue["QPRC"] for queue in stats.rx[:4]) == 64 and sum(queue["QPRC"] > 0 for queue in stats.rx[:4]) > 1
        )


def test_a_sleeping_poll_is_woken_by_an_interrupt(port: Port) -> None:
    with selectors.DefaultSelector() as selector:
        assert port.poll(0.05) == 0
        selector.register(port, selectors.EVENT_READ)
        assert not selector.select(0.05)
        for number in range(50):
            port.send([frame(port.mac, number)])
            assert selector.select(30), f"no wake-up for frame {number}"
            port.rxsync()
            port.rx_rings[0].advance(port.rx_rings[0].space)
            port.rxsync()


def test_jumbo_frames_take_several_slots() -> None:
    with open_port(LOOP, mtu=9706, buf_size=1024) as port:
        for length in (9720, 1025, 60):
            port.send([frame(port.mac, 0, length)])
            assert next(port.recv(30)) == frame(port.mac, 0, length)


def share(port: Port, queue: int) -> Share:
    try:
        return port.share(queue)
    except DeviceError as error:  # a vfio-user server without doorbell region
        assert "no doorbell region" in str(error)
        pytest.skip(str(error))


def test_a_worker_process_receives_from_a_queue_and_gives_it_back() -> None:
    with open_port(LOOP, tx_queues=2, rx_queues=2) as port:
        flows = [udp(port.mac, flow) for flow in range(16)]
        handle = share(port, 1)
        with worker(handle, "hold") as process:
            has_opened(process)
            for _ in range(10):
                port.send(flows)
                port.flush(EXAMPLE_S)
            own, end = 0, time.monotonic() + EXAMPLE_S
            while own + handle.rx_packets < 160:
                assert time.monotonic() < end, "the worker and the port have not received all"
                own += len(list(port.recv(0.1)))
            assert own and handle.rx_packets
            assert handle.reclaim(EXAMPLE_S) == 0
            assert "was taken back" in last_words(process)
        assert len(came(port, 160 - own)) == 160 - own  # the worker left them in the ring
        assert [queue["QPRC"] for queue in port.stats().rx] == [own, 160 - own]


def test_the_queue_of_a_killed_worker_works_again() -> None:
    with open_port(LOOP, tx_queues=2, rx_queues=2) as port:
        flows = [udp(port.mac, flow) for flow in range(16)]
        handle = share(port, 1)
        with worker(handle, "forward") as process:
            has_opened(process)
            port.send(flows)  # those of queue 1 go round for ever
            wait_for(lambda: handle.rx_packets >= 1000, "the worker forwards nothing", EXAMPLE_S)
            process.kill()
            assert handle.wait(EXAMPLE_S)
        handle.reclaim()
        list(port.recv(1))  # what was on its way
        for ring in (0, 1):
            port.send(flows * 5, ring=ring)
        port.flush(EXAMPLE_S)
        assert len(came(port, 160)) == 160


def test_a_worker_that_sleeps_does_not_keep_its_port_from_closing() -> None:
    with open_port(LOOP, tx_queues=2, rx_queues=2) as port:
        handle = share(port, 1)
        with worker(handle, "forward") as process:
            has_opened(process)
            process.send_signal(signal.SIGSTOP)
            with pytest.warns(RuntimeWarning, match="still has queue 1"):
                port.close()
            process.send_signal(signal.SIGCONT)  # its stores reach a NIC that is stopped
            assert "was taken back" in last_words(process)
    with open_port(LOOP) as port:
        port.send([frame(port.mac, 1)])
        assert next(port.recv(30)) == frame(port.mac, 1)


OWNER = """
import sys, time
from ixrings import open_port
from tests.support.queue_worker import worker
with open_port(sys.argv[1], tx_queues=2, rx_queues=2) as port, worker(port.share(1), "forward", stdout=None):
    time.sleep(60)
"""


def test_a_worker_whose_owner_was_killed_ends_and_the_nic_opens_again() -> None:
    with open_port(LOOP, tx_queues=2, rx_queues=2) as port:
        share(port, 1)
    with started([sys.executable, "-c", OWNER, LOOP]) as owner:
        assert owner.stdout is not None and owner.stdout.readline() == "open\n"
        owner.kill()
        assert "has ended, and its port with it" in owner.stdout.readline()
        assert owner.stdout.read() == ""  # the worker has ended, too
    with open_port(LOOP) as port:
        port.send([frame(port.mac, 1)])
        assert next(port.recv(30)) == frame(port.mac, 1)


def test_the_nic_opens_again_and_again() -> None:
    for _ in range(5):
        with open_port(LOOP, tx_slots=64, rx_slots=64) as port:
            port.send([frame(port.mac, 1)])
            assert next(port.recv(30)) == frame(port.mac, 1)


def test_a_second_program_learns_that_the_nic_is_in_use(port: Port) -> None:
    code = f"from ixrings import open_port\nopen_port({LOOP!r})"
    second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=EXAMPLE_S)
    assert second.returncode and "is in use by" in second.stderr, second.stderr
    port.send([frame(port.mac, 1)])
    assert next(port.recv(30)) == frame(port.mac, 1)


def test_a_nic_that_does_not_exist_is_reported_by_its_address() -> None:
    with pytest.raises(DeviceError, match="0000:7f:00.0"):
        open_port("0000:7f:00.0")


def test_pktgen_sends_the_requested_number_of_frames() -> None:
    done = run_example("pktgen", "-i", LOOP, "-f", "tx", "-n", 20000, "--json", timeout=EXAMPLE_S)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["sent"] == 20000


def test_pktgen_receives_the_requested_number_of_frames() -> None:
    done = run_example("pktgen", "-i", SOURCE, "-f", "rx", "-n", 50000, "--json", timeout=EXAMPLE_S)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["received"] >= 50000


def test_a_capture_has_no_gap(tmp_path: Path) -> None:
    file = tmp_path / "source.pcap"
    done = run_example("capture", "-i", SOURCE, "-w", file, "-c", 5000, timeout=EXAMPLE_S)
    assert done.returncode == 0, done.stderr
    numbers = [struct.unpack_from("!Q", bytes(packet), SEQUENCE_AT)[0] for packet in frames_of(file)]
    assert numbers == list(range(numbers[0], numbers[0] + 5000))


def frames_of(file: Path) -> Iterator[bytes]:
    capture = read_capture(str(file))
    for offset, length in zip(capture.offsets, capture.lengths):
        yield capture.data[int(offset) : int(offset) + int(length)].tobytes()


def test_a_bridge_carries_frames_from_one_nic_to_the_other() -> None:
    command = [sys.executable, str(EXAMPLES / "bridge.py"), "-i", SOURCE, "-i", LOOP, "--json"]
    for patience in (1, 4):  # in a guest on a busy machine it starts slowly
        with started(command) as bridge:
            with suppress(subprocess.TimeoutExpired):
                bridge.wait(patience * float(os.environ["IXRINGS_BRIDGE_S"]))
            output, errors = interrupt(bridge)
        if bridge.returncode == -signal.SIGINT and patience == 1:
            continue  # it was still starting, and Python had no handler yet
        assert bridge.returncode in (0, 130), errors
        forwarded = json.loads(output or "{}").get("forwarded", 0)
        if forwarded > 1000:
            break
    assert forwarded > 1000, output
