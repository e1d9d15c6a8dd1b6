"""Another program on the NIC of lab 11: numbered frames from a queue of its own, until it is ended.

python neighbour.py netmap:ix0-1/T
"""

from __future__ import annotations

import sys
import time
from itertools import count

from ixrings import open_port

TYPE = bytes.fromhex("88b6")  # the second EtherType for local experiments (IEEE 802)
BATCH, PAUSE_S = 5, 0.005


def frame(number: int) -> bytes:
    return (b"\xff" * 6 + bytes.fromhex("02000000000c") + TYPE + f"neighbour {number}".encode()).ljust(60, b"\0")


def main() -> None:
    with open_port(sys.argv[1]) as port:
        for first in count(0, BATCH):
            port.send([frame(number) for number in range(first, first + BATCH)])
            time.sleep(PAUSE_S)


if __name__ == "__main__":
    main()
