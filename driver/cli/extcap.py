"""`ixrings extcap`: the ports of a daemon as capture interfaces of Wireshark, beside the programs that use them.

Wireshark runs the command with --extcap-interfaces, --extcap-dlts, --extcap-config and --capture (Wireshark's user
guide, "Adding Capture Interfaces And Log Sources Using Extcap"). `ixrings extcap --install` puts a line that calls it
into Wireshark's folder.
"""

from __future__ import annotations

import argparse
import os
import select
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ixrings.hw.capture.frames import LINKTYPE_ETHERNET, MAX_FRAME
from ixrings.hw.capture.pcap import CaptureWriter
from ixrings.hw.errors import CaptureError
from ixrings.rings.layout import SlotFlag

from ..arguments import whole
from ..capture_filter import Filter, parse_filter
from ..errors import NothingToWatch, PortClosed
from ..opening import open_port
from ..port import Port
from ..program import reader_has_gone, status_of

if TYPE_CHECKING:
    from ixrings.rings import RxRing

FOLDERS = [Path("~/.local/lib/wireshark/extcap"), Path("~/.config/wireshark/extcap")]  # from Wireshark 4.2 on; before
PREFIX = "netmap:"
DIRECTIONS = {"rt": "received and sent", "r": "received", "t": "sent"}
POLL_S, FLUSH_S = 0.03, 0.05  # a frame is in the pipe within 100 ms
AGAIN_MS = 100  # time between two looks for a program to watch


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "extcap",
        help="capture in Wireshark beside the programs of a daemon",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--install",
        nargs="*",
        type=Path,
        metavar="FOLDER",
        help=f"write the wrapper for Wireshark (default: {FOLDERS[0]} and, before Wireshark 4.2, {FOLDERS[1]})",
    )
    ask = parser.add_argument_group("what Wireshark asks")
    ask.add_argument("--extcap-interfaces", action="store_true", help="list the interfaces")
    ask.add_argument("--extcap-version", nargs="?", const="", metavar="VERSION", help="Wireshark's version")
    ask.add_argument("--extcap-interface", default="", metavar="NAME")
    ask.add_argument("--extcap-dlts", action="store_true", help="list the link types of an interface")
    ask.add_argument("--extcap-config", action="store_true", help="list the options of an interface")
    ask.add_argument("--extcap-capture-filter", default="", metavar="FILTER", help="see driver/capture_filter.py")
    ask.add_argument("--capture", action="store_true", help="capture until the reader goes, or SIGTERM")
    ask.add_argument("--fifo", default="", metavar="FIFO", help="where to write: a named pipe")
    options = parser.add_argument_group("options of a capture")
    options.add_argument("--direction", choices=DIRECTIONS, default="rt", help="default: %(default)s, both")
    options.add_argument("--snaplen", type=whole(0, MAX_FRAME), default=0, help="bytes of a frame; 0 for all (default)")


def run(options: argparse.Namespace) -> int:
    if options.install is not None:
        return install(options.install or FOLDERS)
    if options.extcap_interfaces:
        return list_interfaces()
    if options.extcap_version is not None and not options.extcap_interface:
        print(version_line())
        return 0
    if not options.extcap_interface:
        raise ValueError("Wireshark calls this command. To tell Wireshark of it, run once: ixrings extcap --install")
    if options.extcap_dlts:
        print(f"dlt {{number={LINKTYPE_ETHERNET}}}{{name=EN10MB}}{{display=Ethernet}}")
        return 0
    if options.extcap_config:
        return list_options()
    if not options.capture:
        return check_filter(options.extcap_capture_filter)
    if not options.fifo:
        raise ValueError("--capture writes to a named pipe; give --fifo FIFO")
    return capture(options)


def version_line() -> str:
    return f"extcap {{version={sys.modules['ixrings'].__version__}}}{{display=ixrings: ports of a daemon}}"


def list_interfaces() -> int:
    """Print the daemon's ports. Without a daemon print none and succeed: Wireshark asks each time it starts."""
    from ..daemon.ask import ask_status, default_socket

    print(version_line())
    try:
        ports = [port["name"] for port in ask_status(default_socket())["ports"]]
    except OSError as error:
        print(f"ixrings: {error.filename}: {error.strerror}", file=sys.stderr)
        return 0
    for name in ports:
        print(f"interface {{value={PREFIX}{name}}}{{display={name} beside its programs (ixrings)}}")
    return 0


def list_options() -> int:
    print(
        "arg {number=0}{call=--direction}{display=Frames}{type=selector}"
        "{tooltip=Frames that the port receives, that its programs send, or both}"
    )
    for value, words in DIRECTIONS.items():
        print(f"value {{arg=0}}{{value={value}}}{{display={words}}}{{default={str(value == 'rt').lower()}}}")
    print(
        f"arg {{number=1}}{{call=--snaplen}}{{display=Bytes of a frame}}{{type=unsigned}}{{range=0,{MAX_FRAME}}}"
        "{default=0}{tooltip=Keep so many bytes of each frame; 0 for all}"
    )
    return 0


def check_filter(text: str) -> int:
    """Print why a filter is wrong, which Wireshark shows. Print nothing for a filter that is right."""
    try:
        parse_filter(text)
    except ValueError as error:
        print(error)
    return 0


def install(folders: list[Path]) -> int:
    """Write the wrapper. Raises OSError."""
    place = os.environ.get("IXRINGS_SOCKET")
    begin = f"IXRINGS_SOCKET={shlex.quote(place)} " if place else ""
    code = "from ixrings.driver.cli import program; program()"
    for folder in folders:
        wrapper = folder.expanduser() / "ixrings"
        wrapper.parent.mkdir(parents=True, exist_ok=True)
        wrapper.write_text(f'#!/bin/sh\n{begin}exec {shlex.quote(sys.executable)} -c "{code}" extcap "$@"\n', "utf-8")
        wrapper.chmod(0o755)
        print(f"{wrapper} is written")
    print("Start Wireshark again, and its list of interfaces has the daemon's ports")
    return 0


def capture(options: argparse.Namespace) -> int:
    """Write what a monitor sees to the pipe. Returns the exit status, and reports errors itself.

    The pipe is open until then: tshark waits for a pipe that nobody opens, and ends this program when one is closed.
    """
    with open(options.fifo, "wb", buffering=0) as fifo:
        return status_of(lambda: capture_into(fifo, options), "ixrings")


def capture_into(fifo: BinaryIO, options: argparse.Namespace) -> int:
    """Capture. Ends with status 0 when Wireshark stops it: SIGTERM, or no reader.

    While no program uses the port, there is nothing to watch; it waits for one. Raises ValueError for a filter,
    PortError, CaptureError.
    """
    wanted = parse_filter(options.extcap_capture_filter)
    name = options.extcap_interface if ":" in options.extcap_interface else PREFIX + options.extcap_interface
    reader = select.poll()
    reader.register(fifo, 0)  # POLLERR: nobody reads
    try:
        writer = CaptureWriter(fifo, snaplen=options.snaplen or MAX_FRAME)
        while not reader.poll(0):
            try:
                with open_port(f"{name}/{options.direction}", link_timeout=0.0) as port:
                    capture_from(port, writer, wanted, reader)
            except NothingToWatch:
                reader.poll(AGAIN_MS)
            except PortClosed:  # the watched program or the daemon has ended: the next open says which
                writer.flush()
    except KeyboardInterrupt:  # SIGTERM: the frames of the last 50 ms are lost, because the pipe may be full
        pass
    except CaptureError as error:
        if not reader_has_gone(error):
            raise
    return 0


def capture_from(port: Port, writer: CaptureWriter, wanted: Filter | None, reader: select.poll) -> None:
    """Capture until nobody reads. Raises PortClosed when the port is not used any more."""
    flush_at = 0.0
    while not reader.poll(0):
        if port.poll(POLL_S):
            for ring in port.rx_rings:
                take(port, ring, writer, wanted)
        if time.monotonic() >= flush_at:
            writer.flush()
            flush_at = time.monotonic() + FLUSH_S


def take(port: Port, ring: RxRing, writer: CaptureWriter, wanted: Filter | None) -> None:
    """Write the frames of a ring that the filter wants."""
    now = time.time_ns()
    while len(span := ring.reserve(ring.num_slots)):
        if (span.flags & SlotFlag.NS_MOREFRAG).any():
            take_long(port, writer, wanted)
            return
        lengths, rows = span.len.copy(), span.buf_idx.copy()
        if wanted is not None:
            keep = wanted.takes(port, span)
            lengths, rows = lengths[keep], rows[keep]
        writer.write_batch(port.buffers, lengths, now, rows=rows)
        ring.advance(len(span))


def take_long(port: Port, writer: CaptureWriter, wanted: Filter | None) -> None:
    """The same for all rings, where a frame takes several buffers."""
    for frame in port.recv(0):
        if wanted is None or wanted.takes_frame(frame):
            writer.write(frame, time.time_ns())
