"""Real traffic: Linux's network stack at both ends, our NICs and rings between them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ixrings import PortBusy, PortTimeout, open_port
from ixrings.hw.capture.frames import Capture
from ixrings.hw.capture.pcap import read_capture
from ixrings.hw.emulator import Emulated82599
from ixrings.hw.errors import WireError
from tests.support.namespaces import (
    LEFT,
    RIGHT,
    Namespace,
    bridged,
    exists,
    frames_tcpdump_reads,
    ip,
    namespace,
    tcpdump,
    unique,
    why_not,
)
from tests.support.programs import ROOT, command, interrupt, run_example, started, wait_for

WHY_NOT = why_not()
pytestmark = [pytest.mark.network, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)]

SHORTEST = 60

# Both sides print the SHA-256 of the data; every megabyte is different.
SEND = """
import hashlib, random, socket, sys
digest, rng = hashlib.sha256(), random.Random(82599)
with socket.create_connection((sys.argv[1], 5001), timeout=20) as connection:
    for _ in range(int(sys.argv[2])):
        data = rng.randbytes(1_000_000)
        digest.update(data)
        connection.sendall(data)
print(digest.hexdigest())
"""
RECEIVE = """
import hashlib, socket, sys
digest, count = hashlib.sha256(), 0
with socket.create_server((sys.argv[1], 5001)) as server:
    server.settimeout(20)
    print("ready", flush=True)
    connection, _ = server.accept()
    with connection:
        connection.settimeout(20)
        while data := connection.recv(1 << 20):
            digest.update(data)
            count += len(data)
print(count, digest.hexdigest())
"""


def bridge_command(mtu: int = 1500, *options: str) -> list[str]:
    return command(
        "bridge", "-i", f"emulated:tap={unique('ixl')}", "-i", f"emulated:tap={unique('ixr')}", "--mtu", mtu, *options
    )


def ping(host: Namespace, address: str, count: int, *options: str) -> int:
    """The number of pings, of `count`, that are answered."""
    done = host.run("ping", "-n", "-c", str(count), "-i", "0.05", "-W", "2", *options, address)
    return done.stdout.count(" bytes from ")


def transfer(source: Namespace, target: Namespace, address: str, megabytes: int) -> None:
    """Transfer data over TCP, and assert that every byte arrives unchanged."""
    with started(target.command(sys.executable, "-c", RECEIVE, address)) as receiver:
        assert receiver.stdout and receiver.stdout.readline() == "ready\n"
        sent = source.run(sys.executable, "-c", SEND, address, str(megabytes))
        assert not sent.returncode, sent.stderr
        count, digest = receiver.communicate(timeout=30)[0].split()
    assert int(count) == megabytes * 1_000_000
    assert digest == sent.stdout.strip()


@pytest.mark.slow
def test_arp_ping_and_100_megabytes_of_tcp_cross_the_bridge_intact() -> None:
    with bridged(bridge_command()) as net:
        assert ping(net.left, RIGHT, 20) == 20
        assert "lladdr" in net.left.run("ip", "neighbour", "show", RIGHT).stdout
        assert ping(net.right, LEFT, 20) == 20
        transfer(net.left, net.right, RIGHT, 100)
        summary, errors = interrupt(net.program)
        assert net.program.returncode == 0 and not errors
        words = summary.split()
        assert words[0] == "forwarded" and int(words[1].replace(",", "")) > 100_000_000 // 1460
    wait_for(lambda: not exists(net.left_interface) and not exists(net.right_interface), "the TAPs are still there")


@pytest.mark.slow
def test_tcp_crosses_a_spinning_bridge_with_jumbo_frames() -> None:
    with bridged(bridge_command(9000, "--busy", "--json"), mtu=9000) as net:
        assert ping(net.left, RIGHT, 5, "-M", "do", "-s", "8972") == 5
        transfer(net.right, net.left, LEFT, 10)
        summary, errors = interrupt(net.program)
        assert not errors and json.loads(summary)["forwarded"] > 10_000_000 // 8960


@pytest.mark.slow
def test_linux_pings_the_responder() -> None:
    tap = unique("ixp")
    with (
        namespace("ixA") as host,
        started(command("responder", "-i", f"emulated:tap={tap}", "-a", RIGHT, "--json")) as responder,
    ):
        wait_for(lambda: exists(tap), "the responder has not opened its TAP")
        host.take(tap, f"{LEFT}/24", mtu=9000)
        assert ping(host, RIGHT, 20) == 20
        assert ping(host, RIGHT, 5, "-s", "8972") == 5
        assert ping(host, "10.9.0.3", 2) == 0
        assert "02:82:59:90:00:01" in host.run("ip", "neighbour", "show", RIGHT).stdout
        summary, errors = interrupt(responder)
        assert not errors and json.loads(summary)["sent"] >= 26


def test_the_ping_demo_of_the_readme_works_when_it_is_pasted() -> None:
    fenced = (ROOT / "README.md").read_text(encoding="utf-8").split("```")[1::2]
    (block,) = [each for each in fenced if each.startswith("\n") and "responder.py" in each]
    assert len(block.splitlines()) == 4, "not the block of three commands"
    with namespace("ixA") as host:
        script = block.replace("ix0", unique("ixp")).replace(".venv/bin/python", sys.executable) + "kill $!; wait"
        done = host.run("sh", "-c", f"cd {ROOT}; {script}")
    assert " 3 received" in done.stdout, done.stdout + done.stderr


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture by tcpdump at the left end: ARP, ping, TCP in both directions; short frames and full ones."""
    file = tmp_path_factory.mktemp("traffic") / "traffic.pcap"
    with bridged(bridge_command()) as net, tcpdump(net.left, net.left_interface, file):
        ping(net.left, RIGHT, 5)
        transfer(net.left, net.right, RIGHT, 2)
        transfer(net.right, net.left, LEFT, 1)
    capture = read_capture(file)
    assert len(capture) > 1000 and capture.lengths.min() < SHORTEST and capture.lengths.max() == 1514
    return file


@pytest.fixture(scope="module")
def full_frames(traffic: Path) -> Path:
    """The frames of at least 60 bytes; a NIC does not pad them."""
    file = traffic.with_name("full.pcap")
    subprocess.run(
        ["tcpdump", "-Z", "root", "-r", str(traffic), "-w", str(file), f"greater {SHORTEST}"],
        check=True,
        capture_output=True,
    )
    return file


def as_on_the_wire(capture: Capture) -> list[bytes]:
    """The frames, padded with zeros to 60 bytes (802.3 4.2.8)."""
    return [frame.ljust(SHORTEST, b"\0") for frame in capture]


def by_replay(source: Path, target: Path) -> None:
    done = run_example("replay", "-i", f"emulated:pcap=,{target}", source, "--flat-out", "--json")
    assert not done.returncode and not done.stderr, done.stderr
    assert json.loads(done.stdout)["sent"] == len(read_capture(source))


def by_forwarding_to_itself(source: Path, target: Path) -> None:
    """The port receives the capture and sends it from its TX ring into the recording, without a copy."""
    count, moved = len(read_capture(source)), 0
    with open_port(f"emulated:pcap={source},{target}", promiscuous=True) as port:
        end = time.monotonic() + 20
        while moved < count and time.monotonic() < end:
            port.poll(1)
            moved += port.forward(port)
        port.flush()
        assert isinstance(port.device, Emulated82599) and port.device.violations == []
    assert moved == count


@pytest.mark.parametrize("way", [by_replay, by_forwarding_to_itself])
def test_the_rings_carry_a_capture_of_that_traffic_unchanged(
    traffic: Path, tmp_path: Path, way: Callable[[Path, Path], None]
) -> None:
    target = tmp_path / "out.pcap"
    way(traffic, target)
    sent, received = read_capture(traffic), read_capture(target)
    assert list(received) == as_on_the_wire(sent)
    assert frames_tcpdump_reads(target) == frames_tcpdump_reads(traffic) == len(sent)


@pytest.mark.parametrize("way", [by_replay, by_forwarding_to_itself])
def test_the_rings_change_no_byte_of_frames_of_at_least_sixty_bytes(
    full_frames: Path, tmp_path: Path, way: Callable[[Path, Path], None]
) -> None:
    target = tmp_path / "out.pcap"
    way(full_frames, target)
    sent, received = read_capture(full_frames), read_capture(target)
    assert list(received) == list(sent)
    assert received.wire_lengths.tolist() == sent.wire_lengths.tolist()
    assert frames_tcpdump_reads(target) == len(sent)


@pytest.mark.slow
def test_the_example_captures_what_tcpdump_captures(tmp_path: Path) -> None:
    tap, ours, theirs = unique("ixc"), tmp_path / "ours.pcap", tmp_path / "theirs.pcap"
    with (
        namespace("ixA") as host,
        started(command("capture", "-i", f"emulated:tap={tap}", "-w", ours, "--json")) as program,
    ):
        wait_for(lambda: exists(tap), "the example has not opened its TAP")
        host.take(tap, f"{LEFT}/24")
        with tcpdump(host, tap, theirs):
            assert ping(host, RIGHT, 3, "-b") == 0  # these are ARP requests without an answer
            host.run("ping", "-n", "-c", "3", "-i", "0.05", "-W", "0.1", "-b", "-s", "1400", "10.9.0.255")
            time.sleep(0.1)
        summary, errors = interrupt(program)
        assert not errors and not program.returncode
    expected = as_on_the_wire(read_capture(theirs))
    captured = list(read_capture(ours))
    # Linux may have sent frames before tcpdump listened.
    assert len(expected) >= 6 and captured[-len(expected) :] == expected
    assert frames_tcpdump_reads(ours) == len(captured) == json.loads(summary)["received"]


@pytest.fixture
def tap() -> Iterator[str]:
    """A TAP that is up, and that stays when its user closes it."""
    name = unique("ixt")
    ip("tuntap", "add", "dev", name, "mode", "tap")
    ip("link", "set", name, "up")
    yield name
    if exists(name):
        ip("link", "del", name)


def test_the_link_goes_down_when_its_tap_is_deleted_and_gives_the_reason(tap: str) -> None:
    with open_port(f"emulated:tap={tap}", promiscuous=True) as port:
        assert port.link.up
        port.send([b"\xff" * 60] * 10)
        port.flush()
        ip("link", "del", tap)
        wait_for(lambda: not port.link.up, "the link is still up")
        assert f"tap={tap}" in port.link.reason and "deleted" in port.link.reason
        assert port.poll(0.05) == 0 or port.rx_rings[0].space  # frames that Linux sent earlier may be there
        port.send([b"\xff" * 60] * 10)
        with pytest.raises(PortTimeout, match="deleted"):
            port.flush(0.2)
        port.rxsync()
        port.stats()
    with open_port(f"emulated:tap={tap}") as port:  # this creates the TAP again
        assert port.link.up


@pytest.mark.slow
def test_a_bridge_ends_with_the_reason_when_a_tap_is_deleted() -> None:
    with bridged(bridge_command()) as net:
        assert ping(net.left, RIGHT, 3) == 3
        ip("-n", net.left.name, "link", "del", net.left_interface)
        summary, errors = net.program.communicate(timeout=30)
        assert net.program.returncode == 1 and summary.startswith("forwarded")
        assert f"tap={net.left_interface}: the interface was deleted" in errors.splitlines()[-1]


def test_a_tap_in_use_cannot_be_opened_again(tap: str) -> None:
    with open_port(f"emulated:tap={tap}"):
        with pytest.raises(PortBusy, match=f"is open in this process, as port emulated:tap={tap}. Use that port"):
            open_port(f"emulated:tap={tap}")
        done = run_example("responder", "-i", f"emulated:tap={tap}")
        assert done.returncode == 1 and "another program" in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_name_that_belongs_to_another_kind_of_interface_is_refused() -> None:
    with pytest.raises(WireError, match="is not a TAP"):
        open_port("emulated:tap=lo")


def test_frames_wait_in_the_rings_until_the_program_syncs(tap: str) -> None:
    with namespace("ixA") as host, open_port(f"emulated:tap={tap}", promiscuous=True) as port:
        host.take(tap, f"{LEFT}/24")
        host.run("ping", "-n", "-c", "20", "-i", "0.01", "-W", "0.1", "-b", "10.9.0.255")
        port.poll(1)
        pings = [frame for frame in port.recv(0.1) if frame[23] == 1]
        assert len(pings) == 20 and all(len(frame) == 98 for frame in pings)
