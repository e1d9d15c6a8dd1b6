"""In a guest: ports on two virtual functions of one NIC, whose PF an agent plays outside.

pytest does not collect this file; test_vf_guest.py runs it. IXRINGS_VF contains the two port names. Outside, far_end
sends each frame of the type ECHO back by the cable, and hands do to the PF what tell() asks for.
"""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ixrings import Port, PortError, RequestRefused, open_port
from ixrings.hw.errors import DeviceError

FIRST, SECOND = os.environ["IXRINGS_VF"].split()
WAY = os.environ["IXRINGS_WAY"]
SHARE = Path("/share")
PATIENCE_S = 60.0
BROADCAST, GROUP = "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:fb"
PLAIN, ECHO, VLAN = 0x88B5, 0x88B6, 0x8100
TAG_7 = b"\0\x07\x88\xb5"
asked = itertools.count()


def tell(words: str) -> None:
    """Let the PF's host do something, such as `trust 1 on`, and wait until it is done."""
    number = next(asked)
    half = SHARE / "asking"
    half.write_text(words)
    half.rename(SHARE / f"ask-{os.getpid()}-{number}")
    until(lambda: (SHARE / f"done-{os.getpid()}-{number}").exists())


def until(done: Callable[[], object], port: Port | None = None) -> None:
    """Wait until `done()`, while `port` is looked after as by a program that waits for frames."""
    end = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < end, f"nothing changed in time: {port and port.link}"
        if port is not None:
            port.poll(0.02)
        else:
            time.sleep(0.005)


@contextmanager
def both(**options: Any) -> Iterator[tuple[Port, Port]]:
    with open_port(FIRST, **options) as one, open_port(SECOND, **options) as two:
        yield one, two


def frame(to: str, sender: Port, payload: bytes = b"", kind: int = PLAIN, length: int = 60) -> bytes:
    head = bytes.fromhex((to + sender.mac).replace(":", "")) + kind.to_bytes(2, "big")
    return (head + payload).ljust(length, b"\0")


def receive(port: Port, count: int) -> list[bytes]:
    """The next `count` frames; no other one may have come before them."""
    found = list(itertools.islice(port.recv(PATIENCE_S), count))
    assert len(found) == count, f"{len(found)} of {count} frames came: {port.stats()!r}, {port.link}"
    return found


def crosses(one: Port, two: Port, word: bytes) -> None:
    """A frame of `one` arrives at `two`."""
    one.send([frame(two.mac, one, word)])
    until(lambda: any(each[14:].startswith(word) for each in two.recv(1.0)), two)


def numbered(to: str, sender: Port, count: int, kind: int = PLAIN) -> list[bytes]:
    return [frame(to, sender, bytes([n & 255, n >> 8]) * (20 + n % 700), kind, 60) for n in range(count)]


def test_the_device_is_opened_in_the_way_under_test() -> None:
    with open_port(FIRST) as port:
        assert str(getattr(port.device, "way", "")) == WAY
        assert (port.device.max_vectors, port.vf.version, port.vf.rx_queues) == (3, "1.4", 4)
        assert port.link.up and port.link.speed_mbps == 10_000


def test_every_byte_crosses_the_cable_and_comes_back_and_is_counted() -> None:
    with open_port(FIRST) as port:
        sent = numbered("02:00:00:00:00:99", port, 1200, ECHO)
        for first in range(0, len(sent), 200):
            batch = sent[first : first + 200]
            port.send(batch)
            assert receive(port, 200) == [each[6:12] + each[:6] + each[12:] for each in batch]
        port.flush(PATIENCE_S)
        stats = port.stats()
        size = sum(map(len, sent)) + 4 * len(sent)
        assert (stats["VFGPTC"], stats["VFGPRC"]) == (1200, 1200)
        assert (stats["VFGOTC"], stats["VFGORC"]) == (size, size)


def test_two_functions_exchange_frames_past_the_wire() -> None:
    with both() as (one, two):
        for source, target in ((one, two), (two, one)):
            sent = numbered(target.mac, source, 400)
            for first in range(0, len(sent), 200):
                source.send(sent[first : first + 200])
                assert receive(target, 200) == sent[first : first + 200]
        assert one.stats()["VFGPTC"] == one.stats()["VFGPRC"] == 400


@pytest.mark.parametrize("queues", [2, 4])
def test_each_queue_sends_and_rss_uses_each_to_receive(queues: int) -> None:
    with both(rx_queues=queues, tx_queues=queues) as (one, two):
        for queue in range(queues):
            one.send([udp(two.mac, one, queue, flow) for flow in range(32)], ring=queue)
        until(lambda: two.poll(0.02) and sum(ring.space for ring in two.rx_rings) >= 32 * queues)
        spread = [ring.space for ring in two.rx_rings]
        assert sum(spread) == 32 * queues and all(spread), spread


def udp(to: str, sender: Port, queue: int, flow: int) -> bytes:
    head = bytes.fromhex("4500001c00000000401100000a0000") + bytes([flow]) + bytes.fromhex("0a000102")
    return frame(to, sender, head + bytes([4, flow, 0, 9, 0, 8, 0, 0, queue]), 0x0800)


def test_a_sleeping_program_wakes_up_when_a_frame_comes() -> None:
    with both() as (one, two):
        found: list[bytes] = []
        sleeper = threading.Thread(target=lambda: found.extend(receive(two, 1)))
        sleeper.start()
        until(lambda: two._owned().interrupts.rx.armed)
        one.send([frame(two.mac, one)])
        sleeper.join(PATIENCE_S)
        assert len(found) == 1


def test_vlans_groups_and_addresses_are_asked_of_the_pf_and_again_after_it_wants_a_reset() -> None:
    with both() as (one, two):
        tagged, grouped = frame(two.mac, one, TAG_7, VLAN), frame(GROUP, one)
        one.send([tagged, grouped, frame(two.mac, one)])
        assert receive(two, 1) == [frame(two.mac, one)], "neither was asked for"
        one.vlan.filter = two.vlan.filter = {7}
        two.set_multicast([GROUP])
        one.send([tagged, grouped])
        assert receive(two, 2) == [tagged, grouped]
        with pytest.raises(RequestRefused, match=r"refused UPDATE_XCAST_MODE: .*vf N trust on"):
            two.set_multicast((), everything=True)
        tell("trust 1 on")
        until(lambda: two.vf.recoveries == 1, two)
        two.set_multicast((), everything=True)
        two.vf.addresses = ["02:00:00:00:00:77"]
        one.send([tagged, frame("01:00:5e:00:00:01", one), frame("02:00:00:00:00:77", one)])
        assert len(receive(two, 3)) == 3
        two.mac = "02:00:00:00:00:55"
        crosses(one, two, b"to the new address")
    tell("trust 1 off")


def test_an_address_that_the_host_chose_cannot_be_changed() -> None:
    tell("mac 0 02:00:00:00:0a:bc")
    with open_port(FIRST) as port:
        assert port.mac == "02:00:00:00:0a:bc"
        with pytest.raises(RequestRefused, match="refused SET_MAC: .* run: ip link set PF vf N trust on"):
            port.mac = "02:00:00:00:00:01"


REFUSED: list[tuple[Callable[[Port], object], str]] = [
    (lambda port: setattr(port, "promiscuous", True), "cannot make one promiscuous.*vf N trust on"),
    (lambda port: port.rss, "RSS key and table belong to the PF"),
    (lambda port: port.filters, "filters that choose a queue belong to the PF"),
    (lambda port: port.clock, "clock belongs to the PF"),
    (lambda port: port.sfp, "On the host: ethtool -m PF"),
    (lambda port: port.vf.rss_key(), "query_rss on"),
    (lambda port: setattr(port.vf, "addresses", ["03:00:00:00:00:01"]), "multicast"),
]


def test_what_a_virtual_function_has_not_is_refused_with_who_has_it() -> None:
    with open_port(FIRST) as port:
        for call, says in REFUSED:
            with pytest.raises((PortError, DeviceError, ValueError), match=says):
                call(port)


def test_a_killed_program_leaves_nothing_to_the_next_one() -> None:
    """Its filters and queues are gone: the kernel resets the function (FLR), and the PF forgets what it asked for."""
    ready, tell_ready = os.pipe()
    child = os.fork()
    if not child:
        try:
            with open_port(SECOND, rx_queues=4, tx_queues=4) as port:
                port.vlan.filter = {7}
                os.write(tell_ready, port.mac.encode())
                while True:
                    for each in port.recv(1.0):
                        port.send([each], ring=3)
        finally:
            os._exit(1)
    os.close(tell_ready)
    mac = os.read(ready, 100).decode()
    with open_port(FIRST) as one:
        one.vlan.filter = {7}
        old = [frame(mac, one, TAG_7, VLAN), frame(mac, one)] * 30
        for _ in range(5):
            one.send(old)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        one.send(old)
        with open_port(SECOND) as two:
            assert two.vlan.filter == {0}
            registers = two.vf.nic
            assert not any(registers.VFRXDCTL[queue].read().ENABLE for queue in range(1, 4))
            assert not any(registers.VFTXDCTL[queue].read().ENABLE for queue in range(1, 4))
            two.mac = mac
            one.send(old)
            assert receive(two, 30) == [old[1]] * 30, "only the frames without a tag"
            assert two.stats()["VFGPRC"] == 30


def test_a_port_recovers_in_traffic_when_its_pf_resets_goes_down_or_comes_back() -> None:
    with both() as (one, two):
        stopping = threading.Event()

        def traffic() -> None:
            while not stopping.is_set():
                one.send([frame(two.mac, one, b"traffic")] * 20)

        sender = threading.Thread(target=traffic)
        sender.start()
        try:
            receive(two, 50)
            tell("reset")
            until(lambda: two.vf.recoveries == 1 and one.vf.recoveries == 1, two)
            receive(two, 50)
            tell("down")
            until(lambda: not two.link.up, two)
            assert "the PF is in reset, or its interface is down" in two.link.reason
            tell("up")
            until(lambda: two.vf.recoveries >= 2 and one.vf.recoveries >= 2 and two.link.up, two)
            receive(two, 50)
        finally:
            stopping.set()
            sender.join(PATIENCE_S)
        assert not sender.is_alive()
        assert "reset" in two.vf.why_recovered
        until(lambda: one.link.up, one)
        for _ in two.recv(0.5):
            pass
        one.rxsync()  # its RX queue goes on in the thread that syncs it; frames before that are lost
        crosses(two, one, b"there")
        crosses(one, two, b"and back")


def test_a_link_that_the_host_switched_off_names_the_command() -> None:
    with open_port(FIRST) as port:
        tell("state 0 disable")
        until(lambda: "switched it off" in port.link.reason, port)
        assert "ip link set PF vf N state auto" in port.link.reason
        tell("state 0 auto")
        until(lambda: port.link.up, port)


def test_long_frames_need_a_pf_with_long_frames() -> None:
    with pytest.raises(RequestRefused, match=r"refused SET_LPE: .* run: ip link set PF mtu 9000"):
        open_port(FIRST, mtu=9000)
    tell("mtu 9000")
    with both(mtu=9000) as (one, two):
        sent = [frame(two.mac, one, bytes([n]) * 8900, length=9014) for n in range(20)]
        one.send(sent)
        assert receive(two, 20) == sent
    tell("mtu 1500")
