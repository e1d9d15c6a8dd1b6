"""`ixrings daemon`: open NICs, and serve them to any number of programs. With --status: show who uses them."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ..arguments import MTU, NUMBER_OF_QUEUES, SECONDS_OR_NONE, SLOTS, checked, whole
from ..netmap_names import is_netmap_name
from ..program import ending_signals

if TYPE_CHECKING:
    from ..daemon.policy import Policy

EPILOG = """\
PORT is NAME=TARGET: programs use NAME (netmap:ix0), and TARGET names the NIC as for open_port(), such as 0000:03:00.0
or emulated:tap=t0. The command runs in the foreground. Ctrl-C, SIGTERM and SIGHUP end it: programs get ENXIO, and the
NICs stop. systemd may open its socket (ListenSequentialPacket=), and is told READY=1 (Type=notify).

All programs of a daemon share one memory: each can read and change the packets of the others, except those of ports
with --isolate. See driver/daemon/README.md.
"""
RATE_S = 0.3  # rates are measured over this time
NAME = re.compile(r"[A-Za-z0-9_.]{1,15}")


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "daemon",
        help="serve NICs to netmap programs",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "ports", nargs="*", type=checked(port_argument), metavar="PORT", help="NAME=TARGET, such as ix0=0000:03:00.0"
    )
    parser.add_argument(
        "--socket",
        metavar="PATH",
        help="the UNIX socket (default: $IXRINGS_SOCKET, or else /run/ixrings/netmap.sock for root, and "
        "$XDG_RUNTIME_DIR/ixrings/netmap.sock for others)",
    )
    parser.add_argument(
        "--status", action="store_true", help="show the ports and programs of a running daemon, and end"
    )
    parser.add_argument("--json", action="store_true", help="with --status: print JSON instead")
    who = parser.add_argument_group(
        "who may use it (default: root, the user who starts it, and that user's group unless it is root's)"
    )
    who.add_argument("--user", metavar="USER", help="the socket's user")
    who.add_argument("--group", metavar="GROUP", help="the socket's group: its members may connect")
    who.add_argument("--mode", type=checked(mode_argument), default=0o660, metavar="MODE", help="default: 0660")
    who.add_argument(
        "--allow",
        type=checked(allow_argument),
        action="append",
        default=[],
        metavar="PORT=USER,...",
        help="only these users may open this port, and change its settings (default: all who may connect may open it, "
        "and root and the daemon's own user may change settings); may be repeated",
    )
    who.add_argument(
        "--trust-everyone",
        action="store_true",
        help="serve other users also if a NIC has no IOMMU: a program that punches holes into the memory could then "
        "make the NIC write to any page of this machine",
    )
    who.add_argument(
        "--isolate",
        action="append",
        default=[],
        metavar="PORT",
        help="programs of this port get memory of their own, and the daemon copies each frame; one user at a time; may "
        "be repeated",
    )
    who.add_argument(
        "--user-share",
        type=whole(1, 100),
        default=50,
        metavar="PERCENT",
        help="the most that each user besides the daemon's own may have: of handles, of the buffers that NICs do not "
        "need, and, for ports with memory of their own, of the size of the common memory (default: 50)",
    )
    host = parser.add_mutually_exclusive_group()
    host.add_argument(
        "--host",
        action="store_true",
        default=None,
        help="give Linux a TAP interface with each port's name, or fail. It carries Linux's traffic while no program "
        "has the NIC's rings, and programs open its side as ix0^ (default: make one if that is allowed, as for root)",
    )
    host.add_argument(
        "--no-host", dest="host", action="store_false", help="make no TAP interfaces, and so no host rings"
    )
    size = parser.add_argument_group("ports and memory")
    size.add_argument(
        "--memory",
        type=whole(1, 1 << 20),
        default=0,
        metavar="MB",
        help="size of the shared memory (default: as the ports need)",
    )
    size.add_argument("--tx-queues", type=NUMBER_OF_QUEUES, default=1, metavar="N", help="of each NIC (default: 1)")
    size.add_argument("--rx-queues", type=NUMBER_OF_QUEUES, default=1, metavar="N", help="of each NIC (default: 1)")
    size.add_argument("--slots", type=SLOTS, default=1024, metavar="N", help="slots of each ring (default: 1024)")
    size.add_argument(
        "--buf-size", type=whole(1024, 15872, multiple=64), metavar="BYTES", help="size of a packet buffer"
    )
    size.add_argument("--mtu", type=MTU, default=1500, metavar="BYTES", help="default: 1500")
    size.add_argument("--promiscuous", action="store_true", help="receive every good frame")
    size.add_argument(
        "--vlan",
        type=checked(vlan_argument),
        metavar="ID,...",
        help="receive tagged frames of these VLANs only (default: all; but of a virtual function none)",
    )
    size.add_argument(
        "--link-timeout", type=SECONDS_OR_NONE, default=0.0, metavar="SECONDS", help="wait for the link (default: 0)"
    )
    size.add_argument(
        "--spin",
        type=whole(0, 1000),
        metavar="US",
        help="look for work this many microseconds before a sleep (default: 1 with up to 2 processors, else 50)",
    )


def port_argument(text: str) -> tuple[str, str]:
    """Raises ValueError."""
    name, found, target = text.partition("=")
    if not found or not target or not NAME.fullmatch(name) or name.startswith("vale"):
        raise ValueError(
            f"{text!r} is refused; write NAME=TARGET, such as ix0=0000:03:00.0, with a name of at most 15 letters, "
            "digits, _ and . that does not begin with vale"
        )
    if is_netmap_name(target):
        raise ValueError(f"{text!r} is refused: {target} is a port of a daemon; write a NIC, such as 0000:03:00.0")
    return name, target


def mode_argument(text: str) -> int:
    """Raises ValueError."""
    if not re.fullmatch(r"0?[0-7]{3}", text):
        raise ValueError(f"{text!r} is refused; write three octal digits, such as 0660")
    return int(text, 8)


def allow_argument(text: str) -> tuple[str, frozenset[int]]:
    """Raises ValueError."""
    from ..daemon.policy import user_id

    port, found, users = text.partition("=")
    if not found or not users:
        raise ValueError(f"{text!r} is refused; write PORT=USER or PORT=USER,USER")
    return port, frozenset(user_id(user) for user in users.split(","))


def vlan_argument(text: str) -> frozenset[int]:
    """Raises ValueError."""
    from ..vlan import check_vlans

    if not re.fullmatch(r"\d{1,4}(,\d{1,4})*", text):
        raise ValueError(f"{text!r} is refused; write VLAN ids, such as 5 or 5,7")
    ids = frozenset(map(int, text.split(",")))
    check_vlans(ids)
    return ids


def policy_of(options: argparse.Namespace) -> Policy:
    """Raises ValueError."""
    from ..daemon.policy import Policy, group_id, user_id

    unknown = [port for port, _ in options.allow if port not in dict(options.ports) and not port.startswith("vale")]
    if unknown:
        raise ValueError(
            f"--allow {unknown[0]}=...: there is no port {unknown[0]}; write one of {', '.join(dict(options.ports))}"
        )
    return Policy(
        user=user_id(options.user) if options.user else os.geteuid(),
        group=group_id(options.group) if options.group else os.getegid(),
        mode=options.mode,
        allowed=dict(options.allow),
        everyone=options.trust_everyone,
        share=options.user_share,
    )


def isolated_of(options: argparse.Namespace) -> frozenset[str]:
    """Raises ValueError."""
    unknown = set(options.isolate) - {name for name, _ in options.ports}
    if unknown:
        raise ValueError(
            f"--isolate {min(unknown)}: there is no port {min(unknown)}; write one of {', '.join(dict(options.ports))}"
        )
    return frozenset(options.isolate)


def run(options: argparse.Namespace) -> int:
    from ..daemon import systemd
    from ..daemon.ask import default_socket
    from ..daemon.daemon import Daemon, Settings
    from ..daemon.place import Place
    from ..daemon.server import Server, raise_limit

    path = options.socket or default_socket()
    if options.status:
        return show_status(path, options.json)
    names = [name for name, _ in options.ports]
    if not names:
        raise ValueError("give the daemon a port, such as: ixrings daemon ix0=0000:03:00.0, or ix0=emulated:loop")
    if len(set(names)) < len(names):
        raise ValueError(
            "give each port a name of its own, such as: ixrings daemon ix0=0000:03:00.0 ix1=emulated:tap=t0"
        )
    settings = Settings(
        ports=dict(options.ports),
        options={
            "tx_queues": options.tx_queues,
            "rx_queues": options.rx_queues,
            "tx_slots": options.slots,
            "rx_slots": options.slots,
            "buf_size": options.buf_size,
            "mtu": options.mtu,
            "promiscuous": options.promiscuous,
            "link_timeout": options.link_timeout,
        },
        policy=policy_of(options),
        isolated=isolated_of(options),
        memory_mb=options.memory,
        host=options.host,
        vlans=options.vlan,
        spin_ns=1000 * (options.spin if options.spin is not None else 1 if (os.cpu_count() or 1) <= 2 else 50),
    )
    with ExitStack() as undo:
        most = raise_limit()
        place = undo.enter_context(Place(path, settings.policy))  # first: a second daemon must not stop the NICs
        daemon = undo.enter_context(Daemon(settings))
        server = Server(place.listener, daemon.admit, daemon.log, daemon.check, most, daemon.policy.most)
        undo.callback(server.close)
        for number in ending_signals():
            undo.callback(signal.signal, number, signal.signal(number, lambda *_: server.stop()))
        print(f"{', '.join(names)} at {place.path}", flush=True)
        systemd.notify(f"READY=1\nSTATUS=serving {', '.join(names)}\nMAINPID={os.getpid()}")
        sys.setswitchinterval(100e-6)  # the service's thread needs its turn soon, also in a flood of messages
        server.serve()
        systemd.notify("STOPPING=1")
    return 0


def show_status(path: str, as_json: bool) -> int:
    """Ask the daemon at `path`. Raises OSError with a sentence if there is none."""
    from ..daemon.ask import ask_status
    from ..daemon.log import printable
    from ..daemon.shown import lines

    status = ask_status(path)
    if as_json:
        print(json.dumps(status, indent=2))
    else:
        time.sleep(RATE_S)
        print("\n".join(map(printable, lines(ask_status(path), status))))
    sys.stdout.flush()
    return 0
