"""Network namespaces with interfaces, for tests with Linux's network stack. They need root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.programs import Process, started, wait_for

TOOLS = ("ip", "ping", "tcpdump")


def why_not() -> str:
    """The reason why tests with real traffic cannot run here, or ''."""
    if os.geteuid():
        return "needs root; run the tests as root"
    if not os.path.exists("/dev/net/tun"):
        return "needs /dev/net/tun; run: modprobe tun"
    missing = [tool for tool in TOOLS if not shutil.which(tool)]
    if missing:
        return f"needs {', '.join(missing)}; run: apt install iproute2 iputils-ping tcpdump"
    trial = unique("try")
    made = subprocess.run(["ip", "netns", "add", trial], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", trial], capture_output=True)
    return f"needs to make network namespaces: {made.stderr.strip()}" if made.returncode else ""


def unique(name: str) -> str:
    """A name that no other run of the tests has. An interface name has at most 15 characters."""
    return f"{name}{os.getpid()}"


def ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    assert not done.returncode, f"ip {' '.join(arguments)}: {done.stderr}"


def exists(interface: str) -> bool:
    return Path("/sys/class/net", interface).exists()


@dataclass(frozen=True)
class Namespace:
    """One namespace. With an interface moved in, it is a separate host."""

    name: str

    def command(self, *arguments: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *arguments]

    def run(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=timeout)

    def take(self, interface: str, address: str, mtu: int = 1500) -> None:
        """Move an interface in and give it an IPv4 address, such as 10.9.0.1/24. IPv6 is off: only the test sends."""
        ip("link", "set", interface, "netns", self.name)
        self.run("sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{interface}/disable_ipv6")
        ip("-n", self.name, "link", "set", interface, "mtu", str(mtu), "up")
        ip("-n", self.name, "address", "add", address, "dev", interface)


@contextmanager
def namespace(name: str) -> Iterator[Namespace]:
    made = Namespace(unique(name))
    ip("netns", "add", made.name)
    try:
        yield made
    finally:
        ip("netns", "del", made.name)


@contextmanager
def tcpdump(host: Namespace, interface: str, file: Path, *more: str) -> Iterator[Process]:
    """Capture into `file`. It has all frames when the context ends. more: options."""
    arguments = host.command(
        "tcpdump", "-Z", "root", "-i", interface, "--immediate-mode", "-B", "65536", "-U", "-w", str(file), *more
    )
    with started(arguments) as process:
        assert process.stderr
        line = process.stderr.readline()
        while "listening on" not in line:
            assert line, "tcpdump ended at once"
            line = process.stderr.readline()
        yield process
        process.terminate()
        process.communicate(timeout=30)


def frames_tcpdump_reads(file: Path) -> int:
    """The number of packets that `tcpdump -r` prints. Asserts that it finds no error."""
    done = subprocess.run(["tcpdump", "-nr", str(file)], capture_output=True, text=True, timeout=60)
    assert not done.returncode and "truncated dump" not in done.stderr, done.stderr
    return len(done.stdout.splitlines())


@dataclass(frozen=True)
class Bridged:
    """Two hosts with one interface each, and a program between them."""

    left: Namespace
    right: Namespace
    left_interface: str
    right_interface: str
    program: Process


LEFT, RIGHT = "10.9.0.1", "10.9.0.2"


@contextmanager
def bridged(program: list[str], mtu: int = 1500) -> Iterator[Bridged]:
    """Run `program`, which opens the TAPs ixl<pid> and ixr<pid>; move each into a namespace, as LEFT and RIGHT."""
    taps = unique("ixl"), unique("ixr")
    with ExitStack() as stack:
        left, right = (stack.enter_context(namespace(name)) for name in ("ixA", "ixB"))
        process = stack.enter_context(started(program))
        wait_for(lambda: all(map(exists, taps)) or process.poll() is not None, "the program has not opened its TAPs")
        assert process.poll() is None, process.communicate()
        left.take(taps[0], f"{LEFT}/24", mtu)
        right.take(taps[1], f"{RIGHT}/24", mtu)
        yield Bridged(left, right, *taps, process)
