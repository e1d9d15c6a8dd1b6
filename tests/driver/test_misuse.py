"""A misspelt name, an assignment to a register, a value of another type: each is refused with what to write."""

from __future__ import annotations

import re
import subprocess
import sys
from array import array
from collections.abc import Iterator

import numpy as np
import pytest

import ixrings
from ixrings import Offload, Port, open_port
from ixrings.hw.registers import Registers
from tests.support.programs import ENVIRONMENT

FRAME = b"\xff" * 60


class Packet:
    """As Scapy's packets: its bytes are bytes(packet), and iterating over it gives packets."""

    def __bytes__(self) -> bytes:
        return FRAME

    def __iter__(self) -> Iterator[Packet]:
        yield self


@pytest.fixture(scope="module")
def port() -> Iterator[Port]:
    with open_port("emulated:loop") as port:
        yield port


MISUSES = [
    ("port.nic.CTRL = 5", AttributeError, "nic.CTRL.write(5) writes it, nic.CTRL.update(GIO_DIS=...) changes a field"),
    ("port.nic.RAL = 5", AttributeError, "nic.RAL[0].write(5)"),
    ("port.nic.RAL[3] = 5", TypeError, "nic.RAL[0].write(5)"),
    ("port.nic.CTLR", AttributeError, "the 82599 has no register CTLR; did you mean CTRL?"),
    ("port.nic.ctrl", AttributeError, "did you mean CTRL?"),
    ("port.nic.CTLR = 5", AttributeError, "did you mean CTRL?"),
    ("port.nic.NOTHING", AttributeError, "`ixrings regs emulated` lists them"),
    ("port.nic.RAL.read()", AttributeError, "RAL has 128 entries, and read belongs to one of them: nic.RAL[0].read"),
    ("port.nic.RAH.AV", AttributeError, "nic.RAH[0].AV"),
    ("port.nic.RAL['a']", TypeError, "choose one register, 0 to 127"),
    ("port.nic.CTRL[0]", TypeError, "CTRL is a single register"),
    ("bool(port.nic.CTRL)", TypeError, "write nic.CTRL.read()"),
    ("port.nic.CTRL.RST", AttributeError, "nic.CTRL.read().RST reads it, nic.CTRL.update(RST=...) changes it"),
    ("port.nic.CTRL.RST = 1", AttributeError, "nic.CTRL.update(RST=...) changes it"),
    ("port.nic.CTRL.RTS", AttributeError, "CTRL has no field RTS; did you mean RST?"),
    ("port.nic.CTRL.write(RTS=1)", AttributeError, "CTRL has no field RTS; did you mean RST?"),
    ("port.nic.CTRL.write(RST='x')", TypeError, "CTRL: 'str' object cannot be interpreted as an integer"),
    ("port.nic.CTRL.write(1 << 32)", ValueError, "CTRL: 0x100000000 does not fit in 32 bits"),
    ("port.nic.CTRL.reed()", AttributeError, "did you mean read?"),
    ("port.nic.LINKS.read().SPED", AttributeError, "LINKS has no field SPED; did you mean SPEED?"),
    ("port.nic.LINKS.read().SPEED = 1", AttributeError, "nic.REGISTER.update(SPEED=1)"),
    ("port.nic.LINKS.read().SPED = 1", AttributeError, "did you mean SPEED?"),
    ("port.promisc = True", AttributeError, "Port has no attribute promisc; did you mean promiscuous?"),
    ("port.mtu = 9000", AttributeError, "mtu is chosen when the port opens: open_port(..., mtu=...)"),
    ("port.rx_queues = 4", AttributeError, "open_port(..., rx_queues=...)"),
    ("port.link = True", AttributeError, "Port.link cannot be set"),
    ("port.set_multicast = []", AttributeError, "Port.set_multicast is a method; call it"),
    ("port.vlan.filtre = {5}", AttributeError, "did you mean filter?"),
    ("port.rss.tabel = [0]", AttributeError, "did you mean table?"),
    ("port.filters.queue = 1", AttributeError, "it has add, clear, remove"),
    ("port.clock.adjsut(1)", AttributeError, "did you mean adjust?"),
    ("port.tx_rings[0].hed = 1", AttributeError, "no attribute 'hed'"),
    ("port.tx_rings[0].reserve(1).length = 60", AttributeError, "no attribute 'length'"),
    ("port.tx_rings[0].reserve(1).len = 60", AttributeError, "write span.len[:] = 60"),
    ("port.stats()['gprc']", KeyError, "did you mean GPRC?"),
    ("port.promiscuous = 'no'", TypeError, "True or False"),
    ("port.mac = 5", ValueError, "02:00:00:00:00:01"),
    ("port.set_multicast('01:00:5e:00:00:fb')", TypeError, 'a list of addresses, such as ["01:00:5e:00:00:fb"]'),
    ("port.vlan.filter = 5", TypeError, "a set of VLAN ids, such as {5, 7}"),
    ("port.vlan.filter = '57'", TypeError, "a set of VLAN ids, such as {5, 7}"),
    ("port.vlan.strip = 'no'", TypeError, "True or False"),
    ("port.rss.table = 3", TypeError, "such as range(4)"),
    ("port.rss.headers = 3", TypeError, "such as RssHeaders.IPV4"),
    ("port.rss.key = 'x'", TypeError, "40 bytes"),
    (
        "port.filters.add(3)",
        TypeError,
        "EtherTypeFilter or SynFilter or FiveTupleFilter or FlowFilter; 3 is of type int",
    ),
    ("port.filters.add([SynFilter(0)])", TypeError, "is of type list"),
    ("port.filters.remove(3)", TypeError, "EtherTypeFilter"),
    ("SynFilter('a')", TypeError, "SynFilter(queue=...) takes a whole number"),
    ("EtherTypeFilter('0x88f7', 0)", TypeError, "EtherTypeFilter(ether_type=...) takes a whole number"),
    ("FiveTupleFilter(0, protocol='udp')", TypeError, "takes Protocol or None; 'udp' is of type str"),
    ("FlowFilter(0, source_port='53')", TypeError, "takes a whole number or None"),
    ("Offload(vlan='5')", TypeError, "Offload(vlan=...) takes a whole number or None"),
    ("open_port(7)", TypeError, 'a port name, such as "emulated" or "0000:03:00.0", or a Device; 7 is of type int'),
    ("open_ports(['emulated', 'emulated']).__enter__()", TypeError, "a port name"),
    ("open_port('emulated', mtu='9000')", TypeError, "open_port(mtu=...) takes a whole number; '9000' is of type str"),
    ("open_port('emulated', promiscuous='no')", TypeError, "True or False"),
    ("port.received(0, None)", TypeError, "one of port.rx_rings"),
    ("port.forward('emulated')", TypeError, "another port or queue; open both ports with open_ports()"),
    ("poll_ports(port, 0)", TypeError, "poll_ports([port])"),
    ("port.poll('1')", TypeError, "seconds: 0 not to wait, None to wait without limit"),
    ("next(port.recv('1'))", TypeError, "seconds"),
    ("port.wait_link('1')", TypeError, "a number"),
    ("port.send(FRAME)", TypeError, "send() takes several frames, not one of type bytes; write port.send([frame])"),
    ("port.send(np.zeros(60, np.uint8))", TypeError, "write port.send([frame])"),
    ("port.send(array('B', FRAME))", TypeError, "not one of type array; write port.send([frame])"),
    ("port.send(np.array([FRAME, FRAME], object))", TypeError, "write port.send(frames.tolist())"),
    ("port.send([memoryview(FRAME)[::2]])", TypeError, "frame 0 is a memoryview that leaves bytes out; write bytes("),
    ("port.send([FRAME, b''])", ValueError, "frame 1 has no bytes; this port sends 1 to 1518"),
    ("port.send(None)", TypeError, "None is not one"),
    ("port.send([None])", TypeError, "frame 0 is of type NoneType, not bytes"),
    ("port.send(packet for packet in [Packet()])", TypeError, "write port.send([bytes(frame) for frame in frames])"),
    ("port.send('ffff')", TypeError, "write port.send([bytes.fromhex(frame)])"),
    ("port.send(Packet())", TypeError, "write port.send([bytes(frame)])"),
    ("port.send([Packet()])", TypeError, "write port.send([bytes(frame) for frame in frames])"),
    ("port.send([60])", TypeError, "frame 0 is of type int, not bytes"),
    ("port.send(['ffff'])", TypeError, "bytes.fromhex"),
    ("port.send(7)", TypeError, "a list of frames, such as port.send([frame])"),
    ("port.send(np.zeros((2, 60)))", TypeError, "frame 0 has elements of 8 bytes; make its dtype np.uint8"),
    ("port.send([FRAME], ring=port.tx_rings[0])", TypeError, "the number of a TX ring"),
    ("port.send([FRAME], offload=5)", TypeError, "such as Offload(checksums=True)"),
]


@pytest.mark.parametrize(("statement", "kind", "words"), MISUSES, ids=[statement for statement, _, _ in MISUSES])
def test_a_misuse_is_refused_with_what_to_write(port: Port, statement: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=re.escape(words)):
        exec(statement, {**vars(ixrings), "port": port, "np": np, "array": array, "FRAME": FRAME, "Packet": Packet})


def test_type_checkers_see_the_same_mistakes(port: Port) -> None:
    """mypy reports an ignore that hides nothing, so each of these lines is an error for it."""
    for mistake in (
        lambda: setattr(port, "promisc", True),
        lambda: port.promisc,  # type: ignore[attr-defined]
        lambda: port.nic.CTLR,  # type: ignore[attr-defined]
        lambda: port.nic.RAL.read(),  # type: ignore[attr-defined]
        lambda: port.nic.LINKS.read().SPED,  # type: ignore[attr-defined]
        lambda: port.nic.CTRL[0],  # type: ignore[index]
    ):
        with pytest.raises((AttributeError, TypeError)):
            mistake()
    with pytest.raises(AttributeError):
        port.promisc = True  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        port.nic.CTRL = 5  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        port.nic.LINKS.read().SPEED = 1  # type: ignore[assignment]


def test_a_port_works_and_closes_after_an_assignment_to_its_registers() -> None:
    with open_port("emulated:loop") as port:
        for name in ("CTRL", "STATUS", "EIMC", "RXDCTL"):
            with pytest.raises(AttributeError):
                setattr(port.nic, name, 5)
        port.send([FRAME])
        assert next(port.recv(30)) == FRAME


def test_names_that_other_drivers_give_a_register_lead_to_it(port: Port) -> None:
    names = [(also, row.name) for row in Registers.rows() for also in row.also]
    assert len(names) > 10
    for also, name in names:
        with pytest.raises(AttributeError, match=f"did you mean {name}\\?"):
            getattr(port.nic, also)


def test_a_traceback_suggests_a_name_once() -> None:
    """Python adds a suggestion of its own to an error that names the object."""
    program = "from ixrings.hw.registers import Registers\nRegisters(None).CTLR"
    done = subprocess.run([sys.executable, "-c", program], env=ENVIRONMENT, capture_output=True, text=True, timeout=30)
    assert done.stderr.lower().count("did you mean") == 1, done.stderr


def test_numbers_and_buffers_of_numpy_are_as_good_as_pythons() -> None:
    frames = np.full((3, 60), 0xFF, np.uint8)
    with open_port("emulated:loop", tx_queues=np.int64(1), link_timeout=np.float32(5)) as port:
        assert port.send(frames, ring=np.int8(0), offload=Offload(vlan=np.int16(5))) == 3
        assert port.send([frames[0], bytearray(FRAME), memoryview(FRAME)]) == 3
        port.vlan.filter = {int(np.int64(5))}
        assert len([*zip(range(6), port.recv(30))]) == 6


def test_objects_show_their_state_in_a_line() -> None:
    with open_port("emulated:loop", tx_slots=64, rx_slots=64) as port:
        assert repr(port) == "<Port emulated:loop, up 10 Gbit/s, 02:82:59:90:00:01, 1 TX 1 RX ring>"
        ring = port.tx_rings[0]
        ring.advance(3)
        words = "emulated:loop TX ring 0: head 3, cur 3, tail 63, 60 of 64 slots are the program's"
        assert repr(ring) == f"<TxRing {words}>"
        assert repr(ring.reserve(2)) == "<Span of emulated:loop TX ring 0: slots 3..4>"
        assert repr(port.rx_rings[0].reserve(2)) == "<Span of emulated:loop RX ring 0: no slots>"
        assert repr(port.stats()) == "<PortStatistics all counters are 0>"
        ring.head = ring.cur = 0
        port.send([FRAME])
        assert next(port.recv(30)) == FRAME
        assert " GPRC=1 " in repr(port.stats()) and "rx[0]: QPRC=1" in repr(port.stats())
    assert repr(port) == "<Port emulated:loop, closed>"
