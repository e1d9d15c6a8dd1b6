"""netmap's ABI, to the byte, as a program in another language finds it in the region."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from ixrings.rings import Region, attach
from ixrings.rings.layout import NETMAP_IF, NETMAP_RING, NETMAP_SLOT

SLOT = {"buf_idx": (0, 4), "len": (4, 2), "flags": (6, 2), "ptr": (8, 8)}
RING = {
    "buf_ofs": (0, 8), "num_slots": (8, 4), "nr_buf_size": (12, 4), "ringid": (16, 2), "dir": (18, 2), "head": (20, 4),
    "cur": (24, 4), "tail": (28, 4), "flags": (32, 4), "ts_sec": (40, 8), "ts_usec": (48, 8), "offset_mask": (56, 8),
    "buf_align": (64, 8), "sem": (128, 128),
}  # fmt: skip
IF = {
    "ni_name": (0, 16), "ni_version": (16, 4), "ni_flags": (20, 4), "ni_tx_rings": (24, 4), "ni_rx_rings": (28, 4),
    "ni_bufs_head": (32, 4), "ni_host_tx_rings": (36, 4), "ni_host_rx_rings": (40, 4), "ni_spare1": (44, 12),
}  # fmt: skip


@pytest.mark.parametrize(
    "dtype, size, fields", [(NETMAP_SLOT, 16, SLOT), (NETMAP_RING, 256, RING), (NETMAP_IF, 56, IF)]
)
def test_every_field_is_where_netmap_puts_it(
    dtype: np.dtype[np.void], size: int, fields: dict[str, tuple[int, int]]
) -> None:
    assert dtype.itemsize == size
    assert dtype.fields is not None
    assert {name: (at[1], at[0].itemsize) for name, at in dtype.fields.items()} == fields


def raw(region: Region) -> bytes:
    with open(f"/proc/self/fd/{region.fd}", "rb") as file:
        return file.read()


def test_a_new_interface_has_the_bytes_that_netmap_writes() -> None:
    with Region.for_ports(tx_rings=2, rx_rings=1, tx_slots=128, rx_slots=64, extra_bufs=2) as region:
        port = region.register("ix0", tx_slots=[128, 128], rx_slots=[64], extra_bufs=2)
        memory = raw(region)
        base = port.offset
        assert memory[base : base + 16] == b"ix0" + bytes(13)
        version, flags, tx, rx, bufs_head, host_tx, host_rx = struct.unpack_from("<7I", memory, base + 16)
        assert (version, flags, tx, rx, host_tx, host_rx) == (14, 0, 2, 1, 0, 0)
        offsets = struct.unpack_from("<3q", memory, base + 56)
        for k, (ringid, direction, slots) in enumerate([(0, 1, 128), (1, 1, 128), (0, 0, 64)]):
            ring = base + offsets[k]
            assert ring % 128 == 0
            buf_ofs, num_slots, buf_size, rid, rdir, head, cur, tail, rflags = struct.unpack_from(
                "<qIIHHIIII", memory, ring
            )
            assert (num_slots, buf_size, rid, rdir, rflags) == (slots, 2048, ringid, direction, 0)
            assert (head, cur, tail) == (0, 0, slots - 1 if direction else 0)
            assert ring + buf_ofs == region.buffers_offset
            for i in range(slots):
                index, length, slot_flags, ptr = struct.unpack_from("<IHHQ", memory, ring + 256 + 16 * i)
                assert 2 <= index < region.total_buffers
                assert (length, slot_flags, ptr) == (2048, 0, 0)
        assert [
            bufs_head,
            *struct.unpack_from("<I", memory, region.buffers_offset + bufs_head * 2048),
        ] == port.extra_buffers()


def test_every_buffer_but_the_reserved_ones_is_in_one_place() -> None:
    with Region.for_ports(2, tx_slots=64, rx_slots=64, extra_bufs=3) as region:
        held: list[int] = []
        for name in ("a", "b"):
            port = region.register(name, tx_slots=[64], rx_slots=[64], extra_bufs=3)
            held += port.tx_rings[0].slots["buf_idx"].tolist() + port.rx_rings[0].slots["buf_idx"].tolist()
            held += port.extra_buffers()
        assert sorted(held) == list(range(2, region.total_buffers))
        assert region.free_buffers == 0


def test_rings_that_are_not_bound_have_offset_0_and_no_memory() -> None:
    with Region.for_ports(tx_rings=4, rx_rings=4, tx_slots=64, rx_slots=64) as region:
        port = region.register("x", tx_slots=[64] * 4, rx_slots=[64] * 4, bound_tx={2}, bound_rx=())
        offsets = struct.unpack_from("<8q", raw(region), port.offset + 56)
        assert [bool(ofs) for ofs in offsets] == [False, False, True, False] + [False] * 4
        assert [ring.ringid for ring in port.tx_rings] == [2] and port.rx_rings == []
        assert region.free_buffers == region.total_buffers - 2 - 64


@pytest.mark.parametrize("buf_size, slots", [(1024, 64), (2048, 8192), (2112, 72), (15872, 64)])
def test_another_mapping_finds_the_same_rings_and_buffers(buf_size: int, slots: int) -> None:
    with Region.for_ports(2, tx_slots=slots, rx_slots=64, buf_size=buf_size) as region:
        region.register("first", tx_slots=[64], rx_slots=[64])
        mine = region.register("a name longer than netmap's", tx_slots=[slots], rx_slots=[64])
        theirs = attach(region.fd, mine.offset)
        assert theirs.name == "a name longer t"
        assert theirs.buffers.shape == region.buffers.shape == (region.total_buffers, buf_size)
        assert len(theirs.tx_rings[0].slots) == slots
        mine.tx_rings[0].slots["buf_idx"][5] = 77
        region.buffers[77, -1] = 99
        assert theirs.tx_rings[0].reserve(8).buf_idx[5] == 77
        assert theirs.buffers[77, -1] == 99
        theirs.tx_rings[0].advance(3)
        assert mine.tx_rings[0].head == 3
        theirs.close()
