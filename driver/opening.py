"""open_port() and open_ports(): from a name to a port."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ixrings.hw.device import Device
from ixrings.hw.pci.discovery import UIO_DRIVERS, look_up
from ixrings.hw.trace.device import TracedDevice
from ixrings.hw.uio import UioDevice
from ixrings.hw.vfio import VfioDevice, Way
from ixrings.rings import Region

from . import forked
from .bringup import bring_up, region_memory
from .checks import require
from .config import BUFFER, PAGED_BUFFER, OnePortOptions, PortOptions
from .errors import PortBusy, PortError, PortNameError
from .function import Bound
from .link import wait_link
from .names import Kind, PortName, parse_port_name
from .options import complete, takes_options
from .port import Port
from .session import Session

if TYPE_CHECKING:
    from typing_extensions import Unpack  # mypy and pyright bring it with them; at run time annotations stay strings

Opener = Callable[[PortName, OnePortOptions], Port]
# Kinds of ports that another module opens. It imports this one, and so adds itself here: netmap_port.py.
OPENERS: dict[Kind, Opener] = {}
PCI = (Kind.BDF, Kind.VFIO, Kind.VFIO_NOIOMMU, Kind.UIO)
# `ixrings glass` sets them for the program that it starts: the wire of the emulated port that it shows, and its socket.
SHOWN_WIRE, SHOWN_SOCKET = "IXRINGS_GLASS_WIRE", "IXRINGS_GLASS_SOCKET"


@takes_options(OnePortOptions)
def open_port(name_or_device: str | Device, **options: Unpack[OnePortOptions]) -> Port:
    """Take a NIC, bring it up and give its rings.

    name_or_device: a port name (see driver/names.py for the grammar), or a Device, which stays open when the port
    closes.

    Raises TypeError for an unknown option or a wrong type, ValueError for a bad value, PortNameError, PortError,
    RegionError for memory, DeviceError for the device; nothing is left open then. Source: 82599 4.6.3.
    """
    check_name("open_port()", name_or_device)
    chosen = complete(OnePortOptions, options, "open_port")
    if isinstance(name_or_device, str):
        name = parse_port_name(name_or_device)
        check_not_open(name)
        if name.kind in OPENERS:
            return OPENERS[name.kind](name, chosen)
        bound, text = bound_queues(name, chosen), name_or_device
    else:
        bound, text = Bound(range(chosen["tx_queues"]), range(chosen["rx_queues"])), name_or_device.name
    undo = ExitStack()
    try:
        device = undo.enter_context(open_device(name)) if isinstance(name_or_device, str) else name_or_device
        if chosen["trace"] is not None:
            device = undo.enter_context(TracedDevice.recording(device, chosen["trace"]))
        session = bring_up(undo, device, text, chosen, bound)
        wait_for_partner(session, chosen["link_timeout"])
        return Port(text, session, undo)
    except BaseException:
        undo.close()
        raise


def check_name(caller: str, name: object) -> None:
    """Raise TypeError unless `name` is a port name or a Device."""
    require(caller, name, str | Device, 'a port name, such as "emulated" or "0000:03:00.0", or a Device')


def check_not_open(name: PortName) -> None:
    """Raises PortBusy if this process has the NIC open, or the TAP interface, which the kernel gives only once."""
    if name.kind not in (*PCI, Kind.VFIO_USER) and not name.target.startswith("tap="):
        return
    for port in list(forked.OPEN):
        with suppress(PortNameError):  # a port on a Device may have any name
            other = parse_port_name(port.name)
            way = PCI if name.kind in PCI else (name.kind,)
            if not port.closed and other.target == name.target and other.kind in way:
                raise PortBusy(
                    f"{name.text} is open in this process, as port {port.name}. Use that port (port.queue(k) for a "
                    "queue of it), or close it first: port.close()"
                )


def bound_queues(name: PortName, options: PortOptions) -> Bound:
    """The queues that have rings: all of them, or those that `-k`, /R and /T leave.

    Frames for other queues are dropped and counted. Raises PortError.
    """
    queue = name.queue
    tx, rx = range(options["tx_queues"]), range(options["rx_queues"])
    if queue is not None:
        if (name.transmits and queue not in tx) or (name.receives and queue not in rx):
            raise PortError(
                f"{name.text!r} asks for queue {queue}, but the port has tx_queues={len(tx)}, rx_queues={len(rx)}. "
                f"Open it with tx_queues={queue + 1}, rx_queues={queue + 1} or more"
            )
        tx = rx = range(queue, queue + 1)
    return Bound(tx if name.transmits else (), rx if name.receives else ())


def open_device(name: PortName) -> Device:
    """Open the device through the transport in the name.

    For a bare PCI address, the kernel driver of the NIC decides. Raises DeviceError, PortNameError.
    """
    if name.kind is Kind.VFIO_USER:
        from ixrings.hw.vfio_user import VfioUserDevice

        return VfioUserDevice(name.target)
    if name.kind is Kind.NETMAP:
        raise PortNameError(
            f"{name.text} is a port of a daemon, which alone reaches its NIC. To see its link and rings, run: ixrings "
            "daemon --status"
        )
    if not name.is_emulated:
        return open_pci(name)
    if name.kind is Kind.EMULATED and os.environ.get(SHOWN_WIRE) == name.target:
        from ixrings.hw.vfio_user import VfioUserDevice

        return VfioUserDevice(os.environ[SHOWN_SOCKET])  # `ixrings glass` shows this port, and has its NIC
    # Imported here, because it loads a C library that a real NIC does not need.
    from ixrings.hw.emulator import Emulated82599, Policy, emulated_vf, parse_fault

    try:
        fault = parse_fault(name.fault) if name.fault else None
    except ValueError as error:
        raise PortNameError(f"{name.text!r}: {error}") from None
    rules = Policy(name.rules)
    device: Device
    if name.kind is Kind.EMULATED_VF:
        device = emulated_vf(name.target, name.vf, paced=name.paced, link_up_s=name.link_up_s, rules=rules)
        nic = device.pf
    else:
        device = nic = Emulated82599(name.target, paced=name.paced, link_up_s=name.link_up_s, rules=rules, vfs=name.vfs)
    if fault:
        nic.inject(*fault)
    return device


def open_pci(name: PortName) -> Device:
    """Open a NIC on the PCI bus through VFIO or UIO. Raises DeviceError."""
    function = look_up(name.target)
    if name.kind is Kind.UIO or (name.kind is Kind.BDF and function.driver in UIO_DRIVERS):
        return UioDevice(name.target)
    return VfioDevice(name.target, Way.NOIOMMU if name.kind is Kind.VFIO_NOIOMMU else None, vf_token=name.vf_token)


def wait_for_partner(session: Session, timeout_s: float) -> None:
    """Wait for the link, but not if the transport already knows that nothing is at the other end."""
    if not session.function.link().up and not session.device.link_trouble():
        wait_link(session.function.link, timeout_s)


def hugepages(names: Iterable[str | Device]) -> bool | None:
    """The argument of region_memory(): True if a port needs hugepages, None if one gains by them, else False."""
    wants = [
        (None if parse_port_name(name).kind in PCI else False) if isinstance(name, str) else name.hugepages
        for name in names
    ]
    return True if True in wants else None if None in wants else False


def trace_files(trace: str | Path | None, count: int) -> list[Path | None]:
    """A trace file for each of `count` ports."""
    if trace is None or count == 1:
        return [None if trace is None else Path(trace)] * count
    path = Path(trace)
    return [path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(1, count + 1)]


def scattered(name: str | Device) -> bool:
    """Device.scattered, found without opening the device."""
    if isinstance(name, Device):
        return name.scattered
    parsed = parse_port_name(name)
    return parsed.kind in (Kind.UIO, Kind.VFIO_NOIOMMU) or (
        parsed.kind is Kind.BDF and look_up(parsed.target).driver in UIO_DRIVERS
    )


@takes_options(PortOptions)
@contextmanager
def open_ports(*names: str | Device, **options: Unpack[PortOptions]) -> Iterator[list[Port]]:
    """Open ports that share one region, so that forward() between them copies nothing. Raises what open_port() raises.

    with open_ports("emulated:tap=left", "emulated:tap=right", promiscuous=True) as (left, right):
    """
    for name in names:
        check_name("each argument of open_ports()", name)
    chosen = complete(PortOptions, options, "open_ports")
    if not names:
        raise PortError(
            'open_ports() needs one port name or more, such as open_ports("emulated:cable=a", "emulated:cable=b")'
        )
    elsewhere = [isinstance(name, str) and parse_port_name(name).kind in OPENERS for name in names]
    if any(elsewhere):
        if not all(elsewhere):
            raise PortError(
                "open_ports() opens ports that share memory, and ports of the daemon share it only with each other. "
                "Serve all of them by one daemon, or open each by open_port()"
            )
        with ExitStack() as stack:
            yield [stack.enter_context(open_port(name, **chosen)) for name in names]
        return
    buf_size = chosen["buf_size"]
    if buf_size is None:
        buf_size = PAGED_BUFFER if any(map(scattered, names)) else BUFFER
    with ExitStack() as stack:
        region = stack.enter_context(
            Region.for_ports(
                len(names),
                tx_rings=chosen["tx_queues"],
                rx_rings=chosen["rx_queues"],
                tx_slots=chosen["tx_slots"],
                rx_slots=chosen["rx_slots"],
                buf_size=buf_size,
                extra_bufs=chosen["extra_bufs"],
                memory=region_memory(hugepages(names)),
            )
        )
        ports: list[Port] = []
        for name, file in zip(names, trace_files(chosen["trace"], len(names))):
            alone: PortOptions = {**chosen, "trace": file, "link_timeout": 0.0}
            ports.append(stack.enter_context(open_port(name, region=region, **alone)))
        for port in ports:  # only now: the ports may be link partners of each other
            wait_for_partner(port._owned(), chosen["link_timeout"])
        yield ports
