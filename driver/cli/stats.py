"""`ixrings stats`: show a NIC's counters and their rates. For a NIC that Linux has, they are Linux's counters."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ixrings.hw.errors import DeviceError
from ixrings.hw.pci.discovery import Function
from ixrings.hw.pci.sysfs import text_of
from ixrings.hw.registers import COUNTERS, Registers

from ..errors import PortError
from ..names import parse_port_name
from ..port import Port
from ..statistics import RX_QUEUE, TX_QUEUE, Counter, losses, port_counters, queue_counters, read_counter
from ..vf_statistics import hosted_counters, raw_counts
from .peek import Peek, RegistersHidden, peek
from .watch import add_watch, repeat

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

OCTETS = (
    "GORC",
    "GOTC",
    "TOR",
    "QBRC",
    "QBTC",
    "VFGORC",
    "VFGOTC",
    "rx_bytes",
    "tx_bytes",
)  # rates are shown in bits, as for links
Counts = dict[str, int]


def add(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("stats", help="show a NIC's counters, and their rates")
    parser.set_defaults(run=run)
    parser.add_argument("port", metavar="PORT", help="a port's name, such as 0000:03:00.0 or emulated")
    parser.add_argument("--all", action="store_true", help="also show counters that are zero")
    add_watch(parser, "show counts and rates")
    parser.add_argument("--json", action="store_true", help="print JSON instead; with --watch one object per line")


def run(options: argparse.Namespace) -> int:
    with counting(options.port, options.watch is not None) as (source, count, wait):
        if options.watch is not None:
            watch(options, source, count, wait)
            return 0
        counts = count()
    if options.json:
        print(json.dumps({"port": options.port, "source": source, "counts": counts}, indent=2))
        return 0
    print(f"{options.port}: {source}")
    if not options.all and not any(counts.values()):
        print(f"all {len(counts)} counters are 0; to see their names, add --all")
    for name, value in counts.items():
        if value or options.all:
            print(f"{value:20,}  {name}")
    if "TPR" in counts:  # not Linux's counts
        for sentence in losses(counts, sum(value for name, value in counts.items() if name.startswith("QPRDC"))):
            print(sentence)
    return 0


@contextmanager
def counting(port: str, watching: bool) -> Iterator[tuple[str, Callable[[], Counts], Callable[[float], None]]]:
    """The source of the counts, in words, a function that returns the counts so far, and one to wait between looks.

    An emulated NIC that is watched is brought up first: before that it counts nothing. Raises DeviceError.
    """
    try:
        with peek(port, up=watching and parse_port_name(port).is_emulated) as seen:
            yield *seen_counts(seen), seen.wait
    except RegistersHidden as hidden:
        if not hidden.function.netdevs:
            raise
        yield *linux_counts(hidden.function), time.sleep


def seen_counts(seen: Peek) -> tuple[str, Callable[[], Counts]]:
    if seen.port is not None:
        return "counts since it was opened; received frames are discarded", partial(port_counts, seen.port)
    vf = seen.vf
    if vf is not None:
        return "the function's counters, which wrap at 32 and 36 bits", lambda: raw_counts(vf)
    if seen.device is not None:
        total: Counts = {}

        def accumulated() -> Counts:
            for name, counted in hardware_counts(seen.nic).items():
                total[name] = total.get(name, 0) + counted
            return {**total, **vf_counts(seen.nic)}

        return "the NIC's counters, which reading clears", accumulated
    if seen.function is not None and seen.function.netdevs:
        return linux_counts(seen.function)
    raise DeviceError(
        f"{seen.holder} has the NIC, and reading its counters would clear them. Ask that program (port.stats())"
    )


def linux_counts(function: Function) -> tuple[str, Callable[[], Counts]]:
    netdev = function.netdevs[0]
    return f"Linux's counts for {netdev}", lambda: kernel_counts(netdev)


def port_counts(port: Port) -> Counts:
    """Counts of an open port."""
    counts = port.stats()
    queues = {
        f"{name}[{number}]": value
        for side in (counts.rx, counts.tx)
        for number, queue in enumerate(side)
        for name, value in queue.items()
    }
    others = {
        f"{name}[{len(own)}..]": value
        for own, shared in ((counts.rx, counts.rx_others), (counts.tx, counts.tx_others))
        for name, value in shared.items()
    }
    return {**counts.port, **queues, **others, **counts_of_vfs(port)}


def counts_of_vfs(port: Port) -> Counts:
    """Counts of the virtual functions that an open port serves, with their number, such as VFGPRC[0]."""
    try:
        vfs = port.vfs
    except PortError:
        return {}
    return {f"{name}[{vf.number}]": value for vf in vfs for name, value in vf.stats().items()}


def hardware_counts(nic: Registers) -> Counts:
    """Port counters with the datasheet's names, and queue counters with their set, such as QPRC[0]."""
    counts = {name: sum(read_counter(nic, each) for each in counters) for name, counters in port_counters().items()}
    for number in range(COUNTERS):
        queue: dict[str, Counter] = {**queue_counters(RX_QUEUE, number), **queue_counters(TX_QUEUE, number)}
        counts.update({f"{name}[{number}]": read_counter(nic, counter) for name, counter in queue.items()})
    return counts


def vf_counts(nic: Registers) -> Counts:
    """What the registers of all virtual functions hold; a read does not clear them."""
    return {
        f"{name}[{number}]": counter.last
        for number in range(nic.STATUS.read().NUM_VFS)
        for name, counter in hosted_counters(nic, number).items()
    }


def kernel_counts(netdev: str) -> Counts:
    """Counts of a Linux interface, with Linux's names."""
    folder = Path("/sys/class/net") / netdev / "statistics"
    return {file.name: int(text_of(file) or 0) for file in sorted(folder.iterdir())}


# ---- --watch ----


def watch(options: argparse.Namespace, source: str, count: Callable[[], Counts], wait: Callable[[float], None]) -> None:
    """Print counts and rates until Ctrl-C."""
    start = last_at = time.monotonic()
    last = count()
    print(
        json.dumps({"port": options.port, "source": source}) if options.json else f"{options.port}: {source}",
        flush=True,
    )

    def look() -> None:
        nonlocal last, last_at
        before, before_at = last, last_at
        last, last_at = count(), time.monotonic()
        rates = {name: (value - before[name]) / (last_at - before_at) for name, value in last.items()}
        shown = {name: rate for name, rate in rates.items() if rate or options.all}
        if options.json:
            print(
                json.dumps(
                    {
                        "seconds": round(last_at - start, 3),
                        "counts": {name: last[name] for name in shown},
                        "rates": shown,
                    }
                ),
                flush=True,
            )
            return
        print(f"after {last_at - start:.1f} s" + ("" if shown else ": nothing"), flush=True)
        for name, rate in shown.items():
            print(f"{last[name]:20,}  {per_second(name, rate):>16}  {name}", flush=True)

    repeat(options.watch, look, wait)


def per_second(name: str, rate: float) -> str:
    """A rate with its unit: octets as bit/s, other counts as /s."""
    octets = name.partition("[")[0] in OCTETS
    value = rate * 8 if octets else rate
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.2f} {letter}{'bit' if octets else ''}/s"
    return f"{value:.0f} {'bit' if octets else ''}/s"
