"""Counts what happened to numbered frames on their way: lost, duplicated, reordered; for many streams at once.

A stream is what one run of a sender numbers from a first number on. In each stream

lost         numbers between the lowest and the highest one received that did not come. Frames lost before the first
             one or after the last one cannot be known.
duplicates   frames whose number came before
reordered    frames that came after one with a higher number, the first time that they came (RFC 4737 3.3)
late         frames so far behind the highest number that the memory for numbers is gone: they were reordered, or came
             again. Their numbers stay in `lost`.

Numbers are remembered for at least the last 32 frames of each stream; with up to 64 streams for the last 16,384.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from numbered import MAGIC, NUMBERS, STREAMS, Finder, Ints

import numpy as np
import numpy.typing as npt

from ixrings import Port
from ixrings.rings import Ring, Span
from ixrings.rings.layout import SlotFlag

MEMORY = 1 << 20  # numbers remembered, 8 bytes each
LONGEST = 1 << 14  # numbers remembered of a stream at most: 128 KB, which a core's cache holds
MOST_STREAMS = 1 << 15
MOST_SENDERS = 64
APART = 1 << 40  # between the numbers of two streams in one array; more than two numbers of a stream can differ
MOREFRAG = int(SlotFlag.NS_MOREFRAG)
FAULTS = ("lost", "duplicates", "reordered", "late")
SHOWN = 20


class Verifier:
    """Takes batches of received frames, and counts. `foreign` are frames without a number.

    Frames of more than 64 senders, or of more than 32,768 streams in all, count as `unwatched`.
    """

    def __init__(self, port: Port) -> None:
        self._finder = Finder(port)
        self._rows: dict[int, npt.NDArray[np.int32]] = {}  # of each sender: the row of each of its streams, or -1
        self._names: list[tuple[int, int]] = []  # sender and stream of each row
        self._continued: dict[Ring, bool] = dict.fromkeys(
            port.rx_rings, False
        )  # whether the next slot continues a frame
        self.frames = self.foreign = self.unwatched = 0
        self._memory = np.zeros((1, LONGEST), np.int64)  # the number that came last to each place; 0: none
        self.first = np.zeros(1, np.int64)
        self.highest = np.zeros(1, np.int64)
        self.received = np.zeros(1, np.int64)
        self.duplicates = np.zeros(1, np.int64)
        self.reordered = np.zeros(1, np.int64)
        self.late = np.zeros(1, np.int64)

    # ---- batches ----

    def look(self, span: Span) -> int:
        """Count the frames of a span. Returns their number."""
        found, good = self._finder.look(span)
        begins = self._beginnings(span)
        if begins is not None:
            found, good = found[begins], good[begins]
        frames = len(good)
        self.frames += frames
        if not good.all():
            found = found[good]
            self.foreign += frames - len(found)
        if len(found):
            self._sort_out(found)
        return frames

    def _beginnings(self, span: Span) -> npt.NDArray[np.bool_] | None:
        """Which slots begin a frame; None if all do, as they do unless a frame is longer than a buffer."""
        more = (span.flags & MOREFRAG) != 0
        before = self._continued[span.ring]
        if not before and not more.any():
            return None
        self._continued[span.ring] = bool(more[-1])
        return ~np.concatenate(([before], more[:-1]))

    def _sort_out(self, found: npt.NDArray[np.void]) -> None:
        senders = found["sender"]
        if (senders == senders[0]).all():
            self._of_sender(int(senders[0]), found)
            return
        for sender in np.unique(senders):
            self._of_sender(int(sender), found[senders == sender])

    def _of_sender(self, sender: int, found: npt.NDArray[np.void]) -> None:
        rows, numbers = self._rows_of(sender, found["stream"].astype(np.int64)), found["number"].astype(np.int64)
        if rows.min() < 0:
            watched = rows >= 0
            self.unwatched += len(rows) - int(np.count_nonzero(watched))
            rows, numbers = rows[watched], numbers[watched]
        if len(rows):
            self._count(rows, numbers)

    def _rows_of(self, sender: int, streams: Ints) -> Ints:
        """The row of each frame's stream, -1 for none."""
        known = self._rows.get(sender)
        if known is None:
            known = np.full(STREAMS, -1, np.int32)
            if len(self._rows) == MOST_SENDERS:
                return known[streams].astype(np.int64)
            self._rows[sender] = known
        rows = known[streams].astype(np.int64)
        if rows.min() < 0:
            new = np.unique(streams[rows < 0])[: MOST_STREAMS - len(self._names)]
            known[new] = len(self._names) + np.arange(len(new), dtype=np.int32)
            self._names += [(sender, int(stream)) for stream in new]
            self._make_room()
            rows = known[streams].astype(np.int64)
        return rows

    def _make_room(self) -> None:
        """Rows for every stream. More rows have less memory each; the last numbers are kept."""
        need, have = len(self._names), len(self.first)
        if need <= have:
            return
        rows = 1 << (need - 1).bit_length()
        for name in ("first", "highest", "received", "duplicates", "reordered", "late"):
            setattr(self, name, np.concatenate((getattr(self, name), np.zeros(rows - have, np.int64))))
        old = self._memory
        width = min(LONGEST, MEMORY // rows)
        self._memory = np.zeros((rows, width), np.int64)
        numbers = np.maximum(self.highest[:have, None] - np.arange(width), 0)
        kept = old[np.arange(have)[:, None], numbers % old.shape[1]] == numbers
        which = np.nonzero(kept)
        self._memory[which[0], numbers[which] % width] = numbers[which]

    def _count(self, rows: Ints, numbers: Ints) -> None:
        """Count frames of one sender, in the order in which they came. rows, numbers: shape (n,)."""
        fresh = self.received[rows] == 0
        if fresh.any():  # a stream begins with the first of its frames that comes
            new, at = np.unique(rows[fresh], return_index=True)
            self.first[new] = numbers[fresh][at] + NUMBERS  # never 0, also for the numbers before it
            self.highest[new] = self.first[new] - 1
        base = self.highest[rows]
        # The number of 32 bits that is nearest to the highest one (RFC 1982).
        ahead = (numbers - base + NUMBERS // 2) % NUMBERS - NUMBERS // 2
        if (rows == rows[0]).all():
            if ahead[0] == 1 and (ahead[1:] - ahead[:-1] == 1).all():  # one stream in order: most batches, in a hurry
                self._count_right(int(rows[0]), base[0] + ahead)
            else:
                self._count_sorted(rows, base + ahead, ahead)
        else:
            order = np.argsort(rows, kind="stable")
            self._count_sorted(rows[order], (base + ahead)[order], ahead[order])

    def _count_right(self, row: int, numbers: Ints) -> None:
        """Count frames of one stream that came in order and without a gap."""
        self._memory[row, numbers % self._memory.shape[1]] = numbers
        self.received[row] += len(numbers)
        self.highest[row] += len(numbers)

    def _count_sorted(self, rows: Ints, numbers: Ints, ahead: Ints) -> None:
        """Rows ascend; the frames of a row are in the order in which they came. ahead: of the row's highest number."""
        begins = np.concatenate(([True], rows[1:] != rows[:-1]))
        starts = np.flatnonzero(begins)
        counts = np.diff(starts, append=len(rows))
        which = rows[starts]
        place = (np.cumsum(begins) - 1) * APART
        reached = np.maximum.accumulate(np.maximum(ahead, 0) + place) - place  # the most ahead so far
        before = np.concatenate(([0], reached[:-1]))
        before[starts] = 0
        behind = ahead <= before
        self.received[which] += counts
        if behind.any():
            kept = self._judge(rows, numbers, numbers - ahead + before, behind)
            rows, numbers = rows[kept], numbers[kept]
        self._memory[rows, numbers % self._memory.shape[1]] = numbers
        self.highest[which] += reached[starts + counts - 1]

    def _judge(self, rows: Ints, numbers: Ints, highest: Ints, behind: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Count the frames that are behind the highest number before them. Returns which frames to remember."""
        width = self._memory.shape[1]
        late = behind & (numbers <= highest - width)
        keys = rows * APART + numbers % APART
        again = np.ones(len(keys), np.bool_)
        again[np.unique(keys, return_index=True)[1]] = False  # not the first one in this batch
        again |= self._memory[rows, numbers % width] == numbers
        again &= behind & ~late
        reordered = behind & ~late & ~again
        for counter, these in ((self.late, late), (self.duplicates, again), (self.reordered, reordered)):
            counter += np.bincount(rows[these], minlength=len(counter))
        np.minimum.at(self.first, rows[reordered], numbers[reordered])
        return ~late & ~again

    # ---- results ----

    @property
    def lost(self) -> Ints:
        """Of each row."""
        span = np.where(self.received > 0, self.highest - self.first + 1, 0)
        lost: Ints = span - (self.received - self.duplicates - self.late)
        return lost

    def counted(self) -> Mapping[str, float]:
        """Totals for the summary."""
        totals = {name: int(getattr(self, name).sum()) for name in FAULTS}
        numbered = int(self.received.sum())
        return {
            "received": self.frames,
            "numbered": numbered,
            "foreign": self.foreign,
            **totals,
            **({"unwatched": self.unwatched} if self.unwatched else {}),
        }

    def details(self) -> Mapping[str, object]:
        return {"streams": list(self.streams())}

    def streams(self) -> Iterator[Mapping[str, object]]:
        """One mapping for each stream, in the order in which they began."""
        lost = self.lost
        for row, (sender, stream) in enumerate(self._names):
            yield {
                "sender": f"{sender:08x}",
                "stream": stream,
                "received": int(self.received[row]),
                "lost": int(lost[row]),
                **{name: int(getattr(self, name)[row]) for name in FAULTS[1:]},
            }

    @property
    def right(self) -> bool:
        """Whether numbered frames came, each once and in order."""
        return bool(self._names) and not any(getattr(self, name).any() for name in FAULTS)

    def verdict(self) -> str:
        """One sentence, or a line for each of the first 20 streams with a fault."""
        names = self._names
        if not names:
            return f"No frame had a number (their payload begins with {MAGIC:#x}). Send with: pktgen.py -f tx --number"
        senders = len({sender for sender, _ in names})
        who = f"{len(names):,} stream{'s' * (len(names) > 1)} of {senders} sender{'s' * (senders > 1)}"
        if self.right:
            return f"{who}: every frame came once and in order, from the first one received to the last one."
        bad = [each for each in self.streams() if any(each[name] for name in FAULTS)]
        lines = [
            f"sender {each['sender']} stream {each['stream']}: received {each['received']:,}, "
            + ", ".join(f"{name} {each[name]:,}" for name in FAULTS if each[name])
            for each in bad[:SHOWN]
        ]
        if len(bad) > SHOWN:
            lines.append(f"... and {len(bad) - SHOWN:,} more streams with faults; --json shows all")
        return "\n".join([f"FAILED: {who}, {len(bad):,} with faults.", *lines])
