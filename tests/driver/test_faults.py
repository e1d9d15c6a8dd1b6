"""A NIC breaks: the driver recovers, or ends its wait in time with a sentence. Nothing is left open."""

from __future__ import annotations

import re
import signal
import sys
import threading
import time
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pytest

from ixrings import ERRORS, NothingReceived, PortTimeout, open_port
from ixrings.driver.errors import DmaRefused, PortNameError
from ixrings.hw.emulator import Emulated82599, Fault
from ixrings.hw.errors import DeviceError, DeviceGone, RegisterTimeout
from tests.support.arrivals import PATIENCE_S, came
from tests.support.driver_watch import Watched
from tests.support.programs import wait_for
from tests.support.vfio_user_peer import emulate

README = Path(__file__).resolve().parent.parent.parent / "hw/emulator/FAULTS.md"
FRAME = bytes(60)


def test_every_fault_is_in_the_table() -> None:
    rows = [line.split("`")[1] for line in README.read_text().splitlines() if line.startswith("| `")]
    assert rows == [fault.value for fault in Fault]


PROMISES = [
    (row[0].strip(" `"), re.findall(r"`([^`]+)`", row[2]))
    for row in (line.strip("| ").split(" | ") for line in README.read_text().splitlines() if line.startswith("| `"))
]

WAITED_FOR = {"link", "no-module", "head-write-back", "receive-write-back"}  # every wait ends at its timeout


@pytest.mark.filterwarnings("ignore::ixrings.NothingReceived")
@pytest.mark.breaks_rules("dma_read", "dma_write")
@pytest.mark.parametrize(
    ("fault", "sentences"),
    [each for each in PROMISES if not Fault(each[0]).of_the_pf],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_port_whose_name_has_a_fault_answers_as_the_table_promises(fault: str, sentences: list[str]) -> None:
    """The fault is there before the port opens. `…` in a promised sentence stands for any words."""
    patience = 0.3 if fault in WAITED_FOR else PATIENCE_S
    try:
        with open_port(f"emulated@fault={fault}:loop", promiscuous=True) as port:
            port.send([FRAME])
            port.flush(patience)
            frames = list(islice(port.recv(patience), 1))
            counted = port.stats()["GPRC"]
    except ERRORS as error:
        assert sentences, f"the table promises no error, but: {error}"
        for sentence in sentences:
            assert re.search(".*".join(re.escape(part.strip()) for part in sentence.split("…")), str(error)), error
    else:
        assert not sentences, f"the table promises {sentences}, but nothing was raised"
        assert (frames, counted) == ([] if fault == "receive-write-back" else [FRAME], 1)


def test_a_pulled_cable_is_reported_and_frames_wait_until_it_is_plugged_in() -> None:
    with Emulated82599() as nic, open_port(nic, promiscuous=True) as port:
        nic.inject(Fault.LINK)
        port.send([FRAME])
        with pytest.raises(PortTimeout, match="the link is down: the cable is out"):
            port.flush(0.05)
        nic.mend(Fault.LINK)
        assert port.wait_link(PATIENCE_S).up
        port.flush(PATIENCE_S)
        assert came(port, 1) == [FRAME]


@pytest.mark.parametrize(
    ("fault", "answer"), [(Fault.NO_MODULE, "there is no SFP\\+ module in the cage"), (Fault.LINK, "the cable is out")]
)
def test_a_port_without_a_link_opens_at_once_with_the_reason(fault: Fault, answer: str) -> None:
    with Emulated82599() as nic:
        nic.inject(fault)
        start = time.monotonic()
        with open_port(nic, link_timeout=30) as port:
            assert time.monotonic() - start < 20
            port.send([FRAME])
            with pytest.raises(PortTimeout, match=f"the link is down: {answer}"):
                port.flush(0.01)


def test_a_module_of_another_vendor_works() -> None:
    with Emulated82599() as nic:
        nic.inject(Fault.FOREIGN_MODULE)
        with open_port(nic, promiscuous=True) as port:
            port.send([FRAME])
            assert came(port, 1) == [FRAME]


@pytest.mark.parametrize(
    ("fault", "error", "answer"),
    [
        (
            Fault.EEPROM_CHECKSUM,
            DeviceError,
            r"EEPROM is corrupt: its words add up to 0xbab[b9], not 0xbaba \(82599 6.2\). Reflash it",
        ),
        (
            Fault.RESET,
            RegisterTimeout,
            r"CTRL \(0x00000\) read 0x04000000 after .* ms: RST is 0x1, expected 0x0 \(82599 8.2.3.1.1\)",
        ),
        (Fault.QUEUE_ENABLE, RegisterTimeout, r"RXDCTL\[0\] .* ENABLE is 0x0, expected 0x1 \(82599 4.6.7\)"),
    ],
)
def test_a_nic_that_does_not_start_is_refused_with_the_reason_and_opens_after_its_repair(
    fault: Fault, error: type[Exception], answer: str
) -> None:
    with Emulated82599() as nic:
        nic.inject(fault)
        device = Watched(nic)
        start = time.monotonic()
        with pytest.raises(error, match=answer):
            open_port(device)
        assert time.monotonic() - start < 20
        assert device.mapped == 0 and device.owner == "" and device.unmapped_while_master == []
        nic.mend(fault)
        open_port(device).close()


def test_a_missing_head_write_back_is_distinguished_from_a_slow_wire_and_sending_resumes_after_it() -> None:
    with Emulated82599() as nic, open_port(nic) as port:
        nic.inject(Fault.HEAD_WRITE_BACK)
        port.send([FRAME] * 10)
        wait_for(lambda: port.stats()["GPTC"] == 10, "the frames were not sent")
        with pytest.raises(
            PortTimeout, match=r"queue 0 has sent them \(TDH is TDT\), but its head write-back does not arrive"
        ):
            port.flush(0.2)
        with pytest.raises(PortTimeout, match="no room to send within 0.5 s: queue 0 has sent them"):
            port.send([FRAME] * 2000, timeout=0.5)
        nic.mend(Fault.HEAD_WRITE_BACK)
        port.flush(30)


def test_a_wait_for_frames_that_are_not_written_back_ends_at_its_bound_and_they_are_counted() -> None:
    with Emulated82599() as nic, open_port(nic, promiscuous=True) as port:
        nic.inject(Fault.RECEIVE_WRITE_BACK)
        port.send([FRAME] * 10)
        wait_for(lambda: port.stats()["GPRC"] == 10, "the frames did not come back")
        with pytest.warns(NothingReceived, match="10 frames were dropped: the queue had no free slot"):
            assert list(port.recv(timeout=0.1)) == []
        stats = port.stats()
        assert (stats["GPRC"], stats.rx[0]["QPRC"], stats.rx[0]["QPRDC"]) == (10, 0, 10)
        nic.mend(Fault.RECEIVE_WRITE_BACK)
        port.send([FRAME] * 10)
        assert len(came(port, 10)) == 10


def test_lost_interrupts_cost_a_second_but_no_frame() -> None:
    with Emulated82599() as nic, open_port(nic, promiscuous=True) as port:
        nic.inject(Fault.INTERRUPT)
        assert list(port.recv(timeout=0)) == []
        port.send([FRAME])
        assert next(port.recv(timeout=20)) == FRAME


@pytest.mark.breaks_rules("dma_read", "dma_write")
def test_refused_memory_is_reported_and_the_port_closes() -> None:
    with Emulated82599() as nic, open_port(nic) as port:
        nic.inject(Fault.DMA)
        with pytest.raises(DmaRefused, match="was refused a DMA access"):
            port.send([FRAME])
            port.flush(30)


@pytest.mark.parametrize("at", [1, 100, 1000, 2500])
def test_a_nic_removed_at_some_access_is_reported_as_gone(at: int) -> None:
    with pytest.raises(DeviceGone, match="no longer answers"):
        with Emulated82599() as nic:
            nic.inject(Fault.REMOVAL, at)
            with open_port(nic, link_timeout=0) as port:
                for _ in range(1000):
                    port.stats()


def test_a_port_name_may_contain_a_fault() -> None:
    with pytest.raises(RegisterTimeout, match="RST is 0x1"):
        open_port("emulated@fault=reset")
    with pytest.raises(PortNameError, match="'emulated@fault=rest': 'rest' is not a fault. Write link, no-module"):
        open_port("emulated@fault=rest")
    with pytest.raises(PortNameError, match="'reset\\+' is not a fault"):
        open_port("emulated@fault=reset+")


@pytest.mark.slow
def test_a_served_nic_may_have_faults(tmp_path: Path) -> None:
    with emulate(tmp_path / "nic.sock", "--fault", "queue-enable", "--fault", "removal+100000") as emulator:
        with pytest.raises(RegisterTimeout, match="ENABLE is 0x0"):
            open_port(f"vfio-user:{emulator.path}")
        emulator.end()


@pytest.mark.slow
def test_sigusr2_repairs_the_faults_of_a_served_nic(tmp_path: Path) -> None:
    faults = [word for fault in ("head-write-back", "receive-write-back") for word in ("--fault", fault)]
    with emulate(tmp_path / "nic.sock", *faults) as emulator, open_port(emulator.port, promiscuous=True) as port:
        port.send([FRAME])
        with pytest.raises(PortTimeout):
            port.flush(0.1)
        emulator.process.send_signal(signal.SIGUSR2)
        port.flush(30)
        port.send([FRAME])
        assert next(port.recv(timeout=30)) == FRAME


@pytest.mark.slow
def test_sigusr1_plugs_in_a_cable_that_was_out_from_the_start(tmp_path: Path) -> None:
    with (
        emulate(tmp_path / "nic.sock", "--fault", "link") as emulator,
        open_port(emulator.port, link_timeout=0) as port,
    ):
        assert not port.link.up
        emulator.process.send_signal(signal.SIGUSR1)
        assert port.wait_link(30).up


@pytest.mark.filterwarnings("ignore::ixrings.NothingReceived")
@pytest.mark.slow
@pytest.mark.parametrize("fault", [fault for fault in Fault if not fault.of_the_pf])
def test_the_command_line_accepts_every_fault_by_name(fault: Fault, tmp_path: Path) -> None:
    """The tests above check the driver's answers. This one checks that each fault has an effect."""
    with emulate(tmp_path / "nic.sock", "--fault", fault.value) as emulator:
        harmless = fault in (Fault.FOREIGN_MODULE, Fault.INTERRUPT)
        patience = PATIENCE_S if harmless else 0.2
        with suppress(DeviceError), open_port(emulator.port, promiscuous=True, link_timeout=0) as port:
            try:
                port.send([FRAME])
                port.flush(patience)
                frames = list(islice(port.recv(patience), 1))
            except (PortTimeout, DeviceError, DmaRefused):
                frames = []
            assert (frames == [FRAME]) == harmless
            return
        assert fault in (Fault.EEPROM_CHECKSUM, Fault.RESET, Fault.QUEUE_ENABLE, Fault.REMOVAL)


def test_a_fault_that_is_injected_twice_has_the_same_effect_as_once() -> None:
    with Emulated82599("sink") as nic:
        for _ in range(2):
            nic.inject(Fault.EEPROM_CHECKSUM)
        with pytest.raises(DeviceError, match="EEPROM is corrupt"):
            open_port(nic)
        nic.mend(Fault.EEPROM_CHECKSUM)
        open_port(nic).close()


def test_faults_take_effect_once_and_harm_no_access_while_several_threads_use_the_nic() -> None:
    nic, done, errors = Emulated82599("sink"), threading.Event(), []

    def use() -> None:
        try:
            while not done.is_set():
                nic.read32(0x8)
        except Exception as error:  # the test looks for any exception of an access
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=use) for _ in range(3)]
    try:
        for thread in threads:
            thread.start()
        for _ in range(100):
            for fault in (Fault.INTERRUPT, Fault.LINK):
                nic.inject(fault, at=10)
            wait_for(
                lambda: {Fault.INTERRUPT, Fault.LINK} <= {fault for fault in Fault if fault in nic.injected},
                "a fault was lost",
            )
            nic.mend(Fault.LINK)
            nic.mend(Fault.INTERRUPT)
    finally:
        sys.setswitchinterval(interval)
        done.set()
        for thread in threads:
            thread.join()
        nic.close()
    assert errors == []
