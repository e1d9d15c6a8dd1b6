"""Frames of a capture file for streams.py, with other addresses where these are asked for.

Each address of the capture gets one of the new ones: the first of the lowest, and so on, from the beginning again if
there are too few. So the packets of a connection stay together. Ports stay. Checksums of IPv4, UDP, TCP and ICMPv6 are
corrected by the difference (RFC 1624); behind IPv6 extension headers they are not.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from fields import Endpoints, Ints, Rows
from numbered import folded, sum_of_words
from replay import frames_of, sendable

import numpy as np
import numpy.typing as npt

from ixrings.hw.capture.pcap import Capture, CaptureError, read_capture

Mask = npt.NDArray[np.bool_]
IPV4, IPV6, TAGS = 0x0800, 0x86DD, (0x8100, 0x88A8)
TCP, UDP, ICMPV6 = 6, 17, 58
CHECKSUM_AT = {TCP: 16, UDP: 6, ICMPV6: 2}  # from the upper header on
OFFSET_OF_FRAGMENT = 0x1FFF


class Captured:
    """The frames of a file in turn (a Source). Raises CaptureError."""

    sizes = 1

    def __init__(
        self,
        file: Path,
        source: Endpoints | None,
        destination: Endpoints | None,
        source_macs: Rows | None,
        destination_macs: Rows | None,
    ) -> None:
        self._capture = sendable(read_capture(file), file, pad=True, skip=False)
        if not len(self._capture):
            raise CaptureError(f"{file} has no frames to send")
        self.flows = len(self._capture)
        self.longest = int(self._capture.wire_lengths.max())
        if any(each is not None for each in (source, destination, source_macs, destination_macs)):
            self._capture = replace(self._capture, data=self._capture.data.copy())
            addresses = Addresses(self._capture)
            addresses.replace_macs(6, source_macs)
            addresses.replace_macs(0, destination_macs)
            ends = [(which, new) for which, new in enumerate((source, destination)) if new is not None]
            kept = max((addresses.replace_ips(which, new) for which, new in ends), default=0)
            if kept:
                kind = ends[0][1].name
                print(f"{file}: {kept} of {self.flows} frames are not {kind} and keep their addresses", file=sys.stderr)

    def rows(self, flow: Ints, turn: Ints) -> tuple[Rows, Ints]:
        frames, lengths = frames_of(self._capture, flow)
        return frames, lengths.astype(np.int64)


@dataclass
class Headers:
    """Places in the file, shape (n,). upper: of the checksum that covers the addresses, where `covered` is True."""

    ip: Ints
    ipv4: Mask
    ipv6: Mask
    upper: Ints
    covered: Mask


class Addresses:
    """Replaces addresses in the frames of a capture, in the bytes of the file."""

    def __init__(self, capture: Capture) -> None:
        self._data = capture.data
        self._at = capture.offsets.astype(np.int64)
        self._end = self._at + capture.lengths
        self._headers = self._find()

    def _word(self, at: Ints) -> Ints:
        """16 bits at each place; past the file's end any value."""
        high, low = (self._data.take(at + k, mode="clip").astype(np.int64) for k in range(2))
        return high << 8 | low

    def _find(self) -> Headers:
        ip = self._at + 12
        for _ in range(2):
            ip = np.where(np.isin(self._word(ip), TAGS), ip + 4, ip)
        kind, ip = self._word(ip), ip + 2
        first = self._data.take(ip, mode="clip").astype(np.int64)
        ipv4 = (kind == IPV4) & (first >> 4 == 4) & (ip + 20 <= self._end)
        ipv6 = (kind == IPV6) & (first >> 4 == 6) & (ip + 40 <= self._end)
        upper = ip + np.where(ipv4, 4 * (first & 0xF), 40)
        protocol = self._data.take(ip + np.where(ipv4, 9, 6), mode="clip")
        begins = ipv6 | (self._word(ip + 6) & OFFSET_OF_FRAGMENT == 0)
        covered = np.zeros(len(ip), np.bool_)
        for number, at in CHECKSUM_AT.items():
            here = (ipv4 | ipv6) & begins & (protocol == number) & (ipv6 | (number != ICMPV6))
            here &= upper + at + 2 <= self._end
            upper = np.where(here, upper + at, upper)
            covered |= here
        covered &= ~(ipv4 & (protocol == UDP) & (self._word(upper) == 0))  # 0: the sender has made none (RFC 768)
        return Headers(ip, ipv4, ipv6, upper, covered)

    def replace_macs(self, offset: int, macs: Rows | None) -> None:
        if macs is not None:
            places = (self._at[self._at + 12 <= self._end] + offset)[:, None] + np.arange(6)
            self._data[places] = macs[ranks(self._data[places]) % len(macs)]

    def replace_ips(self, which: int, new: Endpoints) -> int:
        """which: 0 for the sources, 1 for the destinations. Returns how many frames have no such address."""
        headers, width = self._headers, new.width
        here = headers.ipv4 if width == 4 else headers.ipv6
        at = headers.ip[here] + (12 if width == 4 else 8) + which * width
        places = at[:, None] + np.arange(width)
        old = self._data[places]
        addresses = np.ascontiguousarray(new.addresses(ranks(old)))
        # RFC 1624, equation 3: the difference is the old words inverted, and the new ones.
        difference = sum_of_words(~old.view(np.uint16)) + sum_of_words(addresses.view(np.uint16))
        self._data[places] = addresses
        if width == 4:
            self._correct(headers.ip[here] + 10, difference)
        covered = headers.covered[here]
        self._correct(headers.upper[here][covered], difference[covered], zero=0xFFFF)
        return len(here) - int(np.count_nonzero(here))

    def _correct(self, at: Ints, difference: npt.NDArray[np.uint32], zero: int = 0) -> None:
        """zero: what stands for a checksum of 0, which means none in UDP."""
        places = at[:, None] + np.arange(2)
        old = np.ascontiguousarray(self._data[places]).view(np.uint16)[:, 0]
        new = (~folded(difference + (~old).astype(np.uint32))).astype(np.uint16)
        new[new == 0] = zero
        self._data[places] = new[:, None].view(np.uint8)


def ranks(rows: Rows) -> Ints:
    """For each row the number of different rows that are lower, shape (n,)."""
    whole = np.ascontiguousarray(rows).view(f"V{rows.shape[1]}")[:, 0]
    found: Ints = np.unique(whole, return_inverse=True)[1].reshape(-1)
    return found
