"""A PF's driver breaks: each wait of a port on its VF ends in time with a sentence, and the port recovers or stops."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice

import pytest

from ixrings import ERRORS, open_port
from ixrings.driver.errors import PfNotReady, PortStuck, RequestRefused
from ixrings.driver.port import Port
from ixrings.hw.emulator import Emulated82599, Fault, PfAgent
from ixrings.hw.errors import DeviceError, RegisterTimeout
from tests.driver.test_faults import README

PATIENCE_S = 30.0
BROADCAST = b"\xff" * 6
ROWS = [
    [cell.strip() for cell in line.strip("| ").split(" | ")]
    for line in README.read_text().splitlines()
    if line.startswith("| `pf-")
]
# A PF that resets does not wait until its virtual functions have switched their queues off.
pytestmark = pytest.mark.breaks_rules("queues_off_before_master_disable")
EVERYDAY = {"pf-no-cts"}


def frame(to: bytes, sender: Port, number: int = 0) -> bytes:
    return (to + bytes.fromhex(sender.mac.replace(":", "")) + b"\x88\xb5" + bytes([number])).ljust(60, b"\0")


@pytest.mark.parametrize(
    ("fault", "promised"),
    [
        pytest.param(row[0].strip("`"), row[2], marks=() if row[0].strip("`") in EVERYDAY else pytest.mark.slow)
        for row in ROWS
    ],
)
def test_a_port_that_opens_meets_the_fault_as_the_table_promises(fault: str, promised: str) -> None:
    """`…` in a promised sentence stands for any words."""
    sentences = re.findall(r"`([^`]+)`", promised)
    start = time.monotonic()
    try:
        with open_port(f"emulated-vf@fault={fault}:loop", link_timeout=PATIENCE_S) as port:
            assert promised.startswith("opens"), f"the table promises no success: {promised}"
            port.send([frame(BROADCAST, port)])
            assert list(islice(port.recv(PATIENCE_S), 1)) == [frame(BROADCAST, port)]
            if "one queue" in promised:
                assert (port.vf.tx_queues, port.vf.rx_queues) == (1, 1)
            if "API 1.0" in promised:
                assert port.vf.version == "1.0"
    except ERRORS as error:
        assert not promised.startswith("opens"), f"the table promises success, but: {error}"
        assert sentences
        for sentence in sentences:
            assert re.search(".*".join(re.escape(part.strip()) for part in sentence.split("…")), str(error)), error
    assert time.monotonic() - start < PATIENCE_S


class TwoPorts:
    """Ports on both virtual functions of one NIC, and the agent."""

    def __init__(self, stack: ExitStack) -> None:
        self.nic = stack.enter_context(Emulated82599("sink", vfs=2))
        self.agent = stack.enter_context(PfAgent(self.nic))
        self.one, self.two = (
            stack.enter_context(open_port(self.nic.vf(number), link_timeout=PATIENCE_S)) for number in range(2)
        )
        self._sent = 0

    def frames_move(self) -> None:
        """In both directions."""
        for sender, receiver in ((self.one, self.two), (self.two, self.one)):
            self._sent += 1
            to = bytes.fromhex(receiver.mac.replace(":", ""))
            sent = [frame(to, sender, self._sent % 256)] * 20
            sender.send(sent)
            got = list(islice(receiver.recv(PATIENCE_S), 20))
            assert got == sent, f"{len(got)} of 20 frames came: {sender.link}, {receiver.link}"

    def wait(self, done: Callable[[], object]) -> None:
        """As two programs that wait for frames, until `done()`."""
        end = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < end, f"nothing changed in time: {self.one.link}, {self.two.link}"
            self.one.poll(0.005)
            self.two.poll(0.005)

    def both_are_up(self) -> bool:
        return self.one.link.up and self.two.link.up


@contextmanager
def two_ports() -> Iterator[TwoPorts]:
    with ExitStack() as stack:
        yield TwoPorts(stack)


def test_a_pf_that_was_reset_in_silence_is_noticed_by_its_queues() -> None:
    """Neither a message nor RSTI nor RSTD says it. Other drivers wait for frames until their program starts again."""
    with two_ports() as both:
        both.frames_move()
        both.nic.inject(Fault.PF_RSTD)
        both.wait(lambda: both.one.vf.recoveries and both.two.vf.recoveries and both.both_are_up())
        both.frames_move()
        assert "its queues were off" in both.one.vf.why_recovered


@pytest.mark.parametrize(
    ("kind", "api", "version"),
    [
        ("dpdk", 2, "1.1"),
        pytest.param("dpdk", None, "1.3", marks=pytest.mark.slow),
        pytest.param("linux", 0, "1.0", marks=pytest.mark.slow),
    ],
)
def test_a_pf_comes_back_with_another_driver_other_pools_and_another_api(
    kind: str, api: int | None, version: str
) -> None:
    with two_ports() as both:
        both.frames_move()
        both.nic.inject(Fault.PF_DIES)
        both.wait(lambda: not both.one.link.up and not both.two.link.up)
        assert "the PF is in reset, or its interface is down" in both.one.link.reason
        both.agent.replace(kind, api)
        both.nic.mend(Fault.PF_DIES)
        both.wait(lambda: both.one.vf.recoveries and both.two.vf.recoveries and both.both_are_up())
        both.frames_move()
        assert both.one.vf.version == version


@pytest.mark.slow
def test_a_pf_that_comes_back_with_fewer_queues_stops_the_port_for_good_with_a_sentence() -> None:
    with Emulated82599("sink", vfs=1) as nic, PfAgent(nic) as agent:
        with open_port(nic.vf(0), tx_queues=4, rx_queues=4, link_timeout=PATIENCE_S) as port:
            agent.replace("linux", 0)  # API 1.0: one queue
            for _ in range(2):  # it does not go on as if nothing had happened
                with pytest.raises(PortStuck, match="its PF now grants 1 transmit and 1 receive queues"):
                    for _ in range(1000):
                        port.poll(0.02)
            assert not port.link.up and "Close the port and open it with fewer" in port.link.reason
        with open_port(nic.vf(0), link_timeout=PATIENCE_S):
            pass


# ---- a running port: what the last column promises ----

LATE = (Fault.PF_LATE, Fault.PF_SILENT, Fault.PF_NONSENSE, Fault.PF_ANOTHER)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [Fault.PF_SLOW, Fault.PF_TWICE, *LATE, Fault.PF_KEEPS_BUFFER, Fault.PF_FLAPS])
def test_frames_go_on_while_the_pf_does_not_answer_as_it_should(fault: Fault) -> None:
    with two_ports() as both:
        both.nic.inject(fault)
        both.frames_move()
        start = time.monotonic()
        try:
            both.one.vlan.filter = {5}
        except (PfNotReady, RegisterTimeout):
            assert fault in (*LATE, Fault.PF_KEEPS_BUFFER)
        assert time.monotonic() - start < PATIENCE_S
        both.frames_move()
        both.nic.mend(fault)
        both.wait(both.both_are_up)
        both.frames_move()
        both.one.vlan.filter = {5}
        assert both.one.vf.recoveries == 0, "a request without an answer costs no frame"


@pytest.mark.slow
@pytest.mark.parametrize(
    "fault", [each for each in Fault if each.of_the_pf and each not in (Fault.PF_REFUSES, Fault.PF_RSTD)]
)
def test_a_port_that_has_to_recover_meanwhile_goes_on_after_the_fault(fault: Fault) -> None:
    """Trust was changed, so the PF wants a reset; the fault is there, and then it is mended."""
    stuck = fault in (Fault.PF_REFUSES_SET_MAC, Fault.PF_REFUSES_SET_LPE)
    with two_ports() as both:
        both.frames_move()
        both.nic.inject(fault)
        both.agent.set_vf(0, trust=True)
        if stuck:
            with pytest.raises(PortStuck, match="the PF refuses what it granted before"):
                both.wait(lambda: False)
            assert "the PF refuses what it granted before" in both.one.link.reason
            return
        for _ in range(20):
            both.one.poll(0.005)
            both.two.poll(0.005)
        assert both.one.vf.recoveries <= 2, "it sets its rings up again and again"
        both.nic.mend(fault)
        both.wait(both.both_are_up)
        both.frames_move()


@pytest.mark.slow
def test_a_pf_that_refuses_everything_is_asked_again_by_each_setting() -> None:
    settings: list[tuple[str, Callable[[Port], object]]] = [
        ("SET_VLAN", lambda port: setattr(port.vlan, "filter", {7})),
        ("SET_MACVLAN", lambda port: setattr(port.vf, "addresses", ["02:00:00:00:00:77"])),
        ("SET_MULTICAST", lambda port: port.set_multicast([bytes.fromhex("01005e0000fb")])),
        ("UPDATE_XCAST_MODE", lambda port: port.set_multicast((), everything=True)),
        ("SET_MAC", lambda port: setattr(port, "mac", "02:00:00:00:00:01")),
    ]
    with two_ports() as both:
        for name, change in settings:
            word = name.removesuffix("_MODE").lower().replace("_", "-")
            for fault in (Fault.PF_REFUSES, Fault(f"pf-refuses-{word}")):
                both.nic.inject(fault)
                with pytest.raises(RequestRefused, match=f"the PF refused {name}: it does so if"):
                    change(both.one)
                both.nic.mend(fault)
        both.frames_move()
        assert both.one.vf.recoveries == 0


@pytest.mark.slow
def test_a_port_with_more_queues_than_there_are_is_refused() -> None:
    with Emulated82599("sink", vfs=1) as nic, PfAgent(nic):
        nic.inject(Fault.PF_MANY_QUEUES)
        with pytest.raises(DeviceError, match="has 4 queues each way, as the PF cuts its pools"):
            open_port(nic.vf(0), tx_queues=8, rx_queues=8)
