"""A Python driver for the Intel 82599. Users import it as `ixrings`. README.md in this folder lists its files."""

if __name__ != "ixrings.driver":  # the root of a checkout is on sys.path
    raise ImportError("import ixrings, not driver: the folder driver/ is the package ixrings.driver")

from ixrings.rings.headers import ETHERNET, IPV4, TCP, UDP

from .clock import Clock, Stamp
from .config import PortOptions
from .endpoint import PortTransport, create_port_endpoint
from .errors import (
    ERRORS,
    DmaRefused,
    LinkDown,
    NothingReceived,
    NotOffered,
    PfNotReady,
    PortBusy,
    PortClosed,
    PortError,
    PortNameError,
    PortStuck,
    PortTimeout,
    RequestRefused,
)
from .flow_director import FlowDirector, FlowFilter, Protocol
from .link import Link
from .names import PortName, parse_port_name
from .netmap_port import NetmapPort
from .offload import Offload
from .opening import open_port, open_ports
from .port import Port
from .queue import Queue, poll_ports
from .received import Checksum, Received
from .rss import Rss, RssHeaders
from .share import Share
from .shared_queue import SharedQueue
from .statistics import PortStatistics
from .steering import EtherTypeFilter, Filter, Filters, FiveTupleFilter, SynFilter
from .vf import Vf
from .worker import WorkerQueue

# ruff keeps this list and the imports above in step: a name that only one of them has is an error (F401, F822).
__all__ = [
    "ERRORS",
    "ETHERNET",
    "IPV4",
    "TCP",
    "UDP",
    "Checksum",
    "Clock",
    "DmaRefused",
    "EtherTypeFilter",
    "Filter",
    "Filters",
    "FiveTupleFilter",
    "FlowDirector",
    "FlowFilter",
    "Link",
    "LinkDown",
    "NetmapPort",
    "NotOffered",
    "NothingReceived",
    "Offload",
    "PfNotReady",
    "Port",
    "PortBusy",
    "PortClosed",
    "PortError",
    "PortName",
    "PortNameError",
    "PortOptions",
    "PortStatistics",
    "PortStuck",
    "PortTimeout",
    "PortTransport",
    "Protocol",
    "Queue",
    "Received",
    "RequestRefused",
    "Rss",
    "RssHeaders",
    "Share",
    "SharedQueue",
    "Stamp",
    "SynFilter",
    "Vf",
    "WorkerQueue",
    "create_port_endpoint",
    "open_port",
    "open_ports",
    "parse_port_name",
    "poll_ports",
]
