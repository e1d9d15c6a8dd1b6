"""In a guest and on the host: exchange data over TCP and check every byte.

traffic.py listen PORT BYTES          wait for one peer
traffic.py connect HOST PORT BYTES    connect to it

First the connecting end sends BYTES, then the listening end does. Both check every byte and print the rates.
"""

from __future__ import annotations

import socket
import sys
import time

PATTERN = bytes(
    i * 7 % 251 for i in range(251 * 257)
)  # its length is not a power of two, so data at a wrong place is found
DOUBLED = memoryview(PATTERN * 2)
LIMIT_S = 300.0


def send(peer: socket.socket, total: int) -> None:
    sent = 0
    while sent < total:
        at = sent % len(PATTERN)
        sent += peer.send(DOUBLED[at : at + min(len(PATTERN), total - sent)])


def receive(peer: socket.socket, total: int) -> None:
    received = 0
    buffer = bytearray(len(PATTERN))
    while received < total:
        count = peer.recv_into(buffer, min(len(buffer), total - received))
        if not count:
            sys.exit(f"the peer closed the connection after {received} of {total} bytes")
        at = received % len(PATTERN)
        if buffer[:count] != DOUBLED[at : at + count]:
            sys.exit(f"the {count} bytes from {received} on differ from those sent")
        received += count


def print_rate(name: str, total: int, started: float) -> None:
    print(f"{name} {total} bytes, {total / (time.monotonic() - started) / 1e6:.1f} MB/s", flush=True)


def run(peer: socket.socket, total: int, first: bool) -> None:
    peer.settimeout(LIMIT_S)
    for step in (first, not first):
        started = time.monotonic()
        (send if step else receive)(peer, total)
        print_rate("sent" if step else "received", total, started)
    peer.shutdown(socket.SHUT_WR)
    peer.recv(1)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["listen", port, total]:
            with socket.create_server(("", int(port))) as server:
                server.settimeout(LIMIT_S)
                print("listening", flush=True)
                run(server.accept()[0], int(total), first=False)
        case ["connect", host, port, total]:
            run(socket.create_connection((host, int(port)), LIMIT_S), int(total), first=True)
        case _:
            sys.exit(__doc__)
