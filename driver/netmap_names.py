"""netmap's grammar of port names: which port of the daemon, and which of its rings.

    netmap:NAME[{ID|}ID][-k|^[k]|*][/flags][@options]     also valeBRIDGE:PORT, with netmap: before it or not

    NAME       a port of the daemon. {ID and }ID: the two ends of pipe ID
    -k         only ring pair k
    ^ ^k *     the host's rings, host ring pair k, the rings of the NIC and of the host
    /flags     R receive rings only, T transmit rings only, x exclusive; a monitor: t what the port sends, r what it
               receives, z without copies
    @options   N the number of the memory region; share=NAME the region of another port;
               conf:KEY=N,... with rings, host-rings, slots, and each with tx- or rx- before it

Source: libnetmap's nmreq_header_decode() and its options, by what they accept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum

from .errors import PortNameError

IDENTIFIER = r"[A-Za-z0-9_]"
NAME = re.compile(
    rf"(?:netmap:)?(?P<port>(?:vale{IDENTIFIER}*:)?{IDENTIFIER}+)(?P<pipe>[{{}}]{IDENTIFIER}+)?(?P<suffix>.*)"
)
VALE = re.compile(rf"vale{IDENTIFIER}*:")
SUFFIX = re.compile(
    r"(?:-(?P<queue>[0-9]+)|(?P<host>\^)(?P<host_ring>[0-9]+)?|(?P<both>\*))?(?P<early>(?:@[0-9]+)*)"
    r"(?:/(?P<flags>[^@]*))?(?P<options>(?:@[^@]*)*)"
)
LONGEST = 63  # bytes: nr_name has 64, and ends with 0
RINGS = 4095  # ring numbers of a request have 12 bits
FLAGS = "xztrRT"
CONF = {
    "rings": ("tx_rings", "rx_rings"),
    "tx-rings": ("tx_rings",),
    "rx-rings": ("rx_rings",),
    "slots": ("tx_slots", "rx_slots"),
    "tx-slots": ("tx_slots",),
    "rx-slots": ("rx_slots",),
    "host-rings": ("host_tx_rings", "host_rx_rings"),
    "host-tx-rings": ("host_tx_rings",),
    "host-rx-rings": ("host_rx_rings",),
}
GRAMMAR = (
    "a port of the daemon is netmap:NAME or valeBRIDGE:PORT, with [{ID or }ID][-k or ^ or *][/flags][@options], such "
    "as netmap:ix0-2/R"
)


class Part(Enum):
    """Which rings of a port."""

    NIC = "its rings"
    HOST = "the host's"
    BOTH = "both"


@dataclass(frozen=True)
class NetmapName:
    """A parsed name. port: as the daemon gets it, such as ix0, ix0{1 or vale0:a. ring: k of -k or ^k.

    mem_id: 0 for any region. share: another port, whose region is asked for. counts: wanted rings and slots by the
    names of nmreq_register without nr_, such as tx_slots.
    """

    port: str
    part: Part = Part.NIC
    ring: int | None = None
    flags: frozenset[str] = frozenset()
    mem_id: int = 0
    share: str = ""
    counts: tuple[tuple[str, int], ...] = ()

    @property
    def queue(self) -> int | None:
        """k of -k."""
        return self.ring if self.part is Part.NIC else None

    @property
    def has_nic(self) -> bool:
        """Whether a NIC may be behind it: not behind a pipe or a switch port."""
        return not set(self.port) & set("{}:")

    @property
    def monitors(self) -> bool:
        return bool(self.flags & {"t", "r"})


def is_netmap_name(text: str) -> bool:
    return text.startswith("netmap:") or bool(VALE.match(text))


def parse_netmap_name(text: str) -> NetmapName:
    """Raises PortNameError."""
    found = NAME.fullmatch(text)
    parts = SUFFIX.fullmatch(found["suffix"]) if found else None
    if not found or not parts:
        raise PortNameError(f"{text!r} is not a port's name: {GRAMMAR}")
    name = NetmapName(found["port"] + (found["pipe"] or ""))
    if len(name.port) > LONGEST:
        raise PortNameError(f"{text!r}: the name {name.port!r} is too long; at most {LONGEST} characters are possible")
    ring = parts["queue"] or parts["host_ring"]
    if ring is not None:
        if len(ring) > 4 or int(ring) >= RINGS:
            raise PortNameError(f"{text!r}: {ring} is not the number of a ring; choose 0 to {RINGS - 1}")
        name = replace(name, ring=int(ring))
    if parts["host"] or parts["both"]:
        name = replace(name, part=Part.HOST if parts["host"] else Part.BOTH)
    if parts["flags"] is not None:
        name = replace(name, flags=parse_letters(text, parts["flags"]))
    for option in [*parts["early"].split("@")[1:], *parts["options"].split("@")[1:]]:
        name = with_option(text, name, option)
    return name


def parse_letters(text: str, letters: str) -> frozenset[str]:
    flags = frozenset(letters)
    if not letters or flags - set(FLAGS):
        raise PortNameError(
            f"{text!r}: flags are R (receive only), T (transmit only), x (exclusive), t and r (a monitor of what the "
            f"port sends and receives) and z (a monitor without copies), not {letters!r}"
        )
    if flags >= {"R", "T"}:
        raise PortNameError(
            f"{text!r}: R (receive only) and T (transmit only) together leave no ring; write one of them"
        )
    if "z" in flags and not flags & {"t", "r"}:
        raise PortNameError(f"{text!r}: z belongs to a monitor; write /tz, /rz or /rtz")
    return flags


def with_option(text: str, name: NetmapName, option: str) -> NetmapName:
    """`name` with one option, without its @."""
    if option.isdecimal():
        number = int(option)
        if not 0 < number <= 0xFFFF or name.mem_id not in (0, number):
            raise PortNameError(f"{text!r}: @{option} is not the number of one memory region; choose 1 to 65535")
        return replace(name, mem_id=number)
    key, separator, value = option.partition(":" if re.match("[a-z]+:", option) else "=")
    if key == "share":
        value = value.removeprefix("port=") if separator == ":" else value
        if not value or name.share:
            raise PortNameError(f"{text!r}: @{option} names no port; write @share=ix0")
        return replace(name, share=value)
    if key == "conf" and separator == ":":
        return replace(name, counts=(*name.counts, *parse_counts(text, name, value)))
    if key in ("extmem", "offset"):
        raise PortNameError(f"{text!r}: Python programs have no @{key}; use the daemon's memory, and leave @{key} out")
    raise PortNameError(
        f"{text!r}: @{option} is not an option; they are @N, @share=NAME and @conf:KEY=N,... with the keys "
        f"{', '.join(CONF)}"
    )


def parse_counts(text: str, name: NetmapName, value: str) -> list[tuple[str, int]]:
    found: dict[str, int] = {}
    taken = {field for field, _ in name.counts}
    for pair in value.split(","):
        key, _, number = pair.partition("=")
        fields = CONF.get(key.replace("_", "-"))
        if fields is None or not number.isdecimal() or int(number) > 0xFFFF:
            raise PortNameError(f"{text!r}: {pair!r} is not KEY=N; the keys are {', '.join(CONF)}")
        for field in fields:
            if field in found or field in taken:
                raise PortNameError(f"{text!r}: {pair!r} asks once more for {field}; give each number once")
            found[field] = int(number)
    return list(found.items())
