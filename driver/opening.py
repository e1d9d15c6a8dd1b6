"""open_port() and open_ports(): from a name to a port."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from ixrings.hw.device import Device
from ixrings.hw.pci.discovery import UIO_DRIVERS, look_up
from ixrings.hw.trace.device import TracedDevice
from ixrings.hw.uio import UioDevice
from ixrings.hw.vfio import VfioDevice, Way
from ixrings.rings import Region

from .bringup import Bound, Session, bring_up
from .config import BUFFER, PAGED_BUFFER, RSS_KEY, PortConfig, unicast_mac
from .errors import PortError, PortNameError
from .flow_director import FlowDirector
from .link import read_link, wait_link
from .names import Kind, PortName, parse_port_name
from .port import Port

PCI = (Kind.BDF, Kind.VFIO, Kind.VFIO_NOIOMMU, Kind.UIO)


def open_port(
    name_or_device: str | Device,
    *,
    tx_queues: int = 1,
    rx_queues: int = 1,
    tx_slots: int = 1024,
    rx_slots: int = 1024,
    buf_size: int | None = None,
    mtu: int = 1500,
    promiscuous: bool = False,
    region: Region | None = None,
    extra_bufs: int = 0,
    link_timeout: float = 10.0,
    rss_key: bytes | None = None,
    drop: bool | None = None,
    interrupt_interval_us: float = 20.0,
    mac: str | bytes | None = None,
    busy_poll: bool = False,
    flow_director: FlowDirector | None = None,
    loopback: bool = False,
    flow_control: bool = False,
    trace: str | Path | None = None,
) -> Port:
    """Take a NIC, bring it up and give its rings.

    name_or_device: a port name (driver/names.py has the grammar), or a Device, which stays open when the port closes.
    tx_queues, rx_queues: 1..128. RSS spreads flows over receive queues 0..15; what comes to the others is what port.filters sends there. More
    than 64 transmit queues are four traffic classes (0..63, 64..95, 96..111, 112..127), which take turns; within one, its queues do. Queues share
    interrupt vectors from 64 of both kinds on, counters from 17 of a kind on (see PortStatistics).
    tx_slots, rx_slots: of each ring, 64..8192 in eights; a buffer a slot, so 128 rings of 1024 take 280 MB.
    buf_size: bytes of a packet buffer, 1024..15872 in 64s (default: the region's, else 2112, or 2048 without an IOMMU); the NIC fills
    whole KB of it. mtu: 68..9710; longer frames than a buffer take several slots.
    region: memory to share with other ports; extra_bufs: buffers beside those in rings. link_timeout: seconds to wait for the
    link; when it stays down the port opens all the same, see Port.link and Port.wait_link(). rss_key: 40 bytes. drop: whether a
    queue without free slots drops (counted in QPRDC) or lets the packet buffer fill (MPC) (default: drop when there are several and no
    flow_control).
    interrupt_interval_us: least time between interrupts of a queue, 0..1046. mac: instead of the EEPROM's. busy_poll: poll() spins.
    flow_director: gives 64 KB of the packet buffer to FlowFilters (see Port.filters) and says of which kind.
    loopback: the MAC turns around what is sent, and needs no cable (HLREG0.LPBK).
    flow_control: asks the other end to pause before the packet buffer is full, and pauses when asked (802.3x); only rings that do not
    drop let it fill.
    trace: a file that gets a line for every register access, see hw/trace/device.py; without it nothing stands between driver and device.

    Raises ValueError for an option that cannot be, PortNameError, PortError, RegionError for memory, DeviceError for the device;
    nothing is left behind then. Source: 82599 4.6.3.
    """
    config = PortConfig(
        tx_queues,
        rx_queues,
        tx_slots,
        rx_slots,
        BUFFER if buf_size is None else buf_size,
        mtu,
        promiscuous,
        extra_bufs,
        link_timeout,
        RSS_KEY if rss_key is None else bytes(rss_key),
        drop,
        interrupt_interval_us,
        None if mac is None else unicast_mac(mac),
        busy_poll,
        flow_director,
        loopback,
        flow_control,
    )
    if isinstance(name_or_device, str):
        name = parse_port_name(name_or_device)
        bound, text = bound_queues(name, config), name_or_device
    else:
        bound, text = Bound(range(tx_queues), range(rx_queues)), name_or_device.name
    undo = ExitStack()
    try:
        device = undo.enter_context(open_device(name)) if isinstance(name_or_device, str) else name_or_device
        if buf_size is None:
            config = replace(
                config, buf_size=region.buf_size if region else PAGED_BUFFER if device.scattered else BUFFER
            )
        if trace is not None:
            device = undo.enter_context(TracedDevice.recording(device, trace))
        session = bring_up(undo, device, text, config, bound, region)
        wait_for_partner(session, link_timeout)
        return Port(text, session, undo)
    except BaseException:
        undo.close()
        raise


def bound_queues(name: PortName, config: PortConfig) -> Bound:
    """The rings that `-k`, /R and /T leave. Frames that RSS puts on other queues are dropped and counted. Raises PortError."""
    queue = name.queue
    tx, rx = range(config.tx_queues), range(config.rx_queues)
    if queue is not None:
        if (name.transmits and queue not in tx) or (name.receives and queue not in rx):
            raise PortError(
                f"{name.text!r} asks for queue {queue}, but the port has tx_queues={config.tx_queues}, rx_queues={config.rx_queues}; "
                f"open it with tx_queues={queue + 1}, rx_queues={queue + 1} or more"
            )
        tx = rx = range(queue, queue + 1)
    return Bound(tx if name.transmits else (), rx if name.receives else ())


def open_device(name: PortName) -> Device:
    """The transport that the name asks for, or for a bare PCI address the one that its driver is for. Raises DeviceError."""
    if name.kind is Kind.VFIO_USER:
        from ixrings.hw.vfio_user import VfioUserDevice

        return VfioUserDevice(name.target)
    if name.kind is not Kind.EMULATED:
        return open_pci(name)
    from ixrings.hw.emulator import Emulated82599, Policy, parse_fault  # loads a C library that real NICs do not need

    try:
        fault = parse_fault(name.fault) if name.fault else None
    except ValueError as error:
        raise PortNameError(f"{name.text!r}: {error}") from None
    nic = Emulated82599(name.target, paced=name.paced, link_up_s=name.link_up_s, rules=Policy(name.rules))
    if fault:
        nic.inject(*fault)
    return nic


def open_pci(name: PortName) -> Device:
    """Raises DeviceError."""
    function = look_up(name.target)
    if name.kind is Kind.UIO or (name.kind is Kind.BDF and function.driver in UIO_DRIVERS):
        return UioDevice(name.target)
    return VfioDevice(name.target, Way.NOIOMMU if name.kind is Kind.VFIO_NOIOMMU else None)


def wait_for_partner(session: Session, timeout_s: float) -> None:
    """Give the link its time; not when the transport knows already that there is nobody at the other end."""
    link = read_link(session.device, session.nic)
    if not link.up and not session.device.link_trouble():
        wait_link(session.device, session.nic, timeout_s)


def hugepages(names: Iterable[str | Device]) -> bool | None:
    """Whether memory for these ports should be on hugepages, as Region has it: a real NIC gains by them, or needs them."""
    wants = [
        (None if parse_port_name(name).kind in PCI else False) if isinstance(name, str) else name.hugepages
        for name in names
    ]
    return True if True in wants else None if None in wants else False


def trace_files(trace: str | Path | None, count: int) -> list[Path | None]:
    if trace is None or count == 1:
        return [None if trace is None else Path(trace)] * count
    path = Path(trace)
    return [path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(1, count + 1)]


def scattered(name: str | Device) -> bool:
    """Whether this port may reach its memory by pages only; see Device.scattered."""
    if isinstance(name, Device):
        return name.scattered
    parsed = parse_port_name(name)
    return parsed.kind in (Kind.UIO, Kind.VFIO_NOIOMMU) or (
        parsed.kind is Kind.BDF and look_up(parsed.target).driver in UIO_DRIVERS
    )


@contextmanager
def open_ports(
    *names: str | Device,
    tx_queues: int = 1,
    rx_queues: int = 1,
    tx_slots: int = 1024,
    rx_slots: int = 1024,
    buf_size: int | None = None,
    mtu: int = 1500,
    promiscuous: bool = False,
    extra_bufs: int = 0,
    link_timeout: float = 10.0,
    rss_key: bytes | None = None,
    drop: bool | None = None,
    interrupt_interval_us: float = 20.0,
    busy_poll: bool = False,
    flow_director: FlowDirector | None = None,
    loopback: bool = False,
    flow_control: bool = False,
    trace: str | Path | None = None,
) -> Iterator[list[Port]]:
    """Ports that share one region, so that forward() between them copies nothing; options as for open_port().

    trace: of several ports each has its own file, `bridge-1.trace` and `bridge-2.trace` for "bridge.trace".

        with open_ports("emulated:tap=left", "emulated:tap=right", promiscuous=True) as (left, right):
    """
    if not names:
        raise PortError(
            'open_ports() needs a port name or more, such as open_ports("emulated:cable=a", "emulated:cable=b")'
        )
    if buf_size is None:
        buf_size = PAGED_BUFFER if any(map(scattered, names)) else BUFFER
    with ExitStack() as stack:
        region = stack.enter_context(
            Region.for_ports(
                len(names),
                tx_rings=tx_queues,
                rx_rings=rx_queues,
                tx_slots=tx_slots,
                rx_slots=rx_slots,
                buf_size=buf_size,
                extra_bufs=extra_bufs,
                hugepages=hugepages(names),
            )
        )
        ports = [
            stack.enter_context(
                open_port(
                    name,
                    tx_queues=tx_queues,
                    rx_queues=rx_queues,
                    tx_slots=tx_slots,
                    rx_slots=rx_slots,
                    buf_size=buf_size,
                    mtu=mtu,
                    promiscuous=promiscuous,
                    region=region,
                    extra_bufs=extra_bufs,
                    link_timeout=0,
                    rss_key=rss_key,
                    drop=drop,
                    interrupt_interval_us=interrupt_interval_us,
                    busy_poll=busy_poll,
                    flow_director=flow_director,
                    loopback=loopback,
                    flow_control=flow_control,
                    trace=file,
                )
            )
            for name, file in zip(names, trace_files(trace, len(names)))
        ]
        for port in ports:  # only now: ports may be each other's partners
            wait_for_partner(port._open(), link_timeout)
        yield ports
