"""Answer ARP requests for an address: arp.py [PORT] [ADDRESS].

ip tuntap add ix0 mode tap && ip address add 10.9.0.1/24 dev ix0 && ip link set ix0 up
arp.py emulated:tap=ix0 10.9.0.2 &
ping -c 1 10.9.0.2; ip neighbour show 10.9.0.2
"""

import ipaddress
import sys

from ixrings import open_port
from ixrings.driver.program import run

REQUEST = bytes.fromhex("0806 0001 0800 06 04 0001")  # EtherType, Ethernet, IPv4, lengths, operation (RFC 826)
REPLY = REQUEST[:-1] + b"\2"


def main() -> None:
    name, text = (sys.argv[1:] + ["emulated:tap=ix0", "10.9.0.2"][len(sys.argv) - 1 :])[:2]
    address = ipaddress.IPv4Address(text).packed
    with open_port(name) as port:
        mine = bytes.fromhex(port.mac.replace(":", ""))
        for frame in port.recv():
            sender, theirs, target = frame[22:28], frame[28:32], frame[38:42]
            if frame[12:22] == REQUEST and target == address:
                port.send([sender + mine + REPLY + mine + address + sender + theirs + bytes(18)])
                print(f"{ipaddress.IPv4Address(theirs)} asked for {text}", flush=True)


if __name__ == "__main__":
    run(main)
