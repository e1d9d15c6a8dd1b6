"""`ixrings info`, `regs`, `stats`: a NIC looked at from outside. One that a driver has is only read, and nothing with an effect."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw.pci import ROOT, Function, text_of
from hw.register import Access, DeviceError, Row
from hw.registers import COUNTERS, Registers

from . import filters
from .errors import PortError
from .link import SPEEDS_MBPS, read_link, setup_link, wait_link
from .peek import Peek, RegistersHidden, peek
from .reset import wait_eeprom_auto_read
from .statistics import RX_QUEUE, TX_QUEUE, Counter, port_counters, queue_counters, read_counter

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

LINK_S = 5.0  # for a link to come up, before it is called down
PORT_HELP = "a port's name, such as 0000:03:00.0 or emulated"


def add(subparsers: Subparsers) -> None:
    for name, run, text in (("info", run_info, "what a NIC is, who has it, and its link"), ("regs", run_regs, "its registers, with their fields"),
                            ("stats", run_stats, "its counters")):
        parser = subparsers.add_parser(name, help=text)
        parser.set_defaults(run=run)
        parser.add_argument("port", metavar="PORT", help=PORT_HELP)
        if name == "regs":
            parser.add_argument("names", metavar="NAME", nargs="*", help="registers of these names, arrays with all their entries (default: all, of arrays what "
                                "differs from its reset value)")
        if name == "stats":
            parser.add_argument("--all", action="store_true", help="also counters that are zero")
        parser.add_argument("--json", action="store_true", help="print JSON instead")


# ---- info ----


def run_info(options: argparse.Namespace) -> int:
    try:
        with peek(options.port) as seen:
            facts = information(options.port, seen)
    except RegistersHidden as hidden:
        facts = what_linux_says(options.port, hidden)
    if options.json:
        print(json.dumps(facts, indent=2))
    else:
        for name, value in facts.items():
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            if shown not in ("", None):
                print(f"{name.replace('_', ' '):14} {shown}")
    return 0


def information(port: str, seen: Peek) -> dict[str, object]:
    if seen.device is not None:
        seen.device.enable_bus_master(False)
        wait_eeprom_auto_read(seen.nic)
    facts: dict[str, object] = {"port": port, "name": seen.function.name if seen.function else "82599ES, emulated", "held_by": seen.holder,
                                "mac": filters.read_mac(seen.nic).hex(":"), "link": link(seen)}
    if seen.device is not None:
        facts["vectors"] = seen.device.max_vectors
        facts["dma_memory"] = {True: "2 MiB hugepages", None: "2 MiB hugepages if there are enough, else plain pages", False: "plain pages"}[seen.device.hugepages]
    return {**facts, **on_the_bus(seen.function)} if seen.function else facts


def what_linux_says(port: str, hidden: RegistersHidden) -> dict[str, object]:
    function = hidden.function
    mac = text_of(ROOT / "sys/class/net" / function.netdevs[0] / "address") if function.netdevs else ""
    return {"port": port, "name": function.name, "held_by": function.driver, "mac": mac, "link": function.link, "registers": str(hidden),
            **on_the_bus(function)}


def link(seen: Peek) -> str:
    if seen.device is not None:
        setup_link(seen.nic)  # opening it has reset it
        now = read_link(seen.device, seen.nic)
        return str(now if now.up or seen.device.link_trouble() else wait_link(seen.device, seen.nic, LINK_S))
    links = seen.nic.LINKS.read()  # once: a loss that is latched there is its driver's to find
    return f"up, {SPEEDS_MBPS.get(links.SPEED, 0) / 1000:g} Gbit/s" if links.LINK_UP else "down"


def on_the_bus(function: Function) -> dict[str, object]:
    return {"address": function.address, "driver": function.driver, "netdevs": list(function.netdevs), "iommu_group": function.iommu_group,
            "group_members": list(function.group_members), "numa_node": function.numa_node,
            "pcie": " x".join(filter(None, (text_of(function.path / "current_link_speed"), text_of(function.path / "current_link_width"))))}


# ---- regs ----


def run_regs(options: argparse.Namespace) -> int:
    rows = {row.name: row for row in Registers.rows()}
    unknown = [name for name in options.names if name not in rows]
    if unknown:
        raise PortError(f"the 82599 has no register {unknown[0]} that is known here; ixrings regs {options.port} lists them")
    with peek(options.port) as seen:
        if seen.device is None:
            refuse_effects([rows[name] for name in options.names], seen.holder)
        found = list(values(seen.nic, [rows[name] for name in options.names], rows.values()))
    if options.json:
        print(json.dumps({"port": options.port, "held_by": seen.holder, "registers": found}, indent=2))
    else:
        for entry in found:
            print(f"{entry['offset']}  {entry['name']:16} {entry['value']:#010x}  {entry['text']}".rstrip())
    return 0


def refuse_effects(rows: list[Row[Any]], holder: str) -> None:
    for row in rows:
        if row.access.read_has_effect:
            raise DeviceError(f"{row.name} is {row.access.value}, and {holder} has the NIC: reading it would take from its driver what it counts on")


def values(nic: Registers, named: list[Row[Any]], every: Any) -> Iterator[dict[str, Any]]:
    """Named registers whatever they are; of the others what can be read without effect, of arrays what is not at its reset value."""
    for row in named or [row for row in every if not row.access.read_has_effect]:
        if row.access is Access.WO:
            continue
        for index in range(row.count):
            value = row.layout(nic.space.read32(row.offset(index)))
            if named or row.count == 1 or value != row.reset:
                yield {"name": row.label(index), "offset": f"{row.offset(index):#07x}", "value": int(value), "text": value.describe(),
                       "section": row.section}


# ---- stats ----


def read_counts(seen: Peek) -> tuple[dict[str, int], str]:
    """And whose counts they are, in words. Raises DeviceError."""
    if seen.device is not None:
        return hardware_counts(seen.nic), "the NIC's counters, cleared by being read"
    if seen.function is not None and seen.function.netdevs:
        return linux_counts(seen.function)
    raise DeviceError(f"{seen.holder} has the NIC, and its counters are cleared by being read: ask that program (port.stats())")


def linux_counts(function: Function) -> tuple[dict[str, int], str]:
    return kernel_counts(function.netdevs[0]), f"Linux's counts for {function.netdevs[0]}"


def run_stats(options: argparse.Namespace) -> int:
    try:
        with peek(options.port) as seen:
            counts, source = read_counts(seen)
    except RegistersHidden as hidden:
        if not hidden.function.netdevs:
            raise
        counts, source = linux_counts(hidden.function)
    if options.json:
        print(json.dumps({"port": options.port, "source": source, "counts": counts}, indent=2))
        return 0
    print(f"{options.port}: {source}")
    for name, count in counts.items():
        if count or options.all:
            print(f"{count:20,}  {name}")
    return 0


def hardware_counts(nic: Registers) -> dict[str, int]:
    """Port counters under the datasheet's names, queue counters with their set: QPRC[0]."""
    counts = {name: sum(read_counter(nic, each) for each in counters) for name, counters in port_counters().items()}
    for number in range(COUNTERS):
        queue: dict[str, Counter] = {**queue_counters(RX_QUEUE, number), **queue_counters(TX_QUEUE, number)}
        counts.update({f"{name}[{number}]": read_counter(nic, counter) for name, counter in queue.items()})
    return counts


def kernel_counts(netdev: str) -> dict[str, int]:
    folder = Path("/sys/class/net") / netdev / "statistics"
    return {file.name: int(text_of(file) or 0) for file in sorted(folder.iterdir())}
