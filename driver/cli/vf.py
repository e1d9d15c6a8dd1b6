"""`ixrings vf`: what `ip link set eth0 vf 0 ...` does on a host with Linux, for a running `ixrings emulate --vf`.

Without options: show the PF and its virtual functions.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from typing import Any

from ..arguments import checked, whole
from .agent_socket import API, Link

EPILOG = """\
DIR is that of `ixrings emulate --vf N --socket DIR`. The options have the names and the effects of `ip link`: a VF sees
an address that the host chose (--mac) after its next reset, --trust and --state make it reset itself, and a VLAN of the
host (--vlan) refuses those that the VF asks for. Linux accepts `--state enable` and does nothing.

  ixrings vf DIR                                   show everything
  ixrings vf DIR 0 --mac 02:00:00:00:00:05 --vlan 5 --trust on
  ixrings vf DIR --pf down                         as `ip link set eth0 down`
  ixrings vf DIR --pf dpdk --api 1.2               another driver takes the PF
  ixrings vf DIR --fault pf-silent                 break it, and --mend pf-silent (hw/emulator/FAULTS.md)
"""
DRIVERS = ("linux", "dpdk")


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "vf",
        help="show and set the virtual functions of a running `ixrings emulate`",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("folder", metavar="DIR", help="the directory with the sockets")
    parser.add_argument("vf", nargs="?", type=whole(0, 62), metavar="N", help="the number of a virtual function")
    one = parser.add_argument_group("one virtual function, as ip link set PF vf N ...")
    one.add_argument("--mac", metavar="MAC", help="its address; 00:00:00:00:00:00: the VF chooses")
    one.add_argument("--vlan", type=whole(0, 4094), metavar="VID", help="all its frames are in this VLAN; 0: none")
    one.add_argument("--qos", type=whole(0, 7), metavar="N", help="the priority in the tag of this VLAN")
    one.add_argument("--spoofchk", type=SWITCH, metavar="on|off", help="drop frames with another source address")
    one.add_argument("--trust", type=SWITCH, metavar="on|off", help="it may change its address, and receive more")
    one.add_argument("--state", choices=("auto", "enable", "disable"), help="its link")
    one.add_argument(
        "--max-tx-rate", type=whole(0), metavar="MBIT", help="11 to 10000 Mbit/s for each of its queues; 0: no limit"
    )
    one.add_argument("--min-tx-rate", type=whole(0), metavar="MBIT", help="0; the 82599 guarantees no rate")
    one.add_argument("--query-rss", type=SWITCH, metavar="on|off", help="it may read RETA and the RSS key")
    pf = parser.add_argument_group("the PF and its driver")
    pf.add_argument(
        "--pf",
        choices=("up", "down", "reset", *DRIVERS),
        help="the interface goes up or down, or resets itself; linux, dpdk: another driver takes the PF, and knows "
        "nothing of what was set",
    )
    pf.add_argument("--api", choices=tuple(API), help="with --pf linux or dpdk: the newest mailbox API of this driver")
    pf.add_argument("--mtu", type=whole(68, 9710), metavar="BYTES", help="of the PF; Linux resets the port for it")
    pf.add_argument("--fault", action="append", default=[], metavar="NAME", help="break a part; may be repeated")
    pf.add_argument("--mend", action="append", default=[], metavar="NAME", help="end a fault; may be repeated")
    parser.add_argument("--json", action="store_true", help="print JSON instead")


def switch(text: str) -> bool:
    """Raises ValueError."""
    if text not in ("on", "off"):
        raise ValueError(f"{text!r} is refused; write on or off")
    return text == "on"


SWITCH: Callable[[str], bool] = checked(switch)


def run(options: argparse.Namespace) -> int:
    """Raises DeviceError, ValueError, OSError."""
    settings = settings_of(options)
    if settings and options.vf is None:
        raise ValueError(f"say which virtual function, such as: ixrings vf {options.folder} 0")
    if options.api is not None and options.pf not in DRIVERS:
        raise ValueError("--api is of a driver that takes the PF: write --pf linux or --pf dpdk, too")
    with Link(options.folder) as agent:
        for name in options.mend:
            agent.call("mend", fault=name)
        if options.pf in DRIVERS:
            agent.call("replace", kind=options.pf, api=options.api)
        elif options.pf is not None:
            agent.call(options.pf)
        if options.mtu is not None:
            agent.call("mtu", mtu=options.mtu)
        if settings:
            agent.call("set_vf", vf=options.vf, **settings)
        for name in options.fault:
            agent.call("inject", fault=name)
        status = agent.call("status")
    if options.vf is not None:
        if options.vf >= len(status["vfs"]):
            raise ValueError(f"there is no VF {options.vf}; choose 0 to {len(status['vfs']) - 1}")
        status["vfs"] = [status["vfs"][options.vf]]
    print(json.dumps(status, indent=2) if options.json else "\n".join(lines(status)))
    return 0


def settings_of(options: argparse.Namespace) -> dict[str, Any]:
    """What set_vf() is to change."""
    asked = {
        "mac": options.mac,
        "vlan": options.vlan,
        "qos": options.qos,
        "spoofchk": options.spoofchk,
        "trust": options.trust,
        "state": options.state,
        "rate": options.max_tx_rate,
        "min_rate": options.min_tx_rate,
        "query_rss": options.query_rss,
    }
    return {name: value for name, value in asked.items() if value is not None}


def lines(status: dict[str, Any]) -> Iterator[str]:
    """The status in the words of `ip link show`, as far as it has them."""
    pf = status["pf"]
    link = f"link {pf['link_mbps']} Mbit/s" if pf["link_mbps"] else "no link"
    yield (
        f"PF: {pf['driver']}, {'up' if pf['up'] else 'down'}, mtu {pf['mtu']}, {link}, {pf['pools']} pools of "
        f"{pf['queues_of_a_vf']} queues, {pf['spoofed']} spoofed frames dropped"
    )
    if pf["faults"]:
        yield f"    faults: {', '.join(pf['faults'])}"
    for vf in status["vfs"]:
        whose = " (set by the host)" if vf["mac_of_the_host"] else ""
        vlan = f", vlan {vf['vlan']}, qos {vf['qos']}" if vf["vlan"] or vf["qos"] else ""
        rate = f", max_tx_rate {vf['max_tx_rate']}Mbps" if vf["max_tx_rate"] else ""
        yield (
            f"vf {vf['vf']}  MAC {vf['mac']}{whose}{vlan}{rate}, spoofchk {on(vf['spoofchk'])}, link-state "
            f"{vf['state']}, trust {on(vf['trust'])}, query_rss {on(vf['query_rss'])}"
        )
        served = f"API {vf['api']}" if vf["served"] else "not served before its driver resets it"
        extra = "".join(
            f", {name} {', '.join(map(str, vf[key]))}"
            for key, name in (("vlans", "VLANs"), ("other_macs", "also receives"))
            if vf[key]
        )
        yield (
            f"      {served}, queues on: {vf['tx_queues']} tx {vf['rx_queues']} rx, pool {pool(vf)}, frames: "
            f"{vf['sent']} tx {vf['received']} rx, requests: {vf['requests']}, {vf['refused']} refused{extra}"
        )


def on(value: bool) -> str:
    return "on" if value else "off"


def pool(vf: dict[str, Any]) -> str:
    """What the PF lets through."""
    return {(True, True): "open", (True, False): "sends only", (False, True): "receives only"}.get(
        (vf["sends"], vf["receives"]), "closed"
    )
