"""The far end of a cable at which a machine boots: DHCP and HTTP, in the namespace of its interface.

    python3 boot_server.py INTERFACE FOLDER

gives out one address, serves the files of FOLDER, and prints a line for each request: "DISCOVER MAC", "REQUEST MAC",
"GET PATH".
"""

from __future__ import annotations

import functools
import http.server
import socket
import struct
import sys
import threading
from collections.abc import Iterator

SERVER, CLIENT, NETMASK = "10.9.0.1", "10.9.0.2", "255.255.255.0"
HTTP = 80
DHCP_SERVER, DHCP_CLIENT = 67, 68
COOKIE = b"\x63\x82\x53\x63"
# Options (RFC 2132) and message types
SUBNET_MASK, ROUTER, LEASE, TYPE, SERVER_ID, END = 1, 3, 51, 53, 54, 255
DISCOVER, OFFER, REQUEST, ACK = 1, 2, 3, 5


def options_of(message: bytes) -> Iterator[tuple[int, bytes]]:
    """The options after the cookie, as (code, value)."""
    at = 240
    while at + 1 < len(message) and message[at] != END:
        if message[at]:
            yield message[at], message[at + 2 : at + 2 + message[at + 1]]
            at += 1 + message[at + 1]
        at += 1


def answer(message: bytes) -> bytes | None:
    """The reply to a DISCOVER or a REQUEST (RFC 2131 4.3); None to anything else."""
    kind = dict(options_of(message)).get(TYPE, b"\0")[0]
    if kind not in (DISCOVER, REQUEST):
        return None
    print("DISCOVER" if kind == DISCOVER else "REQUEST", message[28:34].hex(":"), flush=True)
    head = struct.pack("!BBBB4sHH4x", 2, 1, 6, 0, message[4:8], 0, 0x8000)
    addresses = socket.inet_aton(CLIENT) + socket.inet_aton(SERVER) + bytes(4)
    options = (
        (TYPE, bytes([OFFER if kind == DISCOVER else ACK])),
        (SERVER_ID, socket.inet_aton(SERVER)),
        (LEASE, struct.pack("!I", 3600)),
        (SUBNET_MASK, socket.inet_aton(NETMASK)),
        (ROUTER, socket.inet_aton(SERVER)),
    )
    tail = b"".join(bytes([code, len(value)]) + value for code, value in options)
    return head + addresses + message[28:44] + bytes(192) + COOKIE + tail + bytes([END])


def serve_dhcp(listener: socket.socket) -> None:
    while True:
        message, _ = listener.recvfrom(2048)
        reply = answer(message)
        if reply is not None:
            listener.sendto(reply, ("255.255.255.255", DHCP_CLIENT))


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, text: str, *values: object) -> None:
        """Say nothing but the path."""

    def do_GET(self) -> None:
        print("GET", self.path, flush=True)
        super().do_GET()


def main(interface: str, folder: str) -> None:
    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    listener.bind(("", DHCP_SERVER))
    with http.server.ThreadingHTTPServer((SERVER, HTTP), functools.partial(Handler, directory=folder)) as server:
        threading.Thread(target=serve_dhcp, args=(listener,), daemon=True).start()
        print("listening", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
