"""A daemon that serves virtual functions: a PF that is reset while programs use them."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ixrings import PortError, open_port
from ixrings.driver.config import PortOptions
from ixrings.driver.daemon import abi
from ixrings.driver.daemon.abi import Request
from ixrings.driver.daemon.daemon import Daemon, Settings
from ixrings.driver.daemon.place import Place
from ixrings.driver.daemon.policy import Policy
from ixrings.driver.daemon.server import Server
from ixrings.hw.emulator import Emulated82599, PfAgent
from tests.support.netmap_client import RX, NetmapClient, call_of, daemon
from tests.support.programs import ENVIRONMENT, wait_for

OPTIONS: PortOptions = {"tx_slots": 64, "rx_slots": 64, "link_timeout": 20.0}


@dataclass
class Served:
    """A daemon in this process whose ix0 and ix1 are the two virtual functions of one NIC."""

    path: str
    daemon: Daemon
    agent: PfAgent

    def client(self) -> NetmapClient:
        return NetmapClient(self.path)

    def mac(self, name: str) -> bytes:
        return bytes.fromhex(self.daemon.nics[name].port.mac.replace(":", ""))

    def recoveries(self, name: str) -> int:
        return self.daemon.nics[name].session.vf.recoveries

    def until_recovered(self, before: int) -> None:
        for name in ("ix0", "ix1"):
            wait_for(lambda name=name: self.recoveries(name) > before, f"{name} has not been set up again")  # type: ignore[misc]

    def frame(self, to: str, number: int) -> bytes:
        return self.mac(to) + self.mac("ix1" if to == "ix0" else "ix0") + b"\x88\xb5" + number.to_bytes(46, "big")


@contextmanager
def served(folder: Path, *isolated: str, mtu: int = 1500, vlans: frozenset[int] | None = None) -> Iterator[Served]:
    with ExitStack() as stack:
        nic = stack.enter_context(Emulated82599("sink", vfs=2))
        agent = stack.enter_context(PfAgent(nic, "linux", max_frame=mtu + 18))
        for number in range(2):  # an address of the host's is kept over resets
            agent.set_vf(number, mac=bytes([2, 0, 0, 0, 0, 0x10 + number]))
        place = stack.enter_context(Place(str(folder / "netmap.sock"), Policy()))
        settings = Settings(
            {"ix0": nic.vf(0), "ix1": nic.vf(1)},
            {**OPTIONS, "mtu": mtu, "buf_size": 9216 if mtu > 1500 else None},
            memory_mb=32,
            host=False,
            isolated=frozenset(isolated),
            vlans=vlans,
        )
        serves = stack.enter_context(Daemon(settings))
        server = Server(place.listener, serves.admit, serves.log, serves.check, 100, serves.policy.most)
        thread = threading.Thread(target=server.serve)
        thread.start()
        stack.callback(server.close)
        stack.callback(thread.join)
        stack.callback(server.stop)
        yield Served(place.path, serves, agent)
        assert not nic.violations, nic.violations


def exchange(world: Served, one: NetmapClient, two: NetmapClient, count: int = 200) -> None:
    """Frames each way, by the NIC's switch; each byte arrives, in order. A ring holds two bursts."""
    for sender, to, receiver in ((one, "ix1", two), (two, "ix0", one)):
        frames, received = [world.frame(to, number) for number in range(count)], list[bytes]()
        sent = 0
        while len(received) < count:
            sent += sender.send(frames[sent : sent + 24])
            received += receiver.receive_until(min(sent, count) - len(received)) if sent > len(received) else []
        assert received == frames


def test_programs_exchange_frames_between_two_virtual_functions(tmp_path: Path) -> None:
    with served(tmp_path) as world, world.client() as one, world.client() as two:
        one.register("ix0")
        two.register("ix1")
        exchange(world, one, two)


@pytest.mark.slow
@pytest.mark.parametrize("isolated", [(), ("ix1",)])
def test_programs_go_on_after_a_reset_of_the_pf(tmp_path: Path, isolated: tuple[str, ...]) -> None:
    with served(tmp_path, *isolated) as world, world.client() as one, world.client() as two:
        one.register("ix0")
        two.register("ix1")
        exchange(world, one, two, 10)
        for turn in range(3):
            world.agent.reset()
            world.until_recovered(turn)
            one.receive()
            two.receive()
            exchange(world, one, two, 100)


@pytest.mark.slow
def test_a_reset_in_traffic_loses_no_buffer_and_uses_none_twice(tmp_path: Path) -> None:
    with served(tmp_path) as world:
        buffers = world.daemon.pool.counts()
        with world.client() as one, world.client() as two:
            one.register("ix0")
            two.register("ix1")
            for turn in range(8):
                sent = 0
                while world.recoveries("ix0") <= turn or world.recoveries("ix1") <= turn:
                    sent += one.send([world.frame("ix1", number) for number in range(32)])
                    two.receive()
                    if sent > 64 and world.recoveries("ix0") == turn:
                        world.agent.reset()
                        sent = -(1 << 30)
                rings = [ring for client in (one, two) for ring in (*client.rings.tx_rings, *client.rings.rx_rings)]
                indices = np.concatenate([ring.slots["buf_idx"] for ring in rings])
                assert len(np.unique(indices)) == len(indices)
        wait_for(lambda: world.daemon.pool.counts() == buffers, "buffers are not back")


HOSTILE = """
import sys
from tests.support.netmap_client import NetmapClient
with NetmapClient(sys.argv[1]) as client:
    client.register("ix0")
    client.rings.rx_rings[0].slots["buf_idx"][:] = [int(word) for word in input().split()]
    print("done", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_a_reset_gives_the_nic_no_buffer_of_another_program(tmp_path: Path) -> None:
    """A hostile program writes another one's buffers into its own ring, and waits for a reset."""
    with served(tmp_path) as world, world.client() as victim:
        victim.register("ix1")
        theirs = np.array(victim.rings.rx_rings[0].slots["buf_idx"])
        victim.rings.buffers[theirs] = 0xA5
        with subprocess.Popen(
            [sys.executable, "-c", HOSTILE, world.path],
            env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as hostile:  # fmt: skip
            assert hostile.stdin and hostile.stdout
            print(*theirs, file=hostile.stdin, flush=True)
            assert hostile.stdout.readline() == "done\n"
            world.agent.reset()
            world.until_recovered(0)
            victim.receive()
            assert victim.send([world.frame("ix0", number) for number in range(60)]) == 60
            received = world.daemon.nics["ix0"].port.vf.nic.VFGPRC
            wait_for(lambda: received.read() >= 60, "the frames have not arrived")
            assert (victim.rings.buffers[theirs] == 0xA5).all()
            hostile.stdin.close()


@pytest.mark.slow
def test_a_program_that_comes_while_the_pf_is_down_gets_frames_when_it_is_up(tmp_path: Path) -> None:
    with served(tmp_path) as world:
        world.agent.down()
        with world.client() as one, world.client() as two:
            one.register("ix0")
            two.register("ix1")
            assert two.poll(RX, 0.1) == 0
            world.agent.up()
            world.until_recovered(0)
            exchange(world, one, two, 50)
        world.agent.down()
        with world.client() as gone:  # opens and closes while the PF is down
            gone.register("ix0")
        world.agent.up()
        world.until_recovered(1)
        with world.client() as one, world.client() as two:
            one.register("ix0")
            two.register("ix1")
            exchange(world, one, two, 50)


@pytest.mark.slow
def test_a_virtual_function_cannot_be_attached_to_a_switch(tmp_path: Path) -> None:
    with served(tmp_path) as world, world.client() as client:
        with pytest.raises(OSError) as refused:
            client.ctrl(call_of(Request.VALE_ATTACH, "vale0:ix0", abi.ValeAttach(reg=abi.Register(nr_mode=1))))
        assert refused.value.errno == errno.EOPNOTSUPP


@pytest.mark.slow
def test_a_monitor_sees_the_frames_after_a_reset_of_the_pf(tmp_path: Path) -> None:
    with served(tmp_path) as world, world.client() as one, world.client() as two, world.client() as watching:
        one.register("ix0")
        two.register("ix1")
        watching.register("ix1", flags=abi.Flag.MONITOR_RX)
        for turn in range(3):
            frames = [world.frame("ix1", number) for number in range(20)]
            one.send(frames)
            assert two.receive_until(20) == frames
            assert watching.receive_until(20) == frames
            world.agent.reset()
            world.until_recovered(turn)
            for client in (one, two, watching):
                client.receive()


def test_the_command_serves_a_virtual_function_and_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with daemon(tmp_path, "ix0=emulated-vf") as running:
        monkeypatch.setenv("IXRINGS_SOCKET", running.path)
        (shown,) = running.status()["ports"]
        assert shown["link"].startswith("up") and shown["device"] == "emulated-vf"
        with open_port("netmap:ix0") as port:
            assert port.link.up and not port.promiscuous
            with pytest.raises(PortError, match="the 82599 cannot make one promiscuous"):
                port.promiscuous = True
            port.mac = "02:00:00:00:00:77"
            assert port.mac == "02:00:00:00:00:77"
        running.end()


@pytest.mark.slow
def test_long_frames_pass_if_the_pf_has_them_and_after_its_reset(tmp_path: Path) -> None:
    with served(tmp_path, mtu=9000) as world, world.client() as one, world.client() as two:
        one.register("ix0")
        two.register("ix1")
        frames = [world.frame("ix1", number) + bytes([number]) * 8954 for number in range(20)]
        for turn in range(2):
            one.send(frames)
            assert two.receive_until(20) == frames
            world.agent.reset()
            world.until_recovered(turn)
            for client in (one, two):
                client.receive()


def in_vlan(frame: bytes, vlan: int) -> bytes:
    return frame[:12] + b"\x81\x00" + vlan.to_bytes(2, "big") + frame[12:]


@pytest.mark.slow
def test_vlans_of_the_command_line_pass_and_others_do_not_also_after_a_reset_of_the_pf(tmp_path: Path) -> None:
    with served(tmp_path, vlans=frozenset({5, 7})) as world, world.client() as one, world.client() as two:
        one.register("ix0")
        two.register("ix1")
        wanted = [in_vlan(world.frame("ix1", 5), 5), in_vlan(world.frame("ix1", 7), 7), world.frame("ix1", 0)]
        for turn in range(2):
            one.send([in_vlan(world.frame("ix1", 6), 6), *wanted])
            assert two.receive_until(3) == wanted
            world.agent.reset()
            world.until_recovered(turn)
            for client in (one, two):
                client.receive()
