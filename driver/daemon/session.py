"""One connection as the daemon sees it: its messages, and their replies."""

from __future__ import annotations

import errno
import json
import time

from ..errors import ERRORS
from . import interface, owner, requests
from .abi import Request
from .errors import NothingToWatch, Refused
from .loop import Ended
from .opener import Opener
from .protocol import Kind, Message
from .status import status_text

MOST_WITH_TEXT = 4096  # bytes of a reply with a sentence: as netmap's longest request, which programs have room for

SENT_S = 0.010  # a full ring of 1024 frames of 1500 bytes takes 1.3 ms at line rate
LOOK_S = 0.0005


class Session(Opener):
    """A connection. All its work is done in the loop's thread."""

    def answer(self, message: Message) -> Message:
        """The reply to a message; the daemon's log gets a sentence for each refusal."""
        try:
            return self.world.spare.kept_ready(lambda: self.world.loop.call(lambda: self._act(message)))
        except Refused as refused:
            if message.kind != Kind.INTERFACE:  # most of those are questions about the kernel's own interfaces
                self._log(refused)
            return Message(message.kind, error=refused.number)
        except (*ERRORS, OSError) as error:
            self._log(error)
            return Message(message.kind, error=errno.EIO)
        except Ended:
            raise
        except Exception as error:
            self._log(mistake(error))
            return Message(message.kind, error=errno.EIO)

    def _log(self, error: Exception) -> None:
        """A monitor tries again until there is something to watch: that is said once."""
        peer = self.peer
        self.world.log(f"{peer}: {error}", peer.pid, peer.uid, once=isinstance(error, NothingToWatch))

    def close(self) -> None:
        """The connection has ended. Frames that the NIC has are sent first; other programs are served meanwhile."""
        call = self.world.loop.call
        try:
            call(self.leave)
            end = time.monotonic() + SENT_S
            while call(self.has_unsent) and time.monotonic() < end:
                time.sleep(LOOK_S)
            call(self.unbind)
            self.world.spare.close()
        except Ended:
            raise
        except (*ERRORS, Refused, OSError) as error:
            self._log(error)
        except Exception as error:
            self._log(mistake(error))

    def _act(self, message: Message) -> Message:
        with self.world.memories.acts(self.peer.uid):
            return self._answer(message)

    def _answer(self, message: Message) -> Message:
        match message.kind:
            case Kind.CTRL:
                return self._control(message.payload)
            case Kind.ATTACH:
                return self._attached(Kind.ATTACH)
            case Kind.INTERFACE:
                filled = interface.answer(self, message.value, message.payload)
                return Message(Kind.INTERFACE, filled, value=message.value)
            case Kind.STATUS:
                return Message(Kind.STATUS, status_text(self.world))
            case Kind.VIOLATION:
                error = self.bound.last_error if self.bound is not None else None
                told = {} if error is None else {"ring": error.ring, "rule": error.rule.name, **error.values}
                return Message(Kind.VIOLATION, json.dumps(told).encode())
            case Kind.OWNER:
                return self._owner(message.payload)
        raise Refused(errno.EINVAL, f"a message of kind {message.kind} is not known")

    def _control(self, payload: bytes) -> Message:
        done = requests.answer(self, payload)
        if done.refused is not None:
            self._log(done.refused)
            text = done.refused.sentence.encode()[: max(0, MOST_WITH_TEXT - len(done.reply))]
            return Message(Kind.CTRL, done.reply + text, done.refused.number, value=len(done.reply))
        if done.kind == Request.REGISTER:
            return self._attached(Kind.CTRL, done.reply)
        return Message(Kind.CTRL, done.reply)

    def _attached(self, kind: Kind, payload: bytes | None = None) -> Message:
        """The handle's descriptors. payload: default: the registration."""
        if self.bound is None or self.bound.gone:
            return Message(kind, error=errno.ENXIO)
        payload = bytes(self.bound.body) if payload is None else payload
        return Message(kind, payload, value=self.world.spin_ns, fds=self.bound.descriptors)

    def _owner(self, payload: bytes) -> Message:
        try:
            return Message(Kind.OWNER, json.dumps({"result": owner.carry_out(self, payload)}).encode())
        except Refused as refused:
            told = {"error": str(refused), "kind": "PortError"}
            return Message(Kind.OWNER, json.dumps(told).encode(), error=refused.number)
        except (*ERRORS, ValueError, TypeError) as error:
            told = {"error": str(error), "kind": type(error).__name__}
            return Message(Kind.OWNER, json.dumps(told).encode(), error=errno.EINVAL)


def mistake(error: Exception) -> Exception:
    """What to log of an error in the daemon's own code, which must not end the daemon for all programs."""
    return RuntimeError(f"{error!r} is a mistake in the daemon; please report it")
