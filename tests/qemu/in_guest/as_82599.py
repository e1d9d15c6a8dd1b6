"""In a guest: `ixrings` on QEMU's igb, an 82576 with virtual functions of its own, as if it were an 82599.

QEMU has no 82599 that the kernel's SR-IOV knows, and what is tested here (sysfs, VFIO) does not depend on registers.
"""

from __future__ import annotations

import sys

from ixrings.driver.cli import main
from ixrings.hw import device
from ixrings.hw.pci import discovery, usable

discovery.NAMES[0x10C9] = "igb instead of an 82599"
discovery.SFP_PLUS = usable.SFP_PLUS = (*discovery.SFP_PLUS, 0x10C9)  # type: ignore[assignment,attr-defined]
discovery.VIRTUAL_FUNCTION = device.VIRTUAL_FUNCTION = 0x10CA

if __name__ == "__main__":
    status = 0
    for words in " ".join(sys.argv[1:]).split("; "):
        print(">", words, flush=True)
        status = main(words.split())
        print("status", status, flush=True)
