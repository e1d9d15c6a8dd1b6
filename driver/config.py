"""The options of open_port() and open_ports(), one row each, and values that follow from them.

The options are checked before a device is opened.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, TypedDict

from ixrings.hw.registers import QUEUES
from ixrings.rings import Region

from .checks import require
from .flow_director import BUFFER_KB, FlowDirector
from .options import Option, between

RX_BUFFER_KB = 512  # the receive packet buffer (8.2.3.8.9)
FRAME_OVERHEAD = 14 + 4  # Ethernet header and CRC, both counted by MAXFRS (8.2.3.22.13)
MAX_FRAME = 9728  # 9.5 KB, CRC included: the longest frame of the receive path
MAX_MTU = MAX_FRAME - FRAME_OVERHEAD
# Bytes: 2048 for the NIC and a cache line. At a power of two, the first lines of all buffers share a few cache sets.
BUFFER = 2112
PAGED_BUFFER = 2048  # without an IOMMU a page must hold whole buffers
MIN_MTU = 68  # RFC 791: the least an IPv4 network must carry
STANDARD_FRAME = 1518
ITR_UNIT_US = 2.048  # at 10 Gbit/s (8.2.3.5.12)
MAX_INTERVAL_US = 0x1FF * ITR_UNIT_US

# The hash key of Microsoft's RSS verification suite, which publishes hashes to test against.
RSS_KEY = bytes.fromhex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")


def mac_bytes(address: str | bytes) -> bytes:
    """The six bytes of `02:00:00:00:00:01`, or of six bytes. Raises ValueError."""
    try:
        octets = (
            bytes(int(part, 16) for part in address.split(":"))
            if isinstance(address, str)
            else bytes(memoryview(address))
        )
    except (ValueError, TypeError):
        octets = b""
    if len(octets) != 6 or (isinstance(address, str) and len(address) > 17):
        raise ValueError(f"{address!r} is not a MAC address; write it as 02:00:00:00:00:01")
    return octets


def mac_list(caller: str, addresses: Iterable[str | bytes]) -> list[bytes]:
    """The bytes of each address. Raises ValueError, and TypeError for a single address."""
    takes = 'a list of addresses, such as ["01:00:5e:00:00:fb"]'
    if isinstance(addresses, str | bytes):
        raise TypeError(f"{caller} takes {takes}; {addresses!r} is a single one")
    require(caller, addresses, Iterable, takes)
    return [mac_bytes(address) for address in addresses]


def unicast_mac(address: str | bytes) -> bytes:
    """As mac_bytes(). Raises ValueError, also for an address that a port cannot have (multicast, zero)."""
    octets = mac_bytes(address)
    if octets[0] & 1 or not any(octets):
        raise ValueError(
            f"{octets.hex(':')} cannot be a port's MAC address: it is "
            f"{'a multicast address' if octets[0] & 1 else 'zero'}"
        )
    return octets


def check_rss_key(name: str, key: bytes) -> None:
    """Raises ValueError."""
    if len(key) != len(RSS_KEY):
        raise ValueError(f"{name} has {len(key)} bytes; a Toeplitz key has {len(RSS_KEY)} (82599 8.2.3.7.14)")


def check_own_mac(name: str, address: str | bytes | None) -> None:
    """Raises ValueError."""
    if address is not None:
        unicast_mac(address)


check_queues = between(1, QUEUES, f"a port has 1 to {QUEUES} queues each way")


class PortOptions(TypedDict, total=False):
    """Options of open_port() and open_ports().

    `options: PortOptions = {"mtu": 9000}` is checked, and passed on with `**options`.
    """

    tx_queues: Annotated[
        int,
        Option(
            1,
            "1..128 transmit queues. More than 64 are four traffic classes (0..63, 64..95, 96..111, 112..127): the "
            "classes take turns, and inside a class its queues take turns. If tx_queues and rx_queues add up to 64 or "
            "more, queues share interrupt vectors.",
            check_queues,
        ),
    ]
    rx_queues: Annotated[
        int,
        Option(
            1,
            "1..128 receive queues. RSS spreads flows over queues 0..15; port.filters reaches all. If a direction has "
            "17 queues or more, queues share counters (see PortStatistics).",
            check_queues,
        ),
    ]
    tx_slots: Annotated[
        int,
        Option(
            1024,
            "slots of each TX ring, 64..8192, a multiple of 8. Each slot has a buffer: 128 rings of 1024 slots take "
            "280 MB.",
        ),
    ]
    rx_slots: Annotated[int, Option(1024, "slots of each RX ring, 64..8192, a multiple of 8.")]
    buf_size: Annotated[
        int | None,
        Option(
            None,
            "bytes of a packet buffer, 1024..15872, a multiple of 64; the NIC fills whole KB of it. None: the region's "
            "size, else 2112, or 2048 without an IOMMU.",
        ),
    ]
    mtu: Annotated[
        int,
        Option(
            1500,
            "bytes of payload in a frame, 68..9710. A frame longer than a buffer takes several slots.",
            between(
                MIN_MTU,
                MAX_MTU,
                f"the 82599 carries {MIN_MTU} to {MAX_MTU} bytes (frames up to {MAX_FRAME} with header and CRC)",
            ),
        ),
    ]
    promiscuous: Annotated[bool, Option(False, "receive every good frame, whatever its destination address.")]
    extra_bufs: Annotated[int, Option(0, "buffers besides those in rings.")]
    link_timeout: Annotated[
        float,
        Option(
            10.0,
            "seconds to wait for the link, 0 not to wait. The port opens even if the link stays down; see Port.link "
            "and Port.wait_link().",
            between(0, float("inf"), "a time in seconds, 0 not to wait"),
        ),
    ]
    rss_key: Annotated[
        bytes | None,
        Option(None, "40 bytes, the key of the RSS hash. None: a well-known key.", check_rss_key),
    ]
    drop: Annotated[
        bool | None,
        Option(
            None,
            "whether a queue without free slots drops frames (counted in QPRDC) or lets the packet buffer fill (then "
            "MPC counts). None: drop if there are several queues and no flow_control.",
        ),
    ]
    interrupt_interval_us: Annotated[
        float,
        Option(
            20.0,
            "least microseconds between two interrupts of a queue, 0..1046.",
            between(0, MAX_INTERVAL_US, f"choose 0 to {int(MAX_INTERVAL_US)} (82599 8.2.3.5.12)"),
        ),
    ]
    busy_poll: Annotated[bool, Option(False, "poll() spins instead of sleeping.")]
    flow_director: Annotated[
        FlowDirector | None,
        Option(None, "gives 64 KB of the packet buffer to FlowFilters of this kind (see Port.filters)."),
    ]
    loopback: Annotated[bool, Option(False, "the MAC returns what is sent, and the port needs no cable (HLREG0.LPBK).")]
    flow_control: Annotated[
        bool,
        Option(
            False,
            "ask the other end to pause before the packet buffer is full, and pause when asked (802.3x). Only rings "
            "that do not drop let the packet buffer fill.",
        ),
    ]
    trace: Annotated[
        str | Path | None,
        Option(
            None,
            "a file that gets a line for every register access (see hw/trace/device.py). open_ports() makes a file for "
            'each of several ports: "bridge-1.trace" and "bridge-2.trace" for "bridge.trace". None: the driver '
            "uses the device directly.",
        ),
    ]


class OnePortOptions(PortOptions, total=False):
    """Options of open_port(): those of PortOptions, and those that several ports cannot have in common."""

    region: Annotated[Region | None, Option(None, "memory that is shared with other ports. None: a region of its own.")]
    mac: Annotated[
        str | bytes | None,
        Option(None, "the port's address, as 02:00:00:00:00:01 or six bytes. None: the EEPROM's.", check_own_mac),
    ]


def frame_size(options: PortOptions) -> int:
    """Longest frame in bytes, CRC included."""
    return options["mtu"] + FRAME_OVERHEAD


def rx_buffer_kb(options: PortOptions) -> int:
    """KB of the packet buffer that flow director leaves to frames."""
    return RX_BUFFER_KB - (BUFFER_KB if options["flow_director"] else 0)


def drop_en(options: PortOptions) -> bool:
    """SRRCTL.DROP_EN. A full queue must not hold up the others (7.1.2.3).

    A single queue may fill the packet buffer before it loses frames. Flow control acts only when the packet buffer
    fills.
    """
    if options["drop"] is not None:
        return options["drop"]
    return options["rx_queues"] > 1 and not options["flow_control"]
