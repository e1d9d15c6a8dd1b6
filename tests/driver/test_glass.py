"""The page of `ixrings glass` as a browser asks for it: who may ask, what it gets, and what a click does."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest

from ixrings import open_port
from ixrings.driver.cli import main
from ixrings.driver.glass.decode import line_of
from ixrings.driver.glass.demo import udp
from ixrings.driver.glass.history import MOMENTS, History
from ixrings.driver.glass.looks import Look, Moment, NicLook
from ixrings.driver.glass.server import READERS, parse_listen, served
from ixrings.driver.glass.shown import ShownNic
from ixrings.hw.registers import Registers

WAIT_S = 30.0


class Page:
    """A page that is open at `url`, without a browser."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.path = parts.netloc, parts.path
        self.port = parts.port or 0

    def ask(
        self, path: str | None = None, method: str = "GET", body: str | None = None, **headers: str
    ) -> tuple[int, str, http.client.HTTPMessage]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)) as connection:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, self.path if path is None else path, body, {"Host": self.host, **named})
            answer = connection.getresponse()
            return answer.status, answer.read().decode(), answer.headers

    def do(self, **order: object) -> tuple[int, str]:
        status, text, _ = self.ask(self.path + "do", "POST", json.dumps(order), Content_Type="application/json")
        return status, text

    def moments(self) -> Iterator[dict[str, Any]]:
        """Moments as they come; each has its rings."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S) as connection:
            connection.sendall(f"GET {self.path}events HTTP/1.0\r\nHost: {self.host}\r\n\r\n".encode())
            rings: object = []
            for line in connection.makefile():
                if line.startswith("data: ["):
                    for moment in json.loads(line[6:]):
                        rings = moment.setdefault("rings", rings)
                        yield moment

    def until(self, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """The first moment for which it holds."""
        end = time.monotonic() + WAIT_S
        with closing(self.moments()) as moments:  # type: ignore[type-var]
            for moment in moments:
                if holds(moment):
                    return moment
                assert time.monotonic() < end, moment
        raise AssertionError("the moments ended")


@pytest.fixture
def nic() -> Iterator[ShownNic]:
    with closing(ShownNic("loop")) as nic:
        yield nic


@pytest.fixture
def page(nic: ShownNic) -> Iterator[Page]:
    with served(NicLook(nic, "emulated:loop"), ("127.0.0.1", 0)) as (_, url):
        yield Page(url)


def test_who_has_the_address_gets_a_page_that_loads_nothing_from_elsewhere(page: Page) -> None:
    status, text, headers = page.ask()
    assert status == 200
    assert "emulated:loop" in text
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in text
    assert page.ask(page.path.rstrip("/"))[0] == 200


@pytest.mark.parametrize("what", ["", "events", "do"])
def test_every_request_needs_the_token_and_the_servers_own_name(page: Page, what: str) -> None:
    method = "POST" if what == "do" else "GET"
    for path in (f"/{what}", f"/wrong/{what}", f"{page.path[:-2]}/{what}", "/"):
        assert page.ask(path, method)[0] == 403
    for host in ("evil.example", f"evil.example:{page.port}", "127.0.0.1:1", "", "[", f"x@127.0.0.1:{page.port}"):
        assert page.ask(page.path + what, method, Host=host)[0] == 403
    for origin in ("http://evil.example", "null", f"https://{page.host}", f"http://localhost:{page.port}"):
        assert page.ask(page.path + what, method, Origin=origin)[0] == 403


def test_this_machines_names_and_its_own_origin_are_let_in(page: Page) -> None:
    for host in (page.host, f"localhost:{page.port}", f"[::1]:{page.port}"):
        assert page.ask(Host=host, Origin=f"http://{host}")[0] == 200
    assert page.ask(page.path + "other")[0] == 404


@pytest.mark.slow
def test_an_order_is_a_small_json_object_of_the_page_itself(page: Page) -> None:
    path = page.path + "do"
    assert page.ask(path, "POST", '{"do": "pause"}')[0] == 400  # a foreign form can send text, and no JSON
    for body in ("", "[]", "{", '"pause"', "[" * 5000, " " * 5000):
        assert page.ask(path, "POST", body, Content_Type="application/json")[0] == 400
    status, text = page.do(do="explode")
    assert (status, "pause, go, step, fault" in text) == (409, True)
    assert "link, no-module" in page.do(do="fault", name="rain")[1]
    assert "Pause it" in page.do(do="step", frames=1, ns=0)[1]
    page.do(do="pause")
    for wrong in ({"frames": 0, "ns": 0}, {"frames": "1", "ns": 0}, {"frames": 1, "ns": -1}, {"frames": 1, "ns": 1e3}):
        assert page.do(do="step", **wrong)[0] == 409


def test_a_moment_has_rings_registers_and_frames(nic: ShownNic, page: Page) -> None:
    assert page.until(lambda moment: moment["n"] == 1)["rings"] == []
    with closing(page.moments()) as moments:  # type: ignore[type-var]
        next(moments)
        with open_port(nic, tx_slots=64, rx_slots=64, promiscuous=True) as port:
            assert port.send([udp(0), udp(1)]) == 2
            assert len(list(zip(range(2), port.recv(timeout=WAIT_S)))) == 2
            seen = [next(moments)]
            while not any(moment["frames"] for moment in seen):
                seen.append(next(moments))
            rings = seen[-1]["rings"]
            assert [ring["tx"] for ring in rings] == [True, False]
            assert len(rings[0]["owners"]) == 64
            assert set(rings[0]["pointers"]) == {"head", "cur", "tail", "NIC head", "NIC tail"}
    lines = [line for moment in seen for line in moment["registers"]]
    enabled = [line for line in lines if line["name"] == "TXDCTL[0]" and line["who"] == "program writes"]
    assert any(["ENABLE", 0, 1] == field[:3] for line in enabled for field in line["fields"])
    assert enabled[0]["section"].startswith("8.2.3.9")
    texts = [frame["text"] for moment in seen for frame in moment["frames"]]
    assert texts[0] == "10.0.0.1:1000 → 10.0.0.2:9 UDP"


def test_a_paused_nic_moves_as_many_frames_as_a_step_says(nic: ShownNic, page: Page) -> None:
    with open_port(nic, tx_slots=64, rx_slots=64, promiscuous=True) as port:
        assert page.do(do="pause")[0] == 200
        port.send([udp(number) for number in range(5)])
        before = nic.now_ns
        assert page.until(lambda moment: moment["rings"] and "NNNNN" in moment["rings"][0]["owners"])["state"]["paused"]
        assert nic.now_ns == before
        assert page.do(do="step", frames=2, ns=1000)[0] == 200
        assert nic.now_ns == before + 1000
        assert nic.read32(Registers.TDH.offset(0)) == 2
        assert page.do(do="go")[0] == 200
        assert len(list(zip(range(5), port.recv(timeout=WAIT_S)))) == 5


def test_a_click_breaks_the_nic_and_the_next_one_mends_it(nic: ShownNic, page: Page) -> None:
    page.do(do="fault", name="link", on=True)
    assert page.until(lambda moment: moment["state"]["faults"] == ["link"])["state"]["link"] == "the cable is out"
    page.do(do="fault", name="link", on=False)
    assert page.until(lambda moment: moment["n"] > 1 and not moment["state"]["faults"])["state"]["link"] == "link up"


@pytest.mark.breaks_rules
def test_a_broken_rule_is_shown_once(nic: ShownNic, page: Page) -> None:
    nic.write32(Registers.TDT.offset(0), 1)  # of a queue without memory
    broken = page.until(lambda moment: moment["state"]["broken"])["broken"]
    assert broken[0]["register"] == "TDT[0]"
    page.do(do="pause")
    assert page.until(lambda moment: moment["state"]["paused"])["broken"] == []


def test_a_closed_nic_says_so_and_takes_no_order(nic: ShownNic, page: Page) -> None:
    nic.close()
    with socket.create_connection(("127.0.0.1", page.port), timeout=WAIT_S) as connection:
        connection.sendall(f"GET {page.path}events HTTP/1.0\r\nHost: {page.host}\r\n\r\n".encode())
        assert "event: ended" in connection.makefile().read()
    status, text = page.do(do="pause")
    assert (status, "any more" in text) == (409, True)


@pytest.mark.slow
def test_the_history_is_bounded_and_its_first_moment_has_rings(nic: ShownNic) -> None:
    history = History(NicLook(nic, "emulated:loop"))
    with open_port(nic, tx_slots=64, rx_slots=64):
        for number in range(MOMENTS + 20):
            nic.log.remark(f"number {number}")
            history.take()
        texts, last, _ = history.after(0, 0)
    history.stop()
    assert (len(texts), last) == (MOMENTS, MOMENTS + 20)
    first, second = json.loads(texts[0]), json.loads(texts[1])
    assert len(first["rings"]) == 2
    assert "rings" not in second


def test_nobody_looks_and_nothing_is_looked_at(nic: ShownNic, page: Page) -> None:
    with open_port(nic, tx_slots=64, rx_slots=64, promiscuous=True) as port:
        port.send([udp(0)])
        assert nic.frames_seen(0) == (0, [])


def test_more_readers_than_allowed_are_refused_with_a_sentence(page: Page) -> None:
    streams = [page.moments() for _ in range(READERS)]
    for stream in streams:
        next(stream)
    status, text, _ = page.ask(page.path + "events")
    assert (status, "Close a page" in text) == (503, True)
    for stream in streams:
        stream.close()  # type: ignore[attr-defined]


class Defect(Look):
    name, about = "a defect", ""

    def look(self) -> Moment:
        raise KeyError("slot")


def test_a_defect_ends_the_page_with_a_sentence() -> None:
    history = History(Defect())
    with pytest.raises(KeyError):
        history.take()
    assert history.after(0, 0)[2] == "ixrings glass has a defect: KeyError('slot')"
    history.stop()


ETHERNET = bytes.fromhex("020000000001 020000000002")


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (udp(3), "10.0.0.1:1003 → 10.0.0.2:9 UDP"),
        (ETHERNET + b"\x88\xb5" + bytes(46), "02:00:00:00:00:02 → 02:00:00:00:00:01 EtherType for local experiments"),
        (ETHERNET + b"\x81\x00\x00\x05" + udp(0)[12:], "10.0.0.1:1000 → 10.0.0.2:9 UDP VLAN 5"),
        (
            ETHERNET + bytes.fromhex("0806 0001 0800 06 04 0001 020000000002 0a000001 000000000000 0a000002"),
            "ARP 10.0.0.1 asks: who has 10.0.0.2",
        ),
        (
            ETHERNET + bytes.fromhex("86dd 60000000 0014 06 40") + bytes(15) + b"\1" + bytes(15) + b"\2"
            + bytes.fromhex("0050 1234 00000000 00000000 5002 0000 0000 0000"),
            "[::1]:80 → [::2]:4660 TCP S",
        ),
        (ETHERNET + b"\x08\x00\x45", "cut off"),
        (ETHERNET + b"\x81\x00\x00\x05" * 10 + b"\x08\x00\x45" + bytes(11), "cut off" + " VLAN 5" * 10),
        (ETHERNET + b"\x86\xdd" + bytes(20), "cut off"),
        (ETHERNET + b"\x08\x06" + bytes(20), "cut off"),
        (b"\1\2", "01:02 shorter than an Ethernet header"),
    ],
)  # fmt: skip
def test_a_frame_is_one_line(frame: bytes, words: str) -> None:
    assert line_of(frame, len(frame)) == words


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["emulated:cable=a"], "use another wire"),
        (["emulated-vf:loop"], "emulated@vfs=1:loop"),
        (["emulated-0"], "leave out -k"),
        (["netmap:ix0"], "glass pid:PID"),
        (["vfio-user:/nowhere"], "glass pid:PID"),
        (["pid:0", "--", "python"], "only looked at"),
        (["pid:999999999"], "no program with the number"),
        (["pid:1/fd/../.."], "no program with the number"),
        (["emulated", "--listen", "192.0.2.1:0"], "--listen 127.0.0.1:0"),
        (["emulated", "--listen", "a..b:0"], "not the name of a machine"),
        (["emulated", "--listen", "127.0.0.1:0", "--now", "--", "./no-such-program"], "cannot be started"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_a_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["glass", *arguments]) == 1
    said = capsys.readouterr().err
    assert words.lower() in said.lower()
    assert "Traceback" not in said


@pytest.mark.parametrize("text", ["8082", "a b:1", "127.0.0.1:", "127.0.0.1:99999", "::1:80", "http://x:1"])
def test_an_address_to_listen_at_has_a_port(text: str) -> None:
    with pytest.raises(ValueError, match="write ADDRESS:PORT"):
        parse_listen(text)
    assert parse_listen("[::1]:0") == ("::1", 0)
