"""netmap's shared-memory structures, to the byte (NETMAP_API 14, x86-64, little-endian).

Offsets are in bytes; those of rings and interfaces count from the start of the region:
    ring(i)        = interface offset + ring_ofs[i]        TX rings first, then RX rings
    slots          = ring offset + RING_HEADER_SIZE
    buffer(ring,i) = ring offset + buf_ofs + i * nr_buf_size
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

import numpy as np
import numpy.typing as npt

NETMAP_API = 14
NM_CACHE_ALIGN = 128
IFNAMSIZ = 16

RESERVED_BUFFERS = 2  # indices 0 and 1 are never in a slot
MIN_SLOTS = 64
MAX_SLOTS = 8192  # 82599 8.2.3.8.3: a descriptor ring is at most 128 KB
SLOTS_STEP = 8  # RDLEN and TDLEN count in 128 bytes, eight descriptors
MIN_BUF_SIZE = 1024  # SRRCTL.BSIZEPACKET counts in KB (8.2.3.8.7)
MAX_BUF_SIZE = 15872  # 15.5 KB is the limit of one TX descriptor (7.2.3.2.2)
MAX_CHAIN = 38  # slots of one frame (7.2.1.1)
BUF_SIZE_STEP = 64  # a cache line

IF_HEADER_SIZE = 56
RING_HEADER_SIZE = 256
SLOT_SIZE = 16


class SlotFlag(IntFlag):
    """netmap_slot.flags."""

    NS_BUF_CHANGED = 0x0001  # the application put another buffer into the slot
    NS_REPORT = 0x0002  # report soon that this slot is sent
    NS_FORWARD = 0x0004
    NS_NO_LEARN = 0x0008
    NS_INDIRECT = 0x0010  # the data is at ptr, not in the buffer: this driver refuses it
    NS_MOREFRAG = 0x0020  # the frame continues in the next slot
    NS_TXMON = 0x0040
    NS_CONTEXT = 0x0080  # ours: the slot has no frame, but the context of the next one: ptr is Context.word()
    NS_OWN_CRC = 0x8000  # ours: the frame's last four bytes are its CRC, right or wrong; the NIC appends none


class RingFlag(IntFlag):
    """netmap_ring.flags."""

    NR_TIMESTAMP = 0x0002  # each rxsync writes ts
    NR_FORWARD = 0x0004


class Direction(IntEnum):
    """netmap_ring.dir, as netmap writes it: its enum txrx. The comment in netmap's header swaps the two values."""

    RX = 0
    TX = 1


class Word(IntEnum):
    """The 32-bit words of netmap_ring that a sync uses: byte offset / 4."""

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

RING_CONSTANTS = 20  # bytes from a ring's start to `head`: they never change

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
    """Bytes of one ring with its slots, rounded up so that the next netmap_ring is aligned."""
    return align_up(RING_HEADER_SIZE + num_slots * SLOT_SIZE, NM_CACHE_ALIGN)


def if_size(rings: int) -> int:
    """Bytes of a netmap_if with its ring_ofs array, rounded up so that the next structure is aligned."""
    return align_up(IF_HEADER_SIZE + 8 * rings, NM_CACHE_ALIGN)


def first_words(buffers: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """The first 32-bit word of each buffer, which links extra buffers. buffers: (number, bytes)."""
    words: npt.NDArray[np.uint32] = buffers[:, :4].view(np.uint32)[:, 0]
    return words
