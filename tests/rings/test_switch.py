"""The switch: frames go to the port where their destination was seen, or to all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from ixrings.rings import Region
from ixrings.rings.service import EVENT_ERROR, EVENT_RX, EVENT_TX, Kring
from ixrings.rings.soft import Pipe, Switch
from tests.support.rings_nic import Bench
from tests.support.soft_rings import Program, World

NO_LEARN = 8
EVERYBODY = bytes([255] * 6)


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def address(number: int) -> bytes:
    return b"\x02\x00\x00\x00" + number.to_bytes(2, "big")


def frame(source: int, destination: int | bytes, length: int = 60, mark: int = 0) -> bytes:
    to = destination if isinstance(destination, bytes) else address(destination)
    return (to + address(source) + b"\x88\xb5" + mark.to_bytes(4, "big") * (length // 4))[:length]


def programs(world: World, switch: Switch, count: int, slots: int = 64) -> list[Program]:
    made = [world.program(f"vale0:{k}", slots=slots) for k in range(count)]
    for program in made:
        world.plug(switch, program)
    return made


def test_an_unknown_destination_goes_to_all_and_a_known_one_to_its_port_alone(world: World) -> None:
    a, b, c = programs(world, Switch(), 3)
    a.send(frame(1, 2))
    assert b.receive() == c.receive() == [frame(1, 2)] and a.receive() == []
    b.send(frame(2, 1), frame(2, EVERYBODY), frame(2, 1, mark=7))
    assert a.receive() == [frame(2, 1), frame(2, EVERYBODY), frame(2, 1, mark=7)]  # in the order they were sent
    assert c.receive() == [frame(2, EVERYBODY)]
    a.send(frame(1, 2, 1514))
    assert b.receive() == [frame(1, 2, 1514)] and c.receive() == []
    a.send(frame(1, 1))
    assert a.receive() == b.receive() == c.receive() == []  # to its own port
    c.send(frame(1, EVERYBODY))  # address 1 has moved to c
    b.receive()
    b.send(frame(2, 1))
    assert c.receive() == [frame(2, 1)] and a.receive() == [frame(1, EVERYBODY)]
    c.send(frame(3, 2), frame(3, 2)[:13])
    assert b.receive() == [frame(3, 2)]


def test_a_sender_never_waits_and_what_finds_no_room_is_dropped_at_its_destination(world: World) -> None:
    switch = Switch()
    a, b, c = (world.program(name) for name in "abc")
    _, at_b, at_c = (world.plug(switch, program) for program in (a, b, c))
    b.send(frame(2, EVERYBODY))
    for turn in range(3):
        assert a.send(*(frame(1, 2, mark=50 * turn + k) for k in range(50))) == 50
    assert a.tx.space == 63 and at_b.drops == 150 - 63 and at_c.drops == 0
    assert b.receive() == [frame(1, 2, mark=k) for k in range(63)]
    b.rxsync()
    a.send(frame(1, EVERYBODY))
    assert b.receive() == c.receive()[1:] == [frame(1, EVERYBODY)]
    assert at_b.state.sent == 1


def test_no_learn_is_respected_and_old_addresses_are_forgotten(world: World) -> None:
    a, b, c = programs(world, Switch(age_s=0.05), 3)
    b.send(frame(2, EVERYBODY), flags=NO_LEARN)
    b.send(frame(4, EVERYBODY))
    for program in (a, c):
        program.receive()
    a.send(frame(1, 2), frame(1, 4, mark=1))
    assert c.receive() == [frame(1, 2)]  # nobody knows 2
    seen = 0
    while not seen:  # until 4 is forgotten, too
        a.send(frame(1, 4, mark=2))
        seen = len(c.receive())
        b.receive()


def test_ports_come_and_go(world: World) -> None:
    switch = Switch()
    with ExitStack():
        a, b, c = (world.program(name) for name in "abc")
        world.plug(switch, a)
        at_b = world.plug(switch, b)
        b.send(frame(2, EVERYBODY))
        at_b.close()
        a.send(frame(1, 2))
        assert b.receive() == []
        b.send(frame(2, 1))
        assert a.receive() == [frame(2, EVERYBODY)]  # b is not there any more
        switch.remove(at_b)
        world.plug(switch, c)
        a.send(frame(1, 2))
        assert c.receive() == [frame(1, 2)]
    for _ in range(252):
        switch.add()
    with pytest.raises(ValueError, match="has 254 ports already"):
        switch.add()


def test_long_frames_pass_between_regions_with_buffers_of_other_sizes(world: World) -> None:
    switch = Switch()
    with (
        Region(buffers=300, metadata=1 << 16, buf_size=1024) as small,
        Region(buffers=300, metadata=1 << 16, buf_size=9216) as large,
    ):
        a, b, c = (
            world.program("a"), world.program("b", region=small), world.program("c", region=large)
        )  # fmt: skip
        for program in (a, b, c):
            world.plug(switch, program)
        for length in (60, 1024, 1025, 2048, 2049, 4096, 9014):
            for sender, others in ((a, (b, c)), (b, (a, c)), (c, (a, b))):
                for program in (a, b, c):
                    program.rxsync()
                frames = [frame(9, EVERYBODY, length, mark=k) for k in range(3)]
                assert sender.send(*frames) == 3
                for other in others:
                    assert other.receive() == frames, length
        a.rxsync()
        span = a.tx.reserve(3)
        for k in range(3):  # netmap's way to mark how many slots a frame has
            a.interface.buffers[span.buf_idx[k], :100] = np.frombuffer(frame(9, EVERYBODY, 100), np.uint8)
        span.len[:], span.flags[:] = 100, (0x20, 0x20, 0)
        a.tx.advance(3)
        a.txsync()
        c.rxsync()
        at = c.rx.head
        assert c.rx.slots["flags"][[(at + k) % 64 for k in range(3)]].tolist() == [0x320, 0x320, 0x300]
        for program in (b, c):
            program.interface.close()


def test_headers_of_ports_are_kept_left_out_or_filled_in(world: World) -> None:
    switch = Switch()
    a, b, c = (world.program(name) for name in "abc")
    at_a, at_b, _ = (world.plug(switch, program) for program in (a, b, c))
    at_a.header = at_b.header = 12
    with_header = bytes(range(1, 13)) + frame(1, EVERYBODY, 5000)
    a.send(with_header)
    assert b.receive() == [with_header] and c.receive() == [frame(1, EVERYBODY, 5000)]
    c.send(frame(3, 1))
    assert a.receive() == [bytes(12) + frame(3, 1)] and b.receive() == []
    with pytest.raises(ValueError, match="0, 10 or 12 bytes"):
        at_a.header = 11


def test_a_broken_rule_is_refused_after_the_frames_before_it_have_passed(world: World) -> None:
    a, b = programs(world, Switch(), 2)
    a.put(*(frame(1, 2, mark=k) for k in range(6)))
    a.tx.slots["buf_idx"][3] = 1
    assert a.poll(EVENT_TX) & EVENT_ERROR
    assert b.receive() == [frame(1, 2, mark=k) for k in range(3)] and a.tx.head == 3
    a.tx.slots["buf_idx"][3] = 2
    a.tx.slots["flags"][4] = 0x20
    a.tx.advance(2)
    a.txsync()
    assert a.ktx[0].queue.violations == 2 and a.tx.head == 4
    b.rxsync()
    b.rx.slots["buf_idx"][[10, 11]] = 0  # free slots of the receiver
    a.tx.slots["flags"][4] = 0
    a.send(*(frame(1, 2, mark=k) for k in range(10)))
    assert b.receive() and b.krx[0].drops > 0


def test_rings_of_one_number_talk_to_each_other_and_broadcasts_go_to_the_first(world: World) -> None:
    switch = Switch()
    a, b = world.program("a", tx=2), world.program("b", rx=2)
    world.plug(switch, a)
    world.plug(switch, b)
    b.send(frame(2, EVERYBODY))
    for k, ring in enumerate(a.interface.tx_rings):
        a.put(frame(1, 2, mark=k), frame(1, EVERYBODY, mark=k), ring=ring)
    a.txsync()
    b.rxsync()
    first, second = (b.take(ring=ring) for ring in b.interface.rx_rings)
    assert first == [frame(1, 2), frame(1, EVERYBODY), frame(1, EVERYBODY, mark=1)]
    assert second == [frame(1, 2, mark=1)]


def test_a_nics_rings_and_a_programs_are_ports_of_one_switch(world: World) -> None:
    switch = Switch()
    program = world.program("vale0:a")
    world.plug(switch, program)
    bench = Bench(region=world.region)
    nic = world.port(switch)
    krings = [Kring.nic(bench.tx.queue)], [Kring.nic(bench.rx.queue)]
    nic.attach(*krings)
    world.work(switch)
    assert program.poll(EVENT_RX) == 0
    for k in range(5):
        bench.region.buffers[bench.rx.buffer_of(k), :60] = np.frombuffer(frame(8, 1, mark=k), np.uint8)
    bench.rx.nic_receives(*[60] * 5)
    world.run()
    assert program.handle.armed == 0 and program.receive() == [frame(8, 1, mark=k) for k in range(5)]
    assert bench.rx.nic_space == 63  # the NIC has all its buffers back
    program.send(*(frame(1, 8, 1514, mark=k) for k in range(7)))
    assert bench.tx.tdt == 7
    sent = [bench.tx.descriptor(k) for k in range(7)]
    assert {d.dtalen for d in sent} == {1514} and all(d.eop for d in sent)
    buffers = bench.interface.tx_rings[0].slots["buf_idx"][:7]
    assert bench.region.buffers[buffers[6], :1514].tobytes() == frame(1, 8, 1514, mark=6)
    for _ in range(3):
        program.send(*(frame(1, 8) for _ in range(40)))
    assert nic.drops == 7 + 120 - 63  # the NIC sends nothing
    bench.tx.nic_sends()
    program.send(frame(1, 8))
    assert bench.tx.tdt == 0  # 64


def test_frames_behind_a_cable_wait_for_room_and_the_tail_tells_so(world: World) -> None:
    cable = Switch(age_s=1e-9)
    program = world.program("ix0")
    world.plug(cable, program)
    bench = Bench(region=world.region)
    nic = world.port(cable)
    nic.attach([Kring.nic(bench.tx.queue)], [Kring.nic(bench.rx.queue)])
    world.work(cable)
    for _ in range(4):
        program.send(*(frame(1, 8, mark=k) for k in range(40)))
    assert (nic.drops, bench.tx.tdt, program.tx.space) == (0, 63, 0)  # 63 at the NIC and 63 before it
    assert program.poll(EVENT_TX) == 0
    bench.tx.nic_sends(10)
    world.run()
    assert (bench.tx.tdt, program.tx.space, program.handle.armed) == (9, 0, 0)
    assert program.poll(EVENT_TX) == EVENT_TX
    assert program.tx.space == 10
    bench.tx.nic_sends()
    world.run()
    program.txsync()
    assert (nic.drops, bench.tx.tdt, program.tx.space) == (0, 62, 63)
    program.send(frame(1, 8), frame(1, 8), flags=0x20)  # frames without an end
    assert (program.ktx[0].queue.violations, bench.tx.tdt, program.tx.space) == (1, 62, 63)


def test_a_pipe_may_carry_what_a_switch_delivers(world: World) -> None:
    """One program with rings of both kinds, zero-copy from one to the other."""
    switch = Switch()
    a, b = programs(world, switch, 2)
    c, d = world.program("x{1"), world.program("x}1")
    Pipe(c.ktx, c.krx, d.ktx, d.krx)
    before = world.buffers_in_slots()
    a.send(*(frame(1, 2, mark=k) for k in range(20)))
    b.rxsync()
    for _ in range(20):
        into, out = b.rx.slots[b.rx.head], c.tx.slots[c.tx.head]
        into["buf_idx"], out["buf_idx"] = int(out["buf_idx"]), int(into["buf_idx"])
        out["len"], out["flags"], into["flags"] = into["len"], 1, 1
        b.rx.advance(1)
        c.tx.advance(1)
    c.txsync()
    b.rxsync()
    assert d.receive() == [frame(1, 2, mark=k) for k in range(20)]
    assert world.buffers_in_slots() == before
