"""A netmap program that moves frames, exchanges buffers and scribbles until it is killed: argv is PATH PORT SEED."""

from __future__ import annotations

import random
import sys

from tests.support.netmap_client import NetmapClient


def main() -> None:
    path, port, seed = sys.argv[1], sys.argv[2], int(sys.argv[3])
    chance = random.Random(seed)
    client = NetmapClient(path)
    client.register(port, extra=chance.randrange(100))
    rings = client.rings
    extra = rings.extra_buffers()
    print("busy", flush=True)
    while True:
        for tx, rx in zip(rings.tx_rings, rings.rx_rings):
            span = tx.reserve(chance.randrange(1, 40))
            span.len[:] = 60
            if len(extra) and len(span):
                slot = chance.randrange(len(span))
                extra[0], span.buf_idx[slot] = int(span.buf_idx[slot]), extra[0]
                span.flags[slot] = 1
            tx.advance(len(span))
            client.txsync()
            client.rxsync()
            rx.advance(min(chance.randrange(40), rx.space))
            if chance.random() < 0.05:
                rx.slots["buf_idx"][chance.randrange(rx.num_slots)] = chance.randrange(1 << 32)
                rx.head = chance.randrange(1 << 32)


main()
