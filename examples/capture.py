"""Write what a port receives to a file for tcpdump or Wireshark.

capture.py -i emulated:source -w /tmp/source.pcap -c 1000
tcpdump -r /tmp/source.pcap
capture.py -i emulated:source -w - | tcpdump -r - -c 10
capture.py -i netmap:ix0/rt -w - | tcpdump -r -    beside the programs that use ix0 of a daemon
"""

from __future__ import annotations

import os
import sys
import time

from meter import Meter, options, receiving_everything, run  # first: it makes Ctrl-C quiet while the other modules load

from ixrings import Port
from ixrings.driver.arguments import COUNT, MTU, SLOTS, whole
from ixrings.hw.capture.frames import MAX_FRAME
from ixrings.hw.capture.pcap import CaptureWriter

UNIT = 1024  # bytes; the NIC takes buffer sizes in KB
WAIT_S, FLUSH_S = 0.25, 0.5  # a frame is in the file within a second, at any rate


def capture(port: Port, writer: CaptureWriter, count: int, busy: bool, meter: Meter) -> None:
    """Write `count` frames, or frames without end for 0. Each buffer holds the longest frame, so a slot is a frame."""
    flush_at = 0.0
    while not count or writer.frames < count:
        if port.poll(WAIT_S, busy=busy):
            now = time.time_ns()
            for ring in port.rx_rings:
                span = ring.reserve(count - writer.frames if count else ring.num_slots)
                writer.write_batch(port.buffers, span.len, now, rows=span.buf_idx)
                ring.advance(len(span))
        if time.monotonic() >= flush_at:
            writer.flush()
            flush_at = time.monotonic() + FLUSH_S
        meter.tick()


def writes_to_stdout(file: str) -> bool:
    """Whether `file` is standard output by any name: -, /dev/stdout, /dev/fd/1."""
    try:
        return file == "-" or os.path.samestat(os.stat(file), os.fstat(1))
    except OSError:
        return False


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("-i", dest="port", default="emulated:source", help="port name (default: %(default)s)")
    parser.add_argument("-w", dest="file", required=True, help="file to write; - for standard output")
    parser.add_argument("-c", dest="count", type=COUNT, default=0, help="stop after this many frames (default: never)")
    parser.add_argument(
        "-s", dest="snaplen", type=whole(0, MAX_FRAME), default=0, help="bytes kept of each frame; 0 for all (default)"
    )
    parser.add_argument("--mtu", type=MTU, default=1500, help="longest payload in bytes (default: %(default)s)")
    parser.add_argument("--slots", type=SLOTS, default=8192, help="slots of the ring (default: %(default)s)")
    parser.add_argument("--busy", action="store_true", help="spin instead of sleeping")
    args = parser.parse_args()
    longest = args.mtu + 22
    buf_size = -(-longest // UNIT) * UNIT if longest > 2 * UNIT else None
    streams = writes_to_stdout(args.file)
    if streams and sys.stdout.isatty():
        parser.error("a capture is not for a terminal's screen; give -w FILE, or a pipe, such as: | tcpdump -r -")
    out = sys.stderr if streams else None
    # The port first: a file that its wire reads is not overwritten then.
    with receiving_everything(
        args.port, mtu=args.mtu, buf_size=buf_size, rx_slots=args.slots, trace=args.trace
    ) as port:
        with CaptureWriter(args.file, snaplen=args.snaplen or MAX_FRAME) as writer:
            with Meter(lambda: {"received": writer.frames}, [port], as_json=args.json, out=out) as meter:
                capture(port, writer, args.count, args.busy, meter)


if __name__ == "__main__":
    run(main)
