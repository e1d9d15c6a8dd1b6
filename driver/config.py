"""What a port can be asked for, checked before a device is touched."""

from __future__ import annotations

from dataclasses import dataclass, field

from ixrings.hw.registers import QUEUES

from .flow_director import BUFFER_KB, FlowDirector

RX_BUFFER_KB = 512  # the receive packet buffer (8.2.3.8.9)
FRAME_OVERHEAD = 14 + 4  # Ethernet header and CRC, both counted by MAXFRS (8.2.3.22.13)
MAX_FRAME = 9728  # 9.5 KB, CRC included: what the receive path carries
BUFFER = 2112  # 2048 for the NIC, and a cache line: at a power of two the first lines of all buffers would share a few sets of the cache
PAGED_BUFFER = 2048  # without an IOMMU a page must hold whole buffers
MIN_MTU = 68  # RFC 791: the least an IPv4 network must carry
STANDARD_FRAME = 1518
ITR_UNIT_US = 2.048  # at 10 Gbit/s (8.2.3.5.12)
MAX_INTERVAL_US = 0x1FF * ITR_UNIT_US

# The hash key of Microsoft's RSS verification suite, with published hashes to test against.
RSS_KEY = bytes.fromhex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")


def mac_bytes(address: str | bytes) -> bytes:
    """Six bytes of `02:00:00:00:00:01` or of six bytes. Raises ValueError."""
    try:
        octets = bytes(int(part, 16) for part in address.split(":")) if isinstance(address, str) else bytes(address)
    except ValueError:
        octets = b""
    if len(octets) != 6 or (isinstance(address, str) and len(address) > 17):
        raise ValueError(f"{address!r} is no MAC address; write it as 02:00:00:00:00:01")
    return octets


def unicast_mac(address: str | bytes) -> bytes:
    """As mac_bytes(), for an address that a port can have. Raises ValueError."""
    octets = mac_bytes(address)
    if octets[0] & 1 or not any(octets):
        raise ValueError(
            f"{octets.hex(':')} cannot be a port's MAC address: it is {'a multicast address' if octets[0] & 1 else 'zero'}"
        )
    return octets


@dataclass(frozen=True)
class PortConfig:
    """Options of open_port(), see there. Raises ValueError with what is allowed."""

    tx_queues: int = 1
    rx_queues: int = 1
    tx_slots: int = 1024
    rx_slots: int = 1024
    buf_size: int = BUFFER
    mtu: int = 1500
    promiscuous: bool = False
    extra_bufs: int = 0
    link_timeout: float = 10.0
    rss_key: bytes = field(default=RSS_KEY, repr=False)
    drop: bool | None = None
    interrupt_interval_us: float = 20.0
    mac: bytes | None = None
    busy_poll: bool = False
    flow_director: FlowDirector | None = None
    loopback: bool = False
    flow_control: bool = False

    def __post_init__(self) -> None:
        for name, queues in (("tx_queues", self.tx_queues), ("rx_queues", self.rx_queues)):
            if not 1 <= queues <= QUEUES:
                raise ValueError(f"{name}={queues}: a port has 1 to {QUEUES} queues each way")
        if not MIN_MTU <= self.mtu <= MAX_FRAME - FRAME_OVERHEAD:
            raise ValueError(
                f"mtu={self.mtu}: the 82599 carries {MIN_MTU} to {MAX_FRAME - FRAME_OVERHEAD} bytes "
                f"(frames up to {MAX_FRAME} with header and CRC)"
            )
        if len(self.rss_key) != len(RSS_KEY):
            raise ValueError(
                f"rss_key has {len(self.rss_key)} bytes; a Toeplitz key has {len(RSS_KEY)} (82599 8.2.3.7.14)"
            )
        if not 0 <= self.interrupt_interval_us <= MAX_INTERVAL_US:
            raise ValueError(
                f"interrupt_interval_us={self.interrupt_interval_us}: choose 0 to {int(MAX_INTERVAL_US)} (82599 8.2.3.5.12)"
            )
        if not self.link_timeout >= 0:
            raise ValueError(f"link_timeout={self.link_timeout}: a time in seconds, 0 not to wait")

    @property
    def frame_size(self) -> int:
        """Longest frame in bytes, CRC included."""
        return self.mtu + FRAME_OVERHEAD

    @property
    def rx_buffer_kb(self) -> int:
        """What flow director leaves of the packet buffer."""
        return RX_BUFFER_KB - (BUFFER_KB if self.flow_director else 0)

    @property
    def drop_en(self) -> bool:
        """One full queue must not hold up the others (7.1.2.3); a single queue may fill the packet buffer before it loses, and flow control
        acts on nothing else."""
        return self.rx_queues > 1 and not self.flow_control if self.drop is None else self.drop
