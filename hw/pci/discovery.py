"""PCI functions as sysfs shows them: what they are, their drivers, interfaces and IOMMU groups.

`root` is always the directory that contains sys, proc, dev and run: "/", or a tree made for a test.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import DeviceError, NoSuchFunction
from .sysfs import entries_of, hex_of, target_of, text_of

ROOT = Path("/")
# The kernel prints a PCI domain with four digits or more: VMD, Hyper-V and clouds have larger ones.
ADDRESS = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")
INTEL = 0x8086
# Physical functions of the 82599 family. This driver supports those in SFP_PLUS, and virtual functions.
NAMES = {
    0x10D8: "82599 before its EEPROM is loaded",
    0x10F7: "82599 KX4",
    0x10F8: "82599 combined backplane",
    0x10F9: "82599 CX4",
    0x10FB: "82599ES SFI/SFP+",
    0x10FC: "82599 XAUI/BX4",
    0x1507: "82599 SFP+ EM",
    0x1514: "82599 KX4 mezzanine",
    0x1517: "82599 KR",
    0x151C: "82599 10GBASE-T",
    0x1529: "82599 SFP+ FCoE",
    0x152A: "82599 backplane FCoE",
    0x154A: "82599 quad SFP+",
    0x154D: "82599 SFP+ SF2",
    0x154F: "82599 LS",
    0x1557: "82599EN SFP+",
    0x1558: "82599 quad QSFP+",
}
SFP_PLUS = (0x10FB, 0x1507, 0x1529, 0x154A, 0x154D, 0x1557)
VIRTUAL_FUNCTION = 0x10ED
NETWORK_CLASS = 0x02
BRIDGE_CLASS = 0x0604
VFIO_DRIVERS = ("vfio-pci",)
UIO_DRIVERS = ("uio_pci_generic", "igb_uio")
FOR_PROGRAMS = (*VFIO_DRIVERS, *UIO_DRIVERS)
# Drivers that do no DMA of their own. Their functions may share a group with a function that a program has open
# (driver_managed_dma in the kernel).
HARMLESS_DRIVERS = (*VFIO_DRIVERS, "pci-stub", "pcieport")


@dataclass(frozen=True)
class Function:
    """One PCI function at the time of look_up().

    driver: "" if none. netdevs: its Linux interfaces. iommu_group: None without an IOMMU. iommu_type: of the group,
    "DMA", "DMA-FQ", "identity", "none" for VFIO's group without an IOMMU, "" if the kernel does not show it.
    group_members: addresses of the other functions in the group. numa_node: -1 if unknown. uio: "uio0" or "".
    vfio_cdev: "vfio0" or "". link: operstate and speed of the first interface in words, "" without an interface.
    physfn: of a virtual function, the address of its physical function; "" otherwise. virtfns: addresses of the virtual
    functions that a physical function has now.
    """

    address: str
    path: Path
    vendor: int
    device: int
    class_code: int
    driver: str
    netdevs: tuple[str, ...]
    iommu_group: int | None
    iommu_type: str
    group_members: tuple[str, ...]
    numa_node: int
    uio: str
    vfio_cdev: str
    link: str
    physfn: str = ""
    virtfns: tuple[str, ...] = ()

    @property
    def is_nic(self) -> bool:
        return self.class_code >> 16 == NETWORK_CLASS

    @property
    def is_82599(self) -> bool:
        """Whether it is a physical function of an 82599."""
        return self.vendor == INTEL and self.device in NAMES

    @property
    def is_virtual(self) -> bool:
        """Whether it is a virtual function of an 82599. In a guest it has no physfn."""
        return self.vendor == INTEL and self.device == VIRTUAL_FUNCTION

    @property
    def is_ours(self) -> bool:
        """Whether this driver opens functions of this kind."""
        return self.is_82599 or self.is_virtual

    @property
    def name(self) -> str:
        if self.vendor == INTEL and self.device in NAMES:
            return NAMES[self.device]
        if self.is_virtual:
            return "82599 virtual function"
        return f"{self.vendor:04x}:{self.device:04x}"

    @property
    def harmless(self) -> bool:
        """Whether its group is viable although the function is in it: no driver of the host makes it do DMA."""
        return not self.driver or self.driver in HARMLESS_DRIVERS or self.class_code >> 8 == BRIDGE_CLASS


def look_up(address: str, root: Path = ROOT) -> Function:
    """The function at `address`, such as 0000:03:00.0. Raises NoSuchFunction."""
    path = root / "sys/bus/pci/devices" / address
    if not ADDRESS.fullmatch(address) or not path.exists():
        raise NoSuchFunction(f"there is no PCI device {address}. Run: ixrings list")
    group, kind, members = group_of(path)
    netdevs = tuple(sorted(netdev for folder in (path, *path.glob("virtio*")) for netdev in entries_of(folder / "net")))
    return Function(
        address,
        path,
        hex_of(path / "vendor"),
        hex_of(path / "device"),
        hex_of(path / "class"),
        target_of(path / "driver"),
        netdevs,
        group,
        kind,
        tuple(sorted(set(members) - {address})),
        int(text_of(path / "numa_node") or -1),
        next(iter(sorted(entries_of(path / "uio"))), ""),
        next(iter(sorted(entries_of(path / "vfio-dev"))), ""),
        link_state(root / "sys/class/net" / netdevs[0]) if netdevs else "",
        target_of(path / "physfn"),
        virtual_functions(path),
    )


def virtual_functions(path: Path) -> tuple[str, ...]:
    """Addresses behind the links virtfn0, virtfn1 and so on of a physical function, in the order of their numbers."""
    links = [name for name in entries_of(path) if name.removeprefix("virtfn").isdigit() and name.startswith("virtfn")]
    return tuple(target_of(path / name) for name in sorted(links, key=lambda name: int(name.removeprefix("virtfn"))))


def check_is_82599(function: Function) -> None:
    """Raises DeviceError if the function is neither an 82599 nor a virtual function of one."""
    if not function.is_ours:
        what = "a NIC, but not an 82599" if function.is_nic else "not a NIC"
        raise DeviceError(
            f"{function.address} is {what}: it is {function.name}, class {function.class_code >> 8:04x}. "
            "Run: ixrings list"
        )


def find_nics(root: Path = ROOT) -> list[Function]:
    """Every PCI function that is a network controller, in the order of addresses: domains by number."""
    found = []
    for address in sorted(entries_of(root / "sys/bus/pci/devices"), key=lambda text: (len(text), text)):
        try:
            function = look_up(address, root)
        except NoSuchFunction:  # removed since the directory was read
            continue
        if function.is_nic:
            found.append(function)
    return found


def group_blockers(function: Function, root: Path = ROOT) -> list[Function]:
    """Functions of the same IOMMU group with a host driver. It has to be detached before a program opens the group."""
    return [member for member in members(function, root) if not member.harmless]


def members(function: Function, root: Path = ROOT) -> Iterator[Function]:
    """The other functions of its IOMMU group."""
    for address in function.group_members:
        try:
            yield look_up(address, root)
        except NoSuchFunction:
            continue


def group_of(path: Path) -> tuple[int | None, str, list[str]]:
    """Number, type and members of the IOMMU group; None, "" and [] without one."""
    number = target_of(path / "iommu_group")
    if not number.isdigit():
        return None, "", []
    made_up = text_of(path / "iommu_group/name") == "vfio-noiommu"
    return (
        int(number),
        "none" if made_up else text_of(path / "iommu_group/type"),
        entries_of(path / "iommu_group/devices"),
    )


def link_state(netdev: Path) -> str:
    """operstate of an interface, with its speed if it is up."""
    state = text_of(netdev / "operstate") or "unknown"
    speed = text_of(netdev / "speed")
    return f"{state}, {int(speed) / 1000:g} Gbit/s" if state == "up" and speed.isdigit() else state
