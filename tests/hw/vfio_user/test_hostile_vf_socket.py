"""A hostile client at the socket of one VF, seeded, while another VF of the same process has traffic (82599 8.3.5)."""

from __future__ import annotations

import errno
import mmap
import os
import random
import struct
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from ixrings.hw.vfio_user import protocol as p
from ixrings.hw.vfio_user.memory import most_windows
from ixrings.hw.vfio_user.protocol import Command, Region
from tests.hw.vfio_user.test_hostile_storm import HostileClient
from tests.hw.vfio_user.test_virtual_functions import PATIENCE_S, open_vf
from tests.support.vf_by_hand import MAILBOX, MEMORY, frame, mac_of
from tests.support.vfio_user_peer import Peer, emulate_vfs, memfd

pytestmark = pytest.mark.slow
SIZE = 1 << 20
OUT, IN, BUFFERS = 0x1000, 0x2000, 0x10000  # offsets in a client's memory
CANARY = 0x80000
PATTERN = b"canary! " * 512
SLOTS = 32
SESSIONS = 100
ACTIONS = 6  # of each session


class Station:
    """VF `number` as a well-behaved client: one queue each way, and a page that nobody writes."""

    def __init__(self, peer: Peer, number: int, memory: mmap.mmap) -> None:
        self.peer, self.number, self.memory, self.sent, self.taken = peer, number, memory, 0, 0
        memory[CANARY : CANARY + len(PATTERN)] = PATTERN
        open_vf(peer, number)
        for i in range(SLOTS):
            self.offer(i)
        for low, value in ((0, IN), (4, 0), (8, SLOTS * 16), (0x14, 2 | 4 << 8 | 1 << 25), (0x28, 1 << 25)):
            peer.write32(0x1000 + low, value)
        for low, value in ((0, OUT), (4, 0), (8, SLOTS * 16), (0x28, 1 << 25 | 32 | 1 << 8)):
            peer.write32(0x2000 + low, value)
        peer.write32(0x1018, SLOTS - 1)

    def offer(self, slot: int) -> None:
        at = IN + 16 * slot
        self.memory[at : at + 16] = struct.pack("<QQ", BUFFERS + 2048 * slot, 0)

    def send(self, data: bytes) -> None:
        slot = self.sent % SLOTS
        start = BUFFERS + 2048 * (SLOTS + slot)
        self.memory[start : start + len(data)] = data
        descriptor = struct.pack("<QQ", start, len(data) | 3 << 20 | 0x2B << 24 | len(data) << 46)
        self.memory[OUT + 16 * slot : OUT + 16 * slot + 16] = descriptor
        self.sent += 1
        self.peer.write32(0x2018, self.sent % SLOTS)

    def take(self) -> bytes:
        """The next frame, whose source is not the hostile VF."""
        while True:
            slot = self.taken % SLOTS
            at, until = IN + 16 * slot + 8, time.monotonic() + PATIENCE_S
            while not (status := struct.unpack_from("<Q", self.memory, at)[0]) & 1:
                assert time.monotonic() < until, "no frame came"
                time.sleep(0.0005)
            start = BUFFERS + 2048 * slot
            data = self.memory[start : start + (status >> 32 & 0xFFFF)]
            self.offer(slot)
            self.peer.write32(0x1018, slot)
            self.taken += 1
            if data[6:12] != mac_of(1):
                return data

    def check(self) -> None:
        assert self.memory[CANARY : CANARY + len(PATTERN)] == PATTERN


class HostileVf(HostileClient):
    """What a client may do to the socket of a VF: HostileClient's actions, and writes of registers."""

    def actions(self) -> dict[str, Callable[[], None]]:
        return {
            **super().actions(),
            "writes anywhere": self.write_anywhere,
            "mailbox": self.ask_nonsense,
            "queues into foreign memory": self.point_elsewhere,
        }

    def post(self, offset: int, value: int, region: int = Region.BAR0) -> None:
        message = p.ACCESS.pack(offset, region, 4) + value.to_bytes(4, "little")
        self.peer.send(Command.REGION_WRITE, message, flags=p.NO_REPLY)

    def write_anywhere(self) -> None:
        for _ in range(200):
            region = self.chance.choice((Region.BAR0, Region.BAR0, Region.BAR0, Region.CONFIG, 3, 4, 7, 9))
            self.post(4 * self.chance.randrange(0x1100), self.chance.getrandbits(32), region)

    def ask_nonsense(self) -> None:
        for _ in range(20):
            self.post(MAILBOX, 4)
            for i in range(16):
                word = (
                    self.chance.getrandbits(32) if i else self.chance.randrange(0x14) | self.chance.getrandbits(8) << 16
                )
                self.post(MEMORY + 4 * i, word)
            self.post(MAILBOX, self.chance.choice((1, 1, 3, 5, 0xFF)))

    def point_elsewhere(self) -> None:
        """Rings, buffers and head write-back at the addresses that the neighbours have in their own domains."""
        fd = self.keep(os.memfd_create("peer"))
        os.ftruncate(fd, 0x3000)
        os.pwrite(fd, struct.pack("<QQ", CANARY, 60 | 3 << 20 | 0x2B << 24 | 60 << 46) * 32, 0)
        self.peer.map(self.chance.choice((OUT, 0x40_0000)), 0x3000, fd)
        self.post(4, 4, Region.CONFIG)
        for base in (0x1000, 0x2000):
            for low, value in ((0x28, 0), (0, OUT), (4, 0), (8, 512), (0x38, CANARY | 1), (0x3C, 0), (0x28, 1 << 25)):
                self.post(base + low, value)
            self.post(base + 0x18, self.chance.choice((8, 31, 32, 1 << 31)))


def test_a_storm_of_hostile_clients_of_one_vf_does_not_disturb_the_others(tmp_path: Path) -> None:
    chance = random.Random(82599)
    with (
        emulate_vfs(tmp_path / "nic", "--vf", "3", "--rules", "ignore", "--wire", "sink", sockets=3) as nic,
        ExitStack() as open_,
    ):
        stations = []
        for number in (0, 2):
            peer, fd = open_.enter_context(Peer(tmp_path / f"nic/vf{number}.sock")), open_.enter_context(memfd(SIZE))
            assert peer.map(0, SIZE, fd) == 0
            stations.append(Station(peer, number, open_.enter_context(mmap.mmap(fd, SIZE))))
        left, right = stations
        for session in range(SESSIONS):
            with Peer(tmp_path / "nic/vf1.sock") as peer:
                client = HostileVf(peer, chance)
                try:
                    for action in chance.choices(list(client.actions().values()), k=ACTIONS):
                        action()
                except (OSError, AssertionError, p.ProtocolError):
                    pass  # the connection was closed, or a well-meant request met the answers to others
                finally:
                    client.close()
                for a, b in ((left, right), (right, left)):
                    sent = frame(mac_of(a.number), mac_of(b.number), chance.randrange(60, 1515), session)
                    a.send(sent)
                    assert b.take() == sent
            left.check()
            right.check()
        nic.process.terminate()
        assert nic.process.wait(30) == 0


def test_one_client_does_not_take_the_windows_of_the_others(tmp_path: Path) -> None:
    with (
        emulate_vfs(tmp_path / "nic", "--vf", "2", "--rules", "ignore", sockets=2),
        Peer(tmp_path / "nic/vf0.sock") as zero,
        Peer(tmp_path / "nic/vf1.sock") as one,
        memfd(4096 * 80_000) as fd,
    ):
        for peer in (one, zero):
            count = 0
            while (answer := peer.map(0x10_0000_0000 + 8192 * count, 4096, fd, offset=8192 * count)) == 0:
                count += 1
            assert (answer, count) == (errno.ENOSPC, most_windows(2))
