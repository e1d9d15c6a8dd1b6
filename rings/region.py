"""One shared memory region, [interfaces][rings][buffers], for any number of ports."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from types import TracebackType

import numpy as np
import numpy.typing as npt

from .errors import RegionError
from .interface import Interface, Made
from .layout import (
    BUF_SIZE_STEP,
    IF_HEADER_SIZE,
    IFNAMSIZ,
    MAX_BUF_SIZE,
    MAX_SLOTS,
    MIN_BUF_SIZE,
    MIN_SLOTS,
    NETMAP_API,
    NETMAP_IF,
    NETMAP_RING,
    NETMAP_SLOT,
    RESERVED_BUFFERS,
    RING_CONSTANTS,
    RING_HEADER_SIZE,
    SLOTS_STEP,
    Direction,
    align_up,
    first_words,
    if_size,
    ring_size,
)
from .memory import SMALLER, Mapping, Memory, make_memory, map_shared, mb
from .offsets import Offsets
from .ring import RxRing, TxRing, ring_bytes
from .view import View


class Region:
    """A memfd of [interfaces][rings][buffers], mapped in this process. Another process can map `fd`, too.

    buffers: their number, with the reserved buffers 0 and 1. metadata: bytes for interfaces and rings. buf_size: bytes
    of a buffer, a multiple of 64 in 1024..15872. memory: makes special memory, such as hugepages; None: plain pages.
    Raises RegionError when a value is not allowed or memory is short, and what `memory` raises.

    fd: the memfd. size: bytes (netmap's nr_memsize). page_size: bytes of a page. address: of byte 0 in this process.
    buffers_offset: bytes from the region's start. buffers: uint8, shape (total_buffers, buf_size).
    """

    def __init__(self, *, buffers: int, metadata: int, buf_size: int = 2048, memory: Memory | None = None) -> None:
        self.fd = -1
        check_buf_size(buf_size)
        if buffers <= RESERVED_BUFFERS or buffers > 0xFFFFFFFF or metadata < 0:
            raise RegionError(
                f"A region needs more than {RESERVED_BUFFERS} buffers (0 and 1 are reserved), not {buffers}."
            )
        self.buf_size = buf_size
        self.total_buffers = buffers
        self.fd, self.page_size = make_memory(metadata + buffers * buf_size, memory)
        self.size = align_up(metadata + buffers * buf_size, self.page_size)
        # The last buffer ends with the region. So another process can compute the number of buffers from size and
        # buf_ofs, and buffers whose size is a power of two never cross a page boundary.
        self.buffers_offset = self.size - buffers * buf_size
        try:
            self._mapping: Mapping | None = map_shared(self.fd, self.size)
        except OSError as error:
            raise RegionError(f"The region's {mb(self.size)} cannot be mapped: {error.strerror}. {SMALLER}") from error
        self.address = self._mapping.address
        self.buffers: npt.NDArray[np.uint8] = self._mapping.bytes(buffers * buf_size, self.buffers_offset).reshape(
            buffers, buf_size
        )
        self._free = all_buffers(buffers)
        self._blocks: dict[int, int] = {}  # metadata in use: offset -> bytes
        self._interfaces: list[Interface] = []

    @classmethod
    def for_ports(
        cls, ports: int = 1, *, tx_rings: int = 1, rx_rings: int = 1, tx_slots: int = 1024, rx_slots: int = 1024,
        buf_size: int = 2048, extra_bufs: int = 0, memory: Memory | None = None,
    ) -> Region:  # fmt: skip
        """A region with room for `ports` ports; each has these rings and slots, and `extra_bufs` extra buffers."""
        if ports < 1 or tx_rings < 0 or rx_rings < 0 or extra_bufs < 0:
            raise RegionError("Region.for_ports needs at least one port, and no negative number of rings or buffers.")
        tx, rx = [tx_slots] * tx_rings, [rx_slots] * rx_rings
        for slots in (*tx, *rx):
            check_slots(slots)
        buffers = RESERVED_BUFFERS + ports * (sum(tx) + sum(rx) + extra_bufs)
        return cls(
            buffers=max(buffers, RESERVED_BUFFERS + 1),
            metadata=ports * metadata_size(tx, rx),
            buf_size=buf_size,
            memory=memory,
        )

    @property
    def free_buffers(self) -> int:
        """The number of buffers that are in no ring and in no list of extra buffers."""
        return len(self._free)

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """The interfaces that are registered now."""
        return tuple(self._interfaces)

    @property
    def blocks(self) -> dict[int, int]:
        """Metadata in use: bytes by offset."""
        return dict(self._blocks)

    def lost_buffers(self) -> set[int]:
        """Buffers that are neither free, nor in a ring, nor in a list of extra buffers.

        A program that took them out of a ring may hold them; otherwise a program lost them when it was killed.
        """
        held = set().union(*(interface.buffers_held() for interface in self._interfaces))
        return set(all_buffers(self.total_buffers)).difference(self._free, held)

    def register(
        self, name: str, *, tx_slots: Sequence[int], rx_slots: Sequence[int], bound_tx: Collection[int] | None = None,
        bound_rx: Collection[int] | None = None, extra_bufs: int = 0, buffers: bool = True,
    ) -> Interface:  # fmt: skip
        """Make an interface: one TX ring for each of `tx_slots`, then one RX ring for each of `rx_slots`.

        bound_tx, bound_rx: indices of the rings to make (None: all). The other rings get ring_ofs 0 and no memory.
        buffers: False leaves buffer 0 in each slot, of rings that no NIC has: the caller fills the slots, and close()
        frees no buffer.
        Rings start in netmap's initial state. Raises RegionError when the region is closed or too small.
        """
        mapping = self._open_mapping()
        for slots in (*tx_slots, *rx_slots):
            check_slots(slots) if buffers else check_soft_slots(slots)
        tx = bound_slots(tx_slots, bound_tx)
        rx = bound_slots(rx_slots, bound_rx)
        needed = sum(tx) + sum(rx) + extra_bufs if buffers else 0
        if extra_bufs < 0 or needed > len(self._free):
            raise RegionError(
                self._too_small(name, f"{needed} buffers", f"{len(self._free)} of {self.total_buffers} are free")
            )
        offset = self._place(name, metadata_size(tx, rx))
        free = list(self._free)
        try:
            rings = self._write_interface(mapping, offset, name, tx, rx, extra_bufs, buffers)
            on_close = self._release if buffers else self.drop
            interface = Interface(mapping, offset, name, on_close, Made(rings, self.buffers.view()))
        except BaseException:
            del self._blocks[offset]
            self._free = free
            raise
        if buffers:
            self._interfaces.append(interface)
        return interface

    def view(
        self, name: str, *, tx: Sequence[TxRing | None], rx: Sequence[RxRing | None], host_tx: int = 1, host_rx: int = 1
    ) -> View:
        """Make a netmap_if that has rings of other interfaces of this region, as each open of /dev/netmap gets one.

        tx, rx: a ring, or None for one that is not bound; the last host_tx and host_rx of them are host rings. Raises
        RegionError when the region is closed or too small.
        """
        mapping = self._open_mapping()
        size = if_size(len(tx) + len(rx))
        offset = self._place(name, size)
        mapping.bytes(size, offset)[:] = 0
        header = mapping.array(NETMAP_IF, 1, offset)
        header["ni_name"] = short_name(name)
        header["ni_version"] = NETMAP_API
        header["ni_tx_rings"], header["ni_host_tx_rings"] = len(tx) - host_tx, host_tx
        header["ni_rx_rings"], header["ni_host_rx_rings"] = len(rx) - host_rx, host_rx
        table = mapping.memory[offset + IF_HEADER_SIZE :][: 8 * (len(tx) + len(rx))].cast("q")
        for i, ring in enumerate((*tx, *rx)):
            table[i] = ring.offset - offset if ring is not None else 0
        return View(offset, header, self.buffers)

    def drop(self, view: View | Interface) -> None:
        """Take back the memory of a view, or of an interface without buffers of its own."""
        del self._blocks[view.offset]

    def take_buffers(self, count: int) -> list[int]:
        """Take `count` free buffers. The caller keeps account of them until give_buffers(). Raises RegionError."""
        if count > len(self._free):
            raise RegionError(f"{count} buffers are needed, and {len(self._free)} of {self.total_buffers} are free")
        return self._take(count)

    def give_buffers(self, indices: Iterable[int]) -> None:
        """Make buffers of take_buffers() free again."""
        self._free.extend(indices)

    def _write_interface(
        self, mapping: Mapping, offset: int, name: str, tx: list[int], rx: list[int], extra_bufs: int, buffers: bool
    ) -> list[tuple[Direction, int, int, int]]:  # fmt: skip
        """Returns direction, offset, slots and ringid of each ring."""
        made = []
        mapping.bytes(metadata_size(tx, rx), offset)[:] = 0
        header = mapping.array(NETMAP_IF, 1, offset)
        header["ni_name"] = short_name(name)
        header["ni_version"] = NETMAP_API
        header["ni_tx_rings"] = len(tx)
        header["ni_rx_rings"] = len(rx)
        table = mapping.memory[offset + IF_HEADER_SIZE :][: 8 * (len(tx) + len(rx))].cast("q")
        place = if_size(len(tx) + len(rx))
        directions = [Direction.TX] * len(tx) + [Direction.RX] * len(rx)
        for i, (direction, num_slots) in enumerate(zip(directions, tx + rx)):
            if num_slots:
                table[i] = place
                ringid = i if direction is Direction.TX else i - len(tx)
                indices = self._take(num_slots) if buffers else [0] * num_slots
                self._write_ring(mapping, offset + place, direction, ringid, num_slots, indices)
                made.append((direction, offset + place, num_slots, ringid))
                place += ring_size(num_slots)
        header["ni_bufs_head"] = self.link_buffers(self._take(extra_bufs))
        return made

    def _write_ring(
        self, mapping: Mapping, offset: int, direction: Direction, ringid: int, num_slots: int,
        buffers: Sequence[int] | npt.NDArray[np.uint32], offsets: Offsets | None = None,
    ) -> None:  # fmt: skip
        ring = mapping.array(NETMAP_RING, 1, offset)
        ring["buf_ofs"] = self.buffers_offset - offset
        ring["num_slots"] = num_slots
        ring["nr_buf_size"] = self.buf_size
        ring["ringid"] = ringid
        ring["dir"] = direction
        ring["tail"] = num_slots - 1 if direction is Direction.TX else 0
        slots = mapping.array(NETMAP_SLOT, num_slots, offset + RING_HEADER_SIZE)
        slots["buf_idx"] = buffers
        slots["len"] = self.buf_size
        if offsets:
            ring["offset_mask"] = offsets.mask
            slots["ptr"] = offsets.initial

    def rebuild(
        self, ring: TxRing | RxRing, buffers: Sequence[int] | npt.NDArray[np.uint32], offsets: Offsets | None = None
    ) -> None:
        """Put a ring back to netmap's initial state, with one of `buffers` in each slot. Nothing may sync it now.

        A program may look at it at any moment, for example while the daemon ends. So num_slots and buf_ofs, by which it
        computes addresses, are never 0.
        """
        mapping = self._open_mapping()
        mapping.bytes(ring_bytes(ring.num_slots) - RING_CONSTANTS, ring.offset + RING_CONSTANTS)[:] = 0
        self._write_ring(mapping, ring.offset, ring.direction, ring.ringid, ring.num_slots, buffers, offsets)

    def start_offsets(self, ring: TxRing | RxRing, offsets: Offsets | None, slots: npt.NDArray[np.bool_]) -> None:
        """As rebuild() does, in a ring that keeps its slots: only those in the mask `slots` get the initial offset."""
        self._open_mapping().array(NETMAP_RING, 1, ring.offset)["offset_mask"] = offsets.mask if offsets else 0
        if offsets:
            kept = ring.slots["ptr"][slots] & np.uint64(~offsets.mask & 2**64 - 1)
            ring.slots["ptr"][slots] = kept | np.uint64(offsets.initial)

    def link_buffers(self, indices: Sequence[int]) -> int:
        """Chain buffers by their first 32-bit words. Returns the index of the first one, or 0 for none."""
        first_words(self.buffers)[list(indices)] = [*indices[1:], 0][: len(indices)]
        return indices[0] if indices else 0

    def _take(self, count: int) -> list[int]:
        """Take `count` free buffers. A new region gives the lowest indices first."""
        taken = self._free[len(self._free) - count :]
        del self._free[len(self._free) - count :]
        return taken[::-1]

    def _place(self, name: str, size: int) -> int:
        """Metadata of `size` bytes. Raises RegionError."""
        offset = self._allocate(size)
        if offset is None:
            used = sum(self._blocks.values())
            raise RegionError(
                self._too_small(name, f"{size} bytes for its rings", f"{used} of {self.buffers_offset} are in use")
            )
        return offset

    def _allocate(self, size: int) -> int | None:
        """First fit in the metadata area. Returns the offset, or None when there is no gap of `size` bytes."""
        place = 0
        for offset in sorted(self._blocks):
            if offset - place >= size:
                break
            place = offset + self._blocks[offset]
        if place + size > self.buffers_offset:
            return None
        self._blocks[place] = size
        return place

    def _release(self, interface: Interface) -> None:
        """Take back an interface's memory and buffers.

        Zero-copy forwarding moves buffers between ports, so this frees the buffers that are in the slots now.
        A program may have overwritten the slots. A buffer that another port has, too, therefore stays with that port,
        and lost buffers come back when the last port closes.
        """
        self._interfaces.remove(interface)
        del self._blocks[interface.offset]
        if not self._interfaces:
            self._free = all_buffers(self.total_buffers)
            return
        freed = interface.buffers_held().difference(self._free, *(other.buffers_held() for other in self._interfaces))
        self._free.extend(sorted(freed, reverse=True))

    def _open_mapping(self) -> Mapping:
        if self._mapping is None:
            raise RegionError("This region is closed. Make a new one with Region.for_ports().")
        return self._mapping

    def _too_small(self, name: str, needs: str, has: str) -> str:
        ports = len(self._interfaces) + 1
        return (
            f"The region is too small for {name}: it needs {needs}, {has}. Make a larger one: "
            f"Region.for_ports(ports={max(ports, 2)}) with the rings and slots you need, or open the ports together "
            "with open_ports()."
        )

    def close(self) -> None:
        """Close the fd and drop the mapping. The last view of the memory unmaps it. A second call does nothing."""
        if self._mapping is None:
            return
        for interface in tuple(self._interfaces):
            interface.close()
        self._close_fd()
        self.buffers = np.empty((0, self.buf_size), np.uint8)
        self._mapping = None

    def __del__(self) -> None:
        """Closes the fd of a region that nothing closed, because an exception came between its making and its use."""
        self._close_fd()

    def _close_fd(self) -> None:
        """Close the fd once: garbage collection may call __del__ before another object's calls close()."""
        fd, self.fd = getattr(self, "fd", -1), -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Region:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def all_buffers(total: int) -> list[int]:
    return list(range(total - 1, RESERVED_BUFFERS - 1, -1))


def metadata_size(tx: Sequence[int], rx: Sequence[int]) -> int:
    """Bytes of one interface with its bound rings. An unbound ring has 0 slots."""
    return if_size(len(tx) + len(rx)) + sum(ring_size(n) for n in (*tx, *rx) if n)


def bound_slots(slots: Sequence[int], bound: Collection[int] | None) -> list[int]:
    """Slots of each ring, 0 for a ring that is not bound."""
    for i in bound or ():
        if not 0 <= i < len(slots):
            raise RegionError(f"There is no ring {i} to bind: this port has rings 0..{len(slots) - 1}.")
    return [n if bound is None or i in bound else 0 for i, n in enumerate(slots)]


def check_slots(slots: int) -> None:
    if not MIN_SLOTS <= slots <= MAX_SLOTS or slots % SLOTS_STEP:
        raise RegionError(
            f"A ring cannot have {slots} slots: choose {MIN_SLOTS}..{MAX_SLOTS}, a multiple of {SLOTS_STEP} "
            "(82599 8.2.3.8.3)."
        )


def check_soft_slots(slots: int) -> None:
    """As check_slots(), for a ring without a NIC."""
    if not 2 <= slots <= MAX_SLOTS:
        raise RegionError(f"A ring cannot have {slots} slots: choose 2..{MAX_SLOTS}.")


def check_buf_size(buf_size: int) -> None:
    if not MIN_BUF_SIZE <= buf_size <= MAX_BUF_SIZE or buf_size % BUF_SIZE_STEP:
        raise RegionError(
            f"buf_size cannot be {buf_size}: choose {MIN_BUF_SIZE}..{MAX_BUF_SIZE}, a multiple of {BUF_SIZE_STEP} "
            "(2048 is usual)."
        )


def short_name(name: str) -> bytes:
    """ni_name: at most 15 bytes and a zero, as netmap shortens it."""
    return name.encode("utf-8", "replace")[: IFNAMSIZ - 1]
