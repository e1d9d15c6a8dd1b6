"""The socket takes anything: wrong messages are refused, their descriptors closed, and other programs served."""

from __future__ import annotations

import os
import random
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from ixrings.driver.daemon import abi
from ixrings.driver.daemon.abi import Register, Request
from ixrings.driver.daemon.ask import ask
from ixrings.driver.daemon.protocol import HEADER, MAGIC, Kind, Message
from ixrings.rings.layout import RING_HEADER_SIZE, SLOT_SIZE
from tests.support.netmap_client import RunningDaemon, call_of, errno_of, raw_socket, times
from tests.support.programs import ENVIRONMENT, wait_for
from tests.support.scribble import scribbled

FRAME = bytes.fromhex("ffffffffffff0200000000010800") + bytes(46)


def descriptors(running: RunningDaemon) -> int:
    return len(os.listdir(f"/proc/{running.process.pid}/fd"))


def send(sock: socket.socket, data: bytes, count: int = 1) -> None:
    """A message with `count` ends of fresh socket pairs; the other ends are closed at once."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(count)]
    try:
        socket.send_fds(sock, [data], [theirs.fileno() for _, theirs in pairs])
    finally:
        for pair in pairs:
            for each in pair:
                each.close()


def serves(running: RunningDaemon) -> None:
    with running.client() as client:
        client.register("ix0")
        client.send([FRAME] * 5)
        assert client.receive_until(5) == [FRAME] * 5
    running.wait_until_nobody_has_buffers()


def test_wrong_messages_leave_no_descriptor_and_harm_nobody(running: RunningDaemon) -> None:
    serves(running)
    before = descriptors(running)
    good = abi.pack(call_of(Request.REGISTER, "ix0", Register(nr_mode=1)))
    with raw_socket(running.path) as sock:
        send(sock, b"")
        send(sock, b"short")
        send(sock, bytes(24))
        send(sock, Message(Kind.CTRL, good).pack()[:-8])
        send(sock, HEADER.pack(MAGIC, 1, Kind.CTRL, 0, 1 << 31, 0) + good)
        send(sock, HEADER.pack(MAGIC, 9, Kind.CTRL, 0, len(good), 0) + good)
        send(sock, Message(Kind.CTRL, bytes(16 * 1024)).pack() + b"x")
        send(sock, Message(99).pack())
        send(sock, Message(Kind.STATUS).pack(), count=0)
        send(sock, Message(Kind.STATUS).pack(), count=5)
        send(sock, Message(Kind.STATUS).pack(), count=100)
        with open(os.devnull) as file:
            socket.send_fds(sock, [Message(Kind.STATUS).pack()], [file.fileno()])
        for number in range(30):  # registrations whose replies nobody reads
            send(sock, Message(Kind.CTRL if number % 2 else Kind.ATTACH, good if number % 2 else b"").pack())
        ask(sock, Message(Kind.STATUS))  # the answer comes after all messages before it
        assert len(running.status()["handles"]) == 1
    running.wait_until_nobody_has_buffers()
    serves(running)
    wait_for(lambda: descriptors(running) <= before, "descriptors are left", 20)


def test_a_program_that_reads_no_reply_is_refused_more(running: RunningDaemon) -> None:
    with running.client() as client:
        client.register("ix0")
        kept = []
        for _ in range(20):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            socket.send_fds(client.sock, [Message(Kind.ATTACH).pack()], [theirs.fileno()])
            theirs.close()
            kept.append(ours)
        assert errno_of(client.attach) == "EBUSY"
        for each in kept:
            each.close()
        client.leave_descriptors()
        client.attach()


def test_a_program_that_makes_the_socket_of_a_reply_blocking_stops_nobody(running: RunningDaemon) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            theirs.send(bytes(1000))
    clearing = subprocess.Popen(
        [sys.executable, "-Sc", "import fcntl\nprint(flush=True)\nwhile True: fcntl.fcntl(0, fcntl.F_SETFL, 0)"],
        stdin=theirs.fileno(), stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert clearing.stdout is not None
        clearing.stdout.readline()
        with raw_socket(running.path) as sock:
            sock.settimeout(20)
            for _ in range(500):
                socket.send_fds(sock, [Message(Kind.ATTACH).pack()], [theirs.fileno()])
            ask(sock, Message(Kind.STATUS))
    finally:
        clearing.kill()
        clearing.communicate()
        ours.close()
        theirs.close()
    serves(running)


def test_a_log_that_nobody_reads_stops_nobody(running: RunningDaemon) -> None:
    log = running.process.stderr
    assert log is not None
    full = os.open(f"/proc/{running.process.pid}/fd/2", os.O_WRONLY | os.O_NONBLOCK)
    try:
        with suppress(BlockingIOError):
            while True:
                os.write(full, bytes(4096))
        with running.client() as client:
            client.sock.settimeout(20)
            for _ in range(3):
                assert errno_of(client.register, "nothing") == "ENXIO"
        serves(running)
        os.set_blocking(log.fileno(), False)
        with suppress(BlockingIOError):
            while os.read(log.fileno(), 1 << 16):
                pass
    finally:
        os.set_blocking(log.fileno(), True)
        os.close(full)


def noise(chance: random.Random, good: bytes) -> bytes:
    """A message that is random, or a good one with a few bytes changed, or cut."""
    kind = chance.randrange(1, 8)
    if chance.random() < 0.2:
        return chance.randbytes(chance.randrange(200))
    payload = bytearray(good if chance.random() < 0.8 else chance.randbytes(chance.randrange(300)))
    for _ in range(chance.randrange(4)):
        if payload:
            payload[chance.randrange(len(payload))] = chance.choice([0, 1, 0xFF, chance.randrange(256)])
    payload = payload[: chance.randrange(len(payload) + 1)] if chance.random() < 0.3 else payload
    return Message(kind, bytes(payload), value=chance.choice([0, 0x8913, 0x8921, 1 << 63])).pack()


def some_options(chance: random.Random) -> list[abi.Option]:
    """Options of any type, with numbers at the edges in them."""
    kinds = [*range(8), 77, 0xFFFFFFFF]
    edges = [0, 1, 16, 24, 64, 4096, 1 << 31, (1 << 32) - 1, 1 << 63, (1 << 64) - 1]
    options = []
    for kind in chance.sample(kinds, chance.randrange(4)):
        header = abi.OptionHeader(nro_reqtype=kind, nro_size=chance.choice(edges), nro_status=chance.choice([0, 95]))
        words = abi.OPTION_BYTES.get(kind, 24) // 8
        options.append(abi.Option(header, struct.pack(f"{words}Q", *(chance.choice(edges) for _ in range(words)))))
    return options


NAMES = (
    "ix0",
    "ix0",
    "ix0",
    "vale0:a",
    "vale0:ix0",
    "ix0{1",
    "m}2",
    "v0",
    "",
    "ix9",
    "vale0:",
    "{",
    "\x1b[2J",
    "n" * 63,
)


def good_message(chance: random.Random) -> bytes:
    """A request that may be carried out, with numbers at the edges in its body."""
    kind, body = chance.choice(list(abi.BODIES.items()))
    if chance.random() < 0.5:
        kind, body = Request.REGISTER, Register
    filled, name = body(), chance.choice(NAMES)
    few = [0, 1, 2, 64] if "v" in name or kind == Request.VALE_NEWIF else []  # ports with memory of their own
    numbers = few or [0, 1, 2, 5, 7, 8, 64, 4096, 0x100, 0x400, 0xFFFF, 1 << 20, 1 << 31]
    for field in chance.sample(filled._fields_, min(3, len(filled._fields_))):
        with suppress(TypeError):  # a structure inside
            setattr(filled, field[0], chance.choice(numbers))
    return abi.pack(call_of(kind, name, filled, some_options(chance)))


def remove_ports(running: RunningDaemon) -> None:
    """What NEWIF and VALE_ATTACH have made stays until somebody removes it."""
    with running.client() as client:
        for name in (place for places in running.status()["switches"].values() for place in places):
            errno_of(client.ctrl, call_of(Request.VALE_POLLING_DISABLE, name, abi.ValePolling()))
            errno_of(client.ctrl, call_of(Request.VALE_DETACH, name, abi.ValeDetach()))
        for name in running.status()["persistent"]:
            errno_of(client.ctrl, call_of(Request.VALE_DELIF, name))


def log_so_far(running: RunningDaemon) -> str:
    """What is in the log now, which has room again."""
    assert running.process.stderr is not None
    log, text = running.process.stderr.fileno(), b""
    os.set_blocking(log, False)
    with suppress(BlockingIOError):
        while more := os.read(log, 1 << 16):
            text += more
    os.set_blocking(log, True)
    return text.decode(errors="replace")


def shake(running: RunningDaemon, rounds: int, seed: int) -> None:
    chance = random.Random(seed)
    others = [struct.pack("16s24x", b"ix0"), b'{"port": "ix0", "call": "stats"}']
    for _ in range(rounds):
        with raw_socket(running.path) as sock:
            for _ in range(chance.randrange(1, 12)):
                good = good_message(chance) if chance.random() < 0.8 else chance.choice(others)
                if chance.random() < 0.5:
                    send(sock, Message(Kind.CTRL, good).pack())
                else:
                    send(sock, noise(chance, good), chance.choice([0, 1, 1, 1, 1, 2]))
        assert "is a mistake in the daemon" not in (log := log_so_far(running)), log
    running.wait_until_nobody_has_handles()
    remove_ports(running)


def test_random_messages_harm_nobody(running: RunningDaemon) -> None:
    shake(running, 15, 1)
    running.wait_until_nobody_has_buffers()
    serves(running)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_many_random_messages_harm_nobody(running: RunningDaemon, seed: int) -> None:
    before = descriptors(running)
    shake(running, 400, seed)
    running.wait_until_nobody_has_buffers()
    serves(running)
    wait_for(lambda: descriptors(running) <= before, "descriptors are left", 20)


def test_a_flood_of_connections_and_messages_starves_nobody(running: RunningDaemon) -> None:
    flood = [raw_socket(running.path) for _ in range(30)]
    try:
        for sock in flood:
            sock.setblocking(False)
            try:
                for _ in range(50):
                    send(sock, Message(Kind.ATTACH).pack())
            except BlockingIOError:
                pass
        with running.client() as client:
            client.register("ix0")
            client.send([FRAME])
            assert client.receive_until(1) == [FRAME]
    finally:
        for sock in flood:
            sock.close()
    running.wait_until_nobody_has_buffers()


def test_a_program_that_scribbles_over_a_ring_while_another_opens_it_cannot_leave_its_queue_off(
    running: RunningDaemon,
) -> None:
    with running.client() as first:
        first.register("ix1")
        ring = first.rings.rx_rings[0]
        slots = ring.offset + RING_HEADER_SIZE, ring.num_slots * SLOT_SIZE
    with running.client() as hostile, running.client() as victim, running.client() as sender:
        hostile.register("ix0")
        sender.register("ix2")
        with scribbled(hostile.fds[0], *slots, 0):
            victim.register("ix1")
        sender.send([FRAME])

        def received() -> bool:
            victim.rxsync()
            return victim.rings.rx_rings[0].tail != 0

        wait_for(received, "the queue is off", 20)
    serves(running)


@contextmanager
def lingering() -> Iterator[socket.socket]:
    """A TCP socket whose close() waits for a minute (SO_LINGER), because its receiver takes nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sock = socket.create_connection(listener.getsockname())
        receiver, _ = listener.accept()
    try:
        sock.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                sock.send(bytes(1 << 16))
        sock.setblocking(True)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 60))
        yield sock
    finally:
        receiver.close()
        sock.close()


def as_reply_socket(sock: socket.socket, slow: socket.socket) -> None:
    socket.send_fds(sock, [Message(Kind.STATUS).pack()], [slow.fileno()])


def among_many(sock: socket.socket, slow: socket.socket) -> None:
    """Those for which recvmsg() has no room are closed in recvmsg()."""
    with open(os.devnull) as file:
        socket.send_fds(sock, [Message(Kind.STATUS).pack()], [file.fileno()] * 252 + [slow.fileno()])


def inside_the_reply_socket(sock: socket.socket, slow: socket.socket) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        socket.send_fds(ours, [b"x"], [slow.fileno()])
        socket.send_fds(sock, [Message(Kind.STATUS).pack()], [theirs.fileno()])


def in_a_message_that_is_not_read(sock: socket.socket, slow: socket.socket) -> None:
    """The daemon takes an empty message for the end, because the program has hung up."""
    sock.send(b"")
    socket.send_fds(sock, [Message(Kind.STATUS).pack()], [slow.fileno()])


@pytest.mark.parametrize("place", [as_reply_socket, among_many, inside_the_reply_socket, in_a_message_that_is_not_read])
def test_a_descriptor_that_takes_long_to_close_stops_nobody(
    running: RunningDaemon, place: Callable[[socket.socket, socket.socket], None]
) -> None:
    before = descriptors(running)
    with lingering() as slow, raw_socket(running.path) as other:
        running.process.send_signal(signal.SIGSTOP)
        hostile = os.fork()
        if not hostile:
            place(raw_socket(running.path), slow)
            os._exit(0)
        os.waitpid(hostile, 0)
        slow.close()  # only the daemon has it then
        running.process.send_signal(signal.SIGCONT)
        other.settimeout(20)
        for _ in range(3):
            ask(other, Message(Kind.STATUS))
        serves(running)
    wait_for(lambda: descriptors(running) <= before, "descriptors are left", 20)


FLOOD = """
import socket, sys
from ixrings.driver.daemon.protocol import Kind, Message
sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
sock.connect(sys.argv[1])
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
ours.shutdown(socket.SHUT_RD)
print("ready", flush=True)
while True:
    socket.send_fds(sock, [Message(Kind.STATUS).pack()], [theirs.fileno()])
"""


@pytest.mark.slow
def test_a_flood_of_messages_leaves_the_daemon_time_for_others(running: RunningDaemon) -> None:
    flood = subprocess.Popen([sys.executable, "-c", FLOOD, running.path], env=ENVIRONMENT, stdout=subprocess.PIPE)
    try:
        assert flood.stdout is not None
        flood.stdout.readline()
        began, used = time.monotonic(), times(running)
        time.sleep(4)  # what is measured
        assert (share := (times(running) - used) / (time.monotonic() - began)) < 0.6, share
        assert flood.poll() is None
        serves(running)
    finally:
        flood.kill()
        flood.communicate()


def test_pipes_of_a_free_name_have_room_beside_small_rings(running: RunningDaemon) -> None:
    with running.client() as one, running.client() as other:
        for client, name in ((one, "m{1"), (other, "x{1")):
            client.register(name)
            assert client.rings.tx_rings[0].num_slots == 1024
    running.wait_until_nobody_has_buffers()
