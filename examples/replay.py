"""Send the frames of a capture file: at their recorded pace, faster or slower, at a fixed rate, or without pacing.

replay.py -i emulated:pcap=,/tmp/out.pcap /tmp/in.pcap --flat-out
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from select import POLLOUT

from meter import Meter, options, run  # first: it makes Ctrl-C quiet while the other modules load

import numpy as np
import numpy.typing as npt

from ixrings import Port, open_port
from ixrings.driver.arguments import BATCH, RATE, number
from ixrings.driver.config import MAX_FRAME
from ixrings.hw.capture.frames import Capture
from ixrings.hw.capture.pcap import CaptureError, read_capture
from ixrings.hw.output import held_input

UNIT = 1024  # bytes; the NIC takes buffer sizes in KB
LATEST_NS = 2.0**62
LONGEST = MAX_FRAME - 4  # bytes; captures have no CRC


def sendable(capture: Capture, file: Path, pad: bool, skip: bool) -> Capture:
    """The frames that can be sent. pad: frames that the capture has cut can. Records of no bytes are left out.

    Raises CaptureError without `skip`, which leaves out all other frames that cannot be sent.
    """
    empty = capture.lengths == 0
    too_long = (capture.wire_lengths > LONGEST) & ~empty
    cut = (capture.lengths < capture.wire_lengths) & ~too_long & ~empty
    left_out = too_long if pad else too_long | cut
    if left_out.any() and not skip:
        raise CaptureError(f"{file}: {why_not(capture, int(left_out.argmax()))}")
    if pad and (count := int(cut.sum())):
        print(
            f"{file}: {count} of {len(capture)} frames are cut (the capture has only their first bytes): zeros are "
            "sent for the rest. To refuse such frames, add --cut refuse",
            file=sys.stderr,
        )
    return capture.only(~(left_out | empty))


def why_not(capture: Capture, i: int) -> str:
    """The sentence about frame i, which is not sent."""
    captured, whole = int(capture.lengths[i]), int(capture.wire_lengths[i])
    if whole > LONGEST:
        return (
            f"frame {i + 1} has {whole} bytes, and the 82599 sends at most {LONGEST}. The host that captured it had "
            "joined several frames (GRO, LRO) or not yet cut one (TSO). Add --skip to leave out such frames, or "
            "capture again after: ethtool -K INTERFACE gro off lro off tso off gso off"
        )
    return (
        f"frame {i + 1} is cut: the capture has {captured} of its {whole} bytes. Capture whole frames (tcpdump -s 0), "
        "or add --cut pad to send zeros for the rest, or --skip to leave out such frames"
    )


def due_ns(capture: Capture, speed: float, rate: float, flat_out: bool) -> npt.NDArray[np.int64]:
    """The time at which each frame is sent, in nanoseconds from the start; never decreasing."""
    if flat_out or not len(capture):
        return np.zeros(len(capture), np.int64)
    if rate:
        return whole_ns(np.arange(len(capture)) * (1e9 / rate))
    times: npt.NDArray[np.int64] = np.maximum.accumulate(capture.times_ns)
    return whole_ns((times - times[0]) / speed)


def whole_ns(times_ns: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """Times as whole numbers. What is later than 64 bits can say is never reached."""
    whole: npt.NDArray[np.int64] = np.minimum(times_ns, LATEST_NS).astype(np.int64)
    return whole


def frames_of(
    capture: Capture, these: slice | npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint32]]:
    """The bytes of frames, shape (n, longest of them), and their lengths. What is not captured is zeros."""
    captured, lengths = capture.lengths[these, None], capture.wire_lengths[these]
    column = np.arange(lengths.max(initial=0))
    frames = capture.data.take(capture.offsets[these, None].astype(np.int64) + column, mode="clip")
    return np.where(column < captured, frames, 0), lengths


def put(port: Port, capture: Capture, first: int, count: int) -> int:
    """Copy up to `count` frames, from number `first` on, into the ring. Returns the number of frames copied."""
    span = port.tx_rings[0].reserve(count)
    frames, span.len[:] = frames_of(capture, slice(first, first + len(span)))
    port.write(span, frames)
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
            meter.tick()
            continue
        n = put(port, capture, sent, min(ready, batch))
        port.txsync()
        if not n:
            port.poll(1.0, POLLOUT)
        sent += n
        counted["sent"] = sent
        meter.tick()


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("file", type=Path, help="pcap or pcapng")
    parser.add_argument("-i", dest="port", default="emulated:sink", help="port name (default: %(default)s)")
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument(
        "--speed", type=number(1e-3, 1e6), default=1.0, help="factor on the recorded pace (default: %(default)s)"
    )
    pace.add_argument("-R", dest="rate", type=RATE, default=0, help="frames a second")
    pace.add_argument("--flat-out", action="store_true", help="as fast as possible")
    parser.add_argument(
        "-b", dest="batch", type=BATCH, default=256, help="most frames in one sync (default: %(default)s)"
    )
    parser.add_argument(
        "--cut",
        choices=("pad", "refuse"),
        default="pad",
        help="what to do with frames that the capture has cut (tcpdump -s): pad them with zeros to their length on the "
        "wire (default), or refuse them",
    )
    parser.add_argument("--skip", action="store_true", help="leave out frames that are refused, and count them")
    args = parser.parse_args()
    whole = read_capture(args.file)
    capture = sendable(whole, args.file, args.cut == "pad", args.skip)
    longest = max(int(capture.wire_lengths.max(initial=0)), 1514)
    counted: dict[str, float] = {"sent": 0}
    if len(capture) < len(whole):
        counted["skipped"] = len(whole) - len(capture)
    buf_size = -(-longest // UNIT) * UNIT if longest > 2 * UNIT else None
    with (
        held_input(args.file),
        open_port(args.port, mtu=longest - 14, buf_size=buf_size, trace=args.trace) as port,
    ):
        port.wait_link()
        with Meter(lambda: counted, [port], as_json=args.json) as meter:
            replay(port, capture, due_ns(capture, args.speed, args.rate, args.flat_out), args.batch, meter, counted)


if __name__ == "__main__":
    run(main)
