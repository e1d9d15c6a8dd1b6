"""Answers of the vfio-user server, byte by byte, as any client sees them."""

from __future__ import annotations

import errno
import os
import struct
from pathlib import Path

import pytest

from ixrings.hw.emulator import Emulated82599
from ixrings.hw.vfio_user import protocol as p
from ixrings.hw.vfio_user.memory import most_windows
from ixrings.hw.vfio_user.protocol import (
    ACCESS,
    IRQ_INFO,
    REGION_INFO,
    Command,
    Region,
)
from tests.support.vfio_user_peer import Peer, memfd, served

OK = 0


def test_version_lists_the_capabilities_of_the_server(path: Path) -> None:
    with Peer(path, agree=False) as peer:
        answer = peer.request(
            Command.VERSION, p.VERSION.pack(0, 5) + b'{"capabilities":{"max_msg_fds":8,"unheard_of":[1]}}\0'
        )
        assert p.VERSION.unpack_from(answer.payload) == (0, 0)
        capabilities = p.read_capabilities(answer.payload[4:])
        assert capabilities == {
            "max_msg_fds": 16,
            "max_data_xfer_size": 1 << 20,
            "max_dma_maps": most_windows(),
            "pgsizes": 4096,
            "write_multiple": True,
        }


def test_the_device_is_a_pci_function_that_can_be_reset(peer: Peer) -> None:
    answer = peer.request(Command.DEVICE_GET_INFO, struct.pack("<IIII", 16, 0, 0, 0))
    assert struct.unpack("<IIII", answer.payload) == (16, 3, 10, 5)


@pytest.mark.parametrize(
    ("index", "size"), [(0, 0x20000), (1, 0), (2, 0), (3, 0), (4, 0x4000), (5, 0), (6, 0), (7, 4096), (8, 0)]
)
def test_regions_have_their_sizes_and_cannot_be_mapped(peer: Peer, index: int, size: int) -> None:
    answer = peer.request(Command.DEVICE_GET_REGION_INFO, REGION_INFO.pack(32, 0, index, 0, 0, 0))
    assert REGION_INFO.unpack(answer.payload) == (32, 3 if size else 0, index, 0, size, 0)
    assert answer.fds == []


def test_the_doorbell_region_needs_a_second_query_and_has_a_type_and_a_sealed_file(
    nic: Emulated82599, peer: Peer
) -> None:
    short = peer.request(Command.DEVICE_GET_REGION_INFO, REGION_INFO.pack(32, 0, Region.DOORBELLS, 0, 0, 0))
    assert REGION_INFO.unpack(short.payload) == (48, 4 | 8, 9, 32, 0x4000, 0)
    assert short.fds == []
    whole = peer.request(Command.DEVICE_GET_REGION_INFO, REGION_INFO.pack(48, 0, Region.DOORBELLS, 0, 0, 0))
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


def test_trap_all_leaves_the_doorbell_region_out(nic: Emulated82599, tmp_path: Path) -> None:
    with served(nic, tmp_path / "nic", trap_all=True), Peer(tmp_path / "nic") as peer:
        answer = peer.request(Command.DEVICE_GET_INFO, struct.pack("<IIII", 16, 0, 0, 0))
        assert struct.unpack("<IIII", answer.payload)[2] == 9
        assert peer.errno(Command.DEVICE_GET_REGION_INFO, REGION_INFO.pack(48, 0, 9, 0, 0, 0)) == errno.EINVAL


def test_interrupts_are_one_line_one_msi_and_64_msix(peer: Peer) -> None:
    counts = [
        IRQ_INFO.unpack(peer.request(Command.DEVICE_GET_IRQ_INFO, IRQ_INFO.pack(16, 0, index, 0)).payload)
        for index in range(5)
    ]
    assert counts == [(16, 7, 0, 1), (16, 1, 1, 1), (16, 1, 2, 64), (16, 0, 3, 0), (16, 0, 4, 0)]


def test_registers_are_read_and_written_with_their_effects(peer: Peer) -> None:
    peer.write(0x5200, 0xDEAD_BEEF)
    assert peer.read(0x5200) == 0xDEAD_BEEF
    assert peer.read(0x5200, count=8) == 0xDEAD_BEEF
    peer.write(0x5200, 0x1_0000_0002, count=8)
    assert (peer.read(0x5200), peer.read(0x5204)) == (2, 1)
    assert [peer.read(0x10140) & 1 for _ in range(2)] == [0, 1]  # SWSM: the read takes the semaphore


def test_configuration_space_is_accessed_in_pieces_of_any_size(nic: Emulated82599, peer: Peer) -> None:
    whole = peer.request(Command.REGION_READ, ACCESS.pack(0, Region.CONFIG, 4096)).payload[ACCESS.size :]
    assert whole[:4] == b"\x86\x80\xfb\x10" and len(whole) == 4096
    assert peer.read(1, Region.CONFIG, 6) == int.from_bytes(whole[1:7], "little")
    peer.write(4, 0x6, Region.CONFIG, 2)
    assert nic.config_read(4, 2) == 6
    peer.write(0x72, 0x8000, Region.CONFIG, 2)
    peer.write(0xA8, 0x8000, Region.CONFIG, 2)  # FLR
    assert peer.read(0x72, Region.CONFIG, 2) == 0x3F and nic.config_read(4, 2) == 0


def test_the_msix_table_stores_values_and_its_pending_bits_are_read_only(peer: Peer) -> None:
    assert peer.read(12, Region.BAR4) == 1  # masked after a reset
    peer.write(0, 0xFEE0_0000, Region.BAR4)
    peer.write(0x2000, 0xFFFF, Region.BAR4)
    assert (peer.read(0, Region.BAR4), peer.read(0x2000, Region.BAR4)) == (0xFEE0_0000, 0)
    assert peer.errno(Command.DEVICE_RESET) == OK
    assert peer.read(0, Region.BAR4) == 0


def test_posted_writes_keep_their_order_and_get_no_answer(peer: Peer) -> None:
    for value in range(500):
        peer.send(Command.REGION_WRITE, ACCESS.pack(0x5200, 0, 4) + struct.pack("<I", value), flags=p.NO_REPLY)
    peer.send(Command.REGION_WRITE, b"nonsense", flags=p.NO_REPLY)
    assert peer.read(0x5200) == 499


def test_one_message_carries_several_writes(peer: Peer) -> None:
    writes = [(0x5200 + 4 * i, 0, 4, struct.pack("<I4x", i + 1)) for i in range(10)]
    payload = struct.pack("<Q", len(writes)) + b"".join(struct.pack("<QII8s", *write) for write in writes)
    assert peer.request(Command.REGION_WRITE_MULTI, payload).payload == struct.pack("<Q", 10)
    assert [peer.read(0x5200 + 4 * i) for i in range(10)] == list(range(1, 11))
    for wrong in (
        b"",
        payload[:-1],
        payload + b"x",
        struct.pack("<Q", 1 << 60),
        struct.pack("<QQII8s", 1, 0x5200, 0, 9, b""),
    ):
        assert peer.errno(Command.REGION_WRITE_MULTI, wrong) == errno.EINVAL


def test_a_reset_clears_registers_and_keeps_mappings(nic: Emulated82599, peer: Peer) -> None:
    peer.write(0x5200, 5)
    with memfd(4096) as fd:
        assert peer.map(0x10000, 4096, fd) == OK
    assert peer.errno(Command.DEVICE_RESET) == OK
    assert (peer.read(0x5200), nic.dma_windows) == (0, 1)
