"""Queues of a port in other processes: counted, taken over from killed workers, refused where they must be."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import textwrap
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from ixrings import Port, PortClosed, PortError, PortTimeout, Share, open_port
from ixrings.driver.lease import CHANNEL, take_token
from ixrings.hw.errors import DeviceError
from ixrings.rings import RegionError
from tests.support.programs import ENVIRONMENT, wait_for
from tests.support.queue_worker import has_opened, last_words, worker

PATIENCE_S = 30
FLOWS = 32


def udp(flow: int) -> bytes:
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, 17, 0, bytes([10, 0, 0, flow]), bytes([10, 0, 1, flow]))
    header = bytes.fromhex("ffffffffffff0200000000010800")
    return (header + ip + struct.pack("!HHHH", 1000 + flow, 9, 8, 0)).ljust(60, b"\0")


FRAMES = [udp(flow) for flow in range(FLOWS)]


def of_queue(port: Port, queue: int) -> list[bytes]:
    """Those of FRAMES that RSS gives to `queue` of the port, which has a looped cable."""
    found: list[bytes] = []
    for frame in FRAMES:
        port.send([frame])
        port.flush(PATIENCE_S)
        assert port.poll(PATIENCE_S)
        ring = next(ring for ring in port.rx_rings if ring.space)
        ring.advance(ring.space)
        found += [frame] if ring.ringid == queue else []
    assert found
    return found


def buffers_of(port: Port) -> list[int]:
    return [index for ring in (*port.tx_rings, *port.rx_rings) for index in ring.slots["buf_idx"].tolist()]


def received(share: Share, count: int) -> None:
    wait_for(lambda: share.rx_packets >= count, f"the worker has not received {count} frames", PATIENCE_S)


def test_a_worker_syncs_its_queue_and_the_port_all_others() -> None:
    with open_port("emulated:loop", tx_queues=2, rx_queues=2) as port:
        mine, theirs = of_queue(port, 0), of_queue(port, 1)
        share = port.share(1)
        with worker(share, "hold") as process:
            has_opened(process)
            for _ in range(30):
                port.send(mine + theirs)
                port.flush(PATIENCE_S)
            received(share, 30 * len(theirs))
            assert len([frame for _, frame in zip(range(30 * len(mine)), port.recv(30))]) == 30 * len(mine)
            assert not port.poll(0.01)  # it sleeps: armed are the vectors of queue 0, not of queue 1
            assert port.nic.EIMS_EX[0].read() & 0b11 == 0b01
            with pytest.raises(PortError, match=f"queue 1 of emulated:loop is shared with process {process.pid}"):
                port.queue(1)
            with pytest.raises(RegionError, match="queue 1 of emulated:loop is shared"):
                port.rx_rings[1].reserve(1)
            assert share.reclaim() == 0
            assert "queue 1 of emulated:loop was taken back" in last_words(process)
        port.send(theirs)  # the worker left its frames in the ring, and the port goes on there
        assert len([frame for _, frame in zip(range(31 * len(theirs)), port.recv(30))]) == 31 * len(theirs)
        stats = port.stats()
        assert [queue["QPRC"] for queue in stats.rx[:2]] == [32 * len(mine), 33 * len(theirs)]


@pytest.mark.parametrize("kills", [1, pytest.param(30, marks=pytest.mark.slow)])
def test_a_worker_killed_in_mid_sync_leaves_its_queue_to_be_taken_over(kills: int) -> None:
    with open_port("emulated:loop", tx_queues=2, rx_queues=2, tx_slots=64, rx_slots=64) as port:
        theirs = of_queue(port, 1)
        before = sorted(buffers_of(port))
        for _ in range(kills):
            share = port.share(1)
            with worker(share, "forward") as process:
                has_opened(process)
                port.send(theirs)  # they go round for ever
                received(share, 1000)
                process.send_signal(signal.SIGKILL)
                assert share.wait(PATIENCE_S)
            # As if it was killed between the two halves of an exchange: one buffer in two slots, one in none.
            port.tx_rings[1].slots["buf_idx"][5] = port.rx_rings[1].slots["buf_idx"][3]
            assert 0 <= share.reclaim() <= 128
            assert sorted(buffers_of(port)) == before
            for _ in port.recv(0.05):  # frames that were on the way
                pass
            port.send(theirs * 3, ring=1)
            assert sorted(frame for _, frame in zip(range(3 * len(theirs)), port.recv(30))) == sorted(theirs * 3)


def test_a_queue_whose_buffers_a_killed_worker_kept_stays_out_of_use() -> None:
    with open_port("emulated:loop", tx_queues=2, rx_queues=2, tx_slots=64, rx_slots=64, extra_bufs=4) as port:
        mine, share = of_queue(port, 0), port.share(1)
        with worker(share, "hold") as process:
            has_opened(process)
            process.kill()
            assert share.wait(PATIENCE_S)
        # As if it had given three buffers to the other queue, and kept those that it got for them.
        port.rx_rings[0].slots["buf_idx"][60:63] = port.tx_rings[1].slots["buf_idx"][:3]
        port.tx_rings[1].slots["buf_idx"][:3] = 0
        for again in (share.reclaim, share.reclaim, lambda: port.queue(1)):
            with pytest.raises(PortError, match="TX ring 1 and its other direction lack 3 buffers"):
                again()
        with pytest.raises(RegionError, match="queue 1 of emulated:loop is shared"):
            port.rx_rings[1].reserve(1)
        port.send(mine)
        assert len([frame for _, frame in zip(mine, port.recv(30))]) == len(mine)


def test_a_handle_opens_once_and_only_elsewhere() -> None:
    with open_port("emulated:loop", tx_queues=2, rx_queues=2) as port:
        share = port.share(1)
        with pytest.raises(PortError, match=r"shared by this process.*use port.queue\(1\) here"):
            share.open()
        with pytest.raises(PortError, match="queue 1 of emulated:loop is shared"):
            port.share(1)
        with pytest.raises(PortError, match="has no queue 2; it has 0, 1"):
            port.share(2)
        with worker(share, "hold") as first, worker(share, "hold") as second:
            one, other = (process.stdout.readline() for process in (first, second) if process.stdout)
            assert {one, other} > {"open\n"}
            opener, refused = (first, other) if one == "open\n" else (second, one)
            assert f"process {opener.pid} already" in refused or "open in another process already" in refused
            assert share.opened and share.worker == opener.pid


def test_a_process_that_has_just_taken_the_token_is_not_called_process_0() -> None:
    with open_port("emulated:loop", tx_queues=2, rx_queues=2) as port:
        share = port.share(1)
        assert take_token(share._fds[CHANNEL])
        with worker(share, "hold") as late:
            assert "queue 1 of emulated:loop is open in another process already" in last_words(late)


def test_a_traced_port_says_why_it_shares_no_queue(tmp_path: Path) -> None:
    with open_port("emulated:loop", trace=tmp_path / "trace") as port:
        with pytest.raises(DeviceError, match="is traced.* Open the port without trace"):
            port.share(0)
        assert port.queue(0).poll(0) == 0


def test_a_handle_that_nobody_opened_comes_back_at_once() -> None:
    with open_port("emulated:loop", tx_queues=2, rx_queues=2) as port:
        theirs = of_queue(port, 1)
        share = port.share(1)
        assert not share.wait(0)
        assert share.reclaim() == share.reclaim() == 0
        port.queue(1)
        port.send(theirs)
        assert len([frame for _, frame in zip(theirs, port.recv(30))]) == len(theirs)


def test_a_queue_that_is_shared_again_and_again_holds_no_more_descriptors() -> None:
    with open_port("emulated:loop", tx_queues=2, rx_queues=2) as port:
        counts = []
        for _ in range(10):
            port.queue(1).poll(0.001)  # a sleep: it makes the queue's wake-ups
            assert port.share(1).reclaim() == 0
            counts.append(len(os.listdir("/proc/self/fd")))
        assert counts[0] == counts[-1]


@pytest.mark.slow
def test_a_worker_gives_its_queue_back_and_another_goes_on_there() -> None:
    with open_port("emulated:loop", tx_queues=2, rx_queues=2, rx_slots=64) as port:
        theirs = of_queue(port, 1)
        for _ in range(2):
            share = port.share(1)
            with worker(share, "count") as process:
                has_opened(process)
                before = share.rx_packets
                for turn in range(1, 11):
                    port.send(theirs)
                    port.flush(PATIENCE_S)
                    received(share, before + turn * len(theirs))
                assert last_words(process) == "done"
                assert share.wait(PATIENCE_S)
            port.queue(1)  # takes the queue back by itself
            assert share.reclaim() == 0
        assert port.stats().rx[1]["QPRC"] == 21 * len(theirs)


def test_the_owner_closes_first_and_the_worker_ends() -> None:
    with open_port("emulated:loop", tx_queues=2, rx_queues=2) as port, worker(port.share(1), "hold") as process:
        has_opened(process)
        port.close()
        assert (
            last_words(process) == "PortClosed: queue 1 of emulated:loop was taken back by the process that opened it"
        )


OWNER = """
    import sys, time
    from ixrings import open_port
    from tests.support.queue_worker import worker
    with open_port("emulated:loop", tx_queues=2, rx_queues=2) as port:
        with worker(port.share(1), sys.argv[1], stdout=None):
            time.sleep(30)
"""


@pytest.mark.parametrize("work", ["hold", pytest.param("forward", marks=pytest.mark.slow)])
def test_the_owner_is_killed_and_the_worker_ends(work: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(OWNER), work], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None and owner.stdout.readline() == "open\n"
        owner.kill()
        said = json.loads(owner.stdout.readline())
        assert said == f"PortClosed: the process {owner.pid} that opened emulated:loop has ended, and its port with it"


@pytest.mark.slow
def test_a_worker_that_does_not_answer_keeps_close_waiting_for_seconds_only() -> None:
    port = open_port("emulated:loop", tx_queues=2, rx_queues=2)
    share = port.share(1)
    with worker(share, "forward") as process:
        has_opened(process)
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(PortTimeout, match=f"process {process.pid} has not given it back within 0.1 s"):
            share.reclaim(0.1)
        with pytest.warns(RuntimeWarning, match=f"process {process.pid} still has queue 1 of emulated:loop"):
            port.close()
        process.send_signal(signal.SIGCONT)
        assert "was taken back" in last_words(process)


@pytest.mark.slow
def test_a_port_that_is_closed_while_another_thread_takes_a_queue_back_says_so_there() -> None:
    port = open_port("emulated:loop", tx_queues=2, rx_queues=2)
    share = port.share(1)
    with worker(share, "forward") as process, ThreadPoolExecutor() as threads:
        has_opened(process)
        process.send_signal(signal.SIGSTOP)
        calls: list[Future[int] | Future[bool]] = [
            threads.submit(share.reclaim, PATIENCE_S),
            threads.submit(share.wait, PATIENCE_S),
        ]
        with pytest.warns(RuntimeWarning, match="still has queue 1"):
            port.close()
        for call in calls:
            with pytest.raises(PortClosed, match="port emulated:loop is closed"):
                call.result(PATIENCE_S)
    assert share.reclaim() == 0


@pytest.mark.slow
def test_a_forked_child_of_the_owner_does_not_keep_a_worker_alive() -> None:
    with open_port("emulated:loop", tx_queues=2, rx_queues=2) as port, worker(port.share(1), "hold") as process:
        has_opened(process)
        read, write = os.pipe()
        child = os.fork()
        if not child:
            os.close(write)
            os.read(read, 1)  # until the parent ends it
            os._exit(0)
        os.close(read)
        port.close()
        assert "was taken back" in last_words(process)
        os.close(write)
        os.waitpid(child, 0)


def test_a_forked_child_is_told_how_to_pass_a_handle() -> None:
    with open_port("emulated:loop", tx_queues=2, rx_queues=2) as port:
        share = port.share(1)
        child = os.fork()
        if not child:
            try:
                share.open()
            except PortError as error:
                os._exit(0 if "belongs to the parent process" in str(error) and '"spawn"' in str(error) else 1)
            os._exit(2)
        assert os.waitpid(child, 0)[1] == 0


WORKERS = """
    import multiprocessing, sys
    from ixrings import PortClosed, open_port
    from tests.driver.test_share import FRAMES

    def work(handle):
        with handle.open() as queue:
            while True:
                queue.poll(10)
                queue.rx_ring.advance(queue.rx_ring.space)

    def quietly(handle):
        try:
            work(handle)
        except PortClosed:
            pass

    if __name__ == "__main__":
        with open_port("emulated:loop", tx_queues=3, rx_queues=3, rx_slots=4096) as port:  # a late worker loses none
            shares = [port.share(1), port.share(2)]
            workers = [
                multiprocessing.get_context(method).Process(target=quietly, args=(share,))
                for method, share in zip(("spawn", "forkserver"), shares)
            ]
            for worker in workers:
                worker.start()
            while not all(share.opened for share in shares):
                shares[0].wait(0.01)
            own = 0
            for _ in range(100):
                port.send(FRAMES)
                port.flush()
                port.rxsync()
                own += port.rx_rings[0].space
                port.rx_rings[0].advance(port.rx_rings[0].space)
            while own + sum(share.rx_packets for share in shares) < 100 * len(FRAMES):
                port.poll(0.01)
                own += port.rx_rings[0].space
                port.rx_rings[0].advance(port.rx_rings[0].space)
            counts = [own, *(share.rx_packets for share in shares)]
            assert [share.reclaim() for share in shares] == [0, 0]
            for worker in workers:
                worker.join(30)
            print(sum(counts), min(counts) > 0, [each["QPRC"] for each in port.stats().rx] == counts)
"""


@pytest.mark.slow
def test_processes_of_multiprocessing_count_their_queues(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(WORKERS))
    done = subprocess.run([sys.executable, str(program)], env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("3200 True True\n", "")
