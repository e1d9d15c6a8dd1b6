"""The mailbox: sixteen words that the PF and one virtual function share, and the bits by which they take turns.

Who wants to write takes the buffer (VFU or PFU; the NIC gives it to one side at a time), writes its words and sets REQ
or STS, which frees the buffer and interrupts the other side. Who reads sets ACK. One class has both directions: VfEnd
is the VF's end, PfEnd the PF's (82599 8.2.3.27, 8.3.5.1.5, 8.3.5.1.6). Messages in words: words.py.

ASSUMPTION (datasheet not at hand): the protocol is as the public drivers run it.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from enum import Flag
from typing import Any

from ..errors import RegisterTimeout
from ..register import Accessor, Word
from ..registers import Registers, VfRegisters

WORDS = 16
TAKE_S = 1.0  # both public drivers try for a second
SHORTEST_NAP_S, LONGEST_NAP_S = 20e-6, 500e-6  # between two looks: an emulated PF answers at once, Linux in 0.1 ms
VFS_A_REGISTER = 16


class Event(Flag):
    """What the other side has done since the event was last taken."""

    NONE = 0
    MESSAGE = 1  # it has written a message
    ACK = 2  # it has read ours
    RESET = 4  # the PF has finished a reset


class Mailbox(ABC):
    """One end of a mailbox. For one thread at a time.

    keeps_turn: the variant of API 1.5. The sender keeps the buffer until the message is acknowledged, and the reader
    does not take it. It is negotiated; until then, and with every other version, each side takes the buffer.
    take_s: how long to try to take the buffer. 0: once.
    """

    keeps_turn = False
    take_s = TAKE_S

    def __init__(self, words: Sequence[Accessor[Word]]) -> None:
        self._words = words
        self._events = Event.NONE

    # ---- the registers of one side ----

    @abstractmethod
    def _look(self) -> Event:
        """Read the events that came; a register may clear them when it is read."""

    @abstractmethod
    def _take(self) -> bool:
        """Ask for the buffer once. Whether this side has it."""

    @abstractmethod
    def _control(self, *, message: bool = False, ack: bool = False, keep: bool = False) -> None:
        """Signal the other side, and free the buffer unless `keep`."""

    @abstractmethod
    def _missed(self, what: str, waited_s: float) -> RegisterTimeout:
        """The error of a wait."""

    # ---- both sides ----

    def pending(self, event: Event) -> bool:
        """Whether `event` has come and was not taken. Events of others stay for their turn."""
        self._events |= self._look()
        return event in self._events

    def take_event(self, event: Event) -> bool:
        """As pending(), and takes the event."""
        self._events |= self._look()
        return self.take_seen(event)

    def take_seen(self, event: Event) -> bool:
        """As take_event(), of what was seen at the last look, without another one."""
        came = event in self._events
        self._events &= ~event
        return came

    def send(self, words: Sequence[int]) -> None:
        """Write a message of at most 16 words and signal it. What came before is forgotten: it answers nothing.

        Raises RegisterTimeout if the other side does not free the buffer.
        """
        self._wait(self._take, self.take_s, "the buffer is not free")
        self._events = (self._events | self._look()) & Event.RESET
        for register, word in zip(self._words, words):
            register.write(word)
        self._control(message=True, keep=self.keeps_turn)
        if self.keeps_turn:
            self._wait(lambda: self.pending(Event.ACK), TAKE_S, "the message is not acknowledged")
            self._control()

    def receive(self, count: int) -> list[int]:
        """The first `count` words of the message that came, which is acknowledged. Raises RegisterTimeout."""
        if not self.keeps_turn:
            self._wait(self._take, self.take_s, "the buffer is not free")
        words = [int(register.read()) for register in self._words[:count]]
        self._control(ack=True)
        return words

    def wait_for(self, event: Event, timeout_s: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Wait until `event` comes, and take it. False after `timeout_s`, or as soon as `until()` is true."""
        end = time.monotonic() + timeout_s
        nap_s = SHORTEST_NAP_S
        while not self.take_event(event):
            if until() or time.monotonic() >= end:
                return False
            time.sleep(nap_s)
            nap_s = min(2 * nap_s, LONGEST_NAP_S)
        return True

    def _wait(self, done: Callable[[], bool], timeout_s: float, missing: str) -> None:
        start = time.monotonic()
        nap_s = SHORTEST_NAP_S
        while not done():
            waited_s = time.monotonic() - start
            if waited_s >= timeout_s:
                raise self._missed(missing, waited_s)
            time.sleep(nap_s)
            nap_s = min(2 * nap_s, LONGEST_NAP_S)


class VfEnd(Mailbox):
    """The VF's end. A read of VFMAILBOX clears PFSTS, PFACK and RSTD, so they are kept here."""

    def __init__(self, nic: VfRegisters) -> None:
        super().__init__(list(nic.VFMBMEM))
        self._vfmailbox = nic.VFMAILBOX
        self._last = nic.VFMAILBOX.row.layout(0)

    @property
    def pf_in_reset(self) -> bool:
        """RSTI: the PF is in reset, or its driver has not started it (8.3.5.1.5)."""
        self._events |= self._look()
        return bool(self._last.RSTI)

    def _look(self) -> Event:
        now = self._last = self._vfmailbox.read()
        return (
            (Event.MESSAGE if now.PFSTS else Event.NONE)
            | (Event.ACK if now.PFACK else Event.NONE)
            | (Event.RESET if now.RSTD else Event.NONE)
        )

    def _take(self) -> bool:
        self._vfmailbox.write(VFU=1)
        self._events |= self._look()
        return bool(self._last.VFU)

    def _control(self, *, message: bool = False, ack: bool = False, keep: bool = False) -> None:
        self._vfmailbox.write(REQ=int(message), ACK=int(ack), VFU=int(keep))

    def _missed(self, what: str, waited_s: float) -> RegisterTimeout:
        return missed(self._vfmailbox, self._last, what, waited_s)


class PfEnd(Mailbox):
    """The PF's end of the mailbox of one VF."""

    def __init__(self, nic: Registers, vf: int) -> None:
        super().__init__([nic.PFMBMEM[WORDS * vf + index] for index in range(WORDS)])
        self._pfmailbox = nic.PFMAILBOX[vf]
        self._causes = nic.PFMBICR[vf // VFS_A_REGISTER]
        self._message = 1 << vf % VFS_A_REGISTER
        self._ack = self._message << 16

    def _look(self) -> Event:
        came = int(self._causes.read()) & (self._message | self._ack)
        if came:
            self._causes.write(came)  # writing ones clears
        return (Event.MESSAGE if came & self._message else Event.NONE) | (Event.ACK if came & self._ack else Event.NONE)

    def _take(self) -> bool:
        self._pfmailbox.write(PFU=1)
        return bool(self._pfmailbox.read().PFU)

    def notify(self, words: Sequence[int]) -> bool:
        """Send a message that answers nothing, but not over a message that the VF has just written: False then.

        Raises RegisterTimeout if the VF does not free the buffer.
        """
        self._wait(self._take, self.take_s, "the buffer is not free")
        if self.pending(Event.MESSAGE):  # while this end has the buffer, the VF writes no other one
            self._control()
            return False
        self._events = Event.NONE
        for register, word in zip(self._words, words):
            register.write(word)
        self._control(message=True)
        return True

    def take_from_vf(self) -> None:
        """Free the buffer of a VF that keeps it, and forget its message (RVFU)."""
        self._pfmailbox.write(RVFU=1)
        self._events = Event.NONE

    def _control(self, *, message: bool = False, ack: bool = False, keep: bool = False) -> None:
        self._pfmailbox.write(STS=int(message), ACK=int(ack), PFU=int(keep))

    def _missed(self, what: str, waited_s: float) -> RegisterTimeout:
        return missed(self._pfmailbox, self._pfmailbox.read(), what, waited_s)


def missed(register: Accessor[Any], value: Word, what: str, waited_s: float) -> RegisterTimeout:
    return RegisterTimeout(
        f"{register.name} ({register.offset:#07x}) read {value!r} after {waited_s * 1e3:.1f} ms: {what} "
        f"(82599 {register.row.section})"
    )
