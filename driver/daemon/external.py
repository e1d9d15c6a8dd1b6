"""The option EXTMEM of a registration: a program's own memory becomes a region.

The daemon cannot map another program's memory, so it makes a region of that size, and the preload library maps it over
the program's. In place of usrptr the library sends the inode of the memory that is mapped there, or 0. So two
registrations with the same memory get the same region.
"""

from __future__ import annotations

import ctypes
import errno
import mmap

from .abi import PoolsInfo
from .errors import Refused
from .memories import Memories
from .pool import Pool

DEFAULTS = {"if": (2, 1024), "ring": (4, 20480), "buf": (4098, 2048)}  # netmap's: number, bytes


class ExternalOption(ctypes.LittleEndianStructure):
    """nmreq_opt_extmem, after its header."""

    _fields_ = [("inode", ctypes.c_uint64), ("info", PoolsInfo)]
    inode: int
    info: PoolsInfo


def fill_defaults(info: PoolsInfo) -> None:
    for pool, (number, size) in DEFAULTS.items():
        for field, value in ((f"nr_{pool}_pool_objtotal", number), (f"nr_{pool}_pool_objsize", size)):
            if not getattr(info, field):
                setattr(info, field, value)


def external_memory(memories: Memories, asked: ExternalOption) -> Pool:
    """The region of the option, which the caller holds. Writes its pools back to the option.

    If the program has only a part of the last page, that page is left alone, and there is one buffer less.
    Raises Refused: ENOMEM for memory that is too small, or more than the user's share; EINVAL for a wrong buffer size.
    """
    info = asked.info
    fill_defaults(info)
    metadata = info.nr_if_pool_objtotal * info.nr_if_pool_objsize
    info.nr_if_pool_offset, info.nr_ring_pool_offset = 0, metadata
    metadata += info.nr_ring_pool_objtotal * info.nr_ring_pool_objsize
    needed = metadata + info.nr_buf_pool_objtotal * info.nr_buf_pool_objsize
    if needed > info.nr_memsize:
        raise Refused(errno.ENOMEM, f"the external memory has {info.nr_memsize} bytes, and its pools need {needed}")
    whole = info.nr_memsize - info.nr_memsize % mmap.PAGESIZE
    buffers = min(info.nr_buf_pool_objtotal, max(0, whole - metadata) // info.nr_buf_pool_objsize)
    pool = memories.mapped(asked.inode) or memories.external(metadata, buffers, info.nr_buf_pool_objsize)
    info.nr_buf_pool_offset, info.nr_buf_pool_objsize = pool.region.buffers_offset, pool.region.buf_size
    info.nr_buf_pool_objtotal = pool.region.total_buffers
    return pool
