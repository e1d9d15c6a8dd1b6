"""TCP with a check of every byte, for either end: `traffic.py listen PORT BYTES` waits for one peer, `traffic.py connect HOST PORT BYTES` goes to it.

The one who connects sends BYTES, then the one who listens sends as many back; both look at each byte, and print the rates.
"""

from __future__ import annotations

import socket
import sys
import time

PATTERN = bytes(i * 7 % 251 for i in range(251 * 257))  # no power of two long: a piece out of place is seen
DOUBLED = memoryview(PATTERN * 2)
LIMIT_S = 300.0


def send(peer: socket.socket, total: int) -> None:
    sent = 0
    while sent < total:
        at = sent % len(PATTERN)
        sent += peer.send(DOUBLED[at : at + min(len(PATTERN), total - sent)])


def receive(peer: socket.socket, total: int) -> None:
    got = 0
    buffer = bytearray(len(PATTERN))
    while got < total:
        count = peer.recv_into(buffer, min(len(buffer), total - got))
        if not count:
            sys.exit(f"the peer closed after {got} of {total} bytes")
        at = got % len(PATTERN)
        if buffer[:count] != DOUBLED[at : at + count]:
            sys.exit(f"the {count} bytes from {got} on are not what was sent")
        got += count


def timed(name: str, total: int, started: float) -> None:
    print(f"{name} {total} bytes, {total / (time.monotonic() - started) / 1e6:.1f} MB/s", flush=True)


def run(peer: socket.socket, total: int, first: bool) -> None:
    peer.settimeout(LIMIT_S)
    for step in (first, not first):
        started = time.monotonic()
        (send if step else receive)(peer, total)
        timed("sent" if step else "received", total, started)
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
