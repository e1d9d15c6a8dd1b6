"""A C program that knows only netmap's published layout attaches to the region of a running port."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ixrings import Port, open_port
from ixrings.hw.capture.pcap import read_capture
from ixrings.rings import Region, RingError

COUNT, SEED = 20_000, 7
SLOTS = (512, 1024)  # TX and RX differ, so that a mix-up shows


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("abi") / "abi_client"
    source = Path(__file__).with_name("abi_client.c")
    built = subprocess.run(
        ["cc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, source], capture_output=True, text=True
    )
    assert not built.returncode, built.stderr
    return program


@dataclass
class Attached:
    """The C program while it works on a port's region."""

    process: subprocess.Popen[str]

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def assert_content(self) -> None:
        """Wait until the program ends, and check that it found nothing wrong."""
        _, errors = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, errors


@contextmanager
def attached(client: Path, port: Port, *task: object) -> Iterator[Attached]:
    """Start the program with what nmreq_register returns (descriptor, nr_memsize, nr_offset), and with its task."""
    arguments = [port.region.fd, port.region.size, port.if_offset, port.name, *SLOTS, *task]
    process = subprocess.Popen(
        [client, *map(str, arguments)],
        pass_fds=[port.region.fd],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        if process.stdout.readline() != "attached\n":
            raise AssertionError(process.communicate()[1])
        yield Attached(process)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def opened(name: str, region: Region | None = None) -> Port:
    return open_port(name, tx_slots=SLOTS[0], rx_slots=SLOTS[1], region=region, promiscuous=True)


def expected(number: int) -> bytes:
    """The C program's frame `number`: a header, then bytes computed from number, place and seed."""
    header = b"\xff" * 6 + bytes([2, 0, 0, 0, 0, 0xC, 0x88, 0xB5])
    return header + bytes((number * 31 + at * 7 + SEED) & 0xFF for at in range(14, 60 + number * 7 % 1400))


def received(port: Port, count: int, meanwhile: Callable[[], object] = lambda: None) -> int:
    """How many of `count` frames arrived in order and with the expected bytes."""
    got, end = 0, time.monotonic() + 20
    while got < count and time.monotonic() < end:
        meanwhile()
        if not port.poll(0):
            continue
        for frame in port.recv(0):
            assert frame == expected(got), f"frame {got}"
            got += 1
    return got


def test_every_structure_is_where_netmap_puts_it(client: Path) -> None:
    with opened("emulated") as port, attached(client, port, "check") as program:
        program.assert_content()


def test_the_second_port_of_a_region_is_found_by_its_offset(client: Path) -> None:
    with Region.for_ports(2, tx_slots=SLOTS[0], rx_slots=SLOTS[1]) as region:
        with opened("emulated:loop", region), opened("emulated:sink", region) as port:
            assert port.if_offset > 0
            with attached(client, port, "check") as program:
                program.assert_content()


def test_c_sends_and_python_receives_over_a_cable(client: Path) -> None:
    with opened("emulated:cable=abi") as port, opened("emulated:cable=abi") as far:
        far.wait_link(30)
        with attached(client, port, "send", COUNT, SEED) as program:
            assert received(far, COUNT, lambda: port.poll(0)) == COUNT
            port.flush()  # the program waits until tail shows that all is sent
            program.assert_content()
        assert not port.tx_rings[0].pending
        assert port.stats()["GPTC"] == far.stats()["GPRC"] == COUNT
        assert port.device.faults == far.device.faults == []  # type: ignore[attr-defined]


@pytest.mark.slow
def test_python_sends_and_c_receives_over_a_cable(client: Path) -> None:
    with opened("emulated:cable=abi") as port, opened("emulated:cable=abi") as far:
        far.wait_link(30)
        with attached(client, port, "receive", COUNT, SEED) as program:
            sent = 0
            while sent < COUNT:
                if port.rx_rings[0].space < SLOTS[1] // 2:  # more at once would be lost, as on a real wire
                    sent += far.send([expected(number) for number in range(sent, sent + 100)])
                    far.flush()
                port.rxsync()
                assert program.running
            while program.running:
                port.rxsync()
            program.assert_content()
        assert port.stats()["GPRC"] == COUNT


def test_c_sends_to_itself_over_a_loop_and_two_programs_share_the_port(client: Path) -> None:
    with opened("emulated") as port:
        with (
            attached(client, port, "send", COUNT, SEED) as sender,
            attached(client, port, "receive", COUNT, SEED) as receiver,
        ):
            while sender.running or receiver.running:
                port.rxsync()
                if (
                    not port.tx_rings[0].pending or port.rx_rings[0].space < SLOTS[1] // 4
                ):  # else the receiver may be overrun, as on the wire
                    port.txsync()
            sender.assert_content()
            receiver.assert_content()
        assert port.stats()["GPRC"] == port.stats()["GPTC"] == COUNT


def sync_all(port: Port) -> set[str]:
    """Sync once in every way. Returns the broken rules."""
    broken: set[str] = set()
    for sync in (port.txsync, port.rxsync, lambda: port.forward(port), lambda: port.poll(0), lambda: port.flush(0.01)):
        try:
            sync()
        except RingError as error:
            broken.update(one.rule.name for one in (error, *error.also))
        except TimeoutError:  # of flush(), because the program moves head again and again
            pass
    return broken


@pytest.mark.slow
@pytest.mark.parametrize(("wire", "seed"), [("loop", 1), ("pcap", 2)])
def test_a_port_survives_a_program_that_scribbles_over_its_rings(
    client: Path, tmp_path: Path, wire: str, seed: int
) -> None:
    """Valid buffers have one byte, reserved buffers another: the recording shows that only the first was sent."""
    recording = tmp_path / "sent.pcap"
    broken: set[str] = set()
    with opened("emulated:loop" if wire == "loop" else f"emulated:pcap=,{recording}") as port:
        port.buffers[:2] = 0x11
        port.buffers[2:] = 0xEE
        for ring in (*port.tx_rings, *port.rx_rings):
            ring._words[2] = 1 << 31  # num_slots as an earlier scribbler leaves it
        for again in range(10):  # on a busy machine the program may end before all was seen
            with attached(client, port, "scribble", 1500, seed + 2 * again) as program:
                while program.running:
                    broken |= sync_all(port)
                program.assert_content()
            if broken >= {"HEAD_RANGE", "BUF_IDX", "LEN_ZERO", "LEN_OVER_BUFFER"}:
                break
        assert broken >= {"HEAD_RANGE", "BUF_IDX", "LEN_ZERO", "LEN_OVER_BUFFER"}
        assert port.device.faults == [] and port.link.up  # type: ignore[attr-defined]
        assert port.stats()["GPTC"] > 100
        put_in_order(port)
        port.flush()  # the program's last frames leave before the count starts
        sent_before = port.stats()["GPTC"]
        assert port.send([b"\xff" * 60] * 1000) == 1000
        port.flush()
        assert port.stats()["GPTC"] == sent_before + 1000
    if wire == "pcap":
        assert {byte for frame in read_capture(recording) for byte in frame[:16]} <= {0xEE, 0xFF}


def put_in_order(port: Port) -> None:
    """Repair the slots, as an application would: a sync that fails resets only the indices."""
    rings = (*port.tx_rings, *port.rx_rings)
    slots = sum(ring.num_slots for ring in rings)
    free = iter(range(2, 2 + slots))
    for ring in rings:
        ring.slots["buf_idx"] = [next(free) for _ in range(ring.num_slots)]
        ring.slots["flags"], ring.slots["len"] = 0, 60
        ring._words[2] = ring.num_slots
    sync_all(port)
