"""Send the frames of a capture file: at their recorded pace, faster or slower, at a fixed rate, or without pacing.

replay.py -i emulated:pcap=,/tmp/out.pcap /tmp/in.pcap --flat-out
"""

from __future__ import annotations

import time
from pathlib import Path
from select import POLLOUT

from meter import Meter, options, run  # first: it makes Ctrl-C quiet while the other modules load

import numpy as np
import numpy.typing as npt

from ixrings import Port, open_port
from ixrings.hw.capture.frames import Capture
from ixrings.hw.capture.pcap import read_capture

UNIT = 1024  # bytes; the NIC takes buffer sizes in KB


def due_ns(capture: Capture, speed: float, rate: float, flat_out: bool) -> npt.NDArray[np.int64]:
    """The time at which each frame is sent, in nanoseconds from the start; never decreasing."""
    if flat_out or not len(capture):
        return np.zeros(len(capture), np.int64)
    if rate:
        return (np.arange(len(capture)) * (1e9 / rate)).astype(np.int64)
    times: npt.NDArray[np.int64] = np.maximum.accumulate(capture.times_ns)
    due: npt.NDArray[np.int64] = ((times - times[0]) / speed).astype(np.int64)
    return due


def put(port: Port, capture: Capture, first: int, count: int) -> int:
    """Copy up to `count` frames, from number `first` on, into the ring. Returns the number of frames copied."""
    span = port.tx_rings[0].reserve(count)
    lengths = capture.lengths[first : first + len(span)]
    longest = int(lengths.max(initial=0))
    places = capture.offsets[first : first + len(span), None].astype(np.int64) + np.arange(longest)
    port.buffers[span.buf_idx, :longest] = capture.data.take(places, mode="clip")
    span.len[:] = lengths
    port.tx_rings[0].advance(len(span))
    return len(span)


def replay(
    port: Port, capture: Capture, due: npt.NDArray[np.int64], batch: int, meter: Meter, counted: dict[str, float]
) -> None:
    start = time.monotonic_ns()
    sent = 0
    while sent < len(capture):
        ready = int(np.searchsorted(due, time.monotonic_ns() - start, side="right")) - sent
        if not ready:
            port.txsync()
            time.sleep(min(0.1, max(0.0, (int(due[sent]) - (time.monotonic_ns() - start)) / 1e9)))
            continue
        n = put(port, capture, sent, min(ready, batch))
        port.txsync()
        if not n:
            port.poll(1.0, POLLOUT)
        sent += n
        counted["sent"] = sent
        meter.tick()
    port.flush()


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("file", type=Path, help="pcap or pcapng")
    parser.add_argument("-i", dest="port", default="emulated:sink", help="port name (default: %(default)s)")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--speed", type=float, default=1.0, help="factor on the recorded pace (default: %(default)s)")
    pace.add_argument("-R", dest="rate", type=float, default=0, help="frames a second")
    pace.add_argument("--flat-out", action="store_true", help="as fast as possible")
    parser.add_argument(
        "-b", dest="batch", type=int, default=256, help="most frames in one sync (default: %(default)s)"
    )
    args = parser.parse_args()
    if args.speed <= 0 or args.rate < 0 or args.batch < 1:
        parser.error("--speed must be more than 0, -b at least 1, -R at least 0")
    capture = read_capture(args.file)
    longest = max(int(capture.lengths.max(initial=0)), 1514)
    counted: dict[str, float] = {"sent": 0}
    buf_size = -(-longest // UNIT) * UNIT if longest > 2 * UNIT else None
    with open_port(args.port, mtu=longest - 14, buf_size=buf_size, trace=args.trace) as port:
        port.wait_link()
        with Meter(lambda: counted, as_json=args.json) as meter:
            replay(port, capture, due_ns(capture, args.speed, args.rate, args.flat_out), args.batch, meter, counted)


if __name__ == "__main__":
    run(main)
