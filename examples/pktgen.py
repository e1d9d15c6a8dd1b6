"""Send, receive, or measure round trips, with the options of netmap's pkt-gen.

pktgen.py -i emulated:sink -f tx               send 64-byte frames as fast as possible
pktgen.py -i emulated:source -f rx -n 1000000  receive a million frames
pktgen.py -i emulated:loop -f ping -n 1000     measure a thousand round trips; on a real cable the far end runs -f pong
"""

from __future__ import annotations

import time
from select import POLLIN, POLLOUT

from meter import Meter, options, receiving_everything, run  # first: it makes Ctrl-C quiet while the other modules load
from packets import HEADERS, LONGEST, SHORTEST, endpoint, mac, udp_frame
from pingpong import RoundTrips, pong

from ixrings import Port
from ixrings.driver.arguments import BATCH, COUNT, NUMBER_OF_QUEUES, RATE, SECONDS_OR_NONE, checked, whole

PACE_S = 0.001  # with -R, frames are released at least once in this time
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
            "-l",
            dest="length",
            type=whole(HEADERS, LONGEST),
            default=SHORTEST,
            help="bytes of a frame without CRC (default: %(default)s)",
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
            "-s",
            dest="source",
            type=checked(endpoint),
            default="10.0.0.1:1234",
            help="source IP[:PORT] (default: %(default)s)",
        )
        parser.add_argument(
            "-d",
            dest="destination",
            type=checked(endpoint),
            default="10.1.0.1:1234",
            help="destination IP[:PORT] (default: %(default)s)",
        )
        parser.add_argument("-S", dest="source_mac", type=checked(mac), help="source MAC (default: the port's)")
        parser.add_argument(
            "-D",
            dest="destination_mac",
            type=checked(mac),
            default="ff:ff:ff:ff:ff:ff",
            help="destination MAC (default: %(default)s)",
        )
        parser.add_argument(
            "-w",
            dest="link_timeout",
            type=SECONDS_OR_NONE,
            default=10,
            help="seconds to wait for the link (default: %(default)s)",
        )
        parser.add_argument("--busy", action="store_true", help="spin instead of sleeping")
        self.args = parser.parse_args()
        self.counted: dict[str, float] = {}

    def main(self) -> None:
        args = self.args
        with receiving_everything(
            args.port,
            tx_queues=args.queues,
            rx_queues=args.queues,
            mtu=max(1500, args.length - 14),
            buf_size=-(-args.length // UNIT) * UNIT if args.length > 2 * UNIT else None,
            link_timeout=args.link_timeout,
            busy_poll=args.busy,
            trace=args.trace,
        ) as port:
            port.wait_link(args.link_timeout)
            if args.function == "ping":
                trips = RoundTrips(port, self.frame(port))
                with Meter(trips.counted, [port], as_json=args.json) as meter:
                    trips.ping(self.left, meter)
                trips.check()
                return
            with Meter(lambda: self.counted, [port], receives=args.function != "tx", as_json=args.json) as meter:
                if args.function == "tx":
                    self.transmit(port, meter)
                elif args.function == "rx":
                    self.receive(port, meter)
                else:
                    pong(port, self.left, meter, self.counted)

    def left(self, done: float) -> float:
        """Frames still to do after `done`; infinity without -n."""
        return self.args.count - done if self.args.count else float("inf")

    def frame(self, port: Port) -> bytes:
        args = self.args
        return udp_frame(
            args.length,
            args.source_mac or mac(port.mac),
            args.destination_mac,
            args.source,
            args.destination,
        )

    def transmit(self, port: Port, meter: Meter) -> None:
        """Write the frame into every buffer once; after that only `head` moves."""
        frame = memoryview(self.frame(port))
        for ring in port.tx_rings:
            port.buffers[ring.slots["buf_idx"], : len(frame)] = frame
            ring.slots["len"] = len(frame)
        sent, start = 0, time.monotonic()
        while self.left(sent) > 0:
            allowed = min(
                self.left(sent),
                (time.monotonic() - start) * self.args.rate - sent if self.args.rate else float("inf"),
            )
            before = sent
            for ring in port.tx_rings:
                n = max(0, int(min(self.args.batch, ring.space, allowed - (sent - before))))
                ring.advance(n)
                sent += n
            port.txsync()
            if sent == before:
                time.sleep(PACE_S) if allowed < 1 else port.poll(1.0, POLLOUT)
            self.counted["sent"] = sent
            meter.tick()

    def receive(self, port: Port, meter: Meter) -> None:
        received = 0
        while self.left(received) > 0:
            if port.poll(1.0, POLLIN):
                for ring in port.rx_rings:
                    n = int(min(ring.space, self.left(received)))
                    ring.advance(n)
                    received += n
            self.counted["received"] = received
            meter.tick()


if __name__ == "__main__":
    run(lambda: Generator().main())
