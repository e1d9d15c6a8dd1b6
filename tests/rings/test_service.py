"""The service thread and its clients: syncs, polls, sleep, and programs that stop, die or scribble."""

from __future__ import annotations

import os
import random
import select
import signal
import socket
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from ixrings.rings import Region, Rule
from ixrings.rings.queue import ATTENTION_DRIVER, ATTENTION_VIOLATION
from ixrings.rings.service import (
    EVENT_ERROR,
    EVENT_RX,
    EVENT_TX,
    NO_TX_POLL,
    Handle,
    Kring,
    Reason,
    SoftQueue,
)
from tests.support.rings_nic import Bench
from tests.support.service_daemon import (
    PATIENCE_S,
    Client,
    Daemon,
    build_client,
    finished,
    handle_of,
    started,
    wait_for,
)

SLOTS = 256
ENXIO = 6


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_client(tmp_path_factory.mktemp("service"))


@pytest.fixture
def bench() -> Bench:
    return Bench(SLOTS)


def readable(fd: int, timeout_s: float = 0) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def wake_rx(handle: Handle) -> int:
    return handle.descriptors[3]


def wake_tx(handle: Handle) -> int:
    return handle.descriptors[4]


def receive(daemon: Daemon, bench: Bench, handle: Handle, count: int, *, armed: bool) -> None:
    """The NIC receives `count` frames whose first byte counts up; armed: each when the program waits for it."""
    rx = bench.rx

    def waits(number: int) -> bool:
        return rx.ring.head == number % SLOTS and handle.armed == EVENT_RX

    for number in range(count):
        if armed:
            wait_for(partial(waits, number), f"the program waits for frame {number}")
        wait_for(lambda: rx.nic_space, f"a descriptor for frame {number}")
        bench.region.buffers[rx.buffer_of(rx.rdh), 0] = number % 256
        rx.nic_receives(60)
        daemon.interrupt()


# ---- syncs ----


def test_a_sync_of_another_process_reaches_the_nic(program: Path, bench: Bench) -> None:
    handle = handle_of(bench)
    bench.tx.put(60, 61, 62)
    with Daemon([handle]), started(program, bench.region, bench.interface, handle, "sync", "tx", 1) as process:
        finished(process)
    assert (bench.tx.tdt, bench.tx.queue.packets, handle.syncs) == (3, 3, 1)


def test_two_threads_of_one_handle_sync_its_directions_at_once(program: Path, bench: Bench) -> None:
    handle = handle_of(bench)
    with Daemon([handle]) as daemon, started(
        program, bench.region, bench.interface, handle, "both", 2000
    ) as process:  # fmt: skip
        finished(process)
        assert daemon.service.state.syncs == handle.syncs <= 4000
    assert handle.state.tx_done == handle.state.rx_done == 2000


def test_each_of_several_processes_on_one_handle_gets_its_answer(program: Path, bench: Bench) -> None:
    handle = handle_of(bench)
    command = (program, bench.region, bench.interface, handle, "sync", "rx", 1000)
    with Daemon([handle]), started(*command) as first, started(*command) as second, started(*command) as third:
        for process in (first, second, third):
            finished(process)
    assert handle.state.rx_done == 3000


def test_a_tail_moves_only_in_a_call_of_its_program(bench: Bench) -> None:
    handle = handle_of(bench)
    with Daemon([handle]) as daemon:
        client = Client(handle)
        assert client.poll(EVENT_RX) == 0
        bench.rx.nic_receives(60)
        daemon.interrupt()
        wait_for(lambda: not handle.armed, "the service sees the frame")
        assert bench.rx.ring.space == 0
        assert client.rxsync() == 0
        assert bench.rx.ring.space == 1
        client.close()


def test_an_rxsync_stamps_the_ring_unless_told_otherwise(bench: Bench) -> None:
    kring = Kring.nic(bench.rx.queue)
    handle = Handle([], [kring])
    with Daemon([handle]) as daemon:
        client = Client(handle)
        before = time.time_ns()
        client.rxsync()
        stamped = bench.rx.ring.ts
        assert before - 1000 <= stamped <= time.time_ns()
        daemon.call(lambda: setattr(kring, "stamp", 0))
        client.rxsync()
        assert bench.rx.ring.ts == stamped
        client.close()


def test_what_is_sent_to_a_null_ring_vanishes(bench: Bench) -> None:
    tx, rx = (SoftQueue(ring, bench.region) for ring in (bench.interface.tx_rings[0], bench.interface.rx_rings[0]))
    handle = Handle([Kring.null(tx, tx=True)], [Kring.null(rx, tx=False)])
    with Daemon([handle]):
        client = Client(handle)
        for _ in range(3):
            bench.tx.put(*[60] * len(bench.tx.ring.reserve(SLOTS)))
            assert (client.txsync(), client.rxsync()) == (0, 0)
            assert not bench.tx.ring.pending
        assert client.poll(EVENT_RX | EVENT_TX) == EVENT_TX
        client.close()
    assert tx.packets > SLOTS and rx.packets == 0


# ---- poll ----


def test_poll_reports_what_is_ready_and_arms_the_rest(bench: Bench) -> None:
    handle = handle_of(bench)
    with Daemon([handle]) as daemon:
        client = Client(handle)
        assert client.poll(EVENT_RX | EVENT_TX) == EVENT_TX
        assert handle.armed == EVENT_RX and not readable(wake_rx(handle))
        bench.rx.nic_receives(60)
        daemon.interrupt()
        assert readable(wake_rx(handle), PATIENCE_S) and not readable(wake_tx(handle))
        assert client.poll(EVENT_RX) == EVENT_RX and readable(wake_rx(handle))
        bench.rx.ring.advance(1)
        assert client.poll(EVENT_RX) == 0 and not readable(wake_rx(handle)), "a level: no frame, not readable"
        client.close()


def test_a_full_ring_wakes_its_program_when_the_nic_has_sent(bench: Bench) -> None:
    handle = handle_of(bench)
    bench.tx.put(*[60] * (SLOTS - 1))
    with Daemon([handle]) as daemon:
        client = Client(handle)
        assert client.poll(EVENT_TX) == 0 and bench.tx.tdt == SLOTS - 1
        bench.tx.nic_sends(10)
        daemon.interrupt()
        assert readable(wake_tx(handle), PATIENCE_S)
        assert client.poll(EVENT_TX) == EVENT_TX and bench.tx.ring.space == 10
        client.close()


def test_poll_sends_what_waits_unless_the_handle_forbids_it(bench: Bench) -> None:
    other = Bench(SLOTS)
    sends, keeps = handle_of(bench), handle_of(other, NO_TX_POLL)
    with Daemon([sends, keeps]):
        for handle, side, sent in ((sends, bench.tx, 2), (keeps, other.tx, 0)):
            client = Client(handle)
            side.put(60, 60)
            client.poll(EVENT_RX)
            assert side.tdt == sent
            client.poll(EVENT_TX)
            assert side.tdt == 2
            client.close()


def test_poll_syncs_all_receive_rings_and_only_as_many_transmit_rings_as_it_needs() -> None:
    region = Region.for_ports(2, tx_slots=SLOTS, rx_slots=SLOTS)
    benches = [Bench(SLOTS, region=region, name=f"ix{k}") for k in range(2)]
    handle = Handle([Kring.nic(each.tx.queue) for each in benches], [Kring.nic(each.rx.queue) for each in benches])
    with Daemon([handle]) as daemon:
        client = Client(handle)
        client.poll(EVENT_TX)
        assert handle.syncs == 1
        benches[1].tx.put(60)
        client.poll(EVENT_TX)
        assert handle.syncs == 3 and benches[1].tx.tdt == 1
        assert client.poll(EVENT_RX) == 0 and handle.syncs == 5
        benches[1].rx.nic_receives(60)
        daemon.interrupt()
        assert readable(wake_rx(handle), PATIENCE_S)
        client.close()


def test_no_wake_up_is_lost_when_frames_come_after_arming(program: Path, bench: Bench) -> None:
    lost_wake_ups(program, bench, 1500, armed=True)


@pytest.mark.slow
@pytest.mark.parametrize("armed", [True, False], ids=["after arming", "at any moment"])
def test_no_wake_up_is_lost_in_many_thousands(program: Path, bench: Bench, armed: bool) -> None:
    lost_wake_ups(program, bench, 40_000, armed=armed)


def lost_wake_ups(program: Path, bench: Bench, count: int, *, armed: bool) -> None:
    """The program waits in poll(2) for its wake descriptor only, and the daemon for its kicks and interrupts only."""
    handle = handle_of(bench)
    with Daemon([handle], spin_ns=0) as daemon, started(
        program, bench.region, bench.interface, handle, "receive", count
    ) as process:  # fmt: skip
        receive(daemon, bench, handle, count, armed=armed)
        finished(process)
        assert daemon.reasons[Reason.SLEEP] > count // 20, "the service did not sleep in between"


def test_two_threads_that_poll_at_once_are_both_woken(program: Path, bench: Bench) -> None:
    """One's request may take the other's events: the NIC sends only when the program waits for both directions."""
    handle, count = handle_of(bench), 2000
    with Daemon([handle]) as daemon, started(
        program, bench.region, bench.interface, handle, "pollers", count
    ) as process:  # fmt: skip
        received = 0
        end = time.monotonic() + PATIENCE_S
        while process.poll() is None and time.monotonic() < end:
            bench.tx.nic_sends()
            if received < count and bench.rx.nic_space:
                bench.region.buffers[bench.rx.buffer_of(bench.rx.rdh), 0] = received % 256
                bench.rx.nic_receives(60)
                received += 1
            daemon.interrupt()
        finished(process)
    assert bench.tx.queue.packets == count


# ---- sleep ----


def test_a_sleeping_service_is_woken_by_each_request(bench: Bench) -> None:
    handle = handle_of(bench)
    with Daemon([handle], spin_ns=0) as daemon:
        client = Client(handle, spin_ns=0)
        for number in range(300):
            assert (client.txsync, client.rxsync, lambda: client.poll(EVENT_TX) - EVENT_TX)[number % 3]() == 0
            wait_for(lambda: daemon.service.state.asleep, "it sleeps again")
        assert daemon.reasons[Reason.SLEEP] >= 300
        client.close()


def test_a_service_without_work_sleeps_and_stays_asleep(bench: Bench) -> None:
    handle = handle_of(bench)
    with Daemon([handle]) as daemon:
        client = Client(handle)
        client.rxsync()
        wait_for(lambda: handle.answers.sleeping, "it sleeps")
        before = daemon.reasons[Reason.SLEEP]
        assert not readable(daemon.service.kicks, 0.05), "an old kick would wake it for nothing"
        assert daemon.reasons[Reason.SLEEP] <= before + 1
        client.close()


def test_a_signal_does_not_end_a_sync(program: Path, bench: Bench) -> None:
    """The program has a handler for SIGUSR1, which interrupts its waits in the kernel. SIGSTOP does it, too."""
    handle = handle_of(bench)
    with Daemon([handle], spin_ns=0), started(
        program, bench.region, bench.interface, handle, "sync", "rx", 3000, spin_ns=0
    ) as process:  # fmt: skip
        while process.poll() is None:
            for number in (signal.SIGUSR1, signal.SIGSTOP, signal.SIGCONT):
                process.send_signal(number)
        finished(process)
    assert handle.state.rx_done == 3000


# ---- the end of either side ----


def test_a_program_that_waits_learns_that_its_handle_is_closed(bench: Bench) -> None:
    handle, results = handle_of(bench), list[int]()
    client = Client(handle)
    thread = threading.Thread(target=lambda: results.append(client.rxsync()))
    thread.start()  # no service answers
    wait_for(lambda: handle.state.rx_done != Client.ticket(handle), "the request is made")
    handle.close()
    thread.join(PATIENCE_S)
    assert results == [ENXIO]
    assert (client.txsync(), client.poll(EVENT_RX)) == (ENXIO, -ENXIO)
    client.close()


def test_a_program_that_waits_learns_that_the_daemon_is_gone(bench: Bench) -> None:
    """A daemon that is killed tells nobody; the kernel closes its end of the handle's socket."""
    ours, daemons = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    handle = handle_of(bench)
    client, results = Client(handle, socket=ours.fileno()), list[int]()
    thread = threading.Thread(target=lambda: results.append(client.poll(EVENT_RX)))
    thread.start()
    wait_for(lambda: Client.ticket(handle, "poll"), "the request is made")
    daemons.close()
    thread.join(PATIENCE_S)
    assert results == [-ENXIO]
    ours.close()
    client.close()
    handle.close()


@pytest.mark.parametrize("how", [signal.SIGSTOP, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_program_that_ends_in_a_sync_keeps_nobody_waiting(program: Path, how: signal.Signals) -> None:
    region = Region.for_ports(2, tx_slots=SLOTS, rx_slots=SLOTS)
    victim, other = (Bench(SLOTS, region=region, name=name) for name in ("ix0", "ix1"))
    handles = [handle_of(victim), handle_of(other)]
    moments = random.Random(7)
    with Daemon(handles):
        client, fellow = Client(handles[1]), Client(handles[0])
        for _ in range(8):
            with started(program, region, victim.interface, handles[0], "forever", "rx", spin_ns=500) as process:
                time.sleep(moments.random() / 200)
                process.send_signal(how)
                for _ in range(50):
                    assert client.rxsync() == client.txsync() == 0
                    assert fellow.rxsync() == 0, "another program on the same handle"
        client.close()
        fellow.close()


def test_handles_come_and_go_while_others_are_served(bench: Bench) -> None:
    handle, more = handle_of(bench), [handle_of(Bench(SLOTS)) for _ in range(20)]
    with Daemon([handle]) as daemon:
        client = Client(handle)
        for count in (*range(1, 21), *range(19, -1, -1)):
            served = more[:count]
            daemon.call(lambda served=served: daemon.service.set([handle, *served]))  # type: ignore[misc]
            for each in (handle, *served[-1:]):
                fellow = Client(each)
                assert fellow.rxsync() == 0
                fellow.close()
        client.close()
        for each in more:
            each.close()


# ---- programs that break rules ----


def test_a_broken_rule_is_reported_to_the_program_and_to_python(bench: Bench) -> None:
    kring = Kring.nic(bench.tx.queue)
    handle = Handle([kring], [])
    with Daemon([handle]) as daemon:
        client = Client(handle)
        bench.tx.ring.head = SLOTS + 5
        assert client.txsync() == 0, "as netmap's NIOCTXSYNC"
        answer = handle.answers.tx
        assert (answer.violations, answer.rule, answer.value) == (1, Rule.HEAD_RANGE.number, SLOTS + 5)
        assert (bench.tx.ring.head, handle.violations) == (0, 1), "the ring was reset"
        wait_for(lambda: daemon.reasons[Reason.VIOLATION], "run() returns VIOLATION")
        assert kring.attention == ATTENTION_VIOLATION
        bench.tx.ring.head = SLOTS
        assert client.poll(EVENT_TX) == EVENT_ERROR | EVENT_TX
        assert client.poll(EVENT_TX) == EVENT_TX, "once"
        client.close()


def test_a_program_that_breaks_rules_all_the_time_does_not_keep_python_busy(bench: Bench) -> None:
    handle = handle_of(bench)
    with Daemon([handle], spin_ns=10**9) as daemon:
        client, begun = Client(handle), time.monotonic()
        for _ in range(3000):
            bench.tx.ring.head = SLOTS
            client.txsync()
        allowed = 2 + 10 * (time.monotonic() - begun)
        assert handle.violations == 3000 and 0 < daemon.reasons[Reason.VIOLATION] <= allowed
        client.close()


def test_run_returns_when_the_driver_should_look_after_its_nic(bench: Bench) -> None:
    kring = Kring.nic(bench.rx.queue)
    handle = Handle([], [kring])
    bench.rx.queue.syncs_left = 3
    with Daemon([handle]) as daemon:
        client = Client(handle)
        client.rxsync()
        client.rxsync()
        assert daemon.reasons[Reason.ATTENTION] == 0
        client.rxsync()
        wait_for(lambda: daemon.reasons[Reason.ATTENTION], "run() returns ATTENTION")
        assert kring.attention == ATTENTION_DRIVER
        client.close()


def scribbled(program: Path, seconds: float) -> None:
    region = Region.for_ports(2, tx_slots=SLOTS, rx_slots=SLOTS)
    victim, other = (Bench(SLOTS, region=region, name=name) for name in ("ix0", "ix1"))
    handles = [handle_of(victim), handle_of(other)]
    with Daemon(handles) as daemon, started(
        program, region, victim.interface, handles[0], "scribble", "tx", 7
    ) as process:  # fmt: skip
        client, end, served = Client(handles[1]), time.monotonic() + seconds, 0
        while time.monotonic() < end or served < 200 or handles[0].syncs < 1000:
            assert time.monotonic() < end + PATIENCE_S
            passes, before = daemon.service.state.passes, handles[0].syncs  # in this order: both go on meanwhile
            other.rx.nic_receives(60)
            assert client.rxsync() == 0 and other.rx.ring.space == 1
            other.rx.ring.advance(1)
            assert (client.rxsync(), client.poll(EVENT_TX)) == (0, EVENT_TX)
            served += 1
            syncs = handles[0].syncs - before
            looks = daemon.service.state.passes - passes + 2
            assert syncs <= 4 * looks, "more than two syncs and a poll in one look"
        assert process.poll() is None
        client.close()


def test_a_scribbler_on_its_asks_costs_others_nothing_but_time(program: Path) -> None:
    scribbled(program, 0.1)


@pytest.mark.slow
def test_a_scribbler_on_its_asks_for_longer(program: Path) -> None:
    scribbled(program, 10)


def test_a_program_can_neither_write_its_answers_nor_resize_the_pages(bench: Bench) -> None:
    handle = handle_of(bench)
    asks, answers = handle.descriptors[:2]
    with pytest.raises(PermissionError):
        os.pwrite(answers, b"x", 0)
    for fd in (asks, answers):
        for size in (0, 8192):
            with pytest.raises(PermissionError):
                os.ftruncate(fd, size)
    handle.close()


def test_a_program_cannot_make_the_service_wait(bench: Bench) -> None:
    """It gets descriptors that watch the wake eventfds, not the eventfds; and the service never reads or writes its
    kick, which the program may make blocking and fill."""
    handle, other = handle_of(bench), handle_of(Bench(SLOTS))
    with Daemon([handle, other]):
        for fd in (wake_rx(handle), wake_tx(handle)):
            with pytest.raises(OSError):
                os.write(fd, (2**64 - 2).to_bytes(8, "little"))
            with pytest.raises(OSError):
                os.read(fd, 8)
        os.set_blocking(handle.kick, True)
        os.write(handle.kick, (2**64 - 2).to_bytes(8, "little"))
        client = Client(other)
        for _ in range(20):
            assert client.poll(EVENT_RX) == 0 and client.rxsync() == 0
        client.close()


# ---- many ----


def test_64_handles_on_64_ports_are_served_in_turn() -> None:
    region = Region.for_ports(64, tx_slots=64, rx_slots=64)
    benches = [Bench(64, region=region, name=f"ix{k}") for k in range(64)]
    handles = [handle_of(each) for each in benches]
    with Daemon(handles) as daemon:
        clients = [Client(handle) for handle in handles]
        threads = [threading.Thread(target=many_syncs, args=(client, 20)) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        for handle, each in zip(handles, benches):
            assert handle.state.rx_done == 20
            assert each.rx.queue.violations == 0
        for client in clients:
            assert client.poll(EVENT_RX) == 0
        benches[50].rx.nic_receives(60)
        daemon.interrupt()
        assert readable(wake_rx(handles[50]), PATIENCE_S)
        assert not any(readable(wake_rx(handle)) for handle in handles if handle is not handles[50])
        for client in clients:
            client.close()


def many_syncs(client: Client, count: int) -> None:
    for _ in range(count):
        assert client.rxsync() == 0
