"""port.filters and port.rss: each frame arrives on the chosen queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from ixrings import (
    EtherTypeFilter,
    Filter,
    FiveTupleFilter,
    FlowDirector,
    FlowFilter,
    Port,
    PortError,
    Protocol,
    RssHeaders,
    SynFilter,
    open_port,
)
from ixrings.driver.flow_director import Mask
from ixrings.hw.emulator import Emulated82599
from ixrings.hw.registers import Registers
from tests.support.steered import ACK, FIRST_FRAGMENT, ICMP, SCTP, SYN, TCP, UDP, ethernet, packet, queue_of

QUEUES = 8
RSS_QUEUE = 7  # the queue of frames that no filter matches


def opened(director: FlowDirector | None = None) -> Iterator[Port]:
    with open_port("emulated", rx_queues=QUEUES, rx_slots=64, tx_slots=64, flow_director=director) as port:
        port.rss.table = [RSS_QUEUE]
        yield port


@pytest.fixture
def port() -> Iterator[Port]:
    yield from opened()


@pytest.fixture
def perfect() -> Iterator[Port]:
    yield from opened(FlowDirector.PERFECT)


@pytest.fixture
def signature() -> Iterator[Port]:
    yield from opened(FlowDirector.SIGNATURE)


# ---- RSS ----


def test_the_rss_table_chooses_the_queue_of_each_hash(port: Port) -> None:
    frames = [ethernet(packet(sport=sport)) for sport in range(20)]
    port.rss.table = np.arange(128) % QUEUES
    before = [queue_of(port, frame) for frame in frames]
    port.rss.table = (np.arange(128) + 1) % QUEUES
    assert [queue_of(port, frame) for frame in frames] == [
        (queue + 1) % QUEUES for queue in before if queue is not None
    ]
    assert len(set(before)) > 3
    assert list(port.rss.table[:9]) == [1, 2, 3, 4, 5, 6, 7, 0, 1]


def test_a_short_rss_table_is_repeated(port: Port) -> None:
    port.rss.table = range(3)
    assert port.rss.table.tolist() == [i % 3 for i in range(128)]


@pytest.mark.parametrize(
    ("table", "words"),
    [([8], "rx_queues=8"), ([], "128 entries"), ([0] * 129, "128 entries"), ([-1], "no receive queue -1")],
)
def test_a_bad_rss_table_is_refused(port: Port, table: list[int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        port.rss.table = table
    assert set(port.rss.table) == {RSS_QUEUE}


def test_the_rss_key_changes_the_queues_of_flows(port: Port) -> None:
    port.rss.table = range(QUEUES)
    frames = [ethernet(packet(sport=sport)) for sport in range(20)]
    before = [queue_of(port, frame) for frame in frames]
    port.rss.key = bytes(40)
    assert port.rss.key == bytes(40)
    assert [queue_of(port, frame) for frame in frames] == [0] * 20 != before, "a key of zeros makes every hash 0"
    with pytest.raises(ValueError, match="39 bytes"):
        port.rss.key = bytes(39)


def test_headers_outside_the_hash_make_no_difference(port: Port) -> None:
    assert port.rss.headers.value == RssHeaders.ALL.value
    port.rss.table = range(QUEUES)
    port.rss.headers &= ~RssHeaders.UDPIPV4
    assert port.rss.headers == RssHeaders.ALL ^ RssHeaders.UDPIPV4
    assert len({queue_of(port, ethernet(packet(UDP, sport=sport))) for sport in range(10)}) == 1, (
        "UDP ports are not in the hash"
    )
    assert len({queue_of(port, ethernet(packet(TCP, sport=sport))) for sport in range(10)}) > 1
    port.rss.headers = RssHeaders.NONE
    assert {queue_of(port, ethernet(packet(TCP, sport=sport))) for sport in range(10)} == {0}


# ---- EtherType, SYN, 5-tuple ----


def test_an_ethertype_filter_matches_frames_with_and_without_a_tag(port: Port) -> None:
    port.filters.add(EtherTypeFilter(0x88F7, 3), EtherTypeFilter(0x88CC, 4, user_priority=5))
    assert queue_of(port, ethernet(b"", 0x88F7)) == 3
    assert queue_of(port, ethernet(b"", 0x88F7, tag=100)) == 3
    assert queue_of(port, ethernet(b"", 0x88CC, tag=5 << 13 | 1)) == 4
    assert queue_of(port, ethernet(b"", 0x88CC, tag=4 << 13 | 1)) == 0
    assert queue_of(port, ethernet(b"", 0x88CC)) == 0
    assert queue_of(port, ethernet(packet())) == RSS_QUEUE


def test_a_syn_filter_matches_the_start_of_connections(port: Port) -> None:
    port.filters.add(SynFilter(2))
    assert queue_of(port, ethernet(packet(flags=SYN))) == 2
    assert queue_of(port, ethernet(packet(source="fe80::1", destination="fe80::2", flags=SYN))) == 2
    assert queue_of(port, ethernet(packet(flags=ACK))) == RSS_QUEUE
    assert queue_of(port, ethernet(packet(UDP, flags=SYN))) == RSS_QUEUE


FIELDS = {
    "protocol": Protocol.TCP,
    "source": "10.0.0.1",
    "destination": "10.0.0.2",
    "source_port": 1000,
    "destination_port": 2000,
}
OTHERS = {
    "protocol": packet(UDP),
    "source": packet(source="10.0.0.3"),
    "destination": packet(destination="10.0.0.3"),
    "source_port": packet(sport=1001),
    "destination_port": packet(dport=2001),
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_five_tuple_filter_compares_each_of_its_fields(port: Port, field: str) -> None:
    port.filters.add(FiveTupleFilter(5, **FIELDS))  # type: ignore[arg-type]
    assert queue_of(port, ethernet(packet())) == 5
    assert queue_of(port, ethernet(packet(), tag=7)) == 5
    assert queue_of(port, ethernet(OTHERS[field])) == RSS_QUEUE
    port.filters.clear()
    port.filters.add(FiveTupleFilter(5, **{**FIELDS, field: None}))  # type: ignore[arg-type]
    assert queue_of(port, ethernet(OTHERS[field])) == 5, "not compared now"


def test_five_tuple_filters_with_ports_match_neither_ipv6_nor_fragments(port: Port) -> None:
    port.filters.add(FiveTupleFilter(5, Protocol.UDP, destination_port=2000))
    assert queue_of(port, ethernet(packet(UDP))) == 5
    assert queue_of(port, ethernet(packet(UDP, fragment=FIRST_FRAGMENT))) == RSS_QUEUE
    assert queue_of(port, ethernet(packet(UDP, "fe80::1", "fe80::2"))) == RSS_QUEUE


def test_the_five_tuple_filter_of_the_highest_priority_wins_then_the_first(port: Port) -> None:
    low, first, second = (
        FiveTupleFilter(1, Protocol.TCP, priority=1),
        FiveTupleFilter(2, source="10.0.0.1", priority=6),
        FiveTupleFilter(3, destination="10.0.0.2", priority=6),
    )
    port.filters.add(low, first, second)
    assert list(port.filters) == [first, second, low]
    for filter in (first, second, low):
        assert queue_of(port, ethernet(packet())) == filter.queue
        port.filters.remove(filter)
    assert queue_of(port, ethernet(packet())) == RSS_QUEUE


def test_filters_take_effect_in_the_datasheets_order(perfect: Port) -> None:
    """7.1.2: EtherType (not for IP frames), SYN before or after 5-tuples, flow director, RSS."""
    order: list[Filter] = [
        SynFilter(1, before_five_tuples=True),
        FiveTupleFilter(2, Protocol.TCP),
        FlowFilter(4, Protocol.TCP),
    ]
    perfect.filters.add(*reversed(order))
    assert list(perfect.filters) == order
    for filter in order:
        assert queue_of(perfect, ethernet(packet(flags=SYN))) == filter.queue
        perfect.filters.remove(filter)
    assert queue_of(perfect, ethernet(packet(flags=SYN))) == RSS_QUEUE
    perfect.filters.add(SynFilter(1), *order[1:])
    assert queue_of(perfect, ethernet(packet(flags=SYN))) == 2
    assert list(perfect.filters) == [order[1], SynFilter(1), order[2]]


def test_filters_are_listed_as_they_were_added_until_they_are_removed(port: Port) -> None:
    filters: list[Filter] = [
        EtherTypeFilter(0x88F7, 3, user_priority=2),
        FiveTupleFilter(5, Protocol.SCTP, "1.2.3.4", "5.6.7.8", 9, 10, priority=7),
        FiveTupleFilter(6),
        SynFilter(2),
    ]
    port.filters.add(*filters)
    assert list(port.filters) == filters and len(port.filters) == 4
    assert filters[1] in port.filters
    port.filters.remove(filters[1])
    assert filters[1] not in port.filters and len(port.filters) == 3
    with pytest.raises(ValueError, match="there is no FiveTupleFilter"):
        port.filters.remove(filters[1])
    port.filters.clear()
    assert list(port.filters) == []


@pytest.mark.slow
def test_there_are_eight_ethertype_filters_and_128_of_five_tuples(port: Port) -> None:
    port.filters.add(*(EtherTypeFilter(0x9000 + i, 1) for i in range(8)))
    with pytest.raises(PortError, match="8 EtherType filters, and all are in use"):
        port.filters.add(EtherTypeFilter(0xA000, 1))
    port.filters.add(*(FiveTupleFilter(i % QUEUES, Protocol.UDP, destination_port=i) for i in range(128)))
    with pytest.raises(PortError, match="128 5-tuple filters"):
        port.filters.add(FiveTupleFilter(1))
    assert [queue_of(port, ethernet(packet(UDP, dport=dport))) for dport in (0, 77, 127, 128)] == [
        0,
        77 % QUEUES,
        127 % QUEUES,
        RSS_QUEUE,
    ]


def test_a_new_port_has_no_filters_of_an_earlier_one() -> None:
    with Emulated82599("loop") as nic:
        with open_port(nic, rx_queues=2) as port:
            port.filters.add(EtherTypeFilter(0x88F7, 1), FiveTupleFilter(1), SynFilter(1))
            assert len(port.filters) == 3
        for _ in range(2):  # the second time after a program that left a filter
            with open_port(nic, rx_queues=2) as port:
                assert not list(port.filters)
            Registers(nic).ETQF[0].write(ETYPE=0x88F7, FILTER_EN=1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: EtherTypeFilter(0x0800, 1), "use a FiveTupleFilter"),
        (lambda: EtherTypeFilter(100, 1), "0x600"),
        (lambda: EtherTypeFilter(0x88F7, 1, user_priority=8), "0 to 7"),
        (lambda: FiveTupleFilter(1, source="10.0.0.300"), "10.0.0.300"),
        (lambda: FiveTupleFilter(1, source_port=65536), "65535"),
        (lambda: FiveTupleFilter(1, priority=0), "1 to 7"),
        (lambda: FlowFilter(1, source_port=1), "protocol=Protocol.TCP"),
        (lambda: FlowFilter(1, Protocol.SCTP, source_port=1), "both ports"),
        (lambda: FlowFilter(1, source="10.0.0.1", destination="fe80::1"), "different IP versions"),
        (lambda: FlowFilter(1, vlan=4096), "4095"),
        (lambda: FlowFilter(1, source="fe80::/10"), "whole addresses"),
        (lambda: FlowFilter(1, source="10.0.0.1/8"), "host bits"),
    ],
)
def test_a_bad_filter_is_refused_with_what_is_allowed(make: Callable[[], Filter], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    "filter", [EtherTypeFilter(0x88F7, QUEUES), SynFilter(-1), FiveTupleFilter(99), FlowFilter(QUEUES)]
)
def test_a_queue_that_the_port_does_not_have_is_refused(perfect: Port, filter: Filter) -> None:
    with pytest.raises(ValueError, match="rx_queues=8"):
        perfect.filters.add(filter)
    assert not len(perfect.filters)


@pytest.mark.parametrize(
    "filter", [EtherTypeFilter(0x88F7, 1), SynFilter(1), FiveTupleFilter(1), FlowFilter(1, Protocol.TCP)]
)
def test_a_second_filter_for_the_same_frames_is_refused(perfect: Port, filter: Filter) -> None:
    perfect.filters.add(filter)
    with pytest.raises(ValueError, match="there is already .*; remove it first"):
        perfect.filters.add(type(filter)(**{**vars(filter), "queue": 2}))
    assert list(perfect.filters) == [filter]


# ---- flow director ----


@pytest.mark.parametrize("mode", FlowDirector)
@pytest.mark.parametrize("field", [*FIELDS, "vlan"])
def test_a_flow_filter_compares_each_of_its_fields(mode: FlowDirector, field: str) -> None:
    fields = {**FIELDS, "vlan": 5}
    for port in opened(mode):
        port.filters.add(FlowFilter(3, **fields))  # type: ignore[arg-type]
        assert queue_of(port, ethernet(packet(), tag=5)) == 3
        assert queue_of(port, ethernet(packet(), tag=7 << 13 | 5)) == 3, "the priority in a tag is not compared"
        other = ethernet(packet(), tag=6) if field == "vlan" else ethernet(OTHERS[field], tag=5)
        assert queue_of(port, other) == RSS_QUEUE
        port.filters.clear()
        assert queue_of(port, ethernet(packet(), tag=5)) == RSS_QUEUE
        without = {**fields, field: None} if field != "protocol" else {"source": "10.0.0.1", "vlan": 5}
        port.filters.add(FlowFilter(3, **without))  # type: ignore[arg-type]
        assert queue_of(port, other) == 3, "not compared now"
        assert port.stats()["FDIRMATCH"] == 3


@pytest.mark.parametrize("mode", FlowDirector)
def test_a_flow_filter_may_name_a_network(mode: FlowDirector) -> None:
    for port in opened(mode):
        port.filters.add(FlowFilter(1, destination="10.20.0.0/16"), FlowFilter(2, destination="10.21.0.0/16"))
        assert queue_of(port, ethernet(packet(UDP, destination="10.20.30.40"))) == 1
        assert queue_of(port, ethernet(packet(ICMP, destination="10.21.255.255"))) == 2
        assert queue_of(port, ethernet(packet(UDP, destination="10.22.0.1"))) == RSS_QUEUE
        with pytest.raises(ValueError, match="now destination/16, not destination/24"):
            port.filters.add(FlowFilter(3, destination="10.22.0.0/24"))


def test_a_flow_filter_without_a_queue_drops(perfect: Port) -> None:
    perfect.filters.add(FlowFilter(None, Protocol.UDP, destination_port=2000))
    assert queue_of(perfect, ethernet(packet(UDP))) is None
    assert queue_of(perfect, ethernet(packet(UDP, dport=2001))) == RSS_QUEUE
    stats = perfect.stats()
    assert stats["FDIRMATCH"] == 1 and stats["FDIRMISS"] == 1, "frames that are not IP are not looked up"
    assert [queue["QPRDC"] for queue in stats.rx] == [0] * QUEUES and stats.rx_others["QPRDC"] == 1


def test_signature_filters_support_ipv6(signature: Port) -> None:
    signature.filters.add(
        FlowFilter(1, Protocol.TCP, "fe80::1", "fe80::2", 1000, 2000),
        FlowFilter(2, Protocol.TCP, "10.0.0.1", "10.0.0.2", 1000, 2000),
    )
    assert queue_of(signature, ethernet(packet(TCP, "fe80::1", "fe80::2"))) == 1
    assert queue_of(signature, ethernet(packet(TCP, "fe80::1", "fe80::3"))) == RSS_QUEUE
    assert queue_of(signature, ethernet(packet())) == 2


def test_perfect_filters_support_only_ipv4(perfect: Port) -> None:
    with pytest.raises(ValueError, match="FlowDirector.SIGNATURE"):
        perfect.filters.add(FlowFilter(1, source="fe80::1"))
    perfect.filters.add(FlowFilter(1))
    assert queue_of(perfect, ethernet(packet(UDP, "fe80::1", "fe80::2"))) == RSS_QUEUE
    assert queue_of(perfect, ethernet(packet(UDP))) == 1


def test_flow_filters_compare_both_ports_of_sctp(perfect: Port) -> None:
    perfect.filters.add(FlowFilter(1, Protocol.SCTP, source_port=1000, destination_port=2000))
    assert queue_of(perfect, ethernet(packet(SCTP))) == 1
    assert queue_of(perfect, ethernet(packet(SCTP, dport=2001))) == RSS_QUEUE


def test_flow_filters_with_a_protocol_do_not_match_fragments(perfect: Port) -> None:
    perfect.filters.add(FlowFilter(1, Protocol.UDP))
    assert queue_of(perfect, ethernet(packet(UDP))) == 1
    assert queue_of(perfect, ethernet(packet(UDP, fragment=FIRST_FRAGMENT))) == RSS_QUEUE


def test_flow_filters_are_added_and_removed_one_by_one(perfect: Port) -> None:
    filters = [FlowFilter(i % QUEUES, Protocol.TCP, source_port=i) for i in range(40)]
    perfect.filters.add(*filters)
    perfect.filters.remove(*filters[::2])
    assert list(perfect.filters) == filters[1::2]
    again = FlowFilter(5, Protocol.TCP, source_port=0)
    perfect.filters.add(again)
    for i in range(10):
        assert queue_of(perfect, ethernet(packet(sport=i))) == (5 if i == 0 else i % QUEUES if i % 2 else RSS_QUEUE)
    perfect.filters.remove(*filters[1::2], again)
    with pytest.raises(ValueError, match="there is no FlowFilter"):
        perfect.filters.remove(again)
    assert perfect.nic.FDIRFREE.read().FREE == 2046


def test_flow_filters_fill_the_table_and_one_more_is_refused(perfect: Port) -> None:
    perfect.filters.add(*(FlowFilter(i % QUEUES, Protocol.UDP, destination_port=i) for i in range(2046)))
    assert perfect.nic.FDIRFREE.read().FREE == 0
    with pytest.raises(PortError, match="full: 2046 filters"):
        perfect.filters.add(FlowFilter(1, Protocol.UDP, destination_port=3000))
    assert [queue_of(perfect, ethernet(packet(UDP, dport=dport))) for dport in (0, 1, 1023, 2045, 2046)] == [
        0,
        1,
        7,
        2045 % QUEUES,
        RSS_QUEUE,
    ]


def test_the_error_of_a_port_without_flow_director_shows_how_to_open_one(port: Port) -> None:
    with pytest.raises(PortError, match="flow_director=FlowDirector.PERFECT"):
        port.filters.add(FlowFilter(1))


def test_flow_director_takes_room_from_the_packet_buffer(port: Port, perfect: Port) -> None:
    assert port.nic.RXPBSIZE[0].read().SIZE == 512 and perfect.nic.RXPBSIZE[0].read().SIZE == 448
    assert perfect.nic.FDIRCTRL.read().PBALLOC == 1


def test_a_mask_is_described_in_words() -> None:
    assert (
        str(Mask.of(FlowFilter(1, Protocol.TCP, "10.0.0.0/8", destination_port=1)))
        == "protocol, source/8, destination_port"
    )
    assert str(Mask.of(FlowFilter(1))) == "nothing"
