"""Waiting for frames in an asyncio event loop.

Iterator and endpoint (endpoint.py) sleep on the port's fileno(), so a port serves one of them at a time.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator

from .queue_set import QueueSet
from .waiting import check

TURN = 64  # frames between two turns of the other tasks
CHECK_S = 1.0  # check the device after this time without a frame (driver/README.md, contract 3)


async def arriving(
    queues: Callable[[], QueueSet], descriptor: int, arrived: Callable[[], Iterator[bytes]]
) -> AsyncIterator[bytes]:
    """The frames of arrived(), which does not wait, and of those that come later. Ends with an error only.

    queues: what is checked while nothing comes. descriptor: readable when frames have come.
    """
    while True:
        for number, frame in enumerate(arrived(), 1):
            yield frame
            if number % TURN == 0:
                await asyncio.sleep(0)
        await readable(queues, descriptor)


async def readable(queues: Callable[[], QueueSet], descriptor: int) -> None:
    """Sleep until `descriptor` is readable. Raises PortClosed, DeviceGone, DmaRefused, PortStuck."""
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    own = own_copy(queues, descriptor)
    loop.add_reader(own, ready.set)
    try:
        while not ready.is_set():
            try:
                await asyncio.wait_for(ready.wait(), CHECK_S)
            except (asyncio.TimeoutError, TimeoutError):
                check([queues()])
    finally:
        loop.remove_reader(own)
        os.close(own)


def own_copy(queues: Callable[[], QueueSet], descriptor: int) -> int:
    """A copy of a port's descriptor, to close after remove_reader(). The port may be closed while the loop has the
    descriptor, and another file of the program may get its number then. Raises PortClosed."""
    queues()
    return os.dup(descriptor)
