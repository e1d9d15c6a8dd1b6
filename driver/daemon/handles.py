"""A handle: the rings that one open of /dev/netmap has bound, and its netmap_if."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from contextlib import ExitStack

from ixrings.rings import RingError, RxRing, TxRing
from ixrings.rings.offsets import Offsets
from ixrings.rings.service import Handle
from ixrings.rings.view import View

from .abi import Flag, Mode, Register
from .errors import Refused
from .offsets import OffsetsOption, for_rings
from .policy import Process
from .ports import NetmapPort
from .rings import SharedRing

DO_RX_POLL, NO_TX_POLL = 2, 1  # HANDLE_ bits of service.h


class Bound:
    """An open handle. body: the registration as it was answered. service: its control pages and eventfds."""

    def __init__(self, port: NetmapPort, body: Register, process: Process, asked: OffsetsOption | None = None) -> None:
        """Bind the rings that `body` asks for. asked: the option OFFSETS. Raises Refused; then nothing is bound."""
        self.port, self.pid, self.uid = port, process.pid, process.uid
        self._process = process
        self.last_error: RingError | None = None
        self._pool = pool = port.pool
        self.gone = False  # the NIC is gone: there is nothing to stop
        self.closing = False  # its requests are not answered any more
        tx = chosen(port, body, transmit=True)
        rx = chosen(port, body, transmit=False)
        self.rings: list[SharedRing] = [ring for ring in (*tx, *rx) if ring is not None]
        self._exclusive = bool(body.nr_flags & Flag.EXCLUSIVE)
        check_exclusive(port.name, self.rings, self._exclusive)
        offsets = for_rings(port, self.rings, asked) if asked is not None else {}
        with ExitStack() as undo:
            self._opened: list[SharedRing] = []
            self._view: View | None = None
            pool.enter(process)
            port.handles += 1
            undo.callback(self._leave)
            for ring in self.rings:
                self._open(ring, offsets.get(ring))
            self._view = view = self._make_view(tx, rx)
            undo.callback(pool.region.drop, view)
            extra = pool.take(min(body.nr_extra_bufs, pool.room), pool.of(process).number, port.name)
            view.bufs_head = pool.region.link_buffers(extra.tolist())
            flags = DO_RX_POLL * bool(body.nr_flags & Flag.DO_RX_POLL) | NO_TX_POLL * bool(
                body.nr_flags & Flag.NO_TX_POLL
            )
            try:
                self.service = Handle(
                    [ring.kring for ring in tx if ring is not None],
                    [ring.kring for ring in rx if ring is not None],
                    flags,
                )
            except OSError as error:
                raise Refused(errno.ENOMEM, f"{port.name}: no handle can be made: {error.strerror}") from None
            undo.callback(self.service.close)
            body.nr_offset = view.offset
            body.nr_extra_bufs = len(extra)
            port.describe(body)
            self.body = Register.from_buffer_copy(body)
            self._undo = undo.pop_all()

    def _open(self, ring: SharedRing, offsets: Offsets | None) -> None:
        zone = self._pool.of(self._process)
        if ring.users and ring.zone is not None:
            self._pool.join(ring.zone, zone)
        ring.open(zone, offsets)
        ring.exclusive = ring.exclusive or self._exclusive
        self._opened.append(ring)

    def _make_view(self, tx: Sequence[SharedRing | None], rx: Sequence[SharedRing | None]) -> View:
        tx_rings = [ring.ring if ring and isinstance(ring.ring, TxRing) else None for ring in tx]
        rx_rings = [ring.ring if ring and isinstance(ring.ring, RxRing) else None for ring in rx]
        host_tx, host_rx = max(1, len(self.port.host_tx)), max(1, len(self.port.host_rx))
        tx_rings += [None] * (not self.port.host_tx)
        rx_rings += [None] * (not self.port.host_rx)
        return self._pool.view(self.port.name, tx_rings, rx_rings, host_tx, host_rx)

    @property
    def unsent(self) -> bool:
        """Whether a close would now lose frames that the NIC has not sent yet."""
        return not self.gone and any(ring.unsent for ring in self.rings if ring.users == 1)

    @property
    def descriptors(self) -> list[int]:
        """What ATTACH gives: region, asks, answers, kick, wake_rx, wake_tx."""
        return [self._pool.region.fd, *self.service.descriptors]

    def close(self) -> None:
        """Unbind: the rings that nobody has any more go back to rest, and the buffers to the pool."""
        self._undo.close()

    def _leave(self) -> None:
        closed = []
        for ring in self._opened:
            ring.users -= 1
            if not ring.users:
                ring.exclusive = False
                ring.end_watches()
                closed.append(ring)
        try:
            if not self.gone:
                for ring in closed:
                    ring.stop()
        finally:
            self._pool.leave(self._process, closed, self._extra_buffers)
            self.port.left()
        if not self.gone:
            for ring in closed:
                ring.rest()
        self.port.released()

    def _extra_buffers(self) -> list[int]:
        """The list of extra buffers, as the program left it."""
        return self._view.extra_buffers(self._pool.region.total_buffers) if self._view is not None else []

    @property
    def facts(self) -> dict[str, object]:
        """For the status."""
        return {
            "port": self.port.name,
            "mode": Mode(self.body.nr_mode).name if self.body.nr_mode in set(Mode) else self.body.nr_mode,
            "pid": self.pid,
            "program": program(self.pid),
            "rings": [ring.ring.name for ring in self.rings],
            "exclusive": self._exclusive,
            "syncs": self.service.syncs,
            "drops": sum(ring.kring.drops for ring in self.rings),
        }


def program(pid: int) -> str:
    """The name of a process, as the kernel knows it."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def chosen(port: NetmapPort, body: Register, *, transmit: bool) -> list[SharedRing | None]:
    """Every ring of a direction, host rings last, or None for those that are not bound. Raises Refused(EINVAL)."""
    nic, host = (port.tx, port.host_tx) if transmit else (port.rx, port.host_rx)
    everything: list[SharedRing | None] = [*nic, *host]
    if body.nr_flags & (Flag.RX_RINGS_ONLY if transmit else Flag.TX_RINGS_ONLY):
        return [None] * len(everything)
    wanted = ring_numbers(port, body, len(nic), len(host))
    return [ring if number in wanted else None for number, ring in enumerate(everything)]


def ring_numbers(port: NetmapPort, body: Register, nic: int, host: int) -> range:
    """Which rings of a direction with `nic` and `host` rings a registration binds. Raises Refused(EINVAL)."""
    mode, ringid = body.nr_mode, body.nr_ringid
    if mode in (Mode.SW, Mode.NIC_SW, Mode.ONE_SW) and not (port.host_tx and port.host_rx):
        raise Refused(errno.EINVAL, f"{port.name} has no host rings")
    match mode:
        case Mode.ALL_NIC | Mode.NULL:
            return range(nic)
        case Mode.SW:
            return range(nic, nic + host)
        case Mode.NIC_SW:
            return range(nic + host)
        case Mode.ONE_NIC if ringid < max(len(port.tx), len(port.rx)):
            one = ringid if ringid < nic else 0
            return range(one, min(one + 1, nic))
        case Mode.ONE_SW if ringid < max(len(port.host_tx), len(port.host_rx)):
            one = nic + (ringid if ringid < host else 0)
            return range(one, one + 1)
    raise Refused(
        errno.EINVAL, f"{port.name} has no ring {ringid} for nr_mode {mode}; it has {nic} and {host} host rings"
    )


def check_exclusive(name: str, rings: Sequence[SharedRing], exclusive: bool) -> None:
    """Raises Refused(EBUSY)."""
    for ring in rings:
        if ring.exclusive or (exclusive and ring.users):
            raise Refused(errno.EBUSY, f"{ring.ring.name} is in use{' exclusively' if ring.exclusive else ''}")
