"""What other processes may see of an open port, for `ixrings top`: a memory file that they can only read.

    0            magic, sequence, bytes of the text (64 bits each)
    TEXT_AT      text: JSON, what the port is, and its counters, link and address when it last looked
    QUEUES_AT    the hot loop's queues, live: their counters of frames and bytes cost the port nothing

A process of the same user (or root) finds the file in /proc/PID/fd. It holds a read lock on the file while it watches.
The port looks for such a lock twice a second at most, where it checks its NIC anyway, and then writes the text again.
So only the port reads the NIC's counters, which a read clears. The kernel drops the lock of a watcher that ends.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ixrings.hw.memory.hugepages import align_up
from ixrings.rings.queue import RxQueue, TxQueue

NAME = "ixrings-port"
MAGIC = int.from_bytes(b"ixport01", "little")
HEADER = struct.Struct("=3Q")
TEXT_AT, QUEUES_AT = 64, 32768
STRIDE = 512  # bytes from queue to queue: no two in one cache line, and room for a longer structure
LOOK_S = 0.5
SEAL_FUTURE_WRITE = 0x10  # F_SEAL_FUTURE_WRITE of Linux 5.1; Python has no name for it
LOCK = struct.Struct("@hhqqi4x")  # struct flock
TRIES = 100  # of a reader that finds the text half written
COUNTERS = ("packets", "bytes", "violations", "errors")


class Window:
    """The port's side. tx, rx: how many queues it has."""

    def __init__(self, tx: int, rx: int) -> None:
        size = align_up(QUEUES_AT + STRIDE * (tx + rx), mmap.PAGESIZE)
        self._rx_at = QUEUES_AT + STRIDE * tx
        self._showing = threading.Lock()
        self._look_at = 0.0
        self._fd = os.memfd_create(NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self._fd, size)
            self._memory: mmap.mmap | None = mmap.mmap(self._fd, size)
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
            with suppress(OSError):  # an older kernel; whoever opens the file then could change it
                fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, SEAL_FUTURE_WRITE)
            fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, seals | fcntl.F_SEAL_SEAL)
        except BaseException:
            os.close(self._fd)
            raise

    def tx(self, index: int) -> TxQueue:
        """Memory for TX queue `index`, all zero: join() and restart() make it a queue."""
        return TxQueue.from_buffer(self._open(), self.tx_at(index))

    def rx(self, index: int) -> RxQueue:
        return RxQueue.from_buffer(self._open(), self.rx_at(index))

    def tx_at(self, index: int) -> int:
        """The place of that queue in the file."""
        return QUEUES_AT + STRIDE * index

    def rx_at(self, index: int) -> int:
        return self._rx_at + STRIDE * index

    def _open(self) -> mmap.mmap:
        assert self._memory is not None
        return self._memory

    def watched(self, now: float) -> bool:
        """Whether somebody watches, and the last look was LOOK_S ago. Any thread may ask, and pays for a comparison."""
        if now < self._look_at or self._memory is None:
            return False
        self._look_at = now + LOOK_S
        try:
            found = fcntl.fcntl(self._fd, fcntl.F_OFD_GETLK, LOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        except OSError:  # a filter of system calls forbids it: then nobody is shown anything
            return False
        return bool(LOCK.unpack(found)[0] != fcntl.F_UNLCK)

    def show(self, facts: Mapping[str, object]) -> None:
        """Write the text. A thread that finds another one writing leaves it to that one."""
        if not self._showing.acquire(blocking=False):
            return
        try:
            text = json.dumps({**facts, "at_s": time.monotonic()}, separators=(",", ":")).encode()
            if self._memory is not None and len(text) <= QUEUES_AT - TEXT_AT:
                _, sequence, _ = HEADER.unpack_from(self._memory)
                HEADER.pack_into(self._memory, 0, MAGIC, sequence + 1, len(text))
                self._memory[TEXT_AT : TEXT_AT + len(text)] = text
                HEADER.pack_into(self._memory, 0, MAGIC, sequence + 2, len(text))
        finally:
            self._showing.release()

    def close(self) -> None:
        """Readers find no text any more. The memory goes with the last queue in it."""
        if self._memory is not None:
            HEADER.pack_into(self._memory, 0, MAGIC, 0, 0)
        self.leave()

    def leave(self) -> None:
        """In a forked child: close the copy of the descriptor. The memory is the parent's."""
        if self._memory is not None:
            self._memory = None
            os.close(self._fd)

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def layout() -> dict[str, dict[str, int]]:
    """Where a queue's counters are, for a reader that may have another version of this package."""
    return {
        side: {name: getattr(kind, name).offset for name in COUNTERS if hasattr(kind, name)}
        for side, kind in (("tx", TxQueue), ("rx", RxQueue))
    }


# ---- the watcher's side ----


class Seen:
    """An open port of another process. Its file is only read, so nothing that the process does can harm the reader.

    Raises ValueError if the file is not that of a port (any more), OSError.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            self.facts()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def watch(self) -> None:
        """From now on the port writes its text twice a second, while it checks its NIC. Raises OSError."""
        fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, LOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0))

    def facts(self) -> dict[str, Any]:
        """The text. Raises ValueError if the port is closed, or the file is something else."""
        for _ in range(TRIES):
            data = os.pread(self._fd, QUEUES_AT, 0)
            if len(data) < QUEUES_AT or HEADER.unpack_from(data)[0] != MAGIC:
                break
            _, sequence, length = HEADER.unpack_from(data)
            if sequence % 2 == 0 and HEADER.unpack(os.pread(self._fd, HEADER.size, 0))[1] == sequence:
                if not length:
                    raise ValueError("the port is closed")
                try:
                    found = json.loads(data[TEXT_AT : TEXT_AT + length])
                except RecursionError:
                    break
                if isinstance(found, dict):
                    return found
                break
            time.sleep(0)
        raise ValueError("it is not the file of a port")

    def word(self, offset: int) -> int:
        """A 64-bit counter. Raises ValueError if it is not in the file."""
        data = os.pread(self._fd, 8, offset) if 0 <= offset < 1 << 63 else b""
        if len(data) < 8:
            raise ValueError(f"offset {offset} is not in the file")
        return int.from_bytes(data, "little")


def files_of(pid: int | str, name: str) -> Iterator[Path]:
    """Descriptors of a process that are of memory files with this name, each file once. Raises OSError."""
    found: dict[int, Path] = {}
    for path in sorted(Path(f"/proc/{pid}/fd").iterdir()):
        with suppress(OSError):  # closed meanwhile
            if os.readlink(path).startswith(f"/memfd:{name}"):
                found.setdefault(os.stat(path).st_ino, path)
    yield from found.values()


def seen_ports(pid: int, wanted: Callable[[Mapping[str, Any]], bool] = lambda facts: True) -> list[Seen]:
    """The open ports of a process for which wanted(facts) is true. Raises OSError.

    A forked child has copies of its parent's descriptors, which are left out.
    """
    ports = []
    for path in files_of(pid, NAME):
        with suppress(OSError, ValueError):
            port = Seen(path)
            facts = port.facts()
            if isinstance(facts.get("pid"), int) and facts["pid"] in numbers_of(pid) and wanted(facts):
                ports.append(port)
            else:
                port.close()
    return ports


def numbers_of(pid: int) -> set[int]:
    """The numbers of a process, one for each PID namespace that it is in."""
    numbers = {pid}
    with suppress(OSError, ValueError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                numbers.update(map(int, line.split()[1:]))
    return numbers
