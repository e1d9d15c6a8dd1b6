"""The option OFFSETS of a registration: where in their buffers the bytes of slots begin, with netmap's checks."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ixrings.rings.offsets import Offsets

from .errors import Refused
from .ports import NetmapPort
from .rings import SharedRing

MOST_BITS = 64


class OffsetsOption(ctypes.LittleEndianStructure):
    """nmreq_opt_offsets, after its header."""

    _fields_ = [
        ("nro_max_offset", ctypes.c_uint64),
        ("nro_initial_offset", ctypes.c_uint64),
        ("nro_offset_bits", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
        ("nro_min_gap", ctypes.c_uint64),
    ]
    status = errno.EOPNOTSUPP  # nro_status: until somebody looks at the option
    nro_max_offset: int
    nro_initial_offset: int
    nro_offset_bits: int
    nro_min_gap: int


@dataclass(frozen=True)
class Wish:
    """What a program asks for. mask, most, initial: as in Offsets. gap: the most bytes wanted in a buffer, or 0."""

    mask: int
    most: int
    initial: int
    gap: int


def wish(port: NetmapPort, asked: OffsetsOption) -> Wish:
    """Check the option. Raises Refused: EOPNOTSUPP for a port without offsets, EINVAL for a wrong number."""
    if not port.has_offsets:
        raise Refused(errno.EOPNOTSUPP, f"{port.name} has no offsets: it is a monitor")
    bits, most, initial = asked.nro_offset_bits, asked.nro_max_offset, asked.nro_initial_offset
    if bits > MOST_BITS:
        raise Refused(errno.EINVAL, f"{port.name}: nro_offset_bits is {bits}, and ptr has {MOST_BITS} bits")
    mask = (1 << (bits or MOST_BITS)) - 1
    if most > port.region.buf_size:
        raise Refused(
            errno.EINVAL, f"{port.name}: nro_max_offset is {most}, and a buffer has {port.region.buf_size} bytes"
        )
    if most > mask:
        raise Refused(errno.EINVAL, f"{port.name}: nro_max_offset is {most}, which {bits} bits do not hold")
    if initial > most:
        raise Refused(errno.EINVAL, f"{port.name}: nro_initial_offset is {initial}, and nro_max_offset {most}")
    return Wish(mask, most, initial, asked.nro_min_gap)


def for_rings(port: NetmapPort, rings: Sequence[SharedRing], asked: OffsetsOption) -> Mapping[SharedRing, Offsets]:
    """The offsets of each ring that a handle is about to open; writes the largest offset back to the option.

    A ring that has offsets already keeps them, and the rings after it get the same, as in netmap. Raises Refused.
    """
    try:
        given = given_to(port, rings, asked)
    except Refused as refused:
        asked.status = refused.number
        raise
    asked.status = 0
    return given


def given_to(port: NetmapPort, rings: Sequence[SharedRing], asked: OffsetsOption) -> Mapping[SharedRing, Offsets]:
    """As for_rings()."""
    wanted = wish(port, asked)
    given: dict[SharedRing, Offsets] = {}
    mask, most = wanted.mask, wanted.most
    for ring in rings:
        if ring.users:
            has = ring.offsets
            if has is None or has.mask & mask != mask or has.most < most:
                raise Refused(
                    errno.EBUSY,
                    f"{ring.ring.name} is open with {f'offsets up to {has.most}' if has else 'no offsets'}, and cannot "
                    "be changed now",
                )
            mask, most = has.mask, has.most
            continue
        received = ring.received_with(most, wanted.gap or port.region.buf_size)
        given[ring] = Offsets(mask, most, min(wanted.initial, most), received)
    asked.nro_max_offset = most
    return given
