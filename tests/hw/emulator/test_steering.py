"""Queue filters and flow director of the software 82599, register by register (82599 7.1.2, 8.2.3.21)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ixrings.driver.flow_director import BUCKET_KEY, SIGNATURE_KEY, FlowFilter, Protocol, flow_hash, hash_input
from ixrings.hw.fields import FDIRCMD
from tests.support.by_hand import ByHand
from tests.support.steered import SCTP, TCP, UDP, ethernet, packet

ADD, REMOVE, QUERY = 1, 2, 3
FLM = 1 << 2
L2_PACKET = 0x8000
EVERYTHING = {"VLANID": 1, "VLANP": 1, "POOL": 1, "L4P": 1, "FLEX": 1, "DIPV6": 1}
FLOW = FlowFilter(None, Protocol.TCP, "10.0.0.1", "10.0.0.2", 1000, 2000, vlan=0)


@pytest.fixture
def nic() -> Iterator[ByHand]:
    by_hand = ByHand("loop", rx=4)
    yield by_hand
    by_hand.close()


def queue_of(nic: ByHand, frame: bytes) -> int | None:
    """Loop this frame back; returns the queue that received it."""
    before = [len(nic.received(queue)) for queue in range(4)]
    nic.send(frame)
    after = [len(nic.received(queue)) for queue in range(4)]
    return next((queue for queue in range(4) if after[queue] > before[queue]), None)


def director(nic: ByHand, **control: int) -> None:
    """Give flow director memory, taken from the packet buffer while reception is off."""
    nic.regs.RXCTRL.write(RXEN=0)
    nic.regs.FDIRHKEY.write(BUCKET_KEY)
    nic.regs.FDIRSKEY.write(SIGNATURE_KEY)
    nic.regs.FDIRCTRL.write(**{"PBALLOC": 1, "DROP_QUEUE": 127, "FLEX_OFFSET": 6, **control})
    nic.regs.RXPBSIZE[0].write(SIZE=512 - (32 << nic.regs.FDIRCTRL.read().PBALLOC))
    nic.regs.FCRTH[0].write(RTH=0x1000)
    nic.start_reception()
    nic.regs.FDIRM.write(POOL=1, FLEX=1)


def command(
    nic: ByHand, flow: FlowFilter, operation: int, queue: int = 0, *, tag: int | None = None, **fields: int
) -> FDIRCMD:
    """Send a command about this flow: with its signature, or (tag) with a software index for perfect mode."""
    stream = hash_input(flow)
    regs = nic.regs
    regs.FDIRIPSA.write(0x0100000A if flow.source else 0)
    regs.FDIRIPDA.write(0x0200000A if flow.destination else 0)
    regs.FDIRPORT.write(SOURCE=flow.source_port or 0, DESTINATION=flow.destination_port or 0)
    regs.FDIRHASH.write(
        HASH=flow_hash(BUCKET_KEY, stream), SIGNATURE_SW_INDEX=flow_hash(SIGNATURE_KEY, stream) if tag is None else tag
    )
    types = {None: 0, Protocol.UDP: 1, Protocol.TCP: 2, Protocol.SCTP: 3}
    regs.FDIRCMD.write(CMD=operation, L4TYPE=types[flow.protocol], QUEUE_EN=1, RX_QUEUE=queue, **fields)
    return regs.FDIRCMD.read()


def test_an_ethertype_filter_without_a_queue_still_marks_its_frames(nic: ByHand) -> None:
    nic.regs.ETQF[5].write(ETYPE=0x88F7, FILTER_EN=1)
    assert queue_of(nic, ethernet(b"", 0x88F7)) == 0
    assert nic.rx[0].read(0)[0] & 0xFFF0 == L2_PACKET | 5 << 4
    nic.regs.ETQS[5].write(QUEUE_EN=1, RX_QUEUE=2)
    assert queue_of(nic, ethernet(b"", 0x88F7)) == 2
    assert nic.rx[2].read(0)[0] & 0xFFF0 == L2_PACKET | 5 << 4
    nic.regs.ETQF[5].update(FILTER_EN=0)
    assert queue_of(nic, ethernet(b"", 0x88F7)) == 0


def test_a_five_tuple_filter_for_other_protocols_does_not_match_tcp_udp_or_sctp(nic: ByHand) -> None:
    nic.regs.L34TIMIR[0].write(RX_QUEUE=3, MUST_BE_ONE=1)
    nic.regs.FTQF[0].write(
        QUEUE_ENABLE=1,
        PROTOCOL=3,
        PRIORITY=1,
        POOL_MASK=1,
        MASK_SOURCE_ADDRESS=1,
        MASK_DESTINATION_ADDRESS=1,
        MASK_SOURCE_PORT=1,
        MASK_DESTINATION_PORT=1,
    )
    assert [queue_of(nic, ethernet(packet(protocol))) for protocol in (TCP, UDP, SCTP, 1, 47)] == [0, 0, 0, 3, 3]


@pytest.mark.breaks_rules("director_init_awaited")
def test_a_command_without_a_table_does_nothing(nic: ByHand) -> None:
    assert not command(nic, FLOW, ADD, 1).CMD
    assert not command(nic, FLOW, QUERY).FILTER_VALID
    assert nic.regs.FDIRUSTAT.read() == 0
    assert queue_of(nic, ethernet(packet())) == 0


def test_signature_filters_are_added_matched_removed_and_counted(nic: ByHand) -> None:
    director(nic)
    assert nic.regs.FDIRCTRL.read().INIT_DONE and nic.regs.FDIRFREE.read().FREE == 8190
    assert not command(nic, FLOW, ADD, 1).COLLISION
    assert command(nic, FLOW, QUERY).FILTER_VALID
    assert nic.regs.FDIRFREE.read().FREE == 8189
    assert queue_of(nic, ethernet(packet())) == 1
    assert queue_of(nic, ethernet(packet(sport=1001))) == 0
    assert (nic.regs.FDIRMATCH.read(), nic.regs.FDIRMISS.read()) == (1, 1)
    assert (nic.regs.FDIRMATCH.read(), nic.regs.FDIRMISS.read()) == (0, 0), "cleared by the read"
    command(nic, FLOW, REMOVE)
    command(nic, FLOW, REMOVE)
    assert not command(nic, FLOW, QUERY).FILTER_VALID
    used, failed = nic.regs.FDIRUSTAT.read(), nic.regs.FDIRFSTAT.read()
    assert (used.ADD, used.REMOVE, failed.FADD, failed.FREMOVE) == (1, 1, 0, 1)
    assert queue_of(nic, ethernet(packet())) == 0


def test_an_existing_filter_changes_only_with_filter_update(nic: ByHand) -> None:
    director(nic)
    command(nic, FLOW, ADD, 1)
    assert command(nic, FLOW, ADD, 2).COLLISION
    assert queue_of(nic, ethernet(packet())) == 1
    command(nic, FLOW, ADD, 2, FILTER_UPDATE=1)
    assert queue_of(nic, ethernet(packet())) == 2
    assert nic.regs.FDIRFREE.read().FREE == 8189


@pytest.mark.parametrize("empty", ["CLEARHT", "FDIRCTRL"])
def test_the_table_can_be_emptied(nic: ByHand, empty: str) -> None:
    director(nic)
    command(nic, FLOW, ADD, 1)
    if empty == "CLEARHT":
        nic.regs.FDIRCMD.write(CLEARHT=1)
    else:
        director(nic)
    assert nic.regs.FDIRFREE.read().FREE == 8190
    assert queue_of(nic, ethernet(packet())) == 0


@pytest.mark.parametrize(
    ("allocation", "perfect", "capacity"),
    [(1, 1, 2046), (2, 1, 4094), (3, 1, 8190), (1, 0, 8190), (2, 0, 16382), (3, 0, 32766)],
)
def test_the_capacity_of_the_table_follows_its_memory(
    nic: ByHand, allocation: int, perfect: int, capacity: int
) -> None:
    director(nic, PBALLOC=allocation, PERFECT_MATCH=perfect)
    assert nic.regs.FDIRFREE.read().FREE == capacity


def test_a_full_table_counts_the_filters_that_it_refuses(nic: ByHand) -> None:
    director(nic, PERFECT_MATCH=1)
    for number in range(2050):
        nic.regs.FDIRHASH.write(HASH=number, SIGNATURE_SW_INDEX=number)
        nic.regs.FDIRCMD.write(CMD=ADD, QUEUE_EN=1)
        nic.regs.FDIRCMD.read()
    assert nic.regs.FDIRFREE.read().FREE == 0
    assert nic.regs.FDIRFSTAT.read().FADD == 4
    assert nic.regs.FDIRUSTAT.read().ADD == 2046


def test_perfect_filters_in_one_bucket_are_distinguished_by_their_fields(nic: ByHand) -> None:
    director(nic, PERFECT_MATCH=1)
    nic.regs.FDIRM.write(**EVERYTHING)
    nic.regs.FDIRSIP4M.write(0xFFFF_FFFF)
    nic.regs.FDIRDIP4M.write(0xFFFF_FFFF)
    nothing = FlowFilter(None)  # everything masked: one bucket for all frames
    command(nic, nothing, ADD, 1, tag=7)
    command(nic, nothing, ADD, 2, tag=8)
    assert queue_of(nic, ethernet(packet())) == 1, "the first filter that matches"
    command(nic, nothing, REMOVE, tag=7)
    assert queue_of(nic, ethernet(packet(UDP))) == 2


def test_port_masks_have_reversed_bits(nic: ByHand) -> None:
    """As Linux writes it (8.2.3.21.6): bit 15 of SPORTM stands for bit 0 of the port."""
    director(nic, PERFECT_MATCH=1)
    nic.regs.FDIRTCPM.write(SPORTM=0xE000, DPORTM=0)  # ports 1000 to 1007
    command(nic, FLOW, ADD, 3, tag=0)
    assert [queue_of(nic, ethernet(packet(sport=sport))) for sport in (999, 1000, 1007, 1008)] == [0, 3, 3, 0]
    assert queue_of(nic, ethernet(packet(sport=1000, dport=2001))) == 0


def test_a_match_is_reported_in_the_descriptor_with_report_status(nic: ByHand) -> None:
    director(nic, PERFECT_MATCH=1, REPORT_STATUS=1)
    nic.regs.RXCTRL.write(RXEN=0)
    nic.regs.RXCSUM.write(PCSD=1)
    nic.start_reception()
    command(nic, FLOW, ADD, 2, tag=0x123)
    assert queue_of(nic, ethernet(packet())) == 2
    low, high = nic.rx[2].read(0)
    assert high & FLM
    assert low & 0xF == 0xF and low >> 32 & 0xFFFF == 0x123
    assert low >> 48 == flow_hash(BUCKET_KEY, hash_input(FLOW)) & 0x7FF, "as many bits as the table has buckets"
    assert queue_of(nic, ethernet(packet(UDP))) == 0
    assert not nic.rx[0].read(0)[1] & FLM


def test_flexible_bytes_are_compared_at_flex_offset(nic: ByHand) -> None:
    director(nic, PERFECT_MATCH=1, FLEX_OFFSET=9)  # the IPv4 identification, bytes 18 and 19
    nic.regs.FDIRM.write(POOL=1)
    frame = bytearray(ethernet(packet()))
    frame[18:20] = b"\xab\xcd"
    stream = hash_input(FLOW) ^ 0xABCD << 16
    nic.regs.FDIRIPSA.write(0x0100000A)
    nic.regs.FDIRIPDA.write(0x0200000A)
    nic.regs.FDIRPORT.write(SOURCE=1000, DESTINATION=2000)
    nic.regs.FDIRVLAN.write(FLEX=0xCDAB)
    nic.regs.FDIRHASH.write(HASH=flow_hash(BUCKET_KEY, stream))
    nic.regs.FDIRCMD.write(CMD=ADD, L4TYPE=2, QUEUE_EN=1, RX_QUEUE=1)
    assert queue_of(nic, bytes(frame)) == 1
    assert queue_of(nic, ethernet(packet())) == 0


def test_a_reset_empties_all_filters(nic: ByHand) -> None:
    director(nic)
    command(nic, FLOW, ADD, 1)
    nic.nic.reset()
    assert nic.regs.FDIRFREE.read().FREE == 0
    assert not nic.regs.FDIRCTRL.read().INIT_DONE
