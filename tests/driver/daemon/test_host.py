"""The host's side of a NIC: Linux uses the NIC through a TAP while no program has it, and beside programs."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ixrings.driver.daemon.abi import Flag, Mode
from tests.support.namespaces import Namespace, namespace, unique, why_not
from tests.support.netmap_client import RX, NetmapClient, RunningDaemon, daemon, errno_of, times
from tests.support.programs import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.skipif(bool(why_not()), reason=why_not())]


class Lan:
    """A daemon in the namespace `here`, whose NIC `nic` leads to the interface `wire` of the namespace `there`."""

    def __init__(self, running: RunningDaemon, here: Namespace, there: Namespace, nic: str) -> None:
        self.running, self.here, self.there, self.nic = running, here, there, nic

    def ping(self, count: int = 3) -> bool:
        command = ["ping", "-q", "-i", "0.05", "-W", "2", "-c", str(count), "10.9.8.2"]
        return subprocess.run(["ip", "netns", "exec", self.here.name, *command], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def lan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lan]:
    nic, wire = unique("n"), unique("w")
    with contextlib.ExitStack() as undo:
        here, there = undo.enter_context(namespace("here")), undo.enter_context(namespace("there"))
        folder = tmp_path_factory.mktemp("daemon")
        inside = ("ip", "netns", "exec", here.name)
        running = undo.enter_context(
            daemon(folder, f"{nic}=emulated:tap={wire}", "--slots", "128", host=True, inside=inside)
        )
        ip = ["ip", "netns", "exec", here.name, "ip"]
        subprocess.run([*ip, "link", "set", wire, "netns", there.name], check=True)
        subprocess.run([*ip, "addr", "add", "10.9.8.1/24", "dev", nic], check=True)
        subprocess.run([*ip, "link", "set", nic, "up"], check=True)
        ip = ["ip", "netns", "exec", there.name, "ip"]
        subprocess.run([*ip, "addr", "add", "10.9.8.2/24", "dev", wire], check=True)
        subprocess.run([*ip, "link", "set", wire, "up"], check=True)
        yield Lan(running, here, there, nic)
        running.end()


def bridge(lan: Lan, nic: NetmapClient, host: NetmapClient) -> None:
    """Carry frames between the NIC and the host, as netmap's bridge does, until a ping has come back."""
    command = ["ip", "netns", "exec", lan.here.name, "ping", "-q", "-i", "0.05", "-W", "5", "-c", "3", "10.9.8.2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as ping:
        while ping.poll() is None:
            for source, target in ((nic, host), (host, nic)):
                source.poll(RX, 0.01)
                frames = source.receive()
                if frames:
                    target.send(frames)
        assert ping.returncode == 0


def test_linux_uses_the_nic_before_beside_and_after_a_program(lan: Lan) -> None:
    wait_for(lan.ping, "no ping comes back", 20)
    with lan.running.client() as nic:
        nic.register(lan.nic)
        assert not lan.ping(1)  # the program has the NIC, and passes nothing on
        with lan.running.client() as host:
            body = host.register(lan.nic, Mode.SW)
            assert (body.nr_host_tx_rings, body.nr_host_rx_rings) == (1, 1)
            bridge(lan, nic, host)
        assert not lan.ping(1)
    wait_for(lan.ping, "no ping comes back after the program", 20)
    lan.running.wait_until_nobody_has_buffers()


def test_host_rings_are_counted_and_numbered_as_netmaps(lan: Lan) -> None:
    with lan.running.client() as client:
        body = client.register(lan.nic, Mode.ONE_SW, ringid=1, nr_host_tx_rings=2, nr_host_rx_rings=2)
        assert (body.nr_host_tx_rings, body.nr_host_rx_rings) == (2, 2)
        with lan.running.client() as other:
            assert other.register(lan.nic, Mode.ONE_SW, ringid=0).nr_host_tx_rings == 2
    wait_for(lambda: not lan.running.status()["handles"], "handles are still there")
    with lan.running.client() as client:
        assert client.register(lan.nic, Mode.NIC_SW, flags=Flag.EXCLUSIVE).nr_host_tx_rings == 1
        with lan.running.client() as other:
            assert errno_of(other.register, lan.nic, Mode.SW) == "EBUSY"
            assert errno_of(other.register, lan.nic, Mode.ONE_SW, ringid=1) == "EINVAL"


def test_an_interface_that_is_up_and_idle_costs_nothing(lan: Lan) -> None:
    before = times(lan.running)
    with lan.running.client() as client:
        client.register(f"{lan.nic}{{1")
        client.poll(RX, 1.0)
    assert times(lan.running) - before < 0.3


def test_a_deleted_interface_is_told_and_programs_go_on(tmp_path: Path) -> None:
    name = unique("d")
    with daemon(tmp_path, f"{name}=emulated", host=True) as running:
        with running.client() as client:
            client.register(name)
            subprocess.run(["ip", "link", "del", name], check=True)
            frame = b"\xff" * 6 + bytes(54)
            client.send([frame])
            assert client.receive_until(1) == [frame]
            before = times(running)
            client.poll(RX, 1.0)
            assert times(running) - before < 0.3
        assert f"the interface {name} was deleted" in running.end()


def test_without_a_tap_there_are_no_host_rings(tmp_path: Path) -> None:
    with daemon(tmp_path, "ix0=emulated") as running, running.client() as client:
        assert errno_of(client.register, "ix0", Mode.SW) == "EINVAL"
