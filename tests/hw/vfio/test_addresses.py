"""IovaSpace: windows lie in the ranges of the IOMMU, apart from each other and from the MSI window."""

from __future__ import annotations

import struct

import pytest

from ixrings.hw.errors import DmaError
from ixrings.hw.memory.iova import MSI_FIRST, MSI_LAST, IovaSpace, Range, without_msi
from ixrings.hw.vfio.group import WHOLE, parse_ranges


def test_windows_touch_neither_each_other_nor_the_msi_window() -> None:
    space = IovaSpace([Range(0, (1 << 39) - 1)])
    taken: list[int] = []
    for _ in range(40):
        iova, size = space.take(100 << 20), 100 << 20
        assert iova % (2 << 20) == 0 and iova > 0
        assert iova + size <= MSI_FIRST or iova > MSI_LAST
        assert all(iova >= other + size + 4096 or other >= iova + size + 4096 for other in taken)
        taken.append(iova)
    assert max(taken) > MSI_LAST  # some windows are after the MSI window, so it was in the way


def test_a_window_that_was_given_back_is_reused() -> None:
    space = IovaSpace([Range(0, 0x2FFF_FFFF)])
    first = space.take(64 << 20)
    second = space.take(64 << 20)
    space.give_back(first)
    assert space.take(64 << 20) == first
    assert space.take(64 << 20) > second


def test_windows_lie_in_the_ranges_of_the_iommu() -> None:
    space = IovaSpace([Range(0x2000_0000, 0x203F_FFFF), Range(0x5000_0000, 0x50FF_FFFF)])
    assert space.take(4 << 20) == 0x2000_0000
    assert space.take(4 << 20) == 0x5000_0000
    with pytest.raises(DmaError, match="it translates 0x20000000-0x203fffff, 0x50000000-0x50ffffff"):
        space.take(64 << 20)


def test_ranges_that_contain_the_msi_window_are_split_around_it() -> None:
    assert without_msi([Range(0, 0xFFFF_FFFF)]) == [Range(0, MSI_FIRST - 1), Range(MSI_LAST + 1, 0xFFFF_FFFF)]
    assert without_msi([Range(MSI_FIRST, MSI_LAST)]) == []


def test_ranges_are_found_in_the_chain_of_capabilities() -> None:
    other = struct.pack("<HHI", 3, 1, 40) + bytes(8)
    ranges = struct.pack("<HHIII4Q", 1, 1, 0, 2, 0, 0, 0xFEDF_FFFF, 0xFEF0_0000, 0x7F_FFFF_FFFF)
    info = bytes(24) + other + ranges
    assert parse_ranges(info, 24) == [Range(0, 0xFEDF_FFFF), Range(0xFEF0_0000, 0x7F_FFFF_FFFF)]
    assert parse_ranges(bytes(24) + struct.pack("<HHI", 3, 1, 24), 24) == [WHOLE]  # a chain that points to itself
    assert parse_ranges(bytes(24), 0) == [WHOLE]
