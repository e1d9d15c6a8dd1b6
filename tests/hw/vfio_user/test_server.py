"""The vfio-user server as a foreign client sees it: answers to the letter, and to nonsense an error that harms nothing."""

from __future__ import annotations

import errno
import os
import random
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ixrings.hw.emulator import Emulated82599
from ixrings.hw.registers import Registers
from ixrings.hw.vfio_user import protocol as p
from ixrings.hw.vfio_user.protocol import (
    ACCESS,
    DMA_MAP,
    DMA_UNMAP,
    IRQ_INFO,
    IRQ_SET,
    REGION_INFO,
    Command,
    Irq,
    Region,
)
from tests.support.driver_watch import held
from tests.support.programs import wait_for
from tests.support.vfio_user_peer import Peer, memfd, served

OK = 0


@pytest.fixture
def nic() -> Iterator[Emulated82599]:
    with Emulated82599() as nic:
        yield nic


@pytest.fixture
def path(nic: Emulated82599, tmp_path: Path) -> Iterator[Path]:
    with served(nic, tmp_path / "nic.sock"):
        yield tmp_path / "nic.sock"


@pytest.fixture
def peer(path: Path) -> Iterator[Peer]:
    with Peer(path) as peer:
        yield peer


# ---- answers ----


def test_version_says_what_the_server_can(path: Path) -> None:
    with Peer(path, agree=False) as peer:
        answer = peer.ask(
            Command.VERSION, p.VERSION.pack(0, 5) + b'{"capabilities":{"max_msg_fds":8,"unheard_of":[1]}}\0'
        )
        assert p.VERSION.unpack_from(answer.payload) == (0, 0)
        said = p.read_capabilities(answer.payload[4:])
        assert said == {
            "max_msg_fds": 16,
            "max_data_xfer_size": 1 << 20,
            "max_dma_maps": 65535,
            "pgsizes": 4096,
            "write_multiple": True,
        }


def test_the_device_is_a_pci_function_with_reset(peer: Peer) -> None:
    answer = peer.ask(Command.DEVICE_GET_INFO, struct.pack("<IIII", 16, 0, 0, 0))
    assert struct.unpack("<IIII", answer.payload) == (16, 3, 10, 5)


@pytest.mark.parametrize(
    ("index", "size"), [(0, 0x20000), (1, 0), (2, 0), (3, 0), (4, 0x4000), (5, 0), (6, 0), (7, 4096), (8, 0)]
)
def test_regions_have_their_sizes_and_no_part_to_map(peer: Peer, index: int, size: int) -> None:
    answer = peer.ask(Command.DEVICE_GET_REGION_INFO, REGION_INFO.pack(32, 0, index, 0, 0, 0))
    assert REGION_INFO.unpack(answer.payload) == (32, 3 if size else 0, index, 0, size, 0)
    assert answer.fds == []


def test_the_doorbell_region_is_asked_for_twice_and_then_brings_its_type_and_a_sealed_file(
    nic: Emulated82599, peer: Peer
) -> None:
    short = peer.ask(Command.DEVICE_GET_REGION_INFO, REGION_INFO.pack(32, 0, Region.DOORBELLS, 0, 0, 0))
    assert REGION_INFO.unpack(short.payload) == (48, 4 | 8, 9, 32, 0x4000, 0)
    assert short.fds == []
    whole = peer.ask(Command.DEVICE_GET_REGION_INFO, REGION_INFO.pack(48, 0, Region.DOORBELLS, 0, 0, 0))
    assert struct.unpack_from("<HHIII", whole.payload, 32) == (2, 1, 0, 0x8000_8086, 0x8259_9001)
    (fd,) = whole.fds
    for size in (0, 1 << 20):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)
    for place, offset in ((0x2018, 0x6018), (0x3018 + 0x40, 0x7058), (0x18, 0x1018), (0x1018, 0xD018)):
        os.pwrite(fd, struct.pack("<I", 5), place)  # as a store to the mapping would
        assert peer.read(offset) == 5
    assert os.pread(fd, 0x4000, 0x10)[:4] == struct.pack("<I", nic.read32(0x1010))
    whole.close_fds()


def test_with_everything_trapped_there_is_no_such_region(nic: Emulated82599, tmp_path: Path) -> None:
    with served(nic, tmp_path / "nic", trap_all=True), Peer(tmp_path / "nic") as peer:
        answer = peer.ask(Command.DEVICE_GET_INFO, struct.pack("<IIII", 16, 0, 0, 0))
        assert struct.unpack("<IIII", answer.payload)[2] == 9
        assert peer.errno(Command.DEVICE_GET_REGION_INFO, REGION_INFO.pack(48, 0, 9, 0, 0, 0)) == errno.EINVAL


def test_interrupts_are_one_line_one_msi_and_64_msix(peer: Peer) -> None:
    counts = [
        IRQ_INFO.unpack(peer.ask(Command.DEVICE_GET_IRQ_INFO, IRQ_INFO.pack(16, 0, index, 0)).payload)
        for index in range(5)
    ]
    assert counts == [(16, 7, 0, 1), (16, 1, 1, 1), (16, 1, 2, 64), (16, 0, 3, 0), (16, 0, 4, 0)]


def test_registers_are_read_and_written_with_their_effects(peer: Peer) -> None:
    peer.write(0x5200, 0xDEAD_BEEF)
    assert peer.read(0x5200) == 0xDEAD_BEEF
    assert peer.read(0x5200, count=8) == 0xDEAD_BEEF
    peer.write(0x5200, 0x1_0000_0002, count=8)
    assert (peer.read(0x5200), peer.read(0x5204)) == (2, 1)
    assert [peer.read(0x10140) & 1 for _ in range(2)] == [0, 1]  # SWSM: the read takes it


def test_configuration_space_comes_in_any_piece(nic: Emulated82599, peer: Peer) -> None:
    whole = peer.ask(Command.REGION_READ, ACCESS.pack(0, Region.CONFIG, 4096)).payload[ACCESS.size :]
    assert whole[:4] == b"\x86\x80\xfb\x10" and len(whole) == 4096
    assert peer.read(1, Region.CONFIG, 6) == int.from_bytes(whole[1:7], "little")
    peer.write(4, 0x6, Region.CONFIG, 2)
    assert nic.config_read(4, 2) == 6
    peer.write(0x72, 0x8000, Region.CONFIG, 2)
    peer.write(0xA8, 0x8000, Region.CONFIG, 2)  # FLR
    assert peer.read(0x72, Region.CONFIG, 2) == 0x3F and nic.config_read(4, 2) == 0


def test_the_msix_table_remembers_and_its_pending_bits_are_read_only(peer: Peer) -> None:
    assert peer.read(12, Region.BAR4) == 1  # masked after a reset
    peer.write(0, 0xFEE0_0000, Region.BAR4)
    peer.write(0x2000, 0xFFFF, Region.BAR4)
    assert (peer.read(0, Region.BAR4), peer.read(0x2000, Region.BAR4)) == (0xFEE0_0000, 0)
    assert peer.errno(Command.DEVICE_RESET) == OK
    assert peer.read(0, Region.BAR4) == 0


def test_posted_writes_are_done_in_order_and_not_answered(peer: Peer) -> None:
    for value in range(500):
        peer.say(Command.REGION_WRITE, ACCESS.pack(0x5200, 0, 4) + struct.pack("<I", value), flags=p.NO_REPLY)
    peer.say(Command.REGION_WRITE, b"nonsense", flags=p.NO_REPLY)
    assert peer.read(0x5200) == 499


def test_several_writes_in_one_message(peer: Peer) -> None:
    writes = [(0x5200 + 4 * i, 0, 4, struct.pack("<I4x", i + 1)) for i in range(10)]
    payload = struct.pack("<Q", len(writes)) + b"".join(struct.pack("<QII8s", *write) for write in writes)
    assert peer.ask(Command.REGION_WRITE_MULTI, payload).payload == struct.pack("<Q", 10)
    assert [peer.read(0x5200 + 4 * i) for i in range(10)] == list(range(1, 11))
    for wrong in (
        b"",
        payload[:-1],
        payload + b"x",
        struct.pack("<Q", 1 << 60),
        struct.pack("<QQII8s", 1, 0x5200, 0, 9, b""),
    ):
        assert peer.errno(Command.REGION_WRITE_MULTI, wrong) == errno.EINVAL


def test_a_reset_forgets_registers_and_keeps_memory(nic: Emulated82599, peer: Peer) -> None:
    peer.write(0x5200, 5)
    with memfd(4096) as fd:
        assert peer.map(0x10000, 4096, fd) == OK
    assert peer.errno(Command.DEVICE_RESET) == OK
    assert (peer.read(0x5200), nic.dma_windows) == (0, 1)


# ---- interrupts ----


def set_irqs(peer: Peer, flags: int, index: int, start: int, count: int, fds: list[int]) -> int:
    return peer.errno(Command.DEVICE_SET_IRQS, IRQ_SET.pack(20, flags, index, start, count), fds)


@pytest.fixture
def eventfds() -> Iterator[list[int]]:
    fds = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(16)]
    yield fds
    for fd in fds:
        os.close(fd)


def came(fd: int) -> int:
    for _ in range(100):
        try:
            return os.eventfd_read(fd)
        except BlockingIOError:
            time.sleep(0.001)
    return 0


def test_msix_vectors_are_connected_with_a_growing_count_and_disconnected(peer: Peer, eventfds: list[int]) -> None:
    assert set_irqs(peer, 0x24, Irq.MSIX, 0, 1, eventfds[:1]) == OK
    assert set_irqs(peer, 0x24, Irq.MSIX, 0, 3, eventfds[:3]) == OK
    assert set_irqs(peer, 0x24, Irq.MSIX, 3, 2, eventfds[3:5]) == OK
    peer.write(0x00898, 0x10)  # GPIE.MSIX_MODE
    peer.write(0x00AA0, 0xFFFF)  # EIMS_EX
    for vector in (0, 2, 4):
        peer.write(0x00A90, 1 << vector)  # EICS_EX
        assert came(eventfds[vector]) == 1
    assert set_irqs(peer, 0x24, Irq.MSIX, 4, 1, []) == OK  # no fd: that vector goes nowhere
    peer.write(0x00A90, 1 << 4)
    assert came(eventfds[4]) == 0
    assert set_irqs(peer, 0x21, Irq.MSIX, 0, 0, []) == OK
    assert set_irqs(peer, 0x24, Irq.INTX, 0, 1, eventfds[:1]) == OK


def test_intx_stays_up_until_it_is_served_and_is_masked_after_each_signal(peer: Peer, eventfds: list[int]) -> None:
    assert set_irqs(peer, 0x24, Irq.INTX, 0, 1, eventfds[:1]) == OK
    peer.write(0x00880, 1 << 20)  # EIMS: LSC
    peer.write(0x00808, 1 << 20)  # EICS
    assert came(eventfds[0]) == 1
    peer.write(0x00808, 1 << 20)
    assert came(eventfds[0]) == 0  # masked
    assert set_irqs(peer, 0x11, Irq.INTX, 0, 1, []) == OK
    assert came(eventfds[0]) == 1  # still up
    assert peer.read(0x00800) & 1 << 20  # EICR: the read clears it
    assert set_irqs(peer, 0x11, Irq.INTX, 0, 1, []) == OK
    assert came(eventfds[0]) == 0
    assert set_irqs(peer, 0x09, Irq.INTX, 0, 1, []) == OK  # masked by hand
    peer.write(0x00808, 1 << 20)
    assert came(eventfds[0]) == 0
    assert set_irqs(peer, 0x11, Irq.INTX, 0, 1, []) == OK
    assert came(eventfds[0]) == 1


def test_a_full_eventfd_of_a_client_that_blocks_does_not_block_the_nic(nic: Emulated82599, peer: Peer) -> None:
    fd = os.eventfd(0)
    os.eventfd_write(fd, 2**64 - 2)
    assert set_irqs(peer, 0x24, Irq.MSIX, 0, 1, [fd]) == OK
    peer.write(0x00898, 0x10)
    peer.write(0x00AA0, 1)
    peer.write(0x00A90, 1)
    assert peer.read(8) != 0xFFFFFFFF
    os.close(fd)


@pytest.mark.parametrize(("flags", "index", "start", "count", "fds"), [
    (0x24, 2, 0, 2, 1), (0x24, 2, 0, 1, 2), (0x24, 2, 64, 1, 1), (0x24, 2, 63, 2, 2), (0x24, 0, 0, 2, 2), (0x24, 0, 1, 1, 1), (0x24, 3, 0, 1, 1),
    (0x24, 9, 0, 1, 1), (0x24, 2, 0, 0, 0), (0x21, 2, 0, 0, 1), (0x11, 0, 0, 1, 1), (0x20, 2, 0, 1, 1), (0x04, 2, 0, 1, 1), (0, 2, 0, 1, 1),
    (0x3F, 2, 0, 1, 0), (0xFFFF_FFFF, 2, 0, 1, 0), (0x24, 2, 0xFFFF_FFFF, 0xFFFF_FFFF, 0), (0x24, 2, 0, 0xFFFF_FFFF, 1), (0x11, 0, 0, 0, 0),
])  # fmt: skip
def test_interrupts_set_wrongly_are_refused_and_no_fd_is_kept(
    peer: Peer, eventfds: list[int], flags: int, index: int, start: int, count: int, fds: int
) -> None:
    before = held()
    assert set_irqs(peer, flags, index, start, count, eventfds[:fds]) in (errno.EINVAL, errno.EOPNOTSUPP)
    wait_for(lambda: held() == before, "fds are still there")  # the answer goes out before they are closed


def test_what_is_no_eventfd_is_not_taken_for_one(peer: Peer, eventfds: list[int]) -> None:
    with memfd(4096) as fd:
        assert set_irqs(peer, 0x24, Irq.MSIX, 0, 2, [eventfds[0], fd]) == errno.EINVAL
    assert set_irqs(peer, 0x24, Irq.MSIX, 0, 1, eventfds[:1]) == OK
    assert set_irqs(peer, 0x24, Irq.INTX, 0, 1, eventfds[1:2]) == errno.EINVAL  # one kind at a time


# ---- nonsense ----


def header(command: int, size: int, *, flags: int = 0, id: int = 7) -> bytes:
    return p.HEADER.pack(id, command, size, flags, 0)


def refused_and_well(peer: Peer, nic: Emulated82599) -> None:
    """The last message got EINVAL, and everything goes on."""
    answer = peer.hear()
    assert answer is not None and answer.error == errno.EINVAL and answer.payload == b""
    assert peer.read(8) == nic.read32(8)


@pytest.mark.parametrize("command", list(Command))
def test_a_payload_that_is_too_short_is_refused(nic: Emulated82599, peer: Peer, command: Command) -> None:
    lengths = {Command.DEVICE_RESET: [], Command.DMA_READ: [], Command.DMA_WRITE: []}.get(command, [0, 1, 3, 7])
    for length in lengths:
        peer.say(command, bytes(length))
        refused_and_well(peer, nic)


@pytest.mark.parametrize("command", [0, Command.DMA_READ, Command.DMA_WRITE, 14, 16, 17, 18, 99, 0xFFFF])
def test_commands_that_are_none_of_a_clients_are_refused(nic: Emulated82599, peer: Peer, command: int) -> None:
    assert peer.errno(command, bytes(64)) == errno.EOPNOTSUPP
    assert peer.read(8) == nic.read32(8)


@pytest.mark.parametrize("size", [0, 1, 15, p.LARGEST + 1, 0x7FFF_FFFF, 0xFFFF_FFFF])
def test_a_size_that_cannot_be_is_answered_and_ends_the_connection(nic: Emulated82599, path: Path, size: int) -> None:
    with Peer(path) as peer:
        peer.raw(header(Command.REGION_READ, size) + bytes(64))
        answer = peer.hear()
        assert answer is not None and (answer.id, answer.command, answer.error) == (
            7,
            Command.REGION_READ,
            errno.EINVAL,
        )
        assert peer.hear() is None
    with Peer(path) as peer:
        assert peer.read(8) == nic.read32(8)


def test_the_largest_message_is_read_and_refused(nic: Emulated82599, peer: Peer) -> None:
    peer.raw(header(Command.REGION_WRITE, p.LARGEST) + bytes(p.LARGEST - p.HEADER.size))
    refused_and_well(peer, nic)
    assert peer.errno(Command.REGION_READ, ACCESS.pack(0, Region.BAR0, 0x20000)) == OK
    assert peer.errno(Command.REGION_READ, ACCESS.pack(0, Region.BAR0, 0xFFFF_FFFC)) == errno.EINVAL


def test_nothing_goes_before_version_and_version_goes_once(nic: Emulated82599, path: Path) -> None:
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
    b"", b"\0", p.VERSION.pack(1, 0), p.VERSION.pack(0, 0) + b"{}", p.VERSION.pack(0, 0) + b"[]\0", p.VERSION.pack(0, 0) + b"\xff\xfe\0",
    p.VERSION.pack(0, 0) + b'{"capabilities":5}\0', p.VERSION.pack(0, 0) + b'{"capabilities":{"max_data_xfer_size":4096}}\0',
    p.VERSION.pack(0, 0) + b'{"capabilities":{"max_data_xfer_size":"x"}}\0', p.VERSION.pack(0, 0) + b"[" * 100_000 + b"\0",
])  # fmt: skip
def test_a_version_that_is_none_is_refused(path: Path, payload: bytes) -> None:
    with Peer(path, agree=False) as peer:
        assert peer.errno(Command.VERSION, payload) == errno.EINVAL
        assert peer.errno(Command.VERSION, p.VERSION.pack(0, 0) + p.capabilities()) == OK


def test_a_message_that_is_neither_command_nor_reply_is_refused(nic: Emulated82599, peer: Peer) -> None:
    for kind in (2, 7, 15):
        peer.say(Command.DEVICE_RESET, flags=kind)
        refused_and_well(peer, nic)
    peer.say(Command.DMA_READ, p.DMA_ACCESS.pack(0, 4) + b"data", flags=p.REPLY)  # to nothing: nobody is told
    assert peer.read(8) == nic.read32(8)


@pytest.mark.parametrize(("offset", "region", "count"), [
    (2, 0, 4), (0, 0, 1), (0, 0, 2), (0, 0, 3), (0, 0, 0), (0x20000, 0, 4), (0x1FFFC, 0, 8), (2**64 - 4, 0, 4), (2**64 - 1, 0, 0xFFFF_FFFF),
    (0, 1, 4), (0, 9, 4), (0, 10, 4), (0, 0xFFFF_FFFF, 4), (4096, 7, 1), (4094, 7, 4), (0, 7, 0), (0x4000, 4, 4), (0x3FFF, 4, 2), (0, 4, 0),
])  # fmt: skip
def test_accesses_to_places_that_are_not_there_are_refused(
    nic: Emulated82599, peer: Peer, offset: int, region: int, count: int
) -> None:
    before = [nic.read32(at) for at in (8, 0x5200)]
    assert peer.errno(Command.REGION_READ, ACCESS.pack(offset, region, count)) == errno.EINVAL
    assert (
        peer.errno(Command.REGION_WRITE, ACCESS.pack(offset, region, count) + bytes(min(count, 4096))) == errno.EINVAL
    )
    assert [nic.read32(at) for at in (8, 0x5200)] == before


def test_data_that_is_longer_or_shorter_than_it_says_is_refused(peer: Peer) -> None:
    for data in (b"", b"abc", b"abcde"):
        assert peer.errno(Command.REGION_WRITE, ACCESS.pack(0x5200, 0, 4) + data) == errno.EINVAL
    assert peer.read(0x5200) == 0


@pytest.mark.parametrize("count", [1, 2, 16, 17, 40, 200])
def test_fds_where_none_belong_are_closed(nic: Emulated82599, peer: Peer, count: int) -> None:
    before = held()
    with memfd(4096) as fd:
        peer.say(Command.DEVICE_RESET, fds=[fd] * count)
        refused_and_well(peer, nic)
        peer.say(Command.DEVICE_RESET, fds=[fd] * count, flags=p.NO_REPLY)
        peer.say(99, fds=[fd] * count, flags=p.REPLY)
        peer.say(Command.DMA_MAP, DMA_MAP.pack(32, 3, 0, 0, 4096), [fd] * (count + 1))
        refused_and_well(peer, nic)
    assert nic.dma_windows == 0
    wait_for(lambda: held() == before, "fds are still there")  # the answer goes out before they are closed


def test_fds_belong_to_the_message_they_came_with(nic: Emulated82599, peer: Peer) -> None:
    with memfd(4096) as fd:
        read = header(Command.REGION_READ, 32, id=1) + ACCESS.pack(8, 0, 4)
        mapping = header(Command.DMA_MAP, 48, id=2) + DMA_MAP.pack(32, 3, 0, 0x10000, 4096)
        for _ in range(20):
            peer.raw(read * 3)
            peer.raw(mapping, [fd])
            peer.raw(read)
            peer.raw(mapping[:20], [fd])  # in two pieces; and the window is there already
            peer.raw(mapping[20:] + read)
            answers = [peer.hear() for _ in range(7)]
            assert [answer.error for answer in answers if answer] == [0, 0, 0, 0, 0, errno.EEXIST, 0]
            assert peer.unmap(0x10000, 4096) == OK


def test_a_client_that_hangs_up_in_the_middle_of_a_message_leaves_nothing(nic: Emulated82599, path: Path) -> None:
    before = held()
    whole = header(Command.DMA_MAP, 48) + DMA_MAP.pack(32, 3, 0, 0x10000, 4096)
    for length in range(1, len(whole) + 1, 5):
        with memfd(4096) as fd, Peer(path) as peer:
            peer.raw(whole[:length], [fd])
    with Peer(path) as peer:
        assert peer.read(8) == nic.read32(8)
        assert nic.dma_windows == 0
    wait_for(lambda: held() == before, "fds are still there")


def test_a_client_that_hears_nothing_does_not_hold_the_server_for_ever(
    nic: Emulated82599, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(p, "SEND_S", 0.2)
    with Peer(path) as deaf:
        deaf.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", 0, 200_000))
        with pytest.raises(OSError):  # it asks and asks, and does not listen
            for _ in range(100_000):
                deaf.say(Command.REGION_READ, ACCESS.pack(0, Region.CONFIG, 4096))
    with Peer(path) as peer:
        assert peer.read(8) == nic.read32(8)


def test_half_a_message_is_not_waited_for_for_ever(
    nic: Emulated82599, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ixrings.hw.vfio_user.server.HALF_A_MESSAGE_S", 0.2)
    with Peer(path) as slow:
        slow.raw(header(Command.REGION_READ, 32))
        assert slow.hear() is None


def test_a_second_client_hears_ebusy_and_the_first_goes_on(nic: Emulated82599, peer: Peer, path: Path) -> None:
    silent = [Peer(path, agree=False) for _ in range(40)]  # more than are kept waiting
    assert peer.read(8) == nic.read32(8)
    for each in silent:
        each.close()
    with Peer(path, agree=False) as second:
        assert second.errno(Command.VERSION, p.VERSION.pack(0, 0) + p.capabilities()) == errno.EBUSY
        assert second.hear() is None
    assert peer.read(8) == nic.read32(8)


@pytest.mark.parametrize("seed", range(4))
def test_random_nonsense_of_every_kind_harms_nothing(nic: Emulated82599, path: Path, seed: int) -> None:
    """Well-formed headers, random commands, payloads made of numbers that hurt, fds that belong nowhere."""
    chance = random.Random(seed)
    numbers = [0, 1, 2, 3, 4, 7, 9, 16, 20, 24, 32, 4096, 0x10000, 0x1000_0000, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF]
    before = held()
    for _ in range(6):
        with Peer(path) as peer, memfd(1 << 16) as fd:
            peer.socket.settimeout(5)
            for _ in range(150):
                command = chance.choice([*Command, chance.randrange(20)])
                if command == Command.DEVICE_RESET:
                    continue  # takes its time, and has been shown
                payload = b"".join(struct.pack("<I", chance.choice(numbers)) for _ in range(chance.randrange(14)))
                payload += chance.randbytes(chance.choice([0, 0, 1, 5]))
                fds = [fd] * chance.choice([0, 0, 0, 1, 1, 2, 20])
                peer.say(command, payload, fds, flags=chance.choice([0, 0, 0, p.NO_REPLY, p.REPLY, p.ERROR, 5]))
    with Peer(path) as peer:
        assert peer.read(0x8) == nic.read32(8)
        assert Registers(nic).CTRL.read() == 0  # as after power-on
        assert nic.dma_windows == 0
    wait_for(lambda: held() == before, "something is still held")


@pytest.mark.parametrize("seed", range(3))
def test_random_bytes_harm_nothing(nic: Emulated82599, path: Path, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(60):
        with Peer(path, agree=chance.random() < 0.7) as peer:
            try:
                peer.raw(chance.randbytes(chance.randrange(1, 400)))
            except BrokenPipeError:
                pass
    with Peer(path) as peer:
        assert peer.read(8) == nic.read32(8)


def test_unmapping_is_exact(nic: Emulated82599, peer: Peer) -> None:
    with memfd(0x10000) as fd:
        for page in range(16):
            assert peer.map(0x1000 * page, 0x1000, fd, offset=0x1000 * page) == OK
        assert peer.map(0x8000, 0x1000, fd) == errno.EEXIST
        assert peer.map(0x20000, 0x10000, fd) == OK
        assert peer.unmap(0x28000, 0x1000) == errno.EINVAL  # would cut one in two
        assert peer.unmap(0x1F000, 0x2000) == errno.EINVAL
        assert nic.dma_windows == 17
        answer = peer.ask(Command.DMA_UNMAP, DMA_UNMAP.pack(24, 0, 0x4000, 0x2000))
        assert answer.payload == DMA_UNMAP.pack(24, 0, 0x4000, 0x2000)
        assert nic.dma_windows == 15
        assert peer.unmap(1 << 40, 1 << 62) == OK  # nothing is there
        assert peer.unmap(1 << 63, 1 << 63) == OK
        assert peer.unmap(0, 0x20000) == OK
        assert nic.dma_windows == 1
        assert peer.unmap(0, 0, p.UNMAP_ALL) == OK
        assert nic.dma_windows == 0
        for address, size, flags in (
            (0, 0, 0),
            (0x1000, 0x1000, 1),
            (0x1000, 0x1000, 2),
            (0, 0, 3),
            (1 << 63, (1 << 63) + 1, 0),
        ):
            assert peer.unmap(address, size, flags) == errno.EINVAL


@pytest.mark.parametrize(("iova", "size", "offset", "flags", "number"), [
    (0, 0, 0, 3, errno.EINVAL), (0, 0x11000, 0, 3, errno.EINVAL), (0, 0x1000, 0x10000, 3, errno.EINVAL), (0, 0x1000, 1 << 63, 3, errno.EINVAL),
    (0, 100, 0, 3, errno.EINVAL), (0x10, 0x1000, 0, 3, errno.EINVAL), (0, 0x1000, 0x10, 3, errno.EINVAL), (0, 0x1000, 0, 0, errno.EINVAL),
    (0, 0x1000, 0, 4, errno.EINVAL), (2**64 - 0x1000, 0x2000, 0, 3, errno.EINVAL), (2**64 - 0x1000, 0x1000, 0, 3, errno.EINVAL),
    (0, 2**64 - 0x1000, 0, 3, errno.EINVAL), (2**64 - 0x2000, 0x1000, 0, 3, 0), (0, 0x10000, 0, 1, 0), (0, 0x8000, 0x8000, 2, 0),
])  # fmt: skip
def test_windows_that_cannot_be_are_refused(
    nic: Emulated82599, peer: Peer, iova: int, size: int, offset: int, flags: int, number: int
) -> None:
    with memfd(0x10000) as fd:
        assert peer.map(iova, size, fd, offset=offset, flags=flags) == number
    assert nic.dma_windows == (0 if number else 1)


def test_files_that_cannot_be_memory_are_refused(nic: Emulated82599, peer: Peer, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(0x1000))
    reader, writer = os.pipe()
    opened = [
        os.open("/dev/zero", os.O_RDWR),
        os.open(tmp_path, os.O_RDONLY),
        os.open("/dev/null", os.O_RDWR),
        reader,
        writer,
    ]
    read_only = os.open(tmp_path / "file", os.O_RDONLY)
    for fd in opened:
        assert peer.map(0, 0x1000, fd) == errno.EINVAL
    assert peer.map(0, 0x1000, read_only) == errno.EACCES
    assert peer.map(0, 0x1000, read_only, flags=1) == OK
    for fd in (*opened, read_only):
        os.close(fd)


def test_thousands_of_windows_keep_no_fd(nic: Emulated82599, peer: Peer) -> None:
    before = held()[0]
    with memfd(4096 * 3000) as fd:
        for first in range(0, 3000, 100):
            for page in range(first, first + 100):
                peer.say(Command.DMA_MAP, DMA_MAP.pack(32, 3, 4096 * page, 8192 * page, 4096), [fd])
            answers = [peer.hear() for _ in range(100)]
            assert all(answer is not None and answer.error == 0 for answer in answers)
        assert nic.dma_windows == 3000
    wait_for(lambda: held()[0] == before, "fds are still there")
    assert peer.unmap(0, 8192 * 3000) == OK
