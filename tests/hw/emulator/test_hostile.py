"""Malicious drivers and peers: unmasked values in mapped pages, frames of impossible sizes, endless requests.

Each case that once ended the process runs in its own process: `python test_hostile.py NAME`.
"""

from __future__ import annotations

import itertools
import mmap
import os
import struct
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from ixrings.hw.emulator import Emulated82599, Fault
from ixrings.hw.errors import DeviceError
from ixrings.hw.registers import Registers
from tests.support.programs import ENVIRONMENT

pytestmark = pytest.mark.breaks_rules  # they may break any rule

MB = 0x100000
MESSAGES = 9 * MB  # a window without a file: reached by messages
PAGE = 4096
CONTEXT = struct.pack("<QQ", 0, 2 << 20 | 0x28 << 24)  # with RS


def data(address: int, length: int, *, eop: bool = True, paylen: int = -1) -> bytes:
    """An advanced data descriptor with IFCS and RS (7.2.3.2.4)."""
    control = 3 << 20 | (0x20 | 8 | 2 | eop) << 24
    return struct.pack("<QQ", address, length | control | (length if paylen < 0 else paylen) << 46)


@contextmanager
def stepped(wire: str = "sink") -> Iterator[tuple[Emulated82599, Registers]]:
    nic = Emulated82599(wire, manual=True)
    with nic:
        nic.enable_bus_master(True)
        regs = Registers(nic)
        regs.FCTRL.write(BAM=1, UPE=1, MPE=1)
        regs.RXCTRL.write(RXEN=1)
        regs.DMATXCTL.update(TE=1)
        nic.step(0)
        yield nic, regs


def window(nic: Emulated82599, iova: int, size: int) -> int:
    fd = memory(nic, size)
    nic.map_dma_at(iova, size, fd)
    return fd


def memory(nic: Emulated82599, size: int) -> int:
    """A file of `size` bytes, closed when the NIC is freed."""
    fd = os.memfd_create("hostile")
    weakref.finalize(nic, os.close, fd)
    os.ftruncate(fd, size)
    return fd


def before_a_hole(nic: Emulated82599, iova: int) -> int:
    """Map a page at `iova` such that no memory of this process follows it."""
    fd = memory(nic, 2 * PAGE)
    nic.map_dma_at(iova - MB, PAGE, fd)
    nic.map_dma_at(iova, PAGE, fd)
    nic.unmap_dma_range(iova - MB, PAGE)
    return fd


def transmit_queue(regs: Registers, queue: int, ring: int, slots: int, head: int = 0) -> None:
    regs.TDBAL[queue].write(ring)
    regs.TDLEN[queue].write(16 * slots)
    if head:
        regs.TDWBAL[queue].write(head | 1)
    regs.TXDCTL[queue].write(ENABLE=1)


def receive_queue(regs: Registers, ring: int, slots: int, kilobytes: int = 2) -> None:
    regs.RDBAL[0].write(ring)
    regs.RDLEN[0].write(16 * slots)
    regs.SRRCTL[0].write(BSIZEPACKET=kilobytes, DESCTYPE=1)
    regs.RXDCTL[0].write(ENABLE=1)


# ---- cases that once ended the process ----


def a_base_stored_in_a_mapped_page_is_aligned() -> None:
    with stepped("loop") as (nic, regs):
        page = before_a_hole(nic, 3 * MB)
        nic.share_doorbells()
        regs.RDLEN[0].write(128)
        nic._engine.registers[0x1000 >> 2] = 3 * MB + PAGE - 8  # RDBAL[0], as a client stores it
        regs.SRRCTL[0].write(BSIZEPACKET=2, DESCTYPE=1)
        regs.RXDCTL[0].write(ENABLE=1)
        regs.RDT[0].write(7)
        os.pwrite(window(nic, MB, 2 * PAGE), data(MB + PAGE, 60), 0)
        os.pwrite(page, struct.pack("<Q", MB + PAGE), PAGE - 8)
        transmit_queue(regs, 0, MB, 8)
        regs.TDT[0].write(1)
        nic.step(1)


def a_captured_frame_that_is_too_long_is_dropped() -> None:
    with tempfile.NamedTemporaryFile(suffix=".pcap") as capture:
        capture.write(
            struct.pack("<IHHiIIIIIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1, 0, 0, 60000, 60000) + b"\xff" * 60000
        )
        capture.flush()
        with stepped(f"pcap={capture.name}") as (nic, regs):
            fd = window(nic, MB, MB)
            regs.HLREG0.update(JUMBOEN=1, RXCRCSTRP=0)
            regs.MAXFRS.write(MFS=65535)
            os.pwrite(fd, struct.pack("<QQ", MB + 65536, 0) * 64, 0)
            receive_queue(regs, MB, 64)
            regs.RDT[0].write(63)
            nic.step(4)
            assert regs.ROC.read() == 1


def a_frame_shorter_than_an_address_is_not_read_beyond_its_end() -> None:
    with stepped() as (nic, regs):
        regs.HLREG0.update(TXPADEN=0)
        ring = window(nic, MB, PAGE)
        os.pwrite(before_a_hole(nic, 3 * MB), b"\1", PAGE - 1)
        os.pwrite(ring, data(3 * MB + PAGE - 1, 1), 0)
        transmit_queue(regs, 0, MB, 8)
        regs.TDT[0].write(1)
        assert nic.step(1) == 1


def mending_write_backs_does_not_enable_an_invalid_queue() -> None:
    with stepped("loop") as (nic, regs):
        fd = window(nic, MB, 2 * PAGE)
        receive_queue(regs, MB, 8, kilobytes=0)
        nic.inject(Fault.RECEIVE_WRITE_BACK)
        nic.mend(Fault.RECEIVE_WRITE_BACK)
        os.pwrite(fd, data(MB + PAGE, 60), 0)
        transmit_queue(regs, 0, MB, 8)
        regs.TDT[0].write(1)
        nic.step(1)


def a_received_pause_frame_is_not_answered_endlessly() -> None:
    with stepped("loop") as (nic, regs):
        fd = window(nic, MB, 2 * PAGE)
        regs.MFLCN.write(PMCF=1)
        regs.FCCFG.write(TFCE=1)
        regs.FCRTH[0].write(FCEN=1)  # FCTTV is 0: each frame above this threshold asks for another pause
        receive_queue(regs, MB + PAGE, 8)  # without a tail, so frames stay in the packet buffer
        os.pwrite(fd, data(MB + 256, 60), 0)
        transmit_queue(regs, 0, MB, 8)
        regs.TDT[0].write(1)
        nic.step(1)
        assert regs.LXONTXC.read() == 2  # one for the frame, one in the step


def a_thread_that_waits_for_a_nic_gets_an_error_when_it_closes() -> None:
    accesses: list[Callable[[Emulated82599], object]] = [
        lambda nic: nic.read32(0x4074),
        lambda nic: nic.write32(0x5080, 0),
        lambda nic: nic.write32(0x1FFFC, 0),
    ]
    for access in accesses:
        closed_while(access)


def closed_while(access: Callable[[Emulated82599], object]) -> None:
    nic = Emulated82599("sink")
    closed, waiting = threading.Event(), threading.Event()
    errors: list[BaseException] = []
    frozen = nic._engine.frozen()

    class Late:
        """The other thread asks for the lock first, and gets it last."""

        def __enter__(self) -> None:
            if threading.current_thread() is other:
                waiting.set()
                closed.wait(30)
            frozen.__enter__()

        def __exit__(self, kind: object, error: object, trace: object) -> None:
            frozen.__exit__(kind, error, trace)

    nic._engine._frozen = Late()  # type: ignore[assignment]  # stands in for a lock of the engine

    def use() -> None:
        try:
            access(nic)
        except Exception as error:
            errors.append(error)

    other = threading.Thread(target=use)
    other.start()
    waiting.wait(30)
    nic.close()
    closed.set()
    other.join(30)
    assert isinstance(errors[0], DeviceError) and "is closed" in str(errors[0]), errors


ENDED: list[Callable[[], None]] = [
    a_base_stored_in_a_mapped_page_is_aligned,
    a_captured_frame_that_is_too_long_is_dropped,
    a_frame_shorter_than_an_address_is_not_read_beyond_its_end,
    mending_write_backs_does_not_enable_an_invalid_queue,
    a_received_pause_frame_is_not_answered_endlessly,
    a_thread_that_waits_for_a_nic_gets_an_error_when_it_closes,
]


@pytest.mark.parametrize("name", [each.__name__ for each in ENDED])
def test_the_process_survives(name: str) -> None:
    done = subprocess.run(
        [sys.executable, __file__, name],
        env={**ENVIRONMENT, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr[-2000:]}"


# ---- cases that once took too much, came too late or got lost ----


def test_a_length_stored_in_a_mapped_page_costs_no_memory() -> None:
    with stepped() as (nic, regs):
        nic.share_doorbells()
        asked: list[int] = []

        def note_size(queue: int, iova: int, size: int) -> None:
            asked.append(size)

        nic._inspector._memory = note_size  # type: ignore[method-assign]  # only the sizes matter
        receive_queue(regs, MB, 8)
        nic._engine.registers[0x1008 >> 2] = 0xFFFFFFF0  # RDLEN[0]
        nic._engine.registers[0x1018 >> 2] = 0x10000  # RDT[0]
        regs.RDT[0].write(1)
        assert max(asked, default=0) <= 1 << 20


def test_rows_beyond_the_end_of_a_table_are_not_kept() -> None:
    with stepped() as (nic, regs):
        for row in range(0, 0x100000, 0x400):
            regs.RTTDQSEL.write(row)
            regs.RTTDT1C.write(0)
        assert nic._inspector._history.written["RTTDT1C"] == {0}


def test_a_previous_client_cannot_ring_the_doorbells_of_the_next() -> None:
    with stepped() as (nic, regs):
        with mmap.mmap(nic.share_doorbells(), 4 * PAGE) as previous:
            regs.TDLEN[0].write(128)
            nic.unshare_doorbells()
            assert regs.TDLEN[0].read() == 128
            nic.share_doorbells()
            previous[2 * PAGE + 0x18 : 2 * PAGE + 0x1C] = b"\5\0\0\0"  # TDT[0]
            assert regs.TDT[0].read() == 0


def test_repeated_violations_do_not_hide_a_fault() -> None:
    with stepped() as (nic, regs):
        fd = window(nic, MB, 2 * PAGE)
        regs.HLREG0.update(TXPADEN=1)
        os.pwrite(fd, data(MB + PAGE, 16) * 100 + data(MESSAGES, 60), 0)
        transmit_queue(regs, 0, MB, 128)
        regs.TDT[0].write(101)
        nic.step(200)
        assert nic.faults


def test_writes_that_no_client_takes_stop_the_queue() -> None:
    with stepped() as (nic, regs):
        os.pwrite(window(nic, MB, 1 << 16), CONTEXT * 4096, 0)
        nic.map_dma_at(MESSAGES, PAGE, None)
        transmit_queue(regs, 0, MB, 4096, head=MESSAGES)
        for turn in range(4):
            nic._engine.registers[0x6018 >> 2] = (turn + 1) * 4000 % 4096  # TDT[0]
            nic.step(4096)
        assert sum(1 for _ in itertools.islice(nic.dma_messages.take(), 5000)) <= 300


@pytest.mark.parametrize(("queues", "descriptors"), [(3, 40), (8, 18), (16, 10)])
def test_all_queues_make_progress_when_they_share_the_message_slots(queues: int, descriptors: int) -> None:
    with stepped() as (nic, regs):
        nic.map_dma_at(MB, 16 * MB, None)
        memory: dict[int, bytes] = {}
        for queue in range(queues):
            for i in range(descriptors):
                memory[MB + queue * PAGE + 16 * i] = data(
                    2 * MB + queue * 65536 + 1024 * i, 64, eop=i == descriptors - 1, paylen=64 * descriptors
                )
            transmit_queue(regs, queue, MB + queue * PAGE, 64)
            regs.TDT[queue].write(descriptors)
        moved = 0
        for _ in range(1500):
            moved += nic.step(64)
            for request in nic.dma_messages.take():
                nic.dma_messages.answer(
                    request.id, memory.get(request.iova, bytes(request.length)) if request.data is None else b""
                )
        assert moved == queues


def test_dd_is_written_after_the_frame() -> None:
    with stepped("loop") as (nic, regs):
        fd = window(nic, MB, 4 * PAGE)
        nic.map_dma_at(MESSAGES, PAGE, None)
        os.pwrite(fd, struct.pack("<QQ", MESSAGES, 0) * 8, 0)
        os.pwrite(fd, data(MB + 2 * PAGE, 60), PAGE)
        os.pwrite(fd, b"\xff" * 60, 2 * PAGE)
        receive_queue(regs, MB, 8)
        regs.RDT[0].write(7)
        transmit_queue(regs, 0, MB + PAGE, 8)
        regs.TDT[0].write(1)
        nic.step(4)
        assert not os.pread(fd, 1, 8)[0] & 1, "DD came before the frame"
        written = [(request.iova, request.length) for request in nic.dma_messages.take()]
        assert written == [(MESSAGES, 60), (MB, 16)]


def test_a_frame_for_a_disabled_queue_counts_in_the_statistics_set_of_that_queue() -> None:
    with stepped("loop") as (nic, regs):
        fd = window(nic, MB, 4 * PAGE)
        regs.RQSMR[0].write(0x03020107)
        os.pwrite(fd, data(MB + 2 * PAGE, 60), 0)
        os.pwrite(fd, b"\xff" * 60, 2 * PAGE)
        transmit_queue(regs, 0, MB, 8)
        regs.TDT[0].write(1)
        nic.step(4)
        assert {number: count for number in range(16) if (count := int(regs.QPRDC[number].read()))} == {7: 1}


if __name__ == "__main__":
    next(each for each in ENDED if each.__name__ == sys.argv[1])()
    os._exit(0)  # skips the close: the NIC's violations do not matter here
