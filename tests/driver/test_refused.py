"""A DMA access of the NIC is refused: the port reports it and what to do (PCI status, 82599 9.3.3.4)."""

from __future__ import annotations

import pytest

from ixrings import DmaRefused, open_port
from ixrings.hw.device import DmaMapping
from ixrings.hw.emulator import Emulated82599
from ixrings.hw.emulator.nic import FIRST_IOVA


@pytest.mark.slow
@pytest.mark.breaks_rules("dma_read")
def test_a_flush_reports_refused_dma_and_the_next_open_works() -> None:
    with open_port("emulated:sink") as port:
        port.send([bytes(60)] * 4)
        port.flush()
        assert not port.device.dma_refused()
        port.device.unmap_dma(DmaMapping(port.region.address, port.region.size, FIRST_IOVA))
        port.send([bytes(60)])
        with pytest.raises(
            DmaRefused,
            match=r"^emulated:sink was refused a DMA access, .* To see the address: sudo dmesg \| grep DMAR\. "
            "Close the port and open it again$",
        ):
            port.flush(2)
        with pytest.raises(DmaRefused):
            port.poll(1.2)
        device = port.device
    with open_port("emulated:sink") as port:
        port.send([bytes(60)])
        port.flush()
        assert port.device is not device


@pytest.mark.slow
@pytest.mark.breaks_rules("dma_read")
def test_dma_refused_to_an_earlier_user_is_not_reported_to_a_port() -> None:
    with Emulated82599("sink") as nic:
        nic.config_write(0x04, 2, 6)
        with open_port(nic) as port:
            port.device.unmap_dma(DmaMapping(port.region.address, port.region.size, FIRST_IOVA))
            port.send([bytes(60)])
            with pytest.raises(DmaRefused):
                port.flush(2)
        with open_port(nic) as port:
            port.send([bytes(60)])
            port.flush(30)
            port.poll(1.2)
