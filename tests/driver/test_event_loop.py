"""Ports in asyncio, used as asyncio's own streams and datagrams are."""

from __future__ import annotations

import asyncio
import socket

import pytest

from ixrings import Port, PortClosed, PortTransport, create_port_endpoint, open_port

FRAMES = [bytes([0xFF] * 6 + [2, 0, 0, 0, 0, n] + [0x88, 0xB5]) + bytes(46) for n in range(4)]


def looped(tx_slots: int = 256, rx_slots: int = 256) -> Port:
    return open_port("emulated:loop", promiscuous=True, tx_slots=tx_slots, rx_slots=rx_slots)


async def first(port: Port, count: int) -> list[bytes]:
    taken: list[bytes] = []
    async for frame in port.frames():
        taken.append(frame)
        if len(taken) == count:
            break
    return taken


def test_frames_that_came_before_and_that_come_later_are_iterated() -> None:
    async def main(port: Port) -> list[bytes]:
        port.send(FRAMES[:1])
        task = asyncio.create_task(first(port, 4))
        await asyncio.sleep(0.02)  # the task sleeps on fileno() by now
        port.send(FRAMES[1:])
        return await asyncio.wait_for(task, 20)

    with looped() as port:
        assert asyncio.run(main(port)) == FRAMES


def test_other_tasks_run_between_the_frames_of_a_full_ring() -> None:
    async def main(port: Port) -> int:
        port.send(FRAMES * 50)
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        await asyncio.wait_for(first(port, 200), 20)
        task.cancel()
        return turns

    with looped() as port:
        assert asyncio.run(main(port)) >= 200 // 64


@pytest.mark.slow
def test_closing_the_port_ends_a_task_that_waits_for_its_frames() -> None:
    async def main(port: Port) -> None:
        task = asyncio.create_task(first(port, 1))
        await asyncio.sleep(0.02)
        port.close()
        with pytest.raises(PortClosed):
            await asyncio.wait_for(task, 20)

    with looped() as port:
        asyncio.run(main(port))


class Recorder(asyncio.DatagramProtocol):
    def __init__(self, expected: int) -> None:
        self.expected, self.received = expected, list[tuple[bytes, object]]()
        self.events, self.lost = list[str](), list[Exception | None]()
        self.done, self.ended = asyncio.Event(), asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append("made")

    def datagram_received(self, data: bytes, addr: object) -> None:
        self.received.append((data, addr))
        if len(self.received) == self.expected:
            self.done.set()

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)
        self.ended.set()


def test_an_endpoint_gives_each_frame_with_its_source() -> None:
    async def main(port: Port) -> Recorder:
        transport, protocol = await create_port_endpoint(lambda: Recorder(4), port)
        assert transport.get_extra_info("port") is port
        for frame in FRAMES:
            transport.sendto(frame)
        await asyncio.wait_for(protocol.done.wait(), 20)
        transport.close()
        await asyncio.wait_for(protocol.ended.wait(), 20)
        with pytest.raises(RuntimeError, match="closing"):
            transport.sendto(FRAMES[0])
        return protocol

    with looped() as port:
        protocol = asyncio.run(main(port))
        assert protocol.received == [(frame, (frame[6:12],)) for frame in FRAMES]
        assert protocol.events == ["made"] and protocol.lost == [None]
        port.send(FRAMES)  # the endpoint left the port open
        assert list(port.recv(timeout=0.2)) == FRAMES


@pytest.mark.slow
def test_an_endpoint_without_room_asks_its_protocol_to_pause_and_sends_all_in_order() -> None:
    count = 300  # the ring has room for 63
    numbered = [FRAMES[0][:14] + n.to_bytes(4, "big") + bytes(42) for n in range(count)]

    async def main(port: Port) -> tuple[Recorder, int]:
        transport, protocol = await create_port_endpoint(lambda: Recorder(count), port)
        transport.set_write_buffer_limits(high=600)
        for frame in numbered:  # the event loop has no turn meanwhile
            transport.sendto(frame)
        waited = transport.get_write_buffer_size()
        transport.close()  # sends what waits first
        await asyncio.wait_for(protocol.ended.wait(), 20)
        return protocol, waited

    with looped(tx_slots=64, rx_slots=1024) as port:
        protocol, waited = asyncio.run(main(port))
        received = [frame for frame, _ in protocol.received] + list(port.recv(timeout=0.3))
        assert received == numbered and protocol.lost == [None]
        assert protocol.events == (["made", "pause", "resume"] if waited > 600 else ["made"])


@pytest.mark.slow
def test_an_endpoint_tells_its_protocol_that_the_port_was_closed() -> None:
    async def main(port: Port) -> Recorder:
        _, protocol = await create_port_endpoint(lambda: Recorder(1), port)
        port.close()
        await asyncio.wait_for(protocol.ended.wait(), 20)
        return protocol

    with looped() as port:
        (error,) = asyncio.run(main(port)).lost
        assert isinstance(error, PortClosed)


def test_an_endpoint_refuses_what_is_no_frame() -> None:
    async def main(port: Port) -> PortTransport:
        transport, _ = await create_port_endpoint(lambda: Recorder(1), port)
        with pytest.raises(TypeError, match="not bytes"):
            transport.sendto("ff")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="this port sends 1 to"):
            transport.sendto(bytes(5000))
        return transport

    with looped() as port:
        assert not asyncio.run(main(port)).is_closing()


@pytest.mark.slow
def test_a_protocol_that_closes_its_transport_gets_no_further_frame() -> None:
    class One(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: object) -> None:
            super().datagram_received(data, addr)
            self.transport.close()

    async def main(port: Port) -> One:
        port.send(FRAMES)
        while len(port.rx_rings[0].reserve(4)) < 4:
            port.rxsync()
        _, protocol = await create_port_endpoint(lambda: One(4), port)
        await asyncio.wait_for(protocol.ended.wait(), 20)
        return protocol

    with looped() as port:
        assert len(asyncio.run(main(port)).received) == 1
        assert list(port.recv(timeout=0.2)) == FRAMES[1:]  # they are still in the ring


@pytest.mark.slow
def test_a_closed_port_takes_no_reader_of_another_file_along() -> None:
    """The number of the port's descriptor goes to the next file that the program opens."""

    async def main(port: Port) -> None:
        loop, came, number = asyncio.get_running_loop(), asyncio.Event(), port.fileno()
        task = asyncio.create_task(first(port, 1))
        await asyncio.sleep(0.02)
        port.close()
        pairs = [socket.socketpair() for _ in range(40)]
        ends = {end.fileno(): other for pair in pairs for end, other in (pair, pair[::-1])}
        assert number in ends, "the number was not used again"
        loop.add_reader(number, came.set)
        with pytest.raises(PortClosed):
            await asyncio.wait_for(task, 20)
        ends[number].send(b"x")
        await asyncio.wait_for(came.wait(), 20)
        for pair in pairs:
            for end in pair:
                end.close()

    with looped() as port:
        asyncio.run(main(port))
