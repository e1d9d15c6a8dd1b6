"""The agent that plays the PF's driver for virtual functions: it sets the NIC up and answers their mailboxes.

It answers as Linux's ixgbe 6.12 does, or as DPDK's PF, so that a VF works without a PF program. `set_vf` does what
`ip link set PF vf N ...` does.
"""

from __future__ import annotations

import os
import select
import threading
import time
from typing import Any

from ..errors import DeviceError
from ..registers import Registers
from .nic import Emulated82599
from .pf_messages import CTS, DPDK_API, LINUX_API, PF_CONTROL, Answers, Vf
from .pf_setup import PfSetup
from .virtual_function import VirtualFunction

STATES = ("auto", "enable", "disable")
MESSAGES_KEPT = 1000
MAX_RATE = 10_000  # Mbit/s
RESET_S = 0.0105  # no register is accessed for 10 ms after a reset (4.6.3.2)


class PfAgent:
    """The driver of `nic` for its VFs; it owns the NIC's interrupts. kind: "linux" or "dpdk". A context manager.

    api: the highest mailbox API that it accepts, as a code of message 08; None: what `kind` accepts. max_frame: the
    PF's longest frame, CRC included. serve: False to answer only when `work` is called.
    Raises ValueError, and DeviceError without VFs.
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
        if kind not in ("linux", "dpdk"):
            raise ValueError(f'there is no PF agent {kind!r}; choose "linux" or "dpdk"')
        self.nic, self.kind = nic, kind
        regs = Registers(nic)
        count = regs.STATUS.read().NUM_VFS
        if not count:
            raise DeviceError(f"{nic.name} has no virtual functions for an agent. Create it with vfs=1 or more")
        pools = pools_for(count, kind)
        self.setup = PfSetup(regs, count, pools, nic.mac, rss=kind == "linux")
        known = LINUX_API if kind == "linux" else DPDK_API
        accepted = frozenset(code for code in known if api is None or code <= api)
        self.vfs = [Vf(number) for number in range(count)]
        self.answers = Answers(self.setup, self.vfs, accepted, linux=kind == "linux", max_frame=max_frame)
        if kind == "dpdk":
            for vf in self.vfs:
                vf.mac = bytes([0x02, *os.urandom(5)])
        self.messages: list[tuple[int, list[int], list[int]]] = []
        self._regs, self._lock = regs, threading.RLock()
        self._link_up = False
        self._event = os.dup(nic.enable_interrupts(1)[0])  # the NIC may be closed while the thread waits for it
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopping = False
        self._thread: threading.Thread | None = None
        try:
            self.up()
        except BaseException:
            self.close()
            raise
        if serve:
            self._thread = threading.Thread(target=self._serve, name="pf-agent", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Stop answering. The VFs keep their pools."""
        if self._wake < 0:
            return
        self._stopping = True
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
        """As `ip link set PF up`: the VFs leave the reset."""
        with self._lock:
            self.setup.open(self.answers.max_frame)
            self._regs.IVAR_MISC.write(INT_ALLOC_1=0, INT_ALLOC_VAL_1=1)
            for vf in self.vfs:
                self.answers.restart(vf)
            self._regs.EICR.read()
            self._regs.EIMS.write(MAILBOX=1, LSC=1)
            self._regs.CTRL_EXT.update(PFRSTD=1)
            self._link_up = bool(self._regs.LINKS.read().LINK_UP)

    def down(self) -> None:
        """As `ip link set PF down`: the VFs are told, then the NIC is reset."""
        with self._lock:
            for vf in self.vfs:
                vf.cleared = False
                self._ping(vf)
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
        """As `ip link set PF mtu`: Linux resets the port for it."""
        with self._lock:
            self.answers.max_frame = mtu + 18
            self.reset()

    # ---- ip link set PF vf N ... ----

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
        query_rss: bool | None = None,
    ) -> None:
        """Change what is named. The VF sees a new address after its next reset.

        rate is kept and not enforced: the emulated wire has no rate per queue. Raises ValueError.
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
        with self._lock:
            vf = self.vfs[number]
            if mac is not None:
                self.answers.set_admin_mac(vf, mac)
            if vlan is not None or qos is not None:
                self.answers.set_port_vlan(vf, vf.vlan if vlan is None else vlan, vf.qos if qos is None else qos)
            if spoofchk is not None:
                self.answers.set_spoof_check(vf, spoofchk)
            vf.rate = vf.rate if rate is None else rate
            vf.query_rss = vf.query_rss if query_rss is None else query_rss
            if trust is not None and trust != vf.trust:
                vf.trust, vf.cleared = trust, False
                self._ping(vf)
            if state is not None and state != vf.state:
                vf.state, vf.cleared = state, False
                if not vf.link:
                    self.setup.set_pool(vf.number, receive=False, transmit=False)
                self._ping(vf)

    def link_changed(self) -> None:
        """Tell all VFs to look at their link."""
        with self._lock:
            for vf in self.vfs:
                self._ping(vf)

    # ---- the mailbox ----

    def work(self) -> None:
        """Serve what has arrived: resets, requests, acknowledgements, for each VF in this order, as Linux does."""
        with self._lock:
            if self.nic.is_gone:
                return
            self._regs.EICR.read()
            for vf in self.vfs:
                self._serve_vf(vf)
            up = bool(self._regs.LINKS.read().LINK_UP)
            if up != self._link_up:
                self._link_up = up
                self.link_changed()
            self._regs.EIMS.write(MAILBOX=1, LSC=1)

    def _serve_vf(self, vf: Vf) -> None:
        resets, bit = self._regs.PFVFLREC[vf.number // 32], 1 << vf.number % 32
        if self._regs.PFVFLRE[vf.number // 32].read() & bit:
            resets.write(bit)
            self.answers.reset_event(vf)
        causes, request = self._regs.PFMBICR[vf.number // 16], 1 << vf.number % 16
        pending = causes.read()
        if pending & request:
            causes.write(request)
            self._answer(vf)
        if pending & request << 16:
            causes.write(request << 16)
            if not vf.cleared:
                self._send(vf, [0x4000_0000])

    def _answer(self, vf: Vf) -> None:
        """Read the request, acknowledge it, write the answer."""
        mailbox = self._regs.PFMAILBOX[vf.number]
        mailbox.write(PFU=1)
        if not mailbox.read().PFU:  # the VF took it back: the request is lost, as Linux loses it
            return
        first = 16 * vf.number
        words = [int(self._regs.PFMBMEM[first + i].read()) for i in range(16)]
        mailbox.write(ACK=1)
        reply = self.answers.answer(vf, words)
        if reply:
            self._send(vf, reply)
        self.messages.append((vf.number, words, reply))
        del self.messages[:-MESSAGES_KEPT]

    def _ping(self, vf: Vf) -> None:
        self._send(vf, [PF_CONTROL | (CTS if vf.cleared else 0)])

    def _send(self, vf: Vf, words: list[int]) -> None:
        mailbox = self._regs.PFMAILBOX[vf.number]
        mailbox.write(PFU=1)
        if not mailbox.read().PFU:  # the VF holds the buffer
            return
        causes, request = self._regs.PFMBICR[vf.number // 16], 1 << vf.number % 16
        causes.write(request | request << 16)  # what the VF asked before is stale now
        for i, word in enumerate(words):
            self._regs.PFMBMEM[16 * vf.number + i].write(word)
        mailbox.write(STS=1)

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._event, select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while not self._stopping:
            ready = dict(poll.poll())
            if self._event in ready:
                try:
                    os.eventfd_read(self._event)
                except (BlockingIOError, OSError):
                    pass
                try:
                    self.work()
                except DeviceError:  # the NIC was closed; or a VF broke a rule, and the NIC has Policy.RAISE
                    if self.nic.is_gone:
                        return


def pools_for(vfs: int, kind: str) -> int:
    """How many pools a PF cuts the queues into: the PF needs one of its own."""
    if kind == "dpdk" and vfs < 16:
        return 16
    return 32 if vfs < 32 else 64


def emulated_vf(wire: str = "loop", number: int = 0, *, agent: str = "linux", **options: Any) -> VirtualFunction:
    """VF `number` of an emulated NIC of its own, with an agent; both are closed with the VF. options: of the NIC."""
    nic = Emulated82599(wire, vfs=number + 1, **options)
    try:
        player = PfAgent(nic, agent)
        device = nic.vf(number)
    except BaseException:
        nic.close()
        raise
    device.agent, device.owns_pf = player, True
    return device
