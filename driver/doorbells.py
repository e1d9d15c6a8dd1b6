"""Doorbells that need a message (Device.doorbells_need_ringing). For other NICs a sync is not wrapped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ixrings.rings.hotloop import Forward
from ixrings.rings.queue import RxQueue, TxQueue

Sync = Callable[[], bool]


class Bell(Protocol):
    """What this module needs of a Device. ring_doorbells() may be called by several threads at once."""

    doorbells_need_ringing: bool

    def ring_doorbells(self) -> None: ...


def ringing(device: Bell, sync: Sync) -> Sync:
    """`sync`, followed by the message. The message is sent even if `sync` raises, because other rings were synced."""
    if not device.doorbells_need_ringing:
        return sync

    def sync_and_ring() -> bool:
        try:
            return sync()
        finally:
            device.ring_doorbells()

    return sync_and_ring


class RingingForward(Forward):
    """Forward between devices if one or both need ringing."""

    def __init__(self, devices: tuple[Bell, ...], *pairs: tuple[RxQueue, TxQueue]) -> None:
        super().__init__(*pairs)
        self._devices = devices

    def __call__(self, limit: int = 256) -> int:
        try:
            return super().__call__(limit)
        finally:
            for device in self._devices:
                device.ring_doorbells()


def join(source: Bell, target: Bell, *pairs: tuple[RxQueue, TxQueue]) -> Forward:
    """The Forward for pairs of rings of two devices. Raises ValueError if the rings do not share their buffers."""
    if source.doorbells_need_ringing or target.doorbells_need_ringing:
        return RingingForward((source, target), *pairs)
    return Forward(*pairs)
