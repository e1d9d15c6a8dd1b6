"""Stopping a port: its order, from every state, with the device present or gone. Nothing is left open."""

from __future__ import annotations

import random
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from ixrings import Port, PortClosed, open_port, open_ports
from ixrings.hw.device import Device
from ixrings.hw.emulator import Emulated82599
from ixrings.hw.errors import DeviceGone, RegisterTimeout
from ixrings.hw.registers import Registers
from ixrings.rings import Region, RegionError
from tests.support.driver_watch import Watched, held

ROOT = Path(__file__).parent.parent.parent
RST, GIO_DIS = 1 << 26, 1 << 2


def assert_released(device: Watched) -> None:
    assert device.mapped == 0
    assert device.unmapped_while_master == []
    assert device.inner.faults == []
    assert device.owner == ""


def use(port: Port) -> None:
    """Use each part of the port a little. The loop returns the frames."""
    port.send([bytes(60)] * 40)
    port.flush(1)
    port.poll(0.5)
    port.rxsync()
    port.promiscuous = True
    port.stats()


def test_a_stop_follows_the_order_of_the_datasheet() -> None:
    with Emulated82599() as inner:
        device = Watched(inner)
        port = open_port(device, rx_queues=2, tx_queues=2)
        use(port)
        device.events.clear()
        port.close()
        writes = [
            (place.row.name, place.index, value, at)
            for at, (what, offset, value) in enumerate(device.events)
            if what == "write" and (place := Registers.find(offset))
        ]

        def first(name: str, bits: int = 0) -> int:
            return min(at for register, _, value, at in writes if register == name and value & bits == bits)

        unmaps = [at for at, (what, _, _) in enumerate(device.events) if what == "unmap"]
        master_off = max(
            at
            for at, (what, offset, value) in enumerate(device.events)
            if what == "config" and offset == 4 and not value & 4
        )
        assert len(unmaps) == 6  # the region, head words, four descriptor rings
        steps = [first("EIMC"), first("RXDCTL"), first("CTRL", GIO_DIS), first("CTRL", RST), master_off, min(unmaps)]
        assert steps == sorted(steps)
        assert {index for register, index, _, _ in writes if register == "RXDCTL"} == {0, 1}
        assert {index for register, index, _, _ in writes if register == "TXDCTL"} == {0, 1}
        assert max(at for register, _, _, at in writes if register == "TXDCTL") < first("CTRL", GIO_DIS)
        assert inner.violations == []


def fade(at: int) -> tuple[int, int]:
    """Unplug at access `at` of open, use and close. Returns two counts of accesses: of open and use, and of all."""
    with Emulated82599() as inner:
        device = Watched(inner, at=at, trouble=inner.unplug)
        used = -1
        try:
            with open_port(device, link_timeout=0.05) as port:
                use(port)
                used = device.accesses
        except DeviceGone as error:
            assert "close the port" in str(error)
            assert used == -1, "close() raised for a device that is gone"
        assert_released(device)
        return used, device.accesses


def moments(total: int, count: int) -> list[int]:
    """Numbers of accesses: the first and the last ones, and some between. They are the same in every run."""
    return sorted({1, 2, 3, total - 2, total - 1, total, *random.Random(82599).sample(range(1, total), count)})


@pytest.mark.slow
@pytest.mark.parametrize("steps", [5, 60])
def test_a_device_unplugged_at_any_moment_is_reported_as_gone_and_everything_is_released(steps: int) -> None:
    _, total = fade(-1)
    for at in moments(total, steps):
        used, _ = fade(at)
        assert used < at, f"unplugged at access {at}, but not reported before close(), which began at access {used}"


@pytest.mark.slow
def test_every_wait_and_every_check_reports_a_device_that_is_gone() -> None:
    def sync_on(port: Port) -> None:
        for _ in range(10_000):
            port.txsync()
            port.rxsync()

    looks: list[Callable[[Port], object]] = [
        lambda port: port.poll(None),
        lambda port: port.poll(None, busy=True),
        lambda port: port.poll(0.01),
        sync_on,
        lambda port: list(port.recv()),
        lambda port: port.stats(),
        lambda port: port.link,
        lambda port: port.mac,
        lambda port: port.wait_link(1),
        lambda port: setattr(port, "promiscuous", True),
    ]
    for look in looks:
        with Emulated82599("sink") as nic, open_port(nic) as port:
            nic.unplug()
            with pytest.raises(DeviceGone, match="no longer answers"):
                look(port)


@pytest.mark.slow
def test_a_flush_on_a_gone_device_ends() -> None:
    with Emulated82599("sink") as nic, open_port(nic) as port:
        nic.unplug()
        port.txsync()
        with pytest.raises(DeviceGone):
            port.send([bytes(60)] * 5000)


def interrupt(at: int) -> int:
    """Ctrl-C at access `at` of open, use and close."""

    def ctrl_c() -> None:
        raise KeyboardInterrupt

    with Emulated82599() as inner:
        device = Watched(inner, at=at, trouble=ctrl_c)
        try:
            with open_port(device, link_timeout=0.05) as port:
                use(port)
        except KeyboardInterrupt:
            pass
        assert_released(device)
        assert not inner.config_read(4, 2) & 4
        return device.accesses


@pytest.mark.parametrize("steps", [5, pytest.param(60, marks=pytest.mark.slow)])
def test_ctrl_c_at_any_moment_leaves_a_quiet_device_and_nothing_else(steps: int) -> None:
    total = interrupt(-1)
    for at in moments(total, steps):
        interrupt(at)


def test_an_exception_in_the_with_block_propagates_after_a_clean_stop() -> None:
    with Emulated82599() as inner:
        device = Watched(inner)
        with pytest.raises(ZeroDivisionError), open_port(device) as port:
            port.send([bytes(60)] * 100)
            1 / 0  # noqa: B018
        assert_released(device)


class StuckQueue(Watched):
    """A NIC whose RXDCTL[0].ENABLE stays set."""

    stuck = False

    def read32(self, offset: int, /) -> int:
        value = super().read32(offset)
        return value | 1 << 25 if self.stuck and offset == Registers.RXDCTL.offset(0) else value


@pytest.mark.breaks_rules("queues_off_before_master_disable")
def test_a_queue_that_does_not_stop_is_reported_after_everything_is_released() -> None:
    with Emulated82599() as inner:
        device = StuckQueue(inner)
        port = open_port(device)
        device.stuck = True
        with pytest.raises(RegisterTimeout, match=r"RXDCTL\[0\].*ENABLE is 0x1, expected 0x0.*4\.6\.7\.1\.2"):
            port.close()
        assert_released(device)
        assert ("function reset", 0, 0) in device.events
        port.close()


@pytest.mark.slow
def test_opening_and_closing_fifty_times_leaves_nothing() -> None:
    open_port("emulated").close()
    before = held()
    for _ in range(50):
        with open_port("emulated", tx_slots=64, rx_slots=64) as port:
            port.fileno()
    assert held() == before


def test_a_failed_opening_leaves_nothing() -> None:
    with Region.for_ports(1, tx_slots=64, rx_slots=64) as region, Emulated82599() as inner:
        device = Watched(inner)
        for _ in range(20):
            with pytest.raises(RegionError):
                open_port(device, region=region)
            assert_released(device)
        with open_port(device, region=region, tx_slots=64, rx_slots=64):
            pass
        with pytest.raises(ValueError, match="buf_size=2048"):
            open_port(device, region=region, buf_size=1024)


def test_when_one_of_several_ports_cannot_be_opened_the_others_are_closed() -> None:
    with Emulated82599("sink") as inner:
        device = Watched(inner)
        with pytest.raises(ValueError, match="wire"), open_ports(device, "emulated:nonsense"):
            raise AssertionError("not reached")
        assert_released(device)


def test_close_leaves_the_callers_device_open_and_closes_the_ports_own() -> None:
    with Emulated82599() as nic:
        open_port(nic).close()
        assert Registers(nic).STATUS.read() != 0xFFFFFFFF
    port = open_port("emulated")
    device: Device = port.device
    port.close()
    with pytest.raises(Exception, match="closed"):
        device.read32(8)


def test_a_loop_over_frames_reports_that_its_port_was_closed() -> None:
    with open_port("emulated") as port:
        port.promiscuous = True
        port.send([bytes(60)] * 3)
        frames = port.recv(30)
        next(frames)
        port.close()
        with pytest.raises(PortClosed):
            list(frames)


def test_a_program_that_ends_without_close_prints_nothing() -> None:
    script = "from ixrings import open_port\nport = open_port('emulated')\nport.send([bytes(60)] * 10)\n"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("file", "name", "nth"),
    [("bringup.py", "__call__", 1), ("bringup.py", "stop", 1), ("contextlib.py", "_exit_wrapper", 2)],
)
def test_ctrl_c_between_two_steps_of_closing_does_not_skip_the_stop(file: str, name: str, nth: int) -> None:
    left = nth

    def interrupt(frame: types.FrameType, event: str, _: object) -> None:
        nonlocal left
        if event == "call" and frame.f_code.co_name == name and frame.f_code.co_filename.endswith(file):
            left -= 1
            if left == 0:
                raise KeyboardInterrupt

    with Emulated82599() as inner:
        device = Watched(inner)
        port = open_port(device)
        sys.settrace(interrupt)
        try:
            with pytest.raises(KeyboardInterrupt):
                port.close()
        finally:
            sys.settrace(None)
        assert left <= 0 and device.unmapped_while_master == []
