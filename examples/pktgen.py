"""Send, receive, or measure round trips, with the options of netmap's pkt-gen.

pktgen.py -i emulated:sink -f tx               send 64-byte frames as fast as possible
pktgen.py -i emulated:source -f rx -n 1000000  receive a million frames
pktgen.py -i emulated:sink -f tx -R 1000000 --gaps poisson    exact gaps: filler frames are between
pktgen.py -i emulated:loop -f ping -n 1000     measure a thousand round trips; on a real cable the far end runs -f pong
pktgen.py -i emulated:sink -f tx -s 10.0.0.1:1000-10.0.0.9:2000 -l imix --number    many flows, each frame numbered
pktgen.py -i 0000:03:00.1 -f rx --verify       what of these was lost, duplicated or reordered
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from select import POLLIN, POLLOUT

# First: meter makes Ctrl-C quiet while the other modules load.
from meter import Meter, options, receiving_everything, run, signals_wait
from pacing import Paced, Pattern, add_gaps, chosen_pattern
from pingpong import RoundTrips, pong
from sending import Sending, add_options
from streams import SLOTS
from verify import Verifier

from ixrings import Port
from ixrings.driver.arguments import BATCH, COUNT, NUMBER_OF_QUEUES, RATE, SECONDS_OR_NONE
from ixrings.driver.program import ENDING
from ixrings.hw.output import held_input

PACE_S = 0.001  # with -R, frames are released at least once in this time
LONG_RING = 4096  # slots: numpy takes as long for 50 frames as for one, so --verify likes long batches
UNIT = 1024  # bytes; the NIC takes buffer sizes in KB


class Generator:
    """The command: options, one port, and one of four functions."""

    def __init__(self) -> None:
        parser = options(__doc__)
        parser.add_argument("-i", dest="port", default="emulated", help="port name (default: %(default)s)")
        parser.add_argument(
            "-f",
            dest="function",
            choices=("tx", "rx", "ping", "pong"),
            default="rx",
            help="what to do (default: %(default)s)",
        )
        parser.add_argument(
            "-n", dest="count", type=COUNT, default=0, help="stop after this many frames (default: never)"
        )
        parser.add_argument(
            "-b", dest="batch", type=BATCH, default=256, help="most frames in one sync (default: %(default)s)"
        )
        parser.add_argument(
            "-R", dest="rate", type=RATE, default=0, help="frames a second (default: as fast as possible)"
        )
        parser.add_argument(
            "-p",
            dest="queues",
            type=NUMBER_OF_QUEUES,
            default=1,
            help="queues in each direction (default: %(default)s)",
        )
        parser.add_argument(
            "-w",
            dest="link_timeout",
            type=SECONDS_OR_NONE,
            default=10,
            help="seconds to wait for the link (default: %(default)s)",
        )
        parser.add_argument("--busy", action="store_true", help="spin instead of sleeping")
        parser.add_argument(
            "--verify",
            action="store_true",
            help="-f rx: count what was lost, duplicated or reordered in each stream of -f tx --number",
        )
        add_gaps(parser)
        add_options(parser)
        self.args = parser.parse_args()
        self.counted: dict[str, float] = {}
        try:
            if self.args.verify and self.args.function != "rx":
                raise ValueError(f"--verify is for -f rx, and this is -f {self.args.function}")
            self.pattern = chosen_pattern(self.args)
            self.sending = Sending(self.args)
            if self.pattern and self.sending.varied:
                raise ValueError("--gaps sends one frame again and again; leave out what varies or numbers it")
        except ValueError as error:
            parser.error(str(error))

    def main(self) -> None:
        args, longest = self.args, self.sending.longest
        # The wire of an emulated NIC does not overwrite the file that is sent.
        with (
            nullcontext() if args.file is None else held_input(args.file),
            receiving_everything(
                args.port,
                tx_queues=args.queues,
                rx_queues=args.queues,
                tx_slots=self.sending.slots,
                rx_slots=LONG_RING if args.verify else SLOTS,
                mtu=max(1500, longest - 14),
                buf_size=-(-longest // UNIT) * UNIT if longest > 2 * UNIT else None,
                link_timeout=args.link_timeout,
                busy_poll=args.busy,
                trace=args.trace,
            ) as port,
        ):
            port.wait_link(args.link_timeout)
            match args.function:
                case "tx":
                    self.transmit_paced(port, self.pattern) if self.pattern else self.transmit(port)
                case "rx":
                    self.verify(port) if args.verify else self.receive(port)
                case "ping":
                    trips = RoundTrips(port, self.sending.frame(port))
                    with Meter(trips.counted, [port], as_json=args.json) as meter:
                        trips.ping(self.left, meter)
                    trips.check()
                case "pong":
                    with Meter(lambda: self.counted, [port], as_json=args.json) as meter:
                        pong(port, self.left, meter, self.counted)

    def left(self, done: float) -> float:
        """Frames still to do after `done`; infinity without -n."""
        return self.args.count - done if self.args.count else float("inf")

    def transmit(self, port: Port) -> None:
        """Hand over frames as fast as the ring takes them, or with -R as many as are due."""
        args, lanes, counted = self.args, self.sending.lanes(port), self.counted
        details = self.sending.details if self.sending.numbered else None
        with Meter(lambda: counted, [port], receives=False, as_json=args.json, details=details) as meter:
            sent, start = 0, time.monotonic()
            while self.left(sent) > 0:
                allowed = min(
                    self.left(sent),
                    (time.monotonic() - start) * args.rate - sent if args.rate else float("inf"),
                )
                before = sent
                for lane in lanes:
                    sent += lane.send(int(min(args.batch, allowed - (sent - before))))
                port.txsync()
                if sent == before:
                    time.sleep(PACE_S) if allowed < 1 else port.poll(1.0, POLLOUT)
                counted["sent"] = sent
                meter.tick()

    def transmit_paced(self, port: Port, pattern: Pattern) -> None:
        """With --gaps: frames and fillers in the order of the wire."""
        paced = Paced(port, self.sending.frame(port), pattern, self.args.rate, self.args.batch)
        with Meter(lambda: self.counted, [port], receives=False, as_json=self.args.json) as meter:
            paced.send(self.left, self.counted, meter.tick)

    def receive(self, port: Port) -> None:
        with Meter(lambda: self.counted, [port], as_json=self.args.json) as meter:
            received = 0
            while self.left(received) > 0:
                if port.poll(1.0, POLLIN):
                    for ring in port.rx_rings:
                        n = int(min(ring.space, self.left(received)))
                        ring.advance(n)
                        received += n
                self.counted["received"] = received
                meter.tick()

    def verify(self, port: Port) -> None:
        """Receive, and look at the numbers of the frames. Ends with status 1 if a numbered frame was not right."""
        verifier = Verifier(port)
        with Meter(verifier.counted, [port], as_json=self.args.json, details=verifier.details) as meter:
            while self.left(verifier.frames) > 0:
                if port.poll(1.0, POLLIN):
                    for ring in port.rx_rings:
                        span = ring.reserve(int(min(ring.num_slots, self.left(verifier.frames))))
                        if len(span):
                            with signals_wait(ENDING):  # a batch is counted as a whole
                                verifier.look(span)
                                ring.advance(len(span))
                meter.tick()
        if not self.args.json:
            print(verifier.verdict())
        if not verifier.right:
            raise SystemExit(1)


if __name__ == "__main__":
    run(lambda: Generator().main())
