"""A port on a physical function that has virtual ones: it has a pool of queues, and serves the others (82599 4.6.10).

The NIC's queues are cut into pools. Each virtual function (VF) has one, and the port has the pool after theirs, whose
queues it numbers from 0. What the port does for its VFs by mailbox is in hw/pf; the port's waits call it, or a thread.
Other ports pay nothing for it: they have a PhysicalFunction.

ASSUMPTION (datasheet not at hand): order and values are those of Linux's ixgbe.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from typing import NoReturn

from ixrings.hw.device import Device
from ixrings.hw.errors import DeviceError
from ixrings.hw.pf.pools import MRQE_RSS, VLANS, Pools
from ixrings.hw.pf.serving import Serving
from ixrings.hw.register import ALL_ONES
from ixrings.hw.registers import Registers

from . import queues, rss
from .checks import require
from .config import RSS_KEY, OnePortOptions, drop_en, frame_size
from .errors import NotOffered, PortClosed, PortError, PortStuck
from .filters import multicast_bit
from .function import Bound
from .gate import closed
from .interrupts import Interrupts, NicInterrupts
from .physical_function import PhysicalFunction
from .queue_registers import PoolQueueRegisters
from .rates import Rates
from .statistics import Statistics
from .vf_statistics import Wrapping, hosted_counters
from .vlan import Vlan, check_vlans

MOST_VFS = 63  # of 64 pools one stays with the port
VFS_OF_32_POOLS = 31
RSS_TABLE = range(4)  # a VF may have four queues, whatever the port has
LOOK_S = 1.0  # a thread looks at the link so often, if nothing comes
REST_S = 0.0002  # between two messages, so that a VF that floods its mailbox leaves the program its time
REFUSALS = {
    "filters": "the NIC's filters choose among the queues of all its functions. Use VLANs and port.rss, or remove the "
    "virtual functions",
    "flow_director": "the flow director is off when queues are cut into pools. Leave flow_director out, or remove the "
    "virtual functions",
}


def physical_function(device: Device, options: OnePortOptions) -> PhysicalFunction:
    """The function of a NIC, with virtual functions or without. Raises NotOffered for options that exclude them."""
    status = Registers(device).STATUS.read()
    if int(status) == ALL_ONES or not status.IOV or not status.NUM_VFS:
        return PhysicalFunction(device, options)
    return HostingFunction(device, options, status.NUM_VFS)


class HostingFunction(PhysicalFunction):
    """The physical function of a NIC with `vfs` virtual ones.

    serving: what it does for them. statistics: of the port, and of each VF.
    """

    statistics: HostingStatistics

    def __init__(self, device: Device, options: OnePortOptions, vfs: int) -> None:
        super().__init__(device, options)
        self._check_options(vfs)
        self.pools = Pools(self.nic, vfs, 32 if vfs <= VFS_OF_32_POOLS else 64)
        first = vfs * self.pools.queues
        self._own_queues = range(first, first + self.pools.queues)
        self.queues = PoolQueueRegisters(self.nic, self._own_queues)
        self.serving = Serving(self.nic, self.pools, max_frame=frame_size(options))
        self.rates = Rates(
            self.nic, frame_size(options), device.owner or device.name, first=first, lock=self.serving.lock
        )
        self.interrupts: HostingInterrupts | None = None
        self._running = False
        self._port = ""
        self._link_up = False

    def _check_options(self, vfs: int) -> None:
        """Raises NotOffered."""
        if vfs > MOST_VFS:
            raise NotOffered(
                f"{self.device.name} has {vfs} virtual functions, and none of its 64 pools of queues is left for the "
                f"port. Have at most {MOST_VFS}"
            )
        tx, rx, most = self.options["tx_queues"], self.options["rx_queues"], 4 if vfs <= VFS_OF_32_POOLS else 2
        if max(tx, rx) > most:
            raise NotOffered(
                f"{self.device.name} has {vfs} virtual functions, so the port's own pool has {most} queues each way, "
                f"and it asks for tx_queues={tx}, rx_queues={rx}. Open it with at most {most}, or have fewer virtual "
                "functions"
            )
        if rx & (rx - 1):
            raise NotOffered(
                f"{self.device.name} has virtual functions, and RSS inside a pool needs 1, 2 or 4 queues "
                f"(PSRTYPE.RQPL), not rx_queues={rx}"
            )
        if self.options["flow_director"]:
            raise NotOffered(f"{self.device.name} is {self.refusal('flow_director')}")

    def check_offered(self, what: str) -> None:
        if what in REFUSALS:
            raise NotOffered(f"{self.device.name} is {self.refusal(what)}")

    def refusal(self, what: str) -> str:
        if what in REFUSALS:
            return f"a physical function with virtual ones, and {REFUSALS[what]}"
        return super().refusal(what)

    # ---- from start to stop ----

    def quiet(self, port: str) -> None:
        self._port = port
        super().quiet(port)

    def make_statistics(self) -> HostingStatistics:
        return HostingStatistics(
            self.nic,
            self.options["rx_queues"],
            self.options["tx_queues"],
            first=self._own_queues[0],
            vfs=self.pools.vfs,
        )

    def init_rss(self) -> None:
        """Cut the queues into pools; then spread flows inside each (8.2.3.7.12)."""
        nic, pool = self.nic, self.pools.vfs
        self.pools.cut()
        rss.init_rss(nic, RSS_TABLE, self.options["rss_key"] or RSS_KEY, MRQE_RSS[self.pools.pools])
        nic.PSRTYPE[pool].write(RQPL=self.options["rx_queues"].bit_length() - 1)
        for word in nic.MPSAR:
            word.write(0)
        self.pools.switch_on(self.options["rx_queues"] + self.options["tx_queues"] + 1)
        self.pools.add_address(self.mac(), pool)  # the first one: entry 0, as without VFs
        self._accept()
        nic.VLNCTRL.update(VFE=1)
        self.pools.receive_all_vlans(True)

    def _accept(self) -> None:
        """What the port's pool receives besides its address (8.2.3.27.14)."""
        everything = self._promiscuous or self._all_multicast
        self.nic.PFVML2FLT[self.pools.vfs].write(AUPE=1, BAM=1, ROMPE=1, MPE=int(everything))

    @property
    def drops(self) -> bool:
        """The packet buffer belongs to all functions, so a full ring of the port must not fill it."""
        return self.options["drop"] is None or drop_en(self.options)

    def init_transmit(self) -> None:
        queues.init_transmit(self.nic, self.options, self.pools)

    def make_interrupts(self, bound: Bound) -> Interrupts:
        self.interrupts = HostingInterrupts(
            self.device,
            self.nic,
            rx_queues=self.options["rx_queues"],
            tx_queues=self.options["tx_queues"],
            bound_rx=bound.rx,
            bound_tx=bound.tx,
            interval_us=self.options["interrupt_interval_us"],
            first=self._own_queues[0],
            on_message=self.check,
        )
        return self.interrupts

    def start(self, *, receives: bool) -> None:
        """The VFs may go on when everything else is done (4.6.10.2.3)."""
        super().start(receives=receives)
        self.serving.restart()
        self._link_up = bool(self.nic.LINKS.read().LINK_UP)
        self._running = True
        self.nic.CTRL_EXT.update(PFRSTD=1)

    def stop(self) -> None:
        """The VFs are told first; the reset then holds them in VFMAILBOX.RSTI."""
        if self._running:
            self._running = False
            self.serving.revoke()
            self.serving.end_rates()
        super().stop()
        self.nic.GCR_EXT.update(VT_MODE=0)

    # ---- an open port ----

    def check_present(self) -> None:
        """Also raises PortStuck if the VFs' number has changed, or somebody has reset the NIC."""
        status = self.nic.STATUS.read()
        if int(status) == ALL_ONES:
            super().check_present()
        if status.NUM_VFS != self.pools.vfs:
            raise PortStuck(
                f"{self.device.name} now has {status.NUM_VFS} virtual functions; it had {self.pools.vfs} when the port "
                "was opened, and its queues are cut for them. Close the port and open it again"
            )
        if self._running and not self.nic.PFVTCTL.read().VT_ENA:
            raise PortStuck(
                f"{self.device.name} was reset, not by this port: PFVTCTL.VT_ENA is 0, and the virtual functions wait "
                "(VFMAILBOX.RSTI). Close the port and open it again; `settings` of each virtual function can be copied"
            )

    def check(self) -> None:
        """Serve the VFs, and tell them when the link has changed. Costs a bounded time."""
        super().check()
        if not self._running:
            return
        self.serve()
        up = bool(self.nic.LINKS.read().LINK_UP)
        if up != self._link_up:
            self._link_up = up
            self.serving.link_changed()

    def serve(self) -> bool:
        """Serve what has arrived. Whether anything had."""
        return self.serving.serve()

    def opened(self) -> HostingFunction:
        """This function. Raises PortClosed once its port is closed."""
        if not self._running:
            raise PortClosed(closed(self._port))
        return self

    @property
    def threaded(self) -> bool:
        """Whether a thread serves the VFs, besides the port's waits."""
        return self.interrupts is not None and self.interrupts.attended

    def set_threaded(self, on: bool) -> None:
        if self.interrupts is not None:
            self.interrupts.attend(on)

    # ---- settings ----

    def set_promiscuous(self, on: bool) -> None:
        super().set_promiscuous(on)
        self._accept()

    def set_multicast(self, groups: Sequence[bytes], *, everything: bool) -> None:
        with self.serving.lock:
            super().set_multicast(groups, everything=everything)
            self.pools.own_hashes = [entry << 5 | bit for entry, bit in map(multicast_bit, groups)]
            self._accept()

    def others_hashes(self) -> list[int]:
        return [each for vf in self.serving.vfs for each in vf.hashes]

    def vlan(self, queues: Sequence[int]) -> Vlan:
        return HostingVlan(self, queues)


class HostingVlan(Vlan):
    """The filter of the port's pool. Each VF has its own; a NIC has 64 for all (8.2.3.27.15)."""

    __slots__ = ("_pools", "_serving")

    def __init__(self, function: HostingFunction, queues: Sequence[int]) -> None:
        super().__init__(function.queues, queues)
        self._pools, self._serving = function.pools, function.serving

    @property
    def filter(self) -> AbstractSet[int] | None:
        with self._serving.lock:
            return None if self._pools.all_vlans else self._pools.vlans_of(self._pools.vfs)

    @filter.setter
    def filter(self, ids: AbstractSet[int] | None) -> None:
        require("port.vlan.filter", ids, Iterable | None, "a set of VLAN ids, such as {5, 7}, or None for all")
        check_vlans(ids or ())
        pools = self._pools
        with self._serving.lock:
            pools.receive_all_vlans(ids is None)
            for vlan in sorted(ids or ()):
                if not pools.set_vlan(vlan, pools.vfs, True):
                    raise PortError(
                        f"the NIC has no VLAN filter left for {vlan}: it has {VLANS} for the port and its virtual "
                        "functions. Use fewer VLANs, or port.vlan.filter = None"
                    )


class HostingStatistics(Statistics):
    """The port's counters, and those of each VF."""

    def __init__(self, nic: Registers, rx_queues: int, tx_queues: int, *, first: int, vfs: int) -> None:
        self._of_vfs: list[dict[str, Wrapping]] = []
        super().__init__(nic, rx_queues, tx_queues, first=first)
        self._of_vfs = [hosted_counters(nic, vf) for vf in range(vfs)]

    def accumulate(self) -> None:
        super().accumulate()
        with self._reading:
            for counters in self._of_vfs:
                for counter in counters.values():
                    counter.add()

    def of_vf(self, number: int) -> dict[str, int]:
        """Counts of a VF since the port was opened."""
        with self._reading:
            for counter in self._of_vfs[number].values():
                counter.add()
            return {name: counter.value for name, counter in self._of_vfs[number].items()}


class HostingInterrupts(NicInterrupts):
    """The port's vectors, of queues from `first` on. on_message: called after a mailbox, a VF's reset or the link."""

    def __init__(
        self,
        device: Device,
        nic: Registers,
        *,
        rx_queues: int,
        tx_queues: int,
        bound_rx: Collection[int],
        bound_tx: Collection[int],
        interval_us: float,
        first: int,
        on_message: Callable[[], None],
    ) -> None:
        self._first, self._on_message = first, on_message
        self._message_fd = -1
        self._attendant: Attendant | None = None
        super().__init__(
            device,
            nic,
            rx_queues=rx_queues,
            tx_queues=tx_queues,
            bound_rx=bound_rx,
            bound_tx=bound_tx,
            interval_us=interval_us,
        )

    def _join_vectors(
        self, fds: Sequence[int], rx_vectors: int, tx_vectors: int, bound_rx: Collection[int], bound_tx: Collection[int]
    ) -> None:
        self._message_fd = fds[-1]
        super()._join_vectors(fds, rx_vectors, tx_vectors, bound_rx, bound_tx)

    def _allocate(self, queue: int, byte: int, vector: int) -> None:
        super()._allocate(self._first + queue, byte, vector)  # `first` is even, so the byte is the same

    def _moderate(self, count: int, interval_us: float) -> None:
        super()._moderate(count, interval_us)
        self._nic.EIMS.write(MAILBOX=1)

    def _others_came(self) -> None:
        super()._others_came()  # first: a cause that comes later interrupts again
        self._on_message()

    @property
    def attended(self) -> bool:
        """Whether the thread that serves VFs runs."""
        return self._attendant is not None and self._attendant.runs

    def attend(self, on: bool) -> None:
        """Start or end the thread that serves VFs."""
        if on and self.attended:
            return
        before, self._attendant = self._attendant, None
        if before is not None:
            before.close()
        if on:
            self._attendant = Attendant(self._message_fd, self._others_came)

    def close(self) -> None:
        self.attend(False)
        super().close()

    def _join_line(
        self, fd: int, rx_queues: int, tx_queues: int, bound_rx: Collection[int], bound_tx: Collection[int]
    ) -> NoReturn:
        raise DeviceError(
            f"{self._device.name} has virtual functions, and only an interrupt line. Pools of queues need MSI-X "
            "(GPIE.VT_MODE): bind it to vfio-pci, or remove the virtual functions"
        )


class Attendant:
    """A thread that calls `work` after each message of a vector, and once in LOOK_S.

    It ends when the device is gone or the port is stuck; the port's own waits then say so.
    """

    def __init__(self, fd: int, work: Callable[[], None]) -> None:
        self._work, self._ended = work, False
        with ExitStack() as undo:
            self._message = os.dup(fd)
            undo.callback(os.close, self._message)
            self._end = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            undo.callback(os.close, self._end)
            self._thread = threading.Thread(target=self._attend, name="virtual-functions", daemon=True)
            self._thread.start()
            self._undo = undo.pop_all()

    @property
    def runs(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        self._ended = True
        os.eventfd_write(self._end, 1)
        if self._thread is not threading.current_thread():  # garbage collection may close the port here
            self._thread.join()
        self._undo.close()

    def _attend(self) -> None:
        sleep = select.poll()
        for descriptor in (self._message, self._end):
            sleep.register(descriptor, select.POLLIN)
        while not self._ended:
            ready = dict(sleep.poll(LOOK_S * 1000))
            if self._end in ready:
                return
            if self._message in ready:
                try:
                    os.eventfd_read(self._message)
                except BlockingIOError:  # a wait of the port has taken it
                    pass
            try:
                self._work()
            except (DeviceError, PortError):
                return
            time.sleep(REST_S)
