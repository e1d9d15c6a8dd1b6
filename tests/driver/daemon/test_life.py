"""How a daemon starts and ends, and whom it serves."""

from __future__ import annotations

import errno
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from ixrings import PortError, open_port
from ixrings.driver.daemon.abi import Call, Flag, Header, Mode, PortInfo, Register, Request, pack
from ixrings.driver.daemon.daemon import Daemon, Settings
from ixrings.driver.daemon.opener import Opener
from ixrings.driver.daemon.place import make_folder
from ixrings.driver.daemon.policy import Peer
from ixrings.driver.daemon.protocol import close_all
from ixrings.driver.daemon.requests import answer
from tests.support.netmap_client import COMMAND, RX, NetmapClient, RunningDaemon, call_of, daemon, errno_of, times
from tests.support.netmap_programs import started
from tests.support.programs import ENVIRONMENT, wait_for
from tests.support.vfio_user_peer import emulate

pytestmark = pytest.mark.slow  # each test starts a daemon
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=60)


def test_sigterm_ends_it_clean_and_its_programs_get_an_error(tmp_path: Path) -> None:
    with daemon(tmp_path, "ix0=emulated") as running, running.client() as client:
        client.register("ix0")
        shown = run("--status", "--socket", running.path)
        assert "1 of 1 rings in use" in shown.stdout
        assert json.loads(run("--status", "--json", "--socket", running.path).stdout)["handles"][0]["port"] == "ix0"
        second = run("ix0=emulated", "--socket", running.path)
        assert second.returncode == 1
        assert "another server listens at" in second.stderr
        running.end()
        assert not os.path.exists(running.path)
        assert errno_of(client.txsync) == "ENXIO"


@pytest.mark.parametrize("nic", ["emulated", "emulated-vf"])
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_ends_it_clean_in_the_middle_of_traffic(tmp_path: Path, number: signal.Signals, nic: str) -> None:
    """poll() of its programs reports POLLERR from then on."""
    with daemon(tmp_path, f"ix0={nic}:cable=s", f"ix1={nic}:cable=s") as running, ExitStack() as stack:
        wires = (("nm_rx", "netmap:ix1"), ("nm_tx", "netmap:ix0"), ("nm_rx", "netmap:x}1"), ("nm_tx", "netmap:x{1"))
        programs = [
            stack.enter_context(started(running.path, program, "-i", name, "-n", 0, "-t", 1)) for program, name in wires
        ]
        wait_for(lambda: all(each["syncs"] > 1000 for each in running.status()["handles"]), "a ring is not synced")
        running.process.send_signal(number)
        _, log = running.process.communicate(timeout=30)
        assert running.process.returncode == 0 and not log, log
        assert not os.path.exists(running.path)
        for program in programs:
            program.process.communicate(timeout=30)
            assert program.process.returncode == 1  # it has ended by itself


@pytest.mark.parametrize("text", ["5,", "4095", "-1", "5 7"])
def test_a_wrong_vlan_is_refused_with_what_to_write(text: str) -> None:
    done = run("ix0=emulated", f"--vlan={text}")
    assert done.returncode == 2 and not done.stdout
    assert ("write VLAN ids, such as 5 or 5,7" in done.stderr) != (text == "4095"), done.stderr


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(str(tmp_path / "netmap.sock"))
    with daemon(tmp_path, "ix0=emulated") as running:
        running.process.send_signal(signal.SIGINT)
        running.process.communicate(timeout=30)
        assert running.process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "give the daemon a port, such as: ixrings daemon ix0="),
        (("ix0=emulated", "ix0=emulated"), "give each port a name of its own"),
        (("ix0=emulated", "--allow", "ix1=root"), "there is no port ix1; write one of ix0"),
        (("ix0=emulated", "--isolate", "ix1"), "there is no port ix1; write one of ix0"),
        (("ix0=emulated", "--group", "no-such-group"), "there is no group 'no-such-group'"),
        (("ix0=emulated", "--user", "4294967295"), "is too large for a user or a group; choose 0 to 4294967294"),
        (("ix0=emulated", "--memory", "1"), "--memory 1 is too little"),
        (("--status",), "no daemon listens there"),
    ],
)
def test_wrong_arguments_get_a_sentence(tmp_path: Path, arguments: tuple[str, ...], sentence: str) -> None:
    done = run(*arguments, "--socket", str(tmp_path / "s"))
    assert done.returncode == 1
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1


def test_systemd_gives_the_socket_and_gets_ready(tmp_path: Path) -> None:
    path, notify = str(tmp_path / "given.sock"), str(tmp_path / "notify")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as given,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told,
    ):
        given.bind(path)
        given.listen()
        told.bind(notify)
        told.settimeout(30)
        start = (
            "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ['LISTEN_PID'] = str(os.getpid()); "
            "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", start, str(given.fileno()), *COMMAND[1:], "ix0=emulated", "--memory", "16"],
            env={**ENVIRONMENT, "LISTEN_FDS": "1", "NOTIFY_SOCKET": notify}, pass_fds=[given.fileno(), 3],
        )  # fmt: skip
        try:
            assert b"READY=1" in told.recv(4096)
            assert RunningDaemon(process, path).status()["ports"][0]["name"] == "ix0"  # type: ignore[arg-type]
            process.terminate()
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()


def as_nobody(running: RunningDaemon, *names: str) -> str:
    """What user nobody gets who registers these ports. In a fork: that user cannot read our files."""
    theirs, ours = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(ours, registered(running.path, names).encode())
        finally:
            os._exit(0)
    os.close(ours)
    with os.fdopen(theirs) as told:
        answer = told.read()
    os.waitpid(child, 0)
    return answer


def registered(path: str, names: tuple[str, ...]) -> str:
    try:
        client = NetmapClient(path)
    except OSError as error:
        return f"connect: {errno.errorcode[error.errno or 0]}"
    return " ".join(errno_of(client.register, name) or "opened" for name in names)


def test_other_users_may_enter_the_folder_of_the_socket_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        make_folder(str(tmp_path / "ixrings"))
    finally:
        os.umask(before)
    assert (tmp_path / "ixrings").stat().st_mode & 0o777 == 0o755


@AS_ROOT
def test_another_user_opens_what_is_allowed() -> None:
    folder = Path("/tmp") / f"ixrings-test-{os.getpid()}"  # pytest's own folders are closed to other users
    folder.mkdir()
    folder.chmod(0o755)  # whatever the umask
    try:
        ports = ("ix0=emulated", "ix1=emulated", "--mode", "0666", "--allow", f"ix1={pwd.getpwuid(0).pw_name}")
        with daemon(folder, *ports) as running:
            assert as_nobody(running, "ix1", "ix0") == "EPERM opened"
            wait_for(lambda: not running.status()["handles"], "the handle is still there")
            log = running.end()
            assert "may not open or change ix1. To allow it: --allow ix1=nobody" in log
        with daemon(folder, "ix0=emulated") as running:
            assert as_nobody(running, "ix0") == "connect: EACCES"
    finally:
        shutil.rmtree(folder)


def test_an_idle_daemon_with_waiting_programs_takes_no_time(tmp_path: Path) -> None:
    with daemon(tmp_path, "ix0=emulated") as running, running.client() as client:
        client.register("ix0", Mode.ALL_NIC)
        client.poll(1, 0.2)
        before = times(running)
        client.poll(1, 1.5)
        assert times(running) - before < 0.3


def test_programs_of_a_nic_that_is_gone_hear_of_it_while_others_keep_the_daemon_busy(tmp_path: Path) -> None:
    ended = threading.Event()

    def keep_busy(client: NetmapClient) -> None:
        while not ended.is_set():
            client.rxsync()

    with daemon(tmp_path, "ix0=emulated@fault=removal+3000", "ix1=emulated") as running:
        with running.client() as waits, running.client() as busy:
            waits.register("ix0")
            busy.register("ix1")
            thread = threading.Thread(target=keep_busy, args=(busy,))
            thread.start()
            try:
                wait_for(lambda: "gone" in running.status()["ports"][0], "the NIC does not go", 20)
                wait_for(lambda: errno_of(waits.rxsync) == "EIO", "the program hears nothing", 20)
                with running.client() as late:
                    assert errno_of(late.register, "ix0") == "ENXIO"
            finally:
                ended.set()
                thread.join()
        running.wait_until_nobody_has_buffers()
        assert "no longer answers" in running.end()


def test_a_program_without_a_descriptor_left_for_it_is_refused_with_what_was_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ("sh", "-c", 'ulimit -n 40; exec "$@"', "sh")
    with daemon(tmp_path, "ix0=emulated", inside=few) as running, running.client() as client:
        monkeypatch.setenv("IXRINGS_SOCKET", running.path)
        client.register("ix0")
        with pytest.raises(PortError, match=f"process {running.process.pid}, refuses it .* 1 handles are open"):
            open_port("netmap:ix0")
        client.send([b"\xff" * 60])
        assert client.receive_until(1)
        assert "1 handles are open, the most of this daemon (ulimit -n)" in running.end()


def test_a_status_that_is_longer_than_a_message_is_cut(tmp_path: Path) -> None:
    """A byte of a name may take six in JSON."""
    with daemon(tmp_path, "ix0=emulated") as running, ExitStack() as kept:
        for number in range(500):
            name = b"m%d{%d" % (number // 64, number)
            header = Header(nr_version=14, nr_reqtype=Request.REGISTER, nr_name=name.ljust(63, b"\xff"))
            client = kept.enter_context(running.client())
            _, fds = client.ctrl(Call(header, Register(nr_mode=1, nr_tx_slots=2, nr_rx_slots=2)))
            close_all(fds)
        status = running.status()
        assert len(status["pipes"]) + status["further_pipes"] == 500
        assert len(status["handles"]) + status["further_handles"] == 500
        assert f"and {status['further_pipes']} further pipes" in run("--status", "--socket", running.path).stdout


def test_a_rule_that_a_program_broke_just_before_its_end_is_told(tmp_path: Path) -> None:
    rounds = 15  # the log takes 20 lines a second
    with daemon(tmp_path, "ix0=emulated", "ix1=emulated") as running:
        with running.client() as busy:  # the service tells at once before it sleeps
            busy.register("ix1")
            for _ in range(rounds):
                with running.client() as client:
                    client.register("ix0")
                    ring = client.rings.tx_rings[0]
                    ring.slots["len"][0] = 65535
                    ring.head = ring.cur = 1
                    client.txsync()
                    busy.txsync()
        assert running.end().count("len 65535") == rounds


def test_each_program_has_a_handle_of_its_own(tmp_path: Path) -> None:
    with daemon(tmp_path, "ix0=emulated") as running:
        clients: list[NetmapClient] = [running.client() for _ in range(20)]
        for client in clients:
            client.register("ix0")
        assert len(running.status()["handles"]) == 20
        for client in clients:
            client.close()
        running.wait_until_nobody_has_buffers()


def longest_sync(client: NetmapClient, work: Callable[[], object]) -> float:
    """The longest sync of a program while another thread does `work`, as a share of the time that takes."""
    longest = 0.0
    with ThreadPoolExecutor(1) as pool:
        start = time.perf_counter()
        end = pool.submit(lambda: (work(), time.perf_counter())[1])
        while not end.done():
            before = time.perf_counter()
            client.txsync()
            longest = max(longest, time.perf_counter() - before)
        return longest / (end.result() - start)


def test_a_close_with_unsent_frames_does_not_hold_up_other_programs(tmp_path: Path) -> None:
    shares = []
    with daemon(tmp_path, "ix0=emulated", "ix1=emulated:cable=alone") as running, running.client() as other:
        other.register("ix0")
        for _ in range(7):
            closing = running.client()
            closing.register("ix1")
            closing.send([bytes(60)] * 20)  # the link is down, so they are never sent

            def close(closing: NetmapClient = closing) -> None:
                closing.close()
                running.status()  # is answered after the close

            shares.append(longest_sync(other, close))
    assert sorted(shares)[3] < 0.6, shares


def test_memory_of_a_port_is_made_and_closed_while_other_programs_are_served(tmp_path: Path) -> None:
    large = call_of(Request.PORT_INFO_GET, "vale0:a", PortInfo(nr_tx_rings=8, nr_tx_slots=4096, nr_rx_slots=4096))
    with daemon(tmp_path, "ix0=emulated") as running, running.client() as other, running.client() as asks:
        other.register("ix0")
        shares = [longest_sync(other, lambda: asks.ctrl(large)) for _ in range(7)]
    assert sorted(shares)[3] < 0.6, shares


def test_a_cable_that_is_pulled_and_plugged_in_again_stops_nothing(tmp_path: Path) -> None:
    """What a program has put into its ring is sent when the cable is back."""
    with emulate(tmp_path / "nic") as emulator, daemon(tmp_path, f"ix0={emulator.port}") as running:

        def link() -> str:
            return str(running.status()["ports"][0]["link"])

        wait_for(lambda: link().startswith("up"), "there is no link")
        frames = [b"\xff" * 6 + bytes(53) + bytes([number]) for number in range(20)]
        with running.client() as client:
            client.register("ix0")
            for _ in range(3):
                emulator.process.send_signal(signal.SIGUSR1)
                wait_for(lambda: link().startswith("down"), "the cable is still in")
                client.send(frames)
                assert client.poll(RX, 0.2) == 0
                emulator.process.send_signal(signal.SIGUSR1)
                assert client.receive_until(20) == frames
        assert running.end() == ""
        emulator.end()


def test_a_program_that_has_a_nic_in_memory_of_its_own_may_close_it_after_the_nic_is_gone(tmp_path: Path) -> None:
    with daemon(tmp_path, "ix0=emulated@fault=removal+3000", "ix1=emulated") as running:
        with running.client() as switch, running.client() as lent:
            number = switch.register("vale0:x").nr_mem_id
            assert lent.register("ix0", nr_mem_id=number).nr_mem_id == number
            wait_for(lambda: "gone" in running.status()["ports"][0], "the NIC does not go", 20)
            wait_for(lambda: errno_of(lent.rxsync) == "EIO", "the program hears nothing", 20)
        running.wait_until_nobody_has_handles()
        with running.client() as client:
            client.register("ix1")
            client.send([b"\xff" * 60])
            assert client.receive_until(1) == [b"\xff" * 60]
        assert "mistake" not in running.end()


def test_memory_of_a_port_is_unmapped_with_its_last_handle(tmp_path: Path) -> None:
    def mapped() -> int:
        return Path(f"/proc/{running.process.pid}/maps").read_text().count("netmap-region")

    few = {"nr_tx_slots": 64, "nr_rx_slots": 64}
    with daemon(tmp_path, "ix0=emulated", "--slots", "64") as running:
        before = mapped()
        for _ in range(2):
            with (
                running.client() as first,
                running.client() as pipe,
                running.client() as lent,
                running.client() as sees,
            ):
                number = first.register("vale0:x", nr_tx_rings=8, nr_rx_rings=8, **few).nr_mem_id
                pipe.register("p{1", nr_mem_id=number, **few)
                lent.register("ix0", nr_mem_id=number)
                sees.register("vale0:x", flags=Flag.MONITOR_RX)
                assert mapped() == before + 2
            wait_for(lambda: mapped() == before, "the daemon keeps memory that nobody has", 10)


def test_the_error_of_a_refused_call_keeps_no_frame_and_so_no_memory() -> None:
    """An idle daemon never collects garbage, and frames refer to each other in circles."""
    with Daemon(Settings({"ix0": "emulated"}, memory_mb=32, host=False)) as served:
        opener = Opener(served, Peer(os.getpid(), os.geteuid(), frozenset()))
        for request in (b"short", pack(call_of(Request.REGISTER, "none", Register()))):
            refused = answer(opener, request).refused
            assert refused is not None and refused.__traceback__ is None
