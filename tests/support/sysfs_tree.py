"""A simulated machine: the files of sys, proc, dev and run that hw/pci reads, and a kernel that reacts to writes."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

IXGBE = ("ixgbe", 0x8086, 0x10FB)


class Machine:
    """Pass `root` to functions of hw. A driver is a directory, and the `driver` link of a function points to it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.refuses: set[tuple[str, str]] = set()  # (driver, address): the probe fails
        self.knows: dict[str, str] = {}  # address to the driver that takes the function without driver_override
        self.netdevs: dict[str, str] = {}
        self.bus_ends_after = 63  # virtual functions whose numbers fit below the bridge
        for folder in (
            "sys/bus/pci/devices",
            "sys/bus/pci/drivers",
            "sys/class/net",
            "proc/net",
            "dev/vfio",
            "run",
            "sys/kernel/iommu_groups",
        ):
            (root / folder).mkdir(parents=True)
        for driver in ("ixgbe", "vfio-pci", "uio_pci_generic", "tg3", "pcieport"):
            (root / "sys/bus/pci/drivers" / driver).mkdir()
        (root / "dev/vfio/vfio").touch()

    def add(
        self,
        address: str,
        *,
        driver: str = "ixgbe",
        vendor: int = 0x8086,
        device: int = 0x10FB,
        class_code: int = 0x020000,
        group: int | None = 12,
        kind: str = "DMA-FQ",
        netdev: str = "",
        speed: str = "10000",
        numa: int = 0,
    ) -> Path:
        path = self.root / "sys/devices/pci0000:00" / address
        path.mkdir(parents=True)
        (self.root / "sys/bus/pci/devices" / address).symlink_to(path)
        for name, text in (
            ("vendor", f"{vendor:#06x}"),
            ("device", f"{device:#06x}"),
            ("class", f"{class_code:#08x}"),
            ("numa_node", str(numa)),
            ("modalias", "pci:v00008086"),
            ("driver_override", "(null)"),
        ):
            (path / name).write_text(f"{text}\n")
        if group is not None:
            folder = self.root / "sys/kernel/iommu_groups" / str(group)
            (folder / "devices").mkdir(parents=True, exist_ok=True)
            (folder / "type").write_text(f"{kind}\n")
            (folder / "devices" / address).symlink_to(path)
            (path / "iommu_group").symlink_to(folder)
        self.knows[address] = driver
        if netdev:
            self.netdevs[address] = netdev
            folder = self.root / "sys/class/net" / netdev
            folder.mkdir()
            (folder / "operstate").write_text("up\n")
            (folder / "speed").write_text(f"{speed}\n")
        if driver:
            self._attach(address, driver)
        return path

    def driver(self, address: str) -> str:
        link = self.root / "sys/bus/pci/devices" / address / "driver"
        return os.path.basename(os.readlink(link)) if link.is_symlink() else ""

    def act(self, file: Path, text: str) -> None:
        """React as the kernel does when `text` is written to a file of sysfs."""
        if file.name == "unbind":
            self._detach(text)
        elif file.name == "drivers_probe":
            self._probe(text)
        elif file.name == "sriov_numvfs":
            self._set_vfs(file.parent, int(text))

    def give_sriov(self, address: str, total: int = 64) -> None:
        """Let the function have virtual functions."""
        path = (self.root / "sys/bus/pci/devices" / address).resolve()
        for name, number in (("totalvfs", total), ("numvfs", 0), ("drivers_autoprobe", 1)):
            (path / f"sriov_{name}").write_bytes(f"{number}\n".encode())

    def _set_vfs(self, path: Path, count: int) -> None:
        """As pci_enable_sriov(): another number only after 0, and only as many as bus numbers are left for."""
        now = int((path / "sriov_numvfs").read_text())
        if now and count:
            raise OSError(errno.EBUSY, "Device or resource busy", "sriov_numvfs")
        if count > self.bus_ends_after:
            raise OSError(errno.ENOMEM, "Cannot allocate memory", "sriov_numvfs")
        for number in range(now):
            link = path / f"virtfn{number}"
            gone = link.resolve()
            (self.root / "sys/bus/pci/devices" / gone.name).unlink()
            shutil.rmtree(self.root / "sys/kernel/iommu_groups" / str(20 + number))
            shutil.rmtree(gone)
            link.unlink()
        autoprobe = (path / "sriov_drivers_autoprobe").read_text().strip() == "1"
        for number in range(count):
            made = self.add(
                f"0000:03:{0x10 + number // 4:02x}.{2 * (number % 4)}",
                device=0x10ED,
                group=20 + number,
                driver="ixgbe" if autoprobe else "",
            )
            (path / f"virtfn{number}").symlink_to(made)
            (made / "physfn").symlink_to(path)
        (path / "sriov_numvfs").write_bytes(f"{count}\n".encode())

    def _probe(self, address: str) -> None:
        override = (self.root / "sys/bus/pci/devices" / address / "driver_override").read_text().strip()
        driver = override if override not in ("", "(null)") else self.knows[address]
        if self.driver(address) or not driver:
            return
        if (driver, address) in self.refuses:
            raise OSError(errno.EINVAL, "Invalid argument", "drivers_probe")
        self._attach(address, driver)

    def _attach(self, address: str, driver: str) -> None:
        path = self.root / "sys/bus/pci/devices" / address
        (path / "driver").symlink_to(self.root / "sys/bus/pci/drivers" / driver)
        if driver == "vfio-pci":
            (self.root / "dev/vfio" / os.path.basename(os.readlink(path / "iommu_group"))).touch()
        elif driver == "uio_pci_generic":
            (path / "uio/uio0").mkdir(parents=True)
            (self.root / "dev/uio0").touch()
        elif address in self.netdevs:
            (path / "net" / self.netdevs[address]).mkdir(parents=True)

    def _detach(self, address: str) -> None:
        path = self.root / "sys/bus/pci/devices" / address
        (path / "driver").unlink()
        for folder in ("net", "uio"):
            shutil.rmtree(path / folder, ignore_errors=True)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The simulated machine, whose kernel reacts to Path.write_text."""
    made = Machine(tmp_path)
    write = Path.write_text

    def written(self: Path, data: str, *arguments: Any, **options: Any) -> int:
        if self.name in ("unbind", "drivers_probe", "sriov_numvfs"):
            made.act(self, data.strip())
            return len(data)
        return write(self, data, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", written)
    return made
