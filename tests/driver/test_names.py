"""Port names: the grammar, and the sentences for names outside it."""

from __future__ import annotations

import pytest

from ixrings import PortName, PortNameError, open_port, parse_port_name
from ixrings.driver.names import Kind
from ixrings.hw.errors import DeviceError


@pytest.mark.parametrize(("text", "expected"), [
    ("emulated", PortName("", Kind.EMULATED, "loop")),
    ("emulated:sink", PortName("", Kind.EMULATED, "sink")),
    ("emulated:sink=100/T", PortName("", Kind.EMULATED, "sink=100", flags=frozenset("T"))),
    ("emulated:source=1500", PortName("", Kind.EMULATED, "source=1500")),
    ("emulated:cable=a b-1/R@paced", PortName("", Kind.EMULATED, "cable=a b-1/R@paced")),
    ("emulated:pcap=/tmp/in-1.pcap,out:2.pcap", PortName("", Kind.EMULATED, "pcap=/tmp/in-1.pcap,out:2.pcap")),
    ("emulated:tap=tap-0", PortName("", Kind.EMULATED, "tap=tap-0")),
    ("emulated:loop-0/R@paced", PortName("", Kind.EMULATED, "loop", 0, frozenset("R"), True)),
    ("emulated:source=64-3@paced", PortName("", Kind.EMULATED, "source=64", 3, frozenset(), True)),
    ("emulated-0/R@paced:pcap=a-1.pcap", PortName("", Kind.EMULATED, "pcap=a-1.pcap", 0, frozenset("R"), True)),
    ("emulated@link=2.5,paced", PortName("", Kind.EMULATED, "loop", None, frozenset(), True, 2.5)),
    ("emulated@rules=raise,paced", PortName("", Kind.EMULATED, "loop", paced=True, rules="raise")),
    ("emulated@fault=removal+9:sink", PortName("", Kind.EMULATED, "sink", fault="removal+9")),
    ("emulated@vfs=63:sink", PortName("", Kind.EMULATED, "sink", vfs=63)),
    ("emulated/xT", PortName("", Kind.EMULATED, "loop", None, frozenset("xT"))),
    ("0000:03:00.0", PortName("", Kind.BDF, "0000:03:00.0")),
    ("03:00.1", PortName("", Kind.BDF, "0000:03:00.1")),
    ("0000:0A:1f.1-1/T", PortName("", Kind.BDF, "0000:0a:1f.1", 1, frozenset("T"))),
    ("vfio:0000:03:00.0-1", PortName("", Kind.VFIO, "0000:03:00.0", 1)),
    ("vfio-2:0000:03:00.0", PortName("", Kind.VFIO, "0000:03:00.0", 2)),
    ("uio:0000:03:00.0", PortName("", Kind.UIO, "0000:03:00.0")),
    ("vfio-noiommu-1:0000:03:00.0", PortName("", Kind.VFIO_NOIOMMU, "0000:03:00.0", 1)),
    ("vfio-user:/run/a-1@paced", PortName("", Kind.VFIO_USER, "/run/a-1@paced")),
    ("vfio-user-3/R:/run/a", PortName("", Kind.VFIO_USER, "/run/a", 3, frozenset("R"))),
])  # fmt: skip
def test_a_name_is_parsed_by_the_grammar(text: str, expected: PortName) -> None:
    name = parse_port_name(text)
    assert name.text == text
    assert (name.kind, name.target, name.queue, name.flags, name.paced, name.link_up_s, name.vfs) == (
        expected.kind,
        expected.target,
        expected.queue,
        expected.flags,
        expected.paced,
        expected.link_up_s,
        expected.vfs,
    )


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("", "emulated[:WIRE]"),
        ("eth0", "0000:03:00.0"),
        ("Emulated", "emulated[:WIRE]"),
        ("emulated:", "sink[=NS], source"),
        ("emulated:loops", "sink[=NS], source"),
        ("emulated:cable=", "needs a name"),
        ("emulated:tun=tap0", "tap=INTERFACE"),
        ("emulated-x", "[-queue][/flags][@options]"),
        ("emulated-0:loop-1", "one -k"),
        ("emulated/RT", "R (receive only)"),
        ("emulated/R:loop/T", "together leave no ring"),
        ("emulated/q", "R (receive only), T (transmit only) and x"),
        ("emulated@fast", "paced, link=SECONDS, rules=raise, fault=NAME and vfs=NUMBER"),
        ("emulated@rules=strict", "not one of raise, record, ignore; write rules=raise"),
        ("emulated@paced=1", "paced, link=SECONDS, rules=raise, fault=NAME and vfs=NUMBER"),
        ("emulated@link=soon", "link=2.5"),
        ("emulated@link=-1", "link=2.5"),
        ("emulated@vfs=64", "choose 0 to 63"),
        ("emulated-vf@vfs=2", "'vfs=2' is not an option"),
        ("vfio:03", "0000:03:00.0"),
        ("vfio", "0000:03:00.0"),
        ("vfio-user:", "vfio-user:/run/nic.sock"),
        ("0000:03:00.0@paced", "other ports have none"),
        ("0000:03:00.0@vf_token=7", "is not a UUID, such as"),
        ("uio:0000:03:00.0@vf_token=00112233-4455-6677-8899-aabbccddeeff", "a NIC on vfio-pci has vf_token=UUID"),
        ("0000:03:00.9", "PCI address"),
    ],
)
def test_a_wrong_name_is_refused_with_what_is_allowed(text: str, allowed: str) -> None:
    with pytest.raises(PortNameError) as error:
        parse_port_name(text)
    assert allowed in str(error.value)


@pytest.mark.parametrize("text", ["ffff:03:00.0", "vfio:ffff:03:00.0", "vfio-noiommu:ffff:03:00.0", "uio:ffff:03:00.0"])
def test_a_missing_nic_is_reported_as_missing(text: str) -> None:
    with pytest.raises(DeviceError, match=r"there is no PCI device ffff:03:00\.0\. Run: ixrings list"):
        open_port(text)


@pytest.mark.parametrize("text", ["0000:03:10.0", "vfio:0000:03:10.0-1", "vfio-noiommu:0000:03:10.0/R"])
def test_a_token_of_a_virtual_function_is_written_after_its_address(text: str) -> None:
    token = "00112233-4455-6677-8899-aabbccddeeff"
    assert parse_port_name(f"{text}@vf_token={token.upper()}").vf_token == token
    assert parse_port_name(text).vf_token == ""
