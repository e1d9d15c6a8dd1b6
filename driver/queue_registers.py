"""The registers of each queue, by the PF's names.

A PF's table has them as they are; a VF's names begin with VF. A PF that has VFs itself uses only the queues of a pool.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from ixrings.hw import fields as f
from ixrings.hw.register import Accessor, AccessorArray, Word
from ixrings.hw.registers import Registers, VfRegisters

W = TypeVar("W", bound=Word)


class QueueRegisters(Protocol):
    """Receive (82599 8.2.3.8, 8.3.5.3) and transmit (8.2.3.9, 8.3.5.4). `Registers` has all of them."""

    @property
    def RDBAL(self) -> AccessorArray[Word]: ...
    @property
    def RDBAH(self) -> AccessorArray[Word]: ...
    @property
    def RDLEN(self) -> AccessorArray[Word]: ...
    @property
    def RDH(self) -> AccessorArray[Word]: ...
    @property
    def RDT(self) -> AccessorArray[Word]: ...
    @property
    def RXDCTL(self) -> AccessorArray[f.RXDCTL]: ...
    @property
    def SRRCTL(self) -> AccessorArray[f.SRRCTL]: ...
    @property
    def DCA_RXCTRL(self) -> AccessorArray[f.DCA_RXCTRL]: ...
    @property
    def TDBAL(self) -> AccessorArray[Word]: ...
    @property
    def TDBAH(self) -> AccessorArray[Word]: ...
    @property
    def TDLEN(self) -> AccessorArray[Word]: ...
    @property
    def TDH(self) -> AccessorArray[Word]: ...
    @property
    def TDT(self) -> AccessorArray[Word]: ...
    @property
    def TXDCTL(self) -> AccessorArray[f.TXDCTL]: ...
    @property
    def TDWBAL(self) -> AccessorArray[f.TDWBAL]: ...
    @property
    def TDWBAH(self) -> AccessorArray[Word]: ...
    @property
    def DCA_TXCTRL(self) -> AccessorArray[f.DCA_TXCTRL]: ...


class VfQueueRegisters:
    """A virtual function's, under the PF's names."""

    def __init__(self, nic: VfRegisters) -> None:
        self.RDBAL, self.RDBAH, self.RDLEN = nic.VFRDBAL, nic.VFRDBAH, nic.VFRDLEN
        self.RDH, self.RDT = nic.VFRDH, nic.VFRDT
        self.RXDCTL, self.SRRCTL, self.DCA_RXCTRL = nic.VFRXDCTL, nic.VFSRRCTL, nic.VFDCA_RXCTRL
        self.TDBAL, self.TDBAH, self.TDLEN = nic.VFTDBAL, nic.VFTDBAH, nic.VFTDLEN
        self.TDH, self.TDT = nic.VFTDH, nic.VFTDT
        self.TXDCTL, self.DCA_TXCTRL = nic.VFTXDCTL, nic.VFDCA_TXCTRL
        self.TDWBAL, self.TDWBAH = nic.VFTDWBAL, nic.VFTDWBAH


class Shifted(AccessorArray[W]):
    """Some registers of an array; the first of them has index 0."""

    __slots__ = ("_numbers",)

    def __init__(self, array: AccessorArray[W], numbers: range) -> None:
        super().__init__(array._space, array.row)
        self._numbers = numbers

    def __getitem__(self, index: int) -> Accessor[W]:
        return super().__getitem__(self._numbers[index])

    def __len__(self) -> int:
        return len(self._numbers)


class PoolQueueRegisters:
    """The queues of one pool of a physical function with virtual ones; queue 0 is the pool's first."""

    def __init__(self, nic: Registers, queues: range) -> None:
        self.RDBAL, self.RDBAH = Shifted(nic.RDBAL, queues), Shifted(nic.RDBAH, queues)
        self.RDLEN, self.RDH, self.RDT = (Shifted(each, queues) for each in (nic.RDLEN, nic.RDH, nic.RDT))
        self.RXDCTL, self.SRRCTL = Shifted(nic.RXDCTL, queues), Shifted(nic.SRRCTL, queues)
        self.DCA_RXCTRL, self.DCA_TXCTRL = Shifted(nic.DCA_RXCTRL, queues), Shifted(nic.DCA_TXCTRL, queues)
        self.TDBAL, self.TDBAH = Shifted(nic.TDBAL, queues), Shifted(nic.TDBAH, queues)
        self.TDLEN, self.TDH, self.TDT = (Shifted(each, queues) for each in (nic.TDLEN, nic.TDH, nic.TDT))
        self.TXDCTL = Shifted(nic.TXDCTL, queues)
        self.TDWBAL, self.TDWBAH = Shifted(nic.TDWBAL, queues), Shifted(nic.TDWBAH, queues)
