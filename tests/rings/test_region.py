"""A region's memory: what it refuses, how ports share it, and that none of it is lost or left allocated."""

from __future__ import annotations

import gc
import os
import resource
from pathlib import Path

import numpy as np
import pytest

from ixrings.rings import Interface, Region, RegionError, attach
from tests.support.scribble import scribbled


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))


def region_maps() -> int:
    return Path("/proc/self/maps").read_text().count("netmap-region")


@pytest.mark.parametrize("slots", [0, 8, 56, 63, 65, 100, 8191, 8200, -64])
def test_a_ring_size_that_is_not_allowed_is_refused_with_the_allowed_ones(slots: int) -> None:
    with pytest.raises(RegionError, match=rf"cannot have {slots} slots: choose 64\.\.8192, a multiple of 8"):
        Region.for_ports(tx_slots=slots)
    with Region.for_ports() as region, pytest.raises(RegionError, match=f"{slots} slots"):
        region.register("x", tx_slots=[64], rx_slots=[slots])


@pytest.mark.parametrize("buf_size", [0, 512, 1000, 2050, 15873, 16384, -2048])
def test_a_buffer_size_that_is_not_allowed_is_refused(buf_size: int) -> None:
    with pytest.raises(RegionError, match=rf"buf_size cannot be {buf_size}: choose 1024\.\.15872"):
        Region.for_ports(buf_size=buf_size)


@pytest.mark.parametrize("buf_size", [1024, 2048, 4096])
def test_buffers_of_a_power_of_two_never_cross_a_page_boundary(buf_size: int) -> None:
    with Region.for_ports(tx_slots=72, rx_slots=64, buf_size=buf_size) as region:
        assert region.buffers_offset % buf_size == 0
        assert region.size % 4096 == 0
        assert region.buffers.ctypes.data == region.address + region.buffers_offset


def test_too_few_buffers_are_an_error_with_numbers_and_a_remedy() -> None:
    with Region.for_ports(tx_slots=64, rx_slots=64) as region:
        region.register("a", tx_slots=[64], rx_slots=[64])
        with pytest.raises(RegionError) as caught:
            region.register("b", tx_slots=[64], rx_slots=[64])
        assert "too small for b: it needs 128 buffers, 0 of 130 are free" in str(caught.value)
        assert "Region.for_ports(ports=2)" in str(caught.value) and "open_ports()" in str(caught.value)


def test_too_little_memory_for_rings_is_an_error_and_takes_no_buffers() -> None:
    with Region(buffers=1000, metadata=4096) as region:
        free = region.free_buffers
        with pytest.raises(RegionError, match=r"needs 15488 bytes for its rings"):
            region.register("a", tx_slots=[224, 224], rx_slots=[224, 224])
        with pytest.raises(RegionError, match="buffers"):
            region.register("a", tx_slots=[64], rx_slots=[], extra_bufs=5000)
        assert region.free_buffers == free


def test_a_ring_that_does_not_exist_cannot_be_bound() -> None:
    with Region.for_ports() as region, pytest.raises(RegionError, match=r"no ring 3 to bind.*0\.\.0"):
        region.register("a", tx_slots=[64], rx_slots=[64], bound_rx=[3])


def test_too_little_memory_is_an_error_before_any_is_allocated() -> None:
    fds = open_fds()
    with pytest.raises(RegionError, match=r"only .* MB of memory are available\. Use fewer or smaller rings"):
        Region(buffers=2**31, metadata=4096)
    assert open_fds() == fds


@pytest.mark.parametrize("limit", [resource.RLIMIT_FSIZE, resource.RLIMIT_AS])
def test_a_refusal_by_the_kernel_is_an_error_and_leaves_nothing_allocated(limit: int) -> None:
    fds, maps = open_fds(), region_maps()
    soft, hard = resource.getrlimit(limit)
    if limit == resource.RLIMIT_AS and "libasan" in Path("/proc/self/maps").read_text():
        pytest.skip("AddressSanitizer's own address space is over any limit")
    used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
    resource.setrlimit(limit, (1 << 20 if limit == resource.RLIMIT_FSIZE else used + (64 << 20), hard))
    try:
        with pytest.raises(RegionError, match="cannot be (allocated|mapped).*Use fewer"):
            Region(buffers=100_000, metadata=4096)
    finally:
        resource.setrlimit(limit, (soft, hard))
    assert (open_fds(), region_maps()) == (fds, maps)


def test_a_process_that_has_the_fd_cannot_resize_the_memory() -> None:
    with Region.for_ports() as region:
        for size in (0, region.size + 4096):
            with pytest.raises(PermissionError):
                os.ftruncate(region.fd, size)


def test_the_memory_of_a_closed_port_is_used_again() -> None:
    with Region.for_ports(3, tx_slots=64, rx_slots=64) as region:
        first, second, third = (region.register(name, tx_slots=[64], rx_slots=[64]) for name in "abc")
        assert first.offset < second.offset < third.offset
        second.close()
        assert region.free_buffers == 128
        again = region.register("d", tx_slots=[64], rx_slots=[64])
        assert again.offset == second.offset
        assert again.tx_rings[0].slots["len"].tolist() == [2048] * 64
        with pytest.raises(RegionError, match="too small"):
            region.register("e", tx_slots=[64], rx_slots=[64])


def swap_slots(a: Interface, b: Interface) -> None:
    mine, theirs = a.tx_rings[0].slots["buf_idx"], b.rx_rings[0].slots["buf_idx"]
    mine[:], theirs[:] = theirs.copy(), mine.copy()


def test_a_closed_port_frees_the_buffers_that_it_has_now() -> None:
    with Region.for_ports(2, tx_slots=64, rx_slots=64) as region:
        a = region.register("a", tx_slots=[64], rx_slots=[64])
        b = region.register("b", tx_slots=[64], rx_slots=[64])
        swap_slots(a, b)
        stays = b.buffers_held()
        a.close()
        assert region.free_buffers == 128
        c = region.register("c", tx_slots=[64], rx_slots=[64])
        assert not c.buffers_held() & stays


def test_overwritten_slots_never_give_one_buffer_to_two_ports_and_no_buffer_is_lost_in_the_end() -> None:
    with Region.for_ports(2, tx_slots=64, rx_slots=64, extra_bufs=4) as region:
        a = region.register("a", tx_slots=[64], rx_slots=[64], extra_bufs=4)
        b = region.register("b", tx_slots=[64], rx_slots=[64], extra_bufs=4)
        a.tx_rings[0].slots["buf_idx"][:10] = [0, 1, 2**32 - 1, region.total_buffers, 5, 5, 5, 5, 5, 5]
        a.tx_rings[0].slots["buf_idx"][10:20] = b.rx_rings[0].slots["buf_idx"][:10]
        kept = b.buffers_held()
        a.close()
        free = region.free_buffers
        c = region.register("c", tx_slots=[64], rx_slots=[])
        assert not c.buffers_held() & kept
        assert region.free_buffers == free - 64
        b.close()
        c.close()
        assert region.free_buffers == region.total_buffers - 2


@pytest.mark.parametrize("link", [1, 2**32 - 1, "self"])
def test_a_damaged_list_of_extra_buffers_is_reported_and_does_not_hang(link: int | str) -> None:
    with Region.for_ports(extra_bufs=3) as region:
        port = region.register("a", tx_slots=[64], rx_slots=[64], extra_bufs=3)
        _, second, _ = port.extra_buffers()
        value = second if link == "self" else int(link)
        region.buffers[second, :4] = np.frombuffer(value.to_bytes(4, "little"), np.uint8)
        with pytest.raises(RegionError, match="a: the list of extra buffers is damaged after 2"):
            port.extra_buffers()
        port.close()
        assert region.free_buffers == region.total_buffers - 2


@pytest.mark.parametrize("offset", [-128, 64, 128, 10**9])
def test_attaching_at_a_wrong_offset_is_an_error_that_says_so(offset: int) -> None:
    with Region.for_ports() as region:
        region.register("a", tx_slots=[64], rx_slots=[64])
        with pytest.raises(RegionError, match="if_offset of an open port"):
            attach(region.fd, offset)


@pytest.mark.parametrize("field, value", [("ni_tx_rings", 2**32 - 1), ("ni_tx_rings", 1000), ("ni_version", 13)])
def test_attaching_to_a_damaged_interface_is_an_error_that_says_so(field: str, value: int) -> None:
    with Region.for_ports(tx_slots=64, rx_slots=64) as region:
        port = region.register("a", tx_slots=[64], rx_slots=[64])
        port._header[field] = value
        with pytest.raises(RegionError, match="if_offset of an open port"):
            attach(region.fd, port.offset)


@pytest.mark.parametrize("word, value", [(2, 0), (2, 2**31), (3, 0), (3, 2**31), (4, 7)])
def test_attaching_to_a_damaged_ring_is_an_error_or_finds_only_buffers_of_the_region(word: int, value: int) -> None:
    with Region.for_ports(tx_slots=64, rx_slots=64) as region:
        port = region.register("a", tx_slots=[64], rx_slots=[64])
        port.tx_rings[0]._words[word] = value
        try:
            assert attach(region.fd, port.offset).buffers.nbytes <= region.size
        except RegionError:
            pass


def test_attaching_to_a_pipe_is_an_error_that_asks_for_the_regions_fd() -> None:
    reader, writer = os.pipe()
    with pytest.raises(RegionError, match="pass the region's own fd"):
        attach(reader, 0)
    os.close(reader)
    os.close(writer)


def test_a_closed_region_leaves_no_fd_and_no_mapping() -> None:
    gc.collect()
    fds, maps = open_fds(), region_maps()
    for _ in range(3):
        with Region.for_ports(2) as region:
            port = region.register("a", tx_slots=[64], rx_slots=[64], extra_bufs=2)
            other = attach(region.fd, port.offset)
            port.tx_rings[0].reserve(3).len[:] = 1
            other.close()
        region.close()
        port.close()
    del region, port, other
    gc.collect()
    assert (open_fds(), region_maps()) == (fds, maps)


def test_a_view_that_outlives_its_region_still_reads_its_memory() -> None:
    region = Region.for_ports()
    ring = region.register("a", tx_slots=[64], rx_slots=[64]).tx_rings[0]
    row = region.buffers[5]
    row[:] = 7
    region.close()
    gc.collect()
    assert row.tolist() == [7] * 2048 and ring.tail == 63
    assert region.fd == -1 and len(region.buffers) == 0
    with pytest.raises(RegionError, match="closed"):
        region.register("b", tx_slots=[64], rx_slots=[64])


def test_new_rings_are_what_was_asked_for_whatever_a_program_writes_to_them_meanwhile() -> None:
    with Region(buffers=64, metadata=1 << 16) as region:
        first = region.register("a", tx_slots=[64], rx_slots=[64], buffers=False)
        offset, end = first.offset, first.rx_rings[0].offset + 256
        first.close()
        with scribbled(region.fd, offset, end - offset, 0xFF):
            for _ in range(50):
                made = region.register("a", tx_slots=[64], rx_slots=[64], buffers=False)
                rings = (*made.tx_rings, *made.rx_rings)
                assert [(ring.num_slots, ring.ringid) for ring in rings] == [(64, 0)] * 2
                assert made.buffers.shape == region.buffers.shape
                made.close()
