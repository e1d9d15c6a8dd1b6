"""What a virtual function asks its PF by mailbox, and what the PF answers: the messages, word by word.

Word 0 has the number of the request, a small argument in bits 23:16, and in an answer ACK or NACK and CTS ("clear to
send": the PF has served RESET, and has not withdrawn it since). The versions of the messages have odd numbers, in the
order in which they were invented.

ASSUMPTION (datasheet not at hand): the messages are those of the public drivers; the datasheet leaves them to software.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ixrings.hw.errors import DeviceError
from ixrings.hw.pf.mailbox import Event, VfEnd
from ixrings.hw.pf.words import (
    ACK,
    ARGUMENT_SHIFT,
    CONTROL,
    CTS,
    MOST_HASHES,
    NACK,
    REQUEST,
    SINCE,
    Reception,
    Request,
    Version,
    mac_words,
    words_mac,
)
from ixrings.hw.registers import VF_QUEUES

from .errors import PfNotReady, RequestRefused

ANSWER_S = 1.0  # public drivers wait 2000 times 500 us
MOST_MESSAGES = 16  # that a PF sends before it answers
WITH_CTS = {0, CONTROL, *Request} - {Request.RESET}  # 0: a PF that wants RESET refuses an acknowledgement so
RESET_SETTLES_S = 0.010  # the PF clears the mailbox before it answers RESET


@dataclass(frozen=True)
class Host:
    """The VF as the PF's machine names it, for commands. interface, number: "PF" and "N" if they are not known."""

    interface: str = "PF"
    number: str = "N"

    def command(self, change: str) -> str:
        """`ip link set eth0 mtu 9000`, and where to type it."""
        return self._typed(f"ip link set {self.interface} {change}")

    def vf_command(self, change: str) -> str:
        """`ip link set eth0 vf 0 trust on`, and where to type it."""
        return self._typed(f"ip link set {self.interface} vf {self.number} {change}")

    def _typed(self, line: str) -> str:
        known = self.interface != "PF"
        where = "Run" if known else "On the host, with the PF's interface and this VF's number, run"
        return f"{where}: {line}"


@dataclass(frozen=True)
class Refusal:
    """Why a PF refuses a request, as far as is known.

    remedy: the end of `ip link set eth0 vf 0 ...`, or without of_vf of `ip link set eth0 ...`; "" if there is none.
    """

    why: str
    remedy: str
    of_vf: bool = True


REFUSALS = {
    Request.SET_MAC: Refusal("the host has set this VF's address and does not trust it with another one", "trust on"),
    Request.SET_MULTICAST: Refusal("it cannot set the filter", ""),
    Request.SET_VLAN: Refusal("the host has put this VF into a VLAN, or the NIC's VLAN filters are used up",
                              "vlan 0"),
    Request.SET_LPE: Refusal("the frame is longer than the PF's own, or the PF has long frames and this VF API 1.0",
                             "mtu {mtu}", of_vf=False),
    Request.SET_MACVLAN: Refusal("the host has set this VF's address and does not trust it with others, or the NIC's "
                                 "128 addresses are used up", "trust on"),
    Request.GET_RETA: Refusal("RETA belongs to the PF, and the host does not show it to this VF", "query_rss on"),
    Request.GET_RSS_KEY: Refusal("the RSS key belongs to the PF, and the host does not show it to this VF",
                                 "query_rss on"),
    Request.UPDATE_XCAST_MODE: Refusal("the host does not trust this VF with it", "trust on"),
}  # fmt: skip


@dataclass(frozen=True)
class Granted:
    """What GET_QUEUES answers. vlan: the PF puts frames of this VF into a VLAN, or into traffic classes."""

    tx_queues: int
    rx_queues: int
    vlan: bool = False


class Requests:
    """The VF's side of the conversation. Several threads may ask; each request has its answer before the next one.

    version: negotiated. cleared: whether the last message of the PF had CTS; without it the PF wants a reset. A request
    without an answer changes nothing: frames go on, and the next request may be answered.
    mc_filter_type: the 12 bits of a group's address that the PF's filter looks at (MCSTCTRL.MO).
    """

    def __init__(self, mailbox: VfEnd, host: Host) -> None:
        self.mailbox, self.host = mailbox, host
        self.version = Version.V1_0
        self.cleared = False
        self.mc_filter_type = 0
        self._lock = threading.RLock()

    # ---- one request ----

    def ask(self, request: Request, *words: int, argument: int = 0, answer: int = 1, mtu: int = 0) -> list[int]:
        """Send a request and return the first `answer` words of the reply.

        Raises RequestRefused (NACK), PfNotReady (no reply), DeviceError (the buffer is not free).
        """
        since = SINCE.get(request, Version.V1_0)
        if self.version < since:
            raise RequestRefused(
                request.name,
                f"the PF speaks version {self.version} of the mailbox messages, and {request.name} needs {since}. Use "
                "a newer PF driver on the host",
            )
        with self._lock:
            reply = self._exchange([request | argument << ARGUMENT_SHIFT, *words], answer)
        if reply[0] & NACK or not reply[0] & ACK:
            raise self._refused(request, mtu)
        return reply

    def _exchange(self, words: Sequence[int], count: int) -> list[int]:
        """One request and its reply. If a message of the PF may have overwritten the reply, the request is repeated."""
        request = words[0] & REQUEST
        other = None
        for _ in range(2):
            self.mailbox.send(words)
            if request == Request.RESET:
                time.sleep(RESET_SETTLES_S)
            came = False
            for reply in self._messages(count, lambda: self.mailbox.pf_in_reset):
                self._see(reply[0])
                if reply[0] & REQUEST == request and reply[0] & (ACK | NACK):
                    return reply
                if reply[0] == NACK and request != Request.RESET:  # the PF refuses to be spoken to before RESET
                    return reply
                came, other = True, reply[0]
            if not came or request == Request.SET_MACVLAN:  # a repeated MACVLAN would take a second filter
                break
        raise PfNotReady(self._no_answer(Request(request), other))

    def _see(self, word: int) -> None:
        """A message says by CTS whether the PF serves this VF. The answer to RESET never has it."""
        if word & REQUEST in WITH_CTS:
            self.cleared = bool(word & CTS)

    def _no_answer(self, request: Request, other: int | None) -> str:
        """other: word 0 of the last message that came instead."""
        if self.mailbox.pf_in_reset:
            return self.in_reset()
        if other is not None and other & REQUEST not in (CONTROL, 0):
            return (
                f"the PF answered {request.name} with a message that does not belong to it: VFMBMEM[0] was "
                f"{other:#010x}. Its driver on the host is broken"
            )
        return (
            f"the PF did not answer {request.name} in {ANSWER_S:g} s. Is its driver loaded? {self.host.command('up')}"
        )

    def _messages(self, count: int, until: Callable[[], bool] = lambda: False) -> Iterator[list[int]]:
        """The first `count` words of each message that comes in ANSWER_S, until `until()` is true."""
        end = time.monotonic() + ANSWER_S
        for _ in range(MOST_MESSAGES):
            if not self.mailbox.wait_for(Event.MESSAGE, end - time.monotonic(), until):
                return
            yield self.mailbox.receive(count)

    def _refused(self, request: Request, mtu: int) -> RequestRefused:
        if not self.cleared:
            return RequestRefused(
                request.name,
                f"the PF refused {request.name}, because it wants this VF to be reset first. The port does that at its "
                "next wait",
            )
        refusal = REFUSALS.get(request)
        if refusal is None:
            return RequestRefused(request.name, f"the PF refused {request.name}: it does not know this request")
        text = f"the PF refused {request.name}: it does so if {refusal.why}"
        if refusal.remedy:
            change = refusal.remedy.format(mtu=mtu)
            text += f". {self.host.vf_command(change) if refusal.of_vf else self.host.command(change)}"
        return RequestRefused(request.name, text)

    def in_reset(self) -> str:
        """The sentence for a PF that is in reset."""
        return f"the PF is in reset, or its interface is down (VFMAILBOX.RSTI). {self.host.command('up')}"

    # ---- the start ----

    def reset(self) -> bytes | None:
        """RESET: the PF forgets this VF's filters and serves it. Returns the address that the host chose, if any.

        Linux refuses RESET if no address was chosen, and serves the VF nevertheless.
        """
        with self._lock:
            self.version, self.mailbox.keeps_turn, self.cleared = Version.V1_0, False, False
            reply, low, high, filter_type = self._exchange([Request.RESET], 4)
            self.mc_filter_type = filter_type & 3
            self.cleared = True
        mac = words_mac(low, high)
        return mac if reply & ACK and any(mac) and not mac[0] & 1 else None

    def negotiate(self) -> Version:
        """Agree on the highest version that the PF accepts, from 1.5 downwards. 1.0 needs no consent."""
        for version in sorted(Version, reverse=True):
            try:
                self.ask(Request.API_NEGOTIATE, version.code)
            except RequestRefused:
                if not self.cleared:
                    raise PfNotReady(
                        "the PF answered RESET, and wants this VF to be reset again before it serves it (its answer to "
                        "API_NEGOTIATE lacks CTS)"
                    ) from None
                continue
            break
        else:
            version = Version.V1_0
        self.version = version
        self.mailbox.keeps_turn = version is Version.V1_5
        return version

    def queues(self) -> Granted:
        """How many queues the PF grants: one each way, which every VF has, if it does not say it or says 0."""
        if self.version < SINCE[Request.GET_QUEUES]:
            return Granted(1, 1)
        try:
            _, tx, rx, vlan, _ = self.ask(Request.GET_QUEUES, 0, 0, 0, 0, answer=5)
        except RequestRefused:
            if not self.cleared:
                raise
            return Granted(1, 1)
        return Granted(max(1, min(tx, VF_QUEUES)), max(1, min(rx, VF_QUEUES)), bool(vlan))

    # ---- filters ----

    def set_mac(self, address: bytes) -> None:
        """Replace the VF's own address."""
        self.ask(Request.SET_MAC, *mac_words(address))

    def set_multicast(self, groups: Iterable[bytes]) -> None:
        """Receive these groups, at most MOST_HASHES different hashes, instead of the previous ones."""
        hashes = sorted({multicast_hash(group, self.mc_filter_type) for group in groups})
        if len(hashes) > MOST_HASHES:
            raise ValueError(
                f"a VF can ask for {MOST_HASHES} multicast groups, not {len(hashes)}. Receive all groups with "
                "set_multicast((), everything=True)"
            )
        pairs = [*hashes, 0]
        words = [pairs[at] | pairs[at + 1] << 16 for at in range(0, len(hashes), 2)]
        self.ask(Request.SET_MULTICAST, *words, argument=len(hashes))

    def receive_multicast(self, mode: Reception) -> None:
        """UPDATE_XCAST_MODE. Raises RequestRefused, also if the PF allows less than `mode`."""
        try:
            _, allowed = self.ask(Request.UPDATE_XCAST_MODE, mode, answer=2)
        except RequestRefused:
            if mode is Reception.ALL_MULTICAST or not (self.cleared or self.version < SINCE[Request.UPDATE_XCAST_MODE]):
                raise
            return  # such a PF receives the groups of SET_MULTICAST, and nothing else
        if allowed < mode:
            raise self._refused(Request.UPDATE_XCAST_MODE, 0)

    def set_vlan(self, vlan: int, *, receive: bool) -> None:
        self.ask(Request.SET_VLAN, vlan, argument=int(receive))

    def set_addresses(self, addresses: Sequence[bytes]) -> None:
        """Receive these unicast addresses besides the VF's own, instead of the previous ones."""
        if not addresses:
            self.ask(Request.SET_MACVLAN, 0, 0, argument=0)
        for number, address in enumerate(addresses, 1):
            self.ask(Request.SET_MACVLAN, *mac_words(address), argument=number)

    def set_longest_frame(self, size: int, mtu: int) -> None:
        """SET_LPE: receive frames of up to `size` bytes, CRC included. A PF opens reception only after it."""
        self.ask(Request.SET_LPE, size, mtu=mtu)

    # ---- what the PF knows ----

    def link_enabled(self) -> bool:
        """Whether the host lets this VF have a link (`ip link set eth0 vf 0 state ...`)."""
        if self.version < SINCE[Request.GET_LINK_STATE]:
            return True
        try:
            return bool(self.ask(Request.GET_LINK_STATE, answer=2)[1])
        except RequestRefused:
            if not self.cleared:
                raise
            return True  # a PF that does not know the request cannot switch the link off

    def redirection_table(self) -> list[int]:
        """The PF's RETA as it applies to this VF: 128 numbers of queues."""
        words = self.ask(Request.GET_RETA, answer=9)[1:]
        return [word >> shift & 3 for word in words for shift in range(0, 32, 2)]

    def rss_key(self) -> bytes:
        words = self.ask(Request.GET_RSS_KEY, answer=11)[1:]
        return b"".join(word.to_bytes(4, "little") for word in words)

    # ---- messages of the PF ----

    def needs_reset(self) -> bool:
        """Whether this VF has to be reset before the PF serves it again. Reads a message that the PF sent by itself.

        It looks at the mailbox once: with vfio-user, each look is a message.
        """
        with self._lock:
            in_reset = self.mailbox.pf_in_reset
            was_reset = self.mailbox.take_seen(Event.RESET)
            if self.mailbox.take_seen(Event.MESSAGE):
                try:
                    self._see(self.mailbox.receive(1)[0])
                except DeviceError:  # the PF keeps the buffer: it is in reset, or writes the next message
                    self.cleared = False
            if in_reset or was_reset:
                self.cleared = False
            return not self.cleared


def multicast_hash(group: bytes, filter_type: int) -> int:
    """The 12 bits of an address that the filter looks at: from bit 36, 35, 34 or 32 on (8.2.3.7.3)."""
    return (group[4] | group[5] << 8) >> (4, 3, 2, 0)[filter_type] & 0xFFF
