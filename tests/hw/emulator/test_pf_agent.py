"""The agent that plays the PF's driver: what the host sets has the effects of Linux's ixgbe, and it can be faulty."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ixrings.hw.emulator import Emulated82599, Fault, PfAgent
from ixrings.hw.registers import Registers
from tests.support.vf_by_hand import (
    ACK,
    API_1_1,
    API_1_3,
    CTS,
    GET_QUEUES,
    MAILBOX,
    MEMORY,
    NEGOTIATE,
    OK,
    PFSTS,
    PFU,
    REFUSED,
    RESET,
    RSTD,
    RSTI,
    SET_MAC,
    SET_MACVLAN,
    SET_MULTICAST,
    SET_VLAN,
    VfByHand,
    World,
    frame,
    mac_of,
    words_of,
)

PING = 0x100
ADMIN = bytes([2, 0, 0, 0, 9, 9])
OUTSIDE = bytes([2, 0, 0, 0, 8, 8])


@pytest.fixture
def world() -> Iterator[World]:
    world = World(2)
    world.nic.step()
    world.agent.work()  # it sees the link
    yield world
    world.close()


def pinged(vf: VfByHand) -> int:
    """Word 0 of the message that the PF has sent by itself; 0: it sent none."""
    return vf.answer(1)[0] if vf.vf.read32(MAILBOX) & PFSTS else 0


# ---- ip link set PF vf N ... ----


def test_an_address_of_the_host_is_seen_after_the_next_reset_and_refuses_another_one_without_trust(
    world: World,
) -> None:
    vf = world.vfs[0]
    world.agent.set_vf(0, mac=ADMIN)
    assert pinged(vf) == 0
    assert vf.ask(RESET)[:3] == [RESET | OK, *words_of(ADMIN)]
    assert vf.ask(SET_MAC, *words_of(OUTSIDE))[0] == SET_MAC | REFUSED | CTS
    assert vf.agrees(SET_MAC, *words_of(ADMIN))
    world.agent.set_vf(0, trust=True)
    assert pinged(vf) == PING
    vf.ask(RESET)
    assert vf.agrees(SET_MAC, *words_of(OUTSIDE))
    world.agent.set_vf(0, mac=bytes(6))
    assert vf.ask(RESET)[:3] == [RESET | REFUSED, 0, 0]


def test_a_reset_of_a_vf_takes_its_groups_out_of_the_table_and_leaves_those_of_others(world: World) -> None:
    zero, one = world.vfs
    table = Registers(world.nic).MTA
    assert zero.agrees(SET_MULTICAST | 2 << 16, 0x021 | 0x7E5 << 16) and one.agrees(SET_MULTICAST | 1 << 16, 0x7E5)
    assert table[1].read() == 1 << 1 and table[0x3F].read() == 1 << 5
    assert zero.agrees(SET_MULTICAST)  # as Linux, which leaves the table alone until a reset
    zero.ask(RESET)
    assert table[1].read() == 0 and table[0x3F].read() == 1 << 5
    one.vf.reset()
    world.agent.work()
    assert table[0x3F].read() == 0


@pytest.mark.slow
def test_trust_makes_the_vf_reset_itself_only_if_it_changes(world: World) -> None:
    vf = world.vfs[0]
    world.agent.set_vf(0, trust=False)
    assert pinged(vf) == 0
    world.agent.set_vf(0, trust=True)
    assert pinged(vf) == PING
    world.agent.work()  # the acknowledgement: Linux answers it with a refusal of nothing
    assert vf.answer(1)[0] == REFUSED
    vf.send(NEGOTIATE, API_1_3)
    world.agent.work()
    assert vf.answer(1)[0] & ~NEGOTIATE == REFUSED  # no CTS


def test_a_vlan_of_the_host_is_inserted_and_refuses_those_of_the_vf(world: World) -> None:
    zero, one = world.vfs
    for number in range(2):
        world.agent.set_vf(number, vlan=5, qos=3)
    assert zero.ask(SET_VLAN | 1 << 16, 7)[0] == SET_VLAN | 1 << 16 | REFUSED | CTS
    assert zero.ask(GET_QUEUES, 0, 0, 0, 0)[3] == 1
    zero.transmit(frame(mac_of(0), mac_of(1)))
    world.run()
    assert one.received()[0][12:16] == b"\x81\0\x60\5"
    world.agent.set_vf(0, vlan=0, qos=0)
    assert zero.agrees(SET_VLAN | 1 << 16, 7)


def test_a_link_that_is_switched_off_closes_the_pool_at_once_and_opens_it_again(world: World) -> None:
    vf, regs = world.vfs[0], Registers(world.nic)
    world.agent.set_vf(0, state="disable")
    assert pinged(vf) == PING
    assert not (regs.PFVFRE[0].read() | regs.PFVFTE[0].read()) & 1
    vf.transmit(frame(mac_of(0), mac_of(1)))
    world.run()
    assert world.vfs[1].received() == []
    world.agent.set_vf(0, state="enable")  # Linux accepts it, and does nothing
    assert pinged(vf) == 0 and world.agent.vfs[0].state == "disable"
    world.agent.set_vf(0, state="auto")
    assert pinged(vf) == PING
    assert regs.PFVFRE[0].read() & regs.PFVFTE[0].read() & 1
    world.agent.set_vf(0, state="auto")  # also without a change
    assert pinged(vf) == PING


def test_a_second_address_ends_the_check_of_sources_until_the_pf_is_reset(world: World) -> None:
    """`ip link` goes on to show it as on."""
    regs = Registers(world.nic)
    assert regs.PFVFSPOOF[0].read() & 0x101 == 0x101
    assert world.vfs[0].agrees(SET_MACVLAN | 1 << 16, *words_of(OUTSIDE))
    assert not regs.PFVFSPOOF[0].read() & 0x101 and world.agent.vfs[0].spoofchk
    world.vfs[0].ask(RESET)
    assert not regs.PFVFSPOOF[0].read() & 0x101
    world.agent.set_vf(0, spoofchk=True)
    assert regs.PFVFSPOOF[0].read() & 0x101 == 0x101


def test_a_rate_is_written_for_each_queue_and_needs_a_link_of_10_gbit(world: World) -> None:
    agent, regs = world.agent, Registers(world.nic)
    agent.set_vf(1, rate=1000)
    regs.RTTDQSEL.write(7)  # the last queue of VF 1
    assert regs.RTTBCNRC.read() == 1 << 31 | 10 << 14
    agent.set_vf(1, rate=0)
    regs.RTTDQSEL.write(7)
    assert regs.RTTBCNRC.read().RS_ENA == 0
    for rate, says in ((10, "choose 11 to 10000"), (10_001, "choose 11 to 10000")):
        with pytest.raises(ValueError, match=says):
            agent.set_vf(1, rate=rate)
    with pytest.raises(ValueError, match="guarantees none"):
        agent.set_vf(1, vlan=9, min_rate=100)
    assert agent.vfs[1].vlan == 0, "nothing is changed then"
    world.nic.set_link(False)
    agent.work()
    with pytest.raises(ValueError, match="while the PF has a link of 10 Gbit/s, and it has none"):
        agent.set_vf(1, rate=1000)


# ---- faults ----


def test_an_answer_is_late_by_the_clock_of_the_nic(world: World) -> None:
    vf = world.vfs[0]
    for fault, ns in ((Fault.PF_SLOW, 200_000_000), (Fault.PF_LATE, 1_500_000_000)):
        world.nic.inject(fault)
        vf.send(NEGOTIATE, API_1_3)
        world.agent.work()
        world.nic.step(ns=ns - 1)
        world.agent.work()
        assert not vf.vf.read32(MAILBOX) & PFSTS
        world.nic.step(ns=1)
        world.agent.work()
        assert vf.answer()[0] == NEGOTIATE | OK | CTS
        world.nic.mend(fault)


@pytest.mark.slow
def test_an_answer_comes_again_when_the_vf_has_read_it(world: World) -> None:
    vf = world.vfs[0]
    world.nic.inject(Fault.PF_TWICE)
    assert vf.agrees(NEGOTIATE, API_1_3)
    assert vf.vf.read32(MAILBOX) & PFSTS and vf.answer()[0] == NEGOTIATE | OK | CTS
    world.agent.work()
    assert not vf.vf.read32(MAILBOX) & PFSTS


SPOILT: list[tuple[Fault, tuple[int, ...], list[int]]] = [
    (Fault.PF_SHORT, (GET_QUEUES, 1, 2, 3, 4), [GET_QUEUES | OK | CTS, 1, 2, 3, 4]),
    (Fault.PF_NO_QUEUES, (GET_QUEUES, 0, 0, 0, 0), [GET_QUEUES | OK | CTS, 0, 0, 0, 0]),
    (Fault.PF_MANY_QUEUES, (GET_QUEUES, 0, 0, 0, 0), [GET_QUEUES | OK | CTS, 200, 200, 0, 0]),
    (Fault.PF_UNEVEN_QUEUES, (GET_QUEUES, 0, 0, 0, 0), [GET_QUEUES | OK | CTS, 4, 2, 0, 0]),
    (Fault.PF_NO_CTS, (NEGOTIATE, API_1_1), [NEGOTIATE | OK, API_1_1]),
    (Fault.PF_ANOTHER, (NEGOTIATE, API_1_1), [NEGOTIATE + 1 | OK | CTS, API_1_1]),
    (Fault.PF_MAC_ZERO, (RESET,), [RESET | OK, 0, 0]),
    (Fault.PF_REFUSES, (RESET,), [RESET | REFUSED, 0, 0]),
    (Fault.PF_REFUSES, (NEGOTIATE, API_1_1), [NEGOTIATE | REFUSED | CTS, API_1_1]),
    (Fault.PF_REFUSES_RESET, (RESET,), [RESET | REFUSED, 0, 0]),
    (Fault.PF_REFUSES_SET_VLAN, (SET_VLAN | 1 << 16, 7), [SET_VLAN | 1 << 16 | REFUSED | CTS, 7]),
]


def test_a_fault_spoils_the_answers_until_it_is_mended(world: World) -> None:
    vf = world.vfs[0]
    for fault, request, expected in SPOILT:
        world.nic.inject(fault)
        assert vf.ask(*request)[: len(expected)] == expected, fault
        world.nic.mend(fault)
        vf.ask(RESET)
        assert vf.agrees(NEGOTIATE, API_1_3), fault


def test_a_silent_pf_and_one_that_keeps_the_buffer_serve_again_when_mended(world: World) -> None:
    vf = world.vfs[0]
    world.nic.inject(Fault.PF_SILENT)
    vf.send(NEGOTIATE, API_1_3)
    world.agent.work()
    assert not vf.vf.read32(MAILBOX) & PFSTS
    world.nic.mend(Fault.PF_SILENT)
    world.nic.inject(Fault.PF_KEEPS_BUFFER)
    vf.send(NEGOTIATE, API_1_3)
    world.agent.work()
    assert vf.vf.read32(MAILBOX) & PFU
    world.nic.mend(Fault.PF_KEEPS_BUFFER)
    assert vf.agrees(NEGOTIATE, API_1_3)


@pytest.mark.breaks_rules("queues_off_before_master_disable")
def test_a_pf_that_dies_says_nothing_and_comes_back_when_mended(world: World) -> None:
    vf = world.vfs[0]
    world.nic.inject(Fault.PF_DIES)
    assert vf.vf.read32(MAILBOX) & (RSTI | PFSTS) == RSTI
    world.agent.up()
    assert vf.vf.read32(MAILBOX) & RSTI
    world.nic.mend(Fault.PF_DIES)
    assert vf.vf.read32(MAILBOX) & (RSTI | RSTD) == RSTD
    vf.open(mac_of(0))


@pytest.mark.breaks_rules("queues_off_before_master_disable")
def test_a_pf_that_loses_rstd_has_been_reset_without_a_sign_in_the_mailbox(world: World) -> None:
    vf = world.vfs[0]
    world.nic.inject(Fault.PF_RSTD)
    assert vf.vf.read32(MAILBOX) & (RSTI | RSTD | PFSTS) == 0
    assert not vf.vf.read32(0x1028) & 1 << 25  # RXDCTL.ENABLE
    assert vf.ask(NEGOTIATE, API_1_3)[0] == NEGOTIATE | REFUSED


@pytest.mark.slow
@pytest.mark.breaks_rules("queues_off_before_master_disable")
def test_another_driver_of_the_pf_cuts_other_pools_and_knows_nothing(world: World) -> None:
    world.agent.set_vf(1, vlan=5)
    before = world.nic.vf(1).doorbell(0x1018)
    world.agent.replace("dpdk", API_1_1)
    assert world.nic.queues_of_a_pool() == 8 and world.nic.vf(1).doorbell(0x1018) != before
    assert world.agent.vfs[1].vlan == 0 and world.agent.status()["pf"]["driver"] == "dpdk"
    vf = world.vfs[1]
    vf.ask(RESET)
    assert vf.ask(NEGOTIATE, API_1_3)[0] == NEGOTIATE | REFUSED | CTS and vf.agrees(NEGOTIATE, API_1_1)
    with pytest.raises(ValueError, match='choose "linux" or "dpdk"'):
        world.agent.replace("windows")


@pytest.mark.slow
def test_a_fault_may_come_in_the_middle_of_an_answer() -> None:
    """At the n-th register access, which may be one of the agent's own."""
    for at in (1, 8, 20):
        with Emulated82599("sink", vfs=1, manual=True) as nic, PfAgent(nic, serve=False) as agent:
            vf = VfByHand(nic.vf(0), agent)
            vf.ask(RESET)
            nic.inject(Fault.PF_SILENT, at)
            vf.send(NEGOTIATE, API_1_3)
            agent.work()
            nic.mend(Fault.PF_SILENT)
            nic.vf(0).write32(MAILBOX, ACK)
            agent.work()
            vf.ask(RESET)
            assert vf.agrees(NEGOTIATE, API_1_3)
            assert nic.vf(0).read32(MEMORY) & CTS
