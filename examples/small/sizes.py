"""A histogram of frame lengths, with the CRC, until no frame has come for a second.

sizes.py                           on an emulated NIC whose wire plays frames
sizes.py emulated:pcap=/tmp/x.pcap
"""

import sys

import numpy as np

from ixrings import NotOffered, open_port
from ixrings.driver.program import run

EDGES = [64, 65, 128, 256, 512, 1024, 1519, 1 << 14]  # those of the NIC's own counters PRC64 to PRC1522
MOST = 1_000_000


def main() -> None:
    counts = np.zeros(len(EDGES) - 1, np.int64)
    name = sys.argv[1] if len(sys.argv) > 1 else "emulated:source"
    try:
        port = open_port(name, promiscuous=True)
    except NotOffered:  # a virtual function receives only what is for it
        port = open_port(name)
    with port:
        while port.poll(1.0) and counts.sum() < MOST:
            for ring in port.rx_rings:
                span = ring.reserve(ring.space)
                counts += np.histogram(span.len + 4, EDGES)[0]
                ring.advance(len(span))
    for low, high, count in zip(EDGES, EDGES[1:], counts.tolist()):
        print(f"{low:5d} to {high - 1:5d} {count:10d}  {'#' * round(50 * count / max(1, counts.sum()))}".rstrip())


if __name__ == "__main__":
    run(main)
