"""Hostile clients one after the other at one vfio-user server, seeded. After each of them the server is as new."""

from __future__ import annotations

import errno
import os
import random
import select
import signal
import socket
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from ixrings.hw.vfio_user import protocol as p
from ixrings.hw.vfio_user.memory import most_windows
from ixrings.hw.vfio_user.protocol import ACCESS, DMA_MAP, IRQ_SET, Command, Irq, IrqSet, Region
from tests.support.dma_by_messages import FRAMES, HEAD, MEMORY, ByMessages, descriptor
from tests.support.programs import wait_for
from tests.support.vfio_user_peer import Emulator, Peer, emulate, memfd

pytestmark = pytest.mark.slow
SESSIONS = 100
ACTIONS = 6  # of each session
NUMBERS = [0, 1, 2, 3, 4, 7, 9, 16, 32, 63, 64, 4095, 4096, 0x10000, 0x20000, 1 << 20, 1 << 31, (1 << 32) - 1]


class HostileClient:
    """What a client may do to a server. Every action may end in the server's closing the connection (OSError)."""

    def __init__(self, peer: Peer, chance: random.Random) -> None:
        self.peer, self.chance = peer, chance
        self.peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", 0, 100_000))
        self.fds: list[int] = []

    def actions(self) -> dict[str, Callable[[], None]]:
        return {
            "flood of long reads": self.flood,
            "answers not taken": self.take_nothing,
            "answers taken slowly": self.take_slowly,
            "many windows": self.map_many,
            "odd fds": self.share_odd_fds,
            "interrupts to odd fds": self.connect_odd_fds,
            "half a message": self.send_half,
            "pieces with fds": self.send_pieces,
            "random messages": self.send_random,
            "memory truncated in use": self.truncate,
            "resets": self.reset,
        }

    def close(self) -> None:
        while self.fds:
            os.close(self.fds.pop())

    def keep(self, fd: int) -> int:
        self.fds.append(fd)
        return fd

    def odd(self) -> int:
        kind = self.chance.randrange(8)
        if kind == 0:
            return self.keep(os.eventfd(self.chance.choice([0, 1, (1 << 32) - 1])))
        if kind == 1:
            return self.keep(os.open("/proc/self/fd", os.O_RDONLY))
        if kind == 2:
            return self.keep(os.open("/dev/null", self.chance.choice([os.O_PATH, os.O_RDONLY, os.O_RDWR])))
        if kind == 3:
            ends = os.pipe()
            self.fds += ends
            return self.chance.choice(ends)
        if kind == 4:
            self.fds += (end.detach() for end in socket.socketpair())
            return self.fds[-1]
        if kind == 5:
            return self.keep(os.open(f"/proc/self/fd/{self.keep(os.eventfd(0))}", os.O_PATH))
        fd = self.keep(os.memfd_create("peer"))
        os.ftruncate(fd, self.chance.choice([0, 1, 4096, 1 << 20, 1 << 40]))
        return fd

    def flood(self) -> None:
        command = ACCESS.pack(0, self.chance.choice([Region.BAR0, Region.CONFIG]), self.chance.choice([4096, 0x20000]))
        self.peer.send_bytes(p.pack(1, Command.REGION_READ, p.NO_REPLY, command) * self.chance.randrange(1, 1000))

    def take_nothing(self) -> None:
        for _ in range(self.chance.randrange(1, 300)):
            self.peer.send(Command.REGION_READ, ACCESS.pack(0, Region.CONFIG, 4096))

    def take_slowly(self) -> None:
        self.take_nothing()
        for _ in range(20):
            if select.select([self.peer.socket], [], [], 0.01)[0]:
                self.peer.socket.recv(self.chance.choice([1, 16, 1000]))

    def map_many(self) -> None:
        fd = self.odd()
        base, count = self.chance.randrange(1 << 30) << 12, self.chance.randrange(1, 400)
        for number in range(count):
            flags = self.chance.choice([p.NO_REPLY, p.NO_REPLY, 0])
            window = DMA_MAP.pack(32, 3, 4096 * self.chance.choice([0, number]), base + 8192 * number, 4096)
            self.peer.send(Command.DMA_MAP, window, self.chance.choice([[], [fd], [fd], [fd]]), flags=flags)

    def share_odd_fds(self) -> None:
        for _ in range(self.chance.randrange(1, 40)):
            command = self.chance.choice([*Command])
            numbers = struct.pack("<12I", *self.chance.choices(NUMBERS, k=12))
            fds = [self.odd() for _ in range(self.chance.choice([1, 1, 2, p.MAX_FDS, 30]))]
            self.peer.send(command, numbers, fds, flags=self.chance.choice([0, p.NO_REPLY]))

    def connect_odd_fds(self) -> None:
        for _ in range(self.chance.randrange(1, 20)):
            count = self.chance.randrange(1, 5)
            index = self.chance.choice([Irq.INTX, Irq.MSI, Irq.MSIX])
            question = IRQ_SET.pack(20, IrqSet.EVENTFD | IrqSet.TRIGGER, index, self.chance.choice([0, 1, 63]), count)
            self.peer.send(Command.DEVICE_SET_IRQS, question, [self.odd() for _ in range(count)], flags=p.NO_REPLY)
            self.peer.send(Command.REGION_WRITE, ACCESS.pack(0x808, 0, 4) + b"\xff" * 4, flags=p.NO_REPLY)  # EICS

    def send_half(self) -> None:
        whole = p.pack(5, self.chance.choice([*Command]), 0, bytes(self.chance.choice([16, 48, 5000, 1 << 20])))
        self.peer.send_bytes(whole[: self.chance.randrange(1, min(len(whole), 70_000))], [self.odd()])

    def send_pieces(self) -> None:
        whole = p.pack(6, Command.DMA_MAP, 0, DMA_MAP.pack(32, 3, 0, 0x10000, 4096) + bytes(100))
        for at in range(len(whole)):
            self.peer.send_bytes(whole[at : at + 1], [self.odd() for _ in range(self.chance.choice([0, 1, 16]))])

    def send_random(self) -> None:
        for _ in range(self.chance.randrange(1, 60)):
            size = self.chance.choice([0, 1, 15, 16, 17, 32, 36, 48, p.LARGEST, p.LARGEST + 1, 0xFFFF_FFFF])
            flags = self.chance.choice([0, 1, 2, p.NO_REPLY, p.ERROR | p.REPLY])
            head = p.HEADER.pack(9, self.chance.randrange(20), size, flags, self.chance.choice(NUMBERS))
            self.peer.send_bytes(head + self.chance.randbytes(max(0, min(size, 60) - len(head))))

    def truncate(self) -> None:
        fd = self.keep(os.memfd_create("peer"))
        os.ftruncate(fd, 0x3000)
        os.pwrite(fd, descriptor(FRAMES) * 8, 0)
        if self.peer.map(MEMORY, 0x3000, fd):
            return
        by_hand = ByMessages(self.peer)
        by_hand.transmit_queue(head=HEAD)
        by_hand.regs.TDT[0].write(1)
        os.ftruncate(fd, self.chance.choice([0, 0x1000, 0x2000]))
        by_hand.regs.TDT[0].write(5)

    def reset(self) -> None:
        for _ in range(self.chance.randrange(1, 100)):
            self.peer.send(Command.DEVICE_RESET, flags=self.chance.choice([0, p.NO_REPLY]))


def expect_as_new(emulator: Emulator, before: tuple[int, int]) -> None:
    with Peer(emulator.path) as peer:
        assert peer.read(0) == 0 and peer.read(0x6018) == 0  # CTRL and TDT[0] as after power-on
    wait_for(lambda: (emulator.fds(), emulator.mappings()) == before, "the server still holds something", 30)


@pytest.mark.parametrize("mode", [(), ("--trap-all",)], ids=["doorbells", "trap-all"])
def test_a_server_outlives_a_storm_of_hostile_clients(tmp_path: Path, mode: tuple[str, ...]) -> None:
    chance, done, refused = random.Random(11), Counter[str](), 0
    with emulate(tmp_path / "nic.sock", "--rules", "ignore", *mode) as emulator:
        with Peer(emulator.path):
            before = (emulator.fds() - 1, emulator.mappings())
        for _ in range(SESSIONS):
            with Peer(emulator.path) as peer:
                client = HostileClient(peer, chance)
                try:
                    for name, action in chance.choices(list(client.actions().items()), k=ACTIONS):
                        done[name] += 1
                        action()
                except (OSError, AssertionError, p.ProtocolError):
                    refused += 1  # the connection was closed, or a well-meant request met the answers to others
                finally:
                    client.close()
            expect_as_new(emulator, before)
        with Peer(emulator.path) as peer:
            HostileClient(peer, random.Random(1)).flood()
            assert emulator.end(signal.SIGTERM)[0] == 0
    print(f"{SESSIONS} sessions, {refused} cut short, actions: {dict(sorted(done.items()))}")
    assert len(done) == 11 and refused < SESSIONS


def test_tens_of_thousands_of_windows_leave_the_server_its_memory(tmp_path: Path) -> None:
    with emulate(tmp_path / "nic.sock", "--rules", "ignore") as emulator:
        for _ in range(2):
            with Peer(emulator.path) as peer, memfd(4096 * 80_000) as fd:
                count = 0
                while (answer := peer.map(0x10_0000_0000 + 8192 * count, 4096, fd, offset=8192 * count)) == 0:
                    count += 1
                assert (answer, count) == (errno.ENOSPC, most_windows())
                region = p.REGION_INFO.pack(48, 0, Region.DOORBELLS, 0, 0, 0)
                doorbells = peer.request(Command.DEVICE_GET_REGION_INFO, region)
                doorbells.close_fds()
                for _ in range(20):
                    assert peer.errno(Command.REGION_READ, ACCESS.pack(0, Region.BAR0, 0x20000)) == 0
        with Peer(emulator.path) as peer:
            assert peer.read(8) != 0xFFFF_FFFF
        assert emulator.end() == (0, "")
