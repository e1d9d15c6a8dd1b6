"""`ixrings info`: a NIC's name, owner and link. A NIC that a driver owns is only read."""

from __future__ import annotations

import argparse
import json
from functools import partial
from typing import TYPE_CHECKING

from ixrings.hw.device import Device
from ixrings.hw.pci.discovery import ROOT, Function
from ixrings.hw.pci.sysfs import text_of
from ixrings.hw.rate import SPEEDS_MBPS
from ixrings.hw.registers import Registers, VfRegisters

from .. import filters
from ..link import read_link, setup_link, wait_link
from ..reset import wait_eeprom_auto_read
from .peek import LINK_S, Peek, RegistersHidden, peek

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("info", help="show a NIC's name, owner, address and link")
    parser.set_defaults(run=run_info)
    parser.add_argument("port", metavar="PORT", help="a port's name, such as 0000:03:00.0 or emulated")
    parser.add_argument("--json", action="store_true", help="print JSON instead")


def run_info(options: argparse.Namespace) -> int:
    try:
        with peek(options.port) as seen:
            facts = information(options.port, seen)
    except RegistersHidden as hidden:
        facts = linux_information(options.port, hidden)
    if options.json:
        print(json.dumps(facts, indent=2))
    else:
        for name, value in facts.items():
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            if shown not in ("", None):
                print(f"{name.replace('_', ' '):14} {shown}")
    return 0


def information(port: str, seen: Peek) -> dict[str, object]:
    """Facts from the NIC's registers."""
    vf = seen.vf
    if vf is not None:
        facts = {**vf_information(port, seen, vf), **memory(seen.device)}
        return {**facts, **on_the_bus(seen.function)} if seen.function else facts
    if seen.device is not None:
        seen.device.enable_bus_master(False)
        wait_eeprom_auto_read(seen.nic)
    facts = {
        "port": port,
        "name": seen.function.name if seen.function else "82599ES, emulated",
        "held_by": seen.holder,
        "mac": filters.read_mac(seen.nic).hex(":"),
        "link": link(seen),
        "virtual_functions": virtual_functions(seen.nic),
        **memory(seen.device),
    }
    return {**facts, **on_the_bus(seen.function)} if seen.function else facts


def virtual_functions(nic: Registers) -> str:
    """Their number, and how the queues are cut for them while a driver has set that up; "" without any."""
    count = nic.STATUS.read().NUM_VFS
    mode = nic.GCR_EXT.read().VT_MODE if count else 0
    if not mode:
        return str(count or "")
    return f"{count}, in {8 << mode} pools of {16 >> mode} queues"


def memory(device: Device | None) -> dict[str, object]:
    """Facts about a device that this program has opened."""
    if device is None:
        return {}
    pages = {
        True: "2 MiB hugepages",
        None: "2 MiB hugepages if there are enough, else plain pages",
        False: "plain pages",
    }
    return {"vectors": device.max_vectors, "dma_memory": pages[device.hugepages]}


def vf_information(port: str, seen: Peek, vf: VfRegisters) -> dict[str, object]:
    """Facts from the registers of a virtual function. Its address and its queues are the PF's answers to a port."""
    links = vf.VFLINKS.read()
    state = f"up, {SPEEDS_MBPS.get(links.SPEED, 0) / 1000:g} Gbit/s" if links.LINK_UP else "down"
    if seen.device is not None and vf.VFMAILBOX.read().RSTI:  # the read takes events from a driver
        state = "down: the PF is in reset, or its interface is down (VFMAILBOX.RSTI)"
    return {
        "port": port,
        "name": seen.function.name if seen.function else "82599 virtual function",
        "held_by": seen.holder,
        "physical_function": seen.function.physfn if seen.function else "",
        "link": state,
    }


def linux_information(port: str, hidden: RegistersHidden) -> dict[str, object]:
    """Facts from Linux, for a NIC whose registers cannot be read."""
    function = hidden.function
    mac = text_of(ROOT / "sys/class/net" / function.netdevs[0] / "address") if function.netdevs else ""
    return {
        "port": port,
        "name": function.name,
        "held_by": function.driver,
        "mac": mac,
        "link": function.link,
        "registers": str(hidden),
        **on_the_bus(function),
    }


def link(seen: Peek) -> str:
    """The link in words. If this program opened the NIC, wait for the training of the link."""
    if seen.device is not None:
        setup_link(seen.nic)  # opening the device has reset the link
        read = partial(read_link, seen.device, seen.nic)
        now = read()
        return str(now if now.up or seen.device.link_trouble() else wait_link(read, LINK_S))
    links = seen.nic.LINKS.read()  # one read: its driver must see a loss that is latched there
    return f"up, {SPEEDS_MBPS.get(links.SPEED, 0) / 1000:g} Gbit/s" if links.LINK_UP else "down"


def pcie(function: Function) -> str:
    """Speed and width of the slot's link. A virtual function reads 0 for both (Specification Update, erratum 35)."""
    speed, width = (text_of(function.path / f"current_link_{name}") for name in ("speed", "width"))
    return "not shown by a virtual function" if width == "0" else " x".join(filter(None, (speed, width)))


def on_the_bus(function: Function) -> dict[str, object]:
    """Facts about the PCI function."""
    return {
        "address": function.address,
        "driver": function.driver,
        "netdevs": list(function.netdevs),
        "iommu_group": function.iommu_group,
        "group_members": list(function.group_members),
        "numa_node": function.numa_node,
        "pcie": pcie(function),
    }
