"""poll, fileno with select, selectors and asyncio, busy polling: no wake-up is lost, and no wait holds the GIL."""

from __future__ import annotations

import asyncio
import os
import resource
import select
import selectors
import signal
import threading
import time
from collections.abc import Callable, Iterator
from select import POLLIN, POLLOUT

import pytest

from ixrings import Port, PortError, open_port, poll_ports
from ixrings.driver.waiting import settle_receive
from ixrings.driver.wakeups import Vector, Wakeups
from ixrings.hw.emulator import Emulated82599
from ixrings.hw.registers import Registers
from tests.support.driver_watch import Watched
from tests.support.programs import wait_for

A, B = bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b")


def frame(to: bytes, number: int = 0) -> bytes:
    return to + A + b"\x88\xb5" + number.to_bytes(4, "big") + bytes(42)


@pytest.fixture
def pair() -> Iterator[tuple[Port, Port]]:
    with open_port("emulated:cable=wait", mac=A) as a, open_port("emulated:cable=wait", mac=B) as b:
        a.wait_link(30)
        yield a, b


def poll_wait(port: Port) -> None:
    assert port.poll(10) == POLLIN


def busy_wait(port: Port) -> None:
    assert port.poll(10, busy=True) == POLLIN


def select_wait(port: Port) -> None:
    port.rxsync()
    while not port.rx_rings[0].space:
        assert select.select([port], [], [], 10)[0] == [port]
        port.rxsync()


def take_one(port: Port) -> int:
    """Take the next frame. Returns the number in it."""
    ring = port.rx_rings[0]
    number = int.from_bytes(port.buffers[int(ring.slots["buf_idx"][ring.head]), 14:18].tobytes(), "big")
    ring.advance(1)
    return number


@pytest.mark.parametrize(
    ("wait", "rounds"), [(poll_wait, 3_000), (select_wait, 3_000), pytest.param(busy_wait, 200, marks=pytest.mark.slow)]
)
def test_no_wake_up_is_lost_in_a_ping_pong_of_two_threads(
    pair: tuple[Port, Port], wait: Callable[[Port], None], rounds: int
) -> None:
    a, b = pair
    failures: list[BaseException] = []

    def wait_briefly(port: Port) -> None:
        start = time.monotonic()
        wait(port)
        # Without a wake-up, poll looks once a second. A wait of that length has lost a wake-up.
        assert time.monotonic() - start < 0.9

    def answer() -> None:
        try:
            for number in range(rounds):
                wait_briefly(b)
                assert take_one(b) == number
                b.send([frame(A, number)])
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=answer)
    thread.start()
    try:
        for number in range(rounds):
            a.send([frame(B, number)])
            wait_briefly(a)
            assert take_one(a) == number
    finally:
        thread.join(60)
    assert not failures


def test_frames_left_in_the_ring_keep_the_descriptor_readable() -> None:
    with open_port("emulated") as port:
        mac = port.nic.RAL[0].read().to_bytes(4, "little") + port.nic.RAH[0].read().RAH.to_bytes(2, "little")
        fd = port.fileno()
        for round in range(300):
            port.send([frame(mac, n) for n in range(3)])
            for n in range(3):  # take only one frame, then sleep although others are in the ring
                assert select.select([fd], [], [], 30)[0], f"round {round}: slept with frame {n} in the ring"
                port.rxsync()
                select_wait(port)
                assert take_one(port) == n
        assert is_quiet(port)


def is_quiet(port: Port) -> bool:
    """Whether syncs make fileno() unreadable. A pending interrupt may make it readable once more."""
    for _ in range(3):
        port.rxsync()
        port.txsync()
        if not select.select([port], [], [], 0.05)[0]:
            return True
    return False


def test_an_idle_descriptor_is_not_readable_after_a_sync() -> None:
    with open_port("emulated") as port:
        assert not select.select([port], [], [], 0.05)[0]
        port.send([frame(B)])  # the frame is not for this port: it is sent, but not received
        port.flush(30)
        assert is_quiet(port)


def test_a_frame_that_arrives_just_before_the_messages_are_taken_is_seen() -> None:
    with Emulated82599(manual=True) as nic, open_port(nic, promiscuous=True, link_timeout=0) as port:
        fd = port.fileno()
        nic.step(ns=1_000_000)
        port.rxsync()
        # rxsync has looked. A frame arrives now, before messages are taken and vectors armed.
        assert port.rx_rings[0].space == 0
        port.send([frame(B, 7)])
        nic.step(ns=1_000_000)
        settle_receive(port._open())
        assert select.select([fd], [], [], 0)[0]
        assert take_one(port) == 7


def test_waiting_for_room_does_not_leave_the_descriptor_readable() -> None:
    with open_port("emulated@paced:sink", tx_slots=64) as port:
        port.fileno()
        for _ in range(20):
            port.send([bytes(1500)] * 200)  # waits for room by the TX interrupt
            port.flush(30)
            quiet = 0
            for _ in range(2000):
                port.rxsync()  # from here on the program only receives
                quiet = quiet + 1 if not select.select([port], [], [], 0.005)[0] else 0
                if quiet == 2:
                    break
            assert quiet == 2


def test_a_full_ring_that_gets_room_wakes_a_select() -> None:
    with open_port("emulated@paced:sink", tx_slots=64) as port:
        port.fileno()
        ring = port.tx_rings[0]
        for _ in range(50):
            while ring.space:
                span = ring.reserve(64)
                span.len[:] = 1500
                ring.advance(len(span))
                port.txsync()
            while not port.tx_rings[0].space:
                assert select.select([port], [], [], 30)[0]
                port.txsync()


def test_poll_also_keeps_the_descriptor_in_step_with_the_rings() -> None:
    with open_port("emulated") as port:
        mac = bytes.fromhex(port.mac.replace(":", ""))
        fd = port.fileno()
        for _ in range(200):
            port.send([frame(mac, 0), frame(mac, 1)])
            assert port.poll(30) == POLLIN  # takes the interrupt but not the frames
            assert select.select([fd], [], [], 30)[0]
            while port.poll(0.0):
                take_one(port)
                if not port.rx_rings[0].space:
                    break
            assert port.poll(0, POLLOUT) == POLLOUT


def test_asyncio_sees_every_frame() -> None:
    async def receive(port: Port, count: int) -> list[int]:
        loop, seen, done = asyncio.get_running_loop(), list[int](), asyncio.Event()

        def readable() -> None:
            port.rxsync()
            while port.rx_rings[0].space:
                seen.append(take_one(port))
            if len(seen) == count:
                done.set()

        loop.add_reader(port.fileno(), readable)
        try:
            for number in range(0, count, 4):
                port.send([frame(mac, n) for n in range(number, number + 4)])
                await asyncio.sleep(0)
                while len(seen) + 200 < number:
                    await asyncio.sleep(0.001)
            await asyncio.wait_for(done.wait(), 30)
        finally:
            loop.remove_reader(port.fileno())
        return seen

    with open_port("emulated") as port:
        mac = bytes.fromhex(port.mac.replace(":", ""))
        assert asyncio.run(receive(port, 2000)) == list(range(2000))


def test_selectors_distinguish_two_ports(pair: tuple[Port, Port]) -> None:
    a, b = pair
    with selectors.DefaultSelector() as selector:
        for port in pair:
            selector.register(port, selectors.EVENT_READ)
            port.rxsync()
        b.send([frame(A)])
        ready = [key.fileobj for key, _ in selector.select(30)]
        assert ready == [a]


def naps_during_a_wait(port: Port, busy: bool) -> int:
    """How often another thread sleeps for 1 ms while this one waits for 0.5 s."""
    naps = 0
    stop = threading.Event()

    def nap() -> None:
        nonlocal naps
        while not stop.is_set():
            time.sleep(0.001)
            naps += 1

    thread = threading.Thread(target=nap)
    thread.start()
    try:
        assert port.poll(0.5, busy=busy) == 0
    finally:
        stop.set()
        thread.join()
    return naps


@pytest.mark.parametrize("busy", [False, True])
def test_a_waiting_thread_does_not_hold_the_gil(busy: bool) -> None:
    """If each of 25 spins held the GIL, there would be about 25 naps. On a busy machine a try may have few."""
    with open_port("emulated") as port:
        assert any(naps_during_a_wait(port, busy) > 60 for _ in range(5))


@pytest.mark.parametrize("busy", [False, True])
def test_poll_returns_after_its_timeout(busy: bool) -> None:
    with open_port("emulated") as port:
        for timeout in (0.0, 0.03, 0.1):
            start = time.monotonic()
            assert port.poll(timeout, busy=busy) == 0
            assert timeout <= time.monotonic() - start + 0.001 < timeout + 20


@pytest.mark.parametrize("busy", [False, True])
def test_ctrl_c_ends_a_wait_without_limit(busy: bool) -> None:
    with open_port("emulated") as port:
        timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            port.poll(None, busy=busy)
        assert time.monotonic() - start < 20
        timer.join()
        assert port.poll(0) == 0  # the port still works


def test_poll_sends_what_is_on_the_tx_rings() -> None:
    with open_port("emulated:sink") as port:
        ring = port.tx_rings[0]
        span = ring.reserve(5)
        span.len[:] = 60
        ring.advance(5)
        assert port.poll(0.01) == 0
        port.flush(30)
        assert port.stats()["GPTC"] == 5


def test_poll_for_room_waits_while_the_ring_is_full() -> None:
    with Emulated82599("sink", manual=True) as nic, open_port(nic, link_timeout=0, tx_slots=64) as port:
        assert port.poll(0, POLLIN | POLLOUT) == POLLOUT
        ring = port.tx_rings[0]
        ring.slots["len"][:] = 60
        ring.advance(63)
        assert port.poll(0.02, POLLOUT) == 0
        nic.step(frames=40)  # the NIC reports its head every 32 descriptors
        assert port.poll(30, POLLOUT) == POLLOUT
        assert ring.space == 32


def test_an_interrupt_comes_once_until_it_is_armed_again() -> None:
    with (
        Emulated82599(manual=True) as nic,
        open_port(nic, promiscuous=True, interrupt_interval_us=0, link_timeout=0) as port,
    ):
        port.fileno()
        for _ in range(5):
            port.send([frame(B)])
            nic.step(ns=100_000)
        assert os.eventfd_read(nic._vectors.eventfds[0]) == 1
        port.rxsync()
        port.rx_rings[0].advance(5)
        port.rxsync()
        port.send([frame(B)])
        nic.step(ns=100_000)
        assert port.poll(0) == POLLIN


def test_interrupts_keep_their_interval() -> None:
    with (
        Emulated82599(manual=True) as nic,
        open_port(nic, promiscuous=True, interrupt_interval_us=100, link_timeout=0) as port,
    ):
        fd, ring = port.fileno(), port.rx_rings[0]
        messages = 0
        nic.step(ns=1_000_000)
        for _ in range(100):  # a frame every 10 us, each taken immediately: 1 ms in total
            port.send([frame(B)])
            nic.step(ns=10_000)
            messages += bool(select.select([fd], [], [], 0)[0])
            port.rxsync()
            ring.advance(ring.space)
            port.rxsync()
        assert 5 <= messages <= 15


def test_a_busy_ring_costs_no_register_access() -> None:
    inner = Emulated82599("source")
    device = Watched(inner)
    with inner, open_port(device) as port:
        port.fileno()
        assert port.poll(30)
        ring, busy = port.rx_rings[0], 0
        while busy < 300:
            ring.advance(min(ring.space, 1))
            before = device.accesses
            port.rxsync()
            if ring.space:
                assert device.accesses == before
                busy += 1
            else:
                assert port.poll(30)


def test_one_thread_sends_while_another_receives_on_the_same_port() -> None:
    with open_port("emulated", tx_slots=64, rx_slots=64, drop=False) as port:
        mac, count = bytes.fromhex(port.mac.replace(":", "")), 20_000
        failures: list[BaseException] = []
        taken = 0

        def frames() -> Iterator[bytes]:
            for number in range(count):
                while number - taken > 2000:  # the capacity of packet buffer and ring
                    time.sleep(0.0005)
                yield frame(mac, number)

        def send() -> None:
            try:
                port.send(frames())
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=send)
        thread.start()
        for received in port.recv(30):
            assert int.from_bytes(received[14:18], "big") == taken
            taken += 1
            if taken == count:
                break
        thread.join(30)
        assert not failures
        assert taken == count


@pytest.mark.parametrize("count", [1000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_two_ports_work_in_two_threads_each_while_others_look_and_change_settings(count: int) -> None:
    """README: one thread sends on a port, another receives, any thread reads, and one changes settings."""
    done, failures, threads = threading.Event(), list[BaseException](), list[threading.Thread]()

    def start(run: Callable[[], object]) -> None:
        def guarded() -> None:
            try:
                run()
            except BaseException as error:
                failures.append(error)
                done.set()

        threads.append(threading.Thread(target=guarded))
        threads[-1].start()

    def use(port: Port, mac: bytes, looks: list[int]) -> None:
        taken = 0

        def frames() -> Iterator[bytes]:
            for number in range(count):
                while number - taken > 2000 and not done.is_set():
                    time.sleep(0.0005)
                yield frame(mac, number)

        def receive() -> None:
            nonlocal taken
            for received in port.recv(20):
                assert int.from_bytes(received[14:18], "big") == taken
                taken += 1
                if taken == count or done.is_set():
                    return
            raise AssertionError(f"{taken} of {count} frames arrived")

        def look() -> None:
            while not done.is_set():
                assert port.link.up and port.stats()["GPRC"] <= count and port.nic.STATUS.read()
                assert "up 10 Gbit/s" in repr(port)
                looks[0] += 1

        def change() -> None:
            while not done.is_set():
                port.vlan.filter = {5}
                port.vlan.strip = not port.vlan.strip
                port.vlan.filter = None

        for run in (lambda: port.send(frames()), receive, look, look, change):
            start(run)

    with open_port("emulated", drop=False) as one, open_port("emulated", drop=False) as two:
        seen = [[0], [0]]
        for port, looks in zip((one, two), seen):
            use(port, bytes.fromhex(port.mac.replace(":", "")), looks)
        for thread in (each for first in (0, 5) for each in threads[first : first + 2]):
            thread.join(60)
        wait_for(lambda: failures or min(looks[0] for looks in seen), "no thread looked at a port")
        done.set()
        for thread in threads:
            thread.join(20)
        assert not failures
        assert min(looks[0] for looks in seen) > 0
        assert [port.stats()["GPRC"] for port in (one, two)] == [count, count]


def test_other_causes_do_not_keep_the_descriptor_readable() -> None:
    with Emulated82599() as nic, open_port(nic) as port:
        port.rxsync()
        fd = port.fileno()
        nic.set_link(False)
        nic.set_link(True)
        deadline = time.monotonic() + 30
        while select.select([fd], [], [], 0.05)[0]:
            port.rxsync()
            assert time.monotonic() < deadline
        assert Registers(nic).EIMS.read().LSC  # the next change is reported too


@pytest.mark.slow
def test_several_ports_are_polled_together_sleeping_and_spinning(pair: tuple[Port, Port]) -> None:
    far, near = pair
    with open_port("emulated:sink") as other:
        for busy in (False, True):
            assert poll_ports([other, near], 0.05, busy=busy) == []
            sender = threading.Timer(0.1, far.send, [[frame(B)]])
            sender.start()
            assert poll_ports([other, near], 5, busy=busy) == [(near, POLLIN)]
            sender.join()
            assert list(near.recv(0.05)) == [frame(B)]
        assert poll_ports([other, near], 0, POLLIN | POLLOUT) == [(other, POLLOUT), (near, POLLOUT)]
        before = time.thread_time()
        poll_ports([other, near], 0.5)
        assert time.thread_time() - before < 0.2, "it did not sleep"


def test_several_ports_are_waited_for_beyond_1024_descriptors(pair: tuple[Port, Port]) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, limits[1]), limits[1]))
    held = [os.dup(0) for _ in range(1100)]
    try:
        with open_port("emulated:sink") as late:
            assert poll_ports([*pair, late], 0.05) == []
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_polling_no_port_is_refused() -> None:
    with pytest.raises(PortError, match="one port or more"):
        poll_ports([], 0.01)


class Recorded(Wakeups):
    """Vectors of a NIC that remembers which of them were unmasked."""

    def __init__(self, vectors: list[Vector]) -> None:
        super().__init__(vectors, {})
        self.unmasked: list[int] = []

    def unmask(self, vectors: int) -> None:
        self.unmasked.append(vectors)


def test_a_vector_whose_message_came_while_nobody_used_it_is_armed_again() -> None:
    vector = Vector(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC), bit=4)
    wakeups = Recorded([vector])
    try:
        assert wakeups.arm()
        wakeups.use([])
        os.eventfd_write(vector.fd, 1)
        assert wakeups.drain() == 4
        wakeups.use([vector])
        assert wakeups.arm()
        assert wakeups.unmasked == [4, 4]
    finally:
        wakeups.close()
        os.close(vector.fd)
