"""In a guest: VF tokens. A VF is opened while Linux has its PF, then while a program has the PF through vfio-pci.

vf_tokens.py PF NUMBER: QEMU's igb as in as_82599.py, and its file sriov_numvfs. Prints a line for each attempt.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from pathlib import Path

from ixrings.driver.names import parse_port_name
from ixrings.driver.opening import open_device
from ixrings.hw.device import Device
from ixrings.hw.errors import DeviceError
from ixrings.hw.pci.binding import bind
from tests.qemu.in_guest import as_82599

assert as_82599, "it changes what is an 82599"
TOKEN, OTHER = "11112222-3333-4444-5555-666677778888", "99992222-3333-4444-5555-666677778888"


def attempt(name: str) -> None:
    try:
        with open_device(parse_port_name(name)) as device:
            print("opened", use(device), flush=True)
    except DeviceError as error:
        print("refused", error, flush=True)


def use(device: Device) -> str:
    """Reset it, map a page for its DMA, switch its interrupts on."""
    device.reset()
    page = mmap.mmap(-1, 4096)
    mapping = device.map_dma(-1, ctypes.addressof(ctypes.c_char.from_buffer(page)), 4096)
    device.unmap_dma(mapping)
    return f"{device.name} by {getattr(device, 'way', '')}, {len(device.enable_interrupts(3))} vectors"


def main(pf: str, number: str) -> None:
    vf = Path("/sys/bus/pci/devices", pf, "virtfn0").resolve().name
    bind(vf)
    attempt(f"vfio:{vf}@vf_token={TOKEN}")
    bind(pf, force=True)
    with open_device(parse_port_name(f"vfio:{pf}@vf_token={TOKEN}")):
        Path(number).write_text("1")
        for suffix in ("", f"@vf_token={OTHER}", f"@vf_token={TOKEN.upper()}"):
            attempt(f"vfio:{vf}{suffix}")
        Path(number).write_text("0")


if __name__ == "__main__":
    main(*sys.argv[1:])
