"""A port on a virtual function: rings, interrupts and counters of its own; everything else it asks its PF for.

The order of the start is that of the public drivers: reset, RESET and the version by mailbox, queues, filters, SET_LPE,
rings, interrupts. A PF that was reset, went down, or withdrew its consent ("clear to send") is noticed at the next
wait; then the same steps are done again.

ASSUMPTION (datasheet not at hand): 8.3 is known here by its registers and by the drivers that use them.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from pathlib import Path

from ixrings.hw.device import Device
from ixrings.hw.errors import DeviceError
from ixrings.hw.pci.discovery import ADDRESS, ROOT, look_up
from ixrings.hw.pf.mailbox import VfEnd
from ixrings.hw.pf.words import Reception
from ixrings.hw.rate import SPEEDS_MBPS
from ixrings.hw.registers import VF_QUEUES, VfRegisters
from ixrings.rings import RegionError, RxRing, TxRing
from ixrings.rings.queue import RxQueue, TxQueue

from . import queues, reset, takeover
from .config import OnePortOptions, drop_en, frame_size, unicast_mac
from .errors import NotOffered, PfNotReady, PortError, PortStuck, RequestRefused
from .function import Bound, Function, Joined
from .interrupts import Interrupts
from .link import Link
from .queue_registers import VfQueueRegisters
from .rates import RefusedRates
from .vf_interrupts import ALL_VECTORS, VfInterrupts
from .vf_requests import Granted, Host, Requests
from .vf_statistics import VfStatistics
from .vf_vlan import VfVlan

PF_READY_S = 2.0  # a PF that has just been reset is back in less
RESET_S = 0.001
RETRY_S = 5.0  # after a PF that did not answer; each try takes a second or more
LINK_LOOKS, LINK_LOOK_S = 5, 100e-6  # VFLINKS of the 82599 is believed when it stays up so long, as Linux does
REFUSED_OPTIONS = ("promiscuous", "flow_control", "flow_director", "rss_key", "loopback")
# What a VF does not have -> who has it, and what helps. {trust}, {query_rss}: commands for the host. {pf}: interface.
REFUSALS = {
    "promiscuous": "the 82599 cannot make one promiscuous. port.vf.addresses receives further addresses, if the host "
    "trusts it. {trust}",
    "flow_control": "pause frames belong to the PF. On the host: ethtool -A {pf} rx on tx on",
    "flow_director": "the flow director belongs to the PF. To use it, open the whole NIC",
    "filters": "filters that choose a queue belong to the PF. To use them, open the whole NIC",
    "rss": "RSS key and table belong to the PF and serve all its functions. port.vf.rss_key() shows the key, if the "
    "host allows it. {query_rss}",
    "rss_key": "the RSS key belongs to the PF and serves all its functions. Leave rss_key out",
    "loopback": "the MAC belongs to the PF. Frames between functions of one NIC need no loopback",
    "clock": "the IEEE 1588 clock belongs to the PF. To use it, open the whole NIC",
    "rate_mbps": "the PF limits its queues. {rate}",
    "sfp": "the SFP+ module belongs to the PF. On the host: ethtool -m {pf}",
    "identify()": "the LEDs belong to the PF. On the host: ethtool -p {pf}",
    "vfs": "virtual functions belong to the PF. To serve them, open the whole NIC",
    "nic": "it has registers of its own: port.vf.nic, such as port.vf.nic.VFLINKS",
}


class VirtualFunction(Function):
    """One virtual function.

    pf: what the PF is asked. granted: the queues. recoveries: how often the port was set up again, and why the last
    time. restarted: called for each queue that a recovery has set up, while it is off; may be set.
    """

    def __init__(self, device: Device, options: OnePortOptions) -> None:
        self.nic = VfRegisters(device)
        super().__init__(device, options, VfQueueRegisters(self.nic))
        self.host = host_of(device.name)
        for option in REFUSED_OPTIONS:
            if options[option]:  # type: ignore[literal-required]
                raise NotOffered(f"{device.name} is {self.refusal(option)}")
        self.rates = RefusedRates(f"{device.name} is {self.refusal('rate_mbps')}")
        self.pf = Requests(VfEnd(self.nic), self.host)
        self.granted = Granted(1, 1)
        self.recoveries = 0
        self.why_recovered = ""
        self._lost = ""  # why the PF no longer serves this function
        self._stuck = ""  # why the port stands until it is opened again
        self._retry_at = 0.0
        self._link_enabled = True
        self._mac = b""
        self._own_mac = options["mac"] is not None  # chosen here, not by the host
        self._groups: tuple[bytes, ...] = ()
        self._reception = Reception.MULTICAST
        self._vlans: frozenset[int] = frozenset({0})
        self._addresses: tuple[bytes, ...] = ()
        self._lock = threading.RLock()
        self._interrupts: VfInterrupts | None = None
        self._joined: Joined | None = None
        self._buf_size = 0
        self._recovering = False
        self._due: set[TxRing | RxRing] = set()  # of queues that are set up, and off until their threads sync them
        self.restarted: Callable[[TxQueue | RxQueue], None] = self._restart_later

    # ---- from start to stop ----

    def quiet(self, port: str) -> None:
        self.nic.check_present(port)
        self._wait_for_pf()
        self._stop_queues()
        self._reset()
        asked = self.options["tx_queues"], self.options["rx_queues"]
        if asked[0] > self.granted.tx_queues or asked[1] > self.granted.rx_queues:
            raise PortError(
                f"{port} has tx_queues={asked[0]}, rx_queues={asked[1]}, and its PF grants {self.granted.tx_queues} "
                f"and {self.granted.rx_queues}. Open it with at most so many, or have fewer virtual functions on the "
                "host"
            )
        if asked[1] & (asked[1] - 1):
            raise PortError(
                f"{port} has rx_queues={asked[1]}: RSS of a virtual function needs 1, 2, 4 or 8 (PSRTYPE.RQPL)"
            )

    def set_up(self, joined: Joined, buf_size: int) -> None:
        self._joined, self._buf_size = joined, buf_size
        self.statistics = VfStatistics(self.nic)
        if self.options["mac"] is not None:
            self._mac = unicast_mac(self.options["mac"])
        self._ask_for_filters()
        registers = self.queues
        queues.start_receive_queues(registers, joined.rx, joined.rx_iova, buf_size, drop_en(self.options))
        queues.setup_transmit_queues(registers, joined.tx, joined.tx_iova, joined.head_iova)
        queues.enable_transmit_queues(registers, joined.tx)

    def make_interrupts(self, bound: Bound) -> Interrupts:
        self._interrupts = VfInterrupts(
            self.device,
            self.nic,
            rx_queues=self.options["rx_queues"],
            tx_queues=self.options["tx_queues"],
            bound_rx=bound.rx,
            bound_tx=bound.tx,
            interval_us=self.options["interrupt_interval_us"],
            on_message=self.check,
        )
        return self._interrupts

    def start(self, *, receives: bool) -> None:
        """The PF has opened reception at SET_LPE."""

    def stop(self) -> None:
        if not self.pf.mailbox.pf_in_reset:  # until the PF is back, only the mailbox may be used
            self._stop_queues()
        self.nic.VFCTRL.write(RST=1)
        time.sleep(RESET_S)
        self.nic.check_present("the port")

    def _stop_queues(self) -> None:
        """Interrupts off, queues off (4.2.1.6.1)."""
        self.nic.VTEIMC.write(VECTOR=ALL_VECTORS)
        self.nic.VTEICR.read()
        for queue in range(VF_QUEUES):
            reset.disable_receive_queue(self.queues, queue)
            reset.disable_transmit_queue(self.queues, queue)
        time.sleep(100e-6)

    def _wait_for_pf(self) -> None:
        """Raises PfNotReady."""
        end = time.monotonic() + PF_READY_S
        while self.pf.mailbox.pf_in_reset:
            if time.monotonic() >= end:
                raise PfNotReady(f"{self.device.name}: {self.pf.in_reset()}")
            time.sleep(LINK_LOOK_S)

    def _reset(self) -> None:
        """Reset the function, then agree with the PF on address, version and queues. Raises PfNotReady."""
        self.nic.VFCTRL.write(RST=1)
        time.sleep(RESET_S)
        self._wait_for_pf()
        self.pf.needs_reset()  # takes the events of an earlier reset
        address = self.pf.reset()
        self.pf.negotiate()
        self.granted = self.pf.queues()
        if not self._own_mac:
            self._mac = address or self._mac or b"\x02" + os.urandom(5)  # a local address, as other drivers take

    def _ask_for_filters(self) -> None:
        """Everything the PF has forgotten at RESET. Raises RequestRefused."""
        pf = self.pf
        pf.set_mac(self._mac)
        pf.receive_multicast(self._reception)
        if self._groups:
            pf.set_multicast(self._groups)
        for vlan in sorted(self._vlans - {0}):
            pf.set_vlan(vlan, receive=True)
        if self._addresses:
            pf.set_addresses(self._addresses)
        pf.set_longest_frame(frame_size(self.options), self.options["mtu"])
        self.nic.VFPSRTYPE.write(RQPL=self.options["rx_queues"].bit_length() - 1)
        self._link_enabled = pf.link_enabled()

    # ---- an open port ----

    def check_present(self) -> None:
        self.nic.check_present("the port")

    def check(self) -> None:
        """Notice a PF that wants a reset, and set the port up again. Raises PortStuck if the PF refuses it.

        A PF that is in reset, or does not answer, is asked again at a later check; link() names it meanwhile.
        """
        with self._lock:
            if self._stuck:
                raise PortStuck(self._stuck)
            if self._joined is None or self._recovering:  # a signal handler may call the port in between
                return
            if not self.pf.needs_reset():
                if not self._is_off(self._joined):
                    self._lost = ""
                    return
                if not self._lost:
                    self._lost = "its queues were off: the PF, or this function, was reset without a message"
                    self._retry_at = 0.0
            if self.pf.mailbox.pf_in_reset:
                self._lost, self._retry_at = self.pf.in_reset(), 0.0
            elif time.monotonic() >= self._retry_at:
                self._recover(self._joined)

    @property
    def runs(self) -> bool:
        with self._lock:  # the mailbox is for one thread at a time
            return not (self._lost or self._stuck or self.pf.needs_reset())

    def _is_off(self, joined: Joined) -> bool:
        """Whether the queues that were switched on are off: the only sign of a PF that came back without a message.

        reclaim() switches off one queue at a time, so both directions are looked at. A queue that its thread has not
        synced since the last recovery says nothing.
        """
        nic = self.queues
        on = [nic.RXDCTL[rx.ring.ringid].read().ENABLE for rx in joined.rx[:1] if rx.ring not in self._due]
        on += [nic.TXDCTL[tx.ring.ringid].read().ENABLE for tx in joined.tx[:1] if tx.ring not in self._due]
        return not any(on) and bool(on or not self._due)

    def _recover(self, joined: Joined) -> None:
        why = self._lost or "the PF asked for a reset"
        self._recovering = True
        try:
            self._hold_rings(joined)
            self._stop_queues()
            self._reset()
            self._ask_for_filters()
            self._restart_rings(joined)
        except (PfNotReady, DeviceError) as error:
            self.check_present()
            self._lost, self._retry_at = str(error), time.monotonic() + RETRY_S
            self.pf.cleared = False
            return
        except RegionError:  # the queue is not this process's
            raise self._stands(
                f"{self.device.name} was reset ({why}) while another process had one of its queues. Take the queue "
                "back, close the port and open it again"
            ) from None
        except RequestRefused as error:
            raise self._stands(
                f"{self.device.name} was reset ({why}), and the PF refuses what it granted before: {error}. After "
                "that, close the port and open it again"
            ) from None
        finally:
            self._recovering = False
        self._lost = ""
        self.recoveries += 1
        self.why_recovered = why
        if not self.pf.cleared:
            self._lost = "the PF answers without CTS, so it wants this function to be reset, and it was just reset"
            self._retry_at = time.monotonic() + RETRY_S

    def _stands(self, why: str) -> PortStuck:
        self._stuck = why
        return PortStuck(why)

    def _hold_rings(self, joined: Joined) -> None:
        """Other threads may sync now. From here on they wait, or do nothing, until their queue is on again."""
        self._due.clear()
        both: tuple[TxQueue | RxQueue, ...] = (*joined.rx, *joined.tx)
        for queue in both:
            queue.hold(partial(self._resume, queue))

    def _resume(self, queue: TxQueue | RxQueue) -> bool:
        """Switch a queue on, in the thread that syncs it. False while the function is not ready. Raises DeviceGone."""
        with self._lock:  # waits for the end of a recovery
            if self._recovering or self._stuck:
                return False
            if not queue.held:  # another thread was faster
                return True
            if queue.ring not in self._due:
                return False
            try:
                self._restart_ring(queue)
                self.device.ring_doorbells()
            except DeviceError as error:  # the PF is in reset again, which a check notices
                self.check_present()
                self._lost = str(error)
                return False
            self._due.discard(queue.ring)
            queue.release()
            return True

    def _restart_rings(self, joined: Joined) -> None:
        """Empty rings, as after open_port(): frames in them are lost.

        A program may be between reserve() and a sync in another thread, and only that thread knows. So each queue goes
        back to its initial state, and on, at the next sync of its own thread.
        """
        asked = self.options["tx_queues"], self.options["rx_queues"]
        if asked[0] > self.granted.tx_queues or asked[1] > self.granted.rx_queues:
            raise self._stands(
                f"{self.device.name}: its PF now grants {self.granted.tx_queues} transmit and "
                f"{self.granted.rx_queues} receive queues, and the port has {asked[0]} and {asked[1]}. Close the port "
                "and open it with fewer"
            )
        registers = self.queues
        for rx, iova in zip(joined.rx, joined.rx_iova):
            queues.setup_receive_queue(
                registers, rx.ring.ringid, iova, rx.num_slots, self._buf_size, drop_en(self.options)
            )
            rx.ring_at(self.device.doorbell(registers.RDT[rx.ring.ringid].offset))  # a PF may cut other pools
        queues.setup_transmit_queues(registers, joined.tx, joined.tx_iova, joined.head_iova)
        for tx in joined.tx:
            tx.ring_at(self.device.doorbell(registers.TDT[tx.ring.ringid].offset))
        both: tuple[TxQueue | RxQueue, ...] = (*joined.rx, *joined.tx)
        for queue in both:
            self.restarted(queue)
            if queue.ring not in self._due:
                queue.release()
        self.device.ring_doorbells()
        if self._interrupts is not None:
            self._interrupts.restart()

    def _restart_later(self, queue: TxQueue | RxQueue) -> None:
        """Raises RegionError if another process has the queue."""
        queue.check_open()
        self._due.add(queue.ring)

    def _restart_ring(self, queue: TxQueue | RxQueue) -> None:
        assert self._joined is not None
        descriptors = self._joined.descriptors(queue.ring)
        if isinstance(queue, RxQueue):
            takeover.start_receive(self.queues, queue, descriptors)
        else:
            takeover.start_transmit(self.queues, queue, descriptors, self._joined.head_word(queue))

    def refusal(self, what: str) -> str:
        host = self.host
        trust, query_rss = host.vf_command("trust on"), host.vf_command("query_rss on")
        rate = host.vf_command("max_tx_rate 100")
        sentence = REFUSALS[what].format(trust=trust, query_rss=query_rss, rate=rate, pf=host.interface)
        return f"a virtual function, and {sentence}"

    def glance(self) -> Link:
        """Without the mailbox, whose bits a read takes away."""
        links = self.nic.VFLINKS.read()
        trouble = self._stuck or self._lost
        up = bool(links.LINK_UP) and not trouble
        return Link(up, SPEEDS_MBPS.get(links.SPEED, 0) if up else 0, trouble)

    def link(self) -> Link:
        with self._lock:
            if self._stuck:
                return Link(False, 0, self._stuck)
            up = self.nic.VFLINKS.read().LINK_UP
            for _ in range(LINK_LOOKS):
                if not up:
                    break
                time.sleep(LINK_LOOK_S)
                up = self.nic.VFLINKS.read().LINK_UP
            if self.pf.needs_reset() or self._lost:
                in_reset = self.pf.mailbox.pf_in_reset
                return Link(
                    False,
                    0,
                    self.pf.in_reset()
                    if in_reset
                    else self._lost or "the PF wants this function to be reset, which the next wait does",
                )
            if not self._link_enabled:
                return Link(False, 0, f"the host has switched it off. {self.host.vf_command('state auto')}")
            if not up:
                return Link(
                    False,
                    0,
                    self.device.link_trouble()
                    or "the PF's port has no link (VFLINKS). Is its cable plugged in at both ends?",
                    self.device.link_lost(),
                )
            return Link(True, SPEEDS_MBPS.get(self.nic.VFLINKS.read().SPEED, 0))

    # ---- settings ----

    def mac(self) -> bytes:
        return self._mac

    def set_mac(self, address: str | bytes) -> None:
        octets = unicast_mac(address)
        with self._lock:
            self.check()  # a PF that wants a reset refuses everything else
            self.pf.set_mac(octets)
            self._mac, self._own_mac = octets, True

    @property
    def promiscuous(self) -> bool:
        return False

    def set_promiscuous(self, on: bool) -> None:
        if on:
            raise NotOffered(f"{self.device.name} is {self.refusal('promiscuous')}")

    def set_multicast(self, groups: Sequence[bytes], *, everything: bool) -> None:
        for group in groups:
            if not group[0] & 1:
                raise ValueError(f"{group.hex(':')} is not a multicast address: the lowest bit of its first byte is 0")
        reception = Reception.ALL_MULTICAST if everything else Reception.MULTICAST
        with self._lock:
            self.check()
            if reception is not self._reception:
                self.pf.receive_multicast(reception)
                self._reception = reception
            self.pf.set_multicast(groups)
            self._groups = tuple(groups)

    def vlan(self, queues: Sequence[int]) -> VfVlan:
        return VfVlan(self, self.queues, queues)

    @property
    def vlans(self) -> frozenset[int]:
        return self._vlans

    def set_vlans(self, vlans: AbstractSet[int]) -> None:
        """Receive these VLANs, and VLAN 0. Raises RequestRefused; those before the refused one are changed."""
        with self._lock:
            self.check()
            for vlan in sorted(self._vlans - vlans - {0}):
                self.pf.set_vlan(vlan, receive=False)
                self._vlans -= {vlan}
            for vlan in sorted(vlans - self._vlans):
                self.pf.set_vlan(vlan, receive=True)
                self._vlans |= {vlan}

    @property
    def addresses(self) -> tuple[bytes, ...]:
        return self._addresses

    def set_addresses(self, addresses: Sequence[bytes]) -> None:
        """Receive these unicast addresses besides the function's own. Raises RequestRefused."""
        with self._lock:
            self.check()
            self.pf.set_addresses(addresses)
            self._addresses = tuple(addresses)


def host_of(name: str, root: Path = ROOT) -> Host:
    """The PF's interface and this VF's number, if the device's name has a PCI address whose PF this machine has."""
    address = re.search(ADDRESS, name)
    try:
        function = look_up(address[0], root) if address else None
        physical = look_up(function.physfn, root) if function and function.physfn else None
    except DeviceError:
        return Host()
    if physical is None or not physical.netdevs or not function or function.address not in physical.virtfns:
        return Host()
    return Host(physical.netdevs[0], str(physical.virtfns.index(function.address)))
