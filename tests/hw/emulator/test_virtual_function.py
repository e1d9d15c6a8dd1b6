"""Virtual functions of the software 82599: their registers, mailboxes, resets, interrupts (82599 8.3.5)."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator

import pytest

from ixrings.hw.emulator import Emulated82599, PfAgent, VirtualFunction, emulated_vf
from ixrings.hw.errors import DeviceError
from ixrings.hw.registers import Registers
from tests.support.vf_by_hand import (
    ACK,
    API_1_0,
    API_1_3,
    API_1_4,
    API_1_5,
    CTS,
    GET_LINK_STATE,
    GET_QUEUES,
    MAILBOX,
    MEMORY,
    NEGOTIATE,
    OK,
    PFACK,
    PFSTS,
    PFU,
    REFUSED,
    REQ,
    RESET,
    RSTD,
    RSTI,
    SET_LPE,
    SET_MAC,
    SET_MACVLAN,
    SET_VLAN,
    UPDATE_XCAST,
    VFU,
    VfByHand,
    words_of,
)

MAC = bytes([2, 0, 0, 0, 1, 7])
Nic = Callable[..., Emulated82599]
AGENTS: list[PfAgent] = []


@pytest.fixture
def make() -> Iterator[Nic]:
    nics: list[Emulated82599] = []

    def begin(vfs: int = 2, wire: str = "loop") -> Emulated82599:
        nics.append(Emulated82599(wire, vfs=vfs, manual=True))
        return nics[-1]

    yield begin
    while AGENTS:
        AGENTS.pop().close()
    while nics:
        nics.pop().close()


@pytest.fixture
def nic(make: Nic) -> Emulated82599:
    return make()


def hand(nic: Emulated82599, number: int = 0, kind: str = "linux", api: int | None = None) -> VfByHand:
    """A VF and an agent that works when asked; the fixture closes it."""
    AGENTS.append(PfAgent(nic, kind, serve=False, api=api))
    return VfByHand(nic.vf(number), AGENTS[-1])


# ---- the function ----


def test_a_vf_is_a_function_of_its_own_with_three_vectors_and_no_bars_in_its_configuration_space(
    nic: Emulated82599,
) -> None:
    vf = nic.vf(1)
    assert [vf.config_read(at, 2) for at in (0, 2)] == [0x8086, 0x10ED] and vf.config_read(0x0A, 2) == 0x0200
    assert [vf.config_read(at, 4) for at in range(0x10, 0x28, 4)] == [0] * 6
    assert vf.config_read(0x72, 2) & 0x7FF == 2 and vf.max_vectors == 3 and vf.name == "emulated-vf1:loop"
    vf.enable_bus_master(True)
    assert vf.config_read(0x04, 2) == 0x6  # memory enable as VFIO shows it: on the bus it belongs to the PF
    assert nic.vf(1) is vf and nic.vf(0) is not vf
    with pytest.raises(DeviceError, match="Create the NIC with vfs=3"):
        nic.vf(2)


def test_the_pf_shows_the_sriov_capability_and_its_vfs_are_those_that_it_enables(make: Nic) -> None:
    nic = make(0)
    assert nic.config_read(0x150, 4) >> 20 == 0x160 and nic.config_read(0x160, 2) == 0x0010
    assert [nic.config_read(0x160 + at, 2) for at in (0x0C, 0x0E, 0x14, 0x16, 0x1A)] == [64, 64, 384, 2, 0x10ED]
    nic.config_write(0x170, 2, 4)
    nic.config_write(0x168, 2, 0x19)
    assert nic.config_read(0x174, 2) == 128  # with ARI the VFs are on the PF's bus
    assert Registers(nic).STATUS.read().NUM_VFS == 4 and nic.vf(3).config_read(2, 2) == 0x10ED
    nic.config_write(0x170, 2, 8)
    assert nic.config_read(0x170, 2) == 4  # it cannot change while VFs are enabled
    nic.reset()
    assert Registers(nic).STATUS.read().NUM_VFS == 0 and nic.config_read(0x168, 2) == 0


def test_vfs_that_the_nic_was_created_with_survive_its_reset(nic: Emulated82599) -> None:
    nic.reset()
    assert Registers(nic).STATUS.read().NUM_VFS == 2 and nic.vf(1).read32(0x8) == nic.read32(0x8)


def test_offsets_outside_of_bar0_are_refused_and_unused_ones_read_0(nic: Emulated82599) -> None:
    vf = nic.vf(0)
    for offset in (0x4000, -4, 2):
        with pytest.raises(ValueError, match="BAR0 of a VF"):
            vf.read32(offset)
    vf.write32(0x3000, 5)  # VFMRQC: of later chips
    assert vf.read32(0x3000) == 0 and vf.read32(0x3FFC) == 0


@pytest.mark.parametrize(("mode", "queues"), [(1, 8), (2, 4), (3, 2)])
def test_a_vf_reaches_the_queues_of_its_pool_and_no_others(make: Nic, mode: int, queues: int) -> None:
    nic = make(4)
    regs = Registers(nic)
    regs.GCR_EXT.update(VT_MODE=mode)
    regs.PFVTCTL.write(VT_ENA=1)
    vf = nic.vf(3)
    for q in range(8):
        vf.write32(0x1000 + 0x40 * q, 0x8000 + 0x80 * q)
        vf.write32(0x2000 + 0x40 * q, 0x10000 + 0x80 * q)
    owned = range(3 * queues, 4 * queues)
    assert [q for q in range(128) if regs.RDBAL[q].read()] == list(owned)
    assert [q for q in range(128) if regs.TDBAL[q].read()] == list(owned)
    assert vf.read32(0x1000 + 0x40 * (queues - 1)) == 0x8000 + 0x80 * (queues - 1)
    assert vf.doorbell(0x2018) == nic.doorbell(0x6018 + 0x40 * owned[0])
    if queues < 8:
        assert vf.read32(0x1000 + 0x40 * queues) == 0
        with pytest.raises(DeviceError, match=f"has {queues} queues each way.* of queue {queues} belongs to none"):
            vf.doorbell(0x1018 + 0x40 * queues)
    with pytest.raises(ValueError, match="tail register"):
        vf.doorbell(0x1010)


def test_queues_belong_to_nobody_but_the_pf_while_vt_mode_is_off(nic: Emulated82599) -> None:
    vf = nic.vf(0)
    vf.write32(0x1000, 0x8000)
    assert vf.read32(0x1000) == 0 and Registers(nic).RDBAL[0].read() == 0


def test_link_status_and_timer_are_those_of_the_pf_and_cannot_be_written(nic: Emulated82599) -> None:
    vf = nic.vf(0)
    nic.step()
    assert vf.read32(0x10) == nic.read32(0x42A4) and vf.read32(0x10) >> 30 & 1
    vf.write32(0x10, 0)
    vf.write32(0x8, 0)
    assert vf.read32(0x10) >> 30 & 1 and vf.read32(0x8) == nic.read32(0x8)
    nic.set_link(False)
    assert not vf.read32(0x10) >> 30 & 1


# ---- the mailbox, bit by bit ----


def test_the_buffer_has_one_owner_and_a_write_without_vfu_gives_it_back(nic: Emulated82599) -> None:
    vf, regs = nic.vf(1), Registers(nic)
    vf.write32(MAILBOX, VFU)
    assert regs.PFMAILBOX[1].read().VFU
    regs.PFMAILBOX[1].write(PFU=1)
    assert not regs.PFMAILBOX[1].read().PFU
    vf.write32(MAILBOX, 0)
    regs.PFMAILBOX[1].write(PFU=1)
    vf.write32(MAILBOX, VFU)
    assert vf.read32(MAILBOX) & (VFU | PFU) == PFU
    assert nic.vf(0).read32(MAILBOX) & (VFU | PFU) == 0


def test_requests_and_acknowledgements_reach_the_pf_as_causes_until_it_clears_them(nic: Emulated82599) -> None:
    vf, regs = nic.vf(1), Registers(nic)
    vf.write32(MAILBOX, REQ)
    vf.write32(MAILBOX, ACK)
    assert regs.PFMBICR[0].read() == 0x2_0002 and regs.EICR.read().MAILBOX
    assert vf.read32(MAILBOX) & (REQ | ACK) == 0
    regs.PFMBICR[0].write(0x2)
    assert regs.PFMBICR[0].read() == 0x2_0000 and not regs.EICR.read().MAILBOX
    regs.PFMBIMR[0].write(0)
    vf.write32(MAILBOX, REQ)
    assert regs.PFMBICR[0].read() == 0x2_0002 and not regs.EICR.read().MAILBOX
    vf.write32(MAILBOX, VFU)
    regs.PFMAILBOX[1].write(RVFU=1)
    assert regs.PFMBICR[0].read() == 0 and not vf.read32(MAILBOX) & VFU


def test_the_pfs_message_is_seen_once_and_its_words_are_the_vfs(nic: Emulated82599) -> None:
    vf, regs = nic.vf(1), Registers(nic)
    regs.PFMBMEM[16 * 1 + 3].write(0x1234)
    regs.PFMAILBOX[1].write(STS=1, ACK=1)
    assert vf.read32(MAILBOX) & (PFSTS | PFACK) == PFSTS | PFACK
    assert vf.read32(MAILBOX) & (PFSTS | PFACK) == 0
    assert vf.read32(MEMORY + 12) == 0x1234 and nic.vf(0).read32(MEMORY + 12) == 0
    vf.write32(MAILBOX, VFU)
    vf.write32(MEMORY + 60, 0x5678)
    assert regs.PFMBMEM[16 + 15].read() == 0x5678


def test_rsti_stays_until_the_pf_says_that_its_reset_is_done(nic: Emulated82599) -> None:
    vf, regs = nic.vf(0), Registers(nic)
    assert vf.read32(MAILBOX) & (RSTI | RSTD) == RSTI
    assert vf.read32(MAILBOX) & (RSTI | RSTD) == RSTI
    regs.PFVTCTL.write(VT_ENA=1)
    regs.GCR_EXT.update(VT_MODE=2)
    regs.PFDTXGSWC.write(LBE=1)
    regs.CTRL_EXT.update(PFRSTD=1)
    assert vf.read32(MAILBOX) & (RSTI | RSTD) == RSTD
    assert vf.read32(MAILBOX) & (RSTI | RSTD) == 0
    regs.CTRL.update(RST=1)
    assert vf.read32(MAILBOX) & (RSTI | RSTD) == RSTI


# ---- interrupts ----


def pending(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


def test_a_message_of_the_pf_interrupts_the_vf_on_its_mailbox_vector(nic: Emulated82599) -> None:
    vf, regs = nic.vf(1), Registers(nic)
    fds = vf.enable_interrupts(3)
    vf.write32(0x140, 0x80 | 2)  # VTIVAR_MISC
    vf.write32(0x108, 0x4)  # VTEIMS
    regs.PFMAILBOX[1].write(STS=1)
    assert [pending(fd) for fd in fds] == [False, False, True]
    assert vf.read32(0x100) == 4 and vf.read32(0x100) == 0  # VTEICR: a read clears it
    os.eventfd_read(fds[2])
    vf.write32(0x10C, 0x4)  # VTEIMC
    regs.PFMAILBOX[1].write(STS=1)
    assert not pending(fds[2])
    vf.write32(0x108, 0x4)
    assert pending(fds[2])


def test_auto_clear_and_auto_mask_follow_a_message(nic: Emulated82599) -> None:
    vf = nic.vf(0)
    (fd,) = vf.enable_interrupts(1)
    vf.write32(0x110, 1)  # VTEIAC
    vf.write32(0x114, 1)  # VTEIAM
    vf.write32(0x108, 1)
    vf.write32(0x104, 1)  # VTEICS
    assert os.eventfd_read(fd) == 1
    assert vf.read32(0x100) == 0 and vf.read32(0x108) == 0
    vf.write32(0x104, 1)
    assert not pending(fd)


def test_the_interval_of_a_vector_delays_its_next_message(nic: Emulated82599) -> None:
    vf = nic.vf(0)
    (fd,) = vf.enable_interrupts(1)
    vf.write32(0x820, 10 << 3 | 1 << 31)
    assert Registers(nic).EITR[127].read().ITR_INTERVAL == 10
    vf.write32(0x110, 1)
    vf.write32(0x108, 1)
    for expected in (True, False):
        vf.write32(0x104, 1)
        assert pending(fd) is expected
        if expected:
            os.eventfd_read(fd)
    nic.step(ns=20_480)
    assert pending(fd)


# ---- reset ----


def test_a_function_level_reset_is_announced_and_clears_all_but_statistics_and_head_write_back(
    nic: Emulated82599,
) -> None:
    vf = hand(nic, 1)
    vf.open(MAC)
    vf.queues()
    regs, q = Registers(nic), 4
    vf.vf.write32(0x2038, 0x1001)
    vf.vf.write32(0x108, 0x7)
    assert regs.PFVFTE[0].read() & 2 and regs.PFVFRE[0].read() & 2
    vf.vf.reset()
    assert regs.PFVFLRE[0].read() == 2 and regs.EICR.read().MAILBOX
    assert not regs.RXDCTL[q].read().ENABLE and not regs.TXDCTL[q].read().ENABLE
    assert regs.TDWBAL[q].read() == 0x1001 and regs.PVTEIMS[1].read() == 0
    assert not (regs.PFVFTE[0].read() | regs.PFVFRE[0].read()) & 2 and vf.vf.config_read(4, 2) == 0x2
    regs.PFVFLREC[0].write(2)
    assert regs.PFVFLRE[0].read() == 0
    nic.vf(0).config_write(0xA8, 2, 0x8000)
    assert regs.PFVFLRE[0].read() == 1


def test_vfctrl_rst_resets_this_vf_only_and_is_not_announced(nic: Emulated82599) -> None:
    one = hand(nic, 1)
    one.open(MAC)
    one.queues()
    zero = VfByHand(nic.vf(0), one.agent)
    zero.open(MAC)
    zero.queues()
    one.vf.write32(0, 1 << 26)
    regs = Registers(nic)
    assert [regs.RXDCTL[q].read().ENABLE for q in (0, 4)] == [1, 0] and regs.PFVFLRE[0].read() == 0


def test_a_vf_whose_pf_is_closed_reads_all_ones_and_can_still_be_closed(nic: Emulated82599) -> None:
    vf = nic.vf(0)
    vf.enable_interrupts(3)
    memory = vf.alloc_dma(4096)
    nic.close()
    assert vf.read32(8) == 0xFFFFFFFF and vf.config_read(0, 2) == 0xFFFF
    vf.write32(MAILBOX, REQ)
    vf.reset()
    assert memory.view[0] == 0
    vf.close()
    vf.close()


def test_a_closed_vf_can_be_made_again(nic: Emulated82599) -> None:
    first = nic.vf(0)
    first.close()
    with pytest.raises(DeviceError, match="closed"):
        first.read32(8)
    assert nic.vf(0) is not first and nic.vf(0).read32(8) == nic.read32(8)


# ---- the agent ----


def test_the_agent_ends_the_reset_and_linux_answers_without_an_admin_mac(nic: Emulated82599) -> None:
    vf = hand(nic)
    vf.wait(RSTD)
    assert vf.ask(RESET)[:4] == [RESET | REFUSED, 0, 0, 0]
    assert vf.agrees(NEGOTIATE, API_1_4)
    assert vf.ask(NEGOTIATE, API_1_5)[0] == NEGOTIATE | REFUSED | CTS
    assert vf.ask(GET_QUEUES)[:5] == [GET_QUEUES | OK | CTS, 4, 4, 0, 0]
    assert vf.ask(GET_LINK_STATE)[:2] == [GET_LINK_STATE | OK | CTS, 1]
    assert vf.agrees(SET_MAC, *words_of(MAC))
    assert not vf.agrees(SET_MAC, *words_of(b"\x01\0\0\0\0\1"))
    assert vf.ask(0x77)[0] == 0x77 | REFUSED | CTS


def test_dpdk_gives_an_address_and_eight_queues_and_knows_no_1_4(nic: Emulated82599) -> None:
    vf = hand(nic, kind="dpdk")
    word, low, high, _ = vf.ask(RESET)[:4]
    assert word == RESET | OK and (low or high) and not low & 1
    assert not vf.agrees(NEGOTIATE, API_1_4)
    assert vf.agrees(NEGOTIATE, API_1_3)
    assert vf.ask(GET_QUEUES)[1:3] == [8, 8]


def test_a_request_before_reset_is_refused_without_clear_to_send(nic: Emulated82599) -> None:
    vf = hand(nic)
    assert vf.ask(NEGOTIATE, API_1_0)[0] == NEGOTIATE | REFUSED


def test_old_apis_have_fewer_messages(nic: Emulated82599) -> None:
    vf = hand(nic, api=API_1_0)
    vf.ask(RESET)
    assert not vf.agrees(NEGOTIATE, API_1_3)
    assert vf.agrees(NEGOTIATE, API_1_0)
    assert [vf.agrees(request) for request in (GET_QUEUES, UPDATE_XCAST, GET_LINK_STATE)] == [False] * 3


def test_an_admin_mac_is_given_at_reset_and_cannot_be_changed_without_trust(nic: Emulated82599) -> None:
    vf = hand(nic)
    vf.agent.set_vf(0, mac=MAC)
    assert vf.ask(RESET)[:3] == [RESET | OK, *words_of(MAC)]
    assert vf.agrees(NEGOTIATE, API_1_3)
    assert not vf.agrees(SET_MAC, *words_of(b"\2\0\0\0\0\1"))
    assert vf.agrees(SET_MAC, *words_of(MAC))
    assert not vf.agrees(SET_MACVLAN | 1 << 16, *words_of(b"\2\0\0\0\0\1"))
    vf.agent.set_vf(0, trust=True)
    assert vf.vf.read32(MAILBOX) & PFSTS and vf.answer()[0] == 0x100  # a ping without CTS
    vf.ask(RESET)
    assert vf.agrees(SET_MAC, *words_of(b"\2\0\0\0\0\1"))


def test_a_port_vlan_refuses_the_vfs_own_and_is_told_with_the_queues(nic: Emulated82599) -> None:
    vf = hand(nic)
    vf.open(MAC)
    assert vf.agrees(SET_VLAN | 1 << 16, 5) and vf.agrees(SET_VLAN, 5) and vf.agrees(SET_VLAN, 0)
    vf.agent.set_vf(0, vlan=9)
    assert not vf.agrees(SET_VLAN | 1 << 16, 5)
    assert vf.ask(GET_QUEUES)[3] == 1


def test_multicast_modes_are_lowered_or_refused_as_trust_says(nic: Emulated82599) -> None:
    vf = hand(nic)
    vf.open(MAC)
    assert vf.ask(UPDATE_XCAST, 3)[:2] == [UPDATE_XCAST | OK | CTS, 1]
    vf.agent.set_vf(0, trust=True)
    vf.answer()
    vf.open(MAC)
    assert vf.ask(UPDATE_XCAST, 2)[:2] == [UPDATE_XCAST | OK | CTS, 2]
    assert not vf.agrees(UPDATE_XCAST, 3)


def test_a_frame_length_that_the_pf_has_not_closes_the_pool(nic: Emulated82599) -> None:
    vf, regs = hand(nic), Registers(nic)
    vf.open(MAC)
    assert regs.PFVFRE[0].read() & 1
    assert not vf.agrees(SET_LPE, 9018)
    assert not regs.PFVFRE[0].read() & 1
    vf.agent.mtu(9000)
    vf.ask(RESET)
    assert not regs.PFVFRE[0].read() & 1  # until SET_LPE
    assert vf.agrees(NEGOTIATE, API_1_3) and vf.agrees(SET_LPE, 9018)
    assert regs.PFVFRE[0].read() & 1 and regs.MAXFRS.read().MFS == 9018


def test_a_pf_that_goes_down_and_up_revokes_clear_to_send(nic: Emulated82599) -> None:
    vf = hand(nic)
    vf.open(MAC)
    vf.agent.down()
    assert vf.vf.read32(MAILBOX) & RSTI
    vf.agent.up()
    assert vf.vf.read32(MAILBOX) & (RSTI | RSTD) == RSTD
    assert vf.ask(NEGOTIATE, API_1_3)[0] == NEGOTIATE | REFUSED
    vf.open(MAC)


def test_a_link_change_is_told_by_a_ping(nic: Emulated82599) -> None:
    vf = hand(nic)
    nic.step()
    vf.open(MAC)
    nic.set_link(False)
    vf.agent.work()
    assert vf.vf.read32(MAILBOX) & PFSTS and vf.answer()[0] == 0x100 | CTS


def test_a_link_state_of_the_administrator_is_told_and_closes_the_pool(nic: Emulated82599) -> None:
    vf, regs = hand(nic), Registers(nic)
    vf.open(MAC)
    vf.agent.set_vf(0, state="disable")
    assert not (regs.PFVFRE[0].read() | regs.PFVFTE[0].read()) & 1 and vf.answer()[0] == 0x100
    vf.ask(RESET)
    assert vf.agrees(NEGOTIATE, API_1_3) and vf.ask(GET_LINK_STATE)[1] == 0
    assert not (regs.PFVFRE[0].read() | regs.PFVFTE[0].read()) & 1


def test_the_agents_thread_answers_by_itself_and_the_vf_closes_all() -> None:
    vf = emulated_vf("sink")
    assert isinstance(vf, VirtualFunction) and isinstance(vf.agent, PfAgent)
    by_hand = VfByHand(vf, vf.agent)
    by_hand.wait(RSTD)
    by_hand.send(RESET)
    by_hand.wait(PFSTS)
    assert by_hand.answer()[0] == RESET | REFUSED
    vf.close()
    assert vf.pf.is_gone


def test_nothing_that_agent_and_vf_do_breaks_a_rule(nic: Emulated82599) -> None:
    vf = hand(nic)
    vf.open(MAC)
    vf.queues()
    assert nic.violations == []
