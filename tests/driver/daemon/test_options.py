"""Options of a registration that come as bytes of any kind: EXTMEM and OFFSETS, without the library's checks."""

from __future__ import annotations

import os
import random

import pytest

from ixrings.driver.daemon import abi
from ixrings.driver.daemon.abi import Flag, Mode, PoolsInfo, Register, Request
from ixrings.driver.daemon.external import ExternalOption
from ixrings.driver.daemon.offsets import OffsetsOption
from ixrings.driver.daemon.protocol import close_all
from tests.support.netmap_client import NetmapClient, RunningDaemon, call_of, errno_of

NUMBERS = (0, 1, 2, 7, 63, 64, 100, 1024, 2047, 2048, 4096, 65535, 2**20, 2**31, 2**32 - 1)
LARGER = (*NUMBERS, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
PORTS = ("ix0", "ix0/x", "ix1", "vale3:a", "vale3:b", "opt{1", "opt}1", "ix0{2", "")


def option_of(kind: int, rest: bytes) -> abi.Option:
    return abi.Option(abi.OptionHeader(nro_reqtype=kind, nro_size=24 + len(rest)), rest)


def offsets(numbers: random.Random) -> bytes:
    return bytes(
        OffsetsOption(
            nro_max_offset=numbers.choice(LARGER),
            nro_initial_offset=numbers.choice(LARGER),
            nro_offset_bits=numbers.choice(NUMBERS),
            nro_min_gap=numbers.choice(LARGER),
        )
    )


def external(numbers: random.Random) -> bytes:
    pools = {f"nr_{pool}_pool_{what}": numbers.choice(NUMBERS) for pool in ("if", "ring", "buf") for what in
             ("objtotal", "objsize")}  # fmt: skip
    if numbers.random() < 0.5:
        pools = {"nr_ring_pool_objtotal": 40, "nr_buf_pool_objtotal": numbers.choice((3, 200, 5000))}
    inode = os.stat(f"/proc/self/fd/{numbers.choice((0, 1, 2))}").st_ino
    return bytes(ExternalOption(numbers.choice((0, inode, 2**64 - 1)), PoolsInfo(numbers.choice(LARGER), **pools)))


def test_options_of_any_kind_are_answered_and_leave_nothing(running: RunningDaemon) -> None:
    ask_at_random(running, 7, 60)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_many_options_of_any_kind_leave_nothing(running: RunningDaemon, seed: int) -> None:
    ask_at_random(running, seed, 400)


def ask_at_random(running: RunningDaemon, seed: int, times: int) -> None:
    numbers = random.Random(seed)
    answers: dict[str, int] = {}
    for _ in range(times):
        with running.client() as client:
            options = [option_of(abi.OFFSETS, offsets(numbers)), option_of(abi.EXTMEM, external(numbers))]
            numbers.shuffle(options)
            body = Register(
                nr_mode=numbers.choice((Mode.ALL_NIC, Mode.ONE_NIC, Mode.NULL)),
                nr_flags=numbers.choice((0, 0, Flag.RX_RINGS_ONLY, Flag.MONITOR_RX)),
                nr_extra_bufs=numbers.choice((0, 5)),
                nr_mem_id=numbers.choice((0, 1, 2, 65535)),
            )
            call = call_of(Request.REGISTER, numbers.choice(PORTS), body, options[: numbers.choice((1, 2))])
            found = errno_of(lambda client=client, call=call: close_all(client.ctrl(call)[1]))
            answers[found] = answers.get(found, 0) + 1
    assert answers.keys() <= {"", "EINVAL", "ENOMEM", "ENXIO", "EBUSY", "EOPNOTSUPP", "EIO"} and answers["EINVAL"]
    running.wait_until_nobody_has_buffers()
    assert_serves(running)


def assert_serves(running: RunningDaemon) -> None:
    running.wait_until_nobody_has_handles()
    with running.client() as client:
        client.register("ix0")
        client.send([b"\xff" * 60])
        assert client.receive_until(1) == [b"\xff" * 60]


def opened_in_memory_of_its_own(client: NetmapClient, name: str) -> int:
    """Returns nr_mem_id."""
    info = PoolsInfo(16 << 20, nr_ring_pool_objtotal=40)
    call = call_of(Request.REGISTER, name, Register(nr_mode=Mode.ALL_NIC), [
        option_of(abi.EXTMEM, bytes(ExternalOption(0, info)))
    ])  # fmt: skip
    done, fds = client.ctrl(call)
    close_all(fds)
    assert isinstance(done.body, Register) and done.options[0].header.nro_status == 0
    return done.body.nr_mem_id


def test_external_memory_goes_with_its_last_port(running: RunningDaemon) -> None:
    with running.client() as client:
        number = opened_in_memory_of_its_own(client, "ix0")
        with running.client() as other:
            assert other.register("vale3:a", nr_mem_id=number, nr_tx_slots=64, nr_rx_slots=64).nr_mem_id == number
        with running.client() as other:
            assert other.register("ix0").nr_mem_id == number  # as in netmap, the NIC stays there
        with running.client() as pipe:
            assert pipe.register("ix0{1", nr_tx_slots=64, nr_rx_slots=64).nr_mem_id == number
    running.wait_until_nobody_has_handles()
    with running.client() as client:
        assert errno_of(client.register, "ix1", nr_mem_id=number) == "EINVAL"
        assert client.register("ix0", nr_mem_id=1).nr_mem_id == 1
