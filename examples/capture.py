"""Write what a port receives to a file for tcpdump or Wireshark.

capture.py -i emulated:source -w /tmp/source.pcap -c 1000
tcpdump -r /tmp/source.pcap
capture.py -i emulated:source -w - | tcpdump -r - -c 10
capture.py -i netmap:ix0/rt -w - | tcpdump -r -    beside the programs that use ix0 of a daemon
capture.py -w dns.pcapng.gz --filter 'udp port 53' --comment 'from rack 7'
capture.py -w last.pcap -C 100 -W 10     ten files of 100 MB, last.pcap0 to last.pcap9, again and again
capture.py -w %H%M.pcap -G 60            a file a minute, named by the time
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress

from meter import (
    Meter,
    dropped,
    options,
    receiving_everything,
    run,
)  # first: it makes Ctrl-C quiet while the other modules load

import numpy as np
import numpy.typing as npt

import ixrings
from ixrings import ERRORS, Port, Stamp
from ixrings.driver.arguments import COUNT, MTU, SLOTS, checked, whole
from ixrings.driver.capture_filter import parse_filter
from ixrings.driver.steering import EtherTypeFilter
from ixrings.hw.capture.frames import MAX_FRAME, NS
from ixrings.hw.capture.pcap import CaptureWriter
from ixrings.hw.capture.records import LONGEST_OPTION, Counts, Origin
from ixrings.hw.capture.ring_files import MEGABYTE, RingFiles
from ixrings.hw.capture.writer import format_of
from ixrings.rings import RxRing, Span
from ixrings.rings.layout import SlotFlag

DAEMON = "netmap:"
UNIT = 1024  # bytes; the NIC takes buffer sizes in KB
UNWANTED, WANTED = 0, 1  # queues, if the NIC's filters choose
SEQUENCE = (44, 72, 92)  # where the sequenceId of a PTP message is: after Ethernet, IPv4 and UDP, IPv6 and UDP
SORTED_S = 1.0  # after this time no frame is on its way that came before the filters
WAIT_S, FLUSH_S = 0.25, 0.5  # a frame is in the file within a second, at any rate


class Capture:
    """A capture of a port. unwanted: the queue of frames that the NIC's own filters do not take, or None."""

    def __init__(self, port: Port, args: argparse.Namespace, unwanted: int | None) -> None:
        self._port, self._wanted, self._unwanted = port, args.filter, unwanted
        self._stamps = Stamps(port) if args.ptp_stamps else None
        self._in_pieces = port.name.startswith(DAEMON)  # its buffers may be shorter than a frame
        self._refused = 0  # by numpy, less what it has taken of the unwanted
        self._sorted_at = time.monotonic() + SORTED_S
        self.writer = open_files(args, origin(port, args), self._counts)

    def counted(self) -> dict[str, float]:
        """received: frames in the file. filtered: frames that the filter does not take."""
        found: dict[str, float] = {"received": self.writer.frames}
        if self._wanted is not None:
            found["filtered"] = self._refused + self._refused_by_nic()
        return found if self._stamps is None else found | {"stamped": self._stamps.count}

    def _refused_by_nic(self) -> int:
        """Frames of the unwanted queue, also those that it had no room for."""
        try:
            queue = None if self._unwanted is None else self._port.stats().rx[self._unwanted]
        except ERRORS:
            queue = None
        return queue["QPRC"] + queue["QPRDC"] if queue else 0

    def run(self, count: int, busy: bool, meter: Meter) -> None:
        """Write `count` frames, or frames without end for 0, until the last of the ring files is old."""
        flush_at = 0.0
        while not (count and self.writer.frames >= count) and not over(self.writer):
            if self._port.poll(WAIT_S, busy=busy):
                self._take(count)
            if time.monotonic() >= flush_at:
                self.writer.flush()
                if self._stamps is not None:
                    self._stamps.release()
                flush_at = time.monotonic() + FLUSH_S
            meter.tick()

    def _take(self, count: int) -> None:
        """Write what is in the rings. In a port of its own each buffer holds the longest frame: a slot is a frame."""
        now = time.time_ns()
        for number, ring in enumerate(self._port.rx_rings):
            unwanted = number == self._unwanted
            if unwanted and time.monotonic() > self._sorted_at:
                ring.advance(len(ring.reserve(ring.num_slots)))
                continue
            span = ring.reserve(min(count - self.writer.frames, ring.num_slots) if count else ring.num_slots)
            if self._in_pieces and (span.flags & SlotFlag.NS_MOREFRAG).any():
                self._take_frames(count)
                return
            if self._stamps is not None:
                self._stamps.look(ring, span)
            lengths, rows = span.len, span.buf_idx
            if self._wanted is not None:
                taken = self._wanted.takes(self._port, span)
                lengths, rows = lengths[taken], rows[taken]
                self._refused += (0 if unwanted else len(span)) - len(lengths)
            if self._stamps is not None and self._stamps.of_buffer in rows:
                self._write_stamped(lengths, rows, now)
            else:
                self.writer.write_batch(self._port.buffers, lengths, now, rows=rows)
            ring.advance(len(span))

    def _take_frames(self, count: int) -> None:
        """The same, where a frame takes several slots."""
        for frame in self._port.recv(0):
            if self._wanted is None or self._wanted.takes_frame(frame):
                self.writer.write(frame, time.time_ns())
            else:
                self._refused += 1
            if count and self.writer.frames >= count:
                return

    def _write_stamped(self, lengths: npt.NDArray[np.uint16], rows: npt.NDArray[np.uint32], now: int) -> None:
        """Write a batch with a frame that the NIC has stamped: the stamp is its comment."""
        assert self._stamps is not None
        at, buffers = int(np.flatnonzero(rows == self._stamps.of_buffer)[0]), self._port.buffers
        self.writer.write_batch(buffers, lengths[:at], now, rows=rows[:at])
        frame = buffers[rows[at], : lengths[at]]
        self.writer.write(frame, now, int(lengths[at]), self._stamps.comment)
        self.writer.write_batch(buffers, lengths[at + 1 :], now, rows=rows[at + 1 :])
        self._stamps.count += 1

    def _counts(self) -> Counts:
        """What the NIC has counted, for a pcapng file. A daemon's NIC counts for all its programs, a VF no losses."""
        accepted = None if self._wanted is None else self.writer.frames
        try:
            stats = None if self._port.name.startswith(DAEMON) else self._port.stats()
        except ERRORS:
            stats = None
        if stats is None or "MPC" not in stats:
            return Counts(accepted=accepted)
        return Counts(stats["TPR"], stats["MPC"] + dropped(stats, self._unwanted), accepted)


class Stamps:
    """Stamps of the NIC's clock. The 82599 stamps PTP event messages alone, one until its stamp is read (7.9.3).

    of_buffer: the buffer of the frame that has a stamp, or -1. comment: what to write of this frame.
    """

    def __init__(self, port: Port) -> None:
        self._port, self._clock = port, port.clock
        self._clock.set(time.time_ns())
        self._early: Stamp | None = None
        self.count, self.of_buffer, self.comment = 0, -1, ""

    def look(self, ring: RxRing, span: Span) -> None:
        """Look for a stamped frame in a span."""
        self.of_buffer = -1
        marked = np.flatnonzero(self._port.received(ring, span).stamped)
        stamps = (self._early, self._clock.received()) if len(marked) else ()
        for stamp in filter(None, stamps):
            for row in span.buf_idx[marked]:
                if any(
                    bytes(self._port.buffers[row, at : at + 2]) == stamp.sequence.to_bytes(2, "big") for at in SEQUENCE
                ):
                    self.of_buffer = int(row)
                    self.comment = (
                        f"the NIC's clock: {stamp.ns // NS}.{stamp.ns % NS:09} s, sequenceId {stamp.sequence}"
                    )

    def release(self) -> None:
        """Let the NIC stamp again, also if the stamped frame was dropped and never comes."""
        self._early = self._clock.received()


def over(writer: CaptureWriter | RingFiles) -> bool:
    return isinstance(writer, RingFiles) and writer.over


def origin(port: Port, args: argparse.Namespace) -> Origin:
    """What a pcapng file says about the port."""
    link, software = port.link, " made of software" * port.name.startswith("emulated")
    return Origin(
        name=port.name,
        description=f"link {link}",
        hardware="" if port.name.startswith(DAEMON) else "Intel 82599" + software,
        mac=bytes.fromhex(port.mac.replace(":", "")),
        speed=link.speed_mbps * 1_000_000,
        filter=args.filter.text if args.filter else "",
        comment=args.comment,
        application=f"ixrings {ixrings.__version__} capture.py",
        system=f"{platform.system()} {platform.release()}",
    )


def open_files(args: argparse.Namespace, about: Origin, counts: Callable[[], Counts]) -> CaptureWriter | RingFiles:
    form, gzip = format_of(args.file)

    def open_file(name: str) -> CaptureWriter:
        return CaptureWriter(
            name, args.snaplen or MAX_FRAME, format=args.format or form, gzip=gzip, origin=about, counts=counts
        )

    if not args.megabytes and not args.seconds:
        return open_file(args.file)
    return RingFiles(args.file, open_file, size=args.megabytes * MEGABYTE, seconds=args.seconds, most=args.most_files)


def opened(args: argparse.Namespace) -> tuple[Port, int | None]:
    """The port, and the queue of frames that the NIC's filters do not take; None if its filters do not fit.

    Filters by EtherType fit. 5-tuple filters do not: they would miss fragments, IPv6, and damaged IPv4 headers.
    """
    longest = args.mtu + 22
    buf_size = -(-longest // UNIT) * UNIT if longest > 2 * UNIT else None

    def with_queues(count: int) -> Port:
        return receiving_everything(
            args.port, mtu=args.mtu, buf_size=buf_size, rx_slots=args.slots, rx_queues=count, trace=args.trace
        )

    types = args.filter.ether_types if args.filter else frozenset()
    if types and not args.port.startswith(DAEMON):
        with suppress(*ERRORS), ExitStack() as undo:  # a virtual function has no such filters: numpy does it alone
            port = undo.enter_context(with_queues(2))
            port.rss.table = [UNWANTED]
            port.filters.add(*(EtherTypeFilter(each, WANTED) for each in sorted(types)))
            undo.pop_all()
            return port, UNWANTED
    return with_queues(1), None


def writes_to_stdout(file: str) -> bool:
    """Whether `file` is standard output by any name: -, /dev/stdout, /dev/fd/1."""
    try:
        return file == "-" or os.path.samestat(os.stat(file), os.fstat(1))
    except OSError:
        return False


def text_of_option(text: str) -> str:
    if len(text.encode(errors="replace")) > LONGEST_OPTION:
        raise ValueError(f"the comment has more than {LONGEST_OPTION} bytes; make it shorter")
    return text


def arguments() -> argparse.Namespace:
    parser = options(__doc__)
    parser.add_argument("-i", dest="port", default="emulated:source", help="port name (default: %(default)s)")
    parser.add_argument(
        "-w",
        dest="file",
        required=True,
        help="file to write: x.pcap, x.pcapng, and with .gz after that compressed by gzip; - for standard output",
    )
    parser.add_argument("-c", dest="count", type=COUNT, default=0, help="stop after this many frames (default: never)")
    parser.add_argument(
        "-s", dest="snaplen", type=whole(0, MAX_FRAME), default=0, help="bytes kept of each frame; 0 for all (default)"
    )
    parser.add_argument(
        "--filter",
        type=checked(parse_filter),
        metavar="EXPRESSION",
        help="write only such frames, as of tcpdump: 'udp port 53', 'vlan 5 and not host 10.0.0.1'",
    )
    parser.add_argument(
        "-F", dest="format", choices=("pcap", "pcapng"), help="format (default: as the file's name says)"
    )
    parser.add_argument(
        "--comment", type=checked(text_of_option), default="", help="words for the head of a pcapng file"
    )
    parser.add_argument(
        "--ptp-stamps",
        action="store_true",
        help="write the NIC's stamps of PTP event messages as comments (pcapng); the 82599 stamps no other frame",
    )
    parser.add_argument(
        "-C", dest="megabytes", type=whole(1), default=0, help="go on with the next file after so many 1,000,000 bytes"
    )
    parser.add_argument(
        "-G", dest="seconds", type=whole(1), default=0, help="go on with the next file after so many seconds"
    )
    parser.add_argument(
        "-W",
        dest="most_files",
        type=whole(1),
        default=0,
        help="with -C: overwrite the first file after so many; with -G: stop",
    )
    parser.add_argument("--mtu", type=MTU, default=1500, help="longest payload in bytes (default: %(default)s)")
    parser.add_argument("--slots", type=SLOTS, default=8192, help="slots of the ring (default: %(default)s)")
    parser.add_argument("--busy", action="store_true", help="spin instead of sleeping")
    args = parser.parse_args()
    rings = bool(args.megabytes or args.seconds)
    if writes_to_stdout(args.file) and rings:
        parser.error("-C and -G write one file after the other; give -w FILE")
    if writes_to_stdout(args.file) and sys.stdout.isatty():
        parser.error("a capture is not for a terminal's screen; give -w FILE, or a pipe, such as: | tcpdump -r -")
    if args.most_files and not rings:
        parser.error("-W counts files; add -C MEGABYTES or -G SECONDS")
    if (args.comment or args.ptp_stamps) and (args.format or format_of(args.file)[0]) == "pcap":
        parser.error("a pcap file has no place for a comment; name the file .pcapng, or add -F pcapng")
    return args


def main() -> None:
    args = arguments()
    # The port first: a file that its wire reads is not overwritten then.
    port, unwanted = opened(args)
    with port:
        capture = Capture(port, args, unwanted)
        out = sys.stderr if writes_to_stdout(args.file) else None
        with capture.writer, Meter(capture.counted, [port], as_json=args.json, out=out, unwanted=unwanted) as meter:
            capture.run(args.count, args.busy, meter)


if __name__ == "__main__":
    run(main)
