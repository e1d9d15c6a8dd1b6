"""UIO and hugepages. The device files are plain files here, so that a test can inspect and change them."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

import pytest

from ixrings import open_port
from ixrings.driver.bringup import region_memory
from ixrings.driver.opening import hugepages
from ixrings.hw.device import Device, DmaMapping
from ixrings.hw.emulator import Emulated82599
from ixrings.hw.errors import DeviceError, DmaError
from ixrings.hw.memory import physical
from ixrings.hw.memory.hugepages import HUGEPAGE, free_hugepages, make_memfd
from ixrings.hw.uio import INTX_DISABLE, UioDevice
from ixrings.rings import Region
from tests.support.sysfs_tree import Machine

A = "0000:03:00.0"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can read physical addresses")
needs_hugepages = pytest.mark.usefixtures("some_hugepages")


def add(machine: Machine) -> Path:
    path = machine.add(A, driver="uio_pci_generic", group=None)
    (path / "resource0").write_bytes(bytes(0x80000))
    (path / "config").write_bytes(bytes.fromhex("8680fb10") + bytes(252))
    (path / "reset").touch()
    (machine.root / "dev/uio0").unlink()
    os.mkfifo(machine.root / "dev/uio0")
    return path


def command(path: Path) -> int:
    return int.from_bytes((path / "config").read_bytes()[4:6], "little")


@as_root
def test_registers_are_the_bytes_of_resource0(machine: Machine) -> None:
    path = add(machine)
    with UioDevice(A, machine.root) as nic:
        nic.write32(0x42A0, 0x1234_5678)
        assert (path / "resource0").read_bytes()[0x42A0:0x42A8] == bytes.fromhex("78563412 00000000")
        assert nic.read32(0x42A0) == 0x1234_5678
        ctypes.c_uint32.from_address(nic.doorbell(0x6018)).value = 77
        assert nic.read32(0x6018) == 77
        for wrong in (0x42A2, -4, 0x20000):
            with pytest.raises(ValueError, match="none at"):
                nic.read32(wrong)
        with pytest.raises(ValueError, match="not a tail register"):
            nic.doorbell(0x42A0)


@as_root
def test_bus_master_is_on_only_while_the_driver_enables_it(machine: Machine) -> None:
    path = add(machine)
    (path / "config").write_bytes(bytes.fromhex("8680fb10 0704") + bytes(250))  # a former program left bus master on
    with UioDevice(A, machine.root) as nic:
        assert command(path) & 0x7 == 0x3
        nic.enable_bus_master(True)
        assert command(path) & 0x6 == 0x6
    assert command(path) & 0x4 == 0


@as_root
def test_the_line_is_unmasked_in_configuration_space(machine: Machine) -> None:
    path = add(machine)
    with UioDevice(A, machine.root) as nic:
        (fd,) = nic.enable_interrupts(3)
        assert not command(path) & INTX_DISABLE
        (path / "config").write_bytes(bytes.fromhex("8680fb10 0604") + bytes(250))  # as the kernel does at an interrupt
        nic.rearm_line()
        assert not command(path) & INTX_DISABLE
        nic.disable_interrupts()
        assert command(path) & INTX_DISABLE and fd >= 0


@as_root
def test_a_second_program_is_refused(machine: Machine) -> None:
    add(machine)
    with UioDevice(A, machine.root):
        with pytest.raises(DeviceError, match="in use by .*one program at a time"):
            UioDevice(A, machine.root)
    UioDevice(A, machine.root).close()


@as_root
def test_a_closed_device_refuses_accesses_and_close_is_idempotent(machine: Machine) -> None:
    add(machine)
    nic = UioDevice(A, machine.root)
    nic.close()
    nic.close()
    with pytest.raises(DeviceError, match=f"uio:{A} is closed"):
        nic.read32(0)


def test_a_function_behind_a_translating_iommu_is_refused(machine: Machine) -> None:
    machine.add(A, driver="uio_pci_generic", kind="DMA-FQ")
    with pytest.raises(
        DeviceError,
        match=r"the IOMMU translates for 0000:03:00\.0 \(group 12, type DMA-FQ\).*ixrings bind .* --driver vfio-pci",
    ):
        UioDevice(A, machine.root)


@pytest.mark.parametrize(("driver", "says"), [("ixgbe", "its driver is ixgbe"), ("", "it has no driver")])
def test_a_nic_without_a_uio_driver_is_refused_and_the_error_has_the_command(
    machine: Machine, driver: str, says: str
) -> None:
    machine.add(A, driver=driver, group=None)
    with pytest.raises(DeviceError, match=f"{says}. Run: ixrings bind {A} --driver uio_pci_generic"):
        UioDevice(A, machine.root)


def test_a_virtual_function_has_no_line_for_uio(machine: Machine) -> None:
    machine.add(A, device=0x10ED, driver="uio_pci_generic", group=None)
    with pytest.raises(DeviceError, match=f"is a virtual function.* Run: ixrings bind {A} --driver vfio-pci"):
        UioDevice(A, machine.root)


def test_a_bar_that_is_too_small_is_refused(machine: Machine) -> None:
    (add(machine) / "resource0").write_bytes(bytes(4096))
    with pytest.raises(DeviceError, match=r"BAR0 has 4096 bytes"):
        UioDevice(A, machine.root)


# ---- physical addresses ----


def test_hidden_physical_addresses_are_reported(tmp_path: Path) -> None:
    pagemap = tmp_path / "pagemap"
    pagemap.write_bytes((1 << 63).to_bytes(8, "little") * 8)
    with pytest.raises(DmaError, match="hides physical addresses: reading them needs CAP_SYS_ADMIN"):
        physical.physical_address(4096, pagemap)
    pagemap.write_bytes(bytes(64))
    with pytest.raises(DmaError, match="not in memory"):
        physical.physical_address(4096, pagemap)
    pagemap.write_bytes(b"")
    with pytest.raises(DmaError, match="Run as root"):
        physical.physical_address(4096, pagemap)
    pagemap.write_bytes(b"".join(((1 << 63) + frame).to_bytes(8, "little") for frame in (5, 6, 7)))
    assert physical.physical_address(4096 + 17, pagemap) == 6 * 4096


def test_plain_pages_are_refused_for_dma_by_physical_address() -> None:
    fd, _ = make_memfd("test", 4096, False)
    try:
        with pytest.raises(DmaError, match="must be on hugepages.*nr_hugepages"):
            physical.map_physical("uio:x", fd, 0, 4096)
    finally:
        os.close(fd)


@pytest.mark.skipif(free_hugepages() > 0, reason="this machine has hugepages")
def test_missing_hugepages_are_reported_with_their_number_and_a_command() -> None:
    with pytest.raises(DmaError, match=r"3 hugepages of 2 MiB are needed.*nr_hugepages"):
        Region.for_ports(memory=region_memory(True))
    with pytest.raises(DmaError, match=r"1 hugepages of 2 MiB are needed and 0 are free"):
        make_memfd("test", 4096, True)
    with pytest.raises(DmaError, match=r"(\d\d\d) hugepages of 2 MiB are needed.* Run: echo \1 \| sudo tee"):
        Region.for_ports(tx_slots=8192, rx_slots=8192, tx_rings=13, memory=region_memory(True))
    with Region.for_ports(memory=region_memory(None)) as region:
        assert region.page_size == 4096


@as_root
@needs_hugepages
def test_a_region_on_hugepages_has_whole_pages_with_known_physical_addresses() -> None:
    with Region.for_ports(memory=region_memory(True)) as region:
        assert region.page_size == HUGEPAGE and region.size % HUGEPAGE == 0 and region.address % HUGEPAGE == 0
        mapping = physical.map_physical("uio:x", region.fd, region.address, region.size)
        places = [mapping.bus_address(offset) for offset in range(0, region.size, HUGEPAGE)]
        assert len(set(places)) == region.size // HUGEPAGE and all(place and place % HUGEPAGE == 0 for place in places)


class OnHugepages(Emulated82599):
    """An 82599 that takes hugepages if enough are free, as VfioDevice does."""

    hugepages = None


@needs_hugepages
def test_descriptor_rings_of_a_port_share_one_hugepage() -> None:
    nic = OnHugepages("loop")
    with nic:
        before = free_hugepages()
        with open_port(nic, promiscuous=True, tx_queues=4, rx_queues=4, tx_slots=64, rx_slots=64) as port:
            assert port.memory == "2 MiB hugepages"
            assert before - free_hugepages() == port.region.size // HUGEPAGE + 1
            port.send([bytes(60)])
            assert next(port.recv(timeout=30)) == bytes(60)
        assert nic.faults == []
    assert free_hugepages() == before


def test_a_port_reports_the_pages_of_its_memory() -> None:
    with open_port("emulated") as port:
        assert port.memory == "4 KiB pages"


def test_ports_of_real_nics_take_hugepages_and_ports_of_emulated_ones_do_not() -> None:
    class Needs(Emulated82599):
        hugepages = True

    with Needs("sink") as nic:
        ports: list[list[str | Device]] = [["emulated"], ["emulated", A], ["vfio:" + A], [A, nic]]
        assert [hugepages(names) for names in ports] == [False, None, None, True]


class Counting(Emulated82599):
    """Counts the windows that it maps."""

    mapped = 0

    def map_dma(self, fd: int, address: int, size: int) -> DmaMapping:
        self.mapped += 1
        return super().map_dma(fd, address, size)


def test_each_ring_on_plain_pages_has_its_own_window() -> None:
    nic = Counting("sink")
    with nic:
        parts = [nic.alloc_dma(size) for size in (4096, 8192, 100)]
        assert nic.mapped == 3
        assert [part.size for part in parts] == [4096, 8192, 4096]
        for part in parts:
            part.release()
            part.release()


@pytest.mark.parametrize(("mode", "says"), [("integrity", "locked down"), ("none", "A container or a security module")])
def test_a_lockdown_is_blamed_for_a_refusal_only_if_the_kernel_shows_one(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, mode: str, says: str
) -> None:
    add(machine)
    (machine.root / "sys/kernel/security").mkdir()
    (machine.root / "sys/kernel/security/lockdown").write_text(
        "none integrity confidentiality\n".replace(mode, f"[{mode}]")
    )

    def refused(*_: object) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "pwrite", refused)
    with pytest.raises(DeviceError, match=f"{says}.*ixrings bind .* --driver vfio-pci"):
        UioDevice(A, machine.root)
