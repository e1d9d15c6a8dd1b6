"""Another thread of the process may do the emulated NICs' rounds; the engine's own thread rests meanwhile."""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ixrings import Port, open_port
from ixrings.hw.device import Device
from tests.support.programs import wait_for

PATIENCE_S = 30


@contextmanager
def helping(device: Device) -> Iterator[None]:
    """A thread does the rounds. It ends without a word, as a thread that has got other work."""
    help_once = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_uint64)(device.work_function())
    ends = threading.Event()

    def help_always() -> None:
        while not ends.is_set():
            help_once(None, time.monotonic_ns())

    thread = threading.Thread(target=help_always)
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()


def send_and_receive(port: Port, count: int) -> None:
    """Through the loop at the other end of the cable, one at a time."""
    for number in range(count):
        frame = bytes([number % 256]) * 60
        port.send([frame])
        assert next(iter(port.recv(timeout=PATIENCE_S)), None) == frame


def engine_s() -> float:
    """Processor time of the engine's thread."""
    for task in Path("/proc/self/task").iterdir():
        if (task / "comm").read_text().strip() == "82599":
            return int((task / "schedstat").read_text().split()[0]) / 1e9
    raise AssertionError("the engine has no thread")


def engine_share(port: Port) -> float:
    """Of the time in which frames come and go, the part that the engine's thread works."""
    spent, start = engine_s(), time.perf_counter()
    send_and_receive(port, 50)
    return (engine_s() - spent) / (time.perf_counter() - start)


def test_the_engine_rests_while_another_thread_does_its_rounds_and_then_goes_on() -> None:
    with open_port("emulated", promiscuous=True) as port:
        device = port._owned().device
        with helping(device):
            wait_for(lambda: engine_share(port) < 0.05, "the engine's thread does not rest", PATIENCE_S)
        send_and_receive(port, 50)  # without a word
        with helping(device):
            send_and_receive(port, 1)
        device.work_ends()
        send_and_receive(port, 50)


def test_a_nic_may_be_opened_and_closed_while_another_thread_does_the_rounds() -> None:
    with open_port("emulated") as first:
        with helping(first._owned().device):
            for _ in range(2):
                with open_port("emulated", promiscuous=True) as second:
                    send_and_receive(second, 3)
