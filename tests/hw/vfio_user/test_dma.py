"""DMA across processes: windows on files with access rights, memory accessed by messages, memory that disappears."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import queue
import select
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ixrings import open_port
from ixrings.hw.device import DmaMapping
from ixrings.hw.emulator import Emulated82599
from ixrings.hw.errors import DeviceGone
from ixrings.hw.registers import Registers
from ixrings.hw.vfio_user import VfioUserDevice
from ixrings.hw.vfio_user import protocol as p
from ixrings.hw.vfio_user.client import FIRST_IOVA
from ixrings.hw.vfio_user.connection import Connection
from ixrings.hw.vfio_user.protocol import ACCESS, DMA_ACCESS, DMA_MAP, Channel, Command, Message
from tests.support.dma_by_messages import (
    FRAMES,
    HEAD,
    MEMORY,
    RING,
    ByMessages,
    descriptor,
    reply,
    request,
    ring_doorbell,
    wait_faults,
)
from tests.support.programs import wait_for
from tests.support.steered import UDP, ethernet, packet
from tests.support.vfio_user_peer import Peer, emulate, memfd, served

pytestmark = pytest.mark.breaks_rules  # queues are set up with as few messages as possible


# ---- windows on files ----


def test_a_window_that_may_only_be_read_is_not_written(nic: Emulated82599, tmp_path: Path) -> None:
    with served(nic, tmp_path / "nic"), Peer(tmp_path / "nic") as peer, memfd(0x3000) as fd:
        assert peer.map(MEMORY, 0x3000, fd, flags=p.DMA_READABLE) == 0
        os.pwrite(fd, descriptor(FRAMES), 0)
        by_hand = ByMessages(peer)
        by_hand.transmit_queue(head=HEAD)
        by_hand.regs.TDT[0].write(1)
        assert wait_faults(nic) == [("dma_write", HEAD)]
        assert os.pread(fd, 4, 0x2000) == bytes(4)


def test_a_window_that_may_only_be_written_is_not_read(nic: Emulated82599, tmp_path: Path) -> None:
    with served(nic, tmp_path / "nic"), Peer(tmp_path / "nic") as peer, memfd(0x3000) as fd:
        assert peer.map(MEMORY, 0x3000, fd, flags=p.DMA_WRITABLE) == 0
        by_hand = ByMessages(peer)
        by_hand.transmit_queue()
        by_hand.regs.TDT[0].write(1)
        assert wait_faults(nic) == [("dma_read", RING)]


def test_a_window_is_the_named_part_of_the_file(nic: Emulated82599, tmp_path: Path) -> None:
    with served(nic, tmp_path / "nic"), Peer(tmp_path / "nic") as peer, memfd(0x10000) as fd:
        assert peer.map(RING, 0x1000, fd, offset=0x7000) == 0
        assert peer.map(FRAMES, 0x1000, fd, offset=0x2000) == 0  # adjacent for the NIC, far apart in the file
        assert peer.map(HEAD, 0x1000, fd, offset=0xF000) == 0
        os.pwrite(fd, descriptor(FRAMES), 0x7000)
        by_hand = ByMessages(peer)
        by_hand.transmit_queue(head=HEAD)
        by_hand.regs.TDT[0].write(1)
        wait_for(lambda: os.pread(fd, 4, 0xF000) == b"\1\0\0\0", "the head was not written back")
        assert nic.faults == []


def test_unmapping_during_traffic_is_a_fault_and_the_port_still_closes(tmp_path: Path) -> None:
    with Emulated82599() as nic, served(nic, tmp_path / "nic") as name, open_port(name) as port:
        port.promiscuous = True
        port.send([bytes(60)] * 500)
        port.device.unmap_dma(DmaMapping(port.region.address, port.region.size, FIRST_IOVA))
        for _ in range(20):
            port.txsync()
            port.rxsync()
        port.send([bytes(60)] * 10)
        assert wait_faults(nic)[0][0] in ("dma_read", "dma_write")


def test_a_truncated_file_is_a_fault_and_the_server_continues(tmp_path: Path) -> None:
    with emulate(tmp_path / "nic.sock") as emulator:
        for _ in range(2):
            with Peer(emulator.path) as peer, memfd(0x3000) as fd:
                assert peer.map(MEMORY, 0x3000, fd) == 0
                os.pwrite(fd, descriptor(FRAMES), 0)
                by_hand = ByMessages(peer)
                by_hand.transmit_queue(head=HEAD)
                os.ftruncate(fd, 0x1000)  # the frame and the head word are gone
                by_hand.regs.TDT[0].write(1)
                by_hand.wait_transmitted(1)
                os.ftruncate(fd, 0)
                by_hand.regs.TDT[0].write(2)
                assert peer.read(8) != 0xFFFF_FFFF
        status, errors = emulator.end()
        assert status == 0
        assert f"{FRAMES:#x}" in errors and f"{HEAD:#x}" in errors


@pytest.mark.slow
def test_buffers_that_vanish_while_usual_frames_come_are_a_fault_and_the_server_continues(tmp_path: Path) -> None:
    slots, buffers, udp = 64, MEMORY + 0x10_0000, ethernet(packet(UDP))
    with (
        emulate(tmp_path / "nic.sock") as emulator,
        Peer(emulator.path) as peer,
        memfd(0x3000) as fd,
        memfd(slots * 2048) as lost,
    ):
        assert peer.map(MEMORY, 0x3000, fd) == peer.map(buffers, slots * 2048, lost) == 0
        os.pwrite(fd, 4 * descriptor(FRAMES, len(udp)), 0)
        os.pwrite(fd, b"".join(struct.pack("<QQ", buffers + 2048 * slot, 0) for slot in range(slots)), 0x800)
        os.pwrite(fd, udp, FRAMES - MEMORY)
        by_hand = ByMessages(peer)
        by_hand.regs.RAL[0].write(int.from_bytes(udp[:4], "little"))
        by_hand.regs.RAH[0].write(int.from_bytes(udp[4:6], "little") | 1 << 31)
        by_hand.transmit_queue()
        by_hand.receive_queue(MEMORY + 0x800, slots)
        by_hand.regs.TDT[0].write(2)  # the first frame finds the buffers' window, which the second one uses
        wait_for(lambda: by_hand.regs.RDH[0].read() == 2, "the frames were not received")
        assert os.pread(lost, len(udp), 2048) == udp
        os.ftruncate(lost, 0)
        by_hand.regs.TDT[0].write(4)
        wait_for(lambda: by_hand.regs.TDH[0].read() == 4, "the NIC does not send any more")
        status, errors = emulator.end()
    assert status == 0 and f"{buffers + 2 * 2048:#x}" in errors


@pytest.mark.usefixtures("some_hugepages")
def test_small_windows_on_hugepages_work(nic: Emulated82599, tmp_path: Path) -> None:
    fd = os.memfd_create("peer", os.MFD_HUGETLB | os.MFD_HUGE_2MB)
    os.ftruncate(fd, 4 << 20)
    view = mmap.mmap(fd, 4 << 20)
    with served(nic, tmp_path / "nic"), Peer(tmp_path / "nic") as peer:
        for iova, offset in ((RING, 0x1000), (FRAMES, 0x5000), (HEAD, 0x20_3000)):
            assert peer.map(iova, 0x1000, fd, offset=offset) == 0
        view[0x1000:0x1010] = descriptor(FRAMES)
        by_hand = ByMessages(peer)
        by_hand.transmit_queue(head=HEAD)
        by_hand.regs.TDT[0].write(1)
        wait_for(lambda: view[0x20_3000:0x20_3004] == b"\1\0\0\0", "the head was not written back")
        assert peer.unmap(0, 1 << 40) == 0
    view.close()
    os.close(fd)


# ---- memory accessed by messages ----


@pytest.fixture
def by_hand(nic: Emulated82599, tmp_path: Path) -> Iterator[ByMessages]:
    with served(nic, tmp_path / "nic"), Peer(tmp_path / "nic") as peer:
        assert peer.map(MEMORY, 0x10000, None) == 0
        yield ByMessages(peer)


def test_a_frame_is_read_and_its_completion_written_by_messages(nic: Emulated82599, by_hand: ByMessages) -> None:
    by_hand.transmit_queue(head=HEAD)
    ring_doorbell(by_hand, 1)
    read = request(by_hand.peer, Command.DMA_READ)
    assert DMA_ACCESS.unpack(read.payload) == (RING, 16)
    reply(by_hand.peer, read, read.payload + descriptor(FRAMES, 100))
    read = request(by_hand.peer, Command.DMA_READ)
    assert DMA_ACCESS.unpack(read.payload) == (FRAMES, 100)
    reply(by_hand.peer, read, read.payload + bytes(100))
    write = request(by_hand.peer, Command.DMA_WRITE)
    assert write.payload == DMA_ACCESS.pack(HEAD, 4) + struct.pack("<I", 1)
    reply(by_hand.peer, write, DMA_ACCESS.pack(HEAD, 4))
    assert (by_hand.regs.TDH[0].read(), by_hand.regs.GPTC.read()) == (1, 1)
    assert nic.faults == []


def test_accesses_are_answered_before_and_during_a_dma_request(by_hand: ByMessages) -> None:
    by_hand.transmit_queue()
    peer = by_hand.peer
    write = ACCESS.pack(0x6018, 0, 4) + struct.pack("<I", 1)
    read = ACCESS.pack(8, 0, 4)
    peer.send_bytes(
        p.HEADER.pack(1, Command.REGION_WRITE, 36, p.NO_REPLY, 0)
        + write
        + p.HEADER.pack(2, Command.REGION_READ, 32, 0, 0)
        + read
    )
    first = peer.receive()
    assert first is not None and first.is_reply and first.id == 2
    out = request(peer, Command.DMA_READ)
    assert [peer.read(8) >> 7 & 1 for _ in range(3)] == [1, 1, 1]
    reply(peer, out, out.payload + descriptor(FRAMES))
    request(peer, Command.DMA_READ)


@pytest.mark.parametrize("answer", ["refused", "short", "long", "empty", "other", "late"])
def test_a_dma_read_without_a_valid_answer_is_a_fault(
    nic: Emulated82599, by_hand: ByMessages, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ixrings.hw.vfio_user.session.DMA_ANSWER_S", 0.1 if answer == "late" else 5.0)
    by_hand.transmit_queue()
    ring_doorbell(by_hand, 1)
    read = request(by_hand.peer, Command.DMA_READ)
    payloads = {
        "short": read.payload + bytes(15),
        "long": read.payload + bytes(17),
        "empty": b"",
        "other": b"",
        "refused": b"",
    }
    if answer == "other":
        read.command = Command.DMA_WRITE
    if answer != "late":
        reply(by_hand.peer, read, payloads[answer], error=errno.ENODEV if answer == "refused" else 0)
    assert wait_faults(nic) == [("dma_read", RING)]
    reply(by_hand.peer, read, read.payload + descriptor(FRAMES))  # a second or late answer is ignored
    assert by_hand.regs.TDH[0].read() == 0
    by_hand.regs.TXDCTL[0].write(ENABLE=0)  # the queue can be started again
    by_hand.transmit_queue()
    ring_doorbell(by_hand, 1)
    read = request(by_hand.peer, Command.DMA_READ)
    reply(by_hand.peer, read, read.payload + descriptor(FRAMES))
    assert DMA_ACCESS.unpack(request(by_hand.peer, Command.DMA_READ).payload) == (FRAMES, 60)


def test_a_write_that_is_refused_is_a_fault(nic: Emulated82599, by_hand: ByMessages) -> None:
    by_hand.transmit_queue(head=HEAD)
    ring_doorbell(by_hand, 1)
    for data in (descriptor(FRAMES), bytes(60)):
        read = request(by_hand.peer, Command.DMA_READ)
        reply(by_hand.peer, read, read.payload + data)
    reply(by_hand.peer, request(by_hand.peer, Command.DMA_WRITE), b"", error=errno.ENODEV)
    assert wait_faults(nic) == [("dma_write", HEAD)]


def test_a_descriptor_that_was_read_before_the_queue_stopped_is_read_again(by_hand: ByMessages) -> None:
    by_hand.transmit_queue()
    ring_doorbell(by_hand, 1)
    stale = request(by_hand.peer, Command.DMA_READ)
    by_hand.regs.TXDCTL[0].write(ENABLE=0)
    reply(by_hand.peer, stale, stale.payload + descriptor(FRAMES + 0x800))
    by_hand.transmit_queue()
    ring_doorbell(by_hand, 1)
    fresh = request(by_hand.peer, Command.DMA_READ)
    assert fresh.payload == stale.payload
    reply(by_hand.peer, fresh, fresh.payload + descriptor(FRAMES))
    assert DMA_ACCESS.unpack(request(by_hand.peer, Command.DMA_READ).payload)[0] == FRAMES


def test_unmapped_memory_is_not_requested(nic: Emulated82599, by_hand: ByMessages) -> None:
    by_hand.transmit_queue()
    ring_doorbell(by_hand, 1)
    read = request(by_hand.peer, Command.DMA_READ)
    assert by_hand.peer.unmap(MEMORY, 0x10000) == 0
    reply(by_hand.peer, read, read.payload + descriptor(FRAMES))
    assert wait_faults(nic) == [("dma_read", RING)]
    assert select.select([by_hand.peer.socket], [], [], 0.05)[0] == []


def test_an_interrupt_waits_for_the_write_before_it(by_hand: ByMessages) -> None:
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    assert by_hand.peer.errno(Command.DEVICE_SET_IRQS, p.IRQ_SET.pack(20, 0x24, p.Irq.MSIX, 0, 1), [fd]) == 0
    by_hand.regs.GPIE.write(MSIX_MODE=1)
    by_hand.regs.IVAR[0].write(INT_ALLOC_1=0, INT_ALLOC_VAL_1=1)
    by_hand.regs.EIMS_EX[0].write(1)
    by_hand.transmit_queue(head=HEAD)
    ring_doorbell(by_hand, 1)
    for data in (descriptor(FRAMES), bytes(60)):
        read = request(by_hand.peer, Command.DMA_READ)
        reply(by_hand.peer, read, read.payload + data)
    write = request(by_hand.peer, Command.DMA_WRITE)
    assert not select.select([fd], [], [], 0.05)[0]
    reply(by_hand.peer, write, DMA_ACCESS.pack(HEAD, 4))
    assert select.select([fd], [], [], 30)[0]
    os.close(fd)


class Owner(Connection):
    """A connection that does the NIC's DMA in memory of this process: a thread receives all messages."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.memory: dict[int, tuple[int, int]] = {}  # IOVA: size, address
        self._answers: queue.Queue[Message] = queue.Queue()
        self._thread = threading.Thread(target=self._hear, args=[self._channel])
        self._thread.start()

    def _hear(self, channel: Channel) -> None:
        while True:
            try:
                if not channel.fill():
                    return
            except BlockingIOError:
                continue
            except OSError:
                return
            while (message := channel.take()) is not None:
                if message.is_reply:
                    self._answers.put(message)
                else:
                    self._access(channel, message)

    def _access(self, channel: Channel, message: Message) -> None:
        iova, count = DMA_ACCESS.unpack_from(message.payload)
        try:
            address = next(
                at + iova - start
                for start, (size, at) in self.memory.items()
                if start <= iova and iova + count <= start + size
            )
        except StopIteration:
            channel.send(message.id, message.command, p.REPLY | p.ERROR, error=errno.ENODEV)
            return
        if message.command == Command.DMA_READ:
            data = ctypes.string_at(address, count)
        else:
            data = b""
            ctypes.memmove(address, message.payload[DMA_ACCESS.size :], count)
        channel.send(message.id, message.command, p.REPLY, DMA_ACCESS.pack(iova, count) + data)

    def _answer(self, channel: Channel, id: int) -> Message:
        while (message := self._answers.get(timeout=30)).id != id:
            pass
        return message

    def close(self) -> None:
        if self._channel is not None:
            self._channel.socket.shutdown(2)
            if threading.current_thread() is not self._thread:
                self._thread.join()
        super().close()


class Unshared(VfioUserDevice):
    """A client that shares no file: all DMA is by messages."""

    def _connect(self, path: str) -> Connection:
        return Owner(path)

    def map_dma(self, fd: int, address: int, size: int) -> DmaMapping:
        iova = self._next_iova
        assert isinstance(self._connection, Owner)
        self._connection.memory[iova] = size, address
        self._connection.request(Command.DMA_MAP, DMA_MAP.pack(DMA_MAP.size, 3, 0, iova, size))
        self._next_iova += size + 0x20_0000
        return DmaMapping(address, size, iova)

    def unmap_dma(self, mapping: DmaMapping) -> None:
        super().unmap_dma(mapping)
        assert isinstance(self._connection, Owner)
        self._connection.memory.pop(mapping.iova, None)


def frame(to: str, number: int, length: int) -> bytes:
    return (bytes.fromhex(to.replace(":", "")) + bytes(6) + b"\x88\xb5" + struct.pack("!I", number)).ljust(
        length, b"\0"
    )


@pytest.mark.parametrize("arguments", [(), pytest.param(("--trap-all",), marks=pytest.mark.slow)])
def test_a_whole_port_runs_on_messages_alone(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    with emulate(tmp_path / "nic.sock", *arguments) as emulator:
        with (
            Unshared(emulator.path) as device,
            open_port(device, rx_queues=2, tx_queues=2, mtu=9000, interrupt_interval_us=0) as port,
        ):
            frames = [
                frame(port.mac, n, length) for n, length in enumerate([60, 1514, 61, 9000, 2048, 2049, 4096] * 20)
            ]
            for first in range(0, len(frames), 20):
                port.send(frames[first : first + 20], ring=first // 20 % 2)
                received = port.recv(30)
                assert [next(received) for _ in range(20)] == frames[first : first + 20]
            port.flush(30)
            stats = port.stats()
            assert stats["GPTC"] == stats["GPRC"] == len(frames)
            assert emulator.mappings() == 0
        assert emulator.end() == (0, "")


def test_after_a_client_died_during_dma_the_next_can_use_the_nic(tmp_path: Path) -> None:
    with emulate(tmp_path / "nic.sock") as emulator:
        for held_back in range(4):
            with Peer(emulator.path) as peer:
                assert peer.map(MEMORY, 0x10000, None) == 0
                by_hand = ByMessages(peer)
                by_hand.receive_queue(MEMORY + 0x4000)
                by_hand.transmit_queue(head=HEAD)
                ring_doorbell(by_hand, 3)
                for _ in range(held_back):  # the client disconnects later, during DMA
                    message = peer.receive()
                    assert message is not None
                    if message.command == Command.DMA_READ:
                        iova, count = DMA_ACCESS.unpack(message.payload)
                        data = descriptor(FRAMES) if iova < FRAMES else bytes(count)
                        reply(peer, message, message.payload + data[:count])
        with open_port(f"vfio-user:{emulator.path}") as port:
            port.send([frame(port.mac, 1, 60)])
            assert next(port.recv(30)) == frame(port.mac, 1, 60)


def test_a_store_to_a_doorbell_after_the_server_died_does_not_crash(tmp_path: Path) -> None:
    with emulate(tmp_path / "nic.sock") as emulator, VfioUserDevice(emulator.path) as device:
        address = device.doorbell(Registers.TDT.offset(0))
        emulator.process.kill()
        emulator.process.wait(30)
        ctypes.memset(address, 1, 4)  # as the C loop does before it notices
        assert device.read32(8) == 0xFFFF_FFFF
        with pytest.raises(DeviceGone):
            device.enable_interrupts(2)
