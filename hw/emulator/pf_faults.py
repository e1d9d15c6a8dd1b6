"""What the agent's faults do to its answers (FAULTS.md). The faults themselves are the NIC's: `nic.inject(...)`."""

from __future__ import annotations

import random
from collections.abc import Container

from ..pf.words import ACK, CTS, NACK, REQUEST, Request
from .faults import Fault

SLOW_NS, LATE_NS = 200_000_000, 1_500_000_000  # drivers wait one second for an answer
FLAP_NS = 50_000_000  # between two moves of the cable
WORDS = 16
SEED = 82599
REFUSED: dict[int, Fault] = {
    Request.RESET: Fault.PF_REFUSES_RESET,
    Request.SET_MAC: Fault.PF_REFUSES_SET_MAC,
    Request.SET_MULTICAST: Fault.PF_REFUSES_SET_MULTICAST,
    Request.SET_VLAN: Fault.PF_REFUSES_SET_VLAN,
    Request.SET_LPE: Fault.PF_REFUSES_SET_LPE,
    Request.SET_MACVLAN: Fault.PF_REFUSES_SET_MACVLAN,
    Request.API_NEGOTIATE: Fault.PF_REFUSES_API_NEGOTIATE,
    Request.GET_QUEUES: Fault.PF_REFUSES_GET_QUEUES,
    Request.UPDATE_XCAST_MODE: Fault.PF_REFUSES_UPDATE_XCAST,
    Request.GET_LINK_STATE: Fault.PF_REFUSES_GET_LINK_STATE,
}
GRANTS = {Fault.PF_NO_QUEUES: (0, 0), Fault.PF_MANY_QUEUES: (200, 200), Fault.PF_UNEVEN_QUEUES: (4, 2)}  # TX, RX


class Spoiler:
    """Answers as `faults`, those that the NIC has now, let them be. Random words are the same in each run."""

    def __init__(self, faults: Container[Fault]) -> None:
        self._faults, self._chance = faults, random.Random(SEED)

    def refusal(self, request: int) -> list[int]:
        """The answer to a request that is refused without a look at it; [] if none of the faults refuses it."""
        kind = request & REQUEST
        fault = REFUSED.get(kind)
        if fault is not None and fault in self._faults:
            return [Request.RESET | NACK, 0, 0, 0] if kind == Request.RESET else [request | NACK | CTS]
        return [request | NACK | CTS] if Fault.PF_REFUSES in self._faults and kind != Request.RESET else []

    def delay_ns(self) -> int:
        return LATE_NS if Fault.PF_LATE in self._faults else SLOW_NS if Fault.PF_SLOW in self._faults else 0

    def spoilt(self, reply: list[int]) -> list[int]:
        """The words that are written in place of `reply`."""
        faults, kind = self._faults, reply[0] & REQUEST
        if Fault.PF_NONSENSE in faults:
            return self._random(WORDS)
        reply = list(reply)
        if Fault.PF_REFUSES in faults and kind == Request.RESET:
            reply = [Request.RESET | NACK, 0, 0, reply[3]]
        if Fault.PF_MAC_ZERO in faults and kind == Request.RESET:
            reply = [Request.RESET | ACK, 0, 0, reply[3]]
        if kind == Request.GET_QUEUES and reply[0] & ACK:
            for fault, grant in GRANTS.items():
                if fault in faults:
                    reply[1:3] = grant
        if Fault.PF_GARBAGE in faults:
            reply = [reply[0] & ~NACK | ACK, *self._random(WORDS - 1)]
        if Fault.PF_SHORT in faults:
            reply = reply[:1]
        if Fault.PF_ANOTHER in faults:
            reply[0] = reply[0] & ~REQUEST | kind % 0x10 + 1
        return reply

    def _random(self, count: int) -> list[int]:
        return [self._chance.getrandbits(32) for _ in range(count)]
