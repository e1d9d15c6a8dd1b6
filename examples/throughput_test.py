"""Test a device between two ports as RFC 2544 says: throughput (26.1), latency (26.2) and frame loss (26.3).

throughput_test.py -i emulated:loop --sizes 64,1518,imix --max-rate 50000 --seconds 0.5 --settle 0.1
throughput_test.py -i 0000:03:00.0 -o 0000:03:00.1 --both --seconds 60 --svg report.svg   a device between two ports

The device must return the frames: to the port of -o, or to the same port without -o. Rates are in frames a second.
Latency is by the NICs' clocks, which stamp probes (PTP) between the frames. Where a port has no clock, or the device
returns no probes, it is by software: from the call that gives a frame to the NIC to the call that finds it received.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from meter import options, run  # first: it makes Ctrl-C quiet while the other modules load

# isort: split
from charts import lines, write
from packets import endpoint, mac
from probes import QUEUE, Latencies, Stamps, prepare
from probes import Way as StampedWay
from trials import IMIX, Addresses, Mix, Outcome, Way, trial

import numpy as np

from ixrings import ERRORS, NotOffered, Port, PortError, open_ports
from ixrings.driver.arguments import SECONDS, SECONDS_OR_NONE, checked, number
from ixrings.driver.program import say

SIZES = "64,128,256,512,1024,1280,1518,imix"  # RFC 2544 section 9.1
SMALLEST, LARGEST = 64, 9728  # bytes with CRC
TESTS = ("throughput", "latency", "loss")
FEWEST_FRAMES = 20  # in a trial; slower ones would tell little
SLOWEST = 1e-4  # of the most: the search for a rate without loss ends here
REPEATS = 2  # of a trial in which the tester itself failed
HINT = 0.98  # of the rate at which frames came back: the search looks there first
CHECKS, CHECK_S, CHECK_RATE = 3, 0.1, 1000.0
PROBE_S, PROBE_SHARE, PROBE_TIMEOUT_S = 0.001, 100, 0.2
PERCENTILES = {"min": 0, "median": 50, "p99": 99, "max": 100}
HEIGHT = 360


@dataclass
class Result:
    """What is known of one frame size. Rates are in frames a second; None: not measured."""

    mix: Mix
    line_rate: float
    most: float
    throughput: float | None = None
    limit: str = ""  # why no higher rate was found, if the tester is the reason
    latency: list[Outcome] = field(default_factory=list)
    probes: StampedWay | None = None  # between the frames, if the ports have clocks
    stamped: Latencies | None = None  # by these, if any came back
    curve: list[tuple[float, float, float | None]] = field(default_factory=list)  # asked, sent, part lost by the device
    trials: list[Outcome] = field(default_factory=list)

    @property
    def latency_us(self) -> dict[str, float] | None:
        found = [each.latencies_us for each in self.latency if len(each.latencies_us)]
        if self.stamped is not None:
            found = [self.stamped.ns / 1000]
        if not found:
            return None
        return {name: float(np.percentile(np.concatenate(found), part)) for name, part in PERCENTILES.items()}

    @property
    def latency_method(self) -> str | None:
        if self.stamped is not None:
            return (
                "the NIC's clock" if self.stamped.offset is None else f"the NICs' clocks ({self.stamped.offset.method})"
            )
        return "software" if self.latency else None

    def _probes(self, way: StampedWay) -> dict[str, object]:
        offset = self.stamped.offset if self.stamped else None
        return {
            "direction": f"{way.sender.name} to {way.receiver.name}",
            "sent": way.sent,
            "stamped": len(self.stamped.ns) if self.stamped else 0,
            "lost": way.lost,
            "late": way.late,
            "unstamped": way.unstamped,
            "clocks_uncertainty_ns": offset.uncertainty_ns if offset else None,
        }

    def sum(self, count: Callable[[Outcome], int | None]) -> int:
        return sum(count(each) or 0 for each in self.trials)

    def percent(self, rate: float) -> float:
        return 100 * rate / self.line_rate

    def facts(self) -> dict[str, object]:
        """As JSON has it."""
        return {
            "size": self.mix.name,
            "bytes": self.mix.size,
            "line_rate_fps": self.line_rate,
            "max_rate_fps": self.most,
            "throughput_fps": self.throughput,
            "throughput_percent": None if self.throughput is None else self.percent(self.throughput),
            "throughput_mbps": None if self.throughput is None else self.mix.mbps(self.throughput),
            "limited_by_tester": self.limit or None,
            "latency_us": self.latency_us,
            "latency_method": self.latency_method,
            "latency_fps": self.latency[0].rate if self.latency else None,
            "latency_probes": None if self.probes is None else self._probes(self.probes),
            "loss_curve": [
                {"asked_fps": asked, "sent_fps": sent, "loss_percent": None if loss is None else 100 * loss}
                for asked, sent, loss in self.curve
            ],
            "trials": [each.facts() for each in self.trials],
        }


@dataclass(frozen=True)
class Plan:
    """How the trials are made. resolution and acceptable are parts of 1; step is a percentage."""

    tests: tuple[str, ...]
    seconds: float
    settle: float
    resolution: float
    acceptable: float
    step: float


class Clocks:
    """The clocks of two ports, or of one, and probes between the frames of a trial.

    Probes are at most one in PROBE_SHARE of the frames, and have queues of their own, so they count in no trial.
    """

    def __init__(self, sender: Port, receiver: Port) -> None:
        """Raises NotOffered and other errors of ports without a clock or without a second queue."""
        self._sender, self._receiver = sender, receiver
        for port in {sender, receiver}:
            prepare(port)
        self._move: Callable[[], None] = nothing
        self._due = 0.0

    def begin(self, rate: float) -> Stamps:
        """Compare the clocks before a trial at `rate` frames a second, of which probes are a part."""
        self._every = max(PROBE_S, PROBE_SHARE / rate)
        there = StampedWay(self._sender, self._receiver, lambda: self._move(), PROBE_TIMEOUT_S)
        ends = self._sender, self._receiver
        compare = StampedWay(*ends, nothing, PROBE_TIMEOUT_S), StampedWay(*ends[::-1], nothing, PROBE_TIMEOUT_S)
        self._stamps = Stamps(there, compare)
        self._stamps.compare()
        return self._stamps

    def between(self, move: Callable[[], None]) -> None:
        if time.monotonic() < self._due:
            return
        self._move = move
        try:
            self._stamps.probe()
        finally:
            self._move, self._due = nothing, time.monotonic() + self._every


def nothing() -> None:
    """Between trials nothing moves."""


def clocks_of(sender: Port, receiver: Port) -> Clocks | None:
    """None if a port has no clock or one queue only: a virtual function, its PF, a port of a daemon."""
    if any(len(rings) <= QUEUE for port in (sender, receiver) for rings in (port.tx_rings, port.rx_rings)):
        return None
    try:
        return Clocks(sender, receiver)
    except (NotOffered, PortError):
        return None


class Test:
    """All trials of one device."""

    def __init__(self, ways: Sequence[Way], plan: Plan, progress: bool) -> None:
        self._ways, self._plan, self._progress = ways, plan, progress
        self._clocks: Clocks | None = None
        self.results: list[Result] = []

    def use_clocks(self, clocks: Clocks | None) -> None:
        """Probes have the second queue: frames of trials have the first one."""
        self._clocks = clocks
        for way in self._ways:
            way.rings = None if clocks is None else QUEUE

    def check(self, mix: Mix) -> None:
        """Raises PortError if a direction returns nothing at a low rate."""
        for _ in range(CHECKS):
            outcomes = trial(self._ways, mix, CHECK_RATE, CHECK_S, max(CHECK_S, self._plan.settle))
            if all(each.received for each in outcomes):
                return
        silent = next(each for each in outcomes if not each.received)
        raise PortError(
            f"{silent.way}: none of {silent.sent} frames came back at {CHECK_RATE:g} frames a second, though the "
            f"link is up; {silent.foreign} other frames arrived. Check that the device forwards frames with these "
            "addresses (-D, -s, -d), and that -i and -o are its two ports"
        )

    def measure(self, mix: Mix, most: float, line_rate: float) -> None:
        """One frame size: throughput, then latency at this rate, then the loss at parts of the highest rate."""
        result = Result(mix, line_rate, most)
        self.results.append(result)
        if {"throughput", "latency"} & set(self._plan.tests):
            self._search(result)
        if "latency" in self._plan.tests and result.throughput:
            self._latency(result, result.throughput)
        if "loss" in self._plan.tests:
            self._loss(result)

    def _latency(self, result: Result, rate: float) -> None:
        """By software, and by stamped probes between the frames if the ports have clocks (26.2)."""
        if self._clocks is None:
            result.latency = self._trial(result, rate, by_clock=True)
            return
        stamps = self._clocks.begin(rate)
        load = rate * (1 - 1 / PROBE_SHARE)
        result.latency = self._trial(result, load, by_clock=True, between=self._clocks.between)
        stamps.compare()
        result.probes = stamps.there
        if len(stamps):
            result.stamped = stamps.latencies()

    def _trial(
        self,
        result: Result,
        rate: float,
        *,
        by_clock: bool = False,
        between: Callable[[Callable[[], None]], None] | None = None,
    ) -> list[Outcome]:
        plan = self._plan
        outcomes = trial(self._ways, result.mix, rate, plan.seconds, plan.settle, by_clock=by_clock, between=between)
        result.trials += outcomes
        if self._progress:
            for each in outcomes:
                seen = f"{each.rate:,.0f} of {rate:,.0f} frames/s, loss {100 * each.loss:.3g} %"
                say(f"{result.mix.name:>5}  {each.way}  {seen}")
        return outcomes

    def _valid(self, result: Result, rate: float) -> tuple[list[Outcome], str]:
        """A trial, repeated if the tester itself failed. Returns what failed in the last one, or ''."""
        for _ in range(1 + REPEATS):
            outcomes = self._trial(result, rate)
            failure = tester_failure(outcomes)
            if not failure:
                break
        return outcomes, failure

    def _lost(self, outcomes: Sequence[Outcome]) -> bool:
        return any(each.loss > self._plan.acceptable for each in outcomes)

    def _search(self, result: Result) -> None:
        """The highest rate without loss, by halving (26.1). The first rate is the highest."""
        low, high, rate, hint = 0.0, result.most, result.most, 0.0
        least = max(FEWEST_FRAMES / self._plan.seconds, result.most * SLOWEST)
        while True:
            outcomes, failure = self._valid(result, rate)
            if self._lost(outcomes):
                high, result.limit = min(rate, max(each.rate for each in outcomes)), ""
                hint = hint or HINT * min(each.received / each.seconds for each in outcomes)
            else:
                if not missed_any(outcomes):
                    result.throughput = low = max(low, min(rate, *(each.rate for each in outcomes)))
                    if rate == result.most:  # even if the tester was slow: it cannot send more
                        result.limit = failure
                        return
                if failure:
                    high, result.limit = rate, failure
            if high - low <= self._plan.resolution * high or high <= least:
                break
            rate = hint if low < hint < high else (low + high) / 2
            hint = hint and -1.0
        result.throughput = low

    def _loss(self, result: Result) -> None:
        """The loss at 100 %, 90 % ... of the highest rate, until two trials in a row had none (26.3)."""
        clean, percent = 0, 100.0
        while percent > 0 and clean < 2:
            asked = result.most * percent / 100
            outcomes, _ = self._valid(result, asked)
            loss = None if missed_any(outcomes) else max(each.loss for each in outcomes)
            result.curve.append((asked, min(each.rate for each in outcomes), loss))
            clean = clean + 1 if loss == 0 else 0
            percent = round(percent - self._plan.step, 9)


def missed_any(outcomes: Sequence[Outcome]) -> bool:
    return any(each.missed for each in outcomes)


def tester_failure(outcomes: Sequence[Outcome]) -> str:
    """What the tester itself did not manage in a trial, or ''."""
    for each in outcomes:
        if each.missed:
            return f"{each.way}: the tester could not receive: its NIC missed {each.missed:,} frames"
        if each.slow:
            return f"{each.way}: the tester sent {each.rate:,.0f} of {each.asked:,.0f} frames a second"
    return ""


# ---- the report ----


def notes(results: Sequence[Result], plan: Plan) -> list[str]:
    """Sentences about the whole test."""
    pacing = sorted({each.pacing for result in results for each in result.trials})
    found = [f"trials of {plan.seconds:g} s; the rate was kept by: {', '.join(pacing) or 'no trial was made'}"]
    if plan.acceptable:
        found.append(f"up to {100 * plan.acceptable:g} % of loss was accepted")
    return found


def of_size(result: Result) -> list[str]:
    """The lines of one frame size, as far as it was measured."""
    found, latency = [], result.latency_us
    if result.throughput is not None:
        rate, at_least = result.throughput, "at least " * bool(result.limit and result.throughput)
        found.append(
            f"{result.mix.name:>5} bytes: throughput {at_least}{rate:,.0f} frames/s, "
            f"{result.mix.mbps(rate):,.1f} Mbit/s, {result.percent(rate):.3g} % of line rate"
        )
    if latency:
        named = ", ".join(f"{name} {value:,.1f}" for name, value in latency.items())
        of_one = (
            f" from {result.probes.sender.name} to {result.probes.receiver.name}"
            if result.stamped and len(result.latency) > 1 and result.probes
            else ""
        )
        found.append(f"       latency by {result.latency_method}{of_one} in us: {named}")
    for _, sent, loss in result.curve:
        lost = "not known: the tester missed frames" if loss is None else f"{100 * loss:.4g} %"
        found.append(f"       loss at {sent:,.0f} frames/s: {lost}")
    return found + warnings(result)


def warnings(result: Result) -> list[str]:
    """Sentences about one size that a reader must not miss."""
    name, found = result.mix.name, []
    if result.throughput == 0 and not result.limit and result.trials:
        slowest = min(result.trials, key=lambda each: each.asked)
        found.append(
            f"{name}: every rate had loss; at {slowest.rate:,.0f} frames/s the device lost {100 * slowest.loss:.3g} %"
        )
    if failure := tester_failure(result.latency):
        found.append(f"{name}: the trial of the latency was not as it should be. {failure}")
    elif any(each.lost for each in result.latency):
        found.append(f"{name}: the device lost frames in the trial of the latency")
    if result.limit:
        found.append(f"{name}: the tester is the limit, not the device. {result.limit}")
    for count, what in (
        (result.sum(lambda each: each.duplicates), "frames came twice or more: the device duplicates"),
        (result.sum(lambda each: each.earlier), "frames of an earlier trial came late; raise --settle"),
        (result.sum(lambda each: each.foreign), "frames came that the tester did not send"),
        (result.sum(lambda each: each.errors), "frames came with a wrong CRC or length"),
    ):
        if count:
            found.append(f"{name}: {count:,} {what}")
    if any(each.missed is None for each in result.trials):
        found.append(f"{name}: the receiving port does not count what it misses, so that looks like loss in the device")
    return found


def drawing(results: Sequence[Result]) -> str:
    """Throughput against frame size, and below it the loss against the rate of each size."""
    sizes = [each for each in results if each.throughput is not None]
    points = {
        "sizes": [(each.mix.size, each.percent(each.throughput or 0)) for each in sizes if len(each.mix.sizes) == 1],
        "imix": [(each.mix.size, each.percent(each.throughput or 0)) for each in sizes if len(each.mix.sizes) > 1],
    }
    curves = {
        each.mix.name: sorted((each.percent(sent), 100 * loss) for _, sent, loss in each.curve if loss is not None)
        for each in results
    }
    throughput = {name: sorted(curve) for name, curve in points.items() if curve}
    charts = [
        lines("Throughput", "frame size in bytes", "% of line rate", throughput, top(throughput)),
        lines("Frame loss", "% of line rate", "% of frames lost", curves, top(curves)),
    ]
    placed = [
        f'<svg y="{HEIGHT * number}" width="720" height="{HEIGHT}">{chart}</svg>' for number, chart in enumerate(charts)
    ]
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 {HEIGHT * 2}">\n' + "\n".join(placed) + "</svg>\n"


def top(curves: dict[str, list[tuple[float, float]]]) -> float:
    """The end of the upright axis: a little above the highest point, 100 at most."""
    return min(100.0, 1.1 * max((y for curve in curves.values() for _, y in curve), default=0)) or 1.0


# ---- the command ----


def mixes(text: str) -> list[Mix]:
    """The streams of `64,1518,imix`. Raises ValueError."""
    found = []
    for each in text.lower().split(","):
        if each == "imix":
            found.append(Mix("imix", IMIX))
        elif each.isdecimal() and SMALLEST <= int(each) <= LARGEST:
            found.append(Mix(str(int(each)), (int(each),)))
        else:
            raise ValueError(
                f"{each!r} is refused; a size is {SMALLEST} to {LARGEST} bytes with CRC, or imix, as in {SIZES}"
            )
    return found


def tests(text: str) -> tuple[str, ...]:
    """Raises ValueError."""
    found = tuple(text.split(","))
    wrong = [each for each in found if each not in TESTS]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is refused; choose from {','.join(TESTS)}")
    return found


def most_rate(text: str) -> Callable[[float], float]:
    """Frames a second of `50000`, or of `10%`, for a line rate in frames a second. Raises ValueError."""
    try:
        if text.endswith("%") and 0 < float(text[:-1]) <= 100:
            return lambda line_rate: line_rate * float(text[:-1]) / 100
        if 0 < float(text) <= 1e9:
            return lambda line_rate: min(line_rate, float(text))
    except ValueError:
        pass
    raise ValueError(f"{text!r} is refused; choose frames a second, such as 50000, or a part of line rate, such as 10%")


def open_all(names: Sequence[str], mtu: int, args: argparse.Namespace, stack: ExitStack) -> list[Port]:
    """The ports, promiscuous and with a queue for probes where they can be.

    A virtual function receives only what is for it, and has no clock.
    """
    for promiscuous, queues in ((True, 2), (True, 1), (False, 1)):
        try:
            return stack.enter_context(
                open_ports(
                    *names,
                    promiscuous=promiscuous,
                    tx_queues=queues,
                    rx_queues=queues,
                    mtu=mtu,
                    tx_slots=4096,
                    rx_slots=8192,
                    trace=args.trace,
                )
            )
        except PortError as error:
            refusal = error
    raise refusal


def main() -> None:
    parser = options(__doc__)
    add = parser.add_argument
    percentage = number(0, 100)
    add("-i", dest="sender", default="emulated:loop", metavar="PORT", help="port that sends (default: %(default)s)")
    add("-o", dest="receiver", metavar="PORT", help="port at which the frames come back (default: the same)")
    add("--both", action="store_true", help="send in both directions at the same time")
    add("--tests", type=checked(tests), default=TESTS, metavar="LIST", help=f"some of {','.join(TESTS)} (default: all)")
    add(
        "--sizes",
        type=checked(mixes),
        default=SIZES,
        metavar="LIST",
        help="frame sizes in bytes with CRC; imix is 7 of 64, 4 of 594, 1 of 1518 (default: %(default)s)",
    )
    add("--seconds", type=SECONDS, default=10, help="time of a trial; RFC 2544 asks for 60 (default: %(default)s)")
    add(
        "--settle",
        type=SECONDS_OR_NONE,
        default=2,
        metavar="SECONDS",
        help="after a trial, wait until no frame came for so long (default: %(default)s)",
    )
    add(
        "--max-rate",
        type=checked(most_rate),
        default="100%",
        metavar="RATE",
        help="highest rate, in frames a second or as a part of line rate, such as 10%% (default: line rate)",
    )
    add(
        "--resolution",
        type=number(0.01, 50),
        default=1,
        metavar="PERCENT",
        help="the search ends when the rate is known to this part of it (default: %(default)s)",
    )
    add("--loss", type=percentage, default=0, metavar="PERCENT", help="acceptable loss (default: %(default)s)")
    add(
        "--step",
        type=number(1, 50),
        default=10,
        metavar="PERCENT",
        help="between the rates of the loss curve (default: %(default)s)",
    )
    add(
        "-s",
        dest="source",
        type=checked(endpoint),
        default="10.0.0.1:1234",
        help="source IP[:PORT] (default: %(default)s)",
    )
    add("-d", dest="destination", type=checked(endpoint), default="10.1.0.1:1234", help="as -s (default: %(default)s)")
    add("-D", dest="mac", type=checked(mac), help="destination MAC, such as a router's (default: the receiving port's)")
    add(
        "-w",
        dest="link_timeout",
        type=SECONDS_OR_NONE,
        default=10,
        help="seconds to wait for the link (default: %(default)s)",
    )
    add("--svg", type=Path, metavar="FILE", help="draw throughput and loss")
    args = parser.parse_args()
    if args.both and not args.receiver:
        parser.error("--both needs two ports; give -i PORT -o PORT")
    plan = Plan(args.tests, args.seconds, args.settle, args.resolution / 100, args.loss / 100, args.step)
    longest = max(size for mix in args.sizes for size in mix.sizes)
    error: BaseException | None = None
    with ExitStack() as stack:
        names = [args.sender] + [args.receiver] * bool(args.receiver)
        ports = open_all(names, max(1500, longest - 18), args, stack)
        test = Test(directions(ports, args), plan, not args.json and sys.stderr.isatty())
        try:
            speed = min(port.wait_link(args.link_timeout).speed_mbps for port in ports)
            if not speed:
                raise PortError(f"{' and '.join(names)}: a port without a NIC has no line rate; give ports of NICs")
            test.use_clocks(clocks_of(ports[0], ports[-1]))
            test.check(args.sizes[0])
            for mix in args.sizes:
                line_rate = mix.line_rate(speed)
                test.measure(mix, args.max_rate(line_rate), line_rate)
                if not args.json:
                    print("\n".join(of_size(test.results[-1])), flush=True)
        except (*ERRORS, KeyboardInterrupt) as reason:  # the results so far are printed
            error = reason
    report(test.results, plan, args.json, error)
    if args.svg and test.results:
        write(args.svg, drawing(test.results))
    if error and not isinstance(error, KeyboardInterrupt):
        raise error


def directions(ports: Sequence[Port], args: argparse.Namespace) -> list[Way]:
    there, back = ports[0], ports[-1]
    macs = {port: mac(port.mac) for port in ports}
    to = args.mac
    ends = args.source, args.destination
    ways = [Way(f"{there.name} to {back.name}", there, back, Addresses(macs[there], to or macs[back], *ends))]
    if args.both:
        ways.append(
            Way(f"{back.name} to {there.name}", back, there, Addresses(macs[back], to or macs[there], *ends[::-1]))
        )
    return ways


def report(results: Sequence[Result], plan: Plan, as_json: bool, error: BaseException | None) -> None:
    """Print what was found, also after an error or Ctrl-C."""
    if as_json:
        print(json.dumps({"complete": error is None, "sizes": [each.facts() for each in results]}))
        return
    if error is not None and results and results[-1].trials:
        print("\n".join(of_size(results[-1])))
    if results:
        print("\n".join(notes(results, plan)))
    if error is not None:
        print("the test ended early: these are the results so far" if results else "the test ended without a result")


if __name__ == "__main__":
    run(main)
