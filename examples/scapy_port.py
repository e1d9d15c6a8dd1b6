"""Scapy on a port: sr1, srp, sniff and sendp use the NIC, at Scapy's prompt or in a program.

scapy_port.py -i emulated:tap=ix0           a prompt; needs Scapy (pip install scapy) and root for the TAP interface
>>> sr1(IP(src="10.9.0.2", dst="10.9.0.1") / ICMP(), timeout=2)
>>> sniff(count=3, timeout=5)

A program calls use(port) after it has opened a port.
"""

from __future__ import annotations

import argparse
import threading
import time
from functools import partial
from typing import Any

from scapy.all import ARP, MTU, Ether, Packet, SuperSocket, conf, interact

from ixrings import Port, PortError, open_port
from ixrings.driver.program import run

# sr() sends in one thread and receives in another; a port whose fileno() is in use is for one thread at a time.
TURN = threading.RLock()


class PortSocket(SuperSocket):  # type: ignore[misc, unused-ignore]  # Scapy's types may be missing
    """Frames of a port for Scapy. close() leaves the port open, because Scapy opens and closes a socket for each call.

    filter: refused, because Scapy compiles filters for Linux's sockets. Use lfilter.
    """

    desc = "an 82599, by ixrings"

    def __init__(self, port: Port, *, filter: str | None = None, **unused: Any) -> None:
        if filter:
            raise PortError(
                f"a port cannot run filter={filter!r}; write lfilter=lambda packet: ..., or filter a capture"
            )
        self.port = self.ins = self.outs = port
        self.iface = port.name

    def send(self, x: Packet) -> int:
        frame = bytes(x)
        x.sent_time = time.time()
        with TURN:
            self.port.send([frame])
        return len(frame)

    def recv_raw(self, x: int = MTU) -> tuple[type[Packet] | None, bytes | None, float | None]:
        with TURN:
            return Ether, next(self.port.recv(timeout=0), None), time.time()

    def close(self) -> None:
        self.closed = True


class PacketSocket(PortSocket):
    """The same for packets without an Ethernet header. A packet waits until its receiver has answered ARP."""

    def __init__(self, port: Port, **options: Any) -> None:
        super().__init__(port, **options)
        self.known: dict[str, str] = {}
        self.waiting: dict[str, list[Packet]] = {}

    def send(self, x: Packet) -> int:
        mine = self.port.mac
        with TURN:
            if x.dst in self.known:
                return super().send(Ether(src=mine, dst=self.known[x.dst]) / x)
            x.sent_time = time.time()
            self.waiting.setdefault(x.dst, []).append(x)
        return super().send(Ether(src=mine, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=mine, psrc=x.src, pdst=x.dst))

    def recv(self, x: int = MTU, **options: Any) -> Packet | None:
        frame = super().recv(x, **options)
        if frame is None:
            return None
        if ARP in frame:
            with TURN:
                self.known[frame[ARP].psrc] = frame[ARP].hwsrc
                for packet in self.waiting.pop(frame[ARP].psrc, []):
                    self.send(packet)
        return frame.payload


def use(port: Port) -> None:
    """Let all of Scapy's functions send and receive by this port."""
    conf.L2socket = conf.L2listen = partial(PortSocket, port)
    conf.L3socket = partial(PacketSocket, port)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-i", dest="port", default="emulated:tap=ix0", help="port name (default: %(default)s)")
    parser.add_argument("--trace", metavar="FILE", help="record every access to the NIC in this file")
    args = parser.parse_args()
    with open_port(args.port, promiscuous=True, trace=args.trace) as port:
        use(port)
        interact(mydict={"port": port}, argv=["scapy"], mybanner=f"ixrings on {port}")


if __name__ == "__main__":
    run(main)
