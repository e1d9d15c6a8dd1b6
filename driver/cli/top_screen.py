"""The screen of `ixrings top`: a line for each port, and the chosen port in detail, cut to the size of the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..daemon.log import printable
from .processes import Cpu, program
from .top_rates import Rate, Sight

STYLES = {"": "", "title": "1", "chosen": "7", "bad": "31", "dim": "2"}
SORTS = {
    "as given": lambda sight: 0.0,
    "by frames received": lambda sight: -(sight.rx.frames if sight.rx else 0),
    "by frames sent": lambda sight: -(sight.tx.frames if sight.tx else 0),
    "by frames dropped": lambda sight: -sight.dropped,
}
DROPS = {
    "refused": "refused by the filters: for another address, group or VLAN (TPR - GPRC)",
    "damaged": "damaged, or of a wrong length (CRCERRS, RLEC, RUC, RFC, ROC, RJC)",
    "missed": "the packet buffer was full (MPC)",
    "dropped": "the queue had no free slot, or has no ring (QPRDC)",
}
HELP = """\
q, Ctrl-C       end
p, space        pause, and go on
n, Tab, down    next port; up: the one before
s               sort the ports: as given, by frames received, sent, dropped
t               show the threads of the program, or not
+ -             longer, shorter interval
h, ?            these keys

line: percent of what the cable can carry. On it a frame takes 20 bytes more
than its own, for preamble and gap. ring: how many frames wait in it, to be
sent (TX) or for the program (RX), as of the program's last sync; and the most
that were seen since the rates before.
""".splitlines()
BAR = 30
NUMBERS = 56  # columns of a table's row behind the name and the link
LABEL = "  {:10}"


@dataclass
class View:
    """What the user has chosen."""

    interval_s: float
    chosen: int = 0  # in the order of the table
    sort: int = 0
    threads: bool = False
    paused: bool = False
    help: bool = False
    colour: bool = False

    @property
    def sorting(self) -> str:
        return list(SORTS)[self.sort % len(SORTS)]

    def ordered(self, sights: Sequence[Sight]) -> list[Sight]:
        return sorted(sights, key=SORTS[self.sorting])


def screen(sights: Sequence[Sight], view: View, columns: int, rows: int) -> list[str]:
    """At most `rows` lines of at most `columns` characters."""
    ordered = view.ordered(sights)
    chosen = ordered[min(view.chosen, len(ordered) - 1)]
    lines = [(heading(view, len(ordered)), "title")]
    lines += [(line, "") for line in HELP] if view.help else [*table(ordered, chosen, columns), ("", "")]
    if not view.help:
        lines += detail(chosen, view.threads, columns)
    if len(lines) > rows:
        more = len(lines) - rows + 1
        lines = [*lines[: rows - 1], (f"{more} more lines; make the terminal higher", "dim")]
    return [styled(cut(printable(text), columns), style, view.colour) for text, style in lines]


def heading(view: View, ports: int) -> str:
    sort = f", {view.sorting}" * (ports > 1 and view.sort % len(SORTS) > 0)
    return f"ixrings top, every {view.interval_s:g} s{sort}{', PAUSED' * view.paused}   h: keys   q: end"


def text_of_sights(sights: Sequence[Sight]) -> Iterator[str]:
    """Everything, for a file or a pipe."""
    for sight in sights:
        for text, _ in detail(sight, True, 1000):
            yield printable(text)


def cut(text: str, columns: int) -> str:
    return text if len(text) <= columns else text[: columns - 1] + "…"


def styled(text: str, style: str, colour: bool) -> str:
    if style == "chosen" and not colour:
        return text
    return f"\033[{STYLES[style]}m{text}\033[0m" if colour and style else text


# ---- the table ----


def table(sights: Sequence[Sight], chosen: Sight, columns: int) -> Iterator[tuple[str, str]]:
    width = max(8, columns - 8 - NUMBERS)
    titles = "".join(f"{title:>{size}}" for title, size in zip(("rx/s", "bit/s", "line", "tx/s", "bit/s", "line",
                                                               "drops/s"), (8, 8, 8, 8, 8, 8, 8)))  # fmt: skip
    yield f"  {'port':{width}} {'link':>5}{titles}", "title"
    for sight in sights:
        mark = ">" if sight is chosen and len(sights) > 1 else " "
        begin = f"{mark} {cut(sight.name, width):{width}}"
        if sight.ended:
            yield f"{begin} ended", "bad"
            continue
        numbers = "".join(f"{count(each.frames):>8}{count(each.bits):>8}{percent(each.line):>8}" if each else " " * 24
                          for each in (sight.rx, sight.tx))  # fmt: skip
        drops = "-" if sight.drops is None else count(sight.dropped)
        down = bool(sight.look.link) and not sight.look.speed_mbps
        bad = down or sight.dropped > 0
        speed = "down" if down else f"{sight.look.speed_mbps / 1000:g}G" if sight.look.speed_mbps else "?"
        style = "bad" if bad else "chosen" if mark == ">" else ""
        yield f"{begin} {speed:>5}{numbers}{drops:>8}", style


def count(value: float) -> str:
    """Three digits and a letter: `14.9 M`."""
    for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size * 0.9995:
            return f"{value / size:.3g}{letter}" if value < 999.5 * size else f"{value / size:.0f}{letter}"
    return f"{value:.0f}" if value >= 9.95 or value == round(value) else f"{value:.1f}"


def bits(value: float) -> str:
    text = count(value)
    return f"{text}{'' if ' ' in text else ' '}bit/s"


def percent(value: float | None) -> str:
    return "?" if value is None else f"{value:.1f} %"


# ---- one port ----


def detail(sight: Sight, threads: bool, columns: int) -> Iterator[tuple[str, str]]:
    look = sight.look
    if sight.ended:
        yield f"{sight.name}: {sight.what}", "title"
        yield f"  {sight.ended}", "bad"
        return
    yield f"{sight.name}: {sight.what}", "title"
    if look.link:
        yield f"{LABEL.format('link')}{look.link}   {look.mac}", "" if look.speed_mbps else "bad"
    for title, rate in (("received", sight.rx), ("sent", sight.tx)):
        yield f"{LABEL.format(title)}{in_words(rate)}", ""
    yield f"{LABEL.format('')}counted by {look.counted_by}", "dim"
    yield from drops(sight)
    for fill, most in sight.fills:
        yield f"{LABEL.format('ring ' + fill.name)}{ring(fill.filled, most, fill.slots)}", ""
    if sight.cpu is not None:
        yield from cpu_lines(sight.cpu, threads)
    for user, cpu in sight.users:
        busy = "" if cpu is None else f", CPU {cpu.percent:.0f} %"
        lost = f", {user['drops']:,} frames dropped" if user.get("drops") else ""
        rings = user.get("rings") or ["?"]
        uses = rings[0] if len(rings) == 1 else f"{len(rings)} rings"
        yield (
            f"{LABEL.format('user')}{program(user['pid'])} of {user.get('user')}: {uses}, "
            f"{user.get('syncs', 0):,} syncs{lost}{busy}",
            "",
        )
    for sentence in look.not_seen:
        yield from wrapped(f"{LABEL.format('not seen')}{sentence}", columns)


def wrapped(text: str, columns: int) -> Iterator[tuple[str, str]]:
    """A sentence over several lines, indented as the first one's words."""
    indent = len(LABEL.format(""))
    while len(text) > columns > 2 * indent and (at := text.rfind(" ", indent + 1, columns)) > 0:
        yield text[:at], "dim"
        text = " " * indent + text[at + 1 :]
    yield text, "dim"


def in_words(rate: Rate | None) -> str:
    if rate is None:
        return "measuring"
    line = "" if rate.line is None else f", {rate.line:.2f} % of the line"
    return f"{rate.frames:,.0f} frames/s, {bits(rate.bits)}{line}; {rate.total_frames:,} in all"


def drops(sight: Sight) -> Iterator[tuple[str, str]]:
    if sight.drops is None:
        return
    shown = [(name, per_s, total) for name, (per_s, total) in sight.drops.items() if total]
    if not shown:
        yield f"{LABEL.format('drops')}none", ""
    for name, per_s, total in shown:
        speed = "" if per_s is None else f"{per_s:,.0f} frames/s, "
        yield f"{LABEL.format('drops')}{speed}{total:,} in all: {DROPS.get(name, name)}", "bad" if per_s else ""


def ring(filled: int | None, most: int | None, slots: int) -> str:
    if filled is None:
        return "its indices are not slots of the ring, or cannot be read"
    full = slots - 1
    bars = round(BAR * filled / full)
    peak = "" if most is None or most <= filled else f", at most {most}"
    return f"[{'#' * bars}{'.' * (BAR - bars)}] {filled} of {full}{peak}"


def cpu_lines(cpu: Cpu, threads: bool) -> Iterator[tuple[str, str]]:
    several = f", {len(cpu.threads)} threads" if len(cpu.threads) > 1 else ""
    yield f"{LABEL.format('CPU')}{cpu.percent:.0f} %{several}", ""
    if threads and len(cpu.threads) > 1:
        for number, name, busy in cpu.threads:
            yield f"{LABEL.format('')}{busy:5.0f} %  {name} ({number})", ""
