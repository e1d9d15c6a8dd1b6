"""The registers of each queue, by the PF's names. A PF's table has them as they are; a VF's names begin with VF."""

from __future__ import annotations

from typing import Protocol

from ixrings.hw import fields as f
from ixrings.hw.register import AccessorArray, Word
from ixrings.hw.registers import VfRegisters


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
