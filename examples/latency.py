"""Measure latency by the clocks of the NICs: probe frames are stamped where they leave and where they arrive.

latency.py -i emulated:loop,delay=1000 -n 1000                 one port, looped; 1000 probes
latency.py -i emulated:cable=a,delay=500 -i emulated:cable=a   from one port to another, whose clocks are compared
latency.py -i 0000:03:00.0 -i 0000:03:00.1 -R 1e6 --svg latency.svg    between a million load frames a second
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

from meter import options, run  # first: it makes Ctrl-C quiet while the other modules load

# isort: split
from charts import bars, write
from packets import HEADERS, LONGEST, SHORTEST, endpoint, udp_frame
from probes import CYCLE_NS, PTP_MULTICAST, Latencies, Stamps, Way, prepare

import numpy as np
import numpy.typing as npt

from ixrings import ERRORS, Port, PortError, open_ports
from ixrings.driver.arguments import COUNT, RATE, SECONDS, SECONDS_OR_NONE, whole
from ixrings.driver.rates import LEAST_MBPS

SOURCE, DESTINATION = "10.0.0.1:1234", "10.1.0.1:1234"
LOAD_QUEUE, BINS, BAR = 0, 20, 40
PERCENTILES = {"min": 0, "median": 50, "p99": 99, "p99.9": 99.9, "max": 100}
LINK_S = 10.0
QUIET_S = 0.02  # after the last load frame


class Load:
    """Frames of one length from queue 0, at a rate that the NIC keeps (RTTBCNRC), and whatever arrives there."""

    def __init__(self, sender: Port, receiver: Port, rate: float, length: int) -> None:
        self.sender, self.receiver, self.on = sender, receiver, False
        self._rate, self.sent, self.received = rate, 0, 0
        if not rate:
            return
        ring = sender.tx_rings[LOAD_QUEUE]
        to, source = (bytes.fromhex(port.mac.replace(":", "")) for port in (receiver, sender))
        frame = udp_frame(length, source, to, endpoint(SOURCE), endpoint(DESTINATION))
        sender.buffers[ring.slots["buf_idx"], :length] = np.frombuffer(frame, np.uint8)
        ring.slots["len"] = length
        mbps = rate * (length + 4) * 8 / 1e6
        if mbps < LEAST_MBPS:
            raise ValueError(
                f"-R {rate:g} is {mbps:.3g} Mbit/s, and the NIC keeps rates from {LEAST_MBPS} Mbit/s on: -R "
                f"{rate * LEAST_MBPS / mbps:.0f}, or longer frames (-l)"
            )
        ring.rate_mbps = mbps

    def move(self) -> None:
        """Keep the TX ring full while the load is on, and empty the RX ring."""
        if self.on:
            ring = self.sender.tx_rings[LOAD_QUEUE]
            free = ring.space
            ring.advance(free)
            self.sent += free
            self.sender.txsync()
        ring_of_load = self.receiver.rx_rings[LOAD_QUEUE]
        self.received += ring_of_load.space
        ring_of_load.advance(ring_of_load.space)

    def finish(self) -> None:
        """Send what is in the TX ring, and wait until nothing arrives any more. Raises PortTimeout."""
        self.on = False
        if not self.sent:
            return
        self.sender.flush()
        end = time.monotonic() + QUIET_S
        while time.monotonic() < end:
            before = self.received
            self.receiver.rxsync()
            self.move()
            if self.received != before:
                end = time.monotonic() + QUIET_S

    def missed(self) -> int:
        """Frames that the receiving NIC had no room for."""
        stats = self.receiver.stats()
        return int(stats["MPC"] + sum(queue["QPRDC"] for queue in (*stats.rx, stats.rx_others)))


class Measurement:
    """One run of the program."""

    def __init__(self, sender: Port, receiver: Port, load: Load, timeout: float, udp: bool) -> None:
        addresses = (endpoint(SOURCE)[0], endpoint(DESTINATION)[0]) if udp else None
        self.load = load
        self.there = Way(sender, receiver, load.move, timeout, addresses)
        compare = Way(sender, receiver, load.move, timeout), Way(receiver, sender, self._empty, timeout)
        self.stamps = Stamps(self.there, compare)
        self.missed = 0

    def _empty(self) -> None:
        ring = self.there.sender.rx_rings[LOAD_QUEUE]
        ring.advance(ring.space)

    def run(self, probes: int, seconds: float, interval: float) -> None:
        """Send `probes` probes, or as many as fit into `seconds`. The time between two is random around `interval`."""
        self.stamps.compare()
        end = time.monotonic() + seconds if seconds else float("inf")
        self.load.on = bool(self.load.sender.tx_rings[LOAD_QUEUE].rate_mbps)
        while time.monotonic() < end and not 0 < probes <= self.there.sent:
            self._wait(interval * random.uniform(0.5, 1.5))
            self.stamps.probe()

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            self.load.move()
            self.there.receiver.rxsync()
            self.there.take()
            if not self.load.on:
                time.sleep(min(0.001, end - now))

    def result(self) -> Latencies:
        """Compare the clocks once more, without load, and compute the latencies."""
        try:
            self.load.finish()
            if self.there.sent:
                self.stamps.compare()
            self.missed = self.load.missed()
        except ERRORS:
            pass  # a link that is down, for example: the first comparison of the clocks holds
        return self.stamps.latencies()

    def check(self) -> None:
        """Raises PortError if no probe was measured."""
        there = self.there
        if there.sent and not self.stamps:
            raise PortError(
                f"{there.receiver.name}: of {there.sent} probes none was measured: {there.lost} did not arrive, "
                f"{there.late} arrived too late, {there.unstamped} came without a stamp. The far end must return "
                f"frames to {PTP_MULTICAST} (with --udp: UDP to port 319); --timeout waits longer for each"
            )


def facts(measured: Measurement, result: Latencies) -> dict[str, object]:
    """The result as JSON has it."""
    there, latencies = measured.there, result.ns
    found: dict[str, object] = {
        "probes": there.sent,
        "stamped": len(latencies),
        "lost": there.lost,
        "late": there.late,
        "unstamped": there.unstamped,
        "resolution_ns": CYCLE_NS,
        "latency_ns": {name: float(np.percentile(latencies, each)) for name, each in PERCENTILES.items()}
        if len(latencies)
        else None,
        "load": {"sent": measured.load.sent, "received": measured.load.received, "missed": measured.missed},
    }
    if result.offset is not None:
        found["clocks"] = {
            "offset_ns": result.offset.ns,
            "uncertainty_ns": result.offset.uncertainty_ns,
            "method": result.offset.method,
            "drift_ppm": result.drift_ppm,
            "drift_uncertainty_ppm": result.drift_uncertainty_ppm,
        }
    if len(latencies):
        counts, edges = histogram(latencies)
        found["histogram"] = {"edges_ns": edges.tolist(), "counts": counts.tolist()}
    return found


def histogram(latencies: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Counts and edges. A bin is at least one cycle of the clock wide."""
    low, high = float(latencies.min()), float(latencies.max())
    bins = max(1, min(BINS, int((high - low) / CYCLE_NS)))
    margin = CYCLE_NS / 2 if bins == 1 else 0.0
    return np.histogram(latencies, bins, (low - margin, high + margin))


def in_words(measured: Measurement, result: Latencies) -> str:
    there, latencies, offset = measured.there, result.ns, result.offset
    lines = [
        f"{there.sent} probes: {len(latencies)} measured, {there.lost} lost, {there.late} late, "
        f"{there.unstamped} without a stamp"
    ]
    if measured.load.sent:
        lines.append(
            f"load: {measured.load.sent:,} frames sent, {measured.load.received:,} received, "
            f"{measured.missed:,} missed by the receiving NIC"
        )
    if len(latencies):
        named = [f"{name} {np.percentile(latencies, each):,.1f}" for name, each in PERCENTILES.items()]
        lines.append(f"latency in ns: {', '.join(named)} (resolution {CYCLE_NS} ns)")
    if offset is not None:
        drift = ""
        if result.drift_ppm is not None:
            drift = f", drift {result.drift_ppm:+.3f} ppm (±{result.drift_uncertainty_ppm:.3f})"
        assumed = "; both ways are taken to be equally long" * (offset.method == "probes both ways")
        lines.append(
            f"clocks: {offset.ns:+,.1f} ns apart (±{offset.uncertainty_ns:,.1f}, by {offset.method}{assumed}){drift}"
        )
    if len(latencies):
        counts, edges = histogram(latencies)
        for count, low, high in zip(counts.tolist(), edges.tolist(), edges.tolist()[1:]):
            lines.append(f"{low:14,.1f} to {high:14,.1f} ns {count:8,} {'#' * round(BAR * count / max(counts))}")
    return "\n".join(lines)


def drawing(latencies: npt.NDArray[np.float64]) -> str:
    counts, edges = histogram(latencies)
    title = f"{len(latencies)} probes, median {np.median(latencies):,.1f} ns"
    return bars(title, "latency in ns", "probes", edges.tolist(), counts.tolist())


def main() -> None:
    parser = options(__doc__)
    parser.add_argument(
        "-i",
        dest="ports",
        action="append",
        metavar="PORT",
        help="a port; give it twice for a path from the first to the second (default: emulated:loop)",
    )
    parser.add_argument("-n", dest="count", type=COUNT, default=0, help="stop after this many probes")
    parser.add_argument("-t", dest="seconds", type=SECONDS, help="stop after this time (default: 5 s without -n)")
    parser.add_argument(
        "-R", dest="rate", type=RATE, default=0, help="load between the probes in frames a second (default: none)"
    )
    parser.add_argument(
        "-l", dest="length", type=whole(HEADERS, LONGEST), default=SHORTEST,
        help="bytes of a load frame without CRC (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--interval", type=SECONDS_OR_NONE, default=0.001, help="seconds between two probes (default: %(default)s)"
    )
    parser.add_argument(
        "--timeout", type=SECONDS, default=0.1, help="a probe that takes longer is late (default: %(default)s s)"
    )
    parser.add_argument("--udp", action="store_true", help="probes are PTP over UDP (default: over Ethernet)")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the histogram")
    args = parser.parse_args()
    names = args.ports or ["emulated:loop"]
    if len(names) > 2:
        parser.error("a path has one or two ports; give -i PORT, or -i PORT -i PORT")
    seconds = args.seconds or (0 if args.count else 5)
    with open_ports(
        *names,
        tx_queues=2,
        rx_queues=2,
        rx_slots=8192,
        mtu=max(1500, args.length - 14),
        trace=args.trace,
    ) as ports:
        for port in ports:
            port.wait_link(LINK_S)
            prepare(port, udp=args.udp)
        sender, receiver = ports[0], ports[-1]
        error: BaseException | None = None
        measured = Measurement(sender, receiver, Load(sender, receiver, args.rate, args.length), args.timeout, args.udp)
        try:
            measured.run(args.count, seconds, args.interval)
        except (*ERRORS, KeyboardInterrupt) as reason:  # the results so far follow
            error = reason
        result = measured.result()
    print(json.dumps(facts(measured, result)) if args.json else in_words(measured, result))
    if args.svg and len(result.ns):
        write(args.svg, drawing(result.ns))
    if error and not isinstance(error, KeyboardInterrupt):
        raise error
    measured.check()


if __name__ == "__main__":
    run(main)
