"""port.sfp: the module's memory over the two-wire bus, and the semaphores that guard it."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator

import pytest

from ixrings import Port, open_port
from ixrings.driver import semaphores
from ixrings.driver.i2c import I2c
from ixrings.driver.sfp import Module, dbm, read_module, text
from ixrings.hw.emulator import Emulated82599
from ixrings.hw.emulator.blocks.sfp import SfpModule
from ixrings.hw.errors import DeviceError
from ixrings.hw.registers import Registers


@pytest.fixture
def nic() -> Iterator[Emulated82599]:
    with Emulated82599("sink", manual=True) as device:
        assert isinstance(device, Emulated82599)
        yield device


@pytest.fixture
def port(nic: Emulated82599) -> Iterator[Port]:
    with open_port(nic, link_timeout=0) as opened:
        yield opened


@pytest.mark.parametrize(
    ("kind", "types", "wavelength", "reach"),
    [
        (SfpModule.SR, ("10GBASE-SR",), 850, {"OM2 fibre": 80, "OM1 fibre": 30, "OM3 fibre": 300}),
        (SfpModule.LR, ("10GBASE-LR",), 1310, {"single mode fibre": 10_000}),
        (SfpModule.DIRECT_ATTACH, ("passive direct attach",), 0, {"copper cable": 3}),
    ],
)
def test_a_module_describes_itself(
    nic: Emulated82599, port: Port, kind: SfpModule, types: tuple[str, ...], wavelength: int, reach: dict[str, int]
) -> None:
    nic.insert_module(kind)
    module = port.sfp
    assert module is not None
    assert (module.types, module.wavelength_nm, dict(module.lengths_m)) == (types, wavelength, reach)
    assert (module.vendor, module.part, module.date) == (kind.value.vendor, kind.value.part, "2026-01-01")
    assert module.oui == kind.value.oui.hex(":")


def test_an_empty_cage_is_none(nic: Emulated82599, port: Port) -> None:
    nic.insert_module(None)
    assert port.sfp is None
    nic.insert_module(SfpModule.SR)
    assert port.sfp is not None


def light(port: Port) -> tuple[float, float] | None:
    """Power sent and received, in mW; None without diagnostics."""
    module = port.sfp
    assert module is not None
    return None if module.diagnostics is None else (module.diagnostics.tx_power_mw, module.diagnostics.rx_power_mw)


def test_optics_measure_the_light_and_copper_measures_nothing(nic: Emulated82599, port: Port) -> None:
    assert light(port) == pytest.approx((0.58, 0.51))
    nic.set_link(False)
    assert light(port) == pytest.approx((0.58, 0))
    port.nic.ESDP.update(SDP3_DATA=1)
    assert light(port) == (0, 0)
    nic.insert_module(SfpModule.DIRECT_ATTACH)
    assert light(port) is None


def write_memory(nic: Emulated82599, bytes_at: dict[int, int]) -> None:
    """Change bytes of the module's identity page."""
    assert nic._cage._module is not None
    for offset, value in bytes_at.items():
        nic._cage._module._pages[0xA0][offset] = value


def read(port: Port) -> Module:
    module = port.sfp
    assert module is not None
    return module


@pytest.mark.parametrize(("offset", "says"), [(19, "bytes 0 to 62 do not add up to byte 63"), (95, "bytes 64 to 94")])
def test_a_wrong_checksum_is_a_doubt_and_does_not_hide_the_vendor(
    nic: Emulated82599, port: Port, offset: int, says: str
) -> None:
    write_memory(nic, {offset: 0x42})
    module = read(port)
    assert module.vendor == "Intel Corp" and module.types == ("10GBASE-SR",)
    (doubt,) = module.doubts
    assert doubt.startswith(says)


@pytest.mark.parametrize(
    ("codes", "reach"),
    [({18: 40}, {"OM4 fibre": 400}), ({3: 0, 8: 8, 2: 0x0B, 18: 15}, {"fibre of its own": 15})],
)
def test_byte_18_is_the_reach_of_a_module_and_the_length_of_a_cable(
    nic: Emulated82599, port: Port, codes: dict[int, int], reach: dict[str, int]
) -> None:
    write_memory(nic, dict.fromkeys((16, 17, 19), 0) | codes)
    assert dict(read(port).lengths_m) == reach


def test_announced_measurements_that_are_missing_are_a_doubt(nic: Emulated82599, port: Port) -> None:
    assert nic._cage._module is not None
    del nic._cage._module._pages[0xA2]
    module = read(port)
    assert module.vendor == "Intel Corp" and module.diagnostics is None
    assert module.doubts == ("byte 92 announces measurements, but nothing answers at address 0xa2",)


@pytest.mark.parametrize("byte", [0x00, 0xFF])
def test_a_memory_without_content_is_an_error(nic: Emulated82599, port: Port, byte: int) -> None:
    write_memory(nic, dict.fromkeys(range(256), byte))
    with pytest.raises(DeviceError, match=f"every byte of its memory is {byte:#04x}"):
        _ = port.sfp


@pytest.mark.parametrize(
    ("codes", "types", "doubt"),
    [
        ({3: 0, 36: 0x16, 2: 0x22}, ("10GBASE-T",), ""),
        ({3: 0x10, 2: 0x22}, ("10GBASE-T",), "a guess from the connector; the codes give: 10GBASE-SR"),
        ({3: 0, 6: 0x08, 2: 0x22}, ("1000BASE-T",), ""),
        ({3: 0, 6: 0x01}, ("1000BASE-SX",), ""),
        ({3: 0, 8: 0x04, 2: 0x21}, ("passive direct attach",), ""),
        ({3: 0, 8: 0x08, 2: 0x21}, ("active direct attach",), ""),
        ({3: 0, 8: 0x08, 2: 0x0B, 36: 0x01}, ("active optical cable",), ""),
        ({3: 0x10, 2: 0x0B}, ("active optical cable",), "a guess from the connector; the codes give: 10GBASE-SR"),
        ({3: 0, 12: 103}, (), "the codes give no type; byte 12 gives a bit rate of 10.3 Gbit/s"),
    ],
)
def test_a_module_is_named_by_its_codes_and_a_guess_is_marked(
    nic: Emulated82599, port: Port, codes: dict[int, int], types: tuple[str, ...], doubt: str
) -> None:
    write_memory(nic, codes)
    module = read(port)
    assert module.types == types
    said = [each for each in module.doubts if "add up" not in each]
    assert len(said) == bool(doubt) and all(doubt in each for each in said)


def test_a_read_leaves_the_bus_and_the_semaphores_free(nic: Emulated82599, port: Port) -> None:
    for _ in range(2):
        assert port.sfp is not None
    assert int(port.nic.SW_FW_SYNC.read()) == 0 and port.nic.SWSM.read().SMBI == 0
    port.nic.SWSM.write(0)
    lines = port.nic.I2CCTL.read()
    assert (lines.I2C_CLK_IN, lines.I2C_DATA_IN) == (1, 1)
    assert nic.violations == []


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semaphores, "RESOURCE_S", 0.02)
    monkeypatch.setattr(semaphores, "SEMAPHORE_S", 0.02)


@pytest.mark.usefixtures("soon")
def test_the_wait_for_a_bus_that_the_firmware_keeps_is_bounded(nic: Emulated82599, port: Port) -> None:
    nic.firmware_takes(FW_PHY_SM0=1)
    with pytest.raises(DeviceError, match="the firmware has kept FW_PHY_SM0 for 0.02 s"):
        _ = port.sfp
    nic.firmware_takes(register=True)
    with pytest.raises(DeviceError, match="the firmware does not release SWSM.SWESMBI"):
        _ = port.sfp
    nic.firmware_takes()
    assert port.sfp is not None


@pytest.mark.usefixtures("soon")
def test_the_firmware_may_release_the_bus_in_time(
    nic: Emulated82599, port: Port, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(semaphores, "RESOURCE_S", 10)
    nic.firmware_takes(FW_PHY_SM0=1)
    threading.Timer(0.05, nic.firmware_takes).start()
    assert port.sfp is not None


@pytest.mark.usefixtures("soon")
def test_semaphores_of_a_program_that_died_are_taken_over(nic: Emulated82599, port: Port) -> None:
    registers = Registers(nic)
    with semaphores.register_semaphore(registers):
        registers.SW_FW_SYNC.update(SW_PHY_SM0=1)
    assert registers.SWSM.read().SMBI == 0, "released, and taken by this read"
    assert read_module(registers) is not None
    assert not registers.SW_FW_SYNC.read().SW_PHY_SM0 and not registers.SWSM.read().SMBI


def test_text_of_a_vendor_cannot_disturb_a_terminal() -> None:
    assert text(b"ACME\x1b[2J\xff  ") == "ACME?[2J?"
    assert dbm(1.0) == 0 and dbm(0.0) == -math.inf


@pytest.mark.parametrize("bits", range(9))
def test_an_interrupted_read_does_not_disturb_the_next_read(nic: Emulated82599, port: Port, bits: int) -> None:
    with semaphores.phy_of_port(port.nic):
        bus = I2c(port.nic)
        for step in (
            bus._start,
            lambda: bus._write(0xA0),
            lambda: bus._write(20),
            bus._start,
            lambda: bus._write(0xA1),
        ):
            step()
        for _ in range(bits):
            bus._bit(1)
        bus._stop()
    module = port.sfp
    assert module is not None and module.vendor == "Intel Corp"
