"""Scapy from PyPI on a port, as its users use it. Linux's network stack answers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.namespaces import LEFT, RIGHT, Namespace, exists, namespace, unique, why_not
from tests.support.packages import package
from tests.support.programs import ENVIRONMENT, EXAMPLES, wait_for

SCAPY = "scapy==2.8.0"
WHY_NOT = why_not()
pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)]


@dataclass
class Prompt:
    """Scapy's prompt, which reads lines from a pipe, and the host at the other end of the cable."""

    process: subprocess.Popen[str]
    host: Namespace

    def answer(self, *lines: str) -> str:
        """What the prompt prints for the lines."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("\n".join([*lines, "print('the' + ' end')", ""]))
        printed = ""
        while "the end" not in printed:
            more = self.process.stdout.readline()
            assert more, printed
            printed += more
        return printed


@pytest.fixture(scope="module")
def prompt() -> Iterator[Prompt]:
    tap = unique("ixs")
    environment = {**ENVIRONMENT, "PYTHONPATH": f"{ENVIRONMENT['PYTHONPATH']}:{package(SCAPY)}"}
    program = [sys.executable, str(EXAMPLES / "scapy_port.py"), "-i", f"emulated:tap={tap}"]
    pipe = subprocess.PIPE
    with namespace("ixA") as host:
        with subprocess.Popen(
            program, env=environment, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True, bufsize=1
        ) as process:
            try:
                wait_for(lambda: exists(tap) or process.poll() is not None, "scapy_port.py has not opened its TAP")
                assert process.poll() is None, process.communicate()[0]
                host.take(tap, f"{LEFT}/24")
                yield Prompt(process, host)
            finally:
                process.kill()


def test_sr1_gets_an_echo_reply(prompt: Prompt) -> None:
    printed = prompt.answer(
        f"reply = sr1(IP(src='{RIGHT}', dst='{LEFT}')/ICMP()/b'hello', timeout=20, verbose=0)", "print(reply.summary())"
    )
    assert f"IP / ICMP {LEFT} > {RIGHT} echo-reply" in printed


def test_sr_of_many_packets_gets_all_answers(prompt: Prompt) -> None:
    printed = prompt.answer(
        f"answered, not_answered = sr(IP(src='{RIGHT}', dst='{LEFT}', ttl=(1, 20))/ICMP(), timeout=5, verbose=0)",
        "print(len(answered), 'and', len(not_answered))",
    )
    assert "20 and 0" in printed


def test_srp1_asks_for_an_address(prompt: Prompt) -> None:
    printed = prompt.answer(
        f"question = Ether(dst='ff:ff:ff:ff:ff:ff')/ARP(psrc='{RIGHT}', pdst='{LEFT}')",
        "print(srp1(question, timeout=20, verbose=0).summary())",
    )
    assert f"says {LEFT}" in printed


def test_sniff_sees_what_the_host_sends(prompt: Prompt) -> None:
    asking = prompt.host.command("ping", "-n", "-c", "60", "-i", "0.3", "10.9.0.77")
    with subprocess.Popen(asking, stdout=subprocess.DEVNULL) as ping:
        printed = prompt.answer("print(sniff(count=2, timeout=20, lfilter=lambda p: ARP in p).summary())")
        ping.kill()
    assert "who has 10.9.0.77" in printed


def test_sendp_reaches_the_host(prompt: Prompt) -> None:
    frame = f"Ether(dst='ff:ff:ff:ff:ff:ff')/ARP(op=1, hwsrc='02:00:00:00:00:88', psrc='10.9.0.88', pdst='{LEFT}')"
    prompt.answer(f"sendp({frame}, count=3, verbose=0)")
    wait_for(
        lambda: "02:00:00:00:00:88" in prompt.host.run("ip", "neighbour", "show", "10.9.0.88").stdout,
        "the host has not learned the sender's address",
    )


def test_a_bpf_filter_is_refused_with_what_to_write(prompt: Prompt) -> None:
    assert "write lfilter=" in prompt.answer("sniff(filter='tcp', timeout=1)", "")
