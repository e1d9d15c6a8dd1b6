"""The host's side of a NIC: Linux uses the NIC through a TAP while no program has it, and beside programs."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ixrings.driver.daemon.abi import Flag, Mode, Register, Request, ValeAttach, ValeDetach
from tests.support.namespaces import Namespace, namespace, unique, why_not
from tests.support.netmap_client import ERROR, RX, NetmapClient, RunningDaemon, call_of, daemon, errno_of, times
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
    with lan_of("emulated", tmp_path_factory.mktemp("daemon")) as made:
        yield made


@contextlib.contextmanager
def lan_of(port: str, folder: Path) -> Iterator[Lan]:
    nic, wire = unique("n"), unique("w")
    with contextlib.ExitStack() as undo:
        here, there = undo.enter_context(namespace(f"here{port}")), undo.enter_context(namespace(f"there{port}"))
        inside = ("ip", "netns", "exec", here.name)
        arguments = (f"{nic}={port}:tap={wire}", "--slots", "128", "--vlan", "5,7")
        running = undo.enter_context(daemon(folder, *arguments, host=True, inside=inside))
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


def test_linux_uses_a_virtual_function_before_beside_and_after_a_program(tmp_path: Path) -> None:
    with lan_of("emulated-vf", tmp_path) as lan:
        test_linux_uses_the_nic_before_beside_and_after_a_program(lan)


def test_linux_and_a_program_exchange_frames_at_offsets(lan: Lan) -> None:
    with lan.running.client() as nic, lan.running.client() as host:
        nic.register(lan.nic, offset=64)
        host.register(lan.nic, Mode.SW, offset=200)
        assert (nic.offset_mask, host.offset_mask) == (0xFFFF, 0xFFFF)
        bridge(lan, nic, host)
    lan.running.wait_until_nobody_has_buffers()


def test_linux_uses_the_nic_through_a_switch_that_has_both(lan: Lan) -> None:
    """As `vale-ctl -h`: the NIC and the host's side are two ports of the switch."""
    wait_for(lan.ping, "no ping comes back", 20)
    with lan.running.client() as control, lan.running.client() as program:
        attached = Register(nr_mode=Mode.NIC_SW)
        control.ctrl(call_of(Request.VALE_ATTACH, f"vale0:{lan.nic}", ValeAttach(reg=attached)))
        program.register("vale0:program")
        try:
            wait_for(lan.ping, "no ping comes back through the switch", 20)
            assert program.receive()  # it sees broadcasts
        finally:
            control.ctrl(call_of(Request.VALE_DETACH, f"vale0:{lan.nic}", ValeDetach()))
    wait_for(lan.ping, "no ping comes back after the switch", 20)


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


def test_an_interface_that_is_switched_off_carries_nothing_until_it_is_on_again(lan: Lan) -> None:
    link = ["ip", "-n", lan.here.name, "link", "set", lan.nic]
    wait_for(lan.ping, "no ping comes back", 20)
    subprocess.run([*link, "down"], check=True)
    assert not lan.ping(1)
    subprocess.run([*link, "up"], check=True)
    wait_for(lan.ping, "no ping comes back after the interface was off", 20)


def test_a_host_that_sends_more_than_a_program_reads_costs_the_daemon_nothing(lan: Lan) -> None:
    flood = ["ip", "netns", "exec", lan.here.name, "ping", "-f", "-q", "10.9.8.2"]
    ip = ["ip", "-n", lan.here.name]
    subprocess.run([*ip, "neigh", "replace", "10.9.8.2", "lladdr", "02:00:00:00:00:02", "dev", lan.nic], check=True)
    with lan.running.client() as host, subprocess.Popen(flood, stdout=subprocess.DEVNULL) as sender:
        host.register(lan.nic, Mode.SW)
        try:
            wait_for(lambda: dropped(lan) > 0, "Linux drops nothing", 30)
            before, drops, seconds = times(lan.running), dropped(lan), time.monotonic()
            wait_for(lambda: dropped(lan) > drops + 100, "Linux does not send")
            time.sleep(max(0.0, seconds + 1 - time.monotonic()))
            assert times(lan.running) - before < 0.3 * (time.monotonic() - seconds)
        finally:
            sender.kill()
        host.rxsync()
        assert host.rings.rx_rings[0].space == 127
    subprocess.run([*ip, "neigh", "del", "10.9.8.2", "dev", lan.nic], check=True)
    wait_for(lan.ping, "no ping comes back after the flood", 20)


def dropped(lan: Lan) -> int:
    """Frames that Linux could not queue for the interface."""
    return int(lan.here.run("cat", f"/sys/class/net/{lan.nic}/statistics/tx_dropped").stdout)


def test_a_deleted_interface_is_made_again_under_programs_that_go_on(tmp_path: Path) -> None:
    name = unique("d")
    with daemon(tmp_path, f"{name}=emulated", host=True) as running:
        with running.client() as client, running.client() as host:
            client.register(name)
            host.register(name, Mode.SW)
            first = index_of(name)
            subprocess.run(["ip", "link", "del", name], check=True)
            wait_for(lambda: index_of(name) not in ("", first), "the interface does not come back")
            frame = b"\xff" * 6 + bytes(54)
            client.send([frame])
            assert client.receive_until(1) == [frame]
            subprocess.run(["ip", "link", "set", name, "up"], check=True)
            assert host.receive_until(1)  # Linux asks for IPv6 neighbours
        with running.client() as host:
            host.register(name, Mode.SW)
        assert f"the interface {name} was deleted, and the daemon has made it again" in running.end()


def index_of(name: str) -> str:
    """Linux's number of the interface, which it never gives again; "" while it does not exist."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/sys/class/net/{name}/ifindex").read_text()
    return ""


def test_a_deleted_interface_that_cannot_be_made_again_is_told_and_programs_go_on(tmp_path: Path) -> None:
    name = unique("d")
    without_rights = ("setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin")
    subprocess.run(["ip", "tuntap", "add", "dev", name, "mode", "tap", "user", "root"], check=True)
    with daemon(tmp_path, f"{name}=emulated", host=True, inside=without_rights) as running:
        with running.client() as client, running.client() as host:
            client.register(name)
            host.register(name, Mode.SW)
            assert not host.poll(RX, 0)
            subprocess.run(["ip", "link", "del", name], check=True)
            frame = b"\xff" * 6 + bytes(54)
            client.send([frame])
            assert client.receive_until(1) == [frame]
            wait_for(lambda: host.poll(RX, 0) & ERROR, "the program of the host's ring is not told")
            before = times(running)
            client.poll(RX, 1.0)
            assert times(running) - before < 0.3
        with running.client() as host:
            assert errno_of(host.register, name, Mode.SW) == "EINVAL"
        with running.client() as client:
            client.register(name)
        assert f"the interface {name} was deleted, so {name}^ has ended" in running.end()


def test_a_deleted_interface_is_seen_while_the_nic_never_rests(tmp_path: Path) -> None:
    name = unique("d")
    with daemon(tmp_path, f"{name}=emulated:source", host=True) as running:
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        wait_for(lambda: running.status()["ports"][0]["rx_rings"][0]["packets"] > 10_000, "no frames come")
        first = index_of(name)
        subprocess.run(["ip", "link", "del", name], check=True)
        wait_for(lambda: index_of(name) not in ("", first), "it is not seen")
        assert f"the interface {name} was deleted" in running.end()


def test_a_larger_mtu_of_the_interface_is_told_and_its_long_frames_are_dropped(tmp_path: Path) -> None:
    name = unique("m")
    with daemon(tmp_path, f"{name}=emulated:sink", host=True) as running:
        frame = b"\2" * 12 + b"\x88\xb5"
        subprocess.run(["ip", "link", "set", name, "mtu", "9000", "up"], check=True)
        with running.client() as host, socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as linux:
            host.register(name, Mode.SW)
            linux.bind((name, 0x88B5))
            linux.send(frame + bytes(1600))
            linux.send(frame + bytes(100))
            ours = [each for each in host.receive_until(1) if each.startswith(frame)]
            assert [len(each) for each in ours] == [114]
        assert (
            f"the interface {name} has an MTU of 9000 now, and {name} sends packets of at most 1500 bytes: longer ones "
            f"are dropped. Run: ip link set {name} mtu 1500" in running.end()
        )


def test_without_a_tap_there_are_no_host_rings(tmp_path: Path) -> None:
    with daemon(tmp_path, "ix0=emulated") as running, running.client() as client:
        assert errno_of(client.register, "ix0", Mode.SW) == "EINVAL"
