"""Another program writes anything into a port's rings: every call returns, or raises the error of a ring."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from itertools import islice
from select import POLLIN, POLLOUT

import numpy as np
import pytest

from ixrings import Port, open_port, open_ports
from ixrings.driver.errors import PortTimeout
from ixrings.driver.offload import Offload
from ixrings.driver.ring_view import view_interface, view_port
from ixrings.rings import RegionError, RingError, attach
from ixrings.rings.layout import MAX_CHAIN, RING_HEADER_SIZE
from tests.rings.test_scribble import start_scribbler

FRAME = bytes.fromhex("ffffffffffff02000000000188b5") + bytes(86)
CALLS, WANTED = 10_000, {"NOT_A_SLOT", "BUF_IDX"}
TAIL, LEN_FLAGS, MOREFRAG = 7, 1, 0x20


def test_a_tail_beyond_the_ring_and_frames_without_end_are_refused_and_the_port_recovers() -> None:
    with open_port("emulated:loop", rx_slots=256, tx_slots=256) as port:
        other = attach(port.region.fd, port.if_offset).rx_rings[0]
        other.slots["flags"] = MOREFRAG
        other._words[TAIL] = 0xFFFF_FFFF
        with pytest.raises(RingError, match="4294967295 is not a slot of this ring"):
            next(port.recv(0))
        other._words[TAIL] = 255
        frame = next(port.recv(0))
        assert len(frame) <= MAX_CHAIN * port.region.buf_size
        with pytest.raises(RingError, match="past the tail"):
            port.rxsync()
        port.send([FRAME])
        assert next(port.recv(20)) == FRAME


def test_a_slot_without_a_buffer_is_refused_in_both_directions() -> None:
    with open_port("emulated:loop") as port:
        for ring in (port.tx_rings[0], port.rx_rings[0]):
            kept = ring.slots["buf_idx"].copy()
            for bad in (0, 1, port.region.total_buffers, 2**32 - 1):
                ring.slots["buf_idx"][0] = bad
                with pytest.raises(RingError, match=f"{ring.name}: slot 0 has buf_idx {bad}, but buffers of this"):
                    if ring.direction.name == "TX":
                        port.send([FRAME])
                    else:
                        port.poll(20)
                        next(port.recv(0))
            ring.slots["buf_idx"] = kept
            port.send([FRAME])
        assert next(port.recv(20)) == FRAME


@pytest.mark.parametrize("field", ["buf_ofs", "num_slots", "nr_buf_size"])
def test_a_header_with_any_number_is_no_interface(field: str) -> None:
    with open_port("emulated:loop") as port:
        offset = port.tx_rings[0].offset
        header = {"buf_ofs": (0, 8), "num_slots": (8, 4), "nr_buf_size": (12, 4)}[field]
        memory = attach(port.region.fd, port.if_offset)._mapping
        assert memory is not None
        place = slice(offset + header[0], offset + sum(header))
        kept = bytes(memory.memory[place])
        for value in (0, 1, 2**31, 2 ** (8 * header[1] - 1) - 1, 2 ** (8 * header[1]) - 1):
            memory.memory[place] = value.to_bytes(header[1], "little")
            try:
                assert attach(port.region.fd, port.if_offset).buffers.nbytes <= port.region.size
            except RegionError as error:
                assert "is this offset the if_offset of an open port?" in str(error)
        memory.memory[place] = kept
        assert offset % RING_HEADER_SIZE % 128 == 0


def entries(port: Port, peer: Port) -> dict[str, Callable[[], object]]:
    """Every way into the rings from Python."""
    tx, rx = port.tx_rings[0], port.rx_rings[0]
    attached = attach(port.region.fd, port.if_offset)
    longest = MAX_CHAIN * port.region.buf_size

    def recv() -> None:
        for frame in islice(port.recv(0), 500):
            assert len(frame) <= longest

    def fill() -> None:
        tx.advance(len(tx.reserve(32)))

    def reports() -> None:
        span = rx.reserve(rx.space)
        assert len(port.received(rx, span).checksums) == len(span)
        assert (span.len.shape, span.flags.shape, span.ptr.shape) == (span.buf_idx.shape,) * 3
        rx.advance(len(span))

    return {
        "send": lambda: port.send([FRAME, bytes(range(256)) * 5] * 10, timeout=0.01),
        "send with offload": lambda: port.send([FRAME] * 3, timeout=0.01, offload=Offload(vlan=5)),
        "recv": recv,
        "poll": lambda: port.poll(0, POLLIN | POLLOUT),
        "txsync": port.txsync,
        "rxsync": port.rxsync,
        "flush": lambda: port.flush(0.001),
        "forward": lambda: port.forward(peer),
        "reserve and advance": fill,
        "received": reports,
        "indices": lambda: (tx.pending, tx.space, rx.space, rx.head, rx.cur, rx.tail, rx.flags, rx.ts),
        "view_port": lambda: view_port(port),
        "view_interface": lambda: view_interface(attached),
        "buffers_held": attached.buffers_held,
        "attach": lambda: attach(port.region.fd, port.if_offset),
        "stats": port.stats,
    }


@pytest.mark.slow
@pytest.mark.breaks_rules()
@pytest.mark.parametrize("seed", [1, 2])
def test_every_entry_point_survives_a_scribbler(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    calls: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    rng = np.random.default_rng(seed)
    with open_ports("emulated:loop", "emulated:loop", tx_slots=256, rx_slots=256, mtu=9000) as (port, peer):
        ways = entries(port, peer)
        scribbler = start_scribbler(port.region, port.if_offset, seed)
        try:
            end = time.monotonic() + 300
            while calls.total() < CALLS or not errors.keys() >= WANTED:
                assert time.monotonic() < end, (calls, errors)
                name = str(rng.choice(list(ways)))
                calls[name] += 1
                try:
                    ways[name]()
                except RingError as error:
                    errors[error.rule.name] += 1
                except RegionError:  # the scribbler changes num_slots
                    errors["RegionError"] += 1
                except PortTimeout:
                    errors["PortTimeout"] += 1
        finally:
            scribbler.kill()
            scribbler.communicate()
    with capsys.disabled():
        print(f"\nseed {seed}: {calls.total()} calls {dict(calls)}\n  errors {dict(errors)}")
