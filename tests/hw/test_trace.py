"""The tracer on whole ports: it records every access, and changes none."""

from __future__ import annotations

import io
import re
import threading
from functools import partial
from pathlib import Path
from select import select

import pytest

from ixrings import Port, PortBusy, open_port, open_ports
from ixrings.hw.device import Device
from ixrings.hw.emulator import Emulated82599
from ixrings.hw.registers import Registers
from ixrings.hw.trace.device import Access, TracedDevice
from ixrings.hw.trace.file import TraceFile
from ixrings.hw.uio import UioDevice
from ixrings.hw.vfio import VfioDevice
from ixrings.hw.vfio_user import VfioUserDevice
from ixrings.rings.hotloop import RxSync, TxSync
from tests.support.driver_watch import Watched
from tests.support.programs import EXAMPLES, command, interrupt, run_example, started, wait_for
from tests.support.vfio_user_peer import emulate

MODES = [(), ("--trap-all",)]


def frames(port: Port, count: int) -> list[bytes]:
    return [
        (bytes.fromhex(port.mac.replace(":", "")) + bytes(6) + b"\x88\xb5" + number.to_bytes(4, "big")).ljust(60, b"\0")
        for number in range(count)
    ]


def exchange(port: Port, count: int = 300) -> None:
    sent = frames(port, count)
    port.send(sent)
    received = port.recv(2)
    assert [next(received) for _ in sent] == sent


def read(path: Path) -> list[Access]:
    file = TraceFile(path)
    accesses = list(file)
    assert file.complaint() == ""
    return accesses


# ---- lines ----


@pytest.mark.breaks_rules
def test_every_access_is_a_line_with_its_time_and_caller() -> None:
    lines = io.StringIO()
    with TracedDevice(Emulated82599(manual=True), lines) as device:
        nic = Registers(device)
        nic.RXDCTL[0].update(ENABLE=1)
        device.write32(0x02100, 0x0200_0402)
        device.read32(0x1FFF0)
        device.enable_bus_master(True)
    who = "tests/hw/test_trace.py:test_every_access_is_a_line_with_its_time_and_caller"
    heading, *recorded = lines.getvalue().splitlines()
    assert heading == "# ixrings trace of emulated:loop, in seconds since it began"
    assert all(re.match(r" +\d+\.\d{6} ", line) for line in recorded)
    assert [line.split(maxsplit=1)[1] for line in recorded] == [
        f"read  RXDCTL[0] 0x00000000  # {who}",
        f"write RXDCTL[0] 0x02000000 ENABLE=1  # {who}",
        f"write SRRCTL[0]@0x02100 0x02000402 BSIZEPACKET=2 BSIZEHEADER=4 DESCTYPE=1 (advanced, one buffer)  # {who}",
        f"read  0x1fff0 0x00000000  # {who}",
        f"read  CONFIG+0x04 0x0000  # {who}",
        f"write CONFIG+0x04 0x0006  # {who}",
    ]


def test_a_recorded_trace_is_read_back_unchanged(tmp_path: Path) -> None:
    inner = Watched(Emulated82599())
    with inner, open_port(inner, trace=tmp_path / "trace") as port:
        exchange(port)
    accesses = read(tmp_path / "trace")
    assert [
        ("config" if each.config else "write", each.offset, each.value)
        for each in accesses
        if each.write and each.caller != "rings/hotloop.py"
    ] == [event for event in inner.events if event[0] in ("write", "config")]
    assert len([each for each in accesses if not each.config and each.caller != "rings/hotloop.py"]) == inner.accesses
    times = [each.time_s for each in accesses if each.time_s is not None]
    assert len(times) == len(accesses) and times == sorted(times)
    callers = {each.caller for each in accesses}
    assert {
        "driver/queues.py:enable_transmit_queue",
        "driver/reset.py:global_reset",
        "driver/statistics.py:read_counter",
    } <= callers


def test_the_tail_of_each_sync_is_recorded(tmp_path: Path) -> None:
    with open_port("emulated", tx_slots=64, rx_slots=64, trace=tmp_path / "trace") as port:
        for frame in frames(port, 70):
            port.send([frame])
            port.flush()
    tails = [each.value for each in read(tmp_path / "trace") if each.write and each.name == "TDT[0]"]
    assert tails == [(number + 1) % 64 for number in range(70)]
    assert [each.value for each in read(tmp_path / "trace") if each.write and each.name == "RDT[0]"] == [63]


# ---- a traced port works as an untraced one ----


def test_every_method_of_a_device_is_passed_on() -> None:
    made_of_others = {"alloc_dma", "forget_window", "dma_refused", "enable_bus_master"}
    set_at_first = {"name", "max_vectors", "hugepages", "scattered"}
    public = {name for name in (*vars(Device), *Device.__annotations__) if not name.startswith("_")}
    assert public - made_of_others - set_at_first - set(vars(TracedDevice)) == set()
    assert not any(
        name in vars(kind) for kind in (Emulated82599, VfioDevice, UioDevice, VfioUserDevice) for name in made_of_others
    )


@pytest.mark.parametrize("queues", [1, 3])
def test_a_traced_port_makes_the_same_accesses_as_an_untraced_one(queues: int, tmp_path: Path) -> None:
    events = []
    for trace in (None, tmp_path / "trace"):
        nic = Emulated82599()
        watched = Watched(nic)
        with watched:
            with open_port(watched, tx_queues=queues, rx_queues=queues, tx_slots=64, rx_slots=64, trace=trace) as port:
                exchange(port, 50)
                assert port.stats()["GPRC"] == 50 and port.link.up
            assert nic.violations == []
        waits = {Registers.EIMS_EX.offset(k) for k in range(2)} | {
            Registers.EICR.offset()
        }  # their number depends on how often a reader slept
        events.append([event for event in watched.events if event[0] != "write" or event[1] not in waits])
    assert events[0] == events[1]


def test_without_a_trace_the_port_uses_its_device_directly(tmp_path: Path) -> None:
    with open_port("emulated") as port:
        assert type(port.device) is Emulated82599 and not port.device.doorbells_need_ringing
        assert type(port._open().tx_sync) is TxSync and type(port._open().rx_sync) is RxSync
    with open_port("emulated", trace=tmp_path / "trace") as port:
        assert type(port.device) is TracedDevice and type(port.device.inner) is Emulated82599


@pytest.mark.parametrize(
    "mode", [pytest.param(MODES[0], id="doorbells"), pytest.param(MODES[1], id="trap-all", marks=pytest.mark.slow)]
)
def test_a_nic_in_another_process_can_be_traced_from_both_sides(mode: tuple[str, ...], tmp_path: Path) -> None:
    with emulate(tmp_path / "nic.sock", *mode, "--trace", str(tmp_path / "theirs")) as emulator:
        with open_port(emulator.port, trace=tmp_path / "ours") as port:
            exchange(port)
        assert emulator.end() == (0, "")
    ours, theirs = read(tmp_path / "ours"), read(tmp_path / "theirs")
    tails = ("RDT", "TDT") if not mode else ()  # stored in shared memory, without a message

    def writes(accesses: list[Access]) -> list[tuple[str, int]]:
        return [
            (each.name, each.value)
            for each in accesses
            if each.write and not each.config and not each.name.startswith(tails or "-")
        ]

    assert writes(ours) == writes(theirs)
    assert any(each.name == "TDT[0]" for each in ours)


def test_interrupts_and_two_threads_work_on_a_traced_port(tmp_path: Path) -> None:
    with open_port("emulated", trace=tmp_path / "trace") as port:
        assert not select([port], [], [], 0)[0]
        sent = frames(port, 2000)
        sender = threading.Thread(target=lambda: [port.send([frame]) for frame in sent])
        sender.start()
        received = port.recv(30)
        assert [next(received) for _ in sent] == sent
        sender.join()
    assert [each.value for each in read(tmp_path / "trace") if each.name == "TDT[0]" and each.write][-1] == 2000 % 1024


def test_each_of_several_ports_has_its_file(tmp_path: Path) -> None:
    with open_ports("emulated:source", "emulated:sink", promiscuous=True, trace=tmp_path / "bridge.trace") as (
        left,
        right,
    ):
        moved = 0
        while moved < 1000:
            moved += left.forward(right)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bridge-1.trace", "bridge-2.trace"]
    assert {"RDT[0]"} == {each.name for each in read(tmp_path / "bridge-1.trace") if each.caller == "rings/hotloop.py"}
    assert {"RDT[0]", "TDT[0]"} == {
        each.name for each in read(tmp_path / "bridge-2.trace") if each.caller == "rings/hotloop.py"
    }


def test_a_traced_device_has_one_owner(tmp_path: Path) -> None:
    with Emulated82599() as device, open_port(device, trace=tmp_path / "trace"):
        with pytest.raises(PortBusy):
            open_port(device)


def test_a_full_disk_ends_the_trace_but_not_the_port() -> None:
    with pytest.warns(UserWarning, match="the trace of emulated:loop ends here: .*No space left"):
        with open_port("emulated", trace="/dev/full") as port:
            exchange(port)


def test_a_trace_that_cannot_be_created_leaves_nothing_open(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_port("emulated", trace=tmp_path / "none" / "trace")


# ---- examples ----


@pytest.mark.parametrize(("name", "arguments"), [
    ("pktgen", ("-i", "emulated:loop", "-f", "ping", "-n", "5")),
    ("capture", ("-i", "emulated:source", "-w", "/dev/null", "-c", "100")),
    pytest.param("line_rate", ("-t", "0.2"), marks=pytest.mark.slow),
])  # fmt: skip
def test_an_example_records_itself(name: str, arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = run_example(name, *arguments, "--trace", tmp_path / "trace")
    assert (done.returncode, done.stderr) == (0, "")
    names = [each.name for each in read(tmp_path / "trace")]
    assert "CTRL" in names and "RDT[0]" in names and names[-1] == "CONFIG+0x04"


def is_open(trace: Path) -> bool:
    return trace.exists() and "DRV_LOAD=1" in trace.read_text()


@pytest.mark.parametrize(("name", "arguments", "files"), [
    ("bridge", ("-i", "emulated:source", "-i", "emulated:sink"), ("trace-1", "trace-2")),
    ("responder", ("-i", "emulated:sink"), ("trace",)),
])  # fmt: skip
def test_an_example_without_an_end_records_itself(
    name: str, arguments: tuple[str, ...], files: tuple[str, ...], tmp_path: Path
) -> None:
    with started(command(name, *arguments, "--trace", tmp_path / "trace")) as process:
        for file in files:
            wait_for(
                partial(is_open, tmp_path / file),
                f"{name} did not open its port",
            )
        assert interrupt(process)[1] == ""
    for file in files:
        commands = [each.value for each in read(tmp_path / file) if each.name == "CONFIG+0x04" and each.write]
        assert commands[-1] == 0x2  # bus master off: the port was closed


def test_every_example_passes_its_trace_option_on() -> None:
    for file in EXAMPLES.glob("*.py"):
        text = file.read_text(encoding="utf-8")
        opened = re.search(r"(?:open_ports?|receiving_everything)\(.*?\) as ", text, re.DOTALL)
        assert opened is None or "trace=args.trace" in opened.group(0), file.name
