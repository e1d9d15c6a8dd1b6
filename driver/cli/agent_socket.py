"""Commands to the PF agent of a running `ixrings emulate --vf N --socket DIR`, by the socket DIR/agent.sock.

The messages are the daemon's (driver/daemon/protocol.py), of the kind AGENT. A request is JSON {"call": ...,
"arguments": {...}}, and its answer {"result": ...} or {"error": ...}. Each call is done whole or not at all, whatever
its sender does.
"""

from __future__ import annotations

import errno
import json
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from ixrings.hw.errors import DeviceError
from ixrings.hw.pf.words import CODES

from ..config import unicast_mac
from ..daemon.ask import PATIENCE_S, Denied, ask, connect
from ..daemon.log import Log
from ..daemon.place import Place
from ..daemon.policy import Peer, Policy
from ..daemon.protocol import Kind, Message, close_all
from ..daemon.server import Server

if TYPE_CHECKING:
    from ixrings.hw.emulator import PfAgent

NAME = "agent.sock"
MOST = 16  # connections at a time
API = {str(version): code for version, code in CODES.items()}
NO_MAC = "00:00:00:00:00:00"
SETTINGS = {  # of set_vf, with the type that JSON gives them
    "mac": str,
    "vlan": int,
    "qos": int,
    "trust": bool,
    "spoofchk": bool,
    "state": str,
    "rate": int,
    "min_rate": int,
    "query_rss": bool,
}


class AgentSocket:
    """Carries out commands of this user, and of root, in a thread of its own. A context manager. Raises ServerError."""

    def __init__(self, folder: Path, agent: PfAgent) -> None:
        self._agent, self._log = agent, Log("ixrings emulate")
        self.path = str(folder / NAME)
        self._policy = Policy(mode=0o600)
        with ExitStack() as undo:
            place = undo.enter_context(Place(self.path, self._policy))
            server = Server(place.listener, self._admit, self._log, self._log.tick, MOST, self._policy.most)
            undo.callback(server.close)
            thread = Thread(target=server.serve, name="agent.sock", daemon=True)
            thread.start()
            undo.callback(thread.join)
            undo.callback(server.stop)
            self._undo = undo.pop_all()

    def close(self) -> None:
        self._undo.close()

    def __enter__(self) -> AgentSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _admit(self, peer: Peer) -> Commands:
        self._policy.check_connection(peer)
        return Commands(self._agent, peer, self._log)


class Commands:
    """One connection."""

    def __init__(self, agent: PfAgent, peer: Peer, log: Log) -> None:
        self._agent, self._peer, self._log = agent, peer, log

    def answer(self, message: Message) -> Message:
        try:
            if message.kind != Kind.AGENT:
                raise ValueError(f"a message of kind {message.kind} is not for the PF agent of ixrings emulate")
            told = {"result": carry_out(self._agent, message.payload)}
            return Message(Kind.AGENT, json.dumps(told).encode())
        except (ValueError, DeviceError) as error:
            text = str(error)
        except Exception as error:  # a mistake here must not end the emulator for its clients
            text = f"{error!r} is a mistake in ixrings emulate; please report it"
            self._log(text, self._peer.pid, self._peer.uid)
        return Message(message.kind, json.dumps({"error": text}).encode(), errno.EINVAL)

    def close(self) -> None:
        """Nothing is kept for a connection."""


def carry_out(agent: PfAgent, payload: bytes) -> object:
    """The result of a command. Raises ValueError, DeviceError."""
    from ixrings.hw.emulator import parse_fault

    try:
        asked = json.loads(payload)
        call, arguments = asked["call"], asked.get("arguments", {})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError('a command is JSON {"call": ..., "arguments": {...}}') from None
    match call, arguments:
        case "status", {}:
            return agent.status()
        case "set_vf", {"vf": int(number), **settings} if type(number) is int:
            agent.set_vf(number, **checked_settings(settings))
        case "up" | "down" | "reset", {}:
            getattr(agent, call)()
        case "mtu", {"mtu": int(mtu)}:
            agent.mtu(mtu)
        case "replace", {"kind": str(kind), "api": None | str() as api} if api is None or api in API:
            agent.replace(kind, None if api is None else API[api])
        case "inject", {"fault": str(text)}:
            agent.nic.inject(*parse_fault(text))
        case "mend", {"fault": str(text)}:
            agent.nic.mend(parse_fault(text)[0])
        case _:
            raise ValueError(f"{json.dumps(asked)[:200]} is not a command")
    return None


def checked_settings(settings: dict[Any, Any]) -> dict[str, Any]:
    """The arguments of PfAgent.set_vf(). Raises ValueError."""
    for name, value in settings.items():
        if name not in SETTINGS or type(value) is not SETTINGS[name]:
            raise ValueError(f"{name}={value!r:.40} is not a setting of a VF; there are {', '.join(SETTINGS)}")
    if "mac" in settings:
        mac = settings["mac"]
        settings = {**settings, "mac": bytes(6) if mac == NO_MAC else unicast_mac(mac)}
    return settings


class Link:
    """The caller's end: a connection to the emulator that serves `folder`. Raises DeviceError if there is none."""

    def __init__(self, folder: str) -> None:
        self._path = path = str(Path(folder) / NAME)
        try:
            self._socket = connect(path)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            raise DeviceError(
                f"no PF agent listens at {path}. Start one: ixrings emulate --vf 2 --socket {folder}"
            ) from None

    def call(self, call: str, **arguments: object) -> Any:
        """Raises DeviceError, also for a command that is refused."""
        request = json.dumps({"call": call, "arguments": arguments}).encode()
        try:
            reply = ask(self._socket, Message(Kind.AGENT, request))
        except Denied:
            raise DeviceError(f"{self._path} takes no further connection: {MOST} programs have one now") from None
        except TimeoutError:
            raise DeviceError(
                f"{self._path}: no answer in {PATIENCE_S:g} s. ixrings emulate is stopped, or the machine overloaded"
            ) from None
        except OSError as error:
            raise DeviceError(f"{self._path}: ixrings emulate has ended ({error.strerror})") from None
        close_all(reply.fds)
        try:
            told = json.loads(reply.payload)
            refusal, result = (str(told["error"]), None) if reply.error else ("", told["result"])
        except (ValueError, TypeError, KeyError, RecursionError):
            raise DeviceError(f"{self._path}: the answer is not that of a PF agent") from None
        if refusal:
            raise DeviceError(refusal)
        return result

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
