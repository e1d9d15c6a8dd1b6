"""`port.vf`: what only a port on a virtual function has."""

from __future__ import annotations

from collections.abc import Iterable

from ixrings.hw.attributes import GuardedReads, always
from ixrings.hw.registers import VfRegisters

from .config import mac_list, unicast_mac
from .virtual_function import VirtualFunction


class Vf(GuardedReads):
    """A virtual function and its PF.

    version: of the mailbox messages, such as "1.3". tx_queues, rx_queues: granted by the PF. recoveries: how often the
    port was set up again, because the PF was reset or asked for it; why_recovered: the last reason. Frames that were in
    the rings are lost then.
    """

    __slots__ = ("_function",)

    def __init__(self, function: VirtualFunction) -> None:
        self._function = function

    @property
    def nic(self) -> VfRegisters:
        """The registers of this function (82599 8.3.5)."""
        return self._function.nic

    @property
    def version(self) -> str:
        return str(self._function.pf.version)

    @property
    def tx_queues(self) -> int:
        return self._function.granted.tx_queues

    @property
    def rx_queues(self) -> int:
        return self._function.granted.rx_queues

    @property
    def recoveries(self) -> int:
        return self._function.recoveries

    @property
    def why_recovered(self) -> str:
        return self._function.why_recovered

    @property
    def addresses(self) -> list[str]:
        """Unicast addresses that are received besides port.mac. Set it to a list of addresses.

        Raises ValueError, and RequestRefused if the host does not trust this function or the NIC has no room.
        """
        return [address.hex(":") for address in self._function.addresses]

    @addresses.setter
    def addresses(self, addresses: Iterable[str | bytes]) -> None:
        self._function.set_addresses([unicast_mac(each) for each in mac_list("port.vf.addresses", addresses)])

    def redirection_table(self) -> list[int]:
        """The PF's RETA for this function: 128 numbers of queues. Raises RequestRefused."""
        return self._function.pf.redirection_table()

    def rss_key(self) -> bytes:
        """The PF's RSS key, 40 bytes. Raises RequestRefused."""
        return self._function.pf.rss_key()

    @always
    def __repr__(self) -> str:
        return f"<Vf version={self.version}, tx_queues={self.tx_queues}, rx_queues={self.rx_queues}>"
