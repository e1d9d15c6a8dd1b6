"""The page over HTTP: its text, the moments as server-sent events, and the orders of its reader.

Every request carries the token in its path. Its Host header has to be an IP address, localhost or the name that was
listened at, and its Origin header, if there is one, this server: a foreign page that the reader has open reaches
nothing, also when it makes its own name lead to this machine (DNS rebinding).
"""

from __future__ import annotations

import ipaddress
import json
import math
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from ..errors import ERRORS, PortError
from ..program import say
from .history import History
from .looks import Look

CONNECTIONS, READERS = 48, 16  # at once
SOCKET_S = 5.0  # for a request to come, and for a reader to take what was sent
BEAT_S = 2.0  # between two signs of life to a reader
MOST_ORDER = 4096  # bytes
BATCH = 50  # moments in one piece
STOP_S = 0.05  # between two looks for shutdown()
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
POLICY = (
    "default-src 'none'; script-src 'nonce-{0}'; style-src 'nonce-{0}'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class Refused(Exception):
    """A request that is answered with a status and a sentence."""

    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


def parse_listen(text: str) -> tuple[str, int]:
    """Address and port of `127.0.0.1:8082` or `[::1]:8082`. Raises ValueError."""
    found = re.fullmatch(r"(?:\[(?P<six>[0-9a-fA-F:.%a-z]+)\]|(?P<host>[^:\[\]/ ]+)):(?P<port>[0-9]{1,5})", text)
    if not found or int(found["port"]) > 65535:
        raise ValueError(f"{text!r} is refused; write ADDRESS:PORT, such as 127.0.0.1:8082 or [::1]:8082")
    return found["six"] or found["host"], int(found["port"])


class GlassServer(ThreadingHTTPServer):
    """Serves one History. Raises PortError if it cannot listen. serve() is a context: the server runs inside it."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 32

    def __init__(self, history: History, listen: tuple[str, int]) -> None:
        self.history = history
        self.token = secrets.token_urlsafe(24)
        self.host, port = listen
        self.readers = threading.BoundedSemaphore(READERS)
        self.stopping = False
        self._connections = threading.BoundedSemaphore(CONNECTIONS)
        self._open: dict[socket.socket, float] = {}  # until when its request has to be there
        self._lock = threading.Lock()
        try:
            self.address_family = socket.getaddrinfo(self.host, port, type=socket.SOCK_STREAM)[0][0]
            super().__init__((self.host, port), Handler)
        except (OSError, UnicodeError) as error:  # UnicodeError: a name with an empty or too long part
            why = getattr(error, "strerror", None) or "it is not the name of a machine"
            hint = "Choose another one: --listen 127.0.0.1:0 takes any that is free"
            raise PortError(f"the page cannot be served at {self.host}:{port}: {why}. {hint}") from None

    def server_bind(self) -> None:
        """Without the reverse lookup of HTTPServer, which may take seconds."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.host, self.server_address[1]

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        if host in ("0.0.0.0", "[::]"):  # every address of this machine; the reader needs one
            host = socket.gethostname() if host == "0.0.0.0" else "[::1]"
        return f"http://{host}:{self.server_port}/{self.token}/"

    @property
    def is_local(self) -> bool:
        return ipaddress.ip_address(str(self.server_address[0]).partition("%")[0]).is_loopback

    @contextmanager
    def serve(self) -> Iterator[None]:
        thread = threading.Thread(target=self.serve_forever, args=(STOP_S,), name="glass-http", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self.stopping = True
            self.shutdown()
            thread.join()
            self.history.stop()
            self.server_close()
            self._wait_for_handlers()

    def _wait_for_handlers(self) -> None:
        """They end when their readers have the last moment. What then hangs in a send is cut off."""
        for _ in range(CONNECTIONS):
            if self._connections.acquire(timeout=SOCKET_S):
                continue
            with self._lock:
                for each in self._open:
                    with suppress(OSError):
                        each.shutdown(socket.SHUT_RDWR)

    # ---- bounded connections ----

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._connections.acquire(blocking=False):
            self.shutdown_request(request)
            return
        with self._lock:
            self._open[request] = time.monotonic() + SOCKET_S
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._open.pop(request, None)
            self._connections.release()

    def service_actions(self) -> None:
        """Cut off who sends a request byte by byte: each byte would begin the time of the socket anew."""
        now = time.monotonic()
        with self._lock:
            for each in [each for each, until in self._open.items() if until < now]:
                self._open[each] = math.inf
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def let_in(self, request: socket.socket) -> None:
        """Its request is there, and has the token."""
        with self._lock:
            self._open[request] = math.inf

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that went away in the middle is not worth a traceback on the terminal."""

    # ---- who may ask ----

    def is_own_host(self, host: str) -> bool:
        """Whether a Host header names this server: a page under a foreign name reaches nothing."""
        try:
            parts = urlsplit(f"//{host}")
            name, port = parts.hostname or "", parts.port or 80
        except ValueError:
            return False
        if port != self.server_port or parts.username is not None:
            return False
        if name in ("localhost", self.host.lower(), socket.gethostname().lower()):
            return True
        try:
            ipaddress.ip_address(name.partition("%")[0])
        except ValueError:
            return False
        return True


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: GlassServer
    protocol_version = "HTTP/1.0"  # one request a connection
    server_version, sys_version = "ixrings", ""
    timeout = SOCKET_S

    def do_GET(self) -> None:
        self._answer({"": self._page, "events": self._events})

    def do_POST(self) -> None:
        self._answer({"do": self._order})

    def log_message(self, *_: object) -> None:
        """Requests carry the token, so they are not printed."""

    def _answer(self, pages: dict[str, Any]) -> None:
        try:
            page = self._checked_path()
            self.server.let_in(self.connection)
            if page not in pages:
                raise Refused(HTTPStatus.NOT_FOUND, "this address has no page. Open the one that ixrings printed")
            pages[page]()
        except Refused as refused:
            self._send(refused.status, "text/plain; charset=utf-8", f"{refused}\n".encode())

    def _checked_path(self) -> str:
        """The path behind the token. Raises Refused."""
        host = self.headers.get_all("Host") or []
        if len(host) != 1 or not self.server.is_own_host(host[0]):
            raise Refused(HTTPStatus.FORBIDDEN, "this server is not the one that the address names")
        origin = self.headers.get("Origin")
        if origin is not None and origin != f"http://{host[0]}":
            raise Refused(HTTPStatus.FORBIDDEN, "another page may not ask this server")
        _, token, *rest = (self.path.partition("?")[0] + "/").split("/", 2)
        if not secrets.compare_digest(token.encode(), self.server.token.encode()):
            raise Refused(
                HTTPStatus.FORBIDDEN,
                "the address lacks the right token. Open the address that ixrings printed",
            )
        return rest[0].rstrip("/") if rest else ""

    def _send(self, status: HTTPStatus, kind: str, body: bytes, **headers: str) -> None:
        self._head(status, kind, {"Content-Length": str(len(body)), **headers})
        self.wfile.write(body)

    def _head(self, status: HTTPStatus, kind: str, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, **HEADERS, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    # ---- the page ----

    def _page(self) -> None:
        look, nonce = self.server.history.subject, secrets.token_urlsafe(16)
        about = {"name": look.name, "about": look.about, "faults": list(look.faults), "acts": look.acts}
        folder = files(__package__)
        text = folder.joinpath("page.html").read_text("utf-8")
        for mark, content in (
            ("PAGE-STYLE", folder.joinpath("page.css").read_text("utf-8")),
            ("PAGE-SCRIPT", folder.joinpath("page.js").read_text("utf-8")),
            ("PAGE-NONCE", nonce),
            ("PAGE-ABOUT", json.dumps(about).replace("<", "\\u003c")),  # so that no name can end the element
        ):
            text = text.replace(mark, content)
        self._send(
            HTTPStatus.OK, "text/html; charset=utf-8", text.encode(), Content_Security_Policy=POLICY.format(nonce)
        )

    # ---- moments ----

    def _events(self) -> None:
        if not self.server.readers.acquire(blocking=False):
            raise Refused(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"{READERS} readers look already. Close a page and load this one again",
            )
        try:
            with self.server.history.reading():
                self._head(HTTPStatus.OK, "text/event-stream; charset=utf-8", {})
                self._stream(self._seen_by_reader())
        except OSError:
            pass  # the reader has gone, or did not take what was sent in SOCKET_S
        finally:
            self.server.readers.release()

    def _seen_by_reader(self) -> int:
        """The moment at which a browser, whose connection broke, goes on."""
        text = self.headers.get("Last-Event-ID", "")
        return int(text) if text.isdecimal() and len(text) < 16 else 0

    def _stream(self, number: int) -> None:
        while True:
            stopping = self.server.stopping  # read first: what came before it is sent
            moments, last, ended = self.server.history.after(number, BEAT_S)
            for at in range(0, len(moments), BATCH):
                batch = moments[at : at + BATCH]
                final = last - len(moments) + at + len(batch)
                self._event(f"id: {final}\ndata: [{','.join(batch)}]")
            number = last
            if moments:
                continue
            if ended or stopping:
                self._event(f"event: ended\ndata: {json.dumps(ended or 'ixrings glass has ended')}")
                return
            self._event(": still here")

    def _event(self, text: str) -> None:
        self.wfile.write(f"{text}\n\n".encode())

    # ---- orders ----

    def _order(self) -> None:
        try:
            number = self.server.history.act(self._body())
        except (*ERRORS, ValueError, MemoryError) as error:
            raise Refused(HTTPStatus.CONFLICT, str(error)) from None
        self._send(HTTPStatus.OK, "application/json", json.dumps({"moment": number}).encode())

    def _body(self) -> dict[str, object]:
        """Raises Refused."""
        length = self.headers.get("Content-Length", "")
        kind = (self.headers.get("Content-Type") or "").partition(";")[0].strip()
        if kind != "application/json" or not length.isdecimal() or not 0 < int(length) <= MOST_ORDER:
            raise Refused(HTTPStatus.BAD_REQUEST, f"an order is JSON of at most {MOST_ORDER} bytes")
        try:
            order = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError, OSError):
            order = None
        if not isinstance(order, dict):
            raise Refused(HTTPStatus.BAD_REQUEST, 'an order is a JSON object, such as {"do": "pause"}')
        return order


@contextmanager
def served(look: Look, listen: tuple[str, int]) -> Iterator[tuple[History, str]]:
    """Serve a page that shows `look`; gives its moments and its address. Raises PortError if it cannot listen."""
    history = History(look)
    try:
        server = GlassServer(history, listen)
    except BaseException:
        history.stop()
        raise
    if not server.is_local:
        say(
            f"ixrings glass: {server.host} can be reached from other machines, and the page is not encrypted. Who sees "
            "its address on the network may use it"
        )
    with server.serve():
        yield history, server.url
