"""VLAN tags of received frames: which come in, and whether the NIC takes them out (82599 7.1.1.2, 7.4).

A slot has no room for a tag, so one that was taken out stays in the descriptor: Port.received() reads it. To have one put in: Offload(vlan=...).
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from ixrings.hw.registers import Registers

LAST_ID = 4094  # 4095 is reserved (802.1Q 9.6)
WORD_BITS = 32


class Vlan:
    """`port.vlan`: what the registers say, at each look. Off after open_port(), both of it."""

    def __init__(self, nic: Registers, queues: Sequence[int]) -> None:
        self._nic = nic
        self._queues = queues

    @property
    def filter(self) -> AbstractSet[int] | None:
        """VLANs whose frames are received; None, all of them. Settable, to a set of ids 0..4094 or None; raises ValueError.

        Frames without a tag come in either way, those with only a priority are of VLAN 0. Holds on a promiscuous port, too.
        """
        if not self._nic.VLNCTRL.read().VFE:
            return None
        words = [int(word.read()) for word in self._nic.VFTA]
        return frozenset(
            WORD_BITS * word + bit for word, value in enumerate(words) for bit in range(WORD_BITS) if value >> bit & 1
        )

    @filter.setter
    def filter(self, ids: AbstractSet[int] | None) -> None:
        words = vfta(ids or ())
        if ids is None:  # before the table is emptied: meanwhile nothing is to be lost
            self._nic.VLNCTRL.update(VFE=0)
        for entry, value in zip(self._nic.VFTA, words):
            entry.write(value)
        if ids is not None:
            self._nic.VLNCTRL.update(VFE=1)

    @property
    def strip(self) -> bool:
        """Whether tags are taken out of received frames, on all of the port's queues; settable.

        Frames that are on their way into a ring may still be as before: Port.received() tells of each. recv() and forward() know nothing of
        a tag that was taken out, so leave it off for a port that is bridged.
        """
        return bool(self._queues) and all(self._nic.RXDCTL[queue].read().VME for queue in self._queues)

    @strip.setter
    def strip(self, on: bool) -> None:
        for queue in self._queues:
            self._nic.RXDCTL[queue].update(VME=int(on))

    def __repr__(self) -> str:
        accepted = self.filter
        return f"<Vlan filter={None if accepted is None else sorted(accepted)}, strip={self.strip}>"


def vfta(ids: AbstractSet[int] | tuple[()]) -> list[int]:
    """The table with a bit a VLAN (8.2.3.7.11). Raises ValueError."""
    words = [0] * 128
    for vlan in ids:
        if not 0 <= vlan <= LAST_ID:
            raise ValueError(f"{vlan} is no VLAN: ids go from 0 to {LAST_ID}")
        words[vlan // WORD_BITS] |= 1 << vlan % WORD_BITS
    return words
