"""Ports on virtual functions of an emulated NIC whose PF an agent plays."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from ixrings.driver import queues
from ixrings.driver.config import OnePortOptions
from ixrings.driver.errors import PfNotReady, PortError, PortStuck, RequestRefused
from ixrings.driver.opening import open_port
from ixrings.driver.port import Port
from ixrings.driver.queue_registers import QueueRegisters
from ixrings.hw.emulator import Emulated82599, PfAgent, emulated_vf
from ixrings.hw.errors import DeviceError, DeviceGone
from ixrings.hw.trace.file import TraceFile

PATIENCE_S = 30.0
BROADCAST = b"\xff" * 6


@contextmanager
def two_ports(kind: str = "linux", count: int = 1) -> Iterator[tuple[PfAgent, Port, Port]]:
    """Ports on both virtual functions of one NIC."""
    options: OnePortOptions = {"link_timeout": PATIENCE_S, "rx_queues": count, "tx_queues": count}
    with ExitStack() as stack:
        nic = stack.enter_context(Emulated82599("sink", vfs=2))
        agent = stack.enter_context(PfAgent(nic, kind))
        ports = [stack.enter_context(open_port(nic.vf(number), **options)) for number in range(2)]
        yield agent, ports[0], ports[1]


def frame(to: Port | bytes, sender: Port, payload: bytes = b"", ether_type: int = 0x88B5) -> bytes:
    address = to if isinstance(to, bytes) else bytes.fromhex(to.mac.replace(":", ""))
    head = address + bytes.fromhex(sender.mac.replace(":", "")) + ether_type.to_bytes(2, "big")
    return (head + payload).ljust(60, b"\0")


def receive(port: Port, count: int) -> list[bytes]:
    """The next `count` frames."""
    found = []
    for each in port.recv(PATIENCE_S):
        found.append(each)
        if len(found) == count:
            return found
    raise AssertionError(f"{len(found)} of {count} frames came: {port.stats()!r}, {port.link}")


def until(done: Callable[[], object], port: Port | None = None) -> None:
    """Wait until `done()`, while `port` is looked after as by a program that waits for frames."""
    end = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < end, "nothing changed in time"
        if port is not None:
            port.poll(0.02)
        else:
            time.sleep(0.001)


@pytest.mark.parametrize(
    ("kind", "number", "wire"),
    [("linux", 0, "source"), pytest.param("dpdk", 3, "source=200", marks=pytest.mark.slow)],
)
def test_the_frames_of_a_source_go_to_the_virtual_function_also_after_a_reset_of_the_pf(
    kind: str, number: int, wire: str
) -> None:
    with emulated_vf(wire, number, agent=kind) as device, open_port(device) as port:
        assert isinstance(device.agent, PfAgent)
        assert all(each[:6].hex(":") == port.mac for each in receive(port, 100))
        device.agent.reset()
        until(lambda: port.vf.recoveries == 1, port)
        got = port.stats()["VFGPRC"]
        receive(port, 5000)  # more than the ring holds
        until(lambda: port.stats()["VFGPRC"] > got, port)


@pytest.mark.parametrize("kind", ["linux", pytest.param("dpdk", marks=pytest.mark.slow)])
def test_two_virtual_functions_exchange_frames_and_count_them(kind: str) -> None:
    with two_ports(kind=kind) as (_, one, two):
        sent = [frame(two, one, bytes([number])) for number in range(200)]
        one.send(sent)
        assert receive(two, 200) == sent
        two.send([frame(one, two)] * 3 + [frame(BROADCAST, two)])
        assert len(receive(one, 4)) == 4
        assert one.stats()["VFGPTC"] == 200 and one.stats()["VFGPRC"] == 4
        assert two.stats()["VFGPRC"] == 200 and two.stats()["VFGOTC"] == 4 * 64
        assert one.vf.version == {"linux": "1.4", "dpdk": "1.3"}[kind]
        assert one.link.up and one.link.speed_mbps == 10_000


def test_a_sleeping_program_wakes_up_when_a_frame_comes() -> None:
    with two_ports() as (_, one, two):
        found: list[bytes] = []
        sleeper = threading.Thread(target=lambda: found.extend(receive(two, 1)))
        sleeper.start()
        until(lambda: two._owned().interrupts.rx.armed)
        one.send([frame(two, one)])
        sleeper.join(PATIENCE_S)
        assert len(found) == 1


def test_a_name_opens_a_virtual_function_with_an_agent_and_closes_all_of_it() -> None:
    with open_port("emulated-vf1:loop", trace=None) as port:
        port.send([frame(BROADCAST, port)] * 2)
        assert len(receive(port, 2)) == 2
        assert repr(port).startswith("<Port emulated-vf1:loop, up 10 Gbit/s, ")
    assert port.closed


@pytest.mark.slow
def test_frames_are_spread_over_as_many_queues_as_the_pf_grants() -> None:
    with two_ports(count=4) as (_, one, two):
        for queue in range(4):
            one.send([frame(two, one, bytes([queue]))], ring=queue)
        assert sorted(each[14] for each in receive(two, 4)) == [0, 1, 2, 3]
    for options, says in (
        ({"rx_queues": 8}, "tx_queues=1, rx_queues=8, and its PF grants 4 and 4. Open it with at most so many"),
        ({"rx_queues": 3}, "rx_queues=3: RSS of a virtual function needs 1, 2, 4 or 8"),
    ):
        with pytest.raises(PortError, match=says):
            open_port("emulated-vf:sink", **options)  # type: ignore[arg-type]


def test_vlans_multicast_and_addresses_are_asked_of_the_pf() -> None:
    with two_ports() as (agent, one, two):
        group = bytes.fromhex("01005e0000fb")
        tagged = frame(two, one, b"\0\x07\x08\0", 0x8100)
        one.send([tagged, frame(group, one), frame(two, one)])
        assert receive(two, 1) == [frame(two, one)], "neither was asked for"
        assert two.vlan.filter == {0}
        two.vlan.filter = {7}
        one.vlan.filter = {7}
        two.set_multicast([group])
        one.send([tagged, frame(group, one)])
        assert receive(two, 2) == [tagged, frame(group, one)]
        two.vlan.strip = True
        one.send([tagged])
        assert receive(two, 1)[0][12:14] != b"\x81\0"
        agent.set_vf(1, trust=True)
        until(lambda: two.vf.recoveries == 1, two)
        assert two.vlan.filter == {7, 0}, "asked for anew"
        two.vf.addresses = ["02:00:00:00:00:77"]
        one.send([frame(bytes.fromhex("020000000077"), one)])
        assert len(receive(two, 1)) == 1
        two.vlan.filter = set()
        one.send([tagged, frame(two, one)])
        assert receive(two, 1) == [frame(two, one)]
        with pytest.raises(ValueError, match="cannot receive all VLANs"):
            two.vlan.filter = None


@pytest.mark.slow
def test_an_address_that_the_host_chose_needs_trust_to_be_changed() -> None:
    with Emulated82599("sink", vfs=1) as nic, PfAgent(nic, "linux") as agent:
        agent.set_vf(0, mac=bytes.fromhex("020000000abc"))
        with open_port(nic.vf(0), link_timeout=PATIENCE_S) as port:
            assert port.mac == "02:00:00:00:0a:bc"
            with pytest.raises(RequestRefused, match="refused SET_MAC: .* run: ip link set PF vf N trust on"):
                port.mac = "02:00:00:00:00:01"
            agent.set_vf(0, trust=True)
            port.mac = "02:00:00:00:00:01"
            assert (port.mac, port.vf.recoveries) == ("02:00:00:00:00:01", 1)


@pytest.mark.slow
def test_long_frames_need_a_pf_with_long_frames() -> None:
    with Emulated82599("sink", vfs=1) as nic, PfAgent(nic, "linux") as agent:
        with pytest.raises(RequestRefused, match=r"refused SET_LPE: .* run: ip link set PF mtu 9000"):
            open_port(nic.vf(0), mtu=9000)
        agent.mtu(9000)
        with open_port(nic.vf(0), mtu=9000, link_timeout=PATIENCE_S) as port:
            assert port.mtu == 9000


REFUSED: list[tuple[Callable[[Port], object], str]] = [
    (lambda port: setattr(port, "promiscuous", True), "cannot make one promiscuous.*vf N trust on"),
    (lambda port: port.rss, "RSS key and table belong to the PF"),
    (lambda port: port.filters, "filters that choose a queue belong to the PF"),
    (lambda port: port.clock, "clock belongs to the PF"),
    (lambda port: port.sfp, "On the host: ethtool -m PF"),
    (lambda port: port.identify(0), "On the host: ethtool -p PF"),
    (lambda port: port.nic, "port.vf.nic.VFLINKS"),
    (lambda port: port.share(0), "cannot give a queue to another process"),
    (lambda port: port.vf.rss_key(), "query_rss on"),
    (lambda port: port.set_multicast((), everything=True), "refused UPDATE_XCAST_MODE: .*vf N trust on"),
]


def test_what_a_virtual_function_has_not_is_refused_with_who_has_it() -> None:
    with open_port("emulated-vf:sink") as port:
        for call, says in REFUSED:
            with pytest.raises((PortError, DeviceError), match=says):
                call(port)
    with open_port("emulated:sink") as port, pytest.raises(PortError, match="a physical function, and vf belongs"):
        port.vf  # noqa: B018
    for option in ("promiscuous", "flow_control", "loopback"):
        with pytest.raises(PortError, match="is a virtual function, and"):
            open_port("emulated-vf:sink", **{option: True})  # type: ignore[arg-type]


def test_a_port_goes_on_after_its_pf_was_reset() -> None:
    with two_ports() as (agent, one, two):
        one.send([frame(two, one)])
        receive(two, 1)
        agent.reset()
        for port in (one, two):
            until(lambda port=port: port.vf.recoveries and port.link.up, port)  # type: ignore[misc]
        one.send([frame(two, one, b"after")])
        assert receive(two, 1) == [frame(two, one, b"after")]
        assert "reset" in two.vf.why_recovered
        assert 1 <= two.stats()["VFGPRC"] <= 2, "the reset cleared the register"


def fill(port: Port, to: Port) -> None:
    """Write a frame into every buffer of the TX ring."""
    data, slots = np.frombuffer(frame(to, port), np.uint8), port.tx_rings[0].slots
    port.buffers[slots["buf_idx"], : len(data)] = data
    slots["len"] = len(data)


class Traffic:
    """A port with a thread that sends and one that receives. The second waits, and so it notices resets of the PF."""

    def __init__(self, port: Port, to: Port) -> None:
        self.port, self.received, self.ends = port, 0, False
        fill(port, to)
        self.errors: list[BaseException] = []
        self.threads = [threading.Thread(target=self.run, args=(work,)) for work in (self.send, self.receive)]
        for thread in self.threads:
            thread.start()

    def run(self, work: Callable[[], None]) -> None:
        try:
            while not self.ends:
                work()
        except BaseException as error:
            self.errors.append(error)
            raise

    def send(self) -> None:
        ring = self.port.tx_rings[0]
        ring.advance(min(ring.space, 16))
        self.port.txsync()

    def receive(self) -> None:
        for _ in self.port.recv(0.005):
            self.received += 1
            if self.ends:
                return

    def join(self) -> None:
        self.ends = True
        for thread in self.threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


def test_a_thread_may_send_in_the_middle_of_a_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise its sync would see a head that is set back, and write a tail while the queue is off."""
    enable = queues.enable_transmit_queue
    senders: list[threading.Thread] = []
    with two_ports() as (agent, one, two):
        ring = one.tx_rings[0]
        fill(one, two)

        def send() -> None:
            ring.advance(min(ring.space, 5))
            one.txsync()

        def while_another_sends(nic: QueueRegisters, queue: int) -> None:
            senders.append(threading.Thread(target=send))
            senders[-1].start()
            senders[-1].join(0.1)  # it may wait for the end of the recovery
            enable(nic, queue)

        ring.advance(20)
        one.flush(PATIENCE_S)
        with monkeypatch.context() as patch:
            patch.setattr(queues, "enable_transmit_queue", while_another_sends)
            agent.reset()
            until(lambda: one.vf.recoveries and one.link.up, one)
            one.txsync()
        for sender in senders:
            sender.join(PATIENCE_S)
        assert senders and not any(sender.is_alive() for sender in senders)
        assert agent.nic.violations == []


def grows(both: list[Traffic], number: Callable[[Traffic], int], after: Callable[[], None] = lambda: None) -> None:
    """Wait until a number of each has grown, or one has an error. `after` is called first."""
    before = [number(each) for each in both]
    after()
    until(lambda: any(e.errors for e in both) or all(number(each) > old for each, old in zip(both, before)))
    assert not any(each.errors for each in both)


@pytest.mark.slow
def test_threads_send_and_receive_through_fifty_resets_of_the_pf() -> None:
    with two_ports() as (agent, one, two):
        nic = agent.nic
        both = [Traffic(one, two), Traffic(two, one)]
        try:
            for _ in range(50):
                grows(both, lambda each: each.port.vf.recoveries, agent.reset)
                grows(both, lambda each: each.received)
        finally:
            for each in both:
                each.join()
        for port in (one, two):
            port.flush(PATIENCE_S)
            session = port._owned()
            registers = session.function.queues
            assert [int(registers.TDT[0].read()), int(registers.TDH[0].read())] == [session.tx[0].hwcur] * 2
        assert nic.violations == []


def test_a_pf_that_goes_down_is_the_reason_of_the_link_and_comes_back() -> None:
    """The case in which other drivers stay without frames until their program starts again."""
    with two_ports() as (agent, one, two):
        agent.down()
        until(lambda: not one.link.up)
        assert "the PF is in reset, or its interface is down" in one.link.reason
        with pytest.raises(PfNotReady, match="run: ip link set PF up"):
            one.mac = "02:00:00:00:00:01"
        assert one.poll(0.01) == 0
        agent.up()
        for port in (one, two):
            until(lambda port=port: port.vf.recoveries and port.link.up, port)  # type: ignore[misc]
        one.send([frame(two, one)])
        assert len(receive(two, 1)) == 1


@pytest.mark.slow
def test_a_link_that_the_host_switched_off_names_the_command() -> None:
    with Emulated82599("sink", vfs=1) as nic, PfAgent(nic, "linux") as agent, open_port(nic.vf(0)) as port:
        agent.set_vf(0, state="disable")
        until(lambda: "switched it off" in port.link.reason, port)
        assert "ip link set PF vf N state auto" in port.link.reason
        agent.set_vf(0, state="auto")
        until(lambda: port.link.up, port)


def test_a_pf_that_takes_back_what_it_granted_stops_the_port_with_a_sentence() -> None:
    with Emulated82599("sink", vfs=1) as nic, PfAgent(nic, "linux") as agent, open_port(nic.vf(0)) as port:
        port.vlan.filter = {5}
        agent.set_vf(0, vlan=9)
        agent.reset()
        with pytest.raises(PortStuck, match="the PF refuses what it granted before: the PF refused SET_VLAN"):
            until(lambda: False, port)


@pytest.mark.slow
def test_a_pf_that_stops_to_answer_is_the_reason_of_the_link() -> None:
    with Emulated82599("sink", vfs=1) as nic, PfAgent(nic, "linux") as agent, open_port(nic.vf(0)) as port:
        agent.set_vf(0, trust=True)  # it wants a reset now
        agent.close()
        until(lambda: "did not answer RESET in 1 s. Is its driver loaded?" in port.link.reason, port)


def test_a_virtual_function_without_a_pf_driver_is_refused_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ixrings.driver.virtual_function.PF_READY_S", 0.02)
    with Emulated82599("sink", vfs=1) as nic, pytest.raises(PfNotReady, match="VFMAILBOX.RSTI"):
        open_port(nic.vf(0))


def test_a_pf_that_is_closed_first_ends_the_port() -> None:
    with ExitStack() as stack:
        nic = stack.enter_context(Emulated82599("sink", vfs=1))
        agent = stack.enter_context(PfAgent(nic, "linux"))
        port = stack.enter_context(open_port(nic.vf(0)))
        agent.close()
        nic.close()
        with pytest.raises(DeviceGone, match="the virtual function no longer answers"):
            until(lambda: False, port)


def test_a_trace_names_the_registers_of_a_virtual_function(tmp_path: Path) -> None:
    with open_port("emulated-vf:loop", trace=tmp_path / "vf.trace") as port:
        port.send([frame(BROADCAST, port)])
        receive(port, 1)
    names = {access.register for access in TraceFile(tmp_path / "vf.trace") if not access.config}
    assert {"VFCTRL", "VFMAILBOX", "VFMBMEM[0]", "VFRXDCTL[0]", "VFTDT[0]", "VTIVAR_MISC"} <= names
    assert not any(name.startswith("0x") for name in names)
