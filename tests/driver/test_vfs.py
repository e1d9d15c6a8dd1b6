"""`port.vfs`: our driver as the PF of virtual functions. The VFs are our driver's, too."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from ixrings.driver.errors import NotOffered, PortClosed, PortError, PortStuck, RequestRefused
from ixrings.driver.filters import multicast_bit
from ixrings.driver.hosting import HostingFunction
from ixrings.driver.opening import open_port
from ixrings.driver.port import Port
from ixrings.hw.emulator import Emulated82599, Fault, VirtualFunction
from ixrings.hw.errors import DeviceError
from ixrings.hw.registers import Registers
from tests.support.programs import started, wait_for
from tests.support.queue_worker import has_opened, worker

PATIENCE_S = 30.0
BROADCAST = b"\xff" * 6
GROUP = bytes.fromhex("01005e0000fb")
NOBODY = bytes.fromhex("0200000000ee")


def raw(address: str) -> bytes:
    return bytes.fromhex(address.replace(":", ""))


def frame(to: Port | bytes, sender: Port | bytes, payload: bytes = b"", ether_type: int = 0x88B5) -> bytes:
    addresses = [each if isinstance(each, bytes) else raw(each.mac) for each in (to, sender)]
    return (b"".join(addresses) + ether_type.to_bytes(2, "big") + payload).ljust(60, b"\0")


def tagged(to: Port | bytes, sender: Port | bytes, vlan: int) -> bytes:
    return frame(to, sender, vlan.to_bytes(2, "big") + b"\x88\xb5", 0x8100)


@contextmanager
def hosted(wire: str = "sink", vfs: int = 2, opened: int = 2, **options: int) -> Iterator[tuple[Port, list[Port]]]:
    """A PF port that a thread of its own serves VFs for, and ports on the first `opened` VFs."""
    with ExitStack() as stack:
        nic = stack.enter_context(Emulated82599(wire, vfs=vfs))
        pf = stack.enter_context(open_port(nic, **options))  # type: ignore[arg-type]
        pf.vfs.threaded = True
        yield pf, [stack.enter_context(open_port(nic.vf(number))) for number in range(opened)]


def receive(port: Port, count: int = 1) -> list[bytes]:
    """The next `count` frames."""
    found = []
    for each in port.recv(PATIENCE_S):
        found.append(each)
        if len(found) == count:
            return found
    raise AssertionError(f"{len(found)} of {count} frames came: {port.stats()!r}, {port.link}")


def until(done: Callable[[], object], *ports: Port) -> None:
    """Wait until `done()`, while the ports are looked after as by programs that wait for frames."""
    end = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < end, f"nothing changed in time: {[(port, port.link) for port in ports]}"
        for port in ports:
            port.poll(0.01)
            for ring in port.rx_rings:  # a wait that finds frames looks at nothing else
                ring.advance(ring.space)
        time.sleep(0.001)


def recovered(vf: Port, times: int = 1) -> Callable[[], bool]:
    return lambda: vf.vf.recoveries >= times and vf.link.up


def test_pf_and_virtual_functions_exchange_frames_with_each_other_and_with_the_wire() -> None:
    with open_port("emulated:cable=vfs", promiscuous=True, link_timeout=0) as far, hosted("cable=vfs") as (pf, vfs):
        far.wait_link(PATIENCE_S)
        for sender in (pf, *vfs):
            for to in (pf, *vfs):
                if to is not sender:
                    sender.send([frame(to, sender, b"inside")] * 3)
                    assert receive(to, 3) == [frame(to, sender, b"inside")] * 3
            sender.send([frame(NOBODY, sender)])
            assert receive(far) == [frame(NOBODY, sender)]
            far.send([frame(sender, far)])
            assert receive(sender) == [frame(sender, far)]
        far.send([frame(BROADCAST, far)])
        assert all(receive(port) == [frame(BROADCAST, far)] for port in (pf, *vfs))
        counts = pf.vfs[0].stats()
        assert (counts["VFGPTC"], counts["VFGPRC"], counts["VFMPRC"]) == (7, 8, 0)
        assert counts == vfs[0].stats().port, "both sides count the same"
        assert pf.stats().rx[0]["QPRC"] == 8 and pf.vfs[1].stats()["VFGOTC"] == 7 * 64


@pytest.mark.parametrize("vfs, queues", [(2, 4), pytest.param(32, 2, marks=pytest.mark.slow)])
def test_the_ports_own_queues_are_those_of_its_pool_and_rss_spreads_over_them(vfs: int, queues: int) -> None:
    names = f"emulated@vfs={vfs}:cable=pool", "emulated:cable=pool"
    options = {"rx_queues": queues, "tx_queues": queues}
    with open_port(names[0], link_timeout=0, **options) as pf, open_port(names[1]) as far:  # type: ignore[arg-type]
        pf.wait_link(PATIENCE_S)
        flows = [frame(pf, far, udp(port), 0x0800) for port in range(64)]
        far.send(flows)
        assert sorted(receive(pf, 64)) == sorted(flows)
        counts = pf.stats()
        assert sum(queue["QPRC"] for queue in counts.rx) == 64
        assert all(queue["QPRC"] for queue in counts.rx), "each queue of the pool has some"
        for queue in range(queues):
            pf.send([frame(far, pf, bytes([queue]))], ring=queue)
        assert sorted(each[14] for each in receive(far, queues)) == list(range(queues))
        pf.rss.table = [1]
        far.send(flows[:8])
        receive(pf, 8)
        assert pf.stats().rx[1]["QPRC"] == counts.rx[1]["QPRC"] + 8
        first = vfs * queues
        assert pf.nic.RXDCTL[first].read().ENABLE and not pf.nic.RXDCTL[0].read().ENABLE
        pf.queue(1).rxsync()
        assert [vf.served for vf in pf.vfs] == [False] * vfs


def udp(port: int) -> bytes:
    """An IPv4 header and UDP ports."""
    return bytes.fromhex("4500002c00000000401100000a0000010a000002") + port.to_bytes(2, "big") + b"\0\x09\0\x18\0\0"


REFUSED: list[tuple[dict[str, object], str]] = [
    ({"rx_queues": 8}, "the port's own pool has 4 queues each way.* rx_queues=8. Open it with at most 4"),
    ({"rx_queues": 3}, "RSS inside a pool needs 1, 2 or 4 queues"),
    ({"flow_director": "perfect"}, "flow director is off when queues are cut into pools"),
]


def test_what_pools_of_queues_exclude_is_refused_with_the_reason() -> None:
    from ixrings import FlowDirector

    with Emulated82599("sink", vfs=1) as nic:
        for options, says in REFUSED:
            options = {name: FlowDirector.PERFECT if value == "perfect" else value for name, value in options.items()}
            with pytest.raises(NotOffered, match=says):
                open_port(nic, **options)  # type: ignore[arg-type]
        with open_port(nic) as port:
            with pytest.raises(NotOffered, match="filters choose among the queues of all its functions"):
                port.filters  # noqa: B018
            with pytest.raises(IndexError, match="has 1 virtual functions, 0 to 0, and no 1"):
                port.vfs[1]
            with pytest.raises(AttributeError, match="did you mean trust"):
                port.vfs[0].trusted = True  # type: ignore[attr-defined]
            for name, value, says in (
                ("vlan", 4095, "choose 0 .none. to 4094"),
                ("rate", 5, "choose 11 to 10000"),
                ("state", "up", "auto, enable, disable"),
                ("mac", "01:00:00:00:00:01", "multicast"),
            ):
                with pytest.raises(ValueError, match=says):
                    setattr(port.vfs[0], name, value)
    with open_port("emulated:sink") as port, pytest.raises(PortError, match=r'open_port\("emulated@vfs=2"\)'):
        port.vfs  # noqa: B018


def test_address_vlan_and_spoofing_of_a_virtual_function_are_its_hosts_choice() -> None:
    with hosted(opened=0) as (pf, _):
        pf.vfs[0].mac, pf.vfs[0].vlan, pf.vfs[0].qos = "02:00:00:00:0a:bc", 9, 5
        with open_port(pf.vfs[0].device) as zero:
            assert zero.mac == "02:00:00:00:0a:bc" == pf.vfs[0].mac
            with pytest.raises(RequestRefused, match="refused SET_MAC"):
                zero.mac = "02:00:00:00:00:01"
            with pytest.raises(RequestRefused, match="refused SET_VLAN"):
                zero.vlan.filter = {5}
            zero.send([frame(pf, zero)])
            (got,) = receive(pf)
            assert got[12:16] == bytes.fromhex("8100a009"), "VLAN 9 with priority 5"
            zero.send([frame(pf, NOBODY), frame(pf, zero, b"own")])
            assert receive(pf)[0][18:21] == b"own"
            until(lambda: pf.stats()["SSVPC"] == 1)
            pf.vfs[0].spoof = False
            zero.send([frame(pf, NOBODY)])
            assert receive(pf)[0][6:12] == NOBODY
        assert pf.vfs[0].refused >= 2 and "vlan 9, qos 5, spoof off" in repr(pf.vfs[0])


@pytest.mark.slow
def test_trust_and_link_state_reach_the_virtual_function() -> None:
    with hosted() as (pf, (one, two)):
        with pytest.raises(RequestRefused, match="trust on"):
            one.set_multicast((), everything=True)
        pf.vfs[0].trust = True
        until(recovered(one), one)
        one.set_multicast((), everything=True)
        one.vf.addresses = ["02:00:00:00:00:77"]
        assert pf.vfs[0].addresses == ["02:00:00:00:00:77"]
        two.send([frame(GROUP, two), frame(raw("02:00:00:00:00:77"), two)])
        assert len(receive(one, 2)) == 2
        pf.vfs[1].state = "disable"
        until(lambda: "switched it off" in two.link.reason, two)
        pf.vfs[1].state = "auto"
        until(lambda: two.link.up, two)
        with pytest.raises(RequestRefused, match="query_rss on"):
            one.vf.rss_key()
        pf.vfs[0].query_rss = True
        assert one.vf.rss_key() == pf.rss.key
        assert one.vf.redirection_table()[:4] == [0, 1, 2, 3]


@pytest.mark.slow
def test_vlans_and_groups_of_the_port_and_of_virtual_functions_do_not_disturb_each_other() -> None:
    with open_port("emulated:cable=vlans", link_timeout=0) as far, hosted("cable=vlans", opened=1) as (pf, (vf,)):
        far.wait_link(PATIENCE_S)
        assert pf.vlan.filter is None
        vf.vlan.filter = {7}
        vf.set_multicast([GROUP])
        far.send([tagged(vf, far, 7), tagged(BROADCAST, far, 7), tagged(pf, far, 8), frame(GROUP, far)])
        assert receive(vf, 3) == [tagged(vf, far, 7), tagged(BROADCAST, far, 7), frame(GROUP, far)]
        assert receive(pf, 2)[:2] == [tagged(BROADCAST, far, 7), tagged(pf, far, 8)], "the port receives all VLANs"
        pf.vlan.filter = {8}
        assert pf.vlan.filter == {8} and pf.vfs[0].vlans == {0, 7}
        pf.set_multicast(["01:00:5e:00:00:01"])
        far.send([tagged(pf, far, 7), tagged(pf, far, 8), tagged(vf, far, 7), frame(GROUP, far)])
        assert receive(vf, 2) == [tagged(vf, far, 7), frame(GROUP, far)]
        vf.vlan.filter = set()
        pf.vlan.filter = None
        far.send([tagged(pf, far, 7), frame(pf, far)])
        got = [each for each in receive(pf, 3) if each[:6] == raw(pf.mac)]
        assert tagged(pf, far, 8) in got and tagged(pf, far, 7) in got
        function = pf._owned().function
        assert isinstance(function, HostingFunction)
        table = function.nic.MTA
        (own, own_bit), (other, other_bit) = multicast_bit(raw("01:00:5e:00:00:01")), multicast_bit(GROUP)
        assert table[own].read() == 1 << own_bit and table[other].read() == 1 << other_bit
        device = vf._owned().function.device
        vf.close()
        with open_port(device):
            assert table[other].read() == 0, "the next user of the VF has not asked for the groups of the last one"
            assert table[own].read() == 1 << own_bit, "the groups of the port stay"


@pytest.mark.slow
def test_a_promiscuous_port_receives_what_no_virtual_function_does() -> None:
    with open_port("emulated:cable=all", link_timeout=0) as far, hosted("cable=all", opened=1) as (pf, (vf,)):
        far.wait_link(PATIENCE_S)
        far.send([frame(NOBODY, far), frame(pf, far)])
        assert receive(pf) == [frame(pf, far)]
        pf.promiscuous = True
        far.send([frame(vf, far), frame(NOBODY, far)])
        assert receive(pf) == [frame(NOBODY, far)] and receive(vf) == [frame(vf, far)]
        pf.promiscuous = False
        pf.mac = "02:00:00:00:00:33"
        far.send([frame(NOBODY, far), frame(pf, far)])
        assert receive(pf) == [frame(pf, far)]


@pytest.mark.slow
def test_a_rate_is_a_fraction_of_the_links_speed_on_each_queue_of_the_function() -> None:
    with hosted(opened=0) as (pf, _):
        pf.vfs[1].rate = 300

        def rates() -> list[float]:
            found = []
            for queue in range(12):
                pf.nic.RTTDQSEL.write(TXDQ_IDX=queue)
                set_to = pf.nic.RTTBCNRC.read()
                found.append(set_to.RF_INT + set_to.RF_DEC / 16384 if set_to.RS_ENA else 0.0)
            return found

        assert rates()[4:8] == pytest.approx([10_000 / 300] * 4, rel=1e-3)
        assert pf.nic.RTTBCNRM.read() == 4
        pf.vfs[1].rate = 0
        assert not rates()[7]


def test_rates_of_virtual_functions_end_with_the_port() -> None:
    with Emulated82599("sink", vfs=1) as nic:
        with open_port(nic, link_timeout=0) as pf:
            pf.vfs[0].rate = 300
        regs = Registers(nic)
        regs.RTTDQSEL.write(TXDQ_IDX=0)
        assert not regs.RTTBCNRC.read().RS_ENA


def test_a_vlan_without_a_filter_is_refused_and_nothing_is_changed() -> None:
    with hosted(opened=0) as (pf, _):
        pf.vlan.filter = set(range(1, 64))  # all that the NIC has besides VLAN 0's
        with pytest.raises(ValueError, match="have taken all 64 VLAN filters"):
            pf.vfs[0].vlan = 100
        assert pf.vfs[0].vlan == 0 and pf.vfs[0].vlans == {0}
        pf.vfs[0].vlan = 5  # which has one
        assert pf.vfs[0].vlans == {5}


@pytest.mark.slow
def test_a_thread_that_has_ended_is_not_shown() -> None:
    with Emulated82599("sink", vfs=1) as nic, open_port(nic, link_timeout=0) as pf:
        pf.vfs.threaded = True
        assert pf.vfs.threaded
        nic.inject(Fault.REMOVAL)
        wait_for(lambda: not pf.vfs.threaded, "the thread does not end with its NIC")


@pytest.mark.slow
def test_rates_of_the_port_and_of_a_virtual_function_limit_their_own_queues() -> None:
    nic = Emulated82599("sink", vfs=1, manual=True)  # its time stands still, and with it the interrupts
    with nic, open_port(nic, tx_slots=512, link_timeout=0) as pf:
        nic.step(0, 1_000_000)
        opened: list[Port] = []
        options: dict[str, int] = {"tx_queues": 2, "tx_slots": 512, "link_timeout": 0}
        opening = threading.Thread(target=lambda: opened.append(open_port(nic.vf(0), **options)))  # type: ignore[arg-type]
        opening.start()
        while opening.is_alive():
            pf.vfs.serve()
        with opened[0] as vf:
            pf.tx_rings[0].rate_mbps, pf.vfs[0].rate = 400, 200
            for _ in range(120):
                for port in (pf, vf):
                    for ring in port.tx_rings:
                        span = ring.reserve(32)
                        port.write(span, frame(NOBODY, port))
                        span.len[:] = 60
                        ring.advance(len(span))
                    port.txsync()
                nic.step(64, 10_000)
            sent = [count * 64 * 8 / 1200 for count in (pf.stats().tx[0]["QPTC"], vf.stats()["VFGPTC"])]
            assert sent == [pytest.approx(400, rel=0.05), pytest.approx(2 * 200, rel=0.05)]


@pytest.mark.slow
def test_the_waits_of_the_port_serve_its_virtual_functions_without_a_thread() -> None:
    with Emulated82599("sink", vfs=1) as nic, open_port(nic) as pf:
        ended = threading.Event()

        def wait_for_frames() -> None:
            while not ended.is_set():
                for _ in pf.recv(timeout=0.05):
                    pass

        thread = threading.Thread(target=wait_for_frames)
        thread.start()
        try:
            with open_port(nic.vf(0)) as vf:
                assert vf.vf.version == "1.4" and pf.vfs[0].served and not pf.vfs.threaded
                vf.send([frame(pf, vf)])
                until(lambda: pf.stats().rx[0]["QPRC"] == 1)
        finally:
            ended.set()
            thread.join()


@pytest.mark.slow
def test_a_program_that_only_syncs_serves_its_virtual_functions_too() -> None:
    with Emulated82599("sink", vfs=1) as nic, open_port(nic) as pf:
        opened: list[Port] = []
        thread = threading.Thread(target=lambda: opened.append(open_port(nic.vf(0))))
        thread.start()
        end = time.monotonic() + PATIENCE_S
        while thread.is_alive() and time.monotonic() < end:
            pf.rxsync()
        thread.join()
        opened[0].close()


@pytest.mark.slow
def test_virtual_functions_survive_that_their_pf_is_closed_and_opened_in_traffic() -> None:
    """New settings are given to the new port; the old port's can be copied."""
    with Emulated82599("sink", vfs=2) as nic, ExitStack() as stack:
        pf = open_port(nic)
        pf.vfs.threaded = True
        pf.vfs[0].mac, pf.vfs[0].trust = "02:00:00:00:0a:bc", True
        one, two = (stack.enter_context(open_port(nic.vf(number))) for number in range(2))
        ended = threading.Event()

        def flood() -> None:
            while not ended.is_set():
                with suppress(PortError, DeviceError):
                    one.send([frame(two, one)] * 32, timeout=0.1)

        thread = threading.Thread(target=flood)
        thread.start()
        try:
            for round_ in range(1, 4):
                until(lambda: two.poll(0.05))
                kept = [vf.settings for vf in pf.vfs]
                pf.close()
                until(lambda: not two.link.up, two)
                assert "the PF is in reset" in two.link.reason
                pf = open_port(nic)
                for vf, settings in zip(pf.vfs, kept, strict=True):
                    vf.settings = settings
                pf.vfs.threaded = True
                until(recovered(two, round_), two)
                until(recovered(one, round_))
                until(lambda: two.poll(0.05))
                assert pf.vfs[0].mac == "02:00:00:00:0a:bc" and pf.vfs[0].trust
        finally:
            ended.set()
            thread.join()
            pf.close()


@pytest.mark.slow
@pytest.mark.parametrize("first", ["pf", "vf", "nic"])
def test_ports_are_closed_in_any_order(first: str) -> None:
    nic = Emulated82599("sink", vfs=1)
    pf = open_port(nic)
    pf.vfs.threaded = True
    vf = open_port(nic.vf(0))
    vf.send([frame(pf, vf)])
    receive(pf)
    closing: dict[str, list[Callable[[], object]]] = {
        "pf": [pf.close, vf.close, nic.close],
        "vf": [vf.close, pf.close, nic.close],
        "nic": [nic.close, vf.close, pf.close],
    }
    for close in closing[first]:
        with suppress(DeviceError):
            close()
    assert pf.closed and vf.closed


@pytest.mark.slow
def test_a_virtual_function_of_a_closed_port_cannot_be_set() -> None:
    with Emulated82599("sink", vfs=1) as nic:
        with open_port(nic) as pf:
            known, vf = pf.vfs, pf.vfs[0]
        uses: list[Callable[[], object]] = [
            lambda: setattr(vf, "trust", True),
            lambda: setattr(known, "threaded", True),
            vf.stats,
            known.serve,
        ]
        for use in uses:
            with pytest.raises(PortClosed, match="port emulated:sink is closed"):
                use()
        assert vf.mac is None and not vf.trust


@pytest.mark.slow
def test_a_port_whose_number_of_virtual_functions_changes_says_that_it_has_to_be_opened_again() -> None:
    with Emulated82599("sink", vfs=1) as nic, open_port(nic) as pf:
        control = next(at for at in range(0x100, 0x1000, 4) if nic.config_read(at, 2) == 0x0010) + 8
        nic.config_write(control, 2, 0)
        nic.config_write(control + 8, 2, 3)
        nic.config_write(control, 2, 9)
        with pytest.raises(PortStuck, match="now has 3 virtual functions; it had 1"):
            until(lambda: False, pf)


@pytest.mark.slow
@pytest.mark.breaks_rules()
def test_a_port_whose_nic_was_reset_by_somebody_else_says_so() -> None:
    with hosted(vfs=1, opened=1) as (pf, (vf,)):
        pf.nic.CTRL.update(RST=1)
        with pytest.raises(PortStuck, match="was reset, not by this port"):
            until(lambda: False, pf)
        until(lambda: not vf.link.up)
        kept = pf.vfs[0].settings
        pf.close()
        with open_port(pf_device := vf_pf(vf)) as pf:
            pf.vfs[0].settings = kept
            pf.vfs.threaded = True
            until(recovered(vf), vf)
            vf.send([frame(pf, vf)])
            assert receive(pf) == [frame(pf, vf)] and pf.device is pf_device


def vf_pf(vf: Port) -> Emulated82599:
    """The NIC of an emulated VF."""
    device = vf.device
    assert isinstance(device, VirtualFunction) and isinstance(device.pf, Emulated82599)
    return device.pf


@pytest.mark.slow
def test_counters_of_a_virtual_function_go_on_when_their_registers_wrap() -> None:
    with hosted(vfs=1, opened=0) as (pf, _):
        device = pf.device
        assert isinstance(device, Emulated82599)
        raw_registers: Registers = device._raw
        raw_registers.PVFGPRC[0].write(0xFFFF_FFF0)
        pf.vfs[0].stats()
        before = pf.vfs[0].stats()["VFGPRC"]
        raw_registers.PVFGPRC[0].write(0x10)
        assert pf.vfs[0].stats()["VFGPRC"] == before + 0x20


@pytest.mark.slow
def test_sixty_three_virtual_functions_are_served_and_one_pool_stays_with_the_port() -> None:
    with hosted(vfs=63, opened=0, rx_queues=2, tx_queues=2) as (pf, _), ExitStack() as stack:
        last = stack.enter_context(open_port(pf.vfs[62].device))
        first = stack.enter_context(open_port(pf.vfs[0].device))
        for sender, to in ((last, pf), (pf, last), (first, last), (last, first)):
            sender.send([frame(to, sender)])
            assert receive(to) == [frame(to, sender)]
        assert (len(pf.vfs), pf.vfs.queues) == (63, 2)


@pytest.mark.slow
def test_long_frames_need_an_mtu_of_the_port_that_carries_them() -> None:
    with hosted(vfs=1, opened=0, mtu=9000) as (pf, _):
        with open_port(pf.vfs[0].device, mtu=9000) as vf:
            sent = frame(pf, vf, bytes(8000))
            vf.send([sent])
            assert b"".join(receive(pf)) == sent
    with hosted(vfs=1, opened=0) as (pf, _), pytest.raises(RequestRefused, match="refused SET_LPE"):
        open_port(pf.vfs[0].device, mtu=9000)


@pytest.mark.slow
def test_virtual_functions_are_told_when_the_link_changes() -> None:
    with hosted("cable=told", vfs=1, opened=0) as (pf, _):
        vf = pf.vfs[0].device
        with open_port("emulated:cable=told"):
            pf.wait_link(PATIENCE_S)
            for offset, value in ((MAILBOX, VFU), (MEMORY, 0), (MAILBOX, 0)):
                vf.write32(offset, value)
        until(lambda: vf.read32(MEMORY) == 0x100)


@pytest.mark.slow
def test_clock_module_and_a_trace_work_as_without_virtual_functions(tmp_path: Path) -> None:
    with open_port("emulated@vfs=1:loop", trace=tmp_path / "pf.trace") as pf:
        assert pf.clock.now() > 0 and pf.sfp is not None
        pf.vfs.threaded = True
        with open_port(pf.vfs[0].device) as vf:
            vf.send([frame(pf, vf)])
            assert receive(pf) == [frame(pf, vf)]
    assert "CTRL_EXT" in (tmp_path / "pf.trace").read_text()


@pytest.mark.slow
def test_a_port_that_is_dropped_ends_its_thread() -> None:
    with Emulated82599("sink", vfs=1) as nic:
        pf = open_port(nic)
        pf.vfs.threaded = True
        del pf
        wait_for(lambda: all(each.name != "virtual-functions" for each in threading.enumerate()), "the thread runs")


# ---- virtual functions that misbehave ----

MAILBOX, MEMORY, REQ, ACK, VFU = 0x2FC, 0x200, 1, 2, 4


@pytest.mark.slow
@pytest.mark.breaks_rules("mailbox_held_by_the_vf")
def test_a_flood_of_nonsense_costs_the_pf_two_messages_a_call_and_others_are_served() -> None:
    with hosted(vfs=3) as (pf, (one, two)):
        bad = pf.vfs[2].device
        ended = threading.Event()

        def flood() -> None:
            word = 1
            while not ended.is_set():
                bad.write32(MAILBOX, VFU)
                bad.write32(MEMORY, word := word * 0x9E37_79B1 % (1 << 32))
                bad.write32(MEMORY + 4, ~word & 0xFFFF_FFFF)
                bad.write32(MAILBOX, REQ | ACK)

        thread = threading.Thread(target=flood)
        thread.start()
        try:
            until(lambda: pf.vfs[2].requests > 100)
            pf.vfs.threaded = False
            before = pf.vfs[2].requests
            for _ in range(50):
                pf.vfs.serve()
            assert pf.vfs[2].requests <= before + 100
            pf.vfs.threaded = True
            one.vlan.filter = {5}
            two.send([frame(one, two)])
            assert receive(one) == [frame(one, two)]
            assert pf.vfs[0].vlans == {0, 5}
        finally:
            ended.set()
            thread.join()
        known = pf.vfs[2]
        assert known.refused and known.ignored and not known.served and known.mac is None
        with open_port(bad) as port:
            port.send([frame(one, port)])
            assert receive(one) == [frame(one, port)]


@pytest.mark.slow
def test_a_virtual_function_that_keeps_the_buffer_holds_up_nobody() -> None:
    with hosted(vfs=2, opened=1) as (pf, (one,)):
        bad = pf.vfs[1].device
        bad.write32(MAILBOX, VFU | REQ)
        until(lambda: pf.vfs[1].lost)
        pf.vfs[1].trust = True  # a ping that finds no room
        one.vlan.filter = {5}
        pf.vfs.threaded = False
        lost = pf.vfs[1].lost
        for _ in range(20):
            bad.write32(MAILBOX, VFU | REQ)
            pf.vfs.serve()
        assert pf.vfs[1].lost == lost + 20 and not pf.vfs[1].requests


@pytest.mark.slow
def test_a_virtual_function_that_resets_itself_is_counted_and_asks_anew() -> None:
    with hosted(vfs=1, opened=1) as (pf, (vf,)):
        resets = pf.vfs[0].resets
        vf.vlan.filter = {7}
        pf.vfs[0].device.reset()
        until(lambda: pf.vfs[0].resets == resets + 1 and pf.vfs[0].vlans == {0})


@pytest.mark.slow
def test_a_queue_of_the_pool_can_be_shared_with_another_process() -> None:
    with hosted(vfs=1, opened=1, rx_queues=2, tx_queues=2) as (pf, (vf,)):
        pf.rss.table = [1]
        share = pf.share(1)
        with worker(share, "forward") as process:
            has_opened(process)
            vf.send([frame(BROADCAST, vf, udp(7), 0x0800)] * 5)
            wait_for(lambda: share.rx_packets == 5, "the worker has not received the frames")
            pf.send([frame(vf, pf)])
            assert frame(vf, pf) in receive(vf, 6), "what the worker sends is for everybody"
        share.reclaim()
        vf.close()
        pf.vfs[0].device.close()  # else the NIC keeps its shared tails mapped, as long as the VF's device lives


@pytest.mark.slow
def test_the_pf_and_a_virtual_function_are_ports_of_two_processes(tmp_path: Path) -> None:
    """Both reach the NIC by vfio-user; a third process has it."""
    nic = tmp_path / "nic"
    words = ["emulate", "--socket", str(nic), "--vf", "2", "--pf-agent", "none"]
    with started([sys.executable, "-m", "ixrings", *words]) as emulator:
        assert emulator.stdout is not None
        for _ in range(3):
            assert " listens at " in emulator.stdout.readline()
        with started([sys.executable, "-c", PF, str(nic / "pf.sock")]) as program:
            assert program.stdout is not None
            assert program.stdout.readline() == "open\n"
            with open_port(f"vfio-user:{nic}/vf0.sock") as vf:
                assert vf.mac == "02:00:00:00:0a:bc"
                vf.send([frame(raw("02:82:59:90:00:01"), vf, b"ping")])
                assert receive(vf)[0][14:18] == b"pong"
            out, errors = program.communicate(timeout=PATIENCE_S)
            assert (out, errors) == ("vf 0, 02:00:00:00:0a:bc\n", "")


@pytest.mark.slow
def test_a_daemon_on_the_pf_serves_its_virtual_functions_and_its_own_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nic, socket = tmp_path / "nic", str(tmp_path / "daemon.sock")
    monkeypatch.setenv("IXRINGS_SOCKET", socket)
    words = [sys.executable, "-m", "ixrings"]
    with started([*words, "emulate", "--socket", str(nic), "--vf", "1", "--pf-agent", "none"]) as emulator:
        assert emulator.stdout is not None
        assert all(" listens at " in emulator.stdout.readline() for _ in range(2))
        with started([*words, "daemon", "--socket", socket, f"ix0=vfio-user:{nic}/pf.sock"]) as daemon:
            assert daemon.stdout is not None
            assert daemon.stdout.readline() == f"ix0 at {socket}\n"
            with open_port(f"vfio-user:{nic}/vf0.sock") as vf, open_port("netmap:ix0") as pf:
                for _ in range(2):
                    vf.send([frame(pf, vf)])
                    assert receive(pf) == [frame(pf, vf)]
                    pf.send([frame(vf, pf)])
                    assert receive(vf) == [frame(vf, pf)]
                vf.vlan.filter = {5}


PF = """
import sys
from ixrings import open_port

with open_port(sys.argv[1].replace("/", "vfio-user:/", 1)) as port:
    port.vfs[0].mac = "02:00:00:00:0a:bc"
    print("open", flush=True)
    for frame in port.recv(30):
        port.send([frame[6:12] + frame[:6] + frame[12:14] + b"pong" + bytes(42)])
        break
    while port.vfs[0].stats()["VFGPRC"] < 1:
        port.poll(0.1)
    print(repr(port.vfs[0]).strip("<>").partition(", not")[0])
"""
