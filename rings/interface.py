"""A port's netmap_if, and its rings."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .copying import Add, Copier, Read, Write
from .errors import RegionError
from .layout import IF_HEADER_SIZE, MAX_SLOTS, NETMAP_API, NETMAP_IF, NETMAP_RING, RESERVED_BUFFERS, Direction
from .memory import Mapping, map_shared
from .ring import RxRing, TxRing, ring_bytes

MAX_RINGS = 1024  # more than any NIC has; bounds the work for a damaged netmap_if
NOT_OURS = "is this offset the if_offset of an open port?"


class Made(NamedTuple):
    """What Region.register() has just written. rings: direction, offset, slots and ringid of each bound one.

    It is not read back: a program that has the region may have changed it already.
    """

    rings: Sequence[tuple[Direction, int, int, int]]
    buffers: npt.NDArray[np.uint8]


class Interface:
    """The rings of one port in a region, read from the netmap_if at `offset` (netmap's nr_offset).

    tx_rings, rx_rings: the bound rings, in ringid order; those of the host come last. buffers: every buffer of the
    region, uint8, shape (total_buffers, buf_size). read, write, add: calls on frames (copying.py). Region.register()
    makes it in the driver's process, and gives `made`; attach() makes it in another one. Raises RegionError when there
    is no valid interface at `offset`.
    """

    def __init__(
        self,
        mapping: Mapping,
        offset: int,
        name: str | None = None,
        on_close: Callable[[Interface], None] | None = None,
        made: Made | None = None,
    ) -> None:
        self._mapping: Mapping | None = mapping
        self._on_close = on_close
        self.offset = offset
        header = read_header(mapping, offset) if made is None else mapping.array(NETMAP_IF, 1, offset)[0]
        self.name: str = name if name is not None else bytes(header["ni_name"]).decode("utf-8", "replace")
        self.tx_rings: list[TxRing] = []
        self.rx_rings: list[RxRing] = []
        self._header = header
        self.buffers: npt.NDArray[np.uint8] = np.empty((0, 0), np.uint8)
        if made is None:
            self._find_rings(mapping, header)
        else:
            self._place_rings(mapping, made)
        self._copy_by(Copier(self.buffers))

    def _place_rings(self, mapping: Mapping, made: Made) -> None:
        self.buffers = made.buffers
        for direction, offset, slots, ringid in made.rings:
            if direction is Direction.TX:
                self.tx_rings.append(TxRing(mapping, offset, slots, ringid, self.name, self.buffers))
            else:
                self.rx_rings.append(RxRing(mapping, offset, slots, ringid, self.name, self.buffers))

    def _find_rings(self, mapping: Mapping, header: np.void) -> None:
        counts = [
            int(header[field]) for field in ("ni_tx_rings", "ni_host_tx_rings", "ni_rx_rings", "ni_host_rx_rings")
        ]
        tx = counts[0] + counts[1]
        if sum(counts) > MAX_RINGS:
            raise RegionError(f"The netmap_if at offset {self.offset} claims {sum(counts)} rings; {NOT_OURS}")
        try:
            table = mapping.memory[self.offset + IF_HEADER_SIZE :][: 8 * sum(counts)].cast("q")
            ofs = [table[i] for i in range(sum(counts))]
        except (ValueError, IndexError, TypeError) as error:
            raise RegionError(
                f"The ring_ofs table at offset {self.offset} ends outside the region; {NOT_OURS}"
            ) from error
        for i in range(tx):
            if ofs[i]:
                place = self._check_ring(mapping, ofs[i], Direction.TX)
                self.tx_rings.append(TxRing(mapping, *place, self.name, self.buffers))
        for i in range(tx, len(ofs)):
            if ofs[i]:
                place = self._check_ring(mapping, ofs[i], Direction.RX)
                self.rx_rings.append(RxRing(mapping, *place, self.name, self.buffers))

    def _check_ring(self, mapping: Mapping, ring_ofs: int, direction: Direction) -> tuple[int, int, int]:
        """Offset, slots and id of the ring at `ring_ofs` from the interface. The first ring sets `buffers`."""
        offset = self.offset + ring_ofs
        try:
            header = mapping.array(NETMAP_RING, 1, offset)[0]
            num_slots = int(header["num_slots"])
            if not 0 < num_slots <= MAX_SLOTS or int(header["dir"]) != direction:
                raise ValueError(f"num_slots {num_slots}, dir {int(header['dir'])}")
            if offset + ring_bytes(num_slots) > mapping.size:
                raise ValueError(f"{num_slots} slots end outside the region")
            if not self.buffers.size:
                start = offset + int(header["buf_ofs"])
                size = int(header["nr_buf_size"])
                total = (mapping.size - start) // size if size else 0
                self.buffers = mapping.bytes(total * size, start).reshape(total, size)
        except ValueError as error:
            raise RegionError(f"No {direction.name} ring at offset {offset} ({error}); {NOT_OURS}") from error
        return offset, num_slots, int(header["ringid"])

    def _copy_by(self, copier: Copier) -> None:
        self.read: Read = copier.read
        self.write: Write = copier.write
        self.add: Add = copier.add

    @property
    def total_buffers(self) -> int:
        return len(self.buffers)

    def extra_buffers(self) -> list[int]:
        """The list of buffers at ni_bufs_head: the first 32-bit word of each is the next index, and 0 ends the list.

        Raises RegionError when an index is not a valid buffer or the list is circular.
        """
        chain, valid = self._walk_extra()
        if not valid:
            raise RegionError(
                f"{self.name}: the list of extra buffers is damaged after {len(chain)} of them: the first 32 bits "
                "of each buffer must be the index of the next one, or 0 in the last"
            )
        return chain

    def _walk_extra(self) -> tuple[list[int], bool]:
        """The list of extra buffers as far as it is valid, and whether that is all of it."""
        chain: list[int] = []
        seen: set[int] = set()
        index = int(self._header["ni_bufs_head"])
        while index:
            if not RESERVED_BUFFERS <= index < self.total_buffers or index in seen:
                return chain, False
            chain.append(index)
            seen.add(index)
            index = int.from_bytes(self.buffers[index, :4].tobytes(), "little")
        return chain, True

    def buffers_held(self) -> set[int]:
        """Every valid buffer index that is now in a slot of this interface or in the list at ni_bufs_head.

        Slots and list are shared memory: invalid indices are left out, and an index found twice counts once.
        """
        held = set(self._walk_extra()[0])
        for ring in (*self.tx_rings, *self.rx_rings):
            held.update(ring.slots["buf_idx"].tolist())
        return {index for index in held if RESERVED_BUFFERS <= index < self.total_buffers}

    def leave(self, sentence: str) -> None:
        """In a forked child: these rings are the parent's. From now on each use raises RegionError with `sentence`."""
        for ring in (*self.tx_rings, *self.rx_rings):
            ring.leave(sentence)

    def close(self) -> None:
        """Give the rings' memory and buffers back to the region. The NIC and every sync must have stopped before.

        A ring that the program still has stays readable, but its memory may become another port's. A second call does
        nothing.
        """
        if self._mapping is None:
            return
        if self._on_close is not None:
            self._on_close(self)
        self._mapping = None
        self._on_close = None
        self._header = np.void(NETMAP_IF.itemsize).view(NETMAP_IF)
        for ring in (*self.tx_rings, *self.rx_rings):
            ring.forget_spans()
        self.tx_rings = []
        self.rx_rings = []
        self.buffers = np.empty((0, 0), np.uint8)
        self._copy_by(Copier(self.buffers))


def read_header(mapping: Mapping, offset: int) -> np.void:
    try:
        header: np.void = mapping.array(NETMAP_IF, 1, offset)[0]
    except ValueError as error:
        raise RegionError(f"No netmap_if at offset {offset} of {mapping.size} bytes; {NOT_OURS}") from error
    if int(header["ni_version"]) != NETMAP_API:
        raise RegionError(
            f"No netmap_if at offset {offset} (ni_version {int(header['ni_version'])}, not {NETMAP_API}); {NOT_OURS}"
        )
    return header


def attach(fd: int, offset: int) -> Interface:
    """The interface at `offset` (netmap's nr_offset) of another process's region; `fd` is the region's memfd.

    The caller may close the fd afterwards. Raises RegionError when there is no such interface.
    """
    try:
        mapping = map_shared(fd, os.fstat(fd).st_size)
    except (OSError, ValueError) as error:
        raise RegionError(f"fd {fd} cannot be mapped: {error}; pass the region's own fd") from error
    return Interface(mapping, offset)
