"""The small examples, run as their first lines print them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from ixrings.hw.capture.pcap import CaptureWriter
from tests.support.namespaces import LEFT, RIGHT, exists, namespace, unique, why_not
from tests.support.programs import EXAMPLES, command, run_example, started, wait_for

WHY_NOT = why_not()
SMALL = sorted(file.stem for file in (EXAMPLES / "small").glob("*.py"))
linux = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
ECHO = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.settimeout(20)
    sock.connect((sys.argv[1], 7))
    for number in range(50):
        data = bytes([number]) * (10 * number)
        sock.send(data)
        assert sock.recv(2000) == data, number
print("all came back")
"""


def test_each_small_example_fits_on_a_screen_and_says_how_it_is_called() -> None:
    assert {"first_frame", "ethertypes", "sizes", "arp", "udp_echo"} == set(SMALL)
    for name in SMALL:
        text = (EXAMPLES / "small" / f"{name}.py").read_text(encoding="utf-8")
        assert len(text.splitlines()) < 40, name
        assert re.search(rf"^{name}\.py", text, re.M), name


def test_the_first_frame_comes_back() -> None:
    done = run_example("small/first_frame")
    assert "type 88b5: b'hello, wire'" in done.stdout and done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_first_frame_says_where_it_went_when_it_does_not_come_back() -> None:
    done = run_example("small/first_frame", "emulated:sink")
    assert "GPTC" in done.stdout and done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_ethertypes_and_sizes_count_a_capture_to_the_frame(tmp_path: Path) -> None:
    file, now = tmp_path / "frames.pcap", np.zeros(1, np.int64)
    with CaptureWriter(file) as writer:
        for kind, length, times in ((0x0800, 60, 7), (0x86DD, 1000, 5), (0x88B5, 1514, 1)):
            frame = np.frombuffer(bytes(12) + kind.to_bytes(2, "big") + bytes(length - 14), np.uint8).reshape(1, -1)
            for _ in range(times):
                writer.write_batch(frame, np.array([length], np.uint16), now)
    kinds = run_example("small/ethertypes", f"emulated:pcap={file}").stdout.split("\n")
    assert [line.split() for line in kinds[:3]] == [["7", "0800", "IPv4"], ["5", "86dd", "IPv6"], ["1", "88b5"]]
    sizes = run_example("small/sizes", f"emulated:pcap={file}").stdout
    counts = {int(low): int(count) for low, count in re.findall(r"^ *(\d+) to +\d+ +(\d+)", sizes, re.M)}
    assert {low: count for low, count in counts.items() if count} == {64: 7, 512: 5, 1024: 1}


@pytest.mark.slow
def test_the_small_examples_take_a_virtual_function() -> None:
    done = run_example("small/first_frame", "emulated-vf")
    assert "type 88b5: b'hello, wire'" in done.stdout and done.returncode == 0, done.stderr
    kinds = run_example("small/ethertypes", "emulated-vf:source")
    assert re.fullmatch(r" *\d{7}  0800 IPv4\n", kinds.stdout), kinds.stderr
    sizes = run_example("small/sizes", "emulated-vf:source")
    assert re.match(r" +64 to +64 +\d{7}  #{50}$", sizes.stdout, re.M), sizes.stderr


@linux
@pytest.mark.slow
@pytest.mark.network
@pytest.mark.parametrize(("nic", "mac"), [("emulated", "02:82:59:90:00:01"), ("emulated-vf", "02:")])
def test_linux_learns_the_address_from_arp_py(nic: str, mac: str) -> None:
    tap = unique("ixq")
    with namespace("ixA") as host, started(command("small/arp", f"{nic}:tap={tap}", RIGHT)):
        wait_for(lambda: exists(tap), "arp.py has not opened its TAP")
        host.take(tap, f"{LEFT}/24")

        def learned() -> bool:  # the TAP is there before the port receives
            host.run("ping", "-c", "1", "-W", "1", RIGHT)
            return f"lladdr {mac}" in host.run("ip", "neighbour", "show", RIGHT).stdout

        wait_for(learned, "Linux has not learned the address")


@linux
@pytest.mark.slow
@pytest.mark.network
def test_linux_gets_every_udp_packet_back_and_nothing_else() -> None:
    tap = unique("ixu")
    with namespace("ixA") as host, started(command("small/udp_echo", f"emulated:tap={tap}")):
        wait_for(lambda: exists(tap), "udp_echo.py has not opened its TAP")
        host.take(tap, f"{LEFT}/24")
        host.run("ip", "neighbour", "add", RIGHT, "lladdr", "02:82:59:90:00:01", "dev", tap)
        assert host.run("ping", "-c", "1", "-W", "1", RIGHT).returncode == 1  # not UDP
        done = host.run(sys.executable, "-c", ECHO, RIGHT)
        assert done.stdout == "all came back\n", done.stderr
