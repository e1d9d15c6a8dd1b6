"""In a guest: fill the RSS indirection table of an interface with QUEUE... in turn, over and over.

indirection.py INTERFACE QUEUE...

`ethtool -X` of trixie sets a field that Linux 6.1 does not know, and 6.1 refuses it. All kernels take the older request
that is used here.
"""

from __future__ import annotations

import array
import fcntl
import socket
import struct
import sys

SIOCETHTOOL, ETHTOOL_SRXFHINDIR = 0x8946, 0x39
ENTRIES = 128


def main(interface: str, queues: list[int]) -> None:
    table = array.array("I", [ETHTOOL_SRXFHINDIR, ENTRIES, *(queues[at % len(queues)] for at in range(ENTRIES))])
    address, _ = table.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCETHTOOL, struct.pack("16sQ16x", interface.encode(), address))


if __name__ == "__main__":
    main(sys.argv[1], [int(queue) for queue in sys.argv[2:]])
