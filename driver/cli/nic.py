"""`ixrings list`, `bind`, `unbind`, `doctor`: take a NIC from Linux for programs, and give it back."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from ixrings.hw.pci.binding import Bound, bind, unbind
from ixrings.hw.pci.discovery import FOR_PROGRAMS, Function, find_nics
from ixrings.hw.pci.doctor import examine
from ixrings.hw.pci.notes import remembered
from ixrings.hw.pci.usable import why_not

from ..names import pci_address

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

JSON_HELP = "print JSON instead"


def add(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("list", help="list every PCI NIC, and whether a program can use it")
    parser.set_defaults(run=run_list)
    parser.add_argument("--json", action="store_true", help=JSON_HELP)

    parser = subparsers.add_parser("bind", help="take a NIC from Linux, for programs")
    parser.set_defaults(run=run_bind)
    parser.add_argument("address", metavar="BDF", help="PCI address, such as 0000:03:00.0")
    parser.add_argument(
        "--driver",
        choices=FOR_PROGRAMS,
        default="vfio-pci",
        help="vfio-pci (default), or a UIO driver where there is no IOMMU",
    )
    parser.add_argument("--group", action="store_true", help="also take the other 82599s of its IOMMU group")
    parser.add_argument("--chown", metavar="USER", default="", help="let this user open the NIC without root")
    parser.add_argument(
        "--force",
        action="store_true",
        help="take it even if Linux uses it for an address or a route, or if its virtual functions are in use",
    )
    parser.add_argument("--json", action="store_true", help=JSON_HELP)

    parser = subparsers.add_parser("unbind", help="give a NIC back to Linux")
    parser.set_defaults(run=run_unbind)
    parser.add_argument("address", metavar="BDF")
    parser.add_argument("--json", action="store_true", help=JSON_HELP)

    parser = subparsers.add_parser(
        "doctor", help="check what prevents programs from using a NIC, and show how to fix it"
    )
    parser.set_defaults(run=run_doctor)
    parser.add_argument(
        "address", nargs="?", default="", metavar="BDF", help="check only this NIC (default: every 82599)"
    )
    parser.add_argument("--json", action="store_true", help=JSON_HELP)


def described(nic: Function) -> dict[str, object]:
    """A NIC for JSON."""
    reason = why_not(nic)
    return {
        "address": nic.address,
        "name": nic.name,
        "driver": nic.driver,
        "former_driver": remembered(nic.address).get("driver", ""),
        "netdevs": list(nic.netdevs),
        "link": nic.link,
        "iommu_group": nic.iommu_group,
        "group_members": list(nic.group_members),
        "numa_node": nic.numa_node,
        "physical_function": nic.physfn,
        "virtual_functions": list(nic.virtfns),
        "usable": not reason,
        "why_not": reason,
    }


def run_list(options: argparse.Namespace) -> int:
    nics = find_nics()
    if options.json:
        print(json.dumps([described(nic) for nic in nics], indent=2))
        return 0
    for nic in nics:
        print(f"{nic.address}  {nic.name}")
        linux = f"{', '.join(nic.netdevs)} ({nic.link})" if nic.netdevs else "no interface"
        group = "no IOMMU group" if nic.iommu_group is None else f"IOMMU group {nic.iommu_group}"
        beside = f" with {', '.join(nic.group_members)}" if nic.group_members else ""
        node = "" if nic.numa_node < 0 else f", NUMA node {nic.numa_node}"
        print(f"    {nic.driver or 'no driver'}, {linux}, {group}{beside}{node}")
        if nic.physfn:
            print(f"    virtual function of {nic.physfn}")
        if nic.virtfns:
            print(f"    has the virtual functions {', '.join(nic.virtfns)}")
        print(f"    {why_not(nic) or 'usable'}")
    if not nics:
        print('This machine has no PCI NIC. The emulated NIC needs none: open_port("emulated")')
    return 0


def run_bind(options: argparse.Namespace) -> int:
    done = bind(
        pci_address(options.address), options.driver, force=options.force, group=options.group, owner=options.chown
    )
    if options.json:
        print(
            json.dumps(
                [
                    {**described(each.function), "former_driver": each.former, "nodes": list(map(str, each.nodes))}
                    for each in done
                ],
                indent=2,
            )
        )
        return 0
    for each in done:
        print_bound(each, options.chown)
    return 0


def print_bound(bound: Bound, owner: str) -> None:
    nic = bound.function
    came = "was there already" if bound.former == nic.driver else f"{bound.former or 'no driver'} had it before"
    print(f"{nic.address} is bound to {nic.driver}; {came}. Give it back with: ixrings unbind {nic.address}")
    if owner:
        print(f"{owner} may open {', '.join(map(str, bound.nodes))}")
    reason = why_not(nic)
    if reason:
        print(f"Not usable yet: {reason}")


def run_unbind(options: argparse.Namespace) -> int:
    nic, netdev = unbind(pci_address(options.address))
    if options.json:
        print(json.dumps({**described(nic), "netdev": netdev}, indent=2))
    else:
        interface = f"; its interface is {netdev}" if netdev else ""
        print(f"{nic.address} is with {nic.driver or 'no driver'} again{interface}")
    return 0


def run_doctor(options: argparse.Namespace) -> int:
    """The exit status is 1 if something that is needed is missing."""
    checks = examine(pci_address(options.address) if options.address else "")
    if options.json:
        print(
            json.dumps(
                [
                    {
                        "name": each.name,
                        "ok": each.ok,
                        "needed": each.needed,
                        "text": each.text,
                        "mend": "" if each.ok else each.mend,
                    }
                    for each in checks
                ],
                indent=2,
            )
        )
    else:
        for each in checks:
            print(f"{'ok  ' if each.ok else 'BAD ' if each.needed else 'note'}  {each.name}: {each.text}")
            if not each.ok and each.mend:
                print(f"          {each.mend}")
    return int(any(each.needed and not each.ok for each in checks))
