"""In a guest: give the NIC a descriptor with an address that is not mapped, and report what happens.

point_outside.py ADDRESS transmit|receive
"""

from __future__ import annotations

import json
import sys
import time
from select import POLLIN

import numpy as np

from ixrings import Port, open_port
from ixrings.driver.errors import PortError
from ixrings.driver.session import Session
from ixrings.hw.errors import DeviceError

OUTSIDE = 0x7654_3000  # not mapped: the driver maps a few windows from 0x10000000 on
CANARY = 0xA5
WAIT_S = 20.0


def send_from_outside(port: Port, session: Session) -> str:
    """Write the descriptor directly: the C loop would refuse the address."""
    _, transmit_ring, _ = session.memory
    transmit_ring.view.view(np.uint64)[:2] = OUTSIDE, 60 | 3 << 20 | (0x20 | 1 | 2 | 8) << 24 | 60 << 46
    port.nic.TDT[0].write(1)
    return first_error(port)


def receive_outside(port: Port, session: Session) -> str:
    """Overwrite the descriptors' addresses. The NIC uses none of them yet: the far end sends only after "ready"."""
    _, _, receive_ring = session.memory
    receive_ring.view.view(np.uint64)[::2] = OUTSIDE
    print("ready", flush=True)
    time.sleep(3)
    return first_error(port)


def first_error(port: Port) -> str:
    """Poll until the port raises an error. Returns its message, or ""."""
    end = time.monotonic() + WAIT_S / 4
    try:
        while time.monotonic() < end:
            port.poll(1.0, POLLIN)
            for ring in port.rx_rings:
                ring.advance(ring.space)
    except (PortError, DeviceError) as error:
        return str(error)
    return ""


def main(address: str, what: str) -> None:
    with open_port(address, promiscuous=True) as port:
        session = port._owned()
        port.wait_link(WAIT_S)
        port.buffers[:] = CANARY
        if what == "transmit":
            print("ready", flush=True)
            error = send_from_outside(port, session)
        else:
            error = receive_outside(port, session)
        print(json.dumps({"address": OUTSIDE, "error": error, "written": int((port.buffers != CANARY).sum())}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
