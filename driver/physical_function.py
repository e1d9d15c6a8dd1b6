"""A port on the whole NIC: the physical function carries out 82599 4.6.3 in its order, and has every setting."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ixrings.hw.device import Device
from ixrings.hw.pci.discovery import ADDRESS
from ixrings.hw.registers import Registers

from . import filters, link, queues, reset, rss
from .clock import Clock
from .config import RSS_KEY, OnePortOptions, drop_en, frame_size
from .flow_director import Director
from .function import Bound, Function, Joined
from .interrupts import Interrupts, NicInterrupts
from .rates import Rates
from .statistics import Statistics
from .vlan import NicVlan, Vlan


class PhysicalFunction(Function):
    """The whole NIC. director: of a port with flow_director. clock: made by its first use."""

    director: Director | None = None

    def __init__(self, device: Device, options: OnePortOptions) -> None:
        self.nic = Registers(device)
        super().__init__(device, options, self.nic)
        self.rates: Rates = Rates(self.nic, frame_size(options), device.owner or device.name)
        self._promiscuous = options["promiscuous"]
        self._all_multicast = False
        self._clock: Clock | None = None

    # ---- from start to stop ----

    def quiet(self, port: str) -> None:
        nic = self.nic
        nic.check_present(port)
        # An earlier user may have left it running.
        reset.quiesce(self.device, nic, link=not nic.LINKS.read().LINK_UP)
        reset.wait_eeprom_auto_read(nic)
        reset.check_eeprom(nic)
        reset.wait_dma_init(nic)

    def set_up(self, joined: Joined, buf_size: int) -> None:
        nic, options, registers = self.nic, self.options, self.queues
        link.setup_link(nic, options["loopback"])
        director = options["flow_director"]
        self.statistics = self.make_statistics()
        self.director = Director(nic, director) if director else None
        queues.init_receive(nic, options)
        if options["mac"] is not None:
            filters.write_mac(nic, options["mac"])
        filters.write_multicast(nic, ())
        filters.set_promiscuous(nic, everything=options["promiscuous"], all_multicast=False)
        self.init_rss()
        queues.start_receive_queues(registers, joined.rx, joined.rx_iova, buf_size, self.drops)
        self.init_transmit()
        queues.setup_transmit_queues(registers, joined.tx, joined.tx_iova, joined.head_iova)
        queues.enable_transmit(nic)
        queues.enable_transmit_queues(registers, joined.tx)

    # ---- steps that are different with virtual functions (hosting.py) ----

    def make_statistics(self) -> Statistics:
        options = self.options
        drops = options["flow_director"] is not None
        return Statistics(self.nic, options["rx_queues"], options["tx_queues"], drops=drops)

    def init_rss(self) -> None:
        rss.init_rss(self.nic, range(self.options["rx_queues"]), self.options["rss_key"] or RSS_KEY)

    @property
    def drops(self) -> bool:
        """SRRCTL.DROP_EN."""
        return drop_en(self.options)

    def others_hashes(self) -> list[int]:
        """The groups of virtual functions, by 12 bits."""
        return []

    def init_transmit(self) -> None:
        queues.init_transmit(self.nic, self.options)

    def make_interrupts(self, bound: Bound) -> Interrupts:
        return NicInterrupts(
            self.device,
            self.nic,
            rx_queues=self.options["rx_queues"],
            tx_queues=self.options["tx_queues"],
            bound_rx=bound.rx,
            bound_tx=bound.tx,
            interval_us=self.options["interrupt_interval_us"],
        )

    def start(self, *, receives: bool) -> None:
        if receives:
            queues.enable_receive(self.nic)
        self.nic.CTRL_EXT.update(DRV_LOAD=1)

    def stop(self) -> None:
        self.rates.end()
        reset.quiesce(self.device, self.nic)
        self.nic.CTRL_EXT.update(DRV_LOAD=0)  # returns the NIC to the firmware (8.2.3.1.3)

    # ---- an open port ----

    def check_present(self) -> None:
        self.nic.check_present("the port")

    def check(self) -> None:
        """Nobody else changes it, but the link may have another speed."""
        if self.rates.any:
            self.link()

    def check_offered(self, what: str) -> None:
        """Raises NotOffered for an attribute of the port that this function does not have."""

    def refusal(self, what: str) -> str:
        if what == "vfs":
            return f"a physical function that had no virtual ones when the port was opened. {how_to_make(self.device)}"
        return f"a physical function, and {what} belongs to a virtual one (8086:10ed)"

    def link(self) -> link.Link:
        found = link.read_link(self.device, self.nic)
        self.rates.follow(found.speed_mbps)
        return found

    # ---- settings ----

    def mac(self) -> bytes:
        return filters.read_mac(self.nic)

    def set_mac(self, address: str | bytes) -> None:
        filters.write_mac(self.nic, address)

    @property
    def promiscuous(self) -> bool:
        return self._promiscuous

    def set_promiscuous(self, on: bool) -> None:
        filters.set_promiscuous(self.nic, everything=on, all_multicast=self._all_multicast)
        self._promiscuous = on

    def set_multicast(self, groups: Sequence[bytes], *, everything: bool) -> None:
        filters.write_multicast(self.nic, groups, self.others_hashes())
        if everything != self._all_multicast:
            filters.set_promiscuous(self.nic, everything=self._promiscuous, all_multicast=everything)
            self._all_multicast = everything

    def vlan(self, queues: Sequence[int]) -> Vlan:
        return NicVlan(self.nic, queues)

    @property
    def clock(self) -> Clock:
        """The clock; its first use starts it. Raises PortError."""
        if self._clock is None:
            self._clock = Clock(self.nic)
        return self._clock


def how_to_make(device: Device) -> str:
    """The sentence for a port without virtual functions."""
    address = re.search(ADDRESS, device.name)
    if address is None:
        return 'The emulator makes them when it starts: open_port("emulated@vfs=2")'
    return (
        "Close the port, then run: sudo modprobe vfio-pci enable_sriov=1; "
        f"echo 2 | sudo tee /sys/bus/pci/devices/{address[0]}/sriov_numvfs"
    )
