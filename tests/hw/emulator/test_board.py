"""The board around the 82599's MAC: SFP+ cage, EEPROM, MDIO; and command registers, semaphores, PCI status."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from ixrings.hw.emulator import Emulated82599
from ixrings.hw.emulator.blocks.eeprom import checksum
from ixrings.hw.emulator.blocks.sfp import SfpModule
from ixrings.hw.registers import Registers
from tests.support.by_hand import ByHand


@pytest.fixture
def nic() -> Iterator[Emulated82599]:
    emulated = Emulated82599("sink", manual=True)
    yield emulated
    emulated.close()


def take_phy(regs: Registers) -> None:
    """Take SW_FW_SYNC.SW_PHY_SM0, holding SWSM's two bits (10.5.4)."""
    regs.SWSM.read()
    regs.SWSM.update(SWESMBI=1)
    regs.SW_FW_SYNC.write(SW_PHY_SM0=1)
    regs.SWSM.write(0)


class Wires:
    """A bus master in software, as in drivers; it asserts that the clock line follows."""

    def __init__(self, nic: Emulated82599) -> None:
        take_phy(Registers(nic))
        self.register = Registers(nic).I2CCTL
        self.clock = self.data = 1

    def set(self, *, clock: int | None = None, data: int | None = None) -> int:
        self.clock, self.data = self.clock if clock is None else clock, self.data if data is None else data
        self.register.write(0, I2C_CLK_OUT=self.clock, I2C_DATA_OUT=self.data)
        lines = self.register.read()
        assert lines.I2C_CLK_IN == self.clock
        return lines.I2C_DATA_IN

    def bit(self, data: int) -> int:
        self.set(data=data)
        seen = self.set(clock=1)
        self.set(clock=0)
        return seen

    def start(self) -> None:
        self.set(data=1)
        self.set(clock=1)
        self.set(data=0)
        self.set(clock=0)

    def stop(self) -> None:
        self.set(data=0)
        self.set(clock=1)
        self.set(data=1)

    def free(self) -> None:
        """Clock until the module releases the data line, then START and STOP within one clock pulse."""
        self.set(data=1)
        while not self.set(clock=1):
            self.set(clock=0)
        self.set(data=0)
        self.set(data=1)

    def write(self, byte: int) -> bool:
        """Returns True if the module acknowledged the byte."""
        for position in range(7, -1, -1):
            self.bit(byte >> position & 1)
        return not self.bit(1)

    def read(self, more: bool) -> int:
        byte = 0
        for _ in range(8):
            byte = byte << 1 | self.bit(1)
        self.bit(0 if more else 1)
        return byte

    def read_from(self, offset: int, count: int, address: int = 0xA0) -> bytes:
        self.start()
        assert self.write(address) and self.write(offset)
        self.start()
        assert self.write(address | 1)
        found = bytes(self.read(more=i < count - 1) for i in range(count))
        self.stop()
        return found


def test_the_module_memory_is_read_bit_by_bit(nic: Emulated82599) -> None:
    wires = Wires(nic)
    page = SfpModule.SR.pages()[0xA0]
    assert wires.read_from(0, 64) == page[:64]
    assert wires.read_from(0x25, 3) == bytes([0x00, 0x1B, 0x21])
    assert wires.read_from(250, 8) == page[250:] + page[:2], "the offset wraps to 0"


def test_another_address_or_an_empty_cage_does_not_acknowledge(nic: Emulated82599) -> None:
    wires = Wires(nic)
    wires.start()
    assert not wires.write(0xB0)
    wires.stop()
    nic.insert_module(None)
    wires.start()
    assert not wires.write(0xA0)
    wires.stop()


def test_an_aborted_transfer_does_not_disturb_the_next(nic: Emulated82599) -> None:
    wires = Wires(nic)
    for bits in range(1, 30):
        wires.start()
        for position in range(bits):
            wires.bit(0xA0 >> 7 - position % 8 & 1)
        wires.free()
        assert wires.read_from(0, 1) == b"\x03"


@pytest.mark.parametrize("kind", SfpModule)
def test_a_module_that_measures_names_its_revision_of_sff_8472(kind: SfpModule) -> None:
    """Linux reads no measurements where byte 94 is 0."""
    pages = kind.pages()
    assert bool(pages[0xA0][94]) == bool(pages[0xA0][92] & 0x40) == (0xA2 in pages)


@pytest.mark.parametrize("kind", SfpModule)
def test_the_check_codes_of_module_memory_are_right(kind: SfpModule) -> None:
    page = kind.pages()[0xA0]
    assert len(page) == 256
    assert page[63] == sum(page[:63]) & 0xFF and page[95] == sum(page[64:95]) & 0xFF


def test_the_link_needs_a_module_a_laser_and_a_cable(nic: Emulated82599) -> None:
    registers = Registers(nic)

    def up() -> int:
        return registers.LINKS.read().LINK_UP

    assert up() and registers.ESDP.read().SDP2_DATA and nic.link_trouble() == ""
    nic.insert_module(None)
    assert not up() and not registers.ESDP.read().SDP2_DATA and "no SFP+ module" in nic.link_trouble()
    nic.insert_module(SfpModule.LR)
    assert up()
    registers.ESDP.update(SDP3_DATA=1)
    assert not up() and "laser" in nic.link_trouble()
    registers.CTRL.write(RST=1)
    assert up(), "a reset turns the laser on"
    nic.set_link(False)
    assert not up() and "cable" in nic.link_trouble()


def test_inserting_a_module_is_an_interrupt_cause_with_sdp2_gpien(nic: Emulated82599) -> None:
    registers = Registers(nic)
    nic.insert_module(None)
    assert not registers.EICR.read().GPI_SDP2
    registers.GPIE.update(SDP2_GPIEN=1)
    nic.insert_module(SfpModule.SR)
    assert registers.EICR.read().GPI_SDP2


def test_the_eeprom_has_what_drivers_of_sfp_boards_need(nic: Emulated82599) -> None:
    registers = Registers(nic)

    def word(address: int) -> int:
        registers.EERD.write(START=1, ADDR=address)
        return registers.EERD.wait(DONE=1, timeout=0.01).DATA

    words = [word(address) for address in range(1024)]
    assert checksum(words) == 0xBABA
    entries = words[words[0x2B] + 1 :]
    assert {entries[at] for at in range(0, entries.index(0xFFFF), 2)} == {3, 4, 5, 6}
    for settings in (entries[at + 1] for at in range(0, entries.index(0xFFFF), 2)):
        assert 0xFFFF in words[settings + 1 : settings + 20]
    assert words[words[words[0x0F] + 4] + 7] > 5, "else Linux warns of a pre-production board"
    assert words[0x15] == 0xFAFA


class EepromWires:
    """A driver's bit-bang access to the EEPROM through EEC (8.2.3.2.1)."""

    def __init__(self, nic: Emulated82599) -> None:
        registers = Registers(nic)
        registers.SWSM.read()
        registers.SWSM.update(SWESMBI=1)
        registers.SW_FW_SYNC.write(SW_EEP_SM=1)
        registers.SWSM.write(0)
        self.eec = registers.EEC
        self.eec.update(EE_REQ=1)
        assert self.eec.read().EE_GNT

    def command(self, *sent: int, count: int = 0) -> bytes:
        """Select the chip, send bytes, receive `count` bytes."""
        self.eec.update(EE_SK=0, EE_CS=1)
        self.eec.update(EE_CS=0)
        for byte in sent:
            for bit in range(7, -1, -1):
                self._clock(byte >> bit & 1)
        received = bytes(sum(self._clock(0) << bit for bit in range(7, -1, -1)) for _ in range(count))
        self.eec.update(EE_CS=1)
        return received

    def _clock(self, data: int) -> int:
        self.eec.update(EE_DI=data)
        self.eec.update(EE_SK=1)
        seen = self.eec.read().EE_DO
        self.eec.update(EE_SK=0)
        return seen


def eeprom_word(nic: Emulated82599, address: int) -> int:
    registers = Registers(nic)
    registers.EERD.write(START=1, ADDR=address)
    return registers.EERD.wait(DONE=1, timeout=0.1).DATA


def test_a_word_written_bit_by_bit_stays_and_a_reset_loads_it(nic: Emulated82599) -> None:
    wires = EepromWires(nic)
    address = 2 * (eeprom_word(nic, 0x09) + 3)  # in bytes: the last two of the MAC address
    assert wires.command(3, address >> 8, address & 0xFF, count=2) == b"\x00\x01"
    wires.command(2, address >> 8, address & 0xFF, 0x12, 0x34)
    assert wires.command(5, count=1) == b"\0" and eeprom_word(nic, address // 2) == 0x0100, "writes are not enabled"
    wires.command(6)
    assert wires.command(5, count=1) == b"\2"
    wires.command(2, address >> 8, address & 0xFF, 0x12, 0x34)
    assert wires.command(5, count=1) == b"\0" and eeprom_word(nic, address // 2) == 0x3412
    assert wires.command(3, address >> 8, address & 0xFF, count=2) == b"\x12\x34"
    nic.reset()
    assert Registers(nic).RAH[0].read().RAH == 0x3412


def test_a_write_stays_within_its_page_of_the_eeprom(nic: Emulated82599) -> None:
    wires = EepromWires(nic)
    wires.command(6)
    wires.command(2, 0x02, 0x3E, 1, 2, 3, 4)  # the page is 0x200 to 0x23F
    assert wires.command(3, 0x02, 0x3E, count=4) == b"\1\2\xff\xff"
    assert wires.command(3, 0x02, 0x00, count=3) == b"\3\4\xff"


def test_without_a_request_the_eeprom_hears_nothing(nic: Emulated82599) -> None:
    wires = EepromWires(nic)
    wires.eec.update(EE_REQ=0)
    assert not wires.eec.read().EE_GNT and wires.command(3, 0, 0, count=2) == b"\0\0"


def test_an_eeprom_without_a_signature_is_not_present_and_gives_no_address(nic: Emulated82599) -> None:
    wires = EepromWires(nic)
    wires.command(6)
    wires.command(2, 0, 0, 0xFF, 0xFF)
    nic.reset()
    registers = Registers(nic)
    assert not registers.EEC.read().EE_PRES and not registers.RAH[0].read().AV


def test_the_chip_says_that_it_has_no_security_offload(nic: Emulated82599) -> None:
    registers = Registers(nic)
    for control, bit, status, off in (
        (registers.SECTXCTRL, "SECTX_DIS", registers.SECTXSTAT, "SECTX_OFF_DIS"),
        (registers.SECRXCTRL, "SECRX_DIS", registers.SECRXSTAT, "SECRX_OFF_DIS"),
    ):
        assert getattr(status.read(), off) == 1
        control.write(0)
        assert getattr(control.read(), bit) == 1


def test_no_phy_answers_on_mdio(nic: Emulated82599) -> None:
    registers = Registers(nic)
    take_phy(registers)
    for clause in ({"OPCODE": 3, "DEVADD": 1}, {"OPCODE": 2, "STCODE": 1}):
        registers.MSRWD.write(0x1234)
        for fast, ns in ((1, 2666), (0, 26666)):  # 64 bits at 24 and 2.4 MHz
            registers.HLREG0.update(MDCSPD=fast)
            registers.MSCA.write(PHYADD=1, MDICMD=1, **clause)
            nic.step(ns=ns)
            assert registers.MSCA.read().MDICMD
            nic.step(ns=1)
            assert not registers.MSCA.read().MDICMD
        assert registers.MSRWD.read() == 0xFFFF_1234


@pytest.mark.breaks_rules("mdio_access_awaited")
def test_mdio_carries_out_one_access_at_a_time(nic: Emulated82599) -> None:
    registers = Registers(nic)
    take_phy(registers)
    registers.MSCA.write(OPCODE=0, MDIADD=7, MDICMD=1)
    registers.MSCA.write(OPCODE=3, MDIADD=9, MDICMD=1)
    nic.step(ns=2667)
    assert (registers.MSCA.read().MDIADD, registers.MSCA.read().MDICMD, int(registers.MSRWD.read())) == (7, 0, 0)


def test_software_cannot_take_a_semaphore_that_the_firmware_holds(nic: Emulated82599) -> None:
    registers = Registers(nic)
    nic.firmware_takes(register=True, FW_FLASH_SM=1)
    for _ in range(2):
        assert registers.FWSM.read().FWSMBI and registers.SW_FW_SYNC.read() == 1 << 9
        registers.SWSM.read()
        registers.SWSM.update(SWESMBI=1)
        assert not registers.SWSM.read().SWESMBI
        nic.reset()  # the firmware keeps running
    nic.firmware_takes(FW_FLASH_SM=1)
    take_phy(registers)
    assert registers.SW_FW_SYNC.read() == 1 << 9 | 1 << 1, "software cannot release the firmware's bit"


@pytest.mark.breaks_rules(
    "director_init_awaited", "director_hash_first", "director_filter_leads_somewhere", "director_keys_first"
)
def test_commands_to_tables_complete_at_once(nic: Emulated82599) -> None:
    registers = Registers(nic)
    registers.IPSRXIDX.write(WRITE=1, TB_IDX=3)
    registers.FDIRCMD.write(CMD=1)
    registers.FDIRCTRL.write(PBALLOC=1)
    assert not registers.IPSRXIDX.read().WRITE
    assert not registers.FDIRCMD.read().CMD
    assert registers.FDIRCTRL.read().INIT_DONE


@pytest.mark.breaks_rules("unknown_register")
def test_a_repeated_violation_is_recorded_once(nic: Emulated82599) -> None:
    for value in range(100):
        nic.write32(0x1FFFC, value)
    assert len(nic.violations) == 1


def test_pci_status_shows_intx_and_pci_command_disables_it(nic: Emulated82599) -> None:
    """Drivers of shared INTx (uio_pci_generic, vfio-pci) use these bits (PCI 3.0 6.2.2, 6.2.3)."""
    registers, line = Registers(nic), os.eventfd(0, os.EFD_NONBLOCK)
    nic.connect_line(line)
    assert not nic.config_read(0x04, 4) & 1 << 19
    nic.config_write(0x04, 2, 0x406)
    registers.EIMS.write(LSC=1)
    registers.EICS.write(LSC=1)
    nic.step()
    assert nic.config_read(0x06, 2) & 8 and nic.config_read(0x04, 4) & 1 << 19
    with pytest.raises(BlockingIOError):
        os.eventfd_read(line)
    nic.config_write(0x04, 2, 0x006)
    assert os.eventfd_read(line) == 1
    registers.EICR.write(LSC=1)
    assert not nic.config_read(0x06, 2) & 8


@pytest.mark.breaks_rules("dma_read")
def test_a_refused_read_shows_in_pci_status_until_cleared() -> None:
    by_hand = ByHand("sink")
    try:
        assert not by_hand.nic.config_read(0x06, 2) & 0x2000
        by_hand.post(bytes(60), address=0xDEAD_0000)
        by_hand.kick()
        by_hand.nic.step()
        for offset, size, bit in ((0x04, 4, 29), (0x06, 2, 13), (0x07, 1, 5)):
            assert by_hand.nic.config_read(offset, size) >> bit & 1
        by_hand.nic.config_write(0x06, 2, 0x0008)
        assert by_hand.nic.config_read(0x07, 1) & 0x20
        by_hand.nic.config_write(0x06, 2, 0x2000)
        assert not by_hand.nic.config_read(0x07, 1) & 0x20
    finally:
        by_hand.close()


# ---- PCI configuration space ----


def test_the_extended_capabilities_are_error_reporting_serial_number_ari_and_sriov(nic: Emulated82599) -> None:
    found, at = {}, 0x100
    while at:
        header = nic.config_read(at, 4)
        found[at] = header & 0xFFFF, header >> 16 & 0xF
        at = header >> 20
    assert found == {0x100: (0x0001, 1), 0x140: (0x0003, 1), 0x150: (0x000E, 1), 0x160: (0x0010, 1)}
    assert nic.config_read(0x148, 4) == 0x028259FF and nic.config_read(0x144, 4) == 0xFF900001


def test_in_d3hot_the_nic_answers_only_configuration_accesses_and_reports_the_others(nic: Emulated82599) -> None:
    nic.config_write(0x44, 2, 3)
    assert nic.config_read(0x44, 2) & 3 == 3 and nic.config_read(0, 2) == 0x8086
    assert nic.read32(0x00008) == 0xFFFF_FFFF
    assert nic.config_read(0xAA, 2) == 0x9 and nic.config_read(0x104, 4) == 1 << 20
    assert nic.config_read(0x110, 4) == 1 << 13
    nic.write32(0x00200, 0)
    assert nic.config_read(0xAA, 2) == 0xB
    nic.config_write(0xAA, 2, 0x2)
    nic.config_write(0x104, 4, 1 << 4)
    assert nic.config_read(0xAA, 2) == 0x9 and nic.config_read(0x104, 4) == 1 << 20
    nic.config_write(0x104, 4, 1 << 20)
    assert nic.config_read(0x104, 4) == 0
    nic.config_write(0x44, 2, 0)
    assert nic.read32(0x00008) & 1 << 19
    assert nic.config_read(0x110, 4) == 1 << 13, "what was reported outlives the reset"


@pytest.mark.parametrize(("offset", "size", "value"), [(0xA8, 4, 0x8000), (0xA8, 2, 0x8000), (0xA9, 1, 0x80)])
def test_a_function_level_reset_may_be_written_in_any_size(
    nic: Emulated82599, offset: int, size: int, value: int
) -> None:
    Registers(nic).LEDCTL.write(0)
    nic.config_write(offset, size, value)
    assert int(Registers(nic).LEDCTL.read()) != 0


def test_the_way_from_d3hot_to_d0_resets_the_function() -> None:
    by_hand = ByHand("loop")
    try:
        nic, registers = by_hand.nic, by_hand.regs
        nic.config_write(0x44, 2, 3)
        nic.step()
        nic.config_write(0x44, 2, 0)
        assert nic.config_read(0x04, 2) == 0, "bus master is off"
        assert not registers.TXDCTL[0].read().ENABLE and not registers.RXCTRL.read().RXEN
        nic.config_write(0x04, 2, 6)
        registers.LEDCTL.write(0)
        for state in (0, 1, 2):  # D1 and D2 do not exist
            nic.config_write(0x44, 2, state)
            assert nic.config_read(0x44, 2) & 3 == 0
        assert int(registers.LEDCTL.read()) == 0 and nic.config_read(0x04, 2) == 6, "nothing was reset"
    finally:
        by_hand.close()
