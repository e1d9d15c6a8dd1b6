"""NIOCCTRL: what each request does, with netmap's checks in netmap's order."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ixrings.rings.layout import NM_CACHE_ALIGN, if_size, ring_size

from . import abi, vale
from .abi import Call, Mode, PoolsInfo, PortInfo, Register, Request
from .errors import Refused
from .external import ExternalOption, external_memory
from .offsets import OffsetsOption
from .opener import Opener
from .ports import NetmapPort

MOST_RINGS_IN_IF = 2 * 64


def carry_out(opener: Opener, call: Call) -> None:
    """Do what the call asks for, and write the answer into its body. Raises Refused."""
    abi.check_options(call.options)
    handler = HANDLERS.get(call.kind)
    if handler is None:
        raise Refused(errno.EINVAL, f"request {call.kind} is not one of netmap's")
    handler(opener, call)


def register(opener: Opener, call: Call) -> None:
    """NETMAP_REQ_REGISTER."""
    body = call.body
    assert isinstance(body, Register)
    if opener.bound is not None:
        raise Refused(errno.EBUSY, f"this handle has bound {opener.bound.port.name} already")
    with external(opener, call, body):
        opener.world.memories.find(body.nr_mem_id)
        register_port(opener, call, body)


@contextmanager
def external(opener: Opener, call: Call, body: Register) -> Iterator[None]:
    """In the block, body names the region of the option EXTMEM, if the call has this option. Raises Refused."""
    option = call.option(abi.EXTMEM)
    if option is None:
        yield
        return
    asked = ExternalOption.from_buffer_copy(option.rest)
    try:
        pool = external_memory(opener.world.memories, asked)
    except Refused as refused:
        option.header.nro_status = refused.number
        raise
    option.header.nro_status, option.rest = 0, bytes(asked)
    body.nr_mem_id = pool.number
    try:
        yield
    finally:
        pool.release()


def register_port(opener: Opener, call: Call, body: Register) -> None:
    """Register; the options that decide about memory are done. Raises Refused."""
    if body.nr_mode in (Mode.PIPE_MASTER, Mode.PIPE_SLAVE):
        raise Refused(errno.EINVAL, "pipes are opened by their names, such as ix0{1")
    with opener.world.looked_up(call.name, body) as port:
        opener.check_port(port)
        port.check_open(body)
        port.prepare(body)
        bind(opener, port, call, body)
    unsupported = [option for option in call.options if option.header.nro_status == errno.EOPNOTSUPP]
    if unsupported:
        opener.unbind()
        kinds = ", ".join(str(option.header.nro_reqtype) for option in unsupported)
        raise Refused(errno.EOPNOTSUPP, f"{call.name}: option {kinds} is not supported")


def bind(opener: Opener, port: NetmapPort, call: Call, body: Register) -> None:
    """Bind rings, with the offsets that the call asks for. Raises Refused."""
    option = call.option(abi.OFFSETS)
    if option is None:
        opener.bind(port, body)
        return
    asked = OffsetsOption.from_buffer_copy(option.rest)
    try:
        opener.bind(port, body, asked)
    finally:
        option.header.nro_status, option.rest = asked.status, bytes(asked)


def port_info_get(opener: Opener, call: Call) -> None:
    """NETMAP_REQ_PORT_INFO_GET."""
    body = call.body
    assert isinstance(body, PortInfo)
    pool = opener.world.memories.find(body.nr_mem_id)
    if not call.name:
        body.nr_memsize, body.nr_mem_id = pool.region.size, pool.number
        return
    with opener.world.looked_up(call.name, as_register(body)) as port:
        port.prepare(body)
        port.describe(body)


def as_register(body: PortInfo) -> Register:
    """The registration that a question stands for."""
    names = ("tx_slots", "rx_slots", "tx_rings", "rx_rings", "mem_id")
    return Register(nr_mode=Mode.ALL_NIC, **{f"nr_{name}": getattr(body, f"nr_{name}") for name in names})


def pools_info_get(opener: Opener, call: Call) -> None:
    """NETMAP_REQ_POOLS_INFO_GET. The region has no pools of fixed places for interfaces and rings, so those two are
    described as if there were pools: one after the other, in front of the buffers."""
    body = call.body
    assert isinstance(body, PoolsInfo)
    opener.world.memories.find(body.nr_mem_id)
    if not call.name:
        raise Refused(errno.ENXIO, "POOLS_INFO_GET needs the name of a port")
    with opener.world.looked_up(call.name, Register(nr_mode=Mode.ALL_NIC, nr_mem_id=body.nr_mem_id)) as port:
        describe_pools(port, body)


def describe_pools(port: NetmapPort, body: PoolsInfo) -> None:
    region = port.region
    slots = max((ring.ring.num_slots for ring in (*port.tx, *port.rx)), default=1024)
    if_bytes = if_size(MOST_RINGS_IN_IF)
    ring_bytes = ring_size(slots)
    body.nr_memsize, body.nr_mem_id = region.size, port.mem_id
    body.nr_if_pool_offset, body.nr_if_pool_objsize = 0, if_bytes
    body.nr_if_pool_objtotal = max(1, region.buffers_offset // 16 // if_bytes)
    rings_at = body.nr_if_pool_objtotal * if_bytes
    body.nr_ring_pool_offset, body.nr_ring_pool_objsize = rings_at, ring_bytes
    body.nr_ring_pool_objtotal = max(1, (region.buffers_offset - rings_at) // ring_bytes)
    body.nr_buf_pool_offset, body.nr_buf_pool_objsize = region.buffers_offset, region.buf_size
    body.nr_buf_pool_objtotal = region.total_buffers
    assert if_bytes % NM_CACHE_ALIGN == 0


def shims(opener: Opener, call: Call) -> None:
    """Requests that the shim answers in the program: they need the program's own memory."""
    raise Refused(
        errno.EINVAL,
        f"request {Request(call.kind).name} is answered in the program, by the library that `ixrings run` preloads",
    )


HANDLERS: dict[int, Callable[[Opener, Call], None]] = {
    Request.REGISTER: register,
    Request.PORT_INFO_GET: port_info_get,
    Request.POOLS_INFO_GET: pools_info_get,
    Request.VALE_ATTACH: vale.attach,
    Request.VALE_DETACH: vale.detach,
    Request.VALE_LIST: vale.list_ports,
    Request.VALE_NEWIF: vale.newif,
    Request.VALE_DELIF: vale.delif,
    Request.VALE_POLLING_ENABLE: vale.polling,
    Request.VALE_POLLING_DISABLE: vale.polling,
    Request.PORT_HDR_SET: vale.port_hdr,
    Request.PORT_HDR_GET: vale.port_hdr,
    Request.SYNC_KLOOP_START: shims,
    Request.SYNC_KLOOP_STOP: shims,
    Request.CSB_ENABLE: shims,
}


@dataclass(frozen=True)
class Done:
    """What became of a call. kind: its request. reply: the flattened call. refused: why nothing was done."""

    kind: int
    reply: bytes
    refused: Refused | None = None


def answer(opener: Opener, data: bytes) -> Done:
    """Carry out a flattened call.

    The errors have no tracebacks: frames would keep memory and ports of the call until the next garbage collection,
    which an idle daemon never reaches.
    """
    try:
        call = abi.unpack(data)
    except Refused as refused:
        return Done(0, b"", refused.with_traceback(None))
    untouched = None if call.body is None else bytes(call.body)
    try:
        carry_out(opener, call)
        return Done(call.kind, abi.pack(call))
    except Refused as refused:
        if call.body is not None and untouched is not None:  # netmap writes the body back only after success
            ctypes.memmove(ctypes.addressof(call.body), untouched, len(untouched))
        return Done(call.kind, abi.pack(call), refused.with_traceback(None))
