"""Receive-side scaling: the receive queue of a flow that no filter matches (82599 7.1.2.8)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Flag

import numpy as np
import numpy.typing as npt

from ixrings.hw import fields as f
from ixrings.hw.attributes import GuardedReads, always
from ixrings.hw.registers import Registers

from .checks import require
from .config import check_rss_key
from .queues import reception_stopped

TABLE_ENTRIES = 128
RSS_QUEUES = 16  # an entry has four bits (8.2.3.7.15)
RSS = 1  # MRQC.MRQE


class RssHeaders(Flag):
    """Headers that MRQC includes in the hash. Kinds with ports take precedence over addresses alone."""

    NONE = 0
    TCPIPV4 = f.MRQC.TCPIPV4.mask
    IPV4 = f.MRQC.IPV4.mask
    IPV6 = f.MRQC.IPV6.mask
    TCPIPV6 = f.MRQC.TCPIPV6.mask
    UDPIPV4 = f.MRQC.UDPIPV4.mask
    UDPIPV6 = f.MRQC.UDPIPV6.mask
    ALL = TCPIPV4 | IPV4 | IPV6 | TCPIPV6 | UDPIPV4 | UDPIPV6


class Rss(GuardedReads):
    """`port.rss`: the current settings of the NIC. Set an attribute to change it on the open port.

    A frame's queue is `table[hash & 127]`. A frame that matches none of `headers` has no hash and goes to queue 0. UDP
    ports are included by default. Fragments have no ports, so they may arrive on another queue than the rest of their
    flow; `headers &= ~RssHeaders.UDPIPV4` keeps them together.
    """

    __slots__ = ("_nic", "_queues")

    def __init__(self, nic: Registers, queues: int) -> None:
        self._nic, self._queues = nic, min(queues, RSS_QUEUES)

    @property
    def key(self) -> bytes:
        """The 40-byte key of the Toeplitz hash (8.2.3.7.14).

        Setting it stops reception for a moment. Raises ValueError.
        """
        return b"".join(int(word.read()).to_bytes(4, "little") for word in self._nic.RSSRK)

    @key.setter
    def key(self, key: bytes) -> None:
        require("port.rss.key", key, bytes, "40 bytes")
        check_rss_key("key", key)
        with reception_stopped(self._nic):
            write_key(self._nic, key)

    @property
    def table(self) -> npt.NDArray[np.uint8]:
        """A queue 0..15 for each value of the hash's low 7 bits, uint8, shape (128,) (8.2.3.7.15).

        A shorter table, such as range(4), is repeated. Raises ValueError.
        """
        return np.frombuffer(b"".join(int(entry.read()).to_bytes(4, "little") for entry in self._nic.RETA), np.uint8)

    @table.setter
    def table(self, queues: Sequence[int] | npt.NDArray[np.integer]) -> None:
        takes = "a list of queues, such as range(4)"
        require("port.rss.table", queues, Iterable, takes)
        for queue in queues:
            require("port.rss.table", queue, int, takes)
        table = [int(queue) for queue in queues]
        if not 1 <= len(table) <= TABLE_ENTRIES:
            raise ValueError(
                f"the table has {TABLE_ENTRIES} entries; give it 1 to {TABLE_ENTRIES} queues, not {len(table)}"
            )
        wrong = [queue for queue in table if not 0 <= queue < self._queues]
        if wrong and self._queues == RSS_QUEUES:
            raise ValueError(
                f"RSS cannot choose queue {wrong[0]}: it reaches queues 0 to {RSS_QUEUES - 1} (82599 8.2.3.7.15), "
                "port.filters reaches all queues"
            )
        if wrong:
            raise ValueError(f"there is no receive queue {wrong[0]}: the port was opened with rx_queues={self._queues}")
        write_table(self._nic, table)

    @property
    def headers(self) -> RssHeaders:
        """The headers in the hash (8.2.3.7.12). Setting it stops reception for a moment."""
        return RssHeaders(int(self._nic.MRQC.read()) & RssHeaders.ALL.value)

    @headers.setter
    def headers(self, headers: RssHeaders) -> None:
        require("port.rss.headers", headers, RssHeaders, "RssHeaders, such as RssHeaders.IPV4 | RssHeaders.IPV6")
        with reception_stopped(self._nic):
            self._nic.MRQC.write(headers.value, MRQE=self._nic.MRQC.read().MRQE)

    @always
    def __repr__(self) -> str:
        return f"<Rss {self.headers}, key {self.key.hex()}, queues {sorted(set(self.table.tolist()))}>"


def write_key(nic: Registers, key: bytes) -> None:
    """Write the 40-byte key (8.2.3.7.14)."""
    for word in range(len(nic.RSSRK)):
        nic.RSSRK[word].write(int.from_bytes(key[4 * word : 4 * word + 4], "little"))


def write_table(nic: Registers, queues: Sequence[int]) -> None:
    """Write `queues`, repeated to the end of the table. Allowed while frames arrive (8.2.3.7.15)."""
    for entry in range(0, TABLE_ENTRIES, 4):
        first, second, third, fourth = (queues[(entry + i) % len(queues)] for i in range(4))
        nic.RETA[entry // 4].write(ENTRY_0=first, ENTRY_1=second, ENTRY_2=third, ENTRY_3=fourth)


def init_rss(nic: Registers, queues: Sequence[int], key: bytes, mode: int = RSS) -> None:
    """Spread flows over the first 16 of `queues`, before reception starts. mode: MRQC.MRQE.

    RSS is also set up for a single queue, so that descriptors carry the hash.
    """
    write_key(nic, key)
    write_table(nic, queues[:RSS_QUEUES])
    nic.RXCSUM.update(PCSD=1)  # descriptors carry the hash instead of the fragment checksum (8.2.3.7.5)
    nic.MRQC.write(RssHeaders.ALL.value, MRQE=mode)
