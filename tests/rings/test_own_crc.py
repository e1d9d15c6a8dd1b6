"""Slots with NS_OWN_CRC: the frame brings its CRC, and the NIC appends none (82599 7.2.3.2.2)."""

from __future__ import annotations

import pytest

from ixrings.rings import Context, RingError, Rule
from ixrings.rings.layout import SlotFlag
from ixrings.rings.soft import Pipe
from tests.support.rings_nic import Bench, TxSide
from tests.support.soft_rings import World, numbered

NS_OWN_CRC, NS_CONTEXT, NS_MOREFRAG = int(SlotFlag.NS_OWN_CRC), int(SlotFlag.NS_CONTEXT), int(SlotFlag.NS_MOREFRAG)
IFCS = 1 << 25


def put(tx: TxSide, *slots: tuple[int, int]) -> None:
    """Slots of these lengths and flags."""
    span = tx.ring.reserve(len(slots))
    assert len(span) == len(slots)
    span.len[:], span.flags[:] = zip(*slots)
    tx.ring.advance(len(slots))


def test_such_a_slot_is_sent_without_ifcs_and_the_slots_around_it_with_ifcs() -> None:
    tx = Bench(64).tx
    put(tx, *[(60, 0)] * 9, (64, NS_OWN_CRC), (1518, NS_OWN_CRC), *[(60, 0)] * 9)
    tx.sync()
    ifcs = [bool(int(tx.memory[i, 1]) & IFCS) for i in range(20)]
    assert ifcs == [True] * 9 + [False] * 2 + [True] * 9
    assert [(tx.descriptor(i).dtalen, tx.descriptor(i).paylen, tx.descriptor(i).eop) for i in (9, 10)] == [
        (64, 64, True),
        (1518, 1518, True),
    ]
    assert tx.queue.packets == 20 and not any(tx.ring.slots["flags"][:20]), "the sync clears the flag"


@pytest.mark.parametrize(
    ("slots", "length"),
    [
        ([(63, NS_OWN_CRC)], 63),
        ([(100, NS_OWN_CRC | NS_MOREFRAG), (100, 0)], 100),
        ([(100, NS_MOREFRAG), (90, NS_OWN_CRC)], 90),
        ([(0, NS_CONTEXT), (100, NS_OWN_CRC)], 100),
    ],
)
def test_it_is_refused_where_the_nic_would_pad_join_or_change_the_frame(
    slots: list[tuple[int, int]], length: int
) -> None:
    tx = Bench(64).tx
    tx.ring.slots["ptr"][0] = Context(vlan=5).word()
    put(tx, *slots)
    with pytest.raises(
        RingError, match=f"has NS_OWN_CRC and {length} bytes; .* has 64..2048 bytes in one slot"
    ) as error:
        tx.sync()
    assert error.value.rule is Rule.OWN_CRC and tx.tdt == 0


def test_a_pipe_has_no_crc_and_refuses_it() -> None:
    world = World()
    a, b = world.program("x{1"), world.program("x}1")
    Pipe(a.ktx, a.krx, b.ktx, b.krx)
    a.put(*numbered(2))
    a.put(*numbered(1), flags=NS_OWN_CRC)
    a.txsync()
    assert b.receive() == numbered(2)
    assert a.ktx[0].queue.violations == 1
    error = a.ktx[0].queue.take_error()
    assert error is not None and error.rule is Rule.OWN_CRC_HERE
    world.close()
