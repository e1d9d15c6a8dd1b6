"""When nothing comes, the port says where the frames went: recv() warns, stats() and `ixrings stats` name reasons."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ixrings import NothingReceived, open_port
from ixrings.driver.cli.stats import hardware_counts
from ixrings.driver.statistics import losses, port_counters
from tests.support.programs import ENVIRONMENT, wait_for

OTHER = bytes.fromhex("02000000ffff") + bytes(54)
BROADCAST = b"\xff" * 60
FIRST_EXPERIMENT = """
from ixrings import open_port

with open_port("emulated:loop") as port:
    port.send([bytes(60)])
    for frame in port.recv(timeout=0.5):
        print(frame)
"""


@pytest.mark.slow
def test_the_first_experiment_of_a_newcomer_is_answered(tmp_path: Path) -> None:
    program = tmp_path / "first.py"
    program.write_text(FIRST_EXPERIMENT)
    done = subprocess.run([sys.executable, program], env=ENVIRONMENT, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith(
        f"{program}:6: NothingReceived: emulated:loop received nothing: 1 frame was refused by the filters: for "
        "another MAC address, group or VLAN (TPR counts them, GPRC does not). Receive everything with "
        "port.promiscuous = True\n"
    ), done.stderr


def test_the_warning_comes_once_and_only_if_the_port_has_sent_and_received_nothing(
    recwarn: pytest.WarningsRecorder,
) -> None:
    with open_port("emulated:loop") as port:
        assert list(port.recv(0.01)) == []
        port._owned().hint_due_at = 0.0  # it looks once a second; here it looks each time
        assert not recwarn
        port.send([OTHER] * 3)
        wait_for(lambda: port.stats().refused == 3, "the frames did not come back", 20)
        for _ in range(3):
            assert list(port.recv(0.01)) == []
        assert "received nothing: 3 frames were refused by the filters" in str(recwarn.pop().message)
    with open_port("emulated:loop") as port:
        port.send([BROADCAST, OTHER])
        assert next(port.recv(30)) == BROADCAST
        assert list(port.recv(0.01)) == list(port.recv(0)) == []
        assert not recwarn
    with (
        open_port("emulated:cable=quiet") as listener,
        open_port("emulated:cable=quiet") as far,
    ):
        listener.wait_link(30)
        far.send([OTHER])
        wait_for(lambda: listener.stats().refused == 1, "the frame did not arrive", 20)
        assert list(listener.recv(0.01)) == [] and not recwarn  # every network has frames for others


def test_statistics_name_each_reason() -> None:
    counts = dict.fromkeys(port_counters(), 0)
    assert losses(counts, 0) == ()
    reasons = losses({**counts, "TPR": 20, "GPRC": 10, "CRCERRS": 2, "ROC": 1, "LXOFFRXCNT": 4, "MPC": 5}, 6)
    assert [reason.split("(")[0].strip() for reason in reasons] == [
        "3 frames were refused by the filters: for another MAC address, group or VLAN",
        "3 frames were damaged or of a wrong length",
        "5 frames were lost because the packet buffer was full",
        "6 frames were dropped: the queue had no free slot, or has no ring in this port",
    ]
    assert "(CRCERRS=2 ROC=1)" in reasons[1]


def test_a_queue_without_a_ring_and_a_wrong_vlan_are_reported() -> None:
    with open_port("emulated-1:loop", tx_queues=2, rx_queues=2) as port:
        port.send([BROADCAST])
        wait_for(lambda: port.stats().rx[1]["QPRDC"] or port.stats().rx[0]["QPRDC"], "the frame did not come back", 20)
        with pytest.warns(NothingReceived, match="1 frame was dropped: the queue .* has no ring in this port"):
            assert list(port.recv(0.05)) == []
    with open_port("emulated:loop", promiscuous=True) as port:
        port.vlan.filter = {7}
        port.send([BROADCAST[:12] + b"\x81\x00\x00\x09" + bytes(44)])
        wait_for(lambda: port.stats().refused == 1, "the frame did not come back", 20)
        with pytest.warns(NothingReceived, match="group or VLAN"):
            assert list(port.recv(0.05)) == []


def test_the_counts_of_the_command_stats_name_the_same_reasons() -> None:
    with open_port("emulated:loop") as port:
        port.send([OTHER] * 2)
        port.flush()
        counts = dict.fromkeys(port_counters(), 0)

        def all_came() -> bool:
            for name, count in hardware_counts(port.nic).items():  # reading clears
                counts[name] = counts.get(name, 0) + count
            return counts["TPR"] == 2

        wait_for(all_came, "the frames did not come back", 20)
        assert [reason.split(":")[0] for reason in losses(counts, 0)] == ["2 frames were refused by the filters"]
