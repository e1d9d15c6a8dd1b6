"""Options of pktgen.py that choose the frames to send, and the lanes (streams.py) that they ask for."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path

from captured import Captured
from fields import LATER, Endpoints, endpoints, macs, sizes, vlans
from numbered import NUMBER, NUMBERS, STREAMS
from packets import HEADERS, SHORTEST, mac
from streams import Lane, Numbering, Template, shares, slots_for

import numpy as np

from ixrings import Port, PortError
from ixrings.driver.arguments import checked, whole

SOURCE, DESTINATION = "10.0.0.1:1234", "10.1.0.1:1234"
SOURCE_6, DESTINATION_6 = "[fd00::1]:1234", "[fd00:1::1]:1234"  # if the other address is IPv6
BROADCAST = "ff:ff:ff:ff:ff:ff"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options. They have no defaults in the namespace, which shows what was given."""
    group = parser.add_argument_group(
        "frames to send",
        "Lists have commas: 10.0.0.1,10.0.0.7. Ranges have a hyphen, as in pkt-gen:\n"
        "10.0.0.1:1000-10.0.0.9:2000 is 9 addresses with 1001 ports each. All combinations are\n"
        "sent in turn: ports and addresses of -s change first, then those of -d, --vlan, -S, -D.",
    )
    group.add_argument(
        "-l",
        dest="lengths",
        type=checked(sizes),
        metavar="BYTES",
        help=f"bytes of a frame without CRC (default: {SHORTEST}, or the shortest that holds its headers); 60,1514 in "
        "turn; 60-1514; 60:7,1514:1 for 7 short ones to each long one; imix is 60:7,590:4,1514:1",
    )
    group.add_argument(
        "-s", dest="source", type=checked(endpoints), metavar="IP[:PORT]", help=f"source (default: {SOURCE})"
    )
    group.add_argument(
        "-d",
        dest="destination",
        type=checked(endpoints),
        metavar="IP[:PORT]",
        help=f"destination (default: {DESTINATION}); IPv6: [fd00::1]:53",
    )
    group.add_argument(
        "-S", dest="source_macs", type=checked(macs), metavar="MAC", help="source MAC (default: the port's)"
    )
    group.add_argument(
        "-D",
        dest="destination_macs",
        type=checked(macs),
        metavar="MAC",
        help=f"destination MAC (default: {BROADCAST})",
    )
    group.add_argument("--vlan", dest="vlans", type=checked(vlans), metavar="VLAN", help="a tag: 0 to 4094")
    group.add_argument("--flows", type=whole(1), metavar="N", help="the first N combinations only (default: all)")
    group.add_argument("--random", action="store_true", help="draw each frame's combination and size, not in turn")
    group.add_argument("--seed", type=whole(0), help="with --random: draw the same in each run")
    group.add_argument(
        "--number",
        type=whole(0, NUMBERS - 1),
        nargs="?",
        const=0,
        metavar="FIRST",
        help="write into each frame its stream (each combination is one) and its number there, from FIRST on "
        "(default: 0), for -f rx --verify",
    )
    group.add_argument("--offload", action="store_true", help="the NIC fills in the checksums")
    group.add_argument(
        "-P",
        dest="file",
        type=Path,
        metavar="FILE",
        help="send the frames of this capture, again and again; -s, -d, -S and -D replace addresses in them",
    )


# Options, and their names in the namespace, where None or False means that the option was not given.
ONLY_TX = {
    "--vlan": "vlans",
    "--flows": "flows",
    "--random": "random",
    "--seed": "seed",
    "--number": "number",
    "--offload": "offload",
    "-P": "file",
}
NOT_WITH_FILE = {"-l": "lengths", "--vlan": "vlans", "--flows": "flows", "--number": "number", "--offload": "offload"}


def given(args: argparse.Namespace, options: Mapping[str, str]) -> list[str]:
    return [option for option, name in options.items() if not any(vars(args)[name] is none for none in (None, False))]


class Sending:
    """The frames that the options ask for. `longest`: bytes of the longest one; `slots`: of a TX ring."""

    def __init__(self, args: argparse.Namespace) -> None:
        """Raises ValueError for options that do not go together, CaptureError for the file."""
        self._args = args
        self.numbered = args.number is not None
        if args.function != "tx" and (wrong := given(args, ONLY_TX)):
            raise ValueError(f"{wrong[0]} is for -f tx, and this is -f {args.function}")
        if args.seed is not None and not args.random:
            raise ValueError("--seed is for --random")
        self._source: Captured | Template
        if args.file:
            self._source = self._of_file()
        else:
            self._source = self._template(bytes(6))
            self._check(self._source)
        self.longest = self._source.longest
        self.slots = slots_for(self._source, args.queues, args.offload)
        self._lanes: list[Lane] = []

    def _of_file(self) -> Captured:
        args = self._args
        if wrong := given(args, NOT_WITH_FILE):
            raise ValueError(f"{wrong[0]} is for frames that pktgen.py makes, and -P sends those of a file")
        for option, each in (("-s", args.source), ("-d", args.destination)):
            if each is not None and each.has_ports:
                raise ValueError(f"{option} {each.text}: with -P the ports stay; give addresses without ports")
        return Captured(args.file, args.source, args.destination, args.source_macs, args.destination_macs)

    def _template(self, own_mac: bytes) -> Template:
        args = self._args
        other: Endpoints | None = args.source or args.destination
        ipv6 = other is not None and other.width == 16
        return Template(
            args.source or endpoints(SOURCE_6 if ipv6 else SOURCE),
            args.destination or endpoints(DESTINATION_6 if ipv6 else DESTINATION),
            np.frombuffer(own_mac, np.uint8)[None] if args.source_macs is None else args.source_macs,
            macs(BROADCAST) if args.destination_macs is None else args.destination_macs,
            args.vlans,
            args.lengths,
            NUMBER.itemsize if self.numbered else 0,
            LATER if args.flows is None else args.flows,
            args.offload,
        )

    def _check(self, source: Template) -> None:
        """Raises ValueError."""
        args = self._args
        need = source.headers + (NUMBER.itemsize if self.numbered else 0)
        if args.function == "ping" and (self.varied or source.headers != HEADERS):
            raise ValueError("-f ping sends one kind of frame, over IPv4; ranges, lists and IPv6 are for -f tx")
        if args.flows is not None and args.flows > source.combinations:
            raise ValueError(
                f"--flows {args.flows} is more than the number of combinations of addresses, ports and tags, "
                f"{source.combinations}"
            )
        if args.random and source.flows * source.sizes == 1:
            raise ValueError("--random has nothing to draw from; give ranges or lists, such as -s 10.0.0.1-10.0.0.99")
        if source.shortest < need:
            raise ValueError(
                f"-l {source.shortest}: the headers{' and the number' * self.numbered} take {need} bytes; give -l "
                f"{need} or more"
            )
        if self.numbered and source.flows > STREAMS:
            raise ValueError(f"--number takes at most {STREAMS} streams, and these are {source.flows}; add --flows "
                             f"{STREAMS}")  # fmt: skip
        if self.numbered and source.flows < args.queues:
            raise ValueError(
                f"--number keeps each stream in one queue, because queues overtake each other; -p {args.queues} needs "
                f"{args.queues} streams or more, such as -s 10.0.0.1-10.0.0.{args.queues}"
            )

    @property
    def varied(self) -> bool:
        """Whether frames differ, by the options, or the NIC changes them. Otherwise all are as frame() returns them."""
        return bool(
            self._source.flows * self._source.sizes > 1 or self.numbered or self._args.offload or self._args.file
        )

    def lanes(self, port: Port) -> list[Lane]:
        """Fill the buffers of the port. Returns a lane for each TX ring. Raises PortError."""
        args = self._args
        if args.offload and not port.link.speed_mbps:
            raise PortError(f"{port.name}: --offload needs a NIC, and this port has none; leave it out")
        numbering, context = None, 0
        if isinstance(self._source, Template):
            self._source = self._template(mac(port.mac))
            context = self._source.context
            if self.numbered:
                sender = int.from_bytes(os.urandom(4), "big")
                numbering = Numbering(sender, args.number, self._source.headers)
        rings = port.tx_rings  # of a daemon's port: as many as the NIC has
        if self.numbered:
            rings = rings[: self._source.flows]  # a stream in two queues would have each number twice
        firsts, step = shares(self._source.flows, len(rings))
        draws: list[np.random.Generator | None] = [None] * len(rings)
        if args.random:
            draws = [np.random.default_rng(each) for each in np.random.SeedSequence(args.seed).spawn(len(rings))]
        self._lanes = [
            Lane(port, ring, self._source, first, step, draw, numbering, context)
            for ring, first, draw in zip(rings, firsts, draws, strict=True)
        ]
        return self._lanes

    def frame(self, port: Port) -> bytes:
        """The first frame."""
        nothing = np.zeros(1, np.int64)
        rows, lengths = self._template(mac(port.mac)).rows(nothing, nothing)
        return rows.tobytes().ljust(int(lengths[0]), b"\0")

    def details(self) -> Mapping[str, object]:
        """What was sent of each numbered stream."""
        source = self._source
        assert isinstance(source, Template), "frames of a file have no numbers"
        sent = sorted(pair for lane in self._lanes for pair in lane.sent_of().items())
        return {"streams": [{"stream": flow, "sent": count, **source.words(flow)} for flow, count in sent]}
