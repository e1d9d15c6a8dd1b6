"""Invalid messages to the vfio-user server get an error reply and do no harm."""

from __future__ import annotations

import errno
import random
import socket
import struct
from pathlib import Path

import pytest

from ixrings.hw.emulator import Emulated82599
from ixrings.hw.registers import Registers
from ixrings.hw.vfio_user import protocol as p
from ixrings.hw.vfio_user.protocol import (
    ACCESS,
    DMA_MAP,
    Command,
    Region,
)
from tests.support.driver_watch import held
from tests.support.programs import wait_for
from tests.support.vfio_user_peer import Peer, memfd

OK = 0


def header(command: int, size: int, *, flags: int = 0, id: int = 7) -> bytes:
    return p.HEADER.pack(id, command, size, flags, 0)


def expect_einval(peer: Peer, nic: Emulated82599) -> None:
    """The last message got EINVAL, and the server still works."""
    answer = peer.receive()
    assert answer is not None and answer.error == errno.EINVAL and answer.payload == b""
    assert peer.read(8) == nic.read32(8)


@pytest.mark.parametrize("command", list(Command))
def test_a_payload_that_is_too_short_is_refused(nic: Emulated82599, peer: Peer, command: Command) -> None:
    lengths = {Command.DEVICE_RESET: [], Command.DMA_READ: [], Command.DMA_WRITE: []}.get(command, [0, 1, 3, 7])
    for length in lengths:
        peer.send(command, bytes(length))
        expect_einval(peer, nic)


@pytest.mark.parametrize("command", [0, Command.DMA_READ, Command.DMA_WRITE, 14, 16, 17, 18, 99, 0xFFFF])
def test_commands_that_a_client_may_not_send_are_refused(nic: Emulated82599, peer: Peer, command: int) -> None:
    assert peer.errno(command, bytes(64)) == errno.EOPNOTSUPP
    assert peer.read(8) == nic.read32(8)


@pytest.mark.parametrize("size", [0, 1, 15, p.LARGEST + 1, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_an_impossible_size_is_answered_and_ends_the_connection(nic: Emulated82599, path: Path, size: int) -> None:
    with Peer(path) as peer:
        peer.send_bytes(header(Command.REGION_READ, size) + bytes(64))
        answer = peer.receive()
        assert answer is not None and (answer.id, answer.command, answer.error) == (
            7,
            Command.REGION_READ,
            errno.EINVAL,
        )
        assert peer.receive() is None
    with Peer(path) as peer:
        assert peer.read(8) == nic.read32(8)


def test_the_largest_message_is_read_and_refused(nic: Emulated82599, peer: Peer) -> None:
    peer.send_bytes(header(Command.REGION_WRITE, p.LARGEST) + bytes(p.LARGEST - p.HEADER.size))
    expect_einval(peer, nic)
    assert peer.errno(Command.REGION_READ, ACCESS.pack(0, Region.BAR0, 0x20000)) == OK
    assert peer.errno(Command.REGION_READ, ACCESS.pack(0, Region.BAR0, 0xFFFF_FFFC)) == errno.EINVAL


def test_version_has_to_come_first_and_only_once(nic: Emulated82599, path: Path) -> None:
    with Peer(path, agree=False) as peer:
        assert peer.errno(Command.REGION_READ, ACCESS.pack(8, 0, 4)) == errno.EINVAL
        assert peer.errno(Command.DEVICE_RESET) == errno.EINVAL
        with memfd(4096) as fd:
            assert peer.map(0, 4096, fd) == errno.EINVAL
        assert nic.dma_windows == 0
        assert peer.errno(Command.VERSION, p.VERSION.pack(0, 0)) == OK
        assert peer.errno(Command.VERSION, p.VERSION.pack(0, 0)) == errno.EINVAL
        assert peer.read(8) == nic.read32(8)


@pytest.mark.parametrize("payload", [
    b"", b"\0", p.VERSION.pack(1, 0), p.VERSION.pack(0, 0) + b"{}", p.VERSION.pack(0, 0) + b"[]\0",
    p.VERSION.pack(0, 0) + b"\xff\xfe\0", p.VERSION.pack(0, 0) + b'{"capabilities":5}\0',
    p.VERSION.pack(0, 0) + b'{"capabilities":{"max_data_xfer_size":4096}}\0',
    p.VERSION.pack(0, 0) + b'{"capabilities":{"max_data_xfer_size":"x"}}\0',
    p.VERSION.pack(0, 0) + b"[" * 100_000 + b"\0",
])  # fmt: skip
def test_an_invalid_version_is_refused(path: Path, payload: bytes) -> None:
    with Peer(path, agree=False) as peer:
        assert peer.errno(Command.VERSION, payload) == errno.EINVAL
        assert peer.errno(Command.VERSION, p.VERSION.pack(0, 0) + p.capabilities()) == OK


def test_a_message_that_is_neither_command_nor_reply_is_refused(nic: Emulated82599, peer: Peer) -> None:
    for kind in (2, 7, 15):
        peer.send(Command.DEVICE_RESET, flags=kind)
        expect_einval(peer, nic)
    peer.send(Command.DMA_READ, p.DMA_ACCESS.pack(0, 4) + b"data", flags=p.REPLY)  # without a request: ignored
    assert peer.read(8) == nic.read32(8)


@pytest.mark.parametrize(("offset", "region", "count"), [
    (2, 0, 4), (0, 0, 1), (0, 0, 2), (0, 0, 3), (0, 0, 0), (0x20000, 0, 4), (0x1FFFC, 0, 8), (2**64 - 4, 0, 4),
    (2**64 - 1, 0, 0xFFFF_FFFF), (0, 1, 4), (0, 9, 4), (0, 10, 4), (0, 0xFFFF_FFFF, 4), (4096, 7, 1), (4094, 7, 4),
    (0, 7, 0), (0x4000, 4, 4), (0x3FFF, 4, 2), (0, 4, 0),
])  # fmt: skip
def test_accesses_outside_of_regions_are_refused(
    nic: Emulated82599, peer: Peer, offset: int, region: int, count: int
) -> None:
    before = [nic.read32(at) for at in (8, 0x5200)]
    assert peer.errno(Command.REGION_READ, ACCESS.pack(offset, region, count)) == errno.EINVAL
    assert (
        peer.errno(Command.REGION_WRITE, ACCESS.pack(offset, region, count) + bytes(min(count, 4096))) == errno.EINVAL
    )
    assert [nic.read32(at) for at in (8, 0x5200)] == before


def test_data_of_another_length_than_its_count_is_refused(peer: Peer) -> None:
    for data in (b"", b"abc", b"abcde"):
        assert peer.errno(Command.REGION_WRITE, ACCESS.pack(0x5200, 0, 4) + data) == errno.EINVAL
    assert peer.read(0x5200) == 0


@pytest.mark.parametrize("count", [1, 2, 16, 17, 40, 200])
def test_fds_with_a_command_that_takes_none_are_closed(nic: Emulated82599, peer: Peer, count: int) -> None:
    before = held()
    with memfd(4096) as fd:
        peer.send(Command.DEVICE_RESET, fds=[fd] * count)
        expect_einval(peer, nic)
        peer.send(Command.DEVICE_RESET, fds=[fd] * count, flags=p.NO_REPLY)
        peer.send(99, fds=[fd] * count, flags=p.REPLY)
        peer.send(Command.DMA_MAP, DMA_MAP.pack(32, 3, 0, 0, 4096), [fd] * (count + 1))
        expect_einval(peer, nic)
    assert nic.dma_windows == 0
    wait_for(lambda: held() == before, "fds are still open")  # the answer is sent before they are closed


def test_fds_belong_to_the_message_they_came_with(nic: Emulated82599, peer: Peer) -> None:
    with memfd(4096) as fd:
        read = header(Command.REGION_READ, 32, id=1) + ACCESS.pack(8, 0, 4)
        mapping = header(Command.DMA_MAP, 48, id=2) + DMA_MAP.pack(32, 3, 0, 0x10000, 4096)
        for _ in range(20):
            peer.send_bytes(read * 3)
            peer.send_bytes(mapping, [fd])
            peer.send_bytes(read)
            peer.send_bytes(mapping[:20], [fd])  # the message is sent in two pieces; its window exists already
            peer.send_bytes(mapping[20:] + read)
            answers = [peer.receive() for _ in range(7)]
            assert [answer.error for answer in answers if answer] == [0, 0, 0, 0, 0, errno.EEXIST, 0]
            assert peer.unmap(0x10000, 4096) == OK


def test_a_client_that_disconnects_inside_a_message_leaves_nothing(nic: Emulated82599, path: Path) -> None:
    before = held()
    whole = header(Command.DMA_MAP, 48) + DMA_MAP.pack(32, 3, 0, 0x10000, 4096)
    for length in range(1, len(whole) + 1, 5):
        with memfd(4096) as fd, Peer(path) as peer:
            peer.send_bytes(whole[:length], [fd])
    with Peer(path) as peer:
        assert peer.read(8) == nic.read32(8)
        assert nic.dma_windows == 0
    wait_for(lambda: held() == before, "fds are still open")


def test_a_client_that_does_not_receive_is_disconnected(
    nic: Emulated82599, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(p, "SEND_S", 0.2)
    with Peer(path) as silent:
        silent.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", 0, 200_000))
        with pytest.raises(OSError):  # the peer sends requests and reads no answers
            for _ in range(100_000):
                silent.send(Command.REGION_READ, ACCESS.pack(0, Region.CONFIG, 4096))
    with Peer(path) as peer:
        assert peer.read(8) == nic.read32(8)


def test_a_client_that_sends_half_a_message_is_disconnected(
    nic: Emulated82599, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ixrings.hw.vfio_user.patience.HALF_A_MESSAGE_S", 0.2)
    with Peer(path) as slow:
        slow.send_bytes(header(Command.REGION_READ, 32))
        assert slow.receive() is None


def test_a_second_client_gets_ebusy_and_the_first_continues(nic: Emulated82599, peer: Peer, path: Path) -> None:
    silent = [Peer(path, agree=False) for _ in range(40)]  # more clients than may wait
    assert peer.read(8) == nic.read32(8)
    for each in silent:
        each.close()
    with Peer(path, agree=False) as second:
        assert second.errno(Command.VERSION, p.VERSION.pack(0, 0) + p.capabilities()) == errno.EBUSY
        assert second.receive() is None
    assert peer.read(8) == nic.read32(8)


@pytest.mark.parametrize("seed", range(4))
def test_random_invalid_messages_do_no_harm(nic: Emulated82599, path: Path, seed: int) -> None:
    """Valid headers with random commands, payloads of boundary values and unexpected fds."""
    chance = random.Random(seed)
    numbers = [0, 1, 2, 3, 4, 7, 9, 16, 20, 24, 32, 4096, 0x10000, 0x1000_0000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF]
    before = held()
    for _ in range(6):
        with Peer(path) as peer, memfd(1 << 16) as fd:
            peer.socket.settimeout(5)
            for _ in range(150):
                command = chance.choice([*Command, chance.randrange(20)])
                if command == Command.DEVICE_RESET:
                    continue  # takes long, and has its own test
                payload = b"".join(struct.pack("<I", chance.choice(numbers)) for _ in range(chance.randrange(14)))
                payload += chance.randbytes(chance.choice([0, 0, 1, 5]))
                fds = [fd] * chance.choice([0, 0, 0, 1, 1, 2, 20])
                peer.send(command, payload, fds, flags=chance.choice([0, 0, 0, p.NO_REPLY, p.REPLY, p.ERROR, 5]))
    with Peer(path) as peer:
        assert peer.read(0x8) == nic.read32(8)
        assert Registers(nic).CTRL.read() == 0  # as after power-on
        assert nic.dma_windows == 0
    wait_for(lambda: held() == before, "something is still held")


@pytest.mark.parametrize("seed", range(3))
def test_random_bytes_do_no_harm(nic: Emulated82599, path: Path, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(60):
        with Peer(path, agree=chance.random() < 0.7) as peer:
            try:
                peer.send_bytes(chance.randbytes(chance.randrange(1, 400)))
            except BrokenPipeError:
                pass
    with Peer(path) as peer:
        assert peer.read(8) == nic.read32(8)
