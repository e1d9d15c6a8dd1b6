"""A port as a user sees it: frames, filters, queues, counters, link."""

from __future__ import annotations

import gc
import socket
import struct
import weakref
from collections.abc import Callable, Iterator

import pytest

from ixrings import LinkDown, Port, PortBusy, PortClosed, PortError, PortOptions, PortTimeout, open_port, open_ports
from ixrings.driver.config import RSS_KEY, OnePortOptions
from ixrings.hw.emulator import Emulated82599
from ixrings.rings import Region, RegionError
from ixrings.rings.layout import SlotFlag
from tests.support.arrivals import came
from tests.support.driver_watch import emulated

A, B, OTHER = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c"


def octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def frame(to: str, payload: bytes = b"", length: int = 60) -> bytes:
    return (octets(to) + octets(A) + b"\x88\xb5" + payload).ljust(length, b"\0")


@pytest.fixture
def cable() -> Iterator[tuple[Port, Port]]:
    with open_port("emulated:cable=test", mac=A) as a, open_port("emulated:cable=test", mac=B) as b:
        a.wait_link(30)
        yield a, b


def exchange(sender: Port, receiver: Port, frames: list[bytes]) -> list[bytes]:
    """The frames that `receiver` gets. A last frame, sent to its address, marks the end."""
    end = frame(receiver.mac, b"end")
    sender.send([*frames, end])
    got: list[bytes] = []
    for received in receiver.recv(30):
        if received == end:
            return got
        got.append(received)
    raise AssertionError(f"the last frame did not arrive; {len(got)} others did")


def test_what_is_sent_on_a_loop_comes_back_and_no_rule_is_broken() -> None:
    with open_port("emulated") as port:
        frames = [frame(port.mac, bytes([n % 256]) * 30, 60 + n % 1400) for n in range(3000)]
        # More frames at once than ring and packet buffer hold would be lost, as on the wire.
        for first in range(0, len(frames), 300):
            assert exchange(port, port, frames[first : first + 300]) == frames[first : first + 300]
        assert emulated(port).violations == []


def test_short_frames_are_padded_to_sixty_bytes_by_the_nic() -> None:
    with open_port("emulated") as port:
        assert (
            exchange(port, port, [frame(port.mac, length=length) for length in (17, 20, 59)]) == [frame(port.mac)] * 3
        )


def test_unicast_for_others_is_not_received_until_promiscuous(cable: tuple[Port, Port]) -> None:
    a, b = cable
    mine, others = frame(B, b"mine"), frame(OTHER, b"others")
    assert exchange(a, b, [mine, others]) == [mine]
    b.promiscuous = True
    assert b.promiscuous
    assert exchange(a, b, [mine, others]) == [mine, others]
    b.promiscuous = False
    assert exchange(a, b, [others, mine]) == [mine]


def test_frames_for_a_new_mac_address_are_received(cable: tuple[Port, Port]) -> None:
    a, b = cable
    b.mac = OTHER
    assert b.mac == OTHER
    assert exchange(a, b, [frame(B), frame(OTHER, b"new")]) == [frame(OTHER, b"new")]
    with pytest.raises(ValueError, match="multicast"):
        b.mac = "01:00:00:00:00:01"


def test_broadcast_is_received_and_multicast_on_request(cable: tuple[Port, Port]) -> None:
    a, b = cable
    broadcast, group, other = frame("ff:ff:ff:ff:ff:ff"), frame("01:00:5e:00:00:fb"), frame("01:00:5e:12:34:56")
    assert exchange(a, b, [broadcast, group, other]) == [broadcast]
    b.set_multicast(["01:00:5e:00:00:fb"])
    assert exchange(a, b, [broadcast, group, other]) == [broadcast, group]
    b.set_multicast([], everything=True)
    assert exchange(a, b, [broadcast, group, other]) == [broadcast, group, other]
    b.promiscuous = True  # set and cleared: it must not clear all-multicast
    b.promiscuous = False
    assert exchange(a, b, [other]) == [other]
    b.set_multicast([])
    assert exchange(a, b, [group, other]) == []
    with pytest.raises(ValueError, match="not a multicast address"):
        b.set_multicast([A])


def tcp(source: str, sport: int, target: str, dport: int, to: str) -> bytes:
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, 6, 0, socket.inet_aton(source), socket.inet_aton(target))
    return (
        octets(to) + octets(A) + b"\x08\x00" + ip + struct.pack("!HHIIHHHH", sport, dport, 0, 0, 0x5000, 0, 0, 0)
    ).ljust(60, b"\0")


VERIFICATION = [  # source, destination, hash over addresses and ports, from the published RSS verification suite
    ("66.9.149.187", 2794, "161.142.100.80", 1766, 0x51CCC178),
    ("199.92.111.2", 14230, "65.69.140.83", 4739, 0xC626B0EA),
    ("24.19.198.95", 12898, "12.22.207.184", 38024, 0x5C2B394A),
    ("38.27.205.30", 48228, "209.142.163.6", 2217, 0xAFC7327F),
    ("153.39.163.191", 44251, "202.188.127.2", 1303, 0x10E828A2),
]


@pytest.mark.parametrize("queues", [2, 5, 16])
def test_rss_puts_each_flow_on_the_queue_of_its_published_hash(queues: int) -> None:
    with open_port("emulated", rx_queues=queues, rx_slots=64) as port:
        for source, sport, target, dport, toeplitz in VERIFICATION:
            port.send([tcp(source, sport, target, dport, port.mac)])
            assert port.poll(30)
            (ring,) = [ring for ring in port.rx_rings if ring.space]
            assert ring.ringid == (toeplitz & 0x7F) % queues
            ring.advance(1)
        stats = port.stats()
        assert sum(queue["QPRC"] for queue in stats.rx) == len(VERIFICATION)
        for queue in range(queues):
            assert stats.rx[queue]["QPRC"] == sum((row[4] & 0x7F) % queues == queue for row in VERIFICATION)


def test_the_rss_key_may_be_chosen() -> None:
    key = RSS_KEY[::-1]
    with open_port("emulated", rx_queues=16, rx_slots=64, rss_key=key) as port:
        assert b"".join(int(word.read()).to_bytes(4, "little") for word in port.nic.RSSRK) == key


def test_every_transmit_queue_sends() -> None:
    with open_port("emulated", tx_queues=16, tx_slots=64) as port:
        for k in range(16):
            assert port.send([frame(port.mac, bytes([k]))] * (k + 1), ring=k) == k + 1
        port.flush(30)
        assert [queue["QPTC"] for queue in port.stats().tx] == list(range(1, 17))


@pytest.mark.parametrize(
    ("suffix", "tx", "rx"),
    [("/R", [], [0, 1]), ("/T", [0, 1], []), ("-1", [1], [1]), ("-0/R", [], [0]), ("-1/xT", [1], [])],
)
def test_a_suffix_leaves_only_the_rings_that_it_names(suffix: str, tx: list[int], rx: list[int]) -> None:
    with open_port(f"emulated{suffix}", tx_queues=2, rx_queues=2, tx_slots=64, rx_slots=64) as port:
        assert [ring.ringid for ring in port.tx_rings] == tx
        assert [ring.ringid for ring in port.rx_rings] == rx
        assert port.poll(0) == 0
        port.txsync()
        port.rxsync()
        if not tx:
            with pytest.raises(PortError, match="no TX ring 0"):
                port.send([frame(A)])


def test_a_missing_queue_is_refused() -> None:
    with pytest.raises(PortError, match="rx_queues=4"):
        open_port("emulated-3", tx_queues=2, rx_queues=2)


def test_jumbo_frames_take_several_slots_in_both_directions_and_stay_whole() -> None:
    with open_port("emulated", mtu=9706, buf_size=1024) as port:
        frames = [frame(port.mac, bytes(range(256)) * 40)[:length] for length in (9720, 1024, 1025, 2048, 5000, 60)]
        assert exchange(port, port, frames) == frames
        port.send(frames[:1])
        assert port.poll(30)
        ring = port.rx_rings[0]
        assert ring.slots["len"][ring.head] == 1024
        assert ring.slots["flags"][ring.head] & SlotFlag.NS_MOREFRAG
        assert port.read(ring.reserve(9), 1024).tobytes() == frames[0][: 9 * 1024]  # a row for each slot
        assert emulated(port).violations == []


def test_the_largest_frame_is_sent_and_received() -> None:
    with open_port("emulated", mtu=9710) as port:
        largest = frame(port.mac, b"x" * 9710)[:9724]
        assert exchange(port, port, [largest]) == [largest]


def test_frames_over_the_mtu_are_neither_sent_nor_received(cable: tuple[Port, Port]) -> None:
    a, _ = cable
    with pytest.raises(ValueError, match="larger mtu"):
        a.send([frame(B, length=1519)])
    with open_port("emulated:cable=sizes", mtu=3000) as big, open_port("emulated:cable=sizes", mac=B) as small:
        assert exchange(big, small, [frame(B, length=1600), frame(B, b"fits", 1514)]) == [frame(B, b"fits", 1514)]
        assert small.stats()["ROC"] == 1


def test_statistics_add_up_over_several_reads() -> None:
    with open_port("emulated") as port:
        for rounds in range(1, 4):
            exchange(port, port, [frame(port.mac, length=200)] * 9)
            stats = port.stats()
            assert stats["GPRC"] == stats["GPTC"] == stats.rx[0]["QPRC"] == stats.tx[0]["QPTC"] == 10 * rounds
            assert stats["PRC255"] == stats["PTC255"] == 9 * rounds
            assert stats["PRC64"] == rounds
            assert stats["GORC"] == stats["GOTC"] == rounds * (9 * 204 + 64)
    with pytest.raises(KeyError, match="GPRC"):
        stats["NOSUCH"]


def test_a_full_ring_drops_and_counts_when_there_are_several_queues() -> None:
    with open_port("emulated", rx_queues=2, rx_slots=64) as port:
        port.send([frame(port.mac)] * 300)
        port.flush(30)
        exchange_end = port.stats()
        for _ in range(200):  # the last frames may still be in the wire
            exchange_end = port.stats()
            if exchange_end.rx[0]["QPRDC"] + exchange_end.rx[0]["QPRC"] == 300:
                break
        assert exchange_end.rx[0]["QPRC"] == 63
        assert exchange_end.rx[0]["QPRDC"] == 237


def test_a_single_queue_holds_frames_in_the_packet_buffer_instead() -> None:
    with open_port("emulated", rx_slots=64) as port:
        port.send([frame(port.mac)] * 300)
        port.flush(30)
        assert len(came(port, 300)) == 300
        assert port.stats().rx[0]["QPRDC"] == 0


def test_the_link_has_a_speed_and_a_reason_when_it_is_down() -> None:
    with Emulated82599() as nic, open_port(nic, link_timeout=0) as port:
        assert port.wait_link(30).up
        assert port.link.speed_mbps == 10_000
        nic.set_link(False)
        assert not port.link.up
        assert "cable" in port.link.reason
        with pytest.raises(LinkDown, match="cable"):
            port.wait_link(0.05)
        nic.set_link(True)
        assert port.wait_link(30).up


def test_opening_waits_for_a_slow_link_but_not_without_limit() -> None:
    with open_port("emulated@link=0.2") as port:
        assert port.link.up
    with open_port("emulated@link=60", link_timeout=0.05) as port:
        assert not port.link.up
        assert port.link.reason
        port.send([frame(A)])
        with pytest.raises(PortTimeout, match="link is down"):
            port.flush(0.05)


def test_forwarding_moves_frames_between_ports_without_copying_them() -> None:
    with (
        open_ports("emulated:cable=left", "emulated:cable=right") as (left, right),
        open_port("emulated:cable=left", mac=A) as a,
        open_port("emulated:cable=right", mac=B) as b,
    ):
        left.promiscuous = right.promiscuous = True
        for port in (a, b, left, right):
            port.wait_link(30)
        frames = [frame(B, bytes([n])) for n in range(200)]
        a.send(frames)
        left.poll(30)
        ring = left.rx_rings[0]
        carrying = set(ring.slots["buf_idx"][ring.head : ring.head + ring.space].tolist())
        moved = 0
        while moved < 200:
            left.poll(30)
            moved += left.forward(right, limit=64)
        assert carrying <= set(right.tx_rings[0].slots["buf_idx"].tolist())
        got = []
        for received in b.recv(30):
            got.append(received)
            if len(got) == 200:
                break
        assert got == frames
        with pytest.raises(ValueError, match="open_ports"):
            left.forward(a)


def test_a_region_may_be_shared_unless_it_is_too_small() -> None:
    with Region.for_ports(2) as region:
        with open_port("emulated", region=region) as one, open_port("emulated:sink", region=region) as two:
            assert one.region is region
            assert one.if_offset != two.if_offset
            with pytest.raises(RegionError, match="too small"):
                open_port("emulated:sink", region=region)
        assert region.free_buffers == region.total_buffers - 2


def test_extra_buffers_are_listed_in_the_interface() -> None:
    with open_port("emulated", extra_bufs=7) as port:
        assert len(port._open().interface.extra_buffers()) == 7


@pytest.mark.parametrize(("options", "sentence"), [
    ({"tx_queues": 0}, "1 to 128"), ({"rx_queues": 129}, "1 to 128"), ({"mtu": 9711}, "9728"), ({"mtu": 60}, "68"),
    ({"rss_key": b"short"}, "40"), ({"interrupt_interval_us": 5000.0}, "1046"),
    ({"mac": "nonsense"}, "02:00:00:00:00:01"), ({"mac": "ff:ff:ff:ff:ff:ff"}, "multicast"),
    ({"link_timeout": -1.0}, "seconds"),
])  # fmt: skip
def test_a_bad_value_of_an_option_is_refused_with_what_is_allowed(options: OnePortOptions, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        open_port("emulated", **options)


@pytest.mark.parametrize(
    "options", [{"tx_slots": 100}, {"rx_slots": 32}, {"tx_slots": 8200}, {"buf_size": 1000}, {"buf_size": 16384}]
)
def test_a_bad_ring_or_buffer_size_is_refused_with_what_is_allowed(options: PortOptions) -> None:
    with pytest.raises(RegionError, match="multiple of"):
        open_port("emulated", **options)


def test_the_stride_of_buffers_suits_the_cache_and_the_memory() -> None:
    with open_port("emulated") as port:
        # Another process uses nr_buf_size, the region's buf_size, as the stride.
        assert port.buffers.shape[1] == port.region.buf_size == 2112
        assert port.nic.SRRCTL[0].read().BSIZEPACKET == 2
        with open_port("emulated", region=Region.for_ports(buf_size=4096)) as other:
            assert other.buffers.shape[1] == 4096
    with Emulated82599("sink") as nic:
        nic.scattered = True
        with open_port(nic) as port:
            assert port.buffers.shape[1] == 2048
        with open_ports(nic, "emulated:sink") as ports:
            assert [port.buffers.shape[1] for port in ports] == [2048, 2048]


def test_a_frame_longer_than_the_nic_fills_a_buffer_is_whole_in_two_slots() -> None:
    with open_port("emulated", mtu=9000, promiscuous=True) as port:
        frames = [frame(port.mac, bytes(range(256)) * 9)[:length] for length in (2047, 2048, 2049, 2112, 2113)]
        port.send(frames)
        assert came(port, len(frames)) == frames


def test_a_second_opener_learns_which_port_has_the_device() -> None:
    with Emulated82599("sink") as nic:
        with open_port(nic) as port:
            with pytest.raises(PortBusy, match="already open as port emulated:sink"):
                open_port(nic)
            port.send([frame(A)])
            port.flush(30)
        with open_port(nic) as port:  # it is free again
            port.send([frame(A)])
            port.flush(30)
        assert nic.violations == []


def test_a_closed_port_refuses_every_call_and_may_be_closed_twice() -> None:
    port = open_port("emulated")
    rings = port.tx_rings
    port.close()
    port.close()
    assert port.closed
    uses: tuple[Callable[[], object], ...] = (
        port.txsync,
        port.rxsync,
        port.fileno,
        port.flush,
        port.stats,
        lambda: port.poll(0),
        lambda: port.send([b"x"]),
        lambda: port.recv(0),
        lambda: port.mac,
        lambda: port.tx_rings,
        lambda: port.read,
        lambda: port.write,
        lambda: port.add,
        lambda: port.nic,
    )
    for use in uses:
        with pytest.raises(PortClosed, match="open it again"):
            use()
    assert rings[0].space == 1023  # memory that the user still holds stays readable


def test_frames_before_a_bad_one_are_sent() -> None:
    with open_port("emulated") as port:
        with pytest.raises(ValueError, match="frame 2 has no bytes"):
            port.send([frame(port.mac, b"1"), frame(port.mac, b"2"), b""])
        assert len(came(port, 2)) == 2


def test_a_loop_over_received_frames_may_stop_anywhere_without_loss() -> None:
    with open_port("emulated") as port:
        frames = [frame(port.mac, bytes([n])) for n in range(50)]
        port.send(frames)
        got: list[bytes] = []
        while len(got) < 50:
            for received in port.recv(1):
                got.append(received)
                if len(got) % 7 == 0:
                    break
        assert got == frames


def test_flush_waits_until_exactly_all_frames_are_sent() -> None:
    with open_port("emulated:sink") as port:
        for count in (1, 2, 31, 33, 500):
            port.send([frame(A)] * count)
            port.flush(30)
            assert not port.tx_rings[0].pending
        assert port.stats()["GPTC"] == 1 + 2 + 31 + 33 + 500


def test_a_port_does_not_keep_closed_ports_that_it_forwarded_to() -> None:
    with Region.for_ports(3) as region, open_port("emulated:source", region=region) as source:
        former = open_port("emulated:sink", region=region)
        source.forward(former)
        former.close()
        kept = weakref.ref(former)
        del former
        with open_port("emulated:sink", region=region) as other:
            source.forward(other)
            gc.collect()
            assert kept() is None
