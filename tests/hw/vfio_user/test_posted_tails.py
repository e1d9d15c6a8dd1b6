"""Posted writes of tails that wait in the socket act as the last one; everything else about them stays as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ixrings.hw.emulator import Emulated82599, Fault
from ixrings.hw.registers import Registers
from ixrings.hw.vfio_user import protocol as p
from ixrings.hw.vfio_user.protocol import ACCESS, WRITE_COUNT, WRITE_ONE, Command, Region
from tests.support.vfio_user_peer import Peer, served

TDT, RDT = Registers.TDT.offset(0), Registers.RDT.offset(0)
GPTC, RXDCTL, TDLEN = Registers.GPTC.offset(), Registers.RXDCTL.offset(0), Registers.TDLEN.offset(0)
STATUS, EITR = Registers.STATUS.offset(), Registers.EITR.offset(0)


class Watched(Emulated82599):
    """Keeps the register writes that reach the NIC. While `held` is not set, a read of STATUS does not return."""

    def __init__(self) -> None:
        self.writes: list[tuple[int, int]] = []
        self.asked, self.held = threading.Event(), threading.Event()
        super().__init__("sink")

    def read32(self, offset: int, /) -> int:
        if offset == STATUS:
            self.asked.set()
            self.held.wait(30)
        return super().read32(offset)

    def write32(self, offset: int, value: int, /) -> None:
        self.writes.append((offset, value))
        super().write32(offset, value)


@pytest.fixture
def nic() -> Iterator[Watched]:
    with Watched() as nic:
        yield nic


def write(offset: int, value: int, flags: int = p.NO_REPLY) -> bytes:
    payload = ACCESS.pack(offset, Region.BAR0, 4) + value.to_bytes(4, "little")
    return p.HEADER.pack(7, Command.REGION_WRITE, p.HEADER.size + len(payload), flags, 0) + payload


def writes(*each: tuple[int, int]) -> bytes:
    """One posted message with many writes."""
    payload = WRITE_COUNT.pack(len(each)) + b"".join(
        WRITE_ONE.pack(offset, Region.BAR0, 4, value.to_bytes(8, "little")) for offset, value in each
    )
    return p.HEADER.pack(8, Command.REGION_WRITE_MULTI, p.HEADER.size + len(payload), p.NO_REPLY, 0) + payload


@contextmanager
def waiting(nic: Watched, path: Path) -> Iterator[Peer]:
    """A peer whose messages wait in the socket, until the block ends and the server has handled all of them."""
    with Peer(path) as peer:
        peer.send(Command.REGION_READ, ACCESS.pack(STATUS, Region.BAR0, 4))
        assert nic.asked.wait(30)
        yield peer
        nic.held.set()
        assert peer.receive() is not None
        peer.read(GPTC)


@pytest.mark.breaks_rules("tail_after_enable")
def test_tails_that_wait_in_the_socket_act_as_the_last(nic: Watched, path: Path) -> None:
    with waiting(nic, path) as peer:
        peer.send_bytes(b"".join(write(TDT, value % 7) for value in range(1000)) + write(TDT, 5))
    assert nic.writes == [(TDT, 5)]


@pytest.mark.breaks_rules("tail_after_enable")
def test_each_tail_has_a_last_one(nic: Watched, path: Path) -> None:
    with waiting(nic, path) as peer:
        peer.send_bytes(b"".join(write(TDT, n) + write(RDT, n + 1) for n in range(400)))
    assert sorted(nic.writes) == [(RDT, 400), (TDT, 399)]


@pytest.mark.breaks_rules("tail_after_enable")
def test_tails_in_one_message_act_as_the_last(nic: Watched, path: Path) -> None:
    with waiting(nic, path) as peer:
        peer.send_bytes(writes(*((TDT, n) for n in range(200))) + writes((TDT, 3), (EITR, 8), (TDT, 4)) + write(TDT, 6))
    assert nic.writes == [(TDT, 3), (EITR, 8), (TDT, 6)]


ORDERED: dict[str, tuple[Callable[[], bytes], list[tuple[int, int]]]] = {
    "a posted write of another register": (lambda: write(EITR, 8), [(TDT, 9), (EITR, 8), (TDT, 19)]),
    "a tail that is awaited": (lambda: write(TDT, 33, 0), [(TDT, 9), (TDT, 33), (TDT, 19)]),
    "a read": (
        lambda: p.HEADER.pack(9, Command.REGION_READ, 32, 0, 0) + ACCESS.pack(GPTC, Region.BAR0, 4),
        [(TDT, 9), (TDT, 19)],
    ),
    "a write of another size": (
        lambda: (
            p.HEADER.pack(9, Command.REGION_WRITE, 40, p.NO_REPLY, 0)
            + ACCESS.pack(TDT, Region.BAR0, 8)
            + (1).to_bytes(8, "little")
        ),
        [(TDT, 9), (TDT, 1), (TDT + 4, 0), (TDT, 19)],
    ),
}


@pytest.mark.breaks_rules("tail_after_enable", "unknown_register")
@pytest.mark.parametrize("between", ORDERED)
def test_tails_do_not_pass(between: str, nic: Watched, path: Path) -> None:
    message, expected = ORDERED[between]
    with waiting(nic, path) as peer:
        first, last = (b"".join(write(TDT, n) for n in numbers) for numbers in (range(10), range(10, 20)))
        peer.send_bytes(first + message() + last)
        nic.held.set()
        if between in ("a read", "a tail that is awaited"):
            assert peer.receive() is not None
    assert nic.writes == expected


@pytest.mark.breaks_rules("tail_after_enable")
@pytest.mark.parametrize("offset", [RXDCTL, TDLEN, EITR])
def test_other_registers_are_written_each_time(offset: int, nic: Watched, path: Path) -> None:
    with waiting(nic, path) as peer:
        peer.send_bytes(b"".join(write(offset, 0) for _ in range(50)))
    assert nic.writes == [(offset, 0)] * 50


@pytest.mark.breaks_rules("tail_after_enable")
def test_a_fault_counts_each_write(nic: Watched, path: Path) -> None:
    nic.inject(Fault.LINK, at=400)
    with waiting(nic, path) as peer:
        peer.send_bytes(b"".join(write(TDT, n) for n in range(390)))
    assert Fault.LINK not in nic.injected
    with Peer(path) as peer:
        peer.send_bytes(b"".join(write(TDT, n) for n in range(20)))
        peer.read(GPTC)
    assert Fault.LINK in nic.injected


@pytest.mark.breaks_rules("tail_after_enable")
def test_a_posted_tail_that_breaks_a_rule_is_recorded(nic: Watched, path: Path) -> None:
    with waiting(nic, path) as peer:
        peer.send_bytes(b"".join(write(TDT, 5) for _ in range(100)))
    assert [violation.rule.name for violation in nic.violations] == ["tail_after_enable"]


@pytest.mark.breaks_rules("tail_after_enable")
def test_the_trace_has_each_write(tmp_path: Path) -> None:
    lines: list[str] = []
    with Watched() as nic, served(nic, tmp_path / "traced.sock", trace=lines.append):
        with waiting(nic, tmp_path / "traced.sock") as peer:
            peer.send_bytes(b"".join(write(TDT, n) for n in range(300)))
        assert nic.writes == [(TDT, 299)]
    assert [line for line in lines if line.startswith("W")] == [f"W BAR0 0x06018 4 {n:08x}" for n in range(300)]
