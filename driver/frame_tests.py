"""Comparisons of a batch of frames by numpy, with the results of libpcap's compiled filters.

A filter of libpcap that reads past the end of a frame refuses the frame, also below a `not`. Therefore a test has three
results: 1, 0, or SHORT, and what libpcap would not have read does not count. (libpcap's optimizer leaves out some
reads; this is `tcpdump -O`, without it. They differ only for frames that end inside of a header.)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

ETHERNET = 14
TAG = 4  # bytes of a VLAN tag
MOST_TAGS = 2
HEAD = ETHERNET + MOST_TAGS * TAG + 60 + 4  # bytes: the longest IPv4 header and the ports after it
IPV4, ARP, RARP, IPV6 = 0x0800, 0x0806, 0x8035, 0x86DD
TAGS = (0x8100, 0x88A8, 0x9100)
FRAGMENT_HEADER = 44  # IPv6
SHORT = -1  # the frame ends before

Mask: TypeAlias = "npt.NDArray[np.bool_]"
Numbers: TypeAlias = "npt.NDArray[np.uint32]"
Results: TypeAlias = "npt.NDArray[np.int8]"


class Heads:
    """The first HEAD bytes of each frame, uint8, shape (n, HEAD), and the frames' lengths in bytes, shape (n,)."""

    def __init__(self, data: npt.NDArray[np.uint8], lengths: npt.NDArray[np.integer]) -> None:
        self.data, self.lengths = data, lengths
        self._shortest = int(lengths.min(initial=HEAD))
        self._loaded: dict[tuple[int, int], Numbers] = {}

    def __len__(self) -> int:
        return len(self.lengths)

    def number(self, at: int, size: int) -> Numbers:
        """The big-endian number of 1, 2 or 4 bytes at byte `at`. What is past the end of a frame has no meaning."""
        if (found := self._loaded.get((at, size))) is None:
            field = np.ascontiguousarray(self.data[:, at : at + size])
            found = self._loaded[at, size] = np.asarray(field.view(f">u{size}")[:, 0], np.uint32)
        return found

    def number_after_ip(self, at: int, ip: int) -> Numbers:
        """The 16-bit number `at` bytes after the IPv4 header that begins at byte `ip`."""
        first = self._after_ip(at, ip)
        rows = np.arange(len(self))
        found: Numbers = self.data[rows, first].astype(np.uint32) << np.uint32(8) | self.data[rows, first + 1]
        return found

    def reaches_after_ip(self, at: int, ip: int) -> Mask:
        found: Mask = self._after_ip(at, ip) + 2 <= self.lengths
        return found

    def _after_ip(self, at: int, ip: int) -> Numbers:
        found: Numbers = (self.number(ip, 1) & np.uint32(0xF)) * np.uint32(4) + np.uint32(ip + at)
        return found

    def checked(self, results: Mask, end: int) -> Results:
        """The results of a comparison that reads up to byte `end`; SHORT for frames that end before."""
        found: Results = results.view(np.int8)
        return found if end <= self._shortest else np.where(self.lengths >= end, found, np.int8(SHORT))


Test: TypeAlias = Callable[[Heads], Results]
Comparison: TypeAlias = Callable[[Numbers], Mask]


def negated(test: Test) -> Test:
    def results(heads: Heads) -> Results:
        found = test(heads)
        opposite: Results = np.where(found == SHORT, found, found ^ np.int8(1))
        return opposite

    return results


def both(*tests: Test) -> Test:
    """Whether all hold. The next test counts only for frames for which those before it hold."""
    return chained(tests, 1)


def either(*tests: Test) -> Test:
    """Whether one holds. The next test counts only for frames for which none before it holds."""
    return chained(tests, 0)


def chained(tests: tuple[Test, ...], goes_on: int) -> Test:
    def results(heads: Heads) -> Results:
        found = tests[0](heads)
        for test in tests[1:]:
            open_ones = found == goes_on
            if not open_ones.any():
                break
            found = np.where(open_ones, test(heads), found)
        return found

    return results


def compared(at: int, size: int, comparison: Comparison) -> Test:
    """Whether the number at byte `at` compares so."""
    return lambda heads: heads.checked(comparison(heads.number(at, size)), at + size)


def equal(at: int, size: int, number: int, mask: int | None = None) -> Test:
    if mask is None:
        return compared(at, size, lambda found: found == number)
    return compared(at, size, lambda found: (found & np.uint32(mask)) == number)


def equal_after_ip(at: int, ip: int, comparison: Comparison) -> Test:
    """Whether the 16-bit number `at` bytes after the IPv4 header compares so."""

    def results(heads: Heads) -> Results:
        found = comparison(heads.number_after_ip(at, ip)).view(np.int8)
        short: Results = np.where(heads.reaches_after_ip(at, ip), found, np.int8(SHORT))
        return short

    return both(compared(ip, 1, lambda found: found >= 0), results)


def of_length(comparison: Callable[[npt.NDArray[np.integer]], Mask]) -> Test:
    """Whether the frame's length compares so."""
    return lambda heads: comparison(heads.lengths).view(np.int8)


def begins_with(at: int, value: bytes, bits: int) -> Test:
    """Whether the bytes at `at`, a multiple of 4, begin with the first `bits` bits of `value`."""
    mask = ((1 << bits) - 1 << 8 * len(value) - bits).to_bytes(len(value), "big")
    return both(
        *(
            equal(
                at + place,
                4,
                int.from_bytes(value[place : place + 4], "big"),
                int.from_bytes(mask[place : place + 4], "big"),
            )
            for place in range(0, len(value), 4)
        )
    )


def of_mac(at: int, address: bytes) -> Test:
    return both(equal(at + 2, 4, int.from_bytes(address[2:], "big")), equal(at, 2, int.from_bytes(address[:2], "big")))


class Layer:
    """Tests of what follows `tags` VLAN tags."""

    def __init__(self, tags: int = 0) -> None:
        self.tags = tags
        self._type = 12 + TAG * tags
        self._ip = ETHERNET + TAG * tags

    def ether_type(self, number: int) -> Test:
        return equal(self._type, 2, number)

    def tag(self, vlan: int | None) -> Test:
        """A VLAN tag, of this VLAN if it is not None."""
        tagged = either(*(self.ether_type(kind) for kind in TAGS))
        return tagged if vlan is None else both(tagged, equal(self._ip, 2, vlan, 0xFFF))

    def protocol4(self, number: int) -> Test:
        return both(self.ether_type(IPV4), equal(self._ip + 9, 1, number))

    def protocol6(self, number: int) -> Test:
        """The next header, or the one after a fragment header."""
        next_header = self._ip + 6
        fragment = both(equal(next_header, 1, FRAGMENT_HEADER), equal(self._ip + 40, 1, number))
        return both(self.ether_type(IPV6), either(equal(next_header, 1, number), fragment))

    def address4(self, kind: int, destination: bool, value: bytes, bits: int) -> Test:
        """An address of IPV4, ARP or RARP."""
        at = 12 + 4 * destination if kind == IPV4 else 14 + 10 * destination
        return both(self.ether_type(kind), begins_with(self._ip + at, value, bits))

    def address6(self, destination: bool, value: bytes, bits: int) -> Test:
        return both(self.ether_type(IPV6), begins_with(self._ip + 8 + 16 * destination, value, bits))

    def multicast4(self) -> Test:
        return both(self.ether_type(IPV4), compared(self._ip + 16, 1, lambda found: found >= 0xE0))

    def multicast6(self) -> Test:
        return both(self.ether_type(IPV6), equal(self._ip + 24, 1, 0xFF))

    def ports4(self, number: int, sides: Callable[[Callable[[bool], Test]], Test], comparison: Comparison) -> Test:
        """Ports of this protocol; a later fragment has none. sides: which of the two ports count."""
        first = equal(self._ip + 6, 2, 0, 0x1FFF)
        ports = sides(lambda destination: equal_after_ip(2 * destination, self._ip, comparison))
        return both(equal(self._ip + 9, 1, number), first, ports)

    def ports6(self, number: int, sides: Callable[[Callable[[bool], Test]], Test], comparison: Comparison) -> Test:
        """Ports directly after the IPv6 header."""
        ports = sides(lambda destination: compared(self._ip + 40 + 2 * destination, 2, comparison))
        return both(equal(self._ip + 6, 1, number), ports)
