"""Count frames by EtherType, until none has come for a second.

ethertypes.py                      on an emulated NIC whose wire plays frames
ethertypes.py emulated:pcap=/tmp/x.pcap
"""

import sys

import numpy as np

from ixrings import ETHERNET, NotOffered, open_port
from ixrings.driver.program import run

NAMES = {0x0800: "IPv4", 0x0806: "ARP", 0x8100: "VLAN", 0x86DD: "IPv6", 0x88F7: "PTP"}
MOST = 1_000_000


def main() -> None:
    counts = dict[int, int]()
    name = sys.argv[1] if len(sys.argv) > 1 else "emulated:source"
    try:
        port = open_port(name, promiscuous=True)
    except NotOffered:  # a virtual function receives only what is for it
        port = open_port(name)
    with port:
        while port.poll(1.0) and sum(counts.values()) < MOST:
            for ring in port.rx_rings:
                span = ring.reserve(ring.space)
                kinds, times = np.unique(port.read(span, ETHERNET)["ethertype"], return_counts=True)
                ring.advance(len(span))
                for kind, count in zip(kinds.tolist(), times.tolist()):
                    counts[kind] = counts.get(kind, 0) + count
    for kind, count in sorted(counts.items(), key=lambda each: -each[1]):
        print(f"{count:10d}  {kind:04x} {NAMES.get(kind, '')}".rstrip())


if __name__ == "__main__":
    run(main)
