"""The wires of `emulated:WIRE`: the files, TAP interfaces and names that the engine needs for each."""

from __future__ import annotations

import errno
import os
import struct

from ..capture.frames import CAPTURE, Capture
from ..capture.pcap import read_capture
from ..errors import CaptureError, WireError
from ..output import hold_input, open_output
from ..tap import open_tap
from .engine.library import Engine

WIRES = "loop[,delay=NS], sink[=NS], source[=LENGTH], cable=NAME[,delay=NS], pcap=IN[,OUT], tap=IFNAME"
SHORTEST, LONGEST = 60, 9724  # bytes of a source's frames, without CRC
LONGEST_DELAY_NS = 100_000_000  # of a loop or cable; the engine keeps what 10 Gbit/s carry in this time
SLOWEST_NS = 1_000_000_000  # that a sink may need for a frame
PCAP_HEADER = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1)  # nanosecond stamps, Ethernet


class Wire:
    """What one NIC's cable leads to. Raises WireError for a name that is not a wire."""

    def __init__(self, name: str, engine: Engine, mac: bytes) -> None:
        self.name = name
        self._engine = engine
        self._mac = mac
        self._fds: list[int] = []
        self._capture: Capture | None = None  # kept, because the engine reads its arrays
        self._cable = ""
        self._delay_ns: int | None = None
        if name.startswith(("loop,", "cable=")):
            name, comma, delay = name.partition(",")
            self._delay_ns = delay_ns(delay) if comma else None
        kind, separator, self._argument = name.partition("=")
        connect = {
            "loop": self._loop,
            "sink": self._sink,
            "source": self._source,
            "cable": self._connect_cable,
            "pcap": self._pcap,
            "tap": self._tap,
        }.get(kind)
        if (
            connect is None
            or (separator and kind == "loop")
            or (not self._argument and kind in ("cable", "pcap", "tap"))
        ):
            raise WireError(f"there is no wire {name!r}. Wires are: {WIRES}")
        self._connect = connect

    def connect(self) -> None:
        """Call it before `nic_start`. Raises WireError; call `close` then, too."""
        self._connect(self._argument)

    def _loop(self, argument: str) -> None:
        self._engine.call("wire_loop")
        self._delay(self._engine, self._delay_ns)

    def _sink(self, argument: str) -> None:
        """argument: how many nanoseconds it needs for a frame; empty: none."""
        if not argument:
            self._engine.call("wire_sink")
            return
        frame_ns = int(argument) if argument.isdecimal() else 0
        if not 1 <= frame_ns <= SLOWEST_NS:
            raise WireError(f"sink={argument}: a sink takes a frame in 1 to {SLOWEST_NS} nanoseconds")
        self._engine.call("wire_slow_sink", frame_ns)

    def _source(self, argument: str) -> None:
        length = int(argument) if argument.isdecimal() else 0 if argument else SHORTEST
        if not SHORTEST <= length <= LONGEST:
            raise WireError(f"source={argument}: frames are {SHORTEST} to {LONGEST} bytes long, CRC not counted")
        frame = source_frame(self._mac, length)
        self._check(self._engine.call("wire_source", frame, length))

    def _connect_cable(self, name: str) -> None:
        with self._engine.frozen():  # the other end may be running
            ends = CABLES.ends(name)
            if len(ends) == 2:
                raise WireError(f"cable={name} already joins two ports; close one, or use another name")
            delay = CABLES.delay(name)
            if delay is not None and self._delay_ns not in (None, delay):
                raise WireError(
                    f"cable={name} delays frames by {delay} ns for both of its ports; give the second one no delay or "
                    "the same"
                )
            self._cable = name
            self._engine.call("wire_cable", ends[0].pointer if ends else None)
            CABLES.plug(name, self._engine, delay if self._delay_ns is None else self._delay_ns)
            for end in CABLES.ends(name) if delay is None else [self._engine]:
                self._delay(end, CABLES.delay(name))

    def _pcap(self, argument: str) -> None:
        source, _, target = argument.partition(",")
        fd = -1
        try:
            if source:
                capture = read_capture(source)
                self._capture = capture.only(capture.lengths > 0)  # the wire skips records without bytes
                self._fds.append(hold_input(source))
            if target.endswith(".gz"):
                raise CaptureError(f"a wire records plain pcap; leave out .gz, and run later: gzip {target[:-3]}")
            if target:
                fd = open_output(target, CAPTURE)
                self._fds.append(fd)
                os.write(fd, PCAP_HEADER)
        except CaptureError as error:
            raise WireError(f"pcap={argument}: {error}") from None
        except OSError as error:
            raise WireError(f"pcap={argument}: cannot write {target}: {error.strerror}") from None
        if self._capture is None:
            self._check(self._engine.call("wire_pcap", None, None, None, None, 0, fd))
        else:
            capture = self._capture
            self._check(
                self._engine.call(
                    "wire_pcap",
                    capture.data.ctypes.data,
                    capture.offsets.ctypes.data,
                    capture.lengths.ctypes.data,
                    capture.wire_lengths.ctypes.data,
                    len(capture),
                    fd,
                )
            )

    def _tap(self, name: str) -> None:
        fd = open_tap(name)
        self._fds.append(fd)
        self._check(self._engine.call("wire_tap", fd))

    def _delay(self, engine: Engine, ns: int | None) -> None:
        if ns:
            self._check(engine.call("wire_delay", ns))

    @staticmethod
    def _check(result: int) -> None:
        if result:
            raise WireError("no memory for the wire's buffers")

    @property
    def lost(self) -> bool:
        """Whether the interface or the file at the other end has failed. It stays so until the NIC is opened again."""
        return bool(self._engine.call("wire_trouble"))

    def trouble(self) -> str:
        """Why no frame gets through, or ''."""
        number = self._engine.call("wire_trouble")
        if number:
            gone = "was deleted" if number in (errno.EBADFD, errno.ENODEV) else os.strerror(number)
            return f"{self.name}: {'the interface ' if self.name.startswith('tap=') else ''}{gone}"
        if self._cable and len(CABLES.ends(self._cable)) < 2:
            return f"cable={self._cable} has no port at its other end"
        return ""

    def close(self) -> None:
        """End the wire in the engine, then release(). Call it after `nic_stop`, or before `nic_start`."""
        with self._engine.frozen():
            self._engine.call("wire_close")
        self.release()

    def release(self) -> None:
        """Close the files, and free the cable's end. The engine must not use them any more."""
        if self._cable:
            CABLES.unplug(self._cable, self._engine)
            self._cable = ""
        while self._fds:
            os.close(self._fds.pop())
        self._capture = None


class Cables:
    """The ports at each cable. One object for the process, so that a cable's name means the same everywhere in it."""

    def __init__(self) -> None:
        self._ends: dict[tuple[str, int], Engine] = {}
        self._delays_ns: dict[str, int] = {}  # of cables whose first or second port has given one

    def ends(self, name: str) -> list[Engine]:
        return [engine for (cable, _), engine in self._ends.items() if cable == name]

    def delay(self, name: str) -> int | None:
        """In nanoseconds; None while no port has given one."""
        return self._delays_ns.get(name)

    def plug(self, name: str, engine: Engine, delay_ns: int | None) -> None:
        self._ends[name, engine.pointer] = engine
        if delay_ns is not None:
            self._delays_ns[name] = delay_ns

    def unplug(self, name: str, engine: Engine) -> None:
        self._ends.pop((name, engine.pointer), None)
        if not self.ends(name):
            self._delays_ns.pop(name, None)


CABLES = Cables()


def delay_ns(text: str) -> int:
    """The number of "delay=NS". Raises WireError."""
    word, _, number = text.partition("=")
    if word != "delay" or not number.isdecimal() or int(number) > LONGEST_DELAY_NS:
        raise WireError(
            f"a loop or cable may have delay=NS, with 0 to {LONGEST_DELAY_NS} nanoseconds, and not {text!r}"
        )
    return int(number)


def source_frame(mac: bytes, length: int) -> bytes:
    """A UDP frame to `mac`; the engine writes the flow into the source port and a sequence number after the headers."""
    payload = length - 14 - 20 - 8
    ip = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 28 + payload, 0, 0, 64, 17, 0, bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
    )
    total = sum(struct.unpack("!10H", ip))
    total = (total & 0xFFFF) + (total >> 16)
    ip = ip[:10] + struct.pack("!H", ~total & 0xFFFF) + ip[12:]
    udp = struct.pack("!HHHH", 1024, 9, 8 + payload, 0)  # checksum 0: none
    return mac + bytes([0x02, 0, 0, 0, 0, 1]) + b"\x08\x00" + ip + udp + bytes(payload)
