"""A program survives whatever answers at the daemon's socket: each wrong answer is an error with a sentence."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from ixrings import ERRORS, PortError, open_port
from ixrings.driver.daemon import abi, ask, protocol
from ixrings.driver.daemon.abi import Register, Request
from ixrings.driver.daemon.protocol import Kind, Message
from ixrings.driver.netmap_port import LONGEST_SPIN_NS
from ixrings.rings import Region
from ixrings.rings.errors import LibraryError
from ixrings.rings.service import Handle
from tests.support.netmap_client import call_of

Answer = Callable[["WrongDaemon", Message], Message | bytes]


class WrongDaemon:
    """Memory and control pages as a daemon has them. answer: what each message gets; b"" for nothing at all."""

    answer: Answer

    def __init__(self, path: str) -> None:
        self.path = path
        self.region = Region(buffers=200, metadata=1 << 16)
        self.made = self.region.register("vale0:a", tx_slots=[64], rx_slots=[64])
        self.handle = Handle([], [])
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(path)
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(sock,)))
                self._threads[-1].start()

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            while (got := protocol.receive(sock))[0]:
                with socket.socket(fileno=got[1][0]) as reply_to, suppress(OSError):
                    told = self.answer(self, protocol.unpack(got[0]))
                    data, fds = (told, []) if isinstance(told, bytes) else (told.pack(), list(told.fds))
                    if data:
                        socket.send_fds(reply_to, [data], fds)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()
        self.handle.close()
        self.made.close()
        self.region.close()

    def registered(self, **changes: Any) -> Message:
        """A good answer to REGISTER, but for `changes`."""
        body = Register(nr_mode=1, nr_offset=changes.pop("offset", self.made.offset), nr_mem_id=1)
        fds = [self.region.fd, *self.handle.descriptors]
        for place, fd in changes.pop("replaced", {}).items():
            fds[place] = fd
        given: dict[str, Any] = {"fds": fds, "value": 1000} | changes
        return Message(Kind.CTRL, abi.pack(call_of(Request.REGISTER, "vale0:a", body)), **given)


@pytest.fixture(scope="module")
def one_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WrongDaemon]:
    with closing(WrongDaemon(str(tmp_path_factory.mktemp("wrong") / "s"))) as wrong:
        yield wrong


@pytest.fixture
def wrong(one_for_all: WrongDaemon, monkeypatch: pytest.MonkeyPatch) -> WrongDaemon:
    monkeypatch.setenv("IXRINGS_SOCKET", one_for_all.path)
    return one_for_all


@contextmanager
def unsealed(size: int) -> Iterator[int]:
    fd = os.memfd_create("short", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    "answer",
    [
        lambda wrong, message: b"",
        lambda wrong, message: b"short",
        lambda wrong, message: Message(Kind.CTRL),
        lambda wrong, message: Message(Kind.CTRL, bytes(100)),
        lambda wrong, message: Message(Kind.CTRL, b"\xff" * 144, error=-5, value=1 << 63),
        lambda wrong, message: wrong.registered(error=11),
        lambda wrong, message: Message(Kind.CTRL, wrong.registered().payload, fds=[wrong.region.fd] * 40),
        lambda wrong, message: wrong.registered(offset=(1 << 64) - 8),
        lambda wrong, message: wrong.registered(offset=wrong.region.size - 4),
        lambda wrong, message: wrong.registered(replaced=dict.fromkeys(range(6), wrong.handle.kick)),
    ],
)
def test_a_wrong_answer_to_a_registration_is_an_error(wrong: WrongDaemon, answer: Answer) -> None:
    wrong.answer = answer
    with pytest.raises(ERRORS, match="netmap:vale0:a"):
        open_port("netmap:vale0:a")


@pytest.mark.parametrize("place", [0, 1, 2])
def test_memory_that_another_process_can_make_shorter_is_refused(wrong: WrongDaemon, place: int) -> None:
    with unsealed(1 << 20) as fd:
        wrong.answer = lambda wrong, message: wrong.registered(replaced={place: fd})
        with pytest.raises(PortError, match="cannot be mapped: another process can make its memory shorter"):
            open_port("netmap:vale0:a")


@pytest.mark.parametrize(
    "payload", [b"[", b"[]", b"7", b'"x"', b"[" * 9000, b'{"result": "big"}', b'{"result": [1]}', b"\xff"]
)
def test_a_wrong_answer_about_the_nic_is_an_error(wrong: WrongDaemon, payload: bytes) -> None:
    wrong.answer = lambda wrong, message: (
        Message(Kind.OWNER, payload) if message.kind == Kind.OWNER else wrong.registered()
    )
    with pytest.raises(PortError, match="netmap:ix0: the answer .* is not understood: "):
        open_port("netmap:ix0")


def test_an_unknown_rule_and_a_long_spin_are_not_believed(wrong: WrongDaemon) -> None:
    wrong.answer = lambda wrong, message: wrong.registered(value=(1 << 64) - 1)
    with open_port("netmap:vale0:a") as port:
        assert port._session.client._states[0].spin_ns == LONGEST_SPIN_NS  # type: ignore[union-attr]
        wrong.handle.answers.tx.done = 1 << 20
        port.txsync()
        wrong.handle.answers.tx.rule = 999
        wrong.handle.answers.tx.violations = 1
        with pytest.raises(LibraryError, match="reports rule 999, which this program does not know"):
            port.txsync()


@pytest.mark.slow
def test_a_daemon_that_accepts_nothing_does_not_hold_a_program_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "s")
    monkeypatch.setenv("IXRINGS_SOCKET", path)
    monkeypatch.setattr(ask, "PATIENCE_S", 1.0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen(0)
        with ask.connect(path) as sock:
            with pytest.raises(PortError, match="accepts no connection; it is stopped or overloaded"):
                open_port("netmap:ix0")
            with suppress(BlockingIOError):
                while True:
                    sock.send(bytes(4096), socket.MSG_DONTWAIT)
            with pytest.raises(TimeoutError, match="takes no further message"):
                ask.ask(sock, Message(Kind.STATUS))
