"""The thread that runs the service (rings/service.c), sleeps when there is nothing to do, and makes all changes between
two runs. So C and the daemon's structures need no lock."""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import Protocol, TypeVar

from ixrings.rings.service import Handle, Reason, Service, Task

T = TypeVar("T")


class Sleeper(Protocol):
    """What can end the daemon's sleep besides a program: a NIC's vectors, a TAP."""

    def descriptors(self) -> Iterable[int]:
        """Readable when there is work. Always the same ones."""

    def arm(self) -> None:
        """Before a sleep: make the descriptors readable when something comes."""

    def drain(self) -> None:
        """After a sleep: take the messages that came. The service looks at the rings next."""

    def react(self) -> None:
        """After drain(): make the changes that a message asks for."""

    def look_after(self) -> None:
        """Once a second, and when C asks for it: check the device, read its counters. A device that is gone sends no
        interrupt."""


class Ended(RuntimeError):
    """The service thread has ended by an error."""


class Loop:
    """on_violation: called in the thread when a ring broke a rule. A sleeper that raises is dropped after
    `on_error(sleeper, error)`."""

    def __init__(
        self,
        service: Service,
        on_violation: Callable[[], None],
        on_error: Callable[[Sleeper, Exception], None],
    ) -> None:
        self._service = service
        self._on_violation, self._on_error = on_violation, on_error
        self._asked: deque[tuple[Callable[[], object], Future[object]]] = deque()
        self._command = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll = select.epoll()
        self._epoll.register(self._command, select.EPOLLIN)
        self._epoll.register(service.kicks, select.EPOLLIN)
        self._sleepers: list[Sleeper] = []
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="service", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def call(self, function: Callable[[], T]) -> T:
        """Run `function` in the thread, between two runs of the service. Returns or raises what it does, or Ended."""
        if threading.current_thread() is self._thread:
            return function()
        future: Future[T] = Future()
        self._asked.append((function, future))  # type: ignore[arg-type]  # a Future of anything
        self._service.stop()
        os.eventfd_write(self._command, 1)
        try:
            while True:
                try:
                    return future.result(1.0)
                except TimeoutError:
                    if not self._thread.is_alive() and not future.done():
                        raise Ended("the service thread has ended") from None
        finally:
            del future  # its error's frames would keep it, and with it all that the request has found

    def close(self) -> None:
        """End the thread."""
        if self._thread.is_alive():
            self.call(self._end)
            self._thread.join()
        self._epoll.close()
        os.close(self._command)

    def _end(self) -> None:
        self._ended = True

    # ---- in the thread ----

    def watch(self, sleeper: Sleeper) -> None:
        """Let `sleeper` end sleeps from now on."""
        self._sleepers.append(sleeper)
        for fd in sleeper.descriptors():
            self._epoll.register(fd, select.EPOLLIN)

    def forget(self, sleeper: Sleeper) -> None:
        """Undo watch()."""
        self._sleepers.remove(sleeper)
        for fd in sleeper.descriptors():
            with suppress(OSError, ValueError):
                self._epoll.unregister(fd)

    def look_after(self) -> None:
        """Look after all sleepers."""
        self._each(lambda sleeper: sleeper.look_after())

    def serve(self, handles: Sequence[Handle], tasks: Sequence[Task]) -> None:
        """Serve these handles and do these tasks from now on."""
        self._service.set(handles, tasks)

    def _run(self) -> None:
        while not self._ended:
            reason = self._service.run()
            if reason == Reason.SLEEP:
                self._sleep()
            elif reason == Reason.ATTENTION:
                self.look_after()
            elif reason == Reason.VIOLATION:
                self._on_violation()
            while self._asked:
                carry_out(*self._asked.popleft())

    def _sleep(self) -> None:
        """Sleep until a program, a NIC or a command comes.

        Messages are drained before the service looks at the rings, and vectors are armed after it: a cause that comes
        in between stays set, and sends its message when its vector is armed.
        """
        self._each(lambda sleeper: sleeper.arm())
        if self._asked or self._service.ready():
            return
        came = {fd for fd, _ in self._epoll.poll()}
        if self._command in came:
            with suppress(BlockingIOError):
                os.eventfd_read(self._command)
        if came - {self._service.kicks, self._command}:
            self._each(lambda sleeper: sleeper.drain())
            self._each(lambda sleeper: sleeper.react())

    def _each(self, do: Callable[[Sleeper], None]) -> None:
        for sleeper in list(self._sleepers):
            try:
                do(sleeper)
            except Exception as error:
                self.forget(sleeper)
                self._on_error(sleeper, error)


def carry_out(function: Callable[[], object], future: Future[object]) -> None:
    try:
        future.set_result(function())
    except BaseException as error:
        future.set_exception(error)
    finally:
        del function, future  # as in Loop.call()
