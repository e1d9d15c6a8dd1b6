"""Answer ARP and ping as a host does, without a kernel's network stack.

ip tuntap add ix0 mode tap && ip address add 10.9.0.1/24 dev ix0 && ip link set ix0 up
responder.py -i emulated:tap=ix0 -a 10.9.0.2 &
ping 10.9.0.2
"""

from __future__ import annotations

import ipaddress
import struct

from meter import Meter, options, run  # first: it makes Ctrl-C quiet while the other modules load
from packets import ETHERTYPE_ARP, ETHERTYPE_IPV4, ICMP, checksum, ipv4, mac

from ixrings import open_port
from ixrings.driver.arguments import COUNT, MTU, checked

ARP = struct.Struct("!HHBBH6s4s6s4s")
REQUEST, REPLY = 1, 2
ECHO_REQUEST = 8


def answer_arp(packet: bytes, mine: bytes, address: bytes) -> bytes | None:
    """The ARP reply to a request for `address` (RFC 826), or None for any other packet."""
    if len(packet) < ARP.size:
        return None
    hardware, protocol, hardware_length, protocol_length, operation, sender, sender_address, _, target = (
        ARP.unpack_from(packet)
    )
    kind = (hardware, protocol, hardware_length, protocol_length, operation)
    if kind != (1, ETHERTYPE_IPV4, 6, 4, REQUEST) or target != address:
        return None
    return ARP.pack(1, ETHERTYPE_IPV4, 6, 4, REPLY, mine, address, sender, sender_address)


def answer_ping(packet: bytes, address: bytes) -> bytes | None:
    """The echo reply to an echo request for `address` (RFC 792), as an IPv4 packet, or None for any other packet."""
    header = 4 * (packet[0] & 0xF) if packet else 0
    if len(packet) < 28 or packet[0] >> 4 != 4 or header < 20 or packet[9] != ICMP or packet[16:20] != address:
        return None
    total, fragment = struct.unpack_from("!HxxH", packet, 2)
    message = packet[header:total]
    if fragment & 0x3FFF or len(message) < 8 or message[0] != ECHO_REQUEST or checksum(message):
        return None
    reply = b"\0\0\0\0" + message[4:]
    return ipv4(ICMP, address, packet[12:16], reply[:2] + struct.pack("!H", checksum(reply)) + reply[4:])


def answer(frame: bytes, mine: bytes, address: bytes) -> bytes | None:
    """The frame to send in answer to `frame`, or None."""
    kind = int.from_bytes(frame[12:14], "big")
    packet = {
        ETHERTYPE_ARP: lambda: answer_arp(frame[14:], mine, address),
        ETHERTYPE_IPV4: lambda: answer_ping(frame[14:], address),
    }.get(kind, lambda: None)()
    return frame[6:12] + mine + frame[12:14] + packet if packet else None


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("-i", dest="port", default="emulated:tap=ix0", help="port name (default: %(default)s)")
    parser.add_argument(
        "-a",
        dest="address",
        type=checked(ipaddress.IPv4Address),
        default="10.9.0.2",
        help="address to answer for (default: %(default)s)",
    )
    parser.add_argument("-c", dest="count", type=COUNT, default=0, help="stop after this many answers (default: never)")
    parser.add_argument("--mtu", type=MTU, default=9000, help="longest payload in bytes (default: %(default)s)")
    args = parser.parse_args()
    counted: dict[str, float] = {"received": 0, "sent": 0}
    with (
        open_port(args.port, mtu=args.mtu, trace=args.trace) as port,
        Meter(lambda: counted, [port], as_json=args.json) as meter,
    ):
        mine = mac(port.mac)
        while not args.count or counted["sent"] < args.count:
            for frame in port.recv(timeout=0.5):
                counted["received"] += 1
                reply = answer(frame, mine, args.address.packed)
                if reply:
                    counted["sent"] += port.send([reply])
                    if counted["sent"] == args.count:
                        break
                meter.tick()
            meter.tick()


if __name__ == "__main__":
    run(main)
