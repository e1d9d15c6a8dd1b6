"""What a program keeps of a port after its end: nothing crashes, and each descriptor is closed once."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

from ixrings import Port, open_port
from ixrings.driver.errors import PortError
from ixrings.hw.emulator import Emulated82599
from ixrings.hw.errors import DeviceError
from ixrings.rings import Region, RegionError
from ixrings.rings.hotloop import Forward, TxSync


def test_all_that_reaches_c_is_refused_after_close_and_all_that_is_memory_stays_readable() -> None:
    port = open_port("emulated:loop")
    session, nic, buffers = port._owned(), port.nic, port.buffers
    rx, tx = session.rx[0], session.tx[0]
    ring, span = port.tx_rings[0], port.tx_rings[0].reserve(4)
    descriptors, frames, forward = session.descriptors(ring), port.recv(0), Forward((rx, tx))
    reaches_c: list[Callable[[], object]] = [
        session.tx_sync,
        session.rx_sync,
        lambda: session.busy(1000),
        lambda: session.busy_rx(1000),
        forward,
        rx.fill,
        lambda: TxSync([tx]),
        lambda: nic.CTRL.read(),
        lambda: nic.TDT[0].write(0),
        lambda: next(frames),
        lambda: session.interrupts.rx.arm(),
    ]
    port.close()
    gc.collect()
    for call in reaches_c:
        with pytest.raises((RegionError, DeviceError, PortError), match="closed"):
            call()
    ring.advance(1)
    rx.restart()
    assert len(span.buf_idx) == 4 and buffers.sum() >= 0 and descriptors.shape == (ring.num_slots, 2)


class Node:
    """An object in a reference cycle."""

    def __init__(self, value: object) -> None:
        self.value, self.me = value, self


@pytest.mark.parametrize(
    "make",
    [
        lambda: open_port("emulated:loop"),
        pytest.param(lambda: open_port(Emulated82599("loop")), marks=pytest.mark.slow),
        pytest.param(lambda: Region.for_ports(tx_slots=64, rx_slots=64), marks=pytest.mark.slow),
        pytest.param(
            lambda: Emulated82599("loop").enable_interrupts(3) and Emulated82599("loop"), marks=pytest.mark.slow
        ),
    ],
    ids=["port", "port of a device", "region", "device"],
)
def test_a_collected_cycle_closes_each_descriptor_once(
    make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Garbage collection finalizes the objects of a cycle in any order. Descriptors of others are not hit."""
    complaints: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda complaint: complaints.append(complaint.exc_value))
    for _ in range(2):
        node = Node(make())
        opened = [node.value]
        opened.append(opened)
        del node, opened
        gc.collect()
        bystander = os.memfd_create("bystander")
        gc.collect()
        os.close(bystander)
    assert complaints == []


def test_a_port_that_is_dropped_is_closed() -> None:
    device = Emulated82599("loop")
    with device:
        port: Port | None = open_port(device)
        assert port is not None and device.owner
        port = None
        gc.collect()
        assert not device.owner
