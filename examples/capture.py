"""Write what a port receives to a file for tcpdump or Wireshark.

capture.py -i emulated:source -w /tmp/source.pcap -c 1000
tcpdump -r /tmp/source.pcap
"""

from __future__ import annotations

import time
from pathlib import Path

from meter import Meter, options, run  # first: it makes Ctrl-C quiet while the other modules load

from ixrings import Port, open_port
from ixrings.hw.capture.pcap import CaptureWriter

UNIT = 1024  # bytes; the NIC takes buffer sizes in KB


def capture(port: Port, writer: CaptureWriter, count: int, busy: bool, meter: Meter) -> None:
    """Write `count` frames, or frames without end for 0. Each buffer holds the longest frame, so a slot is a frame."""
    while not count or writer.frames < count:
        if port.poll(1.0, busy=busy):
            now = time.time_ns()
            for ring in port.rx_rings:
                span = ring.reserve(count - writer.frames if count else ring.num_slots)
                writer.write_batch(port.buffers, span.len, now, rows=span.buf_idx)
                ring.advance(len(span))
        else:
            writer.flush()
        meter.tick()


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("-i", dest="port", default="emulated:source", help="port name (default: %(default)s)")
    parser.add_argument("-w", dest="file", type=Path, required=True, help="file to write")
    parser.add_argument("-c", dest="count", type=int, default=0, help="stop after this many frames (default: never)")
    parser.add_argument("-s", dest="snaplen", type=int, default=65535, help="bytes kept of each frame (default: all)")
    parser.add_argument("--mtu", type=int, default=1500, help="longest payload in bytes (default: %(default)s)")
    parser.add_argument("--slots", type=int, default=8192, help="slots of the ring (default: %(default)s)")
    parser.add_argument("--busy", action="store_true", help="spin instead of sleeping")
    args = parser.parse_args()
    longest = args.mtu + 22
    buf_size = -(-longest // UNIT) * UNIT if longest > 2 * UNIT else None
    # The port first: a file that its wire reads is not overwritten then.
    with open_port(
        args.port, mtu=args.mtu, buf_size=buf_size, rx_slots=args.slots, promiscuous=True, trace=args.trace
    ) as port:
        with CaptureWriter(args.file, snaplen=args.snaplen) as writer:
            with Meter(lambda: {"received": writer.frames}, as_json=args.json) as meter:
                capture(port, writer, args.count, args.busy, meter)


if __name__ == "__main__":
    run(main)
