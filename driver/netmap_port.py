"""Ports of the daemon: `open_port("netmap:ix0-2/R")` gives a Port whose rings another process syncs (driver/daemon).

The port is a handle, as one open of /dev/netmap is. Settings of the NIC go through the daemon where it allows them;
what only the program with the NIC can do is refused.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import select
import socket
import struct
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any, NoReturn

from ixrings.hw.errors import DeviceError, DeviceGone
from ixrings.rings import Interface, RegionError
from ixrings.rings.attached import AttachedRegion
from ixrings.rings.client import Client
from ixrings.rings.layout import NETMAP_API

from . import forked, opening
from .checks import require
from .config import MAX_FRAME, OnePortOptions
from .daemon import protocol
from .daemon.abi import BODIES, NAME_SIZE, Call, Flag, Header, Mode, PortInfo, Register, Request, pack, unpack
from .daemon.ask import Denied, ask, ask_status, connect, default_socket
from .daemon.errors import Refused
from .daemon.protocol import Kind, Message
from .errors import LinkDown, NothingToWatch, PortClosed, PortError, PortTimeout
from .frames import VLAN_TAG
from .handle_set import HandleSet
from .link import Link
from .names import Kind as NameKind
from .names import PortName
from .netmap_names import NetmapName, Part, is_netmap_name
from .options import rows_of
from .port import Port
from .statistics import RX_QUEUE, TX_QUEUE, PortStatistics, port_counters
from .worker import map_region

ETHERNET = 14
LINK_LOOK_S = 0.05
MODES = {
    (Part.NIC, False): Mode.ALL_NIC,
    (Part.NIC, True): Mode.ONE_NIC,
    (Part.HOST, False): Mode.SW,
    (Part.HOST, True): Mode.ONE_SW,
    (Part.BOTH, False): Mode.NIC_SW,
}
FLAGS = {
    "t": Flag.MONITOR_TX, "r": Flag.MONITOR_RX, "z": Flag.ZCOPY_MON, "x": Flag.EXCLUSIVE, "R": Flag.RX_RINGS_ONLY,
    "T": Flag.TX_RINGS_ONLY,
}  # fmt: skip
# Options that only the program with the NIC can follow.
OWNERS = ("mac", "region", "trace", "flow_director", "rss_key", "drop", "loopback", "flow_control")
KINDS: dict[str, type[Exception]] = {
    kind.__name__: kind for kind in (PortError, PortTimeout, PortClosed, DeviceError, DeviceGone, ValueError, TypeError)
}
RESULTS: dict[str, type] = {"mtu": int, "mac": str, "promiscuous": bool, "link": dict, "stats": dict}
END_S = 0.5  # between the end of a process's sockets, and its own
LONGEST_SPIN_NS = 1_000_000  # a spin keeps the GIL


class Connection:
    """The socket to the daemon, and the descriptors of what it has registered. text: the port's name, for errors.

    Raises PortError if no daemon is there, or it does not let this user in.
    """

    def __init__(self, text: str) -> None:
        self.text, self.path = text, default_socket()
        try:
            self._sock = connect(self.path)
        except OSError as error:
            raise PortError(f"{text} is a port of the daemon at {self.path}: {error.strerror}") from None
        (self.pid,) = struct.unpack_from("i", self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        self.fds: list[int] = []
        self.wake_rx = self.wake_tx = -1
        self.watched = ""  # the port that a monitor watches
        self.client: Client | None = None

    @property
    def socket(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        """Close all descriptors. May be called again."""
        fds, self.fds, self.client = self.fds, [], None
        protocol.close_all(fds)
        self._sock.close()

    # ---- messages ----

    def ask(self, message: Message) -> Message:
        """Raises PortClosed if the daemon has ended, PortTimeout if it does not answer."""
        try:
            return ask(self._sock, message)
        except Denied:
            raise
        except TimeoutError:
            raise PortTimeout(f"{self.text}: the daemon, process {self.pid}, does not answer") from None
        except (OSError, ValueError) as error:
            self.check()
            if isinstance(error, ConnectionError | BrokenPipeError):
                raise self.ended() from None
            raise PortError(f"{self.text}: the daemon, process {self.pid}, cannot be asked: {error}") from None

    def control(self, name: str, request: Request, body: Register | PortInfo) -> tuple[Any, Message]:
        """One NIOCCTRL. Returns its body as the daemon has filled it. Raises Denied with netmap's errno, PortClosed."""
        header = Header(nr_version=NETMAP_API, nr_reqtype=request, nr_name=name.encode()[: NAME_SIZE - 1])
        reply = self.ask(Message(Kind.CTRL, pack(Call(header, body))))
        if reply.error:
            protocol.close_all(reply.fds)
            raise Denied(reply)
        try:
            return unpack(reply.payload).body, reply
        except Refused as error:
            protocol.close_all(reply.fds)
            raise self.not_understood(error) from None

    def owner(self, port: str, call: str, *arguments: object) -> Any:
        """What the owner of the NIC does or tells. Raises what it would raise there."""
        request = {"port": port, "call": call, "arguments": arguments}
        reply = self.ask(Message(Kind.OWNER, json.dumps(request).encode()))
        protocol.close_all(reply.fds)
        try:
            found = json.loads(reply.payload or b"{}")
        except (ValueError, RecursionError):
            raise self.not_understood("it is not JSON") from None
        if not isinstance(found, dict):
            raise self.not_understood("it is not a JSON object")
        if "result" not in found:
            sentence = found.get("error") or os.strerror(reply.error)
            raise KINDS.get(str(found.get("kind")), PortError)(f"{self.text}: {sentence}")
        if not isinstance(found["result"], RESULTS.get(call, object)):
            raise self.not_understood(f"{call} is {found['result']!r:.40}")
        return found["result"]

    def not_understood(self, why: object) -> PortError:
        """The error for an answer that the daemon should not give."""
        return PortError(f"{self.text}: the answer of the daemon, process {self.pid}, is not understood: {why}")

    # ---- the end of the daemon ----

    def check(self) -> None:
        """Raises PortClosed if the daemon has ended, or has taken the port away."""
        if self._hung_up() or (self.client is not None and self.client.closed):
            raise self.ended()

    def _hung_up(self) -> bool:
        poll = select.poll()
        poll.register(self._sock, 0)
        return bool(poll.poll(0))

    def ended(self) -> PortClosed:
        """The error that says what is known about the end."""
        if has_ended(self.pid):
            return PortClosed(
                f"{self.text} is closed: the daemon, process {self.pid}, has ended. Start it again, then open the port "
                "again"
            )
        if self._sock.fileno() < 0 or self._hung_up():
            return PortClosed(
                f"{self.text} is closed: the daemon, process {self.pid}, has closed the connection. Its log has the "
                "reason"
            )
        return PortClosed(
            f"{self.text} is closed: the daemon, process {self.pid}, has taken the port away. Its log has the reason"
        )

    def nothing_comes(self) -> PortClosed:
        """The error for rings that have ended, because there is nothing behind them any more."""
        if self.watched:
            return PortClosed(
                f"{self.text} has ended: the last program that used {self.watched} has closed it. Open the monitor "
                "again when another one uses it"
            )
        return PortClosed(
            f"{self.text} has ended: what was behind it is gone. The log of the daemon, process {self.pid}, has the "
            "reason"
        )


def has_ended(pid: int) -> bool:
    """Whether the process has ended, or does so now: its sockets are closed a moment before its end is known."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:  # it has ended
        return True
    try:
        end = select.poll()
        end.register(fd, select.POLLIN)
        return bool(end.poll(END_S * 1000))
    finally:
        os.close(fd)


def register(connection: Connection, name: NetmapName, extra_bufs: int) -> tuple[Register, Message]:
    """Bind the rings of a name. Raises PortError, PortClosed."""
    try:
        mem_id = name.mem_id or (shared_region(connection, name.share) if name.share else 0)
        body = Register(
            nr_mode=MODES[name.part, name.ring is not None],
            nr_ringid=name.ring or 0,
            nr_mem_id=mem_id,
            nr_extra_bufs=extra_bufs,
            nr_flags=sum((FLAGS[letter] for letter in name.flags), Flag.NO_TX_POLL),
        )
        for field, count in name.counts:
            setattr(body, f"nr_{field}", count)
        body, reply = connection.control(name.port, Request.REGISTER, body)
    except Denied as error:
        raise why_refused(connection, name, error) from None
    if not isinstance(body, BODIES[Request.REGISTER]) or len(reply.fds) != 6:
        protocol.close_all(reply.fds)
        raise connection.not_understood(f"it brings {len(reply.fds)} descriptors, not 6")
    return body, reply


def shared_region(connection: Connection, port: str) -> int:
    """The number of another port's region. Raises OSError."""
    body, reply = connection.control(port, Request.PORT_INFO_GET, PortInfo())
    protocol.close_all(reply.fds)
    return int(body.nr_mem_id)


def why_refused(connection: Connection, name: NetmapName, error: Denied) -> PortError:
    """The error for an errno, with the daemon's own sentence, or with what it tells about its ports."""
    begin = f"{connection.text}: the daemon, process {connection.pid}, refuses it ({error.strerror})"
    status: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        status = ask_status(connection.path)
    users = sorted({str(each["pid"]) for each in status.get("handles", []) if each["port"] == name.port})
    why = f": {error.sentence}" if error.sentence else ". Its log says why"
    if error.errno == errno.EINVAL and name.monitors and status:
        nobody = f": no program uses {name.port} now, so there is nothing to watch; start it first"
        return NothingToWatch(begin + (why if users else nobody))  # one may have come meanwhile
    if error.errno == errno.EBUSY and users:
        own = [port.name for port in forked.OPEN if not port.closed and is_netmap_name(port.name)]
        here = f", and this process has {', '.join(sorted(own))} open" if str(os.getpid()) in users and own else ""
        return PortError(f"{begin}{why}. Process {', '.join(users)} has rings of this port{here}")
    return PortError(begin + why)


def open_handle(text: str, port: str, name: NetmapName, options: OnePortOptions) -> HandleSet:
    """Bind the rings and map them. text: the name in errors, such as `queue 2 of netmap:ix0`; port: of the port.

    Raises PortError, PortClosed.
    """
    connection = Connection(text)
    with ExitStack() as undo, ExitStack() as received:
        undo.callback(connection.close)
        body, reply = register(connection, name, options["extra_bufs"])
        region_fd, asks, answers, kick, wake_rx, wake_tx = reply.fds
        connection.fds = [asks, answers, kick, wake_rx, wake_tx]
        connection.wake_rx, connection.wake_tx = wake_rx, wake_tx
        connection.watched = name.port if name.monitors else ""
        received.callback(os.close, region_fd)  # the region has its own: so no signal can make both close the same
        try:
            for fd in (region_fd, asks, answers):
                check_sealed(fd)
            mapping = map_region(region_fd)
            spin_ns = min(reply.value, LONGEST_SPIN_NS)
            client = Client(asks, answers, kick, connection.socket, spin_ns, connection.ended)
            interface = Interface(mapping, body.nr_offset, text)
            region = AttachedRegion(os.dup(region_fd), mapping, interface)
        except (OSError, ValueError, RegionError) as error:
            raise PortError(f"{text} cannot be mapped: {error}") from None
        connection.client = client
        longest = ETHERNET + VLAN_TAG + connection.owner(name.port, "mtu") if name.has_nic else MAX_FRAME
        handles = HandleSet(
            text,
            port,
            interface,
            region,
            client,
            connection,
            longest=longest,
            busy_poll=options["busy_poll"],
            open_queue=lambda index: open_queue(port, name, index, options),
        )
        undo.pop_all()
        return handles


def check_sealed(fd: int) -> None:
    """Raises OSError, ValueError unless the memory keeps its size: whoever reads past its end is killed by SIGBUS.

    It asks for seals alone, because other calls may take for ever with a file of another kind.
    """
    if not fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
        raise ValueError("another process can make its memory shorter (there is no F_SEAL_SHRINK)")


def open_in_time(text: str, name: NetmapName, options: OnePortOptions) -> HandleSet:
    """open_handle(), which a monitor tries again for `link_timeout` seconds while there is nothing to watch."""
    end = time.monotonic() + options["link_timeout"]
    while True:
        try:
            return open_handle(text, text, name, options)
        except NothingToWatch:
            if time.monotonic() >= end:
                raise
            time.sleep(LINK_LOOK_S)


def open_queue(port: str, name: NetmapName, index: int, options: OnePortOptions) -> HandleSet:
    """A handle of one queue of a port. Raises PortError."""
    if name.part is not Part.NIC or "x" in name.flags:
        raise PortError(
            f"{port} has no handle for a queue alone; open each of them by a name of its own, such as "
            f"netmap:{name.port}{'^' if name.part is not Part.NIC else f'-{index}/x'}"
        )
    return open_handle(f"queue {index} of {port}", port, replace(name, ring=index), {**options, "extra_bufs": 0})


class NetmapPort(Port):
    """A port of the daemon, returned by open_port("netmap:NAME"). It has what Port has, as far as a handle goes.

    Rings, buffers, syncs, waits, queue() and forward() work as with a NIC of one's own; ports of one daemon share their
    region. mac, mtu, promiscuous, link and stats() are the NIC's, through the daemon. Registers, filters, offloads and
    the clock are refused. A port without a NIC (a pipe, a switch port) has an address made from its name, and counts
    nothing. When the daemon ends, calls raise PortClosed. So does a wait on a monitor when the last program that it
    watches has closed the port, and the monitor has no more frames.
    """

    __slots__ = ("_handle", "_netmap")

    def __init__(self, text: str, name: NetmapName, handles: HandleSet, undo: ExitStack) -> None:
        super().__init__(text, handles, undo)
        self._netmap, self._handle = name, handles.handle

    def _ask(self, call: str, *arguments: object) -> Any:
        self._open()
        assert isinstance(self._handle, Connection)
        return self._handle.owner(self._netmap.port, call, *arguments)

    def _owned(self) -> NoReturn:
        self._open()
        assert isinstance(self._handle, Connection)
        raise PortError(
            f"{self.name} gives rings alone: the daemon, process {self._handle.pid}, has the NIC. Registers, "
            "filters, offloads, clock and module need a program that opens the NIC itself, without a daemon"
        )

    @property
    def memory(self) -> str:
        size = self._open().region.page_size
        return f"{size >> 20} MiB hugepages" if size >= 1 << 20 else f"{size >> 10} KiB pages"

    @property
    def mtu(self) -> int:
        return int(self._ask("mtu")) if self._netmap.has_nic else MAX_FRAME - ETHERNET - VLAN_TAG

    @property
    def mac(self) -> str:
        if self._netmap.has_nic:
            return str(self._ask("mac"))
        self._open()
        made = hashlib.blake2b(self._netmap.port.encode(), digest_size=5).digest()
        return (b"\x02" + made).hex(":")

    @mac.setter
    def mac(self, address: str | bytes) -> None:
        self._ask("set_mac", address if isinstance(address, str) else bytes(address).hex(":"))

    @property
    def promiscuous(self) -> bool:
        return not self._netmap.has_nic or bool(self._ask("promiscuous"))

    @promiscuous.setter
    def promiscuous(self, on: bool) -> None:
        require("port.promiscuous", on, bool)
        self._ask("set_promiscuous", on)

    @property
    def link(self) -> Link:
        return Link(**self._ask("link")) if self._netmap.has_nic else Link(True, 0)

    def wait_link(self, timeout: float = 10.0) -> Link:
        require("wait_link()", timeout, float)
        end = time.monotonic() + timeout
        while not (link := self.link).up:
            if time.monotonic() >= end:
                raise LinkDown(f"{self.name}: no link after {timeout:g} s: {link.reason}")
            time.sleep(LINK_LOOK_S)
        return link

    def stats(self) -> PortStatistics:
        if not self._netmap.has_nic:
            self._open()
            return PortStatistics(dict.fromkeys(port_counters(), 0), (), (), dict.fromkeys(RX_QUEUE, 0),
                                  dict.fromkeys(TX_QUEUE, 0))  # fmt: skip
        found = self._ask("stats")
        return PortStatistics(**{**found, "rx": tuple(found["rx"]), "tx": tuple(found["tx"])})


def check_options(name: PortName, options: OnePortOptions) -> None:
    """Raises PortError for an option that only the program with the NIC can follow."""
    for option, (_, row) in rows_of(OnePortOptions).items():
        if option in OWNERS and options[option] != row.default:  # type: ignore[literal-required]
            raise PortError(
                f"{name.text}: {option} is chosen by the program that opens the NIC, which is the daemon; leave it out"
            )


def check_queues(name: PortName, options: OnePortOptions, handles: HandleSet) -> None:
    """Raises PortError if fewer queues are there than were asked for."""
    for option, rings in (("tx_queues", handles.tx_rings), ("rx_queues", handles.rx_rings)):
        wanted = options[option]  # type: ignore[literal-required]
        if name.queue is None and rings and len(rings) < wanted:
            raise PortError(
                f"{name.text} has {len(rings)} rings, and {option}={wanted} asks for more. Start the daemon with "
                f"--{option.replace('_', '-')} {wanted}"
            )


def open_netmap_port(name: PortName, options: OnePortOptions) -> Port:
    """Open a port of the daemon. mtu, slots and buf_size are the daemon's to choose, and do nothing here.

    link_timeout: a monitor waits so long for a program to watch; no port waits for its link. promiscuous asks the
    daemon, except for a monitor. Raises PortError, PortClosed, PortTimeout.
    """
    assert name.netmap is not None
    check_options(name, options)
    undo = ExitStack()
    try:
        handles = open_in_time(name.text, name.netmap, options)
        undo.callback(handles.close)
        check_queues(name, options, handles)
        port = NetmapPort(name.text, name.netmap, handles, undo)
        if options["promiscuous"] and not name.netmap.monitors and not port.promiscuous:
            port.promiscuous = True
        return port
    except BaseException:
        undo.close()
        raise


opening.OPENERS[NameKind.NETMAP] = open_netmap_port
