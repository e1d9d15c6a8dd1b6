"""VLAN tags of received frames: which frames are accepted, and whether the NIC strips the tag (82599 7.1.1.2, 7.4).

A slot has no room for a tag, so a stripped tag stays in the descriptor: Port.received() reads it. Offload(vlan=...)
inserts one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet

from ixrings.hw.attributes import GuardedReads, always
from ixrings.hw.registers import Registers

from .checks import require
from .queue_registers import QueueRegisters

LAST_ID = 4094  # 4095 is reserved (802.1Q 9.6)
WORD_BITS = 32


class Vlan(GuardedReads):
    """`port.vlan`: filter and stripping, read from the NIC each time. Both are off after open_port()."""

    __slots__ = ("_queues", "_registers")

    def __init__(self, registers: QueueRegisters, queues: Sequence[int]) -> None:
        self._registers = registers
        self._queues = queues

    @property
    def filter(self) -> AbstractSet[int] | None:
        """The VLANs whose frames are received; None for all. Set it to a set of ids 0..4094 or None; raises ValueError.

        Frames without a tag are always received. A tag with only a priority belongs to VLAN 0. The filter also applies
        to a promiscuous port. A virtual function cannot receive all VLANs: its filter is {0} after open_port().
        """
        raise NotImplementedError

    @filter.setter
    def filter(self, ids: AbstractSet[int] | None) -> None:
        raise NotImplementedError

    @property
    def strip(self) -> bool:
        """Whether the NIC strips tags from received frames, on all queues of the port. May be set.

        Frames already on their way into a ring may follow the old setting; Port.received() reports each. recv() and
        forward() lose a stripped tag, so leave stripping off on a bridged port.
        """
        return bool(self._queues) and all(self._registers.RXDCTL[queue].read().VME for queue in self._queues)

    @strip.setter
    def strip(self, on: bool) -> None:
        require("port.vlan.strip", on, bool)
        for queue in self._queues:
            self._registers.RXDCTL[queue].update(VME=int(on))

    @always
    def __repr__(self) -> str:
        accepted = self.filter
        return f"<Vlan filter={None if accepted is None else sorted(accepted)}, strip={self.strip}>"


class NicVlan(Vlan):
    """The filter of the whole NIC."""

    __slots__ = ("_nic",)

    def __init__(self, nic: Registers, queues: Sequence[int]) -> None:
        super().__init__(nic, queues)
        self._nic = nic

    @property
    def filter(self) -> AbstractSet[int] | None:
        if not self._nic.VLNCTRL.read().VFE:
            return None
        words = [int(word.read()) for word in self._nic.VFTA]
        return frozenset(
            WORD_BITS * word + bit for word, value in enumerate(words) for bit in range(WORD_BITS) if value >> bit & 1
        )

    @filter.setter
    def filter(self, ids: AbstractSet[int] | None) -> None:
        require("port.vlan.filter", ids, Iterable | None, "a set of VLAN ids, such as {5, 7}, or None for all")
        words = vfta(ids or ())
        if ids is None:  # before the table is emptied, so that no frame is lost meanwhile
            self._nic.VLNCTRL.update(VFE=0)
        for entry, value in zip(self._nic.VFTA, words):
            entry.write(value)
        if ids is not None:
            self._nic.VLNCTRL.update(VFE=1)


def vfta(ids: AbstractSet[int] | tuple[()]) -> list[int]:
    """The table, with one bit for each VLAN (8.2.3.7.11). Raises ValueError."""
    words = [0] * 128
    check_vlans(ids)
    for vlan in ids:
        words[vlan // WORD_BITS] |= 1 << vlan % WORD_BITS
    return words


def check_vlans(ids: Iterable[int]) -> None:
    """Raises ValueError for a number that is not a VLAN."""
    for vlan in ids:
        require("port.vlan.filter", vlan, int, "a set of VLAN ids, such as {5, 7}")
        if not 0 <= vlan <= LAST_ID:
            raise ValueError(f"{vlan} is not a VLAN: ids go from 0 to {LAST_ID}")
