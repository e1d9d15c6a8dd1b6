"""The rate of one transmit queue, set by DPDK's testpmd and by Linux's ixgbe, on the software 82599: what the registers
keep, and the bytes of that queue on the wire."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ixrings.hw.emulator import Emulated82599
from ixrings.hw.emulator.departures import Departures
from tests.qemu.lab.guest import Guest
from tests.qemu.lab.prepared import Lab
from tests.qemu.lab.served import LINUX_DOES, ServedNic
from tests.qemu.test_dpdk import ASK, DEVICE, DPDK_DOES, PREPARE
from tests.support.programs import wait_for

pytestmark = pytest.mark.qemu

RS_ENA, ONE = 1 << 31, 1 << 14  # RTTBCNRC: on; a factor of one
LINK_MBPS = 10_000
SLOW_MBPS = 20
FRAMES_AT_A_RATE = 300
START = f"""
cd /tmp; mkfifo commands
setsid stdbuf -oL dpdk-testpmd -l 0,1 -a {DEVICE} -- -i --total-num-mbufs=4096 --nb-cores=1 \\
    --rxq=2 --txq=2 --forward-mode=txonly --txpkts=1000 < commands > log 2>&1 &
setsid sleep 1000 > commands &
for i in $(seq 400); do grep -q 'testpmd>' log && exit; sleep 0.1; done; cat log; exit 1
"""
TX_MAXRATE_DOES = {"rate_makes_up_for_delays"}  # it does not write RTTBCNRM; hw/emulator/README.md has the table
SEND = "import socket; s = socket.socket(17, 3); s.bind(('eth0', 0)); [s.send(bytes(1000)) for _ in range({count})]"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[ServedNic]:
    with ServedNic(tmp_path / "nic", "sink", paced=True) as served:
        yield served


@pytest.fixture
def guest(lab: Lab, tmp_path: Path, served: ServedNic) -> Iterator[Guest]:
    with Guest(lab, tmp_path, nics=[served.socket]) as guest:
        yield guest


def rates(nic: Emulated82599) -> list[int]:
    """RTTBCNRC of queues 0 to 3, read beside the registers: the guest may use RTTDQSEL now."""
    with nic._engine.frozen():
        return [nic._engine.call("nic_rate", queue) for queue in range(4)]


def of_queue(record: Departures, queue: int) -> npt.NDArray[np.void]:
    frames = record.frames()
    found: npt.NDArray[np.void] = frames[frames["queue"] == queue]
    return found


def mbps(frames: npt.NDArray[np.void]) -> float:
    """Bytes with CRC in the time from the first frame to the last, by the NIC's clock."""
    span = int(frames["position"][-1]) - int(frames["position"][0])
    return float(int(frames["bytes"][:-1].sum()) / span * LINK_MBPS)


def test_testpmd_limits_one_queue_and_not_the_other(guest: Guest, served: ServedNic) -> None:
    nic = served.nic
    guest.run(PREPARE)
    guest.run(START)
    guest.run(ASK.format(command="set port 0 queue 1 rate 500"))
    assert rates(nic) == [0, RS_ENA | 20 * ONE, 0, 0]
    guest.run(ASK.format(command=f"set port 0 queue 1 rate {SLOW_MBPS}"))
    assert rates(nic) == [0, RS_ENA | LINK_MBPS // SLOW_MBPS * ONE, 0, 0]
    record = nic.record_departures(1 << 17)
    guest.run(ASK.format(command="start"))
    wait_for(lambda: len(of_queue(record, 1)) > FRAMES_AT_A_RATE or record.lost, "queue 1 does not send", 120)
    record.end()
    guest.run(ASK.format(command="stop"))
    limited, free = of_queue(record, 1), of_queue(record, 0)
    assert set(limited["bytes"]) == {1004} and len(limited) > 20
    assert mbps(limited) < SLOW_MBPS * 1.1, "the queue keeps its rate on the wire"
    assert mbps(free) > 2 * mbps(limited), "the other queue has no rate"
    assert {violation.rule.name for violation in nic.violations} <= DPDK_DOES


def test_linux_s_tx_maxrate_limits_one_queue_and_its_0_does_not_end_the_limit(guest: Guest, served: ServedNic) -> None:
    nic = served.nic
    guest.run("modprobe ixgbe; ip link set eth0 up")
    wait_for(lambda: "LOWER_UP" in guest.run("ip link show eth0").output, "eth0 has no carrier", 120)
    guest.run("echo 500 > /sys/class/net/eth0/queues/tx-1/tx_maxrate")
    assert rates(nic) == [0, RS_ENA | 20 * ONE, 0, 0]
    guest.run(f"for q in 0 1; do echo {SLOW_MBPS} > /sys/class/net/eth0/queues/tx-$q/tx_maxrate; done")
    limit = RS_ENA | LINK_MBPS // SLOW_MBPS * ONE
    assert rates(nic) == [limit, limit, 0, 0]
    record = nic.record_departures()
    guest.run(f'python3 -c "{SEND.format(count=4 * FRAMES_AT_A_RATE)}"')
    wait_for(lambda: record.count > FRAMES_AT_A_RATE, "Linux's frames do not leave", 120)
    record.end()
    busy = max((of_queue(record, queue) for queue in range(2)), key=len)
    assert mbps(busy[busy["bytes"] > 1000]) < SLOW_MBPS * 1.1
    guest.run("echo 0 > /sys/class/net/eth0/queues/tx-1/tx_maxrate")
    assert rates(nic)[1] == limit
    assert {violation.rule.name for violation in nic.violations} <= LINUX_DOES | TX_MAXRATE_DOES
