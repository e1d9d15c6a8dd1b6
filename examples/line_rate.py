"""Send at line rate, receive every frame back, and check every byte of it.

line_rate.py                       the emulated 82599, its cable looped back, paced to 10 Gbit/s
line_rate.py -i emulated:loop      the same without pacing
"""

from __future__ import annotations

import time
from select import POLLIN

from meter import Meter, options, run  # first: it makes Ctrl-C quiet while the other modules load
from packets import SHORTEST, mac, udp_frame
from processors import Load, Watch, explain

import numpy as np
import numpy.typing as npt

from ixrings import Port, PortError, open_port
from ixrings.driver.arguments import BATCH, SECONDS

LINE_RATE = 10e9 / ((64 + 20) * 8)  # 64-byte frames a second; each has 8 bytes of preamble and 12 of gap
SHORT = 14.8e6  # frames a second; below it, the program says what was busy
SLOTS = 8192  # the most: when the machine stops the program, the wire goes on for 550 us
NEEDS = "line_rate.py needs a port that receives what it sends: emulated:loop, or a cable that leads back to the port"
SEQUENCE = 12  # index of the 32-bit word that holds the frame's number; it is payload, so every value is allowed


class Check:
    """Sends and compares frames of 15 words that differ in their sequence number only."""

    def __init__(self, port: Port, batch: int) -> None:
        self.port, self.batch = port, batch
        address = mac(port.mac)
        frame = udp_frame(SHORTEST, address, address, (bytes([10, 0, 0, 1]), 1234), (bytes([10, 0, 0, 2]), 1234))
        self.numbers = np.arange(batch, dtype=np.uint32)  # of the frames sent next
        self.expected = np.tile(np.frombuffer(frame, np.uint32), (batch, 1))  # the frames received next
        self.expected_numbers = self.expected[:, SEQUENCE]
        self.expected_numbers[:] = self.numbers
        self.came = np.empty_like(self.expected)  # the frames received last
        ring = port.tx_rings[0]
        port.buffers[ring.slots["buf_idx"], :SHORTEST] = np.frombuffer(frame, np.uint8)
        ring.slots["len"] = SHORTEST
        self.sent = self.received = self.wrong = 0
        self.stopped_s = 0.0  # pauses of this program, each longer than its rings hold frames

    def send(self, most: int) -> None:
        """Number up to `most` frames and hand them to the NIC. The rest of each frame is in its buffer already."""
        ring = self.port.tx_rings[0]
        span = ring.reserve(min(most, self.batch))
        n = len(span)
        self.port.write(span, self.numbers if n == self.batch else self.numbers[:n], offset=4 * SEQUENCE)
        self.numbers += np.uint32(n)  # wraps to 0 after 2**32 - 1, as the numbers in the frames do
        ring.advance(n)
        self.sent += n
        self.port.txsync()

    def receive(self) -> int:
        """Compare all 60 bytes of each frame received. Returns the number of frames."""
        self.port.rxsync()
        ring = self.port.rx_rings[0]
        span = ring.reserve(self.batch)
        n = len(span)
        if n:
            right = self.port.read(span, SHORTEST, into=self.came) == self.expected[:n]
            # count_nonzero takes a fifth of the time of all() for so few elements.
            if np.count_nonzero(right) != right.size or np.count_nonzero(span.len == SHORTEST) != n:
                if not self.received:
                    self.check_ours(right)
                self.wrong += int(np.count_nonzero(~right.all(axis=1) | (span.len != SHORTEST)))
            self.expected_numbers += np.uint32(n)
            ring.advance(n)
            self.received += n
        return n

    def check_ours(self, right: npt.NDArray[np.bool_]) -> None:
        """Raises PortError if the first frames received are others than those sent: all differ before their number."""
        if not right[:, :SEQUENCE].all(axis=1).any():
            raise PortError(f"{self.port.name}: the frames that arrive are not those that were sent. {NEEDS}")

    def counted(self) -> dict[str, float]:
        return {"sent": self.sent, "received": self.received, "wrong": self.wrong}

    def run(self, seconds: float, meter: Meter) -> float:
        """Send for `seconds`, then receive what is still on its way. Returns the time spent sending, in seconds."""
        # Most frames on the way. The RX ring has room for them and for those that the next rxsync releases.
        slots = self.port.rx_rings[0].num_slots - 1
        window = slots - min(self.batch, slots // 2)
        start = last = time.monotonic()
        end = start + seconds
        while (now := time.monotonic()) < end:
            if now - last > window / LINE_RATE:
                self.stopped_s += now - last
            last = now
            self.send(window - (self.sent - self.received))
            if not self.receive():
                self.port.poll(0.1, POLLIN)
                last = time.monotonic()
            meter.tick()
        elapsed = time.monotonic() - start
        while self.received < self.sent and (self.receive() or self.port.poll(1.0, POLLIN)):
            pass
        if not self.received:
            raise PortError(f"{self.port.name}: none of {self.sent} frames came back. {NEEDS}")
        return elapsed


def main() -> None:
    parser = options(__doc__)
    parser.add_argument(
        "-i",
        dest="port",
        default="emulated:loop@paced",
        help="a port that receives what it sends (default: %(default)s)",
    )
    parser.add_argument("-t", dest="seconds", type=SECONDS, default=5, help="seconds to send (default: %(default)s)")
    parser.add_argument(
        "-b", dest="batch", type=BATCH, default=1024, help="most frames in one sync (default: %(default)s)"
    )
    args = parser.parse_args()
    with open_port(args.port, tx_slots=SLOTS, rx_slots=SLOTS, trace=args.trace) as port:
        link = port.wait_link()
        check = Check(port, args.batch)
        measured: tuple[float, Load] | None = None
        with Meter(check.counted, [port], as_json=args.json) as meter:
            if not args.json:
                print(
                    f"{port.name}: {port.mac}, link {link}. Sending 64-byte frames for {args.seconds:g} s.", flush=True
                )
            watch = Watch()
            elapsed = check.run(args.seconds, meter)
            measured = elapsed, watch.read()  # while the engine's thread is there
    if measured:
        judge(check, *measured, args.batch, args.json)
    if check.wrong:  # also after Ctrl-C
        raise SystemExit(1)


def judge(check: Check, elapsed: float, load: Load, batch: int, as_json: bool) -> None:
    """Print the rate and the verdict; if the rate is short, also what was busy and what to try. Exits with status 1 if
    a frame was lost or wrong."""
    lost, rate = check.sent - check.received, check.sent / elapsed
    if not as_json:
        print(
            f"{rate / 1e6:.2f} Mpps each way, {100 * rate / LINE_RATE:.1f} % of 10 Gbit/s line rate, "
            "from one Python thread."
        )
        if rate < SHORT:
            print(explain(load, batch, 100 - 100 * rate / LINE_RATE, 100 * check.stopped_s / elapsed))
        print(
            "Every frame came back in order and every byte was right."
            if not lost + check.wrong
            else f"FAILED: {lost} frames were lost, {check.wrong} were wrong."
        )
    if lost or check.wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    run(main)
