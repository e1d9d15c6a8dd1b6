"""The agent that plays the PF's driver for virtual functions: it sets the NIC up and answers their mailboxes.

It answers as Linux's ixgbe 6.12 does, or as DPDK's PF, so that a VF works without a PF program. `set_vf` does what
`ip link set PF vf N ...` does, and `ixrings vf` calls it while `ixrings emulate` runs.
"""

from __future__ import annotations

import os
import select
import threading
import time
from contextlib import suppress
from typing import Any

from ..errors import DeviceError
from ..pf.answers import DPDK_API, LINUX_API, Vf
from ..pf.serving import MAX_RATE, Serving
from ..pf.words import CTS
from ..rate import SPEEDS_MBPS
from ..registers import Registers
from .faults import Fault
from .nic import Emulated82599
from .pf_faults import FLAP_NS, Spoiler
from .pf_setup import PfSetup
from .pf_status import facts_of
from .virtual_function import VirtualFunction

KINDS = ("linux", "dpdk")
MESSAGES_KEPT = 1000
MAX_MTU = 9710
FRAMING = 18  # bytes of a frame beyond the MTU: head and CRC
ABSENT = {Fault.PF_RSTI, Fault.PF_DIES}  # the PF's reset does not end while one of these is present
TICK_MS = 5  # while something is due
SOURCE_TO = bytes([0x02, 0, 0, 0, 1])  # and the VF's number: where a source's frames go
RESET_S = 0.0105  # no register is accessed for 10 ms after a reset (4.6.3.2)


class PfAgent(Serving):
    """The driver of `nic` for its VFs; it owns the NIC's interrupts. kind: "linux" or "dpdk". A context manager.

    api: the highest mailbox API that it accepts, as a code of message 08; None: what `kind` accepts. max_frame: the
    PF's longest frame, CRC included. serve: False to answer only when `work` is called. While the NIC has a fault of
    the PF's driver (FAULTS.md), the agent behaves accordingly. Raises ValueError, and DeviceError without VFs.
    """

    def __init__(
        self,
        nic: Emulated82599,
        kind: str = "linux",
        *,
        api: int | None = None,
        max_frame: int = 1518,
        serve: bool = True,
    ) -> None:
        check_kind(kind)
        self.nic = nic
        regs = Registers(nic)
        count = regs.STATUS.read().NUM_VFS
        if not count:
            raise DeviceError(f"{nic.name} has no virtual functions for an agent. Create it with vfs=1 or more")
        self.kind, self._nic_setup, accepted = kind, setup_of(kind, regs, count, nic.mac), accepted_by(kind, api)
        super().__init__(regs, self._nic_setup, linux=kind == "linux", accepted=accepted, max_frame=max_frame)
        self._choose_addresses()
        self.messages: list[tuple[int, list[int], list[int]]] = []
        self.is_up = False
        self.spoofed = 0  # frames that anti-spoofing has dropped, as of the last look at SSVPC
        self._link_mbps = 0
        self._rate_link_mbps = 0  # the link's speed when rates were limited; with another speed the limits end
        self._faults: set[Fault] = set()  # those of the PF's driver, as last seen
        self._spoiler = Spoiler(nic.injected)
        self._due: list[tuple[int, Vf, list[int]]] = []  # answers that are late, with their times
        self._repeat: dict[int, list[int]] = {}  # by VF, an answer that comes twice
        self._next_flap_ns = 0
        self._event = os.dup(nic.enable_interrupts(1)[0])  # the NIC may be closed while the thread waits for it
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopping = False
        self._thread: threading.Thread | None = None
        try:
            self.up()
            nic.injected.on_pf_change = self._follow_faults
            self._follow_faults()
        except BaseException:
            self.close()
            raise
        if serve:
            self._thread = threading.Thread(target=self._serve, name="pf-agent", daemon=True)
            self._thread.start()

    def _choose_addresses(self) -> None:
        """DPDK's PF has one for each VF."""
        if self.kind == "dpdk":
            for vf in self.vfs:
                vf.mac = bytes([0x02, *os.urandom(5)])

    def close(self) -> None:
        """Stop answering. The VFs keep their pools."""
        if self._wake < 0:
            return
        self._stopping = True
        self.nic.injected.on_pf_change = lambda: None
        os.eventfd_write(self._wake, 1)
        if self._thread is not None:
            self._thread.join()
        os.close(self._event)
        os.close(self._wake)
        self._wake = -1
        if not self.nic.is_gone:
            self.nic.disable_interrupts()

    def __enter__(self) -> PfAgent:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ---- the interface up and down ----

    def up(self) -> None:
        """As `ip link set PF up`: the VFs leave the reset; not so while the fault PF_RSTI or PF_DIES is present."""
        with self._lock:
            if self.is_up or self._absent():
                return
            self._nic_setup.open(self.answers.max_frame)
            self._regs.IVAR_MISC.write(INT_ALLOC_1=0, INT_ALLOC_VAL_1=1)
            self._link_mbps = self._link_now()
            self._end_rates()
            self.restart()
            self._regs.EICR.read()
            self._regs.EIMS.write(MAILBOX=1, LSC=1)
            self._regs.CTRL_EXT.update(PFRSTD=1)
            self.is_up = True

    def down(self) -> None:
        """As `ip link set PF down`: the VFs are told, then the NIC is reset."""
        with self._lock:
            if not self.is_up:
                return
            self.revoke()
            self._reset_nic()

    def _reset_nic(self) -> None:
        self.is_up = False
        self._due.clear()
        self._repeat.clear()
        for vf in self.vfs:
            vf.cleared = False
        self._regs.EIMC.write(0x7FFF_FFFF)
        self._regs.CTRL.update(GIO_DIS=1)
        self._regs.STATUS.wait(GIO_MASTER_EN=0, timeout=0.1)
        self._regs.CTRL.update(RST=1)
        time.sleep(RESET_S)
        self._regs.CTRL.wait(RST=0, timeout=0.1)
        self._regs.EIMC.write(0x7FFF_FFFF)

    def reset(self) -> None:
        """As after a transmit hang: down and up."""
        with self._lock:
            self.down()
            self.up()

    def mtu(self, mtu: int) -> None:
        """As `ip link set PF mtu`: Linux resets the port for it. Raises ValueError."""
        if not 68 <= mtu <= MAX_MTU:
            raise ValueError(f"MTU {mtu}: choose 68 to {MAX_MTU}")
        with self._lock:
            self.answers.max_frame = mtu + FRAMING
            if self.is_up:
                self.reset()

    def replace(self, kind: str, api: int | None = None) -> None:
        """Another driver takes the PF, as `rmmod` and `modprobe`: it cuts the pools as its kind does, and knows nothing
        of what was set for the VFs. Raises ValueError."""
        check_kind(kind)
        with self._lock:
            self.down()
            self.kind, self._nic_setup = kind, setup_of(kind, self._regs, len(self.vfs), self.nic.mac)
            self._begin(self._nic_setup, kind == "linux", accepted_by(kind, api), 1500 + FRAMING)
            self._choose_addresses()
            self.up()

    # ---- where Linux differs from Serving ----

    def _check_limit(self, rate: int) -> None:
        if self._link_mbps != MAX_RATE:
            raise ValueError(
                f"{rate} Mbit/s: Linux limits rates only while the PF has a link of 10 Gbit/s, and it has "
                f"{f'{self._link_mbps} Mbit/s' if self._link_mbps else 'none'}"
            )
        self._rate_link_mbps = self._link_mbps

    def _end_rates(self) -> None:
        """Limits end when the link comes up with another speed than they were made for."""
        if self._rate_link_mbps and self._link_mbps not in (0, self._rate_link_mbps):
            self._rate_link_mbps = 0
            for vf in self.vfs:
                vf.rate = 0
                self._limit(vf)

    def _set_state(self, vf: Vf, state: str) -> None:
        """Linux accepts "enable", and does nothing. The others make the VF reset itself, also without a change."""
        if state != "enable":
            vf.state, vf.cleared = state, False
            self.answers.open_pool(vf)
            self._ping(vf)

    def status(self) -> dict[str, Any]:
        """What `ixrings vf` shows: {"pf": {...}, "vfs": [{...}, ...]}, as JSON can carry it. Raises DeviceError."""
        with self._lock:
            if self.nic.is_gone:
                raise DeviceError(f"{self.nic.name} is gone: it was closed, or the fault removal has taken it out")
            self.spoofed += int(self._regs.SSVPC.read())
            pf: dict[str, Any] = {
                "driver": self.kind,
                "up": self.is_up,
                "mtu": self.answers.max_frame - FRAMING,
                "link_mbps": self._link_mbps if self.is_up else 0,
                "pools": self.setup.pools,
                "queues_of_a_vf": self.setup.queues,
                "spoofed": self.spoofed,
                "faults": [each.value for each in Fault if each in self.nic.injected],
            }
            return {"pf": pf, "vfs": [facts_of(vf, self.setup) for vf in self.vfs]}

    # ---- the mailbox ----

    def work(self) -> None:
        """Serve what has arrived: resets, requests, acknowledgements, for each VF in this order, as Linux does.

        Also sends the answers that are late, and is late in time.
        """
        with self._lock:
            if self._stands():
                return
            self._regs.EICR.read()
            self._send_due()
            self._flap()
            self.serve()
            if self._stands():  # a fault has come meanwhile
                return
            link = self._link_now()
            if link != self._link_mbps:
                self._link_mbps = link
                self._end_rates()
                self.link_changed()
            self._regs.EIMS.write(MAILBOX=1, LSC=1)

    def _stands(self) -> bool:
        return self.nic.is_gone or not self.is_up

    def _link_now(self) -> int:
        """The speed of the link in Mbit/s, 0 without a link."""
        links = self._regs.LINKS.read()
        return SPEEDS_MBPS.get(links.SPEED, 0) if links.LINK_UP else 0

    def _answered(self, vf: Vf, words: list[int], reply: list[int]) -> None:
        self.messages.append((vf.number, words, reply))
        del self.messages[:-MESSAGES_KEPT]

    # ---- faults of the PF's driver ----

    def _serve_vf(self, vf: Vf, was_reset: bool) -> None:
        if self._stands():
            return
        repeated, requests = self._repeat.pop(vf.number, None), vf.requests
        super()._serve_vf(vf, was_reset)
        if repeated and vf.requests == requests and vf.cleared:
            self._send(vf, repeated)

    def _reply(self, vf: Vf, words: list[int]) -> list[int]:
        if Fault.PF_SILENT in self._faults:
            return []
        reply = self._spoiler.refusal(words[0]) or super()._reply(vf, words)
        return self._spoiler.spoilt(reply) if reply else []

    def _send_reply(self, vf: Vf, reply: list[int]) -> None:
        if delay_ns := self._spoiler.delay_ns():
            self._due.append((self.nic.now_ns + delay_ns, vf, reply))
            return
        self._send(vf, reply)
        if Fault.PF_TWICE in self._faults:
            self._repeat[vf.number] = reply

    def _send_due(self) -> None:
        now = self.nic.now_ns if self._due else 0
        while self._due and self._due[0][0] <= now:
            _, vf, reply = self._due.pop(0)
            self._send(vf, reply)

    def _send(self, vf: Vf, words: list[int]) -> None:
        if Fault.PF_SILENT in self._faults or not self.is_up:
            return
        if Fault.PF_NO_CTS in self._faults:
            words = [words[0] & ~CTS, *words[1:]]
        super()._send(vf, words)
        if Fault.PF_KEEPS_BUFFER in self._faults:
            self._regs.PFMAILBOX[vf.number].write(PFU=1)

    def _absent(self) -> bool:
        return not self._faults.isdisjoint(ABSENT)

    def _follow_faults(self) -> None:
        """A fault of the PF's driver has come or gone."""
        with self._lock:
            if self.nic.is_gone:
                return
            before, self._faults = (
                self._faults,
                {each for each in Fault if each.of_the_pf and each in self.nic.injected},
            )
            came, gone = self._faults - before, before - self._faults
            if Fault.PF_RSTI in came and self.is_up:
                self.down()
            if came & {Fault.PF_DIES, Fault.PF_RSTD} and self.is_up:
                self._reset_nic()
            if came & {Fault.PF_RSTD} or gone & ABSENT:
                self.up()
            if Fault.PF_KEEPS_BUFFER in gone:
                for vf in self.vfs:
                    self._regs.PFMAILBOX[vf.number].write(PFU=0)
            if Fault.PF_FLAPS in gone:
                self.nic.set_link(True)
            os.eventfd_write(self._wake, 1)

    def _flap(self) -> None:
        if Fault.PF_FLAPS in self._faults and self.nic.now_ns >= self._next_flap_ns:
            self._next_flap_ns = self.nic.now_ns + FLAP_NS
            self.nic.set_link(not self._regs.LINKS.read().LINK_UP)

    # ---- the thread ----

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._event, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while not self._stopping:
            for fd, _ in poll.poll(TICK_MS if self._due or Fault.PF_FLAPS in self._faults else None):
                with suppress(OSError):
                    os.eventfd_read(fd)
            try:
                self.work()
            except DeviceError:  # the NIC was closed, or the agent broke a rule and the NIC has Policy.RAISE
                if self.nic.is_gone:
                    return


def check_kind(kind: str) -> None:
    """Raises ValueError."""
    if kind not in KINDS:
        raise ValueError(f'there is no PF agent {kind!r}; choose "linux" or "dpdk"')


def accepted_by(kind: str, api: int | None) -> frozenset[int]:
    """The API codes that this kind of driver knows, up to `api`."""
    known = LINUX_API if kind == "linux" else DPDK_API
    return frozenset(code for code in known if api is None or code <= api)


def setup_of(kind: str, regs: Registers, vfs: int, mac: bytes) -> PfSetup:
    return PfSetup(regs, vfs, pools_for(vfs, kind), mac, rss=kind == "linux")


def pools_for(vfs: int, kind: str) -> int:
    """How many pools a PF cuts the queues into: the PF needs one of its own."""
    if kind == "dpdk" and vfs < 16:
        return 16
    return 32 if vfs < 32 else 64


def emulated_vf(wire: str = "loop", number: int = 0, *, agent: str = "linux", **options: Any) -> VirtualFunction:
    """VF `number` of an emulated NIC of its own, with an agent; both are closed with the VF. options: of the NIC.

    The frames of a source wire go to the VF: the agent gives it their address, as `ip link set PF vf N mac` does.
    """
    address = bytes([*SOURCE_TO, number]) if wire.partition("=")[0] == "source" else None
    nic = Emulated82599(wire, vfs=number + 1, source_to=address, **options)
    try:
        player = PfAgent(nic, agent)
        if address:
            player.set_vf(number, mac=address)
        device = nic.vf(number)
    except BaseException:
        nic.close()
        raise
    device.agent, device.owns_pf = player, True
    return device
