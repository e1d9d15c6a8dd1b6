"""Linux's ixgbe in VT mode, without VFs: a macvlan with l2-fwd-offload has a pool of its own (VMDq).

Linux cannot create VFs in a guest, because QEMU hides the SR-IOV capability. This way it programs the same registers,
so they can be compared with those of the emulator's agent for VFs.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ixrings.hw.emulator import Emulated82599, PfAgent
from ixrings.hw.fields import CTRL, CTRL_EXT, RXCTRL
from ixrings.hw.register import AccessorArray
from ixrings.hw.registers import Registers
from ixrings.hw.trace.file import TraceFile
from tests.qemu.lab.host_end import HOST, warnings
from tests.qemu.lab.linux_vfs import QUIET
from tests.qemu.lab.linux_world import World, linux_world
from tests.qemu.lab.prepared import Lab
from tests.qemu.lab.served import LINUX_DOES

pytestmark = pytest.mark.qemu

START = f"""
{QUIET} modprobe macvlan; ip netns add mv; ethtool -K eth0 l2-fwd-offload on
ip link add link eth0 name mv0 type macvlan mode bridge; ip link set mv0 netns mv
ip -n mv address add 10.9.0.3/24 dev mv0; ip -n mv link set mv0 up
"""
POOL = 1  # of the macvlan; Linux itself has pool 0
PINGS = 20
# Registers that Linux and the agent leave with the same value
SAME = (
    "GCR_EXT",
    "MRQC",
    "MTQC",
    "RTTDCS",
    "PFDTXGSWC",
    "VLNCTRL",
    "RETA",
    "VFTA",
    "PFVLVF",
    "PFUTA",
    "HLREG0",
    "RDRXCTL",
    "DMATXCTL",
)
BEFORE_RECEPTION = ("GCR_EXT", "PFVTCTL", "MRQC", "MTQC", "PFVFRE", "PFVFTE", "PFDTXGSWC")


@pytest.fixture(scope="module")
def world(lab: Lab, module_folder: Path) -> Iterator[World]:
    with linux_world(lab, module_folder, iommu=False) as world:  # it maps thousands of buffers for 32 queues
        world.guest.run(START)
        world.port.wait_for_carrier(True)
        yield world


def test_a_macvlan_sends_and_receives_by_its_pool(world: World) -> None:
    regs = Registers(world.served.nic)

    def counters() -> tuple[int, int, int, int]:
        shown = world.guest.run("ip netns exec mv cat /sys/class/net/mv0/statistics/{rx,tx}_packets").output.split()
        return int(shown[0]), int(shown[1]), regs.PVFGPRC[POOL].read(), regs.PVFGPTC[POOL].read()

    before = counters()
    answer = world.guest.run(f"ip netns exec mv ping -q -c {PINGS} -i 0.05 {HOST}", timeout_s=60).output
    assert ", 0% packet loss" in answer, answer
    rx, tx, received, sent = (now - then for now, then in zip(counters(), before))
    assert rx == received > PINGS and sent == tx > PINGS
    world.ping("-c 5", "-i 0.1")


def test_the_agent_for_vfs_writes_what_linux_writes(world: World) -> None:
    linux = Registers(world.served.nic)
    with Emulated82599("sink", vfs=2) as nic, PfAgent(nic, serve=False):
        ours, pool = Registers(nic), 2
        for name in SAME:
            theirs, mine = getattr(linux, name), getattr(ours, name)
            pairs = zip(theirs, mine) if isinstance(theirs, AccessorArray) else [(theirs, mine)]
            assert all(each.read() == other.read() for each, other in pairs), name
        assert linux.GPIE.read().VT_MODE == ours.GPIE.read().VT_MODE
        # the PF has pool 0 there, and the pool after the VFs' here
        assert ours.PFVTCTL.read() == linux.PFVTCTL.read() | pool << 7
        for enables in ("PFVFRE", "PFVFTE"):
            words = [[register.read() for register in getattr(regs, enables)] for regs in (linux, ours)]
            assert words == [[0xFFFFFFFF, 0xFFFFFFFF], [0xFFFFFFFF & ~3, 0xFFFFFFFF]]
        assert ours.PFVML2FLT[pool].read() == linux.PFVML2FLT[0].read()
        assert (linux.MPSAR[0].read(), ours.MPSAR[0].read()) == (1, 1 << pool)
        assert linux.PFVLVFB[0].read() & 1 and ours.PFVLVFB[0].read() & 1 << pool


def test_linux_enters_vt_mode_before_it_receives_and_ends_the_reset_last(world: World) -> None:
    assert world.served.trace
    first: dict[str, int] = {}  # the place of a register's first write after the last reset
    for number, access in enumerate(TraceFile(world.served.folder / "nic.trace")):
        if not access.write or access.place is None:
            continue
        name = access.place.row.name
        if name == "CTRL" and CTRL(access.value).RST:
            first.clear()
        if name == "RXCTRL" and not RXCTRL(access.value).RXEN:
            continue
        first.setdefault("PFRSTD" if name == "CTRL_EXT" and CTRL_EXT(access.value).PFRSTD else name, number)
    assert [name for name in BEFORE_RECEPTION if first[name] > first["RXCTRL"]] == []
    assert first["RXCTRL"] < first["GPIE"] < first["PFRSTD"]


def test_linux_breaks_known_rules_only_and_does_not_warn(world: World) -> None:
    assert {violation.rule.name for violation in world.served.nic.violations} <= LINUX_DOES
    assert warnings(world.guest) == []
