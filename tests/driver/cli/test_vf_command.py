"""`ixrings vf DIR`: a second terminal shows and sets the virtual functions of a running `ixrings emulate`."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import stat
import struct
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from ixrings import open_port
from ixrings.driver.cli import main
from ixrings.driver.cli.agent_socket import MOST, AgentSocket, Link, carry_out
from ixrings.driver.daemon.ask import connect
from ixrings.driver.daemon.protocol import HEADER, MAGIC, VERSION, Kind, Message
from ixrings.driver.port import Port
from ixrings.hw.emulator import Emulated82599, PfAgent
from ixrings.hw.errors import DeviceError
from tests.support.programs import Process, started, wait_for

PATIENCE_S = 30.0
resets_with_queues_on = pytest.mark.breaks_rules("queues_off_before_master_disable")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of an emulator in this process."""
    monkeypatch.setattr("ixrings.driver.daemon.closer.IDLE_S", 0.01)  # its threads must have ended after the test
    with Emulated82599("sink", vfs=2) as nic, PfAgent(nic) as agent, AgentSocket(tmp_path, agent):
        yield tmp_path


Output = Callable[..., str]


@pytest.fixture
def output(folder: Path, capsys: pytest.CaptureFixture[str]) -> Output:
    """What `ixrings vf DIR ...` prints; with status=1 the error."""

    def vf(*words: str, status: int = 0) -> str:
        assert main(["vf", str(folder), *words]) == status
        captured = capsys.readouterr()
        return captured.err if status else captured.out

    return vf


def test_settings_are_made_with_the_words_of_ip_link_and_shown(output: Output, folder: Path) -> None:
    assert stat.S_IMODE((folder / "agent.sock").stat().st_mode) == 0o600
    shown = output("1", "--mac", "02:00:00:00:00:05", "--vlan", "5", "--qos", "3", "--trust", "on", "--spoofchk", "off",
                   "--max-tx-rate", "100", "--state", "disable", "--query-rss", "on")  # fmt: skip
    assert (
        "vf 1  MAC 02:00:00:00:00:05 (set by the host), vlan 5, qos 3, max_tx_rate 100Mbps, spoofchk off, "
        "link-state disable, trust on, query_rss on" in shown
    )
    assert "vf 0" not in shown
    status = json.loads(output("--json"))
    assert status["pf"] == {
        "driver": "linux",
        "up": True,
        "mtu": 1500,
        "link_mbps": 10000,
        "pools": 32,
        "queues_of_a_vf": 4,
        "spoofed": 0,
        "faults": [],
    }
    assert [vf["vlan"] for vf in status["vfs"]] == [0, 5] and status["vfs"][1]["mac"] == "02:00:00:00:00:05"
    assert "MAC 00:00:00:00:00:00," in output("1", "--mac", "00:00:00:00:00:00")


@pytest.mark.slow
def test_the_pf_goes_down_changes_its_mtu_and_its_driver_and_breaks(output: Output) -> None:
    assert "PF: linux, down, mtu 1500, no link" in output("--pf", "down")
    assert "PF: linux, down, mtu 9000" in output("--mtu", "9000")
    assert "PF: linux, up, mtu 9000, link 10000 Mbit/s" in output("--pf", "up")
    assert "PF: dpdk, up, mtu 1500, link 10000 Mbit/s, 16 pools of 8 queues" in output("--pf", "dpdk", "--api", "1.1")
    assert "faults: pf-silent" in output("--fault", "pf-silent")
    assert "faults" not in output("--mend", "pf-silent")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("5",), "there is no VF 5; choose 0 to 1"),
        (("5", "--vlan", "1"), "there is no VF 5; choose 0 to 1"),
        (("--vlan", "5"), "say which virtual function, such as: ixrings vf "),
        (("0", "--max-tx-rate", "10"), "10 Mbit/s: choose 11 to 10000, or 0 for no limit"),
        (("0", "--min-tx-rate", "10"), "the 82599 limits the rate of a VF, and guarantees none"),
        (("0", "--mac", "01:00:00:00:00:05"), "cannot be a port's MAC address: it is a multicast address"),
        (("--fault", "pf-silly"), "'pf-silly' is not a fault. Write link, "),
        (("--api", "1.1"), "write --pf linux or --pf dpdk, too"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
@pytest.mark.slow
def test_what_cannot_be_done_is_refused_with_a_sentence(output: Output, words: tuple[str, ...], says: str) -> None:
    assert says in output(*words, status=1)


def test_without_an_emulator_there_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vf", str(tmp_path / "none")]) == 1
    assert f"no PF agent listens at {tmp_path}/none/agent.sock. Start one: ixrings emulate" in capsys.readouterr().err


def test_commands_that_are_no_commands_are_refused() -> None:
    with Emulated82599("sink", vfs=1, manual=True) as nic, PfAgent(nic, serve=False) as agent:
        before = json.dumps(agent.status())
        for bad in (
            b"", b"{", b"[]", b"null", b"7", b'"status"', b"[" * 9000, b'{"call": 1}', b'{"call": "close"}',
            b'{"call": "set_vf"}', b'{"call": "set_vf", "arguments": {"vf": true, "vlan": 5}}',
            b'{"call": "set_vf", "arguments": {"vf": 0, "vlan": "5"}}',
            b'{"call": "set_vf", "arguments": {"vf": 0, "vlan": true}}',
            b'{"call": "set_vf", "arguments": {"vf": 0, "trust": 1}}',
            b'{"call": "set_vf", "arguments": {"vf": 0, "self": 1}}',
            b'{"call": "set_vf", "arguments": {"vf": -1, "vlan": 5}}',
            b'{"call": "set_vf", "arguments": {"vf": 0, "vlan": ' + b"9" * 4000 + b"}}",
            b'{"call": "set_vf", "arguments": {"vf": 0, "state": "up", "vlan": 5}}',
            b'{"call": "mtu", "arguments": {"mtu": 1e99}}', b'{"call": "mtu", "arguments": {"mtu": -1}}',
            b'{"call": "replace", "arguments": {"kind": "linux", "api": "9"}}',
            b'{"call": "replace", "arguments": {"kind": "/etc"}}', b'{"call": "inject", "arguments": {"fault": ""}}',
            b'{"call": "up", "arguments": []}',
        ):  # fmt: skip
            with pytest.raises(ValueError):
                carry_out(agent, bad)
        assert json.dumps(agent.status()) == before


# ---- real processes ----


@contextmanager
def emulating(folder: Path, *words: str, vfs: int = 2) -> Iterator[Process]:
    command = [sys.executable, "-m", "ixrings", "emulate", "--vf", str(vfs), "--socket", str(folder), *words]
    with started(command) as process:
        assert process.stdout is not None
        for _ in range(vfs):
            assert " listens at " in process.stdout.readline()
        yield process


def frames_move(one: Port, two: Port, number: int) -> None:
    to, sender = (bytes.fromhex(port.mac.replace(":", "")) for port in (two, one))
    sent = [(to + sender + b"\x88\xb5" + bytes([number])).ljust(60, b"\0")] * 20
    one.send(sent)
    assert list(islice(two.recv(PATIENCE_S), 20)) == sent, f"{one.link}, {two.link}"


def until(done: Callable[[], object], *ports: Port) -> None:
    end = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < end, f"nothing changed in time: {[port.link for port in ports]}"
        for port in ports:
            port.poll(0.01)


@pytest.mark.slow
def test_ports_in_other_processes_follow_the_commands_and_their_frames_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "nic"
    with ExitStack() as stack:
        stack.enter_context(emulating(folder))
        agent = stack.enter_context(Link(str(folder)))
        one, two = (
            stack.enter_context(open_port(f"vfio-user:{folder}/vf{number}.sock", link_timeout=PATIENCE_S))
            for number in range(2)
        )
        frames_move(one, two, 0)
        vfs: list[dict[str, Any]] = agent.call("status")["vfs"]
        assert [(vf["api"], vf["tx_queues"], vf["rx_queues"], vf["sends"], vf["receives"]) for vf in vfs] == [
            ("1.4", 1, 1, True, True)
        ] * 2
        assert (vfs[0]["sent"], vfs[1]["received"]) == (20, 20)

        agent.call("set_vf", vf=0, trust=True)
        until(lambda: one.vf.recoveries == 1 and one.link.up, one)
        one.mac = "02:00:00:00:00:77"
        assert agent.call("status")["vfs"][0]["mac"] == "02:00:00:00:00:77"

        one.send([bytes(6) + bytes([2, 0, 0, 0, 5, 5]) + bytes(48)])  # of another source
        until(lambda: agent.call("status")["pf"]["spoofed"] == 1, one)

        agent.call("set_vf", vf=1, state="disable")
        until(lambda: "switched it off" in two.link.reason, two)
        agent.call("set_vf", vf=1, state="auto")
        until(lambda: two.link.up, two)
        frames_move(one, two, 1)

        agent.call("down")
        until(lambda: "its interface is down" in one.link.reason, one)
        agent.call("up")
        until(lambda: one.link.up and two.link.up, one, two)
        frames_move(two, one, 2)

        agent.call("replace", kind="dpdk", api="1.2")
        until(lambda: one.vf.version == two.vf.version == "1.2" and one.link.up and two.link.up, one, two)
        frames_move(one, two, 3)
        with pytest.raises(DeviceError, match="there is no VF 9"):
            agent.call("set_vf", vf=9, vlan=1)


@pytest.mark.slow
def test_hostile_clients_of_the_socket_harm_nobody(tmp_path: Path) -> None:
    folder = tmp_path / "nic"
    with ExitStack() as stack:
        emulator = stack.enter_context(emulating(folder))
        agent = stack.enter_context(Link(str(folder)))
        one, two = (
            stack.enter_context(open_port(f"vfio-user:{folder}/vf{number}.sock", link_timeout=PATIENCE_S))
            for number in range(2)
        )
        chance = random.Random(82599)
        good = Message(Kind.AGENT, b'{"call": "status"}').pack()
        before = len(os.listdir(f"/proc/{emulator.pid}/fd"))
        for number in range(100):
            kept = [client(folder) for _ in range(3)]
            for data in (
                b"", good[:10], good[:-1], good + b"more", chance.randbytes(64), bytes(200_000),
                HEADER.pack(MAGIC, VERSION, Kind.AGENT, 0, 9, 0) + b'{"call": ', HEADER.pack(MAGIC, 9, 8, 0, 0, 0),
                Message(Kind.CTRL, b"x" * 100).pack(), Message(Kind.AGENT, b"[" * 9000).pack(),
                Message(Kind.AGENT, b'{"call": "down"}').pack()[: 24 + number % 16],
            ):  # fmt: skip
                sock = chance.choice(kept)
                with suppress(OSError):
                    send(sock, data, chance.choice((0, 1, 1, 2)))
            for sock in kept:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()
            if number % 50 == 0:
                assert agent.call("status")["pf"]["up"]
                frames_move(one, two, number)
        with ExitStack() as many:  # more than it takes: the others are turned away
            for _ in range(3 * MOST):
                many.enter_context(client(folder))
            assert agent.call("status")["pf"]["up"]
            with (
                Link(str(folder)) as late,
                pytest.raises(DeviceError, match="takes no further connection: 16 programs"),
            ):
                late.call("status")
            frames_move(two, one, 1)
        until(lambda: len(os.listdir(f"/proc/{emulator.pid}/fd")) <= before + 3)
        with Link(str(folder)) as again:
            assert again.call("status")["vfs"][0]["requests"] > 0


@pytest.mark.slow
def test_an_emulator_that_ends_or_stands_still_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "nic"
    with emulating(folder) as emulator, Link(str(folder)) as agent:
        assert agent.call("status")["pf"]["up"]
        emulator.send_signal(signal.SIGSTOP)
        stat_file = Path(f"/proc/{emulator.pid}/stat")
        wait_for(lambda: stat_file.read_text().rpartition(") ")[2][0] == "T", "the emulator did not stop")
        with monkeypatch.context() as patched:
            patched.setattr("ixrings.driver.daemon.ask.PATIENCE_S", 0.2)
            with pytest.raises(DeviceError, match="agent.sock: no answer in .* ixrings emulate is stopped"):
                agent.call("status")
        emulator.send_signal(signal.SIGCONT)
        assert agent.call("status")["pf"]["up"]
        emulator.terminate()
        assert emulator.wait(PATIENCE_S) == 0
        with pytest.raises(DeviceError, match="agent.sock: ixrings emulate has ended"):
            agent.call("status")
        assert list(folder.iterdir()) == []


def client(folder: Path) -> socket.socket:
    sock = connect(str(folder / "agent.sock"))
    sock.setblocking(False)
    return sock


def send(sock: socket.socket, data: bytes, count: int) -> None:
    """With `count` descriptors for a reply, of which nobody reads."""
    pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(count)]
    try:
        socket.send_fds(sock, [data], [theirs.fileno() for _, theirs in pairs])
    finally:
        for pair in pairs:
            for each in pair:
                each.close()
