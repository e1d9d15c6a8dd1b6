"""The receive queue of a frame: RSS, EtherType and 5-tuple filters (82599 7.1.2)."""

from __future__ import annotations

from ... import fields as f
from .access import Access
from .findings import WARNING, rule
from .virtualization import plain

RSS = {1, 4, 5, 10, 11}  # MRQC.MRQE
IP_TYPES = (0x0800, 0x86DD)


@rule(
    "7.1.2.8, 8.2.3.7.14, 8.2.3.7.15",
    WARNING,
    "With RSS, the key (RSSRK) and the table (RETA) are written before reception starts",
    writes=("RXCTRL",),
)
def rss_programmed(now: Access) -> str | None:
    if now.rises("RXEN") and now.regs.MRQC.read().MRQE in RSS:
        return now.not_written([*now.regs.RSSRK, *now.regs.RETA])
    return None


@rule("7.1.2.3, 8.2.3.7.21", WARNING, "An EtherType filter does not select IPv4 or IPv6", writes=("ETQF",))
def ether_type_not_ip(now: Access) -> str | None:
    asked = f.ETQF(now.value)
    if asked.FILTER_EN and asked.ETYPE in IP_TYPES:
        return f"{asked.ETYPE:#06x} is {'IPv4' if asked.ETYPE == IP_TYPES[0] else 'IPv6'}"
    return None


@rule(
    "7.1.2.3, 8.2.3.7.21",
    WARNING,
    "No two EtherType filters select the same frames: the datasheet does not say which one wins",
    writes=("ETQF",),
)
def ether_types_differ(now: Access) -> str | None:
    asked, compared = f.ETQF(now.value), f.ETQF.ETYPE.mask | f.ETQF.UP_EN.mask | f.ETQF.UP.mask | f.ETQF.FILTER_EN.mask
    same = [each.name for each in now.regs.ETQF if each.index != now.index and not (each.read() ^ now.value) & compared]
    if asked.FILTER_EN and same:
        return f"{same[0]} is {now.regs.ETQF[now.index].row.layout(now.value)!r} already"
    return None


@rule("7.1.2.5, 8.2.3.7.19", WARNING, "A 5-tuple filter has a priority of 1 to 7", writes=("FTQF",))
def five_tuple_priority(now: Access) -> str | None:
    asked = f.FTQF(now.value)
    return "PRIORITY is 0" if asked.QUEUE_ENABLE and not asked.PRIORITY else None


@rule(
    "8.2.3.7.19", WARNING, "Without virtualisation FTQF.POOL_MASK is 1: there are no pools to compare", writes=("FTQF",)
)
def five_tuple_without_pool(now: Access) -> str | None:
    asked = f.FTQF(now.value)
    if asked.QUEUE_ENABLE and not asked.POOL_MASK and plain(now.regs):
        return f"POOL is {asked.POOL}, POOL_MASK 0"
    return None


@rule("8.2.3.5.13", WARNING, "L34TIMIR bit 19 is 1 in a 5-tuple filter, as in every known driver", writes=("L34TIMIR",))
def five_tuple_bit_19(now: Access) -> str | None:
    return "it is 0" if now.value and not f.L34TIMIR(now.value).MUST_BE_ONE else None
