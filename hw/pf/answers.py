"""What a PF's driver answers to its virtual functions' messages, and does for them.

ASSUMPTION (datasheet not at hand): it does what Linux's ixgbe does, or DPDK's PF; the datasheet leaves it to software.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .pools import VLANS, Pools
from .words import (
    ACK,
    ARGUMENT,
    ARGUMENT_SHIFT,
    CTS,
    MOST_HASHES,
    NACK,
    REQUEST,
    Reception,
    Request,
    Version,
    mac_words,
    words_mac,
)

LINUX_API = frozenset(version.code for version in Version if version <= Version.V1_4)
DPDK_API = frozenset(version.code for version in Version if version <= Version.V1_3)
API_1_0, API_1_1, API_1_2, API_1_3 = (
    version.code for version in (Version.V1_0, Version.V1_1, Version.V1_2, Version.V1_3)
)
STATES = ("auto", "enable", "disable")
ALONE = 1514  # the longest frame, without CRC, of ports without jumbo frames
LONGEST, SHORTEST = 9728, 68
EXTRA = 16  # addresses that the PF keeps for itself


@dataclass
class Vf:
    """What the PF knows of one VF. cleared: it may send requests ("clear to send").

    Counts since the PF was started: resets, of the function or by message; requests, and those refused (NACK) or
    ignored (they were replies themselves); lost: messages and replies that found the buffer taken.
    """

    number: int
    mac: bytes = bytes(6)
    admin: bool = False
    vlan: int = 0
    qos: int = 0
    trust: bool = False
    spoofchk: bool = True
    state: str = "auto"
    rate: int = 0
    query_rss: bool = False
    api: int = API_1_0
    cleared: bool = False
    xcast: int = Reception.MULTICAST
    extra: list[bytes] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)
    in_table: bool = False  # the multicast table has groups of it, perhaps more than its last list names
    vlans: set[int] = field(default_factory=set)
    resets: int = 0
    requests: int = 0
    refused: int = 0
    ignored: int = 0
    lost: int = 0

    @property
    def link(self) -> bool:
        return self.state != "disable"


class Refused(Exception):
    """The request is answered with NACK."""


class Answers:
    """Answers requests of `vfs`. accepted: the API codes that the PF knows. linux: replies as Linux, else as DPDK."""

    def __init__(self, setup: Pools, vfs: list[Vf], accepted: frozenset[int], *, linux: bool, max_frame: int) -> None:
        self._setup, self._vfs, self._accepted, self._linux = setup, vfs, accepted, linux
        self.max_frame = max_frame

    def answer(self, vf: Vf, words: list[int]) -> list[int]:
        """The reply to a request of 16 words; [] for one that is a reply itself."""
        if words[0] & (ACK | NACK):
            return []
        if words[0] == Request.RESET:
            return self._reset(vf)
        if not vf.cleared:
            return [words[0] | NACK]
        actions: dict[int, Callable[[Vf, list[int]], int]] = {
            Request.SET_MAC: self._set_mac,
            Request.SET_MULTICAST: self._set_multicast,
            Request.SET_VLAN: self._set_vlan,
            Request.SET_LPE: self._set_longest,
            Request.SET_MACVLAN: self._set_extra_mac,
            Request.API_NEGOTIATE: self._negotiate,
            Request.GET_QUEUES: self._get_queues,
            Request.GET_RETA: self._get_reta,
            Request.GET_RSS_KEY: self._get_rss_key,
            Request.UPDATE_XCAST_MODE: self._update_xcast,
            Request.GET_LINK_STATE: self._get_link_state,
        }
        reply, verdict = list(words), ACK
        try:
            action = actions.get(words[0] & REQUEST)
            if action is None:
                raise Refused
            used = action(vf, reply)
        except Refused:
            verdict, used = NACK, 1
        reply[0] |= verdict | CTS
        return reply if self._linux else reply[: max(used, 1)]

    # ---- reset ----

    def restart(self, vf: Vf) -> None:
        """The PF itself was reset: nothing is left of the VF's filters, and it has to reset itself."""
        vf.cleared = False
        vf.hashes.clear()
        self.reset_event(vf)
        self.set_spoof_check(vf, vf.spoofchk)

    def reset_event(self, vf: Vf) -> None:
        """The VF was reset, by itself or from outside: its filters go, what the administrator set stays."""
        setup, number = self._setup, vf.number
        for vlan in vf.vlans:
            setup.set_vlan(vlan, number, False)
        vf.vlans = {vf.vlan}
        setup.set_vlan(vf.vlan, number, True)
        setup.regs.PFVML2FLT[number].write(BAM=1, AUPE=int(not vf.vlan))
        setup.insert_tag(number, vf.vlan | vf.qos << 13)
        if (vf.vlan or vf.qos) and vf.spoofchk:
            setup.check_source(number, True)
        vf.xcast = Reception.NONE
        if vf.in_table:  # else the next user of the VF receives the groups of the last one
            vf.in_table = False
            vf.hashes.clear()
            setup.keep_hashes(value for each in self._vfs for value in each.hashes)
        vf.extra.clear()
        setup.remove_addresses(number)
        vf.api = API_1_0

    def _reset(self, vf: Vf) -> list[int]:
        setup, number = self._setup, vf.number
        vf.resets += 1
        self.reset_event(vf)
        for i in range(16):
            setup.regs.PFMBMEM[16 * number + i].write(0)
        known = any(vf.mac) and (vf.admin or not self._linux)
        if any(vf.mac):
            setup.add_address(vf.mac, number)
        setup.drop_without_descriptor(number)
        self.open_pool(vf)
        vf.cleared = True
        setup.count_spoofed(number)
        setup.clear_write_back(number)
        mac = vf.mac if known else bytes(6)
        return [Request.RESET | (ACK if known else NACK), *mac_words(mac), setup.regs.MCSTCTRL.read().MO]

    def open_pool(self, vf: Vf) -> None:
        """Or close it, if the host has switched the link off.

        82599: PF and VFs with different frame lengths do not mix; with a PF that has long frames, SET_LPE opens
        reception later.
        """
        self._setup.set_pool(vf.number, transmit=vf.link, receive=vf.link and not self._jumbo)

    @property
    def _jumbo(self) -> bool:
        return self.max_frame - 4 > ALONE

    # ---- requests ----

    def _set_mac(self, vf: Vf, words: list[int]) -> int:
        mac = mac_in(words)
        if not is_unicast(mac) or (vf.admin and not vf.trust and mac != vf.mac):
            raise Refused
        self._setup.remove_addresses(vf.number, vf.mac)
        vf.mac = mac if self._setup.add_address(mac, vf.number) else bytes(6)
        if not any(vf.mac):
            raise Refused
        return 1

    def _set_multicast(self, vf: Vf, words: list[int]) -> int:
        count = min(argument_of(words), MOST_HASHES)
        vf.hashes = [words[1 + i // 2] >> 16 * (i % 2) & 0xFFF for i in range(count)]
        vf.in_table = vf.in_table or bool(vf.hashes)
        for value in vf.hashes:
            self._setup.add_hash(value)
        self._setup.accept(vf.number, ROMPE=1)
        return 1

    def _set_vlan(self, vf: Vf, words: list[int]) -> int:
        add, vlan = bool(argument_of(words)), words[1] & 0xFFF
        if vf.vlan:
            raise Refused
        if not vlan and not add:
            return 1
        if not self._setup.set_vlan(vlan, vf.number, add):
            raise Refused
        (vf.vlans.add if add else vf.vlans.discard)(vlan)
        return 1

    def _set_longest(self, vf: Vf, words: list[int]) -> int:
        longest = words[1]
        if not SHORTEST <= longest <= LONGEST:
            raise Refused
        fits = self._jumbo if vf.api >= API_1_1 else False
        allowed = fits or (not self._jumbo and longest <= ALONE + 4)
        self._setup.set_pool(vf.number, receive=allowed and vf.link)
        if not allowed:
            raise Refused
        if self._setup.regs.MAXFRS.read().MFS < longest:
            self._setup.regs.MAXFRS.write(MFS=longest)
        return 1

    def _set_extra_mac(self, vf: Vf, words: list[int]) -> int:
        index, mac = argument_of(words), mac_in(words)
        if index and ((vf.admin and not vf.trust) or not is_unicast(mac)):
            raise Refused
        if index:
            # The filters no longer say what the VF may send. The setting stays: the check is on again after a reset of
            # the PF, or of a VF with a port VLAN.
            self._setup.check_source(vf.number, False)
        if index <= 1:
            if others := [each for each in vf.extra if each != vf.mac]:
                self._setup.remove_addresses(vf.number, *others)
            vf.extra.clear()
        if index:
            room = 128 - (EXTRA + len(self._vfs))
            if sum(len(each.extra) for each in self._vfs) >= room:
                raise Refused
            if mac != vf.mac and not self._setup.add_address(mac, vf.number):
                raise Refused
            vf.extra.append(mac)
        return 1

    def _negotiate(self, vf: Vf, words: list[int]) -> int:
        if words[1] not in self._accepted:
            raise Refused
        vf.api = words[1]
        return 1

    def _get_queues(self, vf: Vf, words: list[int]) -> int:
        self._needs(vf, API_1_1)
        words[1] = words[2] = self._setup.queues
        words[3], words[4] = int(bool(vf.vlan or vf.qos)), 0
        return 5

    def _get_reta(self, vf: Vf, words: list[int]) -> int:
        self._needs(vf, API_1_2)
        if not vf.query_rss:
            raise Refused
        entries = [self._setup.regs.RETA[i // 4].read() >> 8 * (i % 4) & 0x3 for i in range(128)]
        for word in range(8):
            words[1 + word] = sum(entry << 2 * i for i, entry in enumerate(entries[16 * word : 16 * word + 16]))
        return 9

    def _get_rss_key(self, vf: Vf, words: list[int]) -> int:
        self._needs(vf, API_1_2)
        if not vf.query_rss:
            raise Refused
        words[1:11] = [int(register.read()) for register in self._setup.regs.RSSRK]
        return 11

    def _update_xcast(self, vf: Vf, words: list[int]) -> int:
        self._needs(vf, API_1_2)
        mode = words[1]
        if mode > Reception.PROMISCUOUS or (mode == Reception.PROMISCUOUS and vf.api < API_1_3):
            raise Refused
        if mode > Reception.MULTICAST and not vf.trust:
            mode = Reception.MULTICAST
        if mode == Reception.PROMISCUOUS:
            raise Refused  # the 82599 has no promiscuous pools
        self._setup.accept(
            vf.number,
            BAM=int(mode > Reception.NONE),
            ROMPE=int(mode > Reception.NONE),
            MPE=int(mode == Reception.ALL_MULTICAST),
        )
        vf.xcast = words[1] = mode
        return 2

    def _get_link_state(self, vf: Vf, words: list[int]) -> int:
        self._needs(vf, API_1_2)
        words[1] = int(vf.link)
        return 2

    @staticmethod
    def _needs(vf: Vf, api: int) -> None:
        if vf.api < api:
            raise Refused

    # ---- the administrator ----

    def set_admin_mac(self, vf: Vf, mac: bytes) -> None:
        self._setup.remove_addresses(vf.number, vf.mac)
        vf.mac, vf.admin = mac, any(mac)
        if vf.admin:
            self._setup.add_address(mac, vf.number)

    def set_port_vlan(self, vf: Vf, vlan: int, qos: int) -> None:
        """All frames of the VF are in this VLAN, and the VF cannot choose; 0: no port VLAN. Raises ValueError."""
        setup = self._setup
        if not setup.set_vlan(vlan, vf.number, True):
            raise ValueError(
                f"VLAN {vlan}: PF and VFs have taken all {VLANS} VLAN filters of the NIC. Ask for fewer VLANs in one "
                "of them"
            )
        for each in (vf.vlans | {vf.vlan}) - {vlan}:
            setup.set_vlan(each, vf.number, False)
        vf.vlan, vf.qos, vf.vlans = vlan, qos, {vlan}
        setup.insert_tag(vf.number, vlan | qos << 13)
        setup.accept(vf.number, AUPE=int(not vlan))
        self.set_spoof_check(vf, vf.spoofchk)

    def set_spoof_check(self, vf: Vf, on: bool) -> None:
        vf.spoofchk = on
        self._setup.check_source(vf.number, on)


def mac_in(words: list[int]) -> bytes:
    return words_mac(words[1], words[2])


def argument_of(words: list[int]) -> int:
    return words[0] >> ARGUMENT_SHIFT & ARGUMENT


def is_unicast(mac: bytes) -> bool:
    return any(mac) and not mac[0] & 1
