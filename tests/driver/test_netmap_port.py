"""Ports of the daemon in Python: the same Port, whose rings another process syncs."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from select import POLLOUT

import pytest

from ixrings import NetmapPort, Port, PortClosed, PortError, PortNameError, open_port, open_ports, parse_port_name
from ixrings import poll_ports as poll_together
from ixrings.driver.netmap_names import NetmapName, Part
from ixrings.rings import RingError, Rule
from tests.driver.test_forked import in_child
from tests.support.netmap_client import RX, RunningDaemon, daemon
from tests.support.programs import ENVIRONMENT, command, wait_for

FRAME = bytes.fromhex("ffffffffffff02000000000188b5") + bytes(46)
FRAMES = [FRAME[:-1] + bytes([number]) for number in range(20)]
PATIENCE_S = 30


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """ix0 is a loop with two queues, ix1 a source, ix2 a sink."""
    folder = tmp_path_factory.mktemp("daemon")
    ports = ("ix0=emulated:loop", "ix1=emulated:source", "ix2=emulated:sink")
    with daemon(folder, *ports, "--tx-queues", "2", "--rx-queues", "2", "--slots", "128") as running:
        yield running
        running.wait_until_nobody_has_buffers()
        running.end()


@pytest.fixture
def running(shared: RunningDaemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningDaemon]:
    """The daemon where open_port() looks for it. After the test nobody has a buffer of it."""
    monkeypatch.setenv("IXRINGS_SOCKET", shared.path)
    yield shared
    shared.wait_until_nobody_has_buffers()


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningDaemon]:
    """A daemon that the test may kill: ix0 is a loop."""
    with daemon(tmp_path, "ix0=emulated:loop", "--slots", "64") as running:
        monkeypatch.setenv("IXRINGS_SOCKET", running.path)
        yield running


@pytest.mark.parametrize(("text", "expected"), [
    ("netmap:ix0", NetmapName("ix0")),
    ("netmap:ix0-2/R", NetmapName("ix0", ring=2, flags=frozenset("R"))),
    ("netmap:ix0^", NetmapName("ix0", Part.HOST)),
    ("netmap:ix0^1", NetmapName("ix0", Part.HOST, 1)),
    ("netmap:ix0*/x", NetmapName("ix0", Part.BOTH, flags=frozenset("x"))),
    ("netmap:ix0{1", NetmapName("ix0{1")),
    ("netmap:y}ab/xT@1", NetmapName("y}ab", flags=frozenset("xT"), mem_id=1)),
    ("netmap:ix0@2/rt", NetmapName("ix0", flags=frozenset("rt"), mem_id=2)),
    ("vale0:a", NetmapName("vale0:a")),
    ("netmap:vale0:a{p", NetmapName("vale0:a{p")),
    ("netmap:ix0@share=ix1", NetmapName("ix0", share="ix1")),
    ("netmap:ix0@share:port=ix1", NetmapName("ix0", share="ix1")),
    ("netmap:ix0@conf:host-rings=4,tx_slots=512",
     NetmapName("ix0", counts=(("host_tx_rings", 4), ("host_rx_rings", 4), ("tx_slots", 512)))),
])  # fmt: skip
def test_names_follow_netmaps_grammar(text: str, expected: NetmapName) -> None:
    name = parse_port_name(text)
    assert name.netmap == expected
    assert (name.target, name.queue) == (expected.port, expected.ring if expected.part is Part.NIC else None)


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("netmap:", "netmap:ix0-2/R"),
        ("netmap:ix.0", "netmap:ix0-2/R"),
        ("netmap:ix0{", "netmap:ix0-2/R"),
        ("netmap:ix0-", "netmap:ix0-2/R"),
        ("netmap:ix0-4095", "0 to 4094"),
        ("netmap:ix0/", "R (receive only)"),
        ("netmap:ix0/RT", "together leave no ring"),
        ("netmap:ix0/z", "write /tz"),
        ("netmap:ix0@0", "1 to 65535"),
        ("netmap:ix0@1@2", "1 to 65535"),
        ("netmap:ix0@paced", "@share=NAME"),
        ("netmap:ix0@conf:cards=2", "host-rings"),
        ("netmap:ix0@conf:slots=4,tx-slots=5", "give each number once"),
        ("netmap:ix0@extmem=file", "leave @extmem out"),
        ("netmap:" + "i" * 64, "at most 63"),
    ],
)
def test_a_name_outside_the_grammar_is_refused_with_what_is_allowed(text: str, allowed: str) -> None:
    with pytest.raises(PortNameError) as error:
        parse_port_name(text)
    assert allowed in str(error.value)


def test_a_port_of_the_daemon_sends_receives_and_tells_of_its_nic(running: RunningDaemon) -> None:
    with open_port("netmap:ix0") as port:
        assert isinstance(port, Port) and isinstance(port, NetmapPort)
        assert [len(port.tx_rings), len(port.rx_rings)] == [2, 2]
        assert port.poll(0) == 0 and port.poll(0, POLLOUT) == POLLOUT
        before = port.stats()["GPRC"]
        assert port.send(FRAMES, ring=1) == 20
        port.flush(PATIENCE_S)
        frames = port.recv(PATIENCE_S)
        assert [next(frames) for _ in FRAMES] == FRAMES
        assert port.stats()["GPRC"] - before == 20
        assert port.link.up and port.wait_link().up and port.mtu == 1500
        assert port.mac.count(":") == 5
        assert repr(port) == f"<Port netmap:ix0, up 10 Gbit/s, {port.mac}, 2 TX 2 RX rings>"
        port.promiscuous = True
        assert port.promiscuous
        port.promiscuous = False
    with pytest.raises(PortClosed, match="netmap:ix0 is closed"):
        port.txsync()


def test_a_port_may_have_one_queue_one_direction_and_extra_buffers(running: RunningDaemon) -> None:
    with open_port("netmap:ix0-1/R", extra_bufs=10) as port:
        assert port.tx_rings == [] and [ring.ringid for ring in port.rx_rings] == [1]
        extra = port.extra_bufs
        assert len(set(extra)) == 10
        port.buffers[extra[0], 4:8] = 7  # the first 32 bits are the list
        assert port.extra_bufs == extra


def test_ports_of_one_daemon_forward_without_a_copy(running: RunningDaemon) -> None:
    with open_ports("netmap:ix1", "netmap:ix2", promiscuous=True) as (source, sink):
        assert source.region.address == sink.region.address
        assert source.poll(PATIENCE_S)
        ring = next(ring for ring in source.rx_rings if ring.space)
        received = ring.reserve(1).buf_idx[0]
        assert sink.tx_rings[0].space == 127
        assert source.forward(sink, 1)
        assert received in (sink.tx_rings[0].slots["buf_idx"][0], sink.tx_rings[1].slots["buf_idx"][0])
        moved = 0
        while moved < 2000:
            moved += source.forward(sink) or poll_together([source], PATIENCE_S)[0][1] * 0
        sink.flush(PATIENCE_S)


def test_ports_in_other_memory_are_not_forwarded_to(running: RunningDaemon) -> None:
    with open_port("netmap:ix1") as source, open_port("emulated:sink") as sink:
        for one, other in ((source, sink), (sink, source)):
            with pytest.raises(ValueError, match="in different regions"):
                one.forward(other)
    with pytest.raises(PortError, match="share it only with each other"), open_ports("netmap:ix1", "emulated:sink"):
        pass


def test_each_thread_has_a_queue_of_its_own(running: RunningDaemon) -> None:
    sent = [0, 0]

    def send(port: Port, index: int) -> None:
        queue = port.queue(index)
        ring = queue.tx_ring
        assert ring is not None
        while sent[index] < 500 and queue.poll(PATIENCE_S, POLLOUT):
            count = min(ring.space, 500 - sent[index])
            ring.advance(count)
            sent[index] += count
            queue.txsync()

    with open_port("netmap:ix2") as port:
        for ring in port.tx_rings:
            ring.slots["len"] = 60
        assert port.queue(1) is port.queue(1)
        threads = [threading.Thread(target=send, args=(port, index)) for index in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sent == [500, 500]
        with pytest.raises(PortError, match="has no queue 2; it has 0, 1"):
            port.queue(2)
        queue = port.queue(1)
    with pytest.raises(PortClosed):
        queue.txsync()


def test_one_thread_sends_while_another_receives(running: RunningDaemon) -> None:
    received: list[bytes] = []

    def receive(port: Port) -> None:
        for _, frame in zip(range(600), port.recv(PATIENCE_S)):
            received.append(frame)

    with open_port("netmap:ix0") as port, ThreadPoolExecutor() as pool:
        done = pool.submit(receive, port)
        for count in range(30):
            port.send(FRAMES, PATIENCE_S)
            # The ring has 128 slots, and the NIC drops what finds no room.
            wait_for(lambda sent=20 * count: len(received) >= sent - 80, "frames do not come", PATIENCE_S)  # type: ignore[misc]
        done.result(PATIENCE_S)
    assert received == 30 * FRAMES


def test_close_ends_the_wait_of_another_thread(running: RunningDaemon) -> None:
    with open_port("netmap:ix0") as port:
        closer = threading.Timer(0.1, port.close)
        closer.start()
        with pytest.raises(PortClosed, match="port netmap:ix0 is closed"):
            port.poll()
        closer.join()


def test_the_descriptor_is_readable_while_frames_wait_and_not_later(running: RunningDaemon) -> None:
    with open_port("netmap:ix0") as port:
        port.fileno()
        for _ in range(3):
            port.send(FRAMES[:5])
            got = 0
            while got < 5:
                assert select.select([port], [], [], PATIENCE_S)[0]
                got += len(list(port.recv(0)))
            assert got == 5
            assert port.poll(0) == 0
            assert not select.select([port], [], [], 0)[0]


def test_the_first_frame_wakes_a_program_that_waits_each_time(running: RunningDaemon) -> None:
    late = 0
    with running.client() as client:
        client.register("ix0")
        for _ in range(10):
            assert client.poll(RX, 0) == 0
            client.send([FRAME])
            start = time.monotonic()
            assert select.select([client.fds[4]], [], [], PATIENCE_S)[0]
            late += time.monotonic() - start > 0.9  # the daemon looks after a second, even if an interrupt is lost
            wait_for(lambda: client.receive(0) + client.receive(1), "the frame has not come", PATIENCE_S)
    assert late < 5


def test_asyncio_waits_for_frames(running: RunningDaemon) -> None:
    async def receive(port: Port) -> list[bytes]:
        loop, frames = asyncio.get_running_loop(), list[bytes]()
        done = loop.create_future()

        def take() -> None:
            frames.extend(port.recv(0))
            if len(frames) == len(FRAMES) and not done.done():
                done.set_result(frames)

        loop.add_reader(port.fileno(), take)
        try:
            for frame in FRAMES:
                port.send([frame])
                await asyncio.sleep(0)
            return await asyncio.wait_for(done, PATIENCE_S)
        finally:
            loop.remove_reader(port.fileno())

    with open_port("netmap:ix0") as port:
        assert asyncio.run(receive(port)) == FRAMES


@pytest.mark.parametrize("use", [
    lambda port: port.nic, lambda port: port.filters, lambda port: port.clock, lambda port: port.rss,
    lambda port: port.vlan, lambda port: port.sfp, lambda port: port.device, lambda port: port.share(0),
    lambda port: port.set_multicast([]), lambda port: port.identify(0.1),
])  # fmt: skip
def test_what_only_the_owner_of_the_nic_can_do_is_refused(
    running: RunningDaemon, use: Callable[[Port], object]
) -> None:
    with open_port("netmap:ix0") as port:
        with pytest.raises(PortError, match=f"the daemon, process {running.process.pid}, has the NIC"):
            use(port)


def test_options_of_the_owner_are_refused(running: RunningDaemon) -> None:
    with pytest.raises(PortError, match="loopback is chosen by the program that opens the NIC, which is the daemon"):
        open_port("netmap:ix0", loopback=True)
    with pytest.raises(
        PortError, match="has 2 rings, and rx_queues=3 asks for more. Start the daemon with --rx-queues 3"
    ):
        open_port("netmap:ix0", rx_queues=3)


def test_a_broken_rule_is_reported_with_its_values_and_the_ring_goes_on(running: RunningDaemon) -> None:
    with open_port("netmap:ix0") as port:
        port.tx_rings[1].head = 500
        with pytest.raises(
            RingError, match="netmap:ix0 TX ring 1: head is 500, but the ring's slots are 0..127"
        ) as error:
            port.txsync()
        assert error.value.rule is Rule.HEAD_RANGE and error.value.values["value"] == 500
        port.txsync()
        port.rx_rings[0].cur = 1
        with pytest.raises(RingError, match="netmap:ix0 RX ring 0: cur is 1, past the tail"):
            port.poll(0)
        assert port.send(FRAMES) == 20
        assert len([frame for _, frame in zip(FRAMES, port.recv(PATIENCE_S))]) == 20


def test_refusals_of_the_daemon_are_sentences(running: RunningDaemon) -> None:
    with pytest.raises(PortError, match="No such device or address.*no port 'ix9'; this daemon has ix0, ix1, ix2"):
        open_port("netmap:ix9")
    with open_port("netmap:ix0-0/x"):
        with pytest.raises(PortError, match=f"ring 0 is in use exclusively. Process {os.getpid()} has"):
            open_port("netmap:ix0")
    with pytest.raises(PortError, match="refuses it .Invalid argument.: ix0 has no ring 7"):
        open_port("netmap:ix0-7")


def test_a_monitor_sees_what_a_program_sends_and_receives_and_waits_for_the_program(running: RunningDaemon) -> None:
    with pytest.raises(PortError, match="no program uses ix0 now, so there is nothing to watch; start it first"):
        open_port("netmap:ix0/r", link_timeout=0.0)
    with ThreadPoolExecutor() as pool:
        monitor = pool.submit(open_port, "netmap:ix0/rt", link_timeout=PATIENCE_S)
        with open_port("netmap:ix0") as port, monitor.result(PATIENCE_S) as watching:
            port.send(FRAMES[:3])
            assert [frame for _, frame in zip(range(3), port.recv(PATIENCE_S))] == FRAMES[:3]
            seen = [frame for _, frame in zip(range(6), watching.recv(PATIENCE_S))]
            assert sorted(seen) == sorted(2 * FRAMES[:3])
            with pytest.raises(ValueError, match="in different regions"):  # a monitor that copies has its own memory
                watching.forward(port)


@pytest.mark.parametrize("busy", [False, True])
def test_a_monitor_that_waits_is_told_when_the_program_that_it_watches_ends(running: RunningDaemon, busy: bool) -> None:
    ended = "netmap:ix0/r has ended: the last program that used ix0 has closed it. Open the monitor again"
    with ThreadPoolExecutor() as pool, ExitStack() as stack:
        port = stack.enter_context(open_port("netmap:ix0"))
        watching = stack.enter_context(open_port("netmap:ix0/r", busy_poll=busy))
        port.send(FRAMES[:3])
        assert next(port.recv(PATIENCE_S)) == FRAMES[0]
        wait_for(lambda: watching.poll(0) and watching.rx_rings[0].space == 3, "the monitor shows nothing")
        port.close()
        assert [frame for _, frame in zip(range(3), watching.recv(PATIENCE_S))] == FRAMES[:3]
        with pytest.raises(PortClosed, match=ended):
            next(watching.recv(PATIENCE_S))
        with pytest.raises(PortClosed, match=ended):
            pool.submit(watching.poll, None).result(PATIENCE_S)


def test_pipes_connect_programs_and_move_buffers(running: RunningDaemon) -> None:
    with open_ports("netmap:ix0{1", "netmap:ix0}1") as (one, other):
        assert one.region.address == other.region.address
        assert one.link.up and one.mac != other.mac and one.stats()["GPRC"] == 0
        sent = one.tx_rings[0].slots["buf_idx"][0]
        one.send(FRAMES)
        assert [frame for _, frame in zip(FRAMES, other.recv(PATIENCE_S))] == FRAMES
        other.send(FRAMES[:1])
        assert next(one.recv(PATIENCE_S)) == FRAMES[0]
        assert other.rx_rings[0].slots["buf_idx"][0] == sent


def test_ports_of_a_switch_are_ports(running: RunningDaemon) -> None:
    with open_port("vale0:a") as one, open_port("netmap:vale0:b") as other:
        one.send(FRAMES)
        assert [frame for _, frame in zip(FRAMES, other.recv(PATIENCE_S))] == FRAMES


def test_without_a_daemon_the_error_says_how_to_start_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("IXRINGS_SOCKET", str(tmp_path / "nobody.sock"))
    with pytest.raises(PortError, match="nobody.sock: no daemon listens there. Start one: ixrings daemon ix0="):
        open_port("netmap:ix0")


def test_a_forked_child_leaves_the_port_to_its_parent_and_opens_its_own(running: RunningDaemon) -> None:
    def send() -> int:
        with open_port("netmap:ix2") as port:
            return port.send(FRAMES)

    with open_port("netmap:ix0") as port:
        assert "PortError: port netmap:ix0 was opened before a fork" in in_child(port.txsync)
        assert in_child(send) == "20"
        port.send(FRAMES)
        assert next(port.recv(PATIENCE_S)) in FRAMES
    wait_for(lambda: not running.status()["handles"], "the handle is still there: a child has its descriptors")


def test_a_sleeping_program_learns_at_once_that_the_daemon_was_killed(own: RunningDaemon) -> None:
    with open_port("netmap:ix0") as port:
        killer = threading.Timer(0.1, own.process.kill)
        killer.start()
        start = time.monotonic()
        with pytest.raises(PortClosed, match=f"the daemon, process {own.process.pid}, has ended"):
            port.poll()
        assert time.monotonic() - start < PATIENCE_S
        killer.join()
        for call in (
            port.txsync,
            port.rxsync,
            lambda: port.link,
            lambda: port.send(FRAMES),
            lambda: port.forward(port),
        ):
            with pytest.raises(PortClosed):
                call()


@pytest.mark.slow
def test_a_daemon_that_ends_in_order_ends_its_ports(own: RunningDaemon) -> None:
    with open_port("netmap:ix0") as port:
        own.end()
        with pytest.raises(PortClosed, match="has ended|has closed the connection|has taken the port away"):
            port.rxsync()


WAITS = """
import signal, sys
from ixrings import open_port
with open_port("netmap:ix0") as port:
    print("open", flush=True)
    sys.stdin.readline()
    try:
        port.rxsync()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.mark.slow
def test_ctrl_c_ends_a_sync_that_a_stopped_daemon_does_not_answer(own: RunningDaemon) -> None:
    program = subprocess.Popen(
        [sys.executable, "-c", WAITS], env=ENVIRONMENT | {"IXRINGS_SOCKET": own.path}, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert program.stdin and program.stdout
    with program:
        assert program.stdout.readline() == "open\n"
        own.process.send_signal(signal.SIGSTOP)
        program.stdin.write("\n")
        program.stdin.flush()
        time.sleep(0.5)  # it waits now, or soon
        program.send_signal(signal.SIGINT)
        assert program.stdout.readline() == "interrupted\n"
        own.process.send_signal(signal.SIGCONT)


def run_example(running: RunningDaemon, name: str, *arguments: object) -> str:
    """Run an example with its daemon. Returns what it printed."""
    done = subprocess.run(
        command(name, *arguments), env=ENVIRONMENT | {"IXRINGS_SOCKET": running.path}, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.slow
def test_the_examples_take_ports_of_the_daemon(running: RunningDaemon, tmp_path: Path) -> None:
    file = tmp_path / "source.pcap"
    assert "sent 5,000 frames" in run_example(running, "pktgen", "-i", "netmap:ix2", "-f", "tx", "-n", 5000)
    assert "received 5,000 frames" in run_example(running, "pktgen", "-i", "netmap:ix1", "-f", "rx", "-n", 5000)
    assert "received 1,000 frames" in run_example(running, "capture", "-i", "netmap:ix1", "-w", file, "-c", 1000)
    assert "sent 1,000 frames" in run_example(running, "replay", "-i", "netmap:ix2", file, "--flat-out")
