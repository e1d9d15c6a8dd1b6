"""The VLANs of a port on a virtual function: the PF has the filter, and each receive queue its own tag stripping."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

from .checks import require
from .queue_registers import QueueRegisters
from .vlan import Vlan, check_vlans


class AsksForVlans(Protocol):
    """A virtual function."""

    @property
    def vlans(self) -> frozenset[int]: ...
    def set_vlans(self, vlans: AbstractSet[int]) -> None: ...


class VfVlan(Vlan):
    """`port.vlan` of a virtual function. After open_port() the filter is {0}: frames without a tag."""

    __slots__ = ("_function",)

    def __init__(self, function: AsksForVlans, registers: QueueRegisters, queues: Sequence[int]) -> None:
        super().__init__(registers, queues)
        self._function = function

    @property
    def filter(self) -> AbstractSet[int]:
        return self._function.vlans

    @filter.setter
    def filter(self, ids: AbstractSet[int] | None) -> None:
        require("port.vlan.filter", ids, Iterable | None, "a set of VLAN ids, such as {5, 7}")
        if ids is None:
            raise ValueError(
                "a virtual function cannot receive all VLANs: its PF has a filter for each. Set port.vlan.filter to a "
                "set of ids"
            )
        check_vlans(ids)
        self._function.set_vlans(frozenset(ids))
