"""`ixrings list`, `bind`, `unbind`, `vfs`, `doctor`: take a NIC from Linux for programs, and give it back."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ixrings.hw.pci import sriov
from ixrings.hw.pci.binding import Bound, bind, unbind
from ixrings.hw.pci.discovery import FOR_PROGRAMS, Function, find_nics, look_up
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

    parser = subparsers.add_parser("vfs", help="make virtual functions of a NIC that stays with Linux")
    parser.set_defaults(run=run_vfs)
    parser.add_argument("address", metavar="BDF", help="PCI address of the physical function")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--count", type=int, metavar="N", help="have N virtual functions (default: only list them)")
    what.add_argument("--undo", action="store_true", help="go back to the number before the first --count")
    parser.add_argument("--force", action="store_true", help="even if virtual functions that disappear are in use")
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
    for nic in under_their_pf(nics):
        print_nic(nic)
    if not nics:
        print('This machine has no PCI NIC. The emulated NIC needs none: open_port("emulated")')
    return 0


def under_their_pf(nics: Sequence[Function]) -> Iterator[Function]:
    """The NICs in the order of their addresses, but virtual functions after their physical function."""
    there = {nic.address: nic for nic in nics}
    for nic in nics:
        if nic.physfn not in there:
            yield nic
            yield from (there[address] for address in nic.virtfns if address in there)


def print_nic(nic: Function) -> None:
    indent = "    " if nic.physfn else ""
    linux = f"{', '.join(nic.netdevs)} ({nic.link})" if nic.netdevs else "no interface"
    group = "no IOMMU group" if nic.iommu_group is None else f"IOMMU group {nic.iommu_group}"
    beside = f" with {', '.join(nic.group_members)}" if nic.group_members else ""
    node = "" if nic.numa_node < 0 else f", NUMA node {nic.numa_node}"
    print(f"{indent}{nic.address}  {nic.name}")
    print(f"{indent}    {nic.driver or 'no driver'}, {linux}, {group}{beside}{node}")
    if nic.physfn:
        print(f"{indent}    virtual function of {nic.physfn}")
    if nic.virtfns:
        print(f"{indent}    has {len(nic.virtfns)} virtual function{'s' * (len(nic.virtfns) > 1)}")
    print(f"{indent}    {why_not(nic) or 'usable'}")


def run_vfs(options: argparse.Namespace) -> int:
    address = pci_address(options.address)
    if options.undo:
        nic = sriov.undo(address, force=options.force)
    elif options.count is not None:
        nic = sriov.make(address, options.count, force=options.force)
    else:
        nic = look_up(address)
        sriov.check_pf(nic, sriov.count_of(nic))
    vfs = [look_up(each) for each in nic.virtfns]
    if options.json:
        print(json.dumps([described(each) for each in vfs], indent=2))
        return 0
    print(f"{nic.address} has {len(vfs)} virtual function{'s' * (len(vfs) != 1)}")
    for each in vfs:
        print_nic(each)
    if vfs and options.count is not None:
        print(f"Take one with: ixrings bind {vfs[0].address}. Go back with: ixrings vfs {nic.address} --undo")
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
