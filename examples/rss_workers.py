"""Spread what a port receives over several processes. RSS gives each flow to a queue, and each process has one queue.

rss_workers.py -i emulated:source -p 2            two processes count what they receive
rss_workers.py -i emulated:source -p 2 --forward  each sends what it receives out again, by the queue of its number
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from select import POLLOUT

# First: meter makes Ctrl-C quiet while the other modules load.
from meter import Meter, options, receiving_everything, run, signals_wait

from ixrings import ERRORS, PortClosed, PortError, Queue, Share, SharedQueue
from ixrings.driver.arguments import BATCH, COUNT, SLOTS, whole
from ixrings.driver.program import ENDING, say

MOST_QUEUES = 16  # RSS spreads over at most 16 (82599 7.1.2.8)
LOOK_S = 0.1
END_S = 2.0


# ---- in each worker ----


def work(handle: SharedQueue, forwards: bool, batch: int, busy: bool) -> None:
    """The whole of a worker process. It ends when the first process takes the queue back, or ends itself."""
    try:
        with handle.open() as queue:
            if forwards:
                forward(queue, batch, busy)
            else:
                count(queue, batch, busy)
    except PortClosed:
        pass
    except ERRORS as error:
        say(f"rss_workers.py: {error}")
        raise SystemExit(1) from None


def count(queue: Queue, batch: int, busy: bool) -> None:
    ring = queue.rx_ring
    assert ring is not None, "the port has a receive ring for each queue"
    while True:
        queue.rxsync()
        received = min(ring.space, batch)
        if received:
            ring.advance(received)
        else:
            queue.poll(1.0, busy=busy)


def forward(queue: Queue, batch: int, busy: bool) -> None:
    ring = queue.rx_ring
    assert ring is not None, "the port has a receive ring for each queue"
    while True:
        if not queue.forward(queue, batch):
            if ring.space:  # frames wait for room
                queue.poll(0.001, POLLOUT, busy=busy)
            else:
                queue.poll(1.0, busy=busy)


# ---- in the first process ----


def watch(shares: Sequence[Share], workers: Sequence[BaseProcess]) -> None:
    """Look after the port for a moment. Raises PortError if a worker has ended."""
    shares[0].wait(LOOK_S)
    for share, worker in zip(shares, workers):
        if not worker.is_alive():
            raise PortError(f"the worker of {share.name} ended with status {worker.exitcode}")


def end(shares: Sequence[Share], workers: Sequence[BaseProcess]) -> None:
    """Take every queue back, which ends its worker. A second Ctrl-C waits for that."""
    for share, worker in zip(shares, workers):
        try:
            share.reclaim(END_S)
        except ERRORS as error:
            say(f"rss_workers.py: {error}")
            worker.kill()
        worker.join()


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("-i", dest="port", default="emulated:source", help="port name (default: %(default)s)")
    parser.add_argument(
        "-p", dest="queues", type=whole(1, MOST_QUEUES), default=2, help="queues and processes (default: %(default)s)"
    )
    parser.add_argument("--forward", action="store_true", help="send what is received, instead of counting it only")
    parser.add_argument("-n", dest="count", type=COUNT, default=0, help="stop after this many frames (default: never)")
    parser.add_argument(
        "-b", dest="batch", type=BATCH, default=256, help="most frames in one call (default: %(default)s)"
    )
    parser.add_argument("--slots", type=SLOTS, default=1024, help="slots of each ring (default: %(default)s)")
    parser.add_argument("--busy", action="store_true", help="spin instead of sleeping when there is nothing to do")
    args = parser.parse_args()
    name = "forwarded" if args.forward else "received"
    with receiving_everything(
        args.port,
        tx_queues=args.queues,
        rx_queues=args.queues,
        tx_slots=args.slots,
        rx_slots=args.slots,
        trace=args.trace,
    ) as port:
        shares = [port.share(queue) for queue in range(args.queues)]

        def total() -> int:
            return sum(share.tx_packets if args.forward else share.rx_packets for share in shares)

        context = multiprocessing.get_context("spawn")
        workers = [
            context.Process(target=work, args=(share, args.forward, args.batch, args.busy), daemon=True)
            for share in shares
        ]
        with Meter(lambda: {name: total()}, [port], as_json=args.json) as meter:
            try:
                with signals_wait([signal.SIGINT]):  # Ctrl-C goes to all processes; this one ends the others
                    for worker in workers:
                        worker.start()
                while not args.count or total() < args.count:
                    watch(shares, workers)
                    meter.tick()
            finally:
                with signals_wait(ENDING):
                    end(shares, [worker for worker in workers if worker.pid])


if __name__ == "__main__":
    run(main)
