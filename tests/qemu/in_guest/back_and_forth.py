"""In a guest: give a NIC from ixgbe to DRIVER, send frames through a port, and give it back to ixgbe, COUNT times.

back_and_forth.py ADDRESS DRIVER COUNT
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from ixrings import open_port
from ixrings.hw.pci.binding import bind, unbind

LINK_S = 20


def carrier(netdev: str) -> bool:
    """Set the interface up. Returns whether it has a carrier within LINK_S."""
    subprocess.run(["ip", "link", "set", netdev, "up"], check=True)
    end = time.monotonic() + LINK_S
    while Path(f"/sys/class/net/{netdev}/carrier").read_text().strip() != "1":
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def main(address: str, driver: str, count: int) -> None:
    for turn in range(count):
        (bound,) = bind(address, driver)
        assert bound.former == "ixgbe" and bound.function.driver == driver, bound
        with open_port(address) as port:
            assert port.wait_link(LINK_S).up
            port.send([bytes.fromhex("ffffffffffff") + bytes(54)] * 10)
            port.flush()
            assert port.stats()["GPTC"] == 10
        function, netdev = unbind(address)
        assert function.driver == "ixgbe" and netdev, function
        assert carrier(netdev), f"turn {turn}: {netdev} has no carrier"
        subprocess.run(["ip", "link", "set", netdev, "down"], check=True)
        print(turn, netdev, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
