"""The mailbox between a virtual function and its PF: both ends, on a board that has only the mailbox's registers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from ixrings.driver import errors
from ixrings.driver.vf_requests import Host, Requests, multicast_hash
from ixrings.hw.errors import RegisterTimeout
from ixrings.hw.pf.mailbox import Event, PfEnd, VfEnd
from ixrings.hw.pf.words import ACK, CONTROL, CTS, NACK, Reception, Request, Version
from ixrings.hw.registers import Registers, VfRegisters

REQ, ACKED, VFU, PFU, PFSTS, PFACK, RSTI, RSTD = (1 << bit for bit in range(8))
MAC = bytes.fromhex("020304050607")
HOST = Host("eth0", "3")
VF = 17  # its causes are in PFMBICR[1]


class Board:
    """VFMAILBOX, PFMAILBOX[17], PFMBICR[1] and the sixteen words, as 82599 8.2.3.27 and 8.3.5.1.5 have them."""

    def __init__(self) -> None:
        self.bits, self.causes, self.words = 0, 0, [0] * 16
        self.lock = threading.Lock()

    def vf_read(self) -> int:
        value = self.bits & (VFU | PFU | PFSTS | PFACK | RSTI | RSTD)
        self.bits &= ~(PFSTS | PFACK | RSTD)
        return value

    def vf_write(self, value: int) -> None:
        wants, has_other = value & VFU, self.bits & PFU
        self.bits = self.bits & ~VFU | (VFU if wants and not has_other else 0)
        self.causes |= (1 << VF - 16 if value & REQ else 0) | (1 << VF if value & ACKED else 0)

    def pf_write(self, value: int) -> None:
        if value & 1 << 4:
            self.bits &= ~VFU
            self.causes = 0
        wants, has_other = value & PFU, self.bits & VFU
        self.bits = self.bits & ~PFU | (PFU if wants and not has_other else 0)
        self.bits |= (PFSTS if value & REQ else 0) | (PFACK if value & ACKED else 0)


@dataclass
class Side:
    """One function's view of the board."""

    board: Board
    pf: bool

    def read32(self, offset: int, /) -> int:
        board = self.board
        with board.lock:
            if not self.pf:
                at = (offset - 0x200) // 4
                return 0 if offset == 8 else board.vf_read() if offset == 0x2FC else board.words[at]
            if offset == 0x4B00 + 4 * VF:
                return board.bits & (VFU | PFU)
            return board.causes if offset == 0x714 else board.words[(offset - 0x13000) // 4 - 16 * VF]

    def write32(self, offset: int, value: int, /) -> None:
        board = self.board
        with board.lock:
            if offset == (0x4B00 + 4 * VF if self.pf else 0x2FC):
                (board.pf_write if self.pf else board.vf_write)(value)
            elif offset == 0x714 and self.pf:
                board.causes &= ~value
            else:
                board.words[(offset - (0x13000 + 64 * VF if self.pf else 0x200)) // 4] = value


@dataclass
class Pf:
    """A PF driver that answers. admin_mac: the host has set an address. newest: version it accepts. dpdk: its manners.

    control: messages that it sends by itself before its next answer. silent: requests that it does not answer.
    """

    end: PfEnd
    newest: Version = Version.V1_4
    admin_mac: bytes = b""
    dpdk: bool = False
    trusted: bool = False
    served: bool = False
    control: list[int] = field(default_factory=list)
    silent: set[int] = field(default_factory=set)
    asked: list[list[int]] = field(default_factory=list)

    def serve(self, ended: threading.Event) -> None:
        while not ended.is_set():
            if self.end.wait_for(Event.MESSAGE, 0.05, ended.is_set):
                request = self.end.receive(16)
                self.asked.append(request)
                if request[0] & 0xFFFF not in self.silent:
                    answer = self.answer(request)
                    for word in self.control:
                        self.end.send([word])
                        assert self.end.wait_for(Event.ACK, 20)
                    self.control = []
                    self.end.send(answer)

    def answer(self, request: list[int]) -> list[int]:
        word, argument = request[0], request[1]
        kind = word & 0xFFFF
        if kind == Request.RESET:
            self.served = True
            mac = self.admin_mac or (bytes(6) if not self.dpdk else MAC)
            low, high = int.from_bytes(mac[:4], "little"), int.from_bytes(mac[4:], "little")
            return [word | (ACK if self.admin_mac or self.dpdk else NACK), low, high, 2]
        if not self.served:
            return [word | NACK]
        yes, no = word | ACK | CTS, word | NACK | CTS
        match kind:
            case Request.API_NEGOTIATE:
                return [yes if argument <= self.newest.code else no]
            case Request.GET_QUEUES:
                return [yes, 4, 2, 0, 0]
            case Request.SET_MAC if self.admin_mac and not self.trusted:
                return [no]
            case Request.SET_LPE:
                return [yes if argument <= 1518 else no]
            case Request.UPDATE_XCAST_MODE:
                return [yes, argument if self.trusted else min(argument, 1)]
            case Request.GET_LINK_STATE if self.dpdk:
                return [no]
            case Request.GET_LINK_STATE:
                return [yes, 1]
            case Request.GET_RETA | Request.GET_RSS_KEY:
                return [no]
        return [yes]


@contextmanager
def conversation(**manners: object) -> Iterator[tuple[Requests, Pf]]:
    board, ended = Board(), threading.Event()
    pf = Pf(PfEnd(Registers(Side(board, True)), VF), **manners)  # type: ignore[arg-type]
    thread = threading.Thread(target=pf.serve, args=(ended,))
    thread.start()
    try:
        yield Requests(VfEnd(VfRegisters(Side(board, False))), HOST), pf
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("newest", list(Version))
def test_the_version_is_the_highest_that_the_pf_accepts(newest: Version) -> None:
    with conversation(newest=newest) as (vf, pf):
        assert vf.reset() is None and vf.cleared
        assert vf.negotiate() is newest
        if newest is Version.V1_5:
            pf.end.keeps_turn = True
        granted = vf.queues()
        assert (granted.tx_queues, granted.rx_queues) == ((4, 2) if newest > Version.V1_0 else (1, 1))
        assert vf.link_enabled()


def test_the_address_that_the_host_chose_comes_with_reset_and_needs_trust_to_be_changed() -> None:
    with conversation(admin_mac=MAC) as (vf, pf):
        assert vf.reset() == MAC and vf.mc_filter_type == 2
        vf.negotiate()
        with pytest.raises(
            errors.RequestRefused, match="refused SET_MAC: .* Run: ip link set eth0 vf 3 trust on"
        ) as no:
            vf.set_mac(bytes.fromhex("020000000001"))
        assert no.value.request == "SET_MAC"
        pf.trusted = True
        vf.set_mac(bytes.fromhex("020000000001"))
        assert pf.asked[-1][:3] == [2, 0x00000002, 0x0100]


def test_the_pf_of_dpdk_gives_an_address_and_does_not_know_of_link_states() -> None:
    with conversation(dpdk=True, newest=Version.V1_3) as (vf, _):
        assert vf.reset() == MAC
        assert vf.negotiate() is Version.V1_3
        assert vf.link_enabled()


def test_filters_are_words_of_a_message() -> None:
    with conversation() as (vf, pf):
        vf.reset()
        vf.negotiate()
        pf.asked.clear()
        vf.set_vlan(7, receive=True)
        vf.set_vlan(7, receive=False)
        vf.set_multicast([bytes.fromhex("01005e0000fb"), bytes.fromhex("333300000001"), bytes.fromhex("01005e0000fb")])
        vf.set_addresses([MAC])
        vf.set_addresses([])
        vf.set_longest_frame(1518, 1500)
        vf.receive_multicast(Reception.MULTICAST)
        assert [words[:2] for words in pf.asked] == [
            [0x1_0004, 7], [0x4, 7], [0x2_0003, 0xEC0 << 16 | 0x040], [0x1_0006, 0x05040302], [0x6, 0], [5, 1518],
            [12, 1],
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("ask", "command"),
    [
        (lambda vf: vf.set_longest_frame(9018, 9000), "SET_LPE: .*Run: ip link set eth0 mtu 9000"),
        (lambda vf: vf.receive_multicast(Reception.ALL_MULTICAST), "XCAST_MODE: .*ip link set eth0 vf 3 trust on"),
        (lambda vf: vf.rss_key(), "GET_RSS_KEY: .*ip link set eth0 vf 3 query_rss on"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_request_and_the_command_that_helps(ask: object, command: str) -> None:
    with conversation() as (vf, _):
        vf.reset()
        vf.negotiate()
        with pytest.raises(errors.RequestRefused, match=command):
            ask(vf)  # type: ignore[operator]


def test_a_version_without_a_request_is_named_and_nothing_is_sent() -> None:
    with conversation(newest=Version.V1_0) as (vf, pf):
        vf.reset()
        vf.negotiate()
        count = len(pf.asked)
        with pytest.raises(errors.RequestRefused, match="speaks version 1.0 .* GET_RETA needs 1.2"):
            vf.redirection_table()
        assert len(pf.asked) == count


def test_a_message_that_comes_before_the_answer_is_not_the_answer() -> None:
    with conversation() as (vf, pf):
        vf.reset()
        pf.control = [0x100 | CTS, 0x100 | CTS]
        assert vf.negotiate() is Version.V1_4
        assert not vf.needs_reset()


def test_a_message_without_cts_asks_for_a_reset() -> None:
    with conversation() as (vf, pf):
        vf.reset()
        vf.negotiate()
        pf.end.send([0x100 | CTS])
        assert not vf.needs_reset()
        pf.end.send([0x100])
        pf.served = False
        assert vf.needs_reset()
        with pytest.raises(errors.RequestRefused, match="refused SET_VLAN, because it wants this VF to be reset first"):
            vf.set_vlan(5, receive=True)
        vf.reset()
        vf.set_vlan(5, receive=True)
        assert not vf.needs_reset()


def test_a_pf_that_does_not_answer_in_time_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ixrings.driver.vf_requests.ANSWER_S", 0.05)
    with conversation(silent={Request.SET_VLAN}) as (vf, _):
        vf.reset()
        with pytest.raises(errors.PfNotReady, match="did not answer SET_VLAN in 0.05 s.*Run: ip link set eth0 up"):
            vf.set_vlan(5, receive=True)


def test_a_pf_in_reset_is_not_waited_for() -> None:
    board = Board()
    vf = Requests(VfEnd(VfRegisters(Side(board, False))), Host())
    board.bits |= RSTI
    with pytest.raises(errors.PfNotReady, match=r"On the host, with the PF's interface .* run: ip link set PF up"):
        vf.set_vlan(5, receive=True)
    board.bits = RSTD
    assert vf.needs_reset()


def test_a_buffer_that_the_other_side_keeps_ends_the_wait_with_its_register(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ixrings.hw.pf.mailbox.Mailbox.take_s", 0.01)
    board = Board()
    vf, pf = VfEnd(VfRegisters(Side(board, False))), PfEnd(Registers(Side(board, True)), VF)
    board.pf_write(PFU)
    with pytest.raises(RegisterTimeout, match=r"VFMAILBOX \(0x002fc\) read 0x00000008 PFU=1 after .* is not free"):
        vf.send([1])
    board.pf_write(0)
    board.vf_write(VFU)
    with pytest.raises(RegisterTimeout, match=r"PFMAILBOX\[17\] .* read 0x00000004 VFU=1 after"):
        pf.send([1])
    pf.take_from_vf()
    pf.send([1])
    assert vf.take_event(Event.MESSAGE) and vf.receive(1) == [1] and pf.take_event(Event.ACK)


def test_the_hash_of_a_group_follows_the_filter_type_of_the_pf() -> None:
    group = bytes.fromhex("01005e00a5c3")
    assert [multicast_hash(group, kind) for kind in range(4)] == [0xC3A, 0x874, 0x0E9, 0x3A5]


def test_a_pf_does_not_write_over_a_request_that_answers_its_ping() -> None:
    board = Board()
    vf, pf = VfEnd(VfRegisters(Side(board, False))), PfEnd(Registers(Side(board, True)), VF)
    assert pf.notify([CONTROL])
    assert vf.receive(1) == [CONTROL]
    vf.send([Request.RESET])
    assert not pf.notify([NACK]), "the VF has asked meanwhile"
    assert pf.take_event(Event.MESSAGE) and pf.receive(1) == [Request.RESET]
    assert pf.notify([CONTROL]) and vf.receive(1) == [CONTROL]
