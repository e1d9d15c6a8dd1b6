"""`ixrings emulate --vf N`: each virtual function at a socket of its own, all in one process, on one wire."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import struct
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from ixrings import open_port
from ixrings.hw.errors import DeviceError
from ixrings.hw.vfio_user import protocol as p
from ixrings.hw.vfio_user.protocol import Command, Irq, Region
from tests.support.vf_by_hand import (
    ACK,
    API_1_3,
    CTS,
    MAILBOX,
    MEMORY,
    NEGOTIATE,
    OK,
    PFSTS,
    REQ,
    RESET,
    RSTI,
    SET_LPE,
    SET_MAC,
    VFU,
    frame,
    mac_of,
    words_of,
)
from tests.support.vfio_user_peer import Peer, emulate_vfs, memfd

PATIENCE_S = 20.0
SIZE = 1 << 20
RINGS, BUFFERS = 0x1000, 0x10000  # offsets in a peer's memory
MSIX_BAR = 3


def info(peer: Peer, region: int) -> int:
    """The size of a region."""
    answer = peer.request(Command.DEVICE_GET_REGION_INFO, p.REGION_INFO.pack(p.REGION_INFO.size, 0, region, 0, 0, 0))
    return int(p.REGION_INFO.unpack_from(answer.payload)[4])


def interrupts(peer: Peer, index: int) -> int:
    answer = peer.request(Command.DEVICE_GET_IRQ_INFO, p.IRQ_INFO.pack(p.IRQ_INFO.size, 0, index, 0))
    return int(p.IRQ_INFO.unpack_from(answer.payload)[3])


def await_bit(peer: Peer, offset: int, mask: int, wanted: int) -> None:
    until = time.monotonic() + PATIENCE_S
    while peer.read32(offset) & mask != wanted:
        assert time.monotonic() < until, f"{offset:#x} never had {wanted:#x} in {mask:#x}"
        time.sleep(0.001)


def ask(peer: Peer, *words: int) -> list[int]:
    peer.write32(MAILBOX, VFU)
    for i, word in enumerate(words):
        peer.write32(MEMORY + 4 * i, word)
    peer.write32(MAILBOX, REQ)
    await_bit(peer, MAILBOX, PFSTS, PFSTS)
    peer.write32(MAILBOX, VFU)
    reply = [peer.read32(MEMORY + 4 * i) for i in range(4)]
    peer.write32(MAILBOX, ACK)
    return reply


def open_vf(peer: Peer, number: int) -> None:
    """Bus master, and what a VF's driver asks by mailbox."""
    peer.write(0x04, 0x4, Region.CONFIG, 2)
    await_bit(peer, MAILBOX, RSTI, 0)
    ask(peer, RESET)
    for words in ((NEGOTIATE, API_1_3), (SET_MAC, *words_of(mac_of(number))), (SET_LPE, 1518)):
        assert ask(peer, *words)[0] == words[0] | OK | CTS


def test_each_socket_is_a_vf_and_its_drivers_do_not_see_each_other(tmp_path: Path) -> None:
    with emulate_vfs(tmp_path / "nic", "--vf", "2", sockets=2) as nic, ExitStack() as open_:
        peers = [open_.enter_context(Peer(tmp_path / f"nic/vf{n}.sock")) for n in range(2)]
        for peer in peers:
            assert peer.read(0, Region.CONFIG) == 0x10ED8086
            sizes = [info(peer, region) for region in (Region.BAR0, MSIX_BAR, Region.BAR4, Region.CONFIG)]
            assert sizes == [0x4000, 0x4000, 0, 4096]
            assert [interrupts(peer, index) for index in (Irq.INTX, Irq.MSI, Irq.MSIX)] == [0, 0, 3]
        open_vf(peers[0], 0)
        peers[1].close()  # resets VF 1 only
        with Peer(tmp_path / "nic/vf1.sock") as again:
            open_vf(again, 1)
        assert ask(peers[0], NEGOTIATE, API_1_3)[0] == NEGOTIATE | OK | CTS
        assert nic.end() == (0, "")


@pytest.mark.slow
def test_ports_open_the_sockets_and_send_each_other_frames(tmp_path: Path) -> None:
    with (
        emulate_vfs(tmp_path / "nic", "--vf", "2", sockets=2),
        open_port(f"vfio-user:{tmp_path}/nic/vf0.sock") as zero,
        open_port(f"vfio-user:{tmp_path}/nic/vf1.sock") as one,
    ):
        sent = frame(bytes.fromhex(zero.mac.replace(":", "")), bytes.fromhex(one.mac.replace(":", "")), 100)
        zero.send([sent])
        assert next(iter(one.recv(timeout=PATIENCE_S))) == sent
        with pytest.raises(DeviceError, match="every tail is a message of this process. No virtual function has one"):
            zero.share(0)


@pytest.mark.slow
def test_a_frame_goes_from_one_socket_to_another_through_the_memory_of_both(tmp_path: Path) -> None:
    sent = frame(mac_of(0), mac_of(1), 100)
    with (
        emulate_vfs(tmp_path / "nic", "--vf", "2", "--wire", "sink", sockets=2),
        Peer(tmp_path / "nic/vf0.sock") as zero,
        Peer(tmp_path / "nic/vf1.sock") as one,
        memfd(SIZE) as left,
        memfd(SIZE) as right,
        mmap.mmap(left, SIZE) as out,
        mmap.mmap(right, SIZE) as into,
    ):
        assert zero.map(0, SIZE, left) == one.map(0, SIZE, right) == 0  # the same addresses, in two IOMMU domains
        for number, peer in enumerate((zero, one)):
            open_vf(peer, number)
        out[BUFFERS : BUFFERS + 100] = sent
        out[RINGS : RINGS + 16] = struct.pack("<QQ", BUFFERS, 100 | 3 << 20 | 0x2B << 24 | 100 << 46)
        into[RINGS : RINGS + 16] = struct.pack("<QQ", BUFFERS, 0)
        for low, value in ((0, RINGS), (4, 0), (8, 512), (0x14, 2 | 4 << 8 | 1 << 25), (0x28, 1 << 25), (0x18, 8)):
            one.write32(0x1000 + low, value)
        for low, value in ((0, RINGS), (4, 0), (8, 512), (0x28, 1 << 25 | 32 | 1 << 8), (0x18, 1)):
            zero.write32(0x2000 + low, value)
        until = time.monotonic() + PATIENCE_S
        while not into[RINGS + 8] & 1:  # DD
            assert time.monotonic() < until
            time.sleep(0.001)
        assert into[BUFFERS : BUFFERS + 100] == sent


@pytest.mark.slow
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_a_pf_driver_may_have_a_socket_too_and_drivers_leave_in_any_order(tmp_path: Path, order: list[int]) -> None:
    with emulate_vfs(tmp_path / "nic", "--vf", "2", "--pf-agent", "none", sockets=3):
        peers = [Peer(tmp_path / f"nic/{name}.sock") for name in ("pf", "vf0", "vf1")]
        assert peers[0].read(0, Region.CONFIG) == 0x10FB8086 and info(peers[0], Region.BAR4) == 0x4000
        assert peers[1].read32(MAILBOX) & RSTI  # nobody has ended the PF's reset
        peers[0].write32(0x18, 1 << 14)  # CTRL_EXT.PFRSTD
        await_bit(peers[1], MAILBOX, RSTI, 0)
        for number in order:
            peers[number].close()
        with Peer(tmp_path / "nic/vf1.sock") as again:
            assert again.read(0, Region.CONFIG) == 0x10ED8086


TGKILL = {"x86_64": 234, "aarch64": 131}[os.uname().machine]


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_that_another_thread_gets_ends_the_emulator(number: signal.Signals, tmp_path: Path) -> None:
    """The kernel does so while the main thread still counts as stopped, for example right after SIGCONT."""
    with emulate_vfs(tmp_path / "nic", "--vf", "1", sockets=1) as emulator:
        Peer(f"{emulator.path}/vf0.sock").close()  # it serves, so its main thread waits for events
        process = emulator.process
        others = [int(each) for each in os.listdir(f"/proc/{process.pid}/task") if int(each) != process.pid]
        assert others
        for thread in others:  # those that block the signal do not take it; after the first, all may be gone
            ctypes.CDLL(None).syscall(TGKILL, process.pid, thread, int(number))
        assert process.wait(PATIENCE_S) == 0
