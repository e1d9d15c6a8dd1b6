"""The mailbox messages of virtual functions, and what a PF's driver answers and does (its software interface: no
datasheet has it; the numbers are those of Linux's and DPDK's drivers)."""

from __future__ import annotations

from dataclasses import dataclass, field

from .pf_setup import PfSetup

ACK, NACK, CTS = 0x8000_0000, 0x4000_0000, 0x2000_0000
RESET, SET_MAC, SET_MULTICAST, SET_VLAN, SET_LPE, SET_MACVLAN = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
NEGOTIATE, GET_QUEUES, GET_RETA, GET_RSS_KEY, UPDATE_XCAST, GET_LINK_STATE = 0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x10
PF_CONTROL = 0x0100
API_1_0, API_1_1, API_1_2, API_1_3, API_1_4 = 0, 2, 3, 4, 5  # 1 is 2.0, of another system
LINUX_API = frozenset({API_1_0, API_1_1, API_1_2, API_1_3, API_1_4})
DPDK_API = frozenset({API_1_0, API_1_1, API_1_2, API_1_3})
XCAST_NONE, XCAST_MULTI, XCAST_ALL_MULTI, XCAST_PROMISC = range(4)
ALONE = 1514  # the longest frame, without CRC, of ports without jumbo frames
LONGEST, SHORTEST = 9728, 68
HASHES = 30  # multicast addresses in one message
EXTRA = 16  # addresses that the PF keeps for itself


@dataclass
class Vf:
    """What the PF knows of one VF. cleared: it may send requests ("clear to send")."""

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
    xcast: int = XCAST_MULTI
    extra: list[bytes] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)
    vlans: set[int] = field(default_factory=set)

    @property
    def link(self) -> bool:
        return self.state != "disable"


class Refused(Exception):
    """The request is answered with NACK."""


class Answers:
    """Answers requests of `vfs`. accepted: the API codes that the PF knows. linux: replies as Linux, else as DPDK."""

    def __init__(self, setup: PfSetup, vfs: list[Vf], accepted: frozenset[int], *, linux: bool, max_frame: int) -> None:
        self._setup, self._vfs, self._accepted, self._linux = setup, vfs, accepted, linux
        self.max_frame = max_frame

    def answer(self, vf: Vf, words: list[int]) -> list[int]:
        """The reply to a request of 16 words; [] for one that is a reply itself."""
        if words[0] & (ACK | NACK):
            return []
        if words[0] == RESET:
            return self._reset(vf)
        if not vf.cleared:
            return [words[0] | NACK]
        actions = {
            SET_MAC: self._set_mac,
            SET_MULTICAST: self._set_multicast,
            SET_VLAN: self._set_vlan,
            SET_LPE: self._set_longest,
            SET_MACVLAN: self._set_extra_mac,
            NEGOTIATE: self._negotiate,
            GET_QUEUES: self._get_queues,
            GET_RETA: self._get_reta,
            GET_RSS_KEY: self._get_rss_key,
            UPDATE_XCAST: self._update_xcast,
            GET_LINK_STATE: self._get_link_state,
        }
        reply, verdict = list(words), ACK
        try:
            action = actions.get(words[0] & 0xFFFF)
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

    def reset_event(self, vf: Vf) -> None:
        """The VF was reset, by itself or from outside: its filters go, what the administrator set stays."""
        setup, number = self._setup, vf.number
        for vlan in vf.vlans:
            setup.set_vlan(vlan, number, False)
        vf.vlans = {vf.vlan}
        setup.set_vlan(vf.vlan, number, True)
        setup.regs.PFVML2FLT[number].write(BAM=1, AUPE=int(not vf.vlan))
        setup.insert_tag(number, vf.vlan | vf.qos << 13)
        self.set_spoof_check(vf, vf.spoofchk)
        vf.xcast = XCAST_NONE
        vf.hashes.clear()
        vf.extra.clear()
        setup.remove_addresses(number)
        vf.api = API_1_0

    def _reset(self, vf: Vf) -> list[int]:
        setup, number = self._setup, vf.number
        self.reset_event(vf)
        for i in range(16):
            setup.regs.PFMBMEM[16 * number + i].write(0)
        known = any(vf.mac) and (vf.admin or not self._linux)
        if any(vf.mac):
            setup.add_address(vf.mac, number)
        setup.drop_without_descriptor(number)
        # 82599: PF and VFs with different frame lengths do not mix; SET_LPE opens the pool later
        setup.set_pool(number, transmit=vf.link, receive=vf.link and not self._jumbo)
        vf.cleared = True
        setup.count_spoofed(number)
        setup.clear_write_back(number)
        mac = vf.mac if known else bytes(6)
        low, high = int.from_bytes(mac[:4], "little"), int.from_bytes(mac[4:], "little")
        return [RESET | (ACK if known else NACK), low, high, setup.regs.MCSTCTRL.read().MO]

    @property
    def _jumbo(self) -> bool:
        return self.max_frame - 4 > ALONE

    # ---- requests ----

    def _set_mac(self, vf: Vf, words: list[int]) -> int:
        mac = mac_in(words)
        if not is_unicast(mac) or (vf.admin and not vf.trust and mac != vf.mac):
            raise Refused
        self._setup.remove_addresses(vf.number, vf.mac)
        vf.mac = mac
        if not self._setup.add_address(mac, vf.number):
            raise Refused
        return 1

    def _set_multicast(self, vf: Vf, words: list[int]) -> int:
        count = min(words[0] >> 16 & 0xFF, HASHES)
        vf.hashes = [words[1 + i // 2] >> 16 * (i % 2) & 0xFFF for i in range(count)]
        for value in vf.hashes:
            self._setup.add_hash(value)
        self._setup.accept(vf.number, ROMPE=1)
        return 1

    def _set_vlan(self, vf: Vf, words: list[int]) -> int:
        add, vlan = bool(words[0] >> 16 & 0xFF), words[1] & 0xFFF
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
        index, mac = words[0] >> 16 & 0xFF, mac_in(words)
        if index and ((vf.admin and not vf.trust) or not is_unicast(mac)):
            raise Refused
        if index and vf.spoofchk:
            self.set_spoof_check(vf, False)  # the address filters no longer say what the VF may send
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
        if mode > XCAST_PROMISC or (mode == XCAST_PROMISC and vf.api < API_1_3):
            raise Refused
        if mode > XCAST_MULTI and not vf.trust:
            mode = XCAST_MULTI
        if mode == XCAST_PROMISC:
            raise Refused  # the 82599 has no promiscuous pools
        self._setup.accept(
            vf.number, BAM=int(mode > XCAST_NONE), ROMPE=int(mode > XCAST_NONE), MPE=int(mode == XCAST_ALL_MULTI)
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
        """All frames of the VF are in this VLAN, and the VF cannot choose; 0: no port VLAN."""
        setup = self._setup
        for each in vf.vlans | {vf.vlan}:
            setup.set_vlan(each, vf.number, False)
        vf.vlan, vf.qos, vf.vlans = vlan, qos, {vlan}
        setup.set_vlan(vlan, vf.number, True)
        setup.insert_tag(vf.number, vlan | qos << 13)
        setup.accept(vf.number, AUPE=int(not vlan))
        self.set_spoof_check(vf, vf.spoofchk)

    def set_spoof_check(self, vf: Vf, on: bool) -> None:
        vf.spoofchk = on
        self._setup.check_source(vf.number, address=on, vlan=on and bool(vf.vlan))


def mac_in(words: list[int]) -> bytes:
    return words[1].to_bytes(4, "little") + (words[2] & 0xFFFF).to_bytes(2, "little")


def is_unicast(mac: bytes) -> bool:
    return any(mac) and not mac[0] & 1
