"""Mailbox messages in words, for both ends: the VF's (driver/vf_requests.py) and the PF's (answers.py).

ASSUMPTION (datasheet not at hand): the messages are those of the public drivers; the datasheet leaves them to software.
"""

from __future__ import annotations

from enum import IntEnum

ACK, NACK, CTS = 0x8000_0000, 0x4000_0000, 0x2000_0000
REQUEST, ARGUMENT_SHIFT, ARGUMENT = 0xFFFF, 16, 0xFF
CONTROL = 0x0100  # sent by the PF: its state has changed
MOST_HASHES = 30  # of multicast groups in one message


class Request(IntEnum):
    RESET = 0x01
    SET_MAC = 0x02
    SET_MULTICAST = 0x03
    SET_VLAN = 0x04
    SET_LPE = 0x05
    SET_MACVLAN = 0x06
    API_NEGOTIATE = 0x08
    GET_QUEUES = 0x09
    GET_RETA = 0x0A
    GET_RSS_KEY = 0x0B
    UPDATE_XCAST_MODE = 0x0C
    GET_LINK_STATE = 0x10


class Version(IntEnum):
    """A version of the messages, in their order. `code`: its number in a message."""

    V1_0 = 0
    V1_1 = 1
    V1_2 = 2
    V1_3 = 3
    V1_4 = 4
    V1_5 = 5

    @property
    def code(self) -> int:
        return CODES[self]

    def __str__(self) -> str:
        return self.name[1:].replace("_", ".")


CODES = {Version.V1_0: 0, Version.V1_1: 2, Version.V1_2: 3, Version.V1_3: 4, Version.V1_4: 5, Version.V1_5: 6}
SINCE = {
    Request.GET_QUEUES: Version.V1_1,
    Request.GET_RETA: Version.V1_2,
    Request.GET_RSS_KEY: Version.V1_2,
    Request.UPDATE_XCAST_MODE: Version.V1_2,
    Request.GET_LINK_STATE: Version.V1_2,
}


class Reception(IntEnum):
    """Arguments of UPDATE_XCAST_MODE: what a VF receives besides its own addresses and broadcast."""

    NONE = 0
    MULTICAST = 1  # the groups of SET_MULTICAST
    ALL_MULTICAST = 2  # for a trusted VF
    PROMISCUOUS = 3  # the 82599 has no promiscuous pools


def mac_words(address: bytes) -> tuple[int, int]:
    """An address in two words; octet 0 is the low byte."""
    return int.from_bytes(address[:4], "little"), int.from_bytes(address[4:], "little")


def words_mac(low: int, high: int) -> bytes:
    return low.to_bytes(4, "little") + (high & 0xFFFF).to_bytes(2, "little")
