"""`port.vfs`: the virtual functions (VFs) that a port on their physical function serves, as their host sees them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from ixrings.hw.attributes import GuardedReads, always
from ixrings.hw.device import Device
from ixrings.hw.pf.answers import Vf as Known
from ixrings.hw.pf.words import Version
from ixrings.hw.trace.device import TracedDevice

from .checks import require
from .config import unicast_mac
from .errors import PortError
from .hosting import HostingFunction

VERSIONS = {version.code: version for version in Version}


@dataclass(frozen=True)
class VfSettings:
    """What the host sets for a VF; the names are those of HostedVf. `new.settings = old.settings` copies all."""

    mac: str | None = None
    vlan: int = 0
    qos: int = 0
    trust: bool = False
    spoof: bool = True
    rate: int = 0
    state: str = "auto"
    query_rss: bool = False


class HostedVfs(GuardedReads):
    """The VFs of a port's NIC: len(port.vfs), port.vfs[0], and a loop over all.

        for vf in port.vfs:
            print(vf, vf.stats())

    VFs ask the port for nearly everything by mailbox. Its waits (poll, recv, flush) serve them, and one sync in
    4096. A program that seldom waits calls serve(), or lets a thread do it: `port.vfs.threaded = True`. A VF waits for
    an answer for a second.
    """

    __slots__ = ("_function",)

    def __init__(self, function: HostingFunction) -> None:
        self._function = function

    @property
    def count(self) -> int:
        return len(self)

    @property
    def queues(self) -> int:
        """Queues each way of each VF: 4, or 2 with 32 VFs or more."""
        return self._function.pools.queues

    @property
    def threaded(self) -> bool:
        """Whether a thread serves the VFs. May be set."""
        return self._function.threaded

    @threaded.setter
    def threaded(self, on: bool) -> None:
        require("port.vfs.threaded", on, bool)
        self._function.opened().set_threaded(on)

    def serve(self) -> bool:
        """Serve what has arrived, at most two messages of each VF. Whether anything had. Raises DeviceGone."""
        self._function.opened().check_present()
        return self._function.serve()

    def __len__(self) -> int:
        return self._function.pools.vfs

    def __getitem__(self, number: int) -> HostedVf:
        require("port.vfs[...]", number, int, "the number of a virtual function: 0, 1 and so on")
        if not 0 <= number < len(self):
            raise IndexError(f"the NIC has {len(self)} virtual functions, 0 to {len(self) - 1}, and no {number}")
        return HostedVf(self._function, number)

    def __iter__(self) -> Iterator[HostedVf]:
        return (self[number] for number in range(len(self)))

    @always
    def __repr__(self) -> str:
        return f"<HostedVfs: {', '.join(map(repr, self))}>"


class HostedVf(GuardedReads):
    """One VF. Attributes that can be set do what `ip link set PF vf N ...` does on a PF of Linux.

    Counts since the port was opened: resets (of the function, or asked for by message), requests, refused (answered
    with NACK), ignored (no request at all), lost (the VF held the buffer). SSVPC in port.stats() counts the frames that
    anti-spoofing stopped, of all VFs.
    """

    __slots__ = ("_function", "number")

    def __init__(self, function: HostingFunction, number: int) -> None:
        self._function = function
        self.number = number

    @property
    def _known(self) -> Known:
        return self._function.serving.vfs[self.number]

    # ---- what the host sets ----

    @property
    def mac(self) -> str | None:
        """The VF's address: set here, or else the VF's own choice; None before it has one.

        A VF sees the address at its next reset, and can choose another one only if it is trusted. Set None to let it
        choose. Raises ValueError.
        """
        mac = self._known.mac
        return mac.hex(":") if any(mac) else None

    @mac.setter
    def mac(self, address: str | bytes | None) -> None:
        octets = bytes(6) if address is None else unicast_mac(address)
        self._function.opened().serving.set_vf(self.number, mac=octets)

    @property
    def vlan(self) -> int:
        """The VLAN of all its frames, which it does not see; 0: it chooses VLANs itself. Raises ValueError."""
        return self._known.vlan

    @vlan.setter
    def vlan(self, vlan: int) -> None:
        require("vf.vlan", vlan, int, "a VLAN id, or 0 for none")
        self._function.opened().serving.set_vf(self.number, vlan=vlan)

    @property
    def qos(self) -> int:
        """The priority in the tags of its VLAN, 0..7. Raises ValueError."""
        return self._known.qos

    @qos.setter
    def qos(self, qos: int) -> None:
        require("vf.qos", qos, int, "a priority, 0 to 7")
        self._function.opened().serving.set_vf(self.number, qos=qos)

    @property
    def trust(self) -> bool:
        """Whether it may choose its address, more addresses, and all multicast. A change makes it reset itself."""
        return self._known.trust

    @trust.setter
    def trust(self, on: bool) -> None:
        require("vf.trust", on, bool)
        self._function.opened().serving.set_vf(self.number, trust=on)

    @property
    def spoof(self) -> bool:
        """Whether frames with a source address or VLAN that is not its own are stopped and counted (SSVPC)."""
        return self._known.spoofchk

    @spoof.setter
    def spoof(self, on: bool) -> None:
        require("vf.spoof", on, bool)
        self._function.opened().serving.set_vf(self.number, spoofchk=on)

    @property
    def rate(self) -> int:
        """The most Mbit/s that each of its transmit queues sends, 11..10000; 0: no limit. Raises ValueError."""
        return self._known.rate

    @rate.setter
    def rate(self, mbps: int) -> None:
        require("vf.rate", mbps, int, "Mbit/s, or 0 for no limit")
        self._function.opened().serving.set_vf(self.number, rate=mbps)

    @property
    def state(self) -> str:
        """Its link: "auto" follows the port's, "enable" is up for traffic inside the NIC, "disable" stops it."""
        return self._known.state

    @state.setter
    def state(self, state: str) -> None:
        require("vf.state", state, str, '"auto", "enable" or "disable"')
        self._function.opened().serving.set_vf(self.number, state=state)

    @property
    def query_rss(self) -> bool:
        """Whether it may read the RSS key and table, which it shares with the port."""
        return self._known.query_rss

    @query_rss.setter
    def query_rss(self, on: bool) -> None:
        require("vf.query_rss", on, bool)
        self._function.opened().serving.set_vf(self.number, query_rss=on)

    @property
    def settings(self) -> VfSettings:
        """All of them at once, to give them to the port that is opened next. May be set."""
        known = self._known
        return VfSettings(
            mac=self.mac if known.admin else None,
            vlan=known.vlan,
            qos=known.qos,
            trust=known.trust,
            spoof=known.spoofchk,
            rate=known.rate,
            state=known.state,
            query_rss=known.query_rss,
        )

    @settings.setter
    def settings(self, settings: VfSettings) -> None:
        require("vf.settings", settings, VfSettings, "the settings of a virtual function")
        if settings.mac is not None or self._known.admin:
            self.mac = settings.mac
        self._function.opened().serving.set_vf(
            self.number,
            vlan=settings.vlan,
            qos=settings.qos,
            trust=settings.trust,
            spoofchk=settings.spoof,
            rate=settings.rate,
            state=settings.state,
            query_rss=settings.query_rss,
        )

    # ---- what it does ----

    @property
    def served(self) -> bool:
        """Whether it has reset itself since the port was opened or changed trust or state, and may send requests."""
        return self._known.cleared

    @property
    def version(self) -> str:
        """Of the messages that it has agreed on, such as "1.4"."""
        return str(VERSIONS[self._known.api])

    @property
    def addresses(self) -> list[str]:
        """Unicast addresses that it receives besides its own."""
        return [address.hex(":") for address in self._known.extra]

    @property
    def vlans(self) -> frozenset[int]:
        """VLANs that it receives; 0 stands for frames without a tag."""
        return frozenset(self._known.vlans)

    @property
    def resets(self) -> int:
        return self._known.resets

    @property
    def requests(self) -> int:
        return self._known.requests

    @property
    def refused(self) -> int:
        return self._known.refused

    @property
    def ignored(self) -> int:
        return self._known.ignored

    @property
    def lost(self) -> int:
        return self._known.lost

    def stats(self) -> dict[str, int]:
        """VFGPRC, VFGORC, VFMPRC, VFGPTC and VFGOTC since the port was opened; they do not overflow."""
        self._function.opened().check_present()
        return self._function.statistics.of_vf(self.number)

    @property
    def device(self) -> Device:
        """The VF for open_port(), if an emulator of this process has it. Raises PortError for a real one."""
        device = self._function.device
        device = device.inner if isinstance(device, TracedDevice) else device
        if not isinstance(device, HasVfs):
            raise PortError(
                f"a program opens virtual function {self.number} of {device.name} by its own address: ixrings list"
            )
        return device.vf(self.number)

    @always
    def __repr__(self) -> str:
        known = self._known
        parts = [f"vf {self.number}", self.mac or "no address"]
        parts += [f"vlan {known.vlan}"] * bool(known.vlan) + [f"qos {known.qos}"] * bool(known.qos)
        parts += ["trusted"] * known.trust + ["spoof off"] * (not known.spoofchk)
        parts += [f"{known.rate} Mbit/s"] * bool(known.rate) + [f"link {known.state}"] * (known.state != "auto")
        return f"<{', '.join(parts)}{'' if known.cleared else ', not served'}>"


@runtime_checkable
class HasVfs(Protocol):
    """An emulated NIC."""

    def vf(self, number: int) -> Device: ...
