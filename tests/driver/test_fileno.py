"""fileno() in select, selectors and asyncio: it is quiet as soon as nothing is left to do, whatever call took the last
frame. A descriptor that stays readable makes an event loop spin."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from select import POLLIN, POLLOUT

import pytest

from ixrings import Port, open_port, open_ports
from ixrings.hw.emulator import Emulated82599
from tests.support.programs import wait_for

FRAME = b"\xff" * 60
REACTED = 4  # reactions until the descriptor has to be quiet: an interrupt that was pending may cost one more


def take_all(port: Port) -> int:
    """Take what the last sync found. Returns how many frames."""
    taken = 0
    for ring in port.rx_rings:
        taken += ring.space
        ring.advance(ring.space)
    return taken


def by_poll(port: Port, timeout: float = 0, events: int = POLLIN, busy: bool = False) -> int:
    port.poll(timeout, events, busy)
    return take_all(port)


def by_rxsync(port: Port) -> int:
    port.rxsync()
    return take_all(port)


def by_next(port: Port) -> int:
    return sum(1 for _ in zip(range(1), port.recv(0)))


REACTIONS: dict[str, Callable[[Port], int]] = {
    "recv(0)": lambda port: len(list(port.recv(0))),
    "recv(0.001)": lambda port: len(list(port.recv(0.001))),
    "next(recv(0))": by_next,
    "poll(0)": by_poll,
    "poll(0.001)": lambda port: by_poll(port, 0.001),
    "poll(0, busy=True)": lambda port: by_poll(port, busy=True),
    "poll(0.001, busy=True)": lambda port: by_poll(port, 0.001, busy=True),
    "poll(0, POLLIN | POLLOUT)": lambda port: by_poll(port, 0, POLLIN | POLLOUT),
    "poll(0, POLLOUT)": lambda port: by_poll(port, 0, POLLOUT),
    "rxsync()": by_rxsync,
}


def readable(port: Port, timeout: float = 0.02) -> bool:
    return bool(select.select([port], [], [], timeout)[0])


def reactions_until_quiet(port: Port, react: Callable[[Port], int]) -> int:
    for count in range(REACTED + 1):
        if not readable(port):
            return count
        react(port)
    return REACTED + 1


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.slow)])
@pytest.mark.parametrize("busy_poll", [False, True])
def test_the_descriptor_is_quiet_after_any_way_of_taking_the_last_frame(rounds: int, busy_poll: bool) -> None:
    with open_port("emulated:loop", promiscuous=True, busy_poll=busy_poll) as port:
        port.fileno()
        for way, react in list(REACTIONS.items()) * rounds:
            port.send([FRAME] * 10)
            taken = 0
            while taken < 10:
                assert readable(port, 20), f"{way}: asleep with {10 - taken} of 10 frames to come"
                taken += react(port)
            assert reactions_until_quiet(port, react) <= REACTED, way


def test_a_link_change_does_not_keep_the_descriptor_readable() -> None:
    with Emulated82599() as nic, open_port(nic) as port:
        port.fileno()
        for way, react in REACTIONS.items():
            reactions_until_quiet(port, react)
            nic.set_link(not port.link.up)
            assert readable(port, 20), way
            assert reactions_until_quiet(port, react) <= REACTED, way


@pytest.mark.parametrize(
    "react",
    [
        lambda port: port.poll(0, POLLOUT),
        lambda port: port.txsync(),
        lambda port: list(port.recv(0)),
    ],
    ids=["poll(0, POLLOUT)", "txsync()", "recv(0)"],
)
def test_room_in_a_full_ring_wakes_once_and_then_the_descriptor_is_quiet(react: Callable[[Port], object]) -> None:
    with Emulated82599("sink", manual=True) as nic, open_port(nic, link_timeout=0, tx_slots=64) as port:
        port.fileno()
        ring = port.tx_rings[0]
        ring.slots["len"][:] = 60
        ring.advance(63)
        port.txsync()
        assert not readable(port)
        nic.step(frames=63)
        nic.step(ns=1_000_000)
        assert readable(port, 20)
        for _ in range(REACTED):
            react(port)
            nic.step(frames=63)
            nic.step(ns=1_000_000)
        assert not readable(port)


def test_forwarding_wakes_when_the_target_has_room_again_and_then_is_quiet() -> None:
    with (
        open_ports("emulated:cable=far", "emulated@paced:sink", tx_slots=64, promiscuous=True) as (near, target),
        open_port("emulated:cable=far") as far,
    ):
        far.wait_link(30)
        near.fileno(), target.fileno()
        far.send([bytes(1500)] * 600)
        moved = 0
        while moved < 600:
            assert select.select([near, target], [], [], 20)[0], f"asleep after {moved} of 600 frames"
            moved += near.forward(target)
            target.txsync()
        wait_for(lambda: not readable(near) or near.forward(target), "near is readable for ever")
        assert reactions_until_quiet(near, lambda port: port.forward(target)) <= REACTED


@contextmanager
def counted_reader(loop: asyncio.AbstractEventLoop, port: Port, react: Callable[[], object]) -> Iterator[list[int]]:
    calls = [0]

    def called() -> None:
        calls[0] += 1
        react()

    loop.add_reader(port, called)
    try:
        yield calls
    finally:
        loop.remove_reader(port)


@pytest.mark.parametrize("way", ["recv(0)", "poll(0)"])
def test_an_asyncio_reader_sleeps_while_nothing_comes(way: str) -> None:
    async def main(port: Port) -> None:
        taken, loop = 0, asyncio.get_running_loop()
        arrived = asyncio.Event()

        def react() -> None:
            nonlocal taken
            taken += REACTIONS[way](port)
            if taken == 10:
                arrived.set()

        with counted_reader(loop, port, react) as calls:
            port.send([FRAME] * 10)
            await asyncio.wait_for(arrived.wait(), 20)
            while calls[0] < 200:  # an event loop that spins calls it thousands of times a second
                before = calls[0]
                await asyncio.sleep(0.1)
                if calls[0] == before:
                    return
        raise AssertionError(f"{calls[0]} calls, and no end")

    with open_port("emulated:loop", promiscuous=True) as port:
        asyncio.run(main(port))
