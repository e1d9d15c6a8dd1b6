"""netmap's control structures, to the byte, and one NIOCCTRL call as a message (NETMAP_API 14, x86-64).

A call is flattened: its header, its body, then its options, each padded to 8 bytes. Where netmap has a pointer there is
1 for present and 0 for absent.
"""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag

from ixrings.rings.layout import align_up

from .errors import Refused

LEAST_API, MOST_API = 14, 15
MAX_OPTIONS = 16
NAME_SIZE = 64


class Request(IntEnum):
    """nr_reqtype."""

    REGISTER = 1
    PORT_INFO_GET = 2
    VALE_ATTACH = 3
    VALE_DETACH = 4
    VALE_LIST = 5
    PORT_HDR_SET = 6
    PORT_HDR_GET = 7
    VALE_NEWIF = 8
    VALE_DELIF = 9
    VALE_POLLING_ENABLE = 10
    VALE_POLLING_DISABLE = 11
    POOLS_INFO_GET = 12
    SYNC_KLOOP_START = 13
    SYNC_KLOOP_STOP = 14
    CSB_ENABLE = 15


class Mode(IntEnum):
    """nr_mode of a registration."""

    DEFAULT = 0
    ALL_NIC = 1
    SW = 2
    NIC_SW = 3
    ONE_NIC = 4
    PIPE_MASTER = 5
    PIPE_SLAVE = 6
    NULL = 7
    ONE_SW = 8


class Flag(IntFlag):
    """nr_flags of a registration. Other bits are ignored, as netmap does: programs set some by mistake."""

    MONITOR_TX = 0x100
    MONITOR_RX = 0x200
    ZCOPY_MON = 0x400
    EXCLUSIVE = 0x800
    RX_RINGS_ONLY = 0x2000
    TX_RINGS_ONLY = 0x4000
    ACCEPT_VNET_HDR = 0x8000
    DO_RX_POLL = 0x10000
    NO_TX_POLL = 0x20000


MONITOR = Flag.MONITOR_TX | Flag.MONITOR_RX | Flag.ZCOPY_MON


class Header(ctypes.LittleEndianStructure):
    """nmreq_header."""

    _fields_ = [
        ("nr_version", ctypes.c_uint16),
        ("nr_reqtype", ctypes.c_uint16),
        ("nr_reserved", ctypes.c_uint32),
        ("nr_name", ctypes.c_char * NAME_SIZE),
        ("nr_options", ctypes.c_uint64),
        ("nr_body", ctypes.c_uint64),
    ]
    nr_version: int
    nr_reqtype: int
    nr_reserved: int
    nr_name: bytes
    nr_options: int
    nr_body: int


class Register(ctypes.LittleEndianStructure):
    """nmreq_register."""

    _fields_ = [
        ("nr_offset", ctypes.c_uint64),
        ("nr_memsize", ctypes.c_uint64),
        ("nr_tx_slots", ctypes.c_uint32),
        ("nr_rx_slots", ctypes.c_uint32),
        ("nr_tx_rings", ctypes.c_uint16),
        ("nr_rx_rings", ctypes.c_uint16),
        ("nr_host_tx_rings", ctypes.c_uint16),
        ("nr_host_rx_rings", ctypes.c_uint16),
        ("nr_mem_id", ctypes.c_uint16),
        ("nr_ringid", ctypes.c_uint16),
        ("nr_mode", ctypes.c_uint32),
        ("nr_extra_bufs", ctypes.c_uint32),
        ("nr_flags", ctypes.c_uint64),
    ]
    nr_offset: int
    nr_memsize: int
    nr_tx_slots: int
    nr_rx_slots: int
    nr_tx_rings: int
    nr_rx_rings: int
    nr_host_tx_rings: int
    nr_host_rx_rings: int
    nr_mem_id: int
    nr_ringid: int
    nr_mode: int
    nr_extra_bufs: int
    nr_flags: int


class PortInfo(ctypes.LittleEndianStructure):
    """nmreq_port_info_get."""

    _fields_ = [
        ("nr_memsize", ctypes.c_uint64),
        ("nr_tx_slots", ctypes.c_uint32),
        ("nr_rx_slots", ctypes.c_uint32),
        ("nr_tx_rings", ctypes.c_uint16),
        ("nr_rx_rings", ctypes.c_uint16),
        ("nr_host_tx_rings", ctypes.c_uint16),
        ("nr_host_rx_rings", ctypes.c_uint16),
        ("nr_mem_id", ctypes.c_uint16),
        ("pad", ctypes.c_uint16 * 3),
    ]
    nr_memsize: int
    nr_tx_slots: int
    nr_rx_slots: int
    nr_tx_rings: int
    nr_rx_rings: int
    nr_host_tx_rings: int
    nr_host_rx_rings: int
    nr_mem_id: int


class PoolsInfo(ctypes.LittleEndianStructure):
    """nmreq_pools_info."""

    _fields_ = [
        ("nr_memsize", ctypes.c_uint64),
        ("nr_mem_id", ctypes.c_uint16),
        ("nr_if_pool_offset", ctypes.c_uint64),
        ("nr_if_pool_objtotal", ctypes.c_uint32),
        ("nr_if_pool_objsize", ctypes.c_uint32),
        ("nr_ring_pool_offset", ctypes.c_uint64),
        ("nr_ring_pool_objtotal", ctypes.c_uint32),
        ("nr_ring_pool_objsize", ctypes.c_uint32),
        ("nr_buf_pool_offset", ctypes.c_uint64),
        ("nr_buf_pool_objtotal", ctypes.c_uint32),
        ("nr_buf_pool_objsize", ctypes.c_uint32),
    ]
    nr_memsize: int
    nr_mem_id: int
    nr_if_pool_offset: int
    nr_if_pool_objtotal: int
    nr_if_pool_objsize: int
    nr_ring_pool_offset: int
    nr_ring_pool_objtotal: int
    nr_ring_pool_objsize: int
    nr_buf_pool_offset: int
    nr_buf_pool_objtotal: int
    nr_buf_pool_objsize: int


class ValeAttach(ctypes.LittleEndianStructure):
    """nmreq_vale_attach."""

    _fields_ = [("reg", Register), ("port_index", ctypes.c_uint32), ("pad", ctypes.c_uint32)]
    reg: Register
    port_index: int


class ValeDetach(ctypes.LittleEndianStructure):
    """nmreq_vale_detach."""

    _fields_ = [("port_index", ctypes.c_uint32), ("pad", ctypes.c_uint32)]
    port_index: int


class ValeList(ctypes.LittleEndianStructure):
    """nmreq_vale_list."""

    _fields_ = [("nr_bridge_idx", ctypes.c_uint16), ("pad", ctypes.c_uint16), ("nr_port_idx", ctypes.c_uint32)]
    nr_bridge_idx: int
    nr_port_idx: int


class PortHeader(ctypes.LittleEndianStructure):
    """nmreq_port_hdr."""

    _fields_ = [("nr_hdr_len", ctypes.c_uint32), ("pad", ctypes.c_uint32)]
    nr_hdr_len: int


class ValeNewif(ctypes.LittleEndianStructure):
    """nmreq_vale_newif."""

    _fields_ = [
        ("nr_tx_slots", ctypes.c_uint32),
        ("nr_rx_slots", ctypes.c_uint32),
        ("nr_tx_rings", ctypes.c_uint16),
        ("nr_rx_rings", ctypes.c_uint16),
        ("nr_mem_id", ctypes.c_uint16),
        ("pad", ctypes.c_uint16),
    ]
    nr_tx_slots: int
    nr_rx_slots: int
    nr_tx_rings: int
    nr_rx_rings: int
    nr_mem_id: int


class ValePolling(ctypes.LittleEndianStructure):
    """nmreq_vale_polling."""

    _fields_ = [
        ("nr_mode", ctypes.c_uint32),
        ("nr_first_cpu_id", ctypes.c_uint32),
        ("nr_num_polling_cpus", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
    ]


class KloopStart(ctypes.LittleEndianStructure):
    """nmreq_sync_kloop_start."""

    _fields_ = [("sleep_us", ctypes.c_uint32), ("pad", ctypes.c_uint32)]


class OptionHeader(ctypes.LittleEndianStructure):
    """nmreq_option."""

    _fields_ = [
        ("nro_next", ctypes.c_uint64),
        ("nro_reqtype", ctypes.c_uint32),
        ("nro_status", ctypes.c_uint32),
        ("nro_size", ctypes.c_uint64),
    ]
    nro_next: int
    nro_reqtype: int
    nro_status: int
    nro_size: int


BODIES: dict[int, type[ctypes.LittleEndianStructure]] = {
    Request.REGISTER: Register,
    Request.PORT_INFO_GET: PortInfo,
    Request.VALE_ATTACH: ValeAttach,
    Request.VALE_DETACH: ValeDetach,
    Request.VALE_LIST: ValeList,
    Request.PORT_HDR_SET: PortHeader,
    Request.PORT_HDR_GET: PortHeader,
    Request.VALE_NEWIF: ValeNewif,
    Request.VALE_POLLING_ENABLE: ValePolling,
    Request.VALE_POLLING_DISABLE: ValePolling,
    Request.POOLS_INFO_GET: PoolsInfo,
    Request.SYNC_KLOOP_START: KloopStart,
}
# Bytes after the header of an option, by nro_reqtype. The daemon follows no pointer in them.
OPTION_BYTES = {1: 72, 3: 16, 4: 8, 5: 32}
EXTMEM, KLOOP_EVENTFDS, OFFSETS = 1, 2, 5
UNKNOWN_OPTION = 6  # from here on


@dataclass
class Option:
    """One option: its header, and the bytes after it."""

    header: OptionHeader
    rest: bytes = b""


@dataclass
class Call:
    """One NIOCCTRL call."""

    header: Header
    body: ctypes.LittleEndianStructure | None
    options: list[Option] = field(default_factory=list)

    @property
    def name(self) -> str:
        return bytes(self.header.nr_name).split(b"\0")[0].decode("utf-8", "replace")

    @property
    def kind(self) -> int:
        return int(self.header.nr_reqtype)

    def option(self, kind: int) -> Option | None:
        return next((option for option in self.options if option.header.nro_reqtype == kind), None)


def unpack(data: bytes) -> Call:
    """Read a flattened call. Raises Refused(EINVAL) if it is not one, or breaks a rule that netmap checks first."""
    if len(data) < ctypes.sizeof(Header):
        raise Refused(errno.EINVAL, f"a control request has {len(data)} bytes, fewer than its header")
    header = Header.from_buffer_copy(data)
    if not LEAST_API <= header.nr_version <= MOST_API:
        raise Refused(errno.EINVAL, f"nr_version is {header.nr_version}; {LEAST_API} and {MOST_API} are known")
    if header.nr_reserved:
        raise Refused(errno.EINVAL, f"nr_reserved is {header.nr_reserved}; it must be 0")
    kind = BODIES.get(header.nr_reqtype)
    if bool(header.nr_body) != (kind is not None):
        raise Refused(errno.EINVAL, f"request {header.nr_reqtype} {'lacks its body' if kind else 'takes no body'}")
    place = ctypes.sizeof(Header)
    body = None
    if kind is not None:
        if len(data) < place + ctypes.sizeof(kind):
            raise Refused(errno.EINVAL, f"request {header.nr_reqtype} ends inside its body")
        body = kind.from_buffer_copy(data, place)
        place = align_up(place + ctypes.sizeof(kind), 8)
    call = Call(header, body)
    present = header.nr_options
    while present:
        option, place = unpack_option(data, place)
        call.options.append(option)
        if len(call.options) > MAX_OPTIONS:
            raise Refused(errno.EMSGSIZE, f"a request has more than {MAX_OPTIONS} options")
        present = option.header.nro_next
    return call


def unpack_option(data: bytes, place: int) -> tuple[Option, int]:
    """The option at `place`, and the place of the next one. Raises Refused(EINVAL)."""
    size = ctypes.sizeof(OptionHeader)
    if len(data) < place + size:
        raise Refused(errno.EINVAL, "a control request ends inside an option")
    header = OptionHeader.from_buffer_copy(data, place)
    rest = OPTION_BYTES.get(header.nro_reqtype, 0)
    if header.nro_reqtype == KLOOP_EVENTFDS:
        rest = max(header.nro_size - size, 0)
    if len(data) < place + size + rest:
        raise Refused(errno.EINVAL, "a control request ends inside an option")
    return Option(header, data[place + size : place + size + rest]), align_up(place + size + rest, 8)


def pack(call: Call) -> bytes:
    """The flattened call, as unpack() reads it."""
    call.header.nr_body = int(call.body is not None)
    call.header.nr_options = int(bool(call.options))
    parts = [bytes(call.header)]
    if call.body is not None:
        parts.append(padded(bytes(call.body)))
    for number, option in enumerate(call.options, 1):
        option.header.nro_next = int(number < len(call.options))
        parts.append(padded(bytes(option.header) + option.rest))
    return b"".join(parts)


def padded(data: bytes) -> bytes:
    return data.ljust(align_up(len(data), 8), b"\0")


def check_options(options: Sequence[Option]) -> None:
    """Mark each option as not supported, as netmap does before it looks at one.

    Raises Refused(EINVAL) for type 0, and for a type that comes twice.
    """
    bad = False
    for option in options:
        kind = option.header.nro_reqtype
        twice = 0 < kind < UNKNOWN_OPTION and sum(each.header.nro_reqtype == kind for each in options) > 1
        option.header.nro_status = errno.EINVAL if twice or not kind else 0
        bad = bad or twice or not kind
    if bad:
        raise Refused(errno.EINVAL, "an option has type 0, or comes twice")
    for option in options:
        option.header.nro_status = errno.EOPNOTSUPP
