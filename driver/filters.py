"""The frames that the port receives (82599 7.1.1). Their queue is chosen in steering.py and rss.py."""

from __future__ import annotations

from collections.abc import Iterable

from ixrings.hw.registers import Registers

from .config import unicast_mac
from .queues import reception_stopped


def read_mac(nic: Registers) -> bytes:
    """The port's own address, six bytes as on the wire (8.2.3.7.8)."""
    low = int(nic.RAL[0].read())
    return low.to_bytes(4, "little") + nic.RAH[0].read().RAH.to_bytes(2, "little")


def write_mac(nic: Registers, address: str | bytes) -> None:
    """Set the port's own address (8.2.3.7.8, 8.2.3.7.9). Raises ValueError if `address` is not unicast."""
    octets = unicast_mac(address)
    nic.RAL[0].write(int.from_bytes(octets[:4], "little"))
    nic.RAH[0].update(RAH=int.from_bytes(octets[4:], "little"), AV=1)


def set_promiscuous(nic: Registers, *, everything: bool, all_multicast: bool) -> None:
    """Set FCTRL, which may change only while RXEN is 0 (8.2.3.7.1). Broadcast is always accepted."""
    with reception_stopped(nic):
        nic.FCTRL.update(BAM=1, UPE=int(everything), MPE=int(everything or all_multicast))


def multicast_bit(address: bytes) -> tuple[int, int]:
    """MTA register and bit of a multicast address: bits 47:36 of it (8.2.3.7.7 with MCSTCTRL.MO = 0)."""
    vector = (address[4] >> 4) | (address[5] << 4)
    return vector >> 5, vector & 0x1F


def write_multicast(nic: Registers, addresses: Iterable[bytes], hashes: Iterable[int] = ()) -> None:
    """Accept these groups, and others with the same 12 bits: the table is a hash (7.1.1.2). Raises ValueError.

    hashes: 12 bits of further groups.
    """
    table = [0] * len(nic.MTA)
    for address in addresses:
        if not address[0] & 1:
            raise ValueError(f"{address.hex(':')} is not a multicast address: the lowest bit of its first byte is 0")
        register, position = multicast_bit(address)
        table[register] |= 1 << position
    for each in hashes:
        table[each >> 5] |= 1 << (each & 0x1F)
    for register, value in enumerate(table):
        nic.MTA[register].write(value)
    nic.MCSTCTRL.write(MO=0, MFE=1)
