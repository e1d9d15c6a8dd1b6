"""A port on a NIC in another process behaves as a port on a NIC in this process."""

from __future__ import annotations

import json
import os
import re
import selectors
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ixrings import EtherTypeFilter, Port, PortBusy, open_port, open_ports
from ixrings.hw.capture.pcap import CaptureWriter, read_capture
from ixrings.hw.device import Device
from ixrings.hw.emulator import Emulated82599
from ixrings.hw.errors import DeviceError, DeviceGone
from ixrings.hw.registers import Registers
from ixrings.hw.vfio_user import VfioUserDevice
from tests.support.programs import ENVIRONMENT, started, wait_for
from tests.support.queue_worker import has_opened, last_words, worker
from tests.support.vfio_user_peer import Emulator, emulate, served

TESTS = Path(__file__).resolve().parent.parent.parent
MODES: list[tuple[str, ...]] = [(), ("--trap-all",)]


@pytest.fixture(
    scope="module",
    params=[pytest.param((), id="doorbells"), pytest.param(("--trap-all",), id="trap-all", marks=pytest.mark.slow)],
)
def emulator(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """One emulator for all tests: each client finds the NIC as after power-on."""
    with emulate(tmp_path_factory.mktemp("nic") / "nic.sock", *request.param) as running:
        yield running
        status, errors = running.end()
        assert (status, errors) == (0, "")  # no rule was broken, no DMA fault


def frame(to: str, number: int, length: int = 60) -> bytes:
    return (bytes.fromhex(to.replace(":", "")) + bytes(6) + b"\x88\xb5" + struct.pack("!I", number)).ljust(
        length, b"\0"
    )


def test_a_sleeping_poll_is_woken_by_an_interrupt_from_the_other_process(emulator: Emulator) -> None:
    with open_port(emulator.port, interrupt_interval_us=0) as port, selectors.DefaultSelector() as selector:
        assert port.poll(0.05) == 0
        selector.register(port, selectors.EVENT_READ)
        assert not selector.select(0.02)
        for number in range(200):
            port.send([frame(port.mac, number)])
            assert selector.select(30), f"no wake-up for frame {number}"
            port.rxsync()
            port.rx_rings[0].advance(port.rx_rings[0].space)
            port.rxsync()


@pytest.mark.slow
def test_many_queues_send_receive_and_wake_the_program(emulator: Emulator) -> None:
    """More queues than vectors, and more eventfds than one message carries."""
    with (
        open_port(emulator.port, tx_queues=128, rx_queues=128, tx_slots=64, rx_slots=64) as port,
        selectors.DefaultSelector() as selector,
    ):
        port.filters.add(EtherTypeFilter(0x88B5, 100))
        selector.register(port, selectors.EVENT_READ)
        for queue in (0, 63, 64, 127):
            sent = frame(port.mac, queue)
            port.send([sent], ring=queue)
            assert selector.select(30), f"no wake-up for the frame of queue {queue}"
            assert next(port.recv(30)) == sent
            port.rxsync()
        stats = port.stats()
        assert (stats.rx_others["QPRC"], stats.tx[0]["QPTC"], stats.tx_others["QPTC"]) == (4, 1, 3)


@pytest.mark.filterwarnings("ignore::ixrings.NothingReceived")  # the first frame is refused on purpose
def test_a_register_write_takes_effect_before_the_next_frame(emulator: Emulator) -> None:
    """Tails and register writes reach the other process in different ways; neither may overtake the other."""
    with open_port(emulator.port) as port:
        other = frame("02:00:00:00:00:0c", 1)
        port.send([other])
        assert list(port.recv(0.1)) == []
        for _ in range(30):
            port.promiscuous = True
            port.send([other])
            assert next(port.recv(30)) == other
            port.promiscuous = False


@pytest.mark.slow
def test_repeated_opening_leaves_nothing_on_either_side(emulator: Emulator) -> None:
    open_port(emulator.port, tx_slots=64, rx_slots=64).close()
    wait_for(lambda: emulator.mappings() == 0, "the server still maps memory")
    fds = emulator.fds()
    for _ in range(5):
        with open_port(emulator.port, tx_slots=64, rx_slots=64) as port:
            port.fileno()
    wait_for(lambda: emulator.fds() <= fds and emulator.mappings() == 0, "the server still holds fds or memory")


def test_a_second_program_is_refused(emulator: Emulator) -> None:
    with open_port(emulator.port, tx_slots=64, rx_slots=64) as port:
        for _ in range(3):
            with pytest.raises(DeviceError, match="in use by another program.*ixrings emulate --socket"):
                VfioUserDevice(emulator.port.partition(":")[2])
        for name in (port.device, emulator.port):
            with pytest.raises(PortBusy, match=f"as port {emulator.port}"):
                open_port(name)
        port.send([frame(port.mac, 1)])
        assert next(port.recv(30)) == frame(port.mac, 1)


CLIENT = """
import sys
from ixrings import open_port
with open_port(sys.argv[1]) as port:
    port.promiscuous = True
    print("running", flush=True)
    while True:
        port.send([bytes(60)] * 64)
        port.rxsync()
        ring = port.rx_rings[0]
        ring.advance(ring.space)
"""


def test_after_a_client_was_killed_the_nic_is_quiet_and_the_next_can_use_it(emulator: Emulator) -> None:
    for _ in range(2):
        with started([sys.executable, "-c", CLIENT, emulator.port]) as client:
            assert client.stdout is not None and client.stdout.readline() == "running\n"
            time.sleep(0.05)
            client.kill()
            client.wait(30)
        with open_port(emulator.port) as port:
            assert port.device.config_read(0x04, 2) & 4
            port.send([frame(port.mac, 1)])
            assert next(port.recv(30)) == frame(port.mac, 1)
            assert port.stats()["GPTC"] == 1  # statistics restarted
    wait_for(lambda: emulator.mappings() == 0, "the server still maps memory of a dead client")


def gone(port: Port) -> None:
    with pytest.raises(DeviceGone, match="no longer answers.*close the port"):
        for _ in range(100_000):
            port.txsync()
            port.poll(0.01)


def test_after_the_server_was_killed_the_device_is_gone(tmp_path: Path) -> None:
    for arguments in MODES:
        with emulate(tmp_path / "nic.sock", *arguments) as emulator, open_port(emulator.port) as port:
            port.promiscuous = True
            port.send([bytes(60)] * 100)
            emulator.process.kill()
            emulator.process.wait(30)
            gone(port)
            assert port.device.read32(8) == 0xFFFFFFFF
            assert port.device.config_read(0, 4) == 0xFFFFFFFF


@pytest.mark.slow
def test_a_server_that_stops_answering_counts_as_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ixrings.hw.vfio_user.connection.ANSWER_S", 0.3)
    with emulate(tmp_path / "nic.sock") as emulator, open_port(emulator.port) as port:
        emulator.process.send_signal(signal.SIGSTOP)
        try:
            start = time.monotonic()
            assert port.device.read32(8) == 0xFFFFFFFF
            assert time.monotonic() - start < 3
            gone(port)
        finally:
            emulator.process.send_signal(signal.SIGCONT)


@pytest.mark.slow
def test_after_ctrl_c_at_any_moment_the_next_program_can_use_the_nic(emulator: Emulator) -> None:
    for delay in (0.15, 0.22, 0.3, 0.5):
        with started(
            [sys.executable, "-c", CLIENT.replace("while True", "for _ in iter(int, 1)"), emulator.port]
        ) as client:
            time.sleep(delay)
            client.send_signal(signal.SIGINT)
            client.communicate(timeout=30)
        with open_port(emulator.port, tx_slots=64, rx_slots=64) as port:
            port.send([frame(port.mac, 1)])
            assert next(port.recv(30)) == frame(port.mac, 1)


@pytest.mark.slow
def test_a_bridge_between_two_processes_copies_no_frame_and_loses_none(tmp_path: Path) -> None:
    frames = [frame("02:00:00:00:00:0c", n, 60 + n % 1000) for n in range(3000)]
    with CaptureWriter(tmp_path / "in.pcap") as writer:
        for each in frames:
            writer.write(each, 0)
    for arguments in MODES:
        with (
            emulate(tmp_path / "left.sock", "--wire", f"pcap={tmp_path / 'in.pcap'}", *arguments) as left,
            emulate(tmp_path / "right.sock", "--wire", f"pcap=,{tmp_path / 'out.pcap'}") as right,
        ):
            with open_ports(left.port, right.port, promiscuous=True) as (one, other):
                moved = 0
                while moved < len(frames):
                    assert one.poll(30)
                    moved += one.forward(other)
                other.flush(30)
                assert one.stats()["GPRC"] == other.stats()["GPTC"] == len(frames)
            assert right.end()[0] == 0
            assert list(read_capture(tmp_path / "out.pcap")) == frames
            assert left.end() == (0, "")


def test_two_nics_on_a_cable_exchange_frames_and_see_the_cable_pulled(tmp_path: Path) -> None:
    with (
        Emulated82599("cable=vu") as a,
        Emulated82599("cable=vu", mac=bytes([2, 0, 0, 0, 0, 2])) as b,
        served(a, tmp_path / "a") as first,
        served(b, tmp_path / "b", trap_all=True) as second,
        open_port(first) as one,
        open_port(second) as two,
    ):
        one.wait_link(30)
        two.wait_link(30)
        one.send([frame(two.mac, n) for n in range(100)])
        received = two.recv(30)
        assert [next(received) for _ in range(100)] == [frame(two.mac, n) for n in range(100)]
        a.set_link(False)
        assert not one.link.up and not two.link.up
        a.set_link(True)
        assert one.wait_link(30).up and two.wait_link(30).up
        assert a.violations == b.violations == []


def test_a_third_process_syncs_a_queue_through_the_servers_doorbells(tmp_path: Path) -> None:
    with (
        emulate(tmp_path / "nic.sock") as emulator,
        open_port(emulator.port, tx_queues=2, rx_queues=2, promiscuous=True) as port,
    ):
        port.filters.add(EtherTypeFilter(0x88B5, queue=1))
        share = port.share(1)
        with worker(share, "hold") as process:
            has_opened(process)
            port.send([bytes(12) + b"\x88\xb5" + bytes(46)] * 100)
            wait_for(lambda: share.rx_packets == 100, "the worker has not received all frames", 30)
            assert share.reclaim() == 0
            assert "was taken back" in last_words(process)
        assert len([frame for _, frame in zip(range(100), port.recv(30))]) == 100


def test_a_queue_behind_messages_cannot_be_shared(tmp_path: Path) -> None:
    with emulate(tmp_path / "nic.sock", "--trap-all") as emulator, open_port(emulator.port) as port:
        with pytest.raises(DeviceError, match=r"its server has no doorbell region.*without --trap-all has one"):
            port.share(0)
        port.send([b"\xff" * 60])  # the port goes on
        assert next(port.recv(30)) == b"\xff" * 60


@pytest.mark.slow
@pytest.mark.parametrize("mode", [pytest.param((), id="doorbells"), pytest.param(("--trap-all",), id="trap-all")])
def test_the_port_scenarios_pass_on_a_nic_in_another_process(tmp_path: Path, mode: tuple[str, ...]) -> None:
    with (
        emulate(tmp_path / "loop.sock", *mode) as loop,
        emulate(tmp_path / "source.sock", "--wire", "source", *mode) as source,
    ):
        environment = {**ENVIRONMENT, "IXRINGS_LOOP": loop.port, "IXRINGS_SOURCE": source.port, "IXRINGS_BRIDGE_S": "2"}
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            str(TESTS / "driver/port_scenarios.py"),
        ]
        done = subprocess.run(command, env=environment, cwd=TESTS.parent, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stdout
        assert loop.end() == source.end() == (0, "")


def wait_link(port: Port, up: bool) -> None:
    wait_for(lambda: port.link.up == up, "the link did not follow the cable")


def test_sigusr1_pulls_the_cable_and_puts_it_back(tmp_path: Path) -> None:
    with emulate(tmp_path / "nic.sock") as emulator, open_port(emulator.port) as port:
        for up in (False, True, False, True):
            emulator.process.send_signal(signal.SIGUSR1)
            wait_link(port, up)


@pytest.mark.parametrize(("module", "present"), [("lr", True), ("direct-attach", True), ("none", False)])
def test_the_cage_contains_the_module_of_the_option(tmp_path: Path, module: str, present: bool) -> None:
    with emulate(tmp_path / "nic.sock", "--sfp", module) as emulator, VfioUserDevice(emulator.path) as device:
        assert Registers(device).ESDP.read().SDP2_DATA == present


def test_mistakes_of_a_driver_are_reported_when_it_disconnects(tmp_path: Path) -> None:
    with emulate(tmp_path / "nic.sock", "--trace", str(tmp_path / "trace")) as emulator:
        with VfioUserDevice(emulator.path) as device:
            device.write32(0x6018, 5)
            device.read32(8)
        with VfioUserDevice(emulator.path):
            pass
        status, errors = emulator.end(signal.SIGINT)
    assert status == 0
    assert errors == (
        "ixrings emulate: error: A tail is written only after ENABLE was read as 1 (82599 4.6.7, 4.6.8). "
        "TDT[0] written 5: TXDCTL[0] had not been written since the reset and ENABLE had not been read as 1\n"
    )
    assert re.search(r"^ +\d+\.\d+ W BAR0 0x06018 4 00000005$", (tmp_path / "trace").read_text(), re.MULTILINE)


def test_mistakes_of_a_driver_are_reported_in_json(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ixrings", "emulate", "--json", "--socket", str(tmp_path / "nic.sock")]
    with started(command) as process:
        assert process.stdout and json.loads(process.stdout.readline()) == {
            "name": "emulated:loop",
            "socket": str(tmp_path / "nic.sock"),
        }
        with VfioUserDevice(str(tmp_path / "nic.sock")) as device:
            device.write32(0x6018, 5)
            device.read32(8)
        reported = json.loads(process.stdout.readline())
    assert (reported["rule"], reported["severity"], reported["register"], reported["queue"], reported["values"]) == (
        "tail_after_enable",
        "error",
        "TDT[0]",
        0,
        [5],
    )


def test_a_strict_emulator_answers_a_wrong_access_with_an_error(tmp_path: Path) -> None:
    with emulate(tmp_path / "nic.sock", "--rules", "raise") as emulator:
        with VfioUserDevice(emulator.path) as device:
            with pytest.raises(DeviceError, match="Input/output error"):
                device.write32(0x1000, 0x1040)
            assert device.read32(0x1000) == 0x1000
        assert "A ring starts at a multiple of 128" in emulator.end()[1]


def test_the_same_mistake_of_the_next_driver_is_reported_again(tmp_path: Path) -> None:
    with emulate(tmp_path / "nic.sock") as emulator:
        for _ in range(2):
            with VfioUserDevice(emulator.path) as device:
                device.write32(0x6018, 5)
                device.read32(8)
            # The mistakes of this client are reported before the next client is accepted.
            with VfioUserDevice(emulator.path):
                pass
        _, errors = emulator.end()
    assert [line.partition(" (")[0] for line in errors.splitlines()] == [
        "ixrings emulate: error: A tail is written only after ENABLE was read as 1"
    ] * 2


def emulate_fails(*arguments: object) -> str:
    command = [sys.executable, "-m", "ixrings", "emulate", *map(str, arguments)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def opening_fails(name: str) -> str:
    with pytest.raises(DeviceError) as error:
        open_port(name)
    return str(error.value)


@pytest.mark.slow
def test_errors_of_sockets_and_options_are_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ixrings.hw.vfio_user.connection.START_S", 0.1)
    assert "Run: ixrings emulate --socket" in opening_fails(f"vfio-user:{tmp_path}/none")
    (tmp_path / "file").write_text("mine")
    assert "is not a socket" in emulate_fails("--socket", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    assert "no connection to" in opening_fails("vfio-user:" + "x" * 200)
    assert "too long" in emulate_fails("--socket", "/tmp/" + "x" * 200)
    assert "No such file or directory" in emulate_fails("--socket", tmp_path / "no" / "nic.sock")
    assert "no wire 'nonsense'" in emulate_fails("--socket", tmp_path / "nic.sock", "--wire", "nonsense")
    assert "--sfp" in emulate_fails("--socket", tmp_path / "nic.sock", "--sfp", "qsfp")
    assert "--link" in emulate_fails("--socket", tmp_path / "nic.sock", "--link", "-1")
    with emulate(tmp_path / "nic.sock") as emulator:
        assert "another server listens" in emulate_fails("--socket", emulator.path)
        emulator.process.kill()
        emulator.process.wait(30)
        assert "no server listens" in opening_fails(emulator.port)
    with emulate(tmp_path / "nic.sock") as emulator:  # it replaces the socket of the dead server
        assert emulator.end()[0] == 0
    assert not os.path.exists(tmp_path / "nic.sock")


def test_a_closed_device_refuses_everything_and_close_is_idempotent(tmp_path: Path) -> None:
    with Emulated82599() as nic, served(nic, tmp_path / "nic") as name:
        device: Device = VfioUserDevice(name.partition(":")[2])
        device.enable_interrupts(40)
        device.close()
        device.close()
        for use in (
            lambda: device.read32(8),
            lambda: device.config_read(0, 4),
            device.reset,
            lambda: device.doorbell(0x1018),
            lambda: device.enable_interrupts(1),
        ):
            with pytest.raises(DeviceError, match="is closed"):
                use()
