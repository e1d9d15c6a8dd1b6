"""Registers of the software 82599: reset values, effects, EEPROM, semaphores, link, interrupts, surprise removal."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from ixrings.hw.emulator import DEFAULT_MAC, Emulated82599, WireError
from ixrings.hw.errors import DeviceError, DeviceGone, DmaError, RegisterTimeout
from ixrings.hw.registers import Registers


@pytest.fixture
def nic() -> Iterator[Emulated82599]:
    device = Emulated82599(manual=True)
    with device:
        yield device


@pytest.fixture
def regs(nic: Emulated82599) -> Registers:
    return Registers(nic)


def test_a_register_shows_its_fields_at_the_prompt(regs: Registers) -> None:
    assert "SPEED=3 (10 Gbit/s)" in repr(regs.LINKS)
    assert "LINK_UP=1" in repr(regs.LINKS)
    assert "not shown" in repr(regs.EICR)
    assert repr(regs.RXDCTL) == "RXDCTL[0..127] (Receive Descriptor Control) from 0x01028"


@pytest.mark.breaks_rules("wait_before_reading_ctrl")
def test_every_register_has_its_reset_value_after_a_reset(regs: Registers) -> None:
    # Their values come from the EEPROM, the wire, and the kind of the chip.
    loaded = {"RAL", "RAH", "LINKS", "STATUS", "SECTXSTAT", "SECRXSTAT"}
    regs.TXPBTHRESH[0].write(1)
    regs.RAL[3].write(0x1234)
    regs.CTRL.write(RST=1)
    for row in Registers.rows():
        if row.name in loaded or row.access.read_has_effect or row.access.value == "write only":
            continue
        for index in range(row.count):
            assert regs.space.read32(row.offset(index)) == row.reset_value(index), row.label(index)
    assert regs.RAL[3].read() == 0
    assert [int(size.read()) for size in regs.TXPBTHRESH] == [0x96] + [0] * 7  # without DCB there is one packet buffer


def test_aliases_are_the_same_register(regs: Registers, nic: Emulated82599) -> None:
    nic.write32(0x02104, 0x0200_0002)  # SRRCTL[1] at its 82598 address
    assert regs.SRRCTL[1].read().DESCTYPE == 1
    nic.write32(0x05400, 0x1111_1111)
    assert nic.read32(0x0A200) == 0x1111_1111


@pytest.mark.breaks_rules("ring_alignment")
def test_bits_that_are_not_writable_keep_their_value(regs: Registers) -> None:
    regs.RDBAL[0].write(0xFFFF_FFFF)
    assert regs.RDBAL[0].read() == 0xFFFF_FF80
    regs.STATUS.write(0)
    assert regs.STATUS.read().GIO_MASTER_EN == 1
    regs.RDRXCTL.write(0)
    assert regs.RDRXCTL.read().DMAIDONE == 1


def test_a_field_that_does_not_exist_or_a_value_that_does_not_fit_is_refused(regs: Registers) -> None:
    with pytest.raises(AttributeError, match="TXDCTL\\[3\\] has no field ENABEL; did you mean ENABLE\\?"):
        regs.TXDCTL[3].write(ENABEL=1)
    with pytest.raises(ValueError, match="PTHRESH=0x80 does not fit"):
        regs.TXDCTL[0].write(PTHRESH=128)
    with pytest.raises(IndexError, match="TXDCTL\\[0..127\\]"):
        regs.TXDCTL[128].read()


def test_a_failed_wait_names_register_values_and_section(regs: Registers) -> None:
    start = time.monotonic()
    with pytest.raises(
        RegisterTimeout,
        match=r"TXDCTL\[2\] \(0x060a8\) read 0x00000000 after .* ms: ENABLE is 0x0, expected 0x1 \(82599 4.6.8\)",
    ):
        regs.TXDCTL[2].wait(ENABLE=1, timeout=0.01, section="4.6.8")
    assert time.monotonic() - start < 20


def test_a_wait_without_a_field_says_so(regs: Registers) -> None:
    with pytest.raises(TypeError, match=r"TXDCTL\[2\].wait\(\) names no field to wait for"):
        regs.TXDCTL[2].wait(timeout=0.01)


@pytest.mark.breaks_rules()
def test_a_transmit_queue_takes_enable_before_te_and_after_it(regs: Registers) -> None:
    for queue in (0, 1):
        regs.TXDCTL[queue].write(ENABLE=1)
        assert regs.TXDCTL[queue].read().ENABLE == 1
        regs.DMATXCTL.update(TE=1)


@pytest.mark.breaks_rules("wait_before_reading_ctrl")
def test_master_disable_reads_back_and_clears_the_status_bit(regs: Registers) -> None:
    regs.CTRL.write(GIO_DIS=1)
    assert regs.CTRL.read().GIO_DIS == 1
    assert regs.STATUS.read().GIO_MASTER_EN == 0
    regs.CTRL.write(RST=1, LRST=1)
    assert int(regs.CTRL.read()) == 0
    assert regs.STATUS.read().GIO_MASTER_EN == 1


def read_eeprom(regs: Registers, address: int) -> int:
    regs.EERD.write(START=1, ADDR=address)
    return regs.EERD.wait(DONE=1, timeout=0.1).DATA


def test_the_eeprom_has_a_valid_checksum_and_the_mac_address(regs: Registers) -> None:
    words = [read_eeprom(regs, address) for address in range(1 << (regs.EEC.read().EE_SIZE + 6))]
    total = sum(words[:0x40])
    for pointer in words[0x03:0x0F]:
        if pointer not in (0, 0xFFFF):
            total += sum(words[pointer + 1 : pointer + 1 + words[pointer]])
    assert total & 0xFFFF == 0xBABA
    lan_core = words[0x09]
    assert b"".join(word.to_bytes(2, "little") for word in words[lan_core + 1 : lan_core + 4]) == DEFAULT_MAC
    address = regs.RAL[0].read().to_bytes(4, "little") + regs.RAH[0].read().RAH.to_bytes(2, "little")
    assert (address, regs.RAH[0].read().AV) == (DEFAULT_MAC, 1)


def test_the_software_semaphore_is_taken_by_reading_it(regs: Registers) -> None:
    assert regs.SWSM.read().SMBI == 0
    assert regs.SWSM.read().SMBI == 1
    regs.SWSM.write(SWESMBI=1, SMBI=1)
    assert regs.SWSM.read().SWESMBI == 1
    regs.SWSM.write(0)
    assert regs.SWSM.read().SMBI == 0


def test_the_link_comes_up_after_its_training_time() -> None:
    nic = Emulated82599(manual=True, link_up_s=0.5)
    with nic:
        regs = Registers(nic)
        assert regs.LINKS.read().LINK_UP == 0
        nic.step(ns=499_999_999)
        assert regs.LINKS.read().LINK_UP == 0
        nic.step(ns=1)
        assert regs.LINKS.read().LINK_UP == 1
        assert regs.EICR.read().LSC == 1
        regs.AUTOC.update(RESTART_AN=1)
        assert (regs.AUTOC.read().RESTART_AN, regs.LINKS.read().LINK_UP) == (0, 0)
        nic.step(ns=500_000_000)
        assert regs.LINKS.read().LINK_UP == 1


def test_without_a_link_partner_the_serial_interface_still_runs() -> None:
    with Emulated82599("cable=alone", manual=True) as nic:
        links = Registers(nic).LINKS.read()
        assert (links.LINK_UP, links.LINK_10G_SERIAL_EN) == (0, 1)


def test_pulling_the_cable_takes_the_link_down(nic: Emulated82599, regs: Registers) -> None:
    regs.EICR.read()
    nic.set_link(False)
    assert (regs.LINKS.read().LINK_UP, regs.STATUS.read().LINK_UP, regs.EICR.read().LSC) == (0, 0, 1)
    assert nic.link_trouble() == "the cable is out"
    nic.set_link(True)
    assert (regs.LINKS.read().LINK_UP, regs.EICR.read().LSC, nic.link_trouble()) == (1, 1, "")


def messages(fd: int) -> int:
    try:
        return os.eventfd_read(fd)
    except BlockingIOError:
        return 0


def test_a_cause_sends_a_message_only_when_it_is_unmasked(nic: Emulated82599, regs: Registers) -> None:
    fds = nic.enable_interrupts(3)
    regs.GPIE.write(MSIX_MODE=1)
    regs.IVAR_MISC.write(INT_ALLOC_1=2, INT_ALLOC_VAL_1=1)
    regs.EICS.write(RTX_QUEUE=0b1)
    assert [messages(fd) for fd in fds] == [0, 0, 0]
    regs.EIMS.write(RTX_QUEUE=0b1)
    assert [messages(fd) for fd in fds] == [1, 0, 0]
    assert regs.EICR.read().RTX_QUEUE == 1
    regs.EICR.read()
    nic.set_link(False)
    assert [messages(fd) for fd in fds] == [0, 0, 0]
    regs.EIMS.write(LSC=1)
    assert [messages(fd) for fd in fds] == [0, 0, 1]
    regs.EICR.write(LSC=1)
    assert regs.EICR.read().LSC == 0


def test_auto_clear_and_auto_mask_make_a_message_fire_once_until_rearmed(nic: Emulated82599, regs: Registers) -> None:
    (fd,) = nic.enable_interrupts(1)
    regs.GPIE.write(MSIX_MODE=1, EIAME=1)
    regs.EIAC.write(RTX_QUEUE=1)
    regs.EIAM.write(RTX_QUEUE=1)
    regs.EIMS.write(RTX_QUEUE=1)
    regs.EICS.write(RTX_QUEUE=1)
    assert messages(fd) == 1
    assert (regs.EICS.read().RTX_QUEUE, regs.EIMS.read().RTX_QUEUE) == (0, 0)
    regs.EICS.write(RTX_QUEUE=1)
    assert messages(fd) == 0
    regs.EIMS.write(RTX_QUEUE=1)  # the cause that came while masked fires now
    assert messages(fd) == 1


def test_messages_of_a_vector_are_an_interval_apart(nic: Emulated82599, regs: Registers) -> None:
    (fd,) = nic.enable_interrupts(1)
    regs.GPIE.write(MSIX_MODE=1)
    regs.EIAC.write(RTX_QUEUE=1)
    regs.EITR[0].write(ITR_INTERVAL=10)  # 20.48 us
    regs.EIMS.write(RTX_QUEUE=1)
    sent = 0
    for _ in range(205):
        regs.EICS.write(RTX_QUEUE=1)
        nic.step(ns=1000)
        sent += messages(fd)
    assert sent == 10


@pytest.mark.parametrize("vector", [0, 15, 24, 63])
def test_the_counter_of_a_vector_runs_down_to_its_next_message(
    nic: Emulated82599, regs: Registers, vector: int
) -> None:
    fd = nic.enable_interrupts(64)[vector]
    bit = 1 << vector % 32
    regs.GPIE.write(MSIX_MODE=1)
    regs.EIAC.write(RTX_QUEUE=0xFFFF)
    regs.EIMS_EX[vector // 32].write(bit)

    def cause() -> int:
        regs.EICS_EX[vector // 32].write(bit)
        return messages(fd)

    regs.EITR[vector].write(ITR_INTERVAL=80, CNT_WDIS=1)  # 163.84 us
    assert cause() == 1
    assert (regs.EITR[vector].read().ITR_INTERVAL, regs.EITR[vector].read().ITR_COUNTER) == (80, 20)
    nic.step(ns=81_920)
    assert cause() == 0 and regs.EITR[vector].read().ITR_COUNTER == 10
    regs.EITR[vector].write(ITR_INTERVAL=8, CNT_WDIS=1)  # applies after the next message
    nic.step(ns=81_919)
    assert messages(fd) == 0
    nic.step(ns=1)
    assert messages(fd) == 1 and regs.EITR[vector].read().ITR_COUNTER == 2
    assert cause() == 0
    regs.EITR[vector].write(ITR_INTERVAL=8)  # sets the counter, too
    assert messages(fd) == 1
    assert cause() == 0
    regs.EITR[vector].write(ITR_INTERVAL=8, ITR_COUNTER=100)
    nic.step(ns=100 * 8192 - 1)
    assert messages(fd) == 0
    nic.step(ns=1)
    assert messages(fd) == 1


def test_a_queue_interrupts_on_the_vector_of_its_ivar_entry(nic: Emulated82599, regs: Registers) -> None:
    fds = nic.enable_interrupts(20)
    regs.GPIE.write(MSIX_MODE=1)
    regs.EIMS_EX[0].write(1 << 18)
    regs.EICS_EX[0].write(1 << 18)
    assert [messages(fd) for fd in fds] == [0] * 18 + [1, 0]


def test_vectors_beyond_those_enabled_and_queues_without_allocation_are_silent(
    nic: Emulated82599, regs: Registers
) -> None:
    nic.enable_interrupts(1)
    regs.GPIE.write(MSIX_MODE=1)
    regs.EIMS_EX[1].write(0xFFFF_FFFF)
    regs.EICS_EX[1].write(0xFFFF_FFFF)
    nic.step()
    with pytest.raises(ValueError, match="1 to 64 MSI-X vectors"):
        nic.enable_interrupts(65)


def test_after_surprise_removal_reads_are_all_ones_and_raise_device_gone(nic: Emulated82599, regs: Registers) -> None:
    nic.unplug()
    assert nic.read32(0) == 0xFFFF_FFFF
    assert nic.config_read(0, 2) == 0xFFFF
    with pytest.raises(DeviceGone, match="no longer answers: LINKS"):
        regs.LINKS.read()
    regs.CTRL.write(RST=1)
    nic.step()


def test_all_ones_in_a_register_that_may_hold_them_is_not_a_removal(regs: Registers) -> None:
    regs.MTA[0].write(0xFFFF_FFFF)
    assert regs.MTA[0].read() == 0xFFFF_FFFF


def test_configuration_space_has_its_capabilities_at_the_usual_offsets(nic: Emulated82599) -> None:
    assert (nic.config_read(0, 2), nic.config_read(2, 2)) == (0x8086, 0x10FB)
    chain, at = [], nic.config_read(0x34, 1)
    while at:
        chain.append((at, nic.config_read(at, 1)))
        at = nic.config_read(at + 1, 1)
    assert chain == [(0x40, 0x01), (0x50, 0x05), (0x70, 0x11), (0xA0, 0x10)]
    assert nic.config_read(0x72, 2) & 0x7FF == 63
    nic.config_write(0x10, 4, 0xFFFF_FFFF)
    assert nic.config_read(0x10, 4) == 0xFFFE_000C  # 128 KB, 64 bits, prefetchable


def test_a_function_level_reset_resets_registers_and_command(nic: Emulated82599, regs: Registers) -> None:
    nic.enable_bus_master(True)
    regs.FCTRL.write(BAM=1)
    nic.config_write(0xA8, 2, 0x8000)
    assert nic.config_read(0x04, 2) == 0
    assert int(regs.FCTRL.read()) == 0


@pytest.mark.breaks_rules("unknown_register")
def test_unknown_registers_read_zero_and_writes_are_reported(nic: Emulated82599) -> None:
    assert nic.read32(0x1FFFC) == 0
    nic.write32(0x1FFFC, 5)
    assert [violation.rule.name for violation in nic.violations] == ["unknown_register"]
    with pytest.raises(ValueError, match="none at 0x2"):
        nic.read32(2)


def test_dma_windows_have_gaps_between_them(nic: Emulated82599) -> None:
    one, two = nic.alloc_dma(1), nic.alloc_dma(100_000)
    assert one.size == 4096
    assert two.iova - one.iova > one.size
    one.release()
    two.release()
    fd = os.memfd_create("small")
    try:
        with pytest.raises(DmaError, match="cannot be mapped"):
            nic.map_dma(fd, 0, 4096)
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    "wire",
    ["", "cabel=x", "loop=1", "cable=", "pcap=", "tap=", "source=59", "source=x", "tap=a/b", "tap=0123456789abcdef"],
)
def test_an_impossible_wire_is_refused_with_a_reason(wire: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(WireError, match="wire|frames are|interface name"):
        Emulated82599(wire)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_third_port_on_a_cable_is_refused() -> None:
    with Emulated82599("cable=three"), Emulated82599("cable=three"):
        with pytest.raises(WireError, match="already joins two ports"):
            Emulated82599("cable=three")


def test_closing_is_final_and_leaves_nothing_behind() -> None:
    for _ in range(20):  # conftest.py checks after the test that nothing is left
        nic = Emulated82599("sink")
        nic.enable_interrupts(4)
        nic.alloc_dma(4096)
        nic.close()
        nic.close()
        with pytest.raises(DeviceError, match="emulated:sink is closed"):
            nic.read32(0)


def test_a_forked_child_can_end_without_the_engine() -> None:
    with Emulated82599("loop") as nic:
        child = os.fork()
        if child == 0:
            nic.close()
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert nic.read32(0x8) != 0xFFFF_FFFF
