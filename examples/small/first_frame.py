"""Send one frame and receive it.

first_frame.py                     on an emulated NIC with a looped cable
first_frame.py 0000:03:00.0        on a real one, with a loop plug in its cage
"""

import sys

from ixrings import open_port
from ixrings.driver.program import run


def main() -> None:
    with open_port(sys.argv[1] if len(sys.argv) > 1 else "emulated:loop") as port:
        print(port)
        mine = bytes.fromhex(port.mac.replace(":", ""))
        port.send([mine + mine + b"\x88\xb5" + b"hello, wire".ljust(46, b"\0")])  # to itself; 88B5: for experiments
        for frame in port.recv(timeout=1.0):
            print(f"to {frame[:6].hex(':')} from {frame[6:12].hex(':')} type {frame[12:14].hex()}: {frame[14:25]!r}")
            return
        print(port.stats())  # says where the frame went


if __name__ == "__main__":
    run(main)
