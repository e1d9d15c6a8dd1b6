"""A port as a transport of asyncio: create_port_endpoint(), beside asyncio's create_datagram_endpoint()."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from typing import TypeVar

from .errors import ERRORS, PortTimeout
from .event_loop import CHECK_S, TURN, own_copy
from .frames import Frame, bytes_of
from .port import Port
from .waiting import check

ROOM_S = 0.001  # between two looks for room, after close()
HIGH_WATER = 256 * 1024  # bytes that wait for room before the protocol is asked to pause

AnyProtocol = TypeVar("AnyProtocol", bound=asyncio.DatagramProtocol)


class PortTransport(asyncio.DatagramTransport):
    """A port as asyncio's DatagramTransport. A datagram is a frame without CRC; its address has the source MAC address.

    sendto(frame) sends at once while the TX ring has room. What has no room waits, and the protocol's pause_writing()
    is called above set_write_buffer_limits(). close() sends what waits, then calls connection_lost(None); it does not
    close the port. An error of the port ends in connection_lost(error).
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, port: Port, protocol: asyncio.DatagramProtocol) -> None:
        self._ended = True  # until there is something to close
        super().__init__({"port": port})
        self._loop, self._port, self._protocol = loop, port, protocol
        self._waiting: deque[bytes] = deque()
        self._bytes = 0  # of the frames that wait
        self._high, self._low = HIGH_WATER, HIGH_WATER // 4
        self._paused = self._closing = False
        self._descriptor = own_copy(port._open, port.fileno())
        self._ended = False
        loop.add_reader(self._descriptor, self._turn)
        self._timer = loop.call_later(CHECK_S, self._check)

    def __del__(self) -> None:
        """A transport that nobody has closed, and whose loop has ended."""
        if not self._ended:
            self._ended = True
            os.close(self._descriptor)

    # ---- what a protocol calls ----

    def sendto(self, data: Frame, addr: object = None) -> None:
        """Send one frame, which has its addresses; addr is not used. Raises TypeError, ValueError as Port.send()."""
        if self._closing:
            raise RuntimeError(f"the transport of {self._port.name} is closing; it sends no further frame")
        frame = bytes(bytes_of(0, data))
        try:
            if not self._waiting and self._sent(frame):
                return
        except ERRORS as error:
            self._end(error)
            return
        self._waiting.append(frame)
        self._bytes += len(frame)
        self._ask_to_pause()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Bytes that wait for room: pause_writing() above `high`, resume_writing() at `low` (default: a quarter)."""
        self._high = HIGH_WATER if high is None else high
        self._low = self._high // 4 if low is None else low
        if not 0 <= self._low <= self._high:
            raise ValueError(f"low ({self._low}) must be from 0 to high ({self._high})")
        self._ask_to_pause()

    def get_write_buffer_size(self) -> int:
        return self._bytes

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def is_closing(self) -> bool:
        return self._closing

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._loop.remove_reader(self._descriptor)  # frames that are not taken keep it readable
            self._timer.cancel()
            self._drain()

    def abort(self) -> None:
        self._end(None)

    # ---- what the event loop calls ----

    def _turn(self) -> None:
        """fileno() is readable: frames arrived, or a full TX ring got room."""
        try:
            self._send_waiting()
            arrived = self._port.recv(timeout=0)
            for _ in range(TURN):
                if self._closing or (frame := next(arrived, None)) is None:
                    return
                self._protocol.datagram_received(frame, (frame[6:12],))
        except ERRORS as error:
            self._end(error)

    def _drain(self) -> None:
        """After close(): send what waits, as room comes."""
        try:
            self._send_waiting()
        except ERRORS as error:
            self._end(error)
        if self._waiting:
            self._timer = self._loop.call_later(ROOM_S, self._drain)
        else:
            self._end(None)

    def _check(self) -> None:
        try:
            check([self._port._open()])
        except ERRORS as error:
            self._end(error)
        else:
            self._timer = self._loop.call_later(CHECK_S, self._check)

    def _send_waiting(self) -> None:
        while self._waiting and self._sent(self._waiting[0]):
            self._bytes -= len(self._waiting.popleft())
        if self._paused and self._bytes <= self._low:
            self._paused = False
            self._protocol.resume_writing()

    def _sent(self, frame: bytes) -> bool:
        try:
            return self._port.send([frame], timeout=0) == 1
        except PortTimeout:  # no room
            return False

    def _ask_to_pause(self) -> None:
        if self._bytes > self._high and not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def _end(self, error: Exception | None) -> None:
        if self._ended:
            return
        self._closing = self._ended = True
        self._timer.cancel()
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
        self._waiting.clear()
        self._bytes = 0
        self._loop.call_soon(self._protocol.connection_lost, error)


async def create_port_endpoint(
    protocol_factory: Callable[[], AnyProtocol], port: Port
) -> tuple[PortTransport, AnyProtocol]:
    """As loop.create_datagram_endpoint(), with a port in place of a socket. Returns (transport, protocol).

    protocol_factory: makes an asyncio.DatagramProtocol. Its datagram_received(frame, (source,)) gets each frame
    without CRC and the six bytes of its source address. Raises what Port.fileno() raises.
    """
    protocol = protocol_factory()
    transport = PortTransport(asyncio.get_running_loop(), port, protocol)
    protocol.connection_made(transport)
    return transport, protocol
