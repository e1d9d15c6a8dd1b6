"""How a PF serves its VFs: their resets, their messages, and what its host sets for each.

A VF costs its PF a bounded time in each call of serve(): one reset, one acknowledgement and at most two messages. The
PF waits PATIENCE_S for the buffer, because the VF may be reading the message before. After that the message is lost, as
it is with Linux's ixgbe, and the PF does not wait for this VF again until it has freed the buffer. Linux's ixgbe also
writes over a request; this PF does not: a VF acknowledges a ping, and may ask at the same moment.
"""

from __future__ import annotations

import threading

from ..errors import RegisterTimeout
from ..rate import SPEEDS_MBPS
from ..register import ALL_ONES
from ..registers import Registers
from .answers import LINUX_API, STATES, Answers, Vf
from .mailbox import VFS_A_REGISTER, WORDS, Event, PfEnd
from .pools import Pools
from .words import CONTROL, CTS, NACK

MAX_RATE = 10_000  # Mbit/s
VFS_A_WORD = 32
PATIENCE_S = 0.002  # a VF behind a socket reads sixteen words in less


class Serving:
    """Serves the VFs of `setup`. For several threads. vfs: what is known of each. accepted: API codes that it knows."""

    def __init__(
        self, regs: Registers, setup: Pools, *, linux: bool = True, accepted: frozenset[int] = LINUX_API, max_frame: int
    ) -> None:
        self._regs, self._lock = regs, threading.RLock()
        self._begin(setup, linux, accepted, max_frame)

    def _begin(self, setup: Pools, linux: bool, accepted: frozenset[int], max_frame: int) -> None:
        self.setup = setup
        self.vfs = [Vf(number) for number in range(setup.vfs)]
        self.answers = Answers(setup, self.vfs, accepted, linux=linux, max_frame=max_frame)
        self._ends = [PfEnd(self._regs, number) for number in range(setup.vfs)]
        for end in self._ends:
            end.take_s = PATIENCE_S

    @property
    def lock(self) -> threading.RLock:
        """Held while tables change that PF and VFs share (MTA, VFTA, PFVLVF)."""
        return self._lock

    # ---- the PF starts and stops ----

    def restart(self) -> None:
        """After a reset of the PF and before PFRSTD: filters and settings of all VFs, which are not cleared to send."""
        with self._lock:
            for vf in self.vfs:
                self.answers.restart(vf)
                self._limit(vf)

    def revoke(self) -> None:
        """Before a reset of the PF: tell all VFs that they must reset themselves."""
        with self._lock:
            for vf in self.vfs:
                vf.cleared = False
                self._ping(vf)

    def end_rates(self) -> None:
        """The PF stops. A reset does not end the limits, and the next driver may not know of them."""
        with self._lock:
            for vf in self.vfs:
                if vf.rate:
                    self.setup.limit_rate(vf.number, 0, MAX_RATE)

    def link_changed(self) -> None:
        """Tell all VFs to look at their link. Rate limits are fractions of its speed, so they are written again."""
        with self._lock:
            for vf in self.vfs:
                if vf.rate:
                    self._limit(vf)
                self._ping(vf)

    # ---- the mailbox ----

    def serve(self) -> bool:
        """Serve what has arrived: resets, requests, acknowledgements, for each VF in this order, as Linux does.

        Whether anything had arrived.
        """
        with self._lock:
            resets = self._resets()
            came = resets | self._messages()
            for vf in self.vfs:
                if came >> vf.number & 1:
                    self._serve_vf(vf, bool(resets >> vf.number & 1))
            return bool(came)

    def _resets(self) -> int:
        """A bit for each VF that had a function-level reset, which is taken."""
        found = 0
        for word in range(-(-len(self.vfs) // VFS_A_WORD)):
            bits = int(self._regs.PFVFLRE[word].read())
            if bits and bits != ALL_ONES:
                self._regs.PFVFLREC[word].write(bits)
                found |= bits << VFS_A_WORD * word
        return found

    def _messages(self) -> int:
        """A bit for each VF that has sent a message or an acknowledgement."""
        found = 0
        for index in range(-(-len(self.vfs) // VFS_A_REGISTER)):
            causes = int(self._regs.PFMBICR[index].read())
            if causes != ALL_ONES:  # the NIC is gone
                found |= (causes | causes >> VFS_A_REGISTER) % (1 << VFS_A_REGISTER) << VFS_A_REGISTER * index
        return found

    def _serve_vf(self, vf: Vf, was_reset: bool) -> None:
        end = self._ends[vf.number]
        if was_reset:
            self.answers.reset_event(vf)
            vf.resets += 1
        acknowledged = end.take_event(Event.ACK)
        if end.take_event(Event.MESSAGE):
            self._answer(vf)
        if acknowledged and not vf.cleared:
            self._notify(vf, [NACK])

    def _answer(self, vf: Vf) -> None:
        """Read the request, acknowledge it, write the answer."""
        end = self._ends[vf.number]
        try:
            words = end.receive(WORDS)
            end.take_s = PATIENCE_S
        except RegisterTimeout:  # the VF took the buffer back
            end.take_s = 0.0
            vf.lost += 1
            return
        reply = self._reply(vf, words)
        vf.requests += 1
        vf.refused += int(bool(reply) and bool(reply[0] & NACK))
        vf.ignored += int(not reply)
        if reply:
            self._send_reply(vf, reply)
        self._answered(vf, words, reply)

    def _reply(self, vf: Vf, words: list[int]) -> list[int]:
        return self.answers.answer(vf, words)

    def _send_reply(self, vf: Vf, reply: list[int]) -> None:
        self._send(vf, reply)

    def _answered(self, vf: Vf, words: list[int], reply: list[int]) -> None:
        """For who wants to see the conversation."""

    def _ping(self, vf: Vf) -> None:
        self._notify(vf, [CONTROL | (CTS if vf.cleared else 0)])

    def _notify(self, vf: Vf, words: list[int]) -> None:
        """Send what the VF has not asked for. If it has just asked for something, it gets its answer instead."""
        end = self._ends[vf.number]
        try:
            sent = end.notify(words)
            end.take_s = PATIENCE_S
        except RegisterTimeout:  # the VF holds the buffer
            end.take_s = 0.0
            vf.lost += 1
            return
        if not sent and end.take_event(Event.MESSAGE):
            self._answer(vf)

    def _send(self, vf: Vf, words: list[int]) -> None:
        end = self._ends[vf.number]
        try:
            end.send(words)
            end.take_s = PATIENCE_S
        except RegisterTimeout:  # the VF holds the buffer
            end.take_s = 0.0
            vf.lost += 1

    # ---- what the host sets ----

    def set_vf(
        self,
        number: int,
        *,
        mac: bytes | None = None,
        vlan: int | None = None,
        qos: int | None = None,
        trust: bool | None = None,
        spoofchk: bool | None = None,
        state: str | None = None,
        rate: int | None = None,
        min_rate: int | None = None,
        query_rss: bool | None = None,
    ) -> None:
        """Change what is named, as `ip link set PF vf N ...` does. Raises ValueError, and then nothing is changed.

        mac: the VF sees it after its next reset; six zeros: the VF chooses. vlan: 0 for none. rate: Mbit/s of each
        queue, 0 for no limit. min_rate: 0.
        """
        if not 0 <= number < len(self.vfs):
            raise ValueError(f"there is no VF {number}; choose 0 to {len(self.vfs) - 1}")
        if state is not None and state not in STATES:
            raise ValueError(f"a VF's link state is {', '.join(STATES)}, not {state!r}")
        if vlan is not None and not 0 <= vlan < 4095:
            raise ValueError(f"VLAN {vlan}: choose 0 (none) to 4094")
        if qos is not None and not 0 <= qos <= 7:
            raise ValueError(f"priority {qos}: choose 0 to 7")
        if mac is not None and (len(mac) != 6 or mac[0] & 1):
            raise ValueError(f"{mac.hex(':')} is not a unicast MAC address of 6 bytes")
        if rate is not None and not (rate == 0 or 11 <= rate <= MAX_RATE):
            raise ValueError(f"{rate} Mbit/s: choose 11 to {MAX_RATE}, or 0 for no limit")
        if min_rate:
            raise ValueError(f"at least {min_rate} Mbit/s: the 82599 limits the rate of a VF, and guarantees none")
        with self._lock:
            if rate is not None:
                self._check_limit(rate)
            vf = self.vfs[number]
            if vlan is not None or qos is not None:
                self.answers.set_port_vlan(vf, vf.vlan if vlan is None else vlan, vf.qos if qos is None else qos)
            if mac is not None:
                self.answers.set_admin_mac(vf, mac)
            if spoofchk is not None:
                self.answers.set_spoof_check(vf, spoofchk)
            if rate is not None:
                vf.rate = rate
                self._limit(vf)
            vf.query_rss = vf.query_rss if query_rss is None else query_rss
            if trust is not None and trust != vf.trust:
                vf.trust, vf.cleared = trust, False
                self._ping(vf)
            if state is not None:
                self._set_state(vf, state)

    def _set_state(self, vf: Vf, state: str) -> None:
        if state != vf.state:
            vf.state, vf.cleared = state, False
            self.answers.open_pool(vf)
            self._ping(vf)

    def _check_limit(self, rate: int) -> None:
        """Raises ValueError if no rate can be limited now."""

    def _limit(self, vf: Vf) -> None:
        links = self._regs.LINKS.read()
        self.setup.limit_rate(vf.number, vf.rate, SPEEDS_MBPS.get(links.SPEED, MAX_RATE))
