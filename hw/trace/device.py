"""Records each access to a NIC as a line of text: `write RXDCTL[0] 0x02000000 ENABLE=1`.

    with TracedDevice(Emulated82599(), sys.stderr) as device:        # or any other text file
        Registers(device).CTRL.update(RST=1)

hw/trace/file.py reads such a file, and `ixrings trace FILE` shows it.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import TextIO

from .. import device, register, registers
from ..device import Device, DmaMapping
from ..doorbell_file import DoorbellFile
from ..errors import DeviceError
from ..output import FileKind, open_output
from ..register import ALL_ONES, Place, RegisterMap, Word
from ..registers import Registers, table_of

TRACE_HEAD = "# ixrings trace of"
TRACE = FileKind("a register trace", (TRACE_HEAD.encode(),))
HOT_LOOP = "rings/hotloop.py"  # recorded as the caller for tails, which C code stores
PROJECT = f"{Path(__file__).parents[2]}/"
# Files whose functions are called between a step of a driver and the access.
BETWEEN = {__file__, device.__file__, register.__file__, registers.__file__}


def place_name(offset: int, table: type[RegisterMap] = Registers) -> str:
    """`RXDCTL[0]`; `SRRCTL[0]@0x02100` for an alias; `0x01234` if the table has no register there."""
    place = table.find(offset)
    if place is None:
        return f"{offset:#07x}"
    label = place.row.label(place.index)
    return label if offset == place.row.offset(place.index) else f"{label}@{offset:#07x}"


@dataclass(frozen=True)
class Access:
    """One read or write of a register, or of configuration space.

    value: the value that was read or written; only its bits in `mask` are known, because some traces record just the
    bits that a step sets or tests. time_s: seconds since the start of the trace, None in a trace without times.
    size: in bytes. caller: `driver/queues.py:enable_transmit`, or "". table: the registers of the device.
    """

    time_s: float | None
    write: bool
    offset: int
    value: int
    mask: int = ALL_ONES
    size: int = 4
    config: bool = False
    caller: str = ""
    table: type[RegisterMap] = Registers

    @property
    def place(self) -> Place | None:
        return None if self.config else self.table.find(self.offset)

    @property
    def name(self) -> str:
        return f"CONFIG+{self.offset:#04x}" if self.config else place_name(self.offset, self.table)

    @property
    def register(self) -> str:
        """`name` without the address of an alias."""
        return self.name.partition("@")[0]

    @property
    def section(self) -> str:
        """The section of the datasheet about the register, or ""."""
        return "9.3" if self.config else self.place.row.section if self.place else ""

    @property
    def long_name(self) -> str:
        """The register's long name, or ""."""
        return self.place.row.long_name if self.place else ""

    @property
    def number(self) -> str:
        """`0x02000000`; `0x02000000 in bits 0x02000001` if only these bits are known; `?` if no bit is known."""
        text = f"{self.value:#0{2 + 2 * self.size}x}"
        return text if self.mask == ALL_ONES else f"{text} in bits {self.mask:#010x}" if self.mask else "?"

    @property
    def fields(self) -> str:
        """`ENABLE=1`: the fields that are not zero; if only some bits are known, the fields with known bits."""
        if self.place is None:
            return ""
        word: Word = self.place.row.layout(self.value)
        if self.mask == ALL_ONES:
            return word.describe()
        return " ".join(
            f"{name}={(self.value >> each.low) & each.max}"
            for name, each in word.fields.items()
            if each.mask & self.mask
        )

    def __str__(self) -> str:
        return f"{'write' if self.write else 'read '} {self.name} {self.number} {self.fields}".rstrip()


@dataclass
class Tail:
    """A tail register: the word that the C loop stores to, and the real register."""

    word: ctypes.c_uint32
    real: memoryview
    passed_on: int = 0


class TracedDevice(Device):
    """Wraps `inner` and writes a line to `file` for each access to a register or to configuration space: the time, the
    access, its fields and the calling function.

    C code stores the tails, and a wrapper cannot see its stores. Therefore the C code gets words of this object to
    store to. After the sync, and before any other access, changed words are recorded and stored to the NIC, so the NIC
    sees the same accesses in the same order. If one sync moves a tail several times, only the last value is recorded.

    Two threads may use the wrapper if they may use `inner`. The caller closes `file`. If `file` cannot be written (a
    full disk), the trace ends with a warning, and the device continues to work.
    """

    doorbells_need_ringing = True

    def __init__(self, inner: Device, file: TextIO) -> None:
        self.inner = inner
        self.name, self.max_vectors, self.hugepages, self.scattered = (
            inner.name,
            inner.max_vectors,
            inner.hugepages,
            inner.scattered,
        )
        self._virtual = inner.virtual
        self._table = table_of(self._virtual)
        self._file: TextIO | None = file
        self._start = time.monotonic()
        self._tails: dict[int, Tail] = {}
        self._callers: dict[CodeType, str] = {}
        self._lock = threading.RLock()  # keeps the lines in the order of the accesses
        self._write_line(f"{TRACE_HEAD} {inner.name}, in seconds since it began\n")

    @property
    def virtual(self) -> bool:
        return self._virtual

    @property
    def owner(self) -> str:
        return self.inner.owner

    @owner.setter
    def owner(self, name: str) -> None:
        self.inner.owner = name

    @classmethod
    @contextmanager
    def recording(cls, inner: Device, path: str | Path) -> Iterator[TracedDevice]:
        """`inner`, traced into a new file at `path`. Raises OSError: it cannot be created, or is not overwritten."""
        file = open(open_output(path, TRACE), "w", encoding="ascii", errors="backslashreplace")
        device = cls(inner, file)
        try:
            yield device
        finally:
            device._tails.clear()  # `inner` may close now, and then their addresses are not valid
            with suppress(OSError):  # _write_line() has warned: it flushes every line
                file.close()

    # ---- recorded accesses ----

    def read32(self, offset: int, /) -> int:
        with self._lock:
            self._pass_tails_on()
            value = self.inner.read32(offset)
            self._record(False, offset, value)
            return value

    def write32(self, offset: int, value: int, /) -> None:
        with self._lock:
            self._pass_tails_on()
            self._record(True, offset, value)
            self.inner.write32(offset, value)

    def config_read(self, offset: int, size: int) -> int:
        with self._lock:
            self._pass_tails_on()
            value = self.inner.config_read(offset, size)
            self._record(False, offset, value, size, config=True)
            return value

    def config_write(self, offset: int, size: int, value: int) -> None:
        with self._lock:
            self._pass_tails_on()
            self._record(True, offset, value, size, config=True)
            self.inner.config_write(offset, size, value)

    def reset(self) -> None:
        self._remark("function reset")
        self.inner.reset()

    # ---- doorbells ----

    def doorbell(self, offset: int) -> int:
        """The word to store to. It starts at 0 each time a queue is set up, as the register does after a reset."""
        real = (ctypes.c_uint32 * 1).from_address(self.inner.doorbell(offset))
        # A store to a memoryview of 32-bit words is exactly one store (hw/bar.py).
        tail = self._tails[offset] = Tail(ctypes.c_uint32(0), memoryview(real).cast("B").cast("I"))
        return ctypes.addressof(tail.word)

    def work_function(self) -> int:
        return self.inner.work_function()

    def work_ends(self) -> None:
        self.inner.work_ends()

    def doorbell_file(self) -> DoorbellFile:
        raise DeviceError(
            f"{self.name} is traced, and a trace cannot see what another process does. Open the port without trace"
        )

    def take_doorbells_back(self) -> bool:
        return self.inner.take_doorbells_back()

    def ring_doorbells(self) -> None:
        with self._lock:
            self._pass_tails_on()

    def _pass_tails_on(self) -> None:
        """Record and store changed tails.

        The C loop has a barrier before its store, so descriptors are in memory before a word here changes.
        """
        rung = False
        for offset, tail in self._tails.items():
            value = tail.word.value
            if value != tail.passed_on:
                self._record(True, offset, value, caller=HOT_LOOP)
                tail.real[0] = value
                tail.passed_on = value
                rung = True
        if rung and self.inner.doorbells_need_ringing:
            self.inner.ring_doorbells()

    # ---- writing the file ----

    def _record(
        self, write: bool, offset: int, value: int, size: int = 4, *, config: bool = False, caller: str = ""
    ) -> None:
        if self._file is not None:
            access = Access(
                time.monotonic() - self._start, write, offset, value, size=size, config=config, table=self._table
            )
            self._write_line(f"{access.time_s:11.6f} {access}  # {caller or self._caller()}\n")

    def _remark(self, text: str) -> None:
        with self._lock:
            self._pass_tails_on()
            self._write_line(f"# {time.monotonic() - self._start:.6f} {text}\n")

    def _write_line(self, line: str) -> None:
        if self._file is None:
            return
        try:
            self._file.write(line)
            self._file.flush()  # after a crash or a hang the last accesses are in the file
        except (OSError, ValueError) as error:
            self._file = None
            warnings.warn(f"the trace of {self.name} ends here: {error}", stacklevel=2)

    def _caller(self) -> str:
        """The driver's step: the innermost function that is not in one of the files BETWEEN."""
        frame = sys._getframe(2)
        while frame.f_back is not None and frame.f_code.co_filename in BETWEEN:
            frame = frame.f_back
        code = frame.f_code
        if code not in self._callers:
            self._callers[code] = f"{short_path(code.co_filename)}:{code.co_name}"
        return self._callers[code]

    # ---- not recorded ----

    def map_dma(self, fd: int, address: int, size: int) -> DmaMapping:
        return self.inner.map_dma(fd, address, size)

    def unmap_dma(self, mapping: DmaMapping) -> None:
        self.inner.unmap_dma(mapping)

    def enable_interrupts(self, vectors: int) -> list[int]:
        return self.inner.enable_interrupts(vectors)

    def disable_interrupts(self) -> None:
        self.inner.disable_interrupts()

    def rearm_line(self) -> None:
        self.inner.rearm_line()

    def link_trouble(self) -> str:
        return self.inner.link_trouble()

    def link_lost(self) -> bool:
        return self.inner.link_lost()

    def close(self) -> None:
        self._tails.clear()
        self.inner.close()

    def leave(self) -> None:
        """A forked child records nothing: the file is the parent's, and one of its threads may hold the lock."""
        super().leave()
        self._file = None
        self._tails.clear()
        self._lock = threading.RLock()


def short_path(path: str) -> str:
    """`driver/queues.py` for a file of this project; folder and file name for another file."""
    return path.removeprefix(PROJECT) if path.startswith(PROJECT) else "/".join(path.split("/")[-2:])
