"""A client that floods, trickles, receives slowly or shares odd files cannot hold the vfio-user server."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ixrings.hw.emulator import Emulated82599
from ixrings.hw.errors import ServerError
from ixrings.hw.vfio_user import protocol as p
from ixrings.hw.vfio_user.protocol import ACCESS, DMA_MAP, IRQ_SET, Command, Irq, IrqSet, Region
from ixrings.hw.vfio_user.server import Server
from tests.support.driver_watch import held
from tests.support.programs import wait_for
from tests.support.vfio_user_peer import Peer, emulate, memfd

WHOLE_BAR = ACCESS.pack(0, Region.BAR0, 0x20000)
OK = 0


def flood(peer: Peer, count: int = 2000, *, flags: int = p.NO_REPLY) -> None:
    """Many requests that take the server a tenth of a second each."""
    one = p.pack(1, Command.REGION_READ, flags, WHOLE_BAR)
    peer.send_bytes(one * count)


def second_client(path: str | Path) -> int:
    """How the server answers another client: 0, or an errno."""
    with Peer(path, agree=False) as other:
        return other.errno(Command.VERSION, p.VERSION.pack(0, 0) + p.capabilities())


@pytest.mark.slow
def test_a_flood_holds_neither_the_next_client_nor_the_end(tmp_path: Path) -> None:
    with emulate(tmp_path / "nic.sock") as emulator:
        with Peer(emulator.path) as peer:
            flood(peer)
            assert second_client(emulator.path) == errno.EBUSY
        assert second_client(emulator.path) == OK  # the flood ends with its client
        with Peer(emulator.path) as peer:
            flood(peer)
            assert emulator.end(signal.SIGTERM) == (0, "")


def test_a_client_that_takes_its_answers_slowly_is_disconnected(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(p, "SEND_S", 0.5)
    with Peer(path) as slow:
        flood(slow, 20, flags=0)
        assert second_client(path) == errno.EBUSY  # at once, between two sips
        poll, sips = select.poll(), 0
        poll.register(slow.socket, 0)
        while not poll.poll(100):  # until the server has closed the connection
            slow.socket.recv(1000)
            sips += 1
        assert sips < 200, "a client of 10 KB/s was served"
    assert second_client(path) == OK


def test_a_message_that_arrives_byte_by_byte_has_a_time_limit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ixrings.hw.vfio_user.patience.HALF_A_MESSAGE_S", 0.5)
    with Peer(path) as slow:
        message = p.pack(1, Command.REGION_WRITE, 0, bytes(2000))
        with pytest.raises(BrokenPipeError):
            for byte in message:
                slow.send_bytes(bytes([byte]))
                select.select([slow.socket], [], [], 0.05)


def test_a_second_client_that_says_nothing_is_sent_away(
    peer: Peer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ixrings.hw.vfio_user.server.LOBBY_S", 0.1)
    with Peer(path, agree=False) as silent:
        silent.send_bytes(bytes(5))
        assert silent.receive() is None
    assert peer.read(8) != 0xFFFF_FFFF


def test_a_message_in_pieces_brings_no_more_fds_than_one_message_may(peer: Peer) -> None:
    before = held()
    with memfd(4096) as fd:
        whole = p.pack(9, Command.DMA_MAP, 0, DMA_MAP.pack(32, 3, 0, 0x10000, 4096) + bytes(200))
        for at in range(len(whole) - 1):
            peer.send_bytes(whole[at : at + 1], [fd] * p.MAX_FDS)
        assert second_client(peer.socket.getpeername()) == errno.EBUSY  # the pieces before it have been received
        wait_for(lambda: held()[0] <= before[0] + 1 + p.MAX_FDS, "the server holds too many fds")
        peer.send_bytes(whole[-1:])
        answer = peer.receive()
        assert answer is not None and answer.error == errno.EINVAL
    wait_for(lambda: held() == before, "fds are still open")


def test_windows_are_limited_in_number(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ixrings.hw.vfio_user.memory.MOST_WINDOWS", 16)
    with Peer(path) as peer, memfd(4096) as fd:
        answers = [peer.map(0x2000 * number, 4096, fd) for number in range(18)]
        assert answers == [OK] * 16 + [errno.ENOSPC] * 2
        assert (peer.unmap(0, 4096), peer.map(0, 4096, fd)) == (OK, OK)


def test_windows_are_limited_in_size(peer: Peer) -> None:
    size = 1 << 43  # a sparse file may be larger than all memory
    with memfd(size) as fd:
        assert [peer.map(size * number, size, fd) for number in range(5)] == [OK] * 4 + [errno.ENOMEM]
        assert (peer.unmap(0, size), peer.map(0, size, fd)) == (OK, OK)


def test_one_message_carries_a_limited_number_of_writes(peer: Peer) -> None:
    one = struct.pack("<QII8s", 0, Region.BAR0, 4, struct.pack("<Q", 1 << 26))  # CTRL.RST
    for count, answer in ((256, OK), (257, errno.EINVAL), (43_000, errno.EINVAL)):
        assert peer.errno(Command.REGION_WRITE_MULTI, struct.pack("<Q", count) + one * count) == answer


@contextmanager
def odd_files(folder: Path) -> Iterator[dict[str, int]]:
    """Open files of kinds that are no memory of a client, by name."""
    (folder / "file").write_bytes(bytes(8192))
    eventfd = os.eventfd(0)
    pipe = os.pipe()
    ends = socket.socketpair()
    fds = {
        "pipe": pipe[0],
        "pipe's other end": pipe[1],
        "socket": ends[0].fileno(),
        "eventfd": eventfd,
        "folder": os.open(folder, os.O_RDONLY),
        "O_PATH": os.open(folder / "file", os.O_PATH),
        "O_PATH of an eventfd": os.open(f"/proc/self/fd/{eventfd}", os.O_PATH),
        "read-only": os.open(folder / "file", os.O_RDONLY),
        "write-only": os.open(folder / "file", os.O_WRONLY),
        "null": os.open("/dev/null", os.O_RDWR),
        "zero": os.open("/dev/zero", os.O_RDWR),
    }
    try:
        yield fds
    finally:
        for fd in {*fds.values(), *pipe} - {ends[0].fileno()}:
            os.close(fd)
        for end in ends:
            end.close()


def test_odd_files_are_not_taken_as_memory(nic: Emulated82599, peer: Peer, tmp_path: Path) -> None:
    before = held()
    with odd_files(tmp_path) as files:
        answers = {name: peer.map(0x10000, 4096, fd) for name, fd in files.items()}
    assert all(answers.values()), answers
    assert nic.dma_windows == 0
    wait_for(lambda: held() == before, "fds are still open")


def test_odd_files_are_not_taken_as_interrupts(peer: Peer, tmp_path: Path) -> None:
    before = held()
    connect = IRQ_SET.pack(20, IrqSet.EVENTFD | IrqSet.TRIGGER, Irq.MSIX, 0, 2)
    good = os.eventfd(0)
    with odd_files(tmp_path) as files:
        answers = {
            name: peer.errno(Command.DEVICE_SET_IRQS, connect, [good, fd])
            for name, fd in files.items()
            if name != "eventfd"
        }
    assert all(answers.values()), answers
    disconnect = IRQ_SET.pack(20, IrqSet.EVENTFD | IrqSet.TRIGGER, Irq.MSI, 0, 1)
    assert peer.errno(Command.DEVICE_SET_IRQS, disconnect, [good]) == OK, "MSI-X was connected in part"
    os.close(good)
    wait_for(lambda: held()[0] == before[0] + 1, "fds are still open")


@pytest.mark.slow
def test_only_one_of_two_servers_takes_over_a_dead_socket(nic: Emulated82599, tmp_path: Path) -> None:
    path, rounds = tmp_path / "nic.sock", 150
    together = threading.Barrier(2, timeout=20)
    listening: list[Server] = []

    def start() -> None:
        together.wait()
        try:
            listening.append(Server(nic, str(path)))
        except ServerError as error:
            assert "another server listens" in str(error)

    for number in range(rounds):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
            dead.bind(str(path))
        threads = [threading.Thread(target=start) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert len(listening) == 1, f"{len(listening)} servers listen in round {number}"
        listening.pop().close()
        assert not path.exists()


def test_a_full_disk_ends_the_trace_and_not_the_server(tmp_path: Path) -> None:
    with emulate(tmp_path / "nic.sock", "--trace", "/dev/full") as emulator:
        for _ in range(3):
            with Peer(emulator.path) as peer:
                assert peer.read(8) != 0xFFFF_FFFF
        assert second_client(emulator.path) == OK
        status, errors = emulator.end(signal.SIGHUP)
    assert (status, errors) == (0, "ixrings emulate: the trace ends here: /dev/full: No space left on device\n")
