"""Return each UDP packet to its sender. Its buffer moves from the RX ring to the TX ring; no payload is copied.

ip tuntap add ix0 mode tap && ip address add 10.9.0.1/24 dev ix0 && ip link set ix0 up
udp_echo.py emulated:tap=ix0 &
ip neighbour add 10.9.0.2 lladdr 02:82:59:90:00:01 dev ix0 && echo hello | nc -u -w 1 10.9.0.2 7
"""

import sys

import numpy as np

from ixrings import ETHERNET, IPV4, UDP, open_port
from ixrings.driver.program import run
from ixrings.rings.layout import SlotFlag

PACKET = np.dtype([("ethernet", ETHERNET), ("ip", IPV4), ("udp", UDP)])


def main() -> None:
    with open_port(sys.argv[1] if len(sys.argv) > 1 else "emulated:tap=ix0") as port:
        while port.poll():
            span = port.rx_rings[0].reserve(1024)
            packet = port.read(span, PACKET)
            ipv4 = (packet["ethernet"]["ethertype"] == 0x0800) & (packet["ip"]["version_ihl"] == 0x45)
            udp = np.flatnonzero(ipv4 & (packet["ip"]["protocol"] == 17))
            for header in (packet["ethernet"], packet["ip"], packet["udp"]):  # the checksums stay right: they are sums
                header["src"], header["dst"] = header["dst"].copy(), header["src"].copy()
            port.write(span, packet)
            out = port.tx_rings[0].reserve(len(udp))
            udp = udp[: len(out)]  # the rest has no room, and is lost
            span.buf_idx[udp], out.buf_idx[:] = out.buf_idx.copy(), span.buf_idx[udp]
            span.flags[udp] = out.flags[:] = SlotFlag.NS_BUF_CHANGED
            out.len[:] = span.len[udp]
            port.tx_rings[0].advance(len(out))
            port.rx_rings[0].advance(len(span))


if __name__ == "__main__":
    run(main)
