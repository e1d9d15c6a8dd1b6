"""netmap's shared-memory structures, to the byte (NETMAP_API 14, x86-64, little-endian).

Address arithmetic, with every offset in bytes from the start of the region:
    ring(i)        = interface offset + ring_ofs[i]        TX rings first, then RX rings
    slots          = ring offset + RING_HEADER_SIZE
    buffer(ring,i) = ring offset + buf_ofs + i * nr_buf_size
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

import numpy as np

NETMAP_API = 14
NM_CACHE_ALIGN = 128
IFNAMSIZ = 16

RESERVED_BUFFERS = 2  # indices 0 and 1 never stand in a slot
MIN_SLOTS = 64
MAX_SLOTS = 8192  # 82599 8.2.3.8.3: a descriptor ring is at most 128 KB
SLOTS_STEP = 8  # RDLEN and TDLEN count in 128 bytes, eight descriptors
MIN_BUF_SIZE = 1024  # SRRCTL.BSIZEPACKET counts in KB (8.2.3.8.7)
MAX_BUF_SIZE = 15872  # 15.5 KB is the most one TX descriptor carries (7.2.3.2.2)
MAX_CHAIN = 38  # slots of one frame (7.2.1.1)
BUF_SIZE_STEP = 64  # a cache line

IF_HEADER_SIZE = 56
RING_HEADER_SIZE = 256
SLOT_SIZE = 16


class SlotFlag(IntFlag):
    """netmap_slot.flags."""

    NS_BUF_CHANGED = 0x0001  # the application put another buffer here
    NS_REPORT = 0x0002  # tell me soon when this one is sent
    NS_FORWARD = 0x0004
    NS_NO_LEARN = 0x0008
    NS_INDIRECT = 0x0010  # data is elsewhere (ptr): refused by this driver
    NS_MOREFRAG = 0x0020  # the frame goes on in the next slot
    NS_TXMON = 0x0040
    NS_CONTEXT = 0x0080  # ours: no frame, but what the NIC does to the next one; ptr has Context.word()


class RingFlag(IntFlag):
    """netmap_ring.flags."""

    NR_TIMESTAMP = 0x0002  # ts is filled in at each rxsync
    NR_FORWARD = 0x0004


class Direction(IntEnum):
    """netmap_ring.dir, as netmap writes it (its enum txrx; the comment in its header has them the other way round)."""

    RX = 0
    TX = 1


class Word(IntEnum):
    """The 32-bit words of netmap_ring a sync works with: byte offset / 4."""

    NUM_SLOTS = 2
    HEAD = 5
    CUR = 6
    TAIL = 7
    FLAGS = 8


NETMAP_SLOT = np.dtype(
    {
        "names": ["buf_idx", "len", "flags", "ptr"],
        "formats": ["<u4", "<u2", "<u2", "<u8"],
        "offsets": [0, 4, 6, 8],
        "itemsize": SLOT_SIZE,
    }
)

NETMAP_RING = np.dtype(
    {
        "names": [
            "buf_ofs", "num_slots", "nr_buf_size", "ringid", "dir", "head", "cur", "tail",
            "flags", "ts_sec", "ts_usec", "offset_mask", "buf_align", "sem",
        ],
        "formats": ["<i8", "<u4", "<u4", "<u2", "<u2", "<u4", "<u4", "<u4", "<u4", "<i8", "<i8", "<u8", "<u8", "V128"],
        "offsets": [0, 8, 12, 16, 18, 20, 24, 28, 32, 40, 48, 56, 64, 128],
        "itemsize": RING_HEADER_SIZE,
    }
)  # fmt: skip

NETMAP_IF = np.dtype(
    {
        "names": [
            "ni_name", "ni_version", "ni_flags", "ni_tx_rings", "ni_rx_rings", "ni_bufs_head",
            "ni_host_tx_rings", "ni_host_rx_rings", "ni_spare1",
        ],
        "formats": ["S16", "<u4", "<u4", "<u4", "<u4", "<u4", "<u4", "<u4", "V12"],
        "offsets": [0, 16, 20, 24, 28, 32, 36, 40, 44],
        "itemsize": IF_HEADER_SIZE,
    }
)  # fmt: skip


def align_up(value: int, step: int) -> int:
    """The smallest multiple of `step` that is at least `value`."""
    return -(-value // step) * step


def ring_size(num_slots: int) -> int:
    """Bytes of one ring, slots included, rounded so that the next one is aligned as netmap_ring must be."""
    return align_up(RING_HEADER_SIZE + num_slots * SLOT_SIZE, NM_CACHE_ALIGN)


def if_size(rings: int) -> int:
    """Bytes of a netmap_if with its ring_ofs array, rounded up likewise."""
    return align_up(IF_HEADER_SIZE + 8 * rings, NM_CACHE_ALIGN)
