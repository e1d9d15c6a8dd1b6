"""The vfio-user client survives a server that answers slowly, wrongly, or with files that may disappear."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ixrings import open_port
from ixrings.hw.errors import DeviceError, DeviceGone
from ixrings.hw.registers import Registers
from ixrings.hw.vfio_user import VfioUserDevice
from ixrings.hw.vfio_user import protocol as p
from ixrings.hw.vfio_user.protocol import Command, Message
from tests.support.driver_watch import held
from tests.support.programs import wait_for
from tests.support.vfio_user_relay import Alter, memory_file, packed, relay

ANSWER_S = 0.4
COMMANDS = [
    Command.VERSION,
    Command.DEVICE_GET_INFO,
    Command.DEVICE_GET_REGION_INFO,
    Command.DEVICE_GET_IRQ_INFO,
    Command.REGION_READ,
]


@pytest.fixture(autouse=True)
def short_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket's own limit keeps its usual length, so that only the limit of an answer can end these waits."""
    monkeypatch.setattr("ixrings.hw.vfio_user.connection.ANSWER_S", ANSWER_S)


def unchanged(message: Message) -> Iterator[bytes]:
    yield packed(message)


def only(command: int, alter: Alter) -> Alter:
    """Alter only the answers to `command`."""
    return lambda message: (alter if message.command == command else unchanged)(message)


def byte_by_byte(message: Message) -> Iterator[bytes]:
    for byte in packed(message):
        yield bytes([byte])
        time.sleep(ANSWER_S / 4)  # the pace of the server is what this test is about


def never_the_answer(message: Message) -> Iterator[bytes]:
    while True:
        yield packed(message, id=message.id ^ 0x8000)


def never_an_answer(message: Message) -> Iterator[bytes]:
    while True:
        yield p.pack(message.id, Command.DMA_READ, 0, p.DMA_ACCESS.pack(0, 4))


@pytest.mark.parametrize(
    "alter",
    [byte_by_byte, *(pytest.param(each, marks=pytest.mark.slow) for each in (never_the_answer, never_an_answer))],
)
def test_a_server_that_never_ends_its_answer_is_given_up(path: Path, tmp_path: Path, alter: Alter) -> None:
    for command in (Command.VERSION, Command.REGION_READ):
        with relay(path, tmp_path / command.name, only(command, alter)) as name:
            with pytest.raises(DeviceGone, match=f"no answer to {command.name} within {ANSWER_S} s"):
                VfioUserDevice(name.partition(":")[2])


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kept", [0, 1, 3])
def test_an_answer_that_is_too_short_is_refused(path: Path, tmp_path: Path, command: Command, kept: int) -> None:
    def short(message: Message) -> Iterator[bytes]:
        yield packed(message, payload=message.payload[:kept])

    with relay(path, tmp_path / "short", only(command, short)) as name:
        with pytest.raises(DeviceError, match=f"only {kept} of"):
            VfioUserDevice(name.partition(":")[2])


@pytest.mark.parametrize("command", COMMANDS)
def test_an_answer_to_another_command_is_refused(path: Path, tmp_path: Path, command: Command) -> None:
    def other(message: Message) -> Iterator[bytes]:
        yield packed(message, command=Command.DEVICE_RESET)

    with relay(path, tmp_path / "other", only(command, other)) as name:
        with pytest.raises(DeviceError, match="other data"):
            VfioUserDevice(name.partition(":")[2])


def test_a_lost_connection_keeps_its_reason(path: Path, tmp_path: Path) -> None:
    broken = False

    def short(message: Message) -> Iterator[bytes]:
        yield packed(message, payload=message.payload[:19] if broken else None)

    with relay(path, tmp_path / "short", only(Command.REGION_READ, short)) as name:
        with VfioUserDevice(name.partition(":")[2]) as device:
            broken = True
            assert device.read32(8) == 0xFFFF_FFFF
            with pytest.raises(DeviceGone, match=r"sent only 19 of 20 bytes of data as the answer to REGION_READ"):
                device.map_dma(0, 0, 4096)


def test_a_server_of_another_version_is_refused(path: Path, tmp_path: Path) -> None:
    def newer(message: Message) -> Iterator[bytes]:
        yield packed(message, payload=p.VERSION.pack(1, 0) + message.payload[4:])

    with relay(path, tmp_path / "newer", only(Command.VERSION, newer)) as name:
        with pytest.raises(DeviceError, match="it speaks version 1, not 0"):
            VfioUserDevice(name.partition(":")[2])


def test_fds_that_nobody_expects_are_closed(path: Path, tmp_path: Path) -> None:
    def generous(message: Message) -> Iterator[bytes]:
        if message.command != Command.DEVICE_GET_REGION_INFO:
            message.fds += [os.open("/", os.O_PATH) for _ in range(p.MAX_FDS)]
        yield packed(message)

    with relay(path, tmp_path / "generous", generous) as name, VfioUserDevice(name.partition(":")[2]) as device:
        before = held()
        for _ in range(20):
            assert device.read32(8) != 0xFFFF_FFFF
            device.write32(0x5200, 1)
        wait_for(lambda: held() == before, "fds are still open")


LENGTH = 0x4000


@pytest.mark.parametrize("file", [
    lambda: memory_file(LENGTH), lambda: memory_file(LENGTH, fcntl.F_SEAL_GROW), lambda: os.open("/", os.O_PATH),
    lambda: memory_file(LENGTH - 1, fcntl.F_SEAL_SHRINK), lambda: os.eventfd(0), lambda: os.open("/", os.O_RDONLY),
    lambda: memory_file(LENGTH, fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_WRITE),
], ids=["no seal", "may shrink", "O_PATH", "too short", "eventfd", "folder", "read-only"])  # fmt: skip
def test_doorbells_in_a_file_that_cannot_be_trusted_are_sent_by_messages(path: Path, tmp_path: Path, file) -> None:  # type: ignore[no-untyped-def]
    offered = []

    def exchange(message: Message) -> Iterator[bytes]:
        if message.fds:
            message.close_fds()
            message.fds.append(file())
            offered.append(os.dup(message.fds[0]))
        yield packed(message)

    with relay(path, tmp_path / "unsafe", only(Command.DEVICE_GET_REGION_INFO, exchange)) as name:
        with VfioUserDevice(name.partition(":")[2]) as device:
            assert device.doorbells_need_ringing
            assert Registers(device).STATUS.read() != 0xFFFF_FFFF
    assert len(offered) == 1
    os.close(offered[0])


def test_a_server_cannot_shorten_the_memory_of_its_client(path: Path, tmp_path: Path) -> None:
    """The relay stands for the server: it has every fd that the client shares."""
    with open_port(f"vfio-user:{path}") as port:
        names = ("memfd:ixrings-dma", "memfd:netmap-region", "memfd:ixrings-doorbells")
        shared = [
            int(fd)
            for fd in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{fd}")
            and any(name in os.readlink(f"/proc/self/fd/{fd}") for name in names)
        ]
        assert port.region.fd in shared
        for fd in shared:
            with pytest.raises(PermissionError):
                os.ftruncate(fd, 0)
