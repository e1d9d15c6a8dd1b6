"""Arguments out of range: every program refuses them before it opens anything, and says what is allowed."""

from __future__ import annotations

import runpy
import sys

import pytest

from ixrings.driver import cli
from tests.support.programs import EXAMPLES


def error_of(
    program: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """The last line on stderr of a program that ends with status 2."""
    monkeypatch.setattr(sys, "argv", [program, *arguments])
    monkeypatch.syspath_prepend(str(EXAMPLES))
    with pytest.raises(SystemExit) as end:
        if program == "ixrings":
            cli.main(arguments)
        else:
            module = runpy.run_path(str(EXAMPLES / f"{program}.py"))
            (module.get("Generator") or module["main"])()
    output = capsys.readouterr()
    assert (end.value.code, output.out) == (2, ""), output
    return output.err.splitlines()[-1]


@pytest.mark.parametrize(("command", "words"), [
    ("line_rate -b 0", "argument -b: '0' is refused; choose a whole number from 1 to 8192"),
    ("line_rate -t 0", "argument -t: '0' is refused; choose a number from 0.01 to 1000000"),
    ("line_rate -t -1", "from 0.01 to"),
    ("line_rate -t nan", "from 0.01 to"),
    ("line_rate -t inf", "from 0.01 to"),
    ("pktgen -b 0", "from 1 to 8192"),
    ("pktgen -n -1", "a whole number of 0 or more"),
    ("pktgen -n many", "a whole number of 0 or more"),
    ("pktgen -p 129", "from 1 to 128"),
    ("pktgen -l 20", "from 42 to 9724"),
    ("pktgen -l 60,imix", "'imix' is refused; choose a whole number from 42 to 9724"),
    ("pktgen -l 60:9000", "'9000' is refused; choose a whole number from 1 to 8192"),
    ("pktgen -l 60:8000,61:8001", "repeats after 16001 frames; choose smaller numbers"),
    ("pktgen --vlan 5-4095", "'4095' is refused; choose a whole number from 0 to 4094"),
    ("pktgen -f rx --number", "--number is for -f tx, and this is -f rx"),
    ("pktgen -f tx --verify", "--verify is for -f rx, and this is -f tx"),
    ("pktgen -f ping -l 60,64", "-f ping sends one kind of frame"),
    ("pktgen -f tx --seed 1", "--seed is for --random"),
    ("pktgen -f tx --random", "--random has nothing to draw from; give ranges or lists"),
    ("pktgen -f tx --flows 2", "--flows 2 is more than the number of combinations"),
    ("pktgen -f tx -s fd00::1 -d 10.0.0.1", "-s fd00::1 is IPv6 and -d 10.0.0.1 is IPv4"),
    ("pktgen -f tx -s fd00::1 -l 60", "-l 60: the headers take 62 bytes; give -l 62 or more"),
    ("pktgen -f tx --number -l 50", "the headers and the number take 56 bytes; give -l 56 or more"),
    ("pktgen -f tx --number -p 2", "-p 2 needs 2 streams or more, such as -s 10.0.0.1-10.0.0.2"),
    ("pktgen -f tx --number -s 10.0.0.0-10.255.0.0", "at most 65536 streams, and these are 16711681; add --flows"),
    ("pktgen -f tx -P x --vlan 5", "--vlan is for frames that pktgen.py makes, and -P sends those of a file"),
    ("pktgen -f tx -P x -s 10.0.0.1:5", "with -P the ports stay; give addresses without ports"),
    ("pktgen -l 20000", "from 42 to 9724"),
    ("pktgen -R nan", "0, or a number from 0.001"),
    ("pktgen -w -1", "0, or a number from 0.001"),
    ("pktgen -s 10.0.0.1:70000", "'70000' is not a UDP port; choose 0 to 65535"),
    ("pktgen -s 10.0.0.1:-1", "'-1' is not a UDP port"),
    ("pktgen -d 10.0.0.300", "10.0.0.300"),
    ("pktgen -s [fd00::1", "write IPv6 with a port as [fd00::1]:53"),
    ("pktgen -s 10.0.0.1,fd00::1", "has IPv4 and IPv6 addresses"),
    ("pktgen -d 10.0.0.9-10.0.0.1", "ends before it begins; give the lower address and port first"),
    ("pktgen -d ::-ffff::", "a range has at most 4294967296"),
    ("pktgen -D nonsense", "argument -D: 'nonsense' is not a MAC address; write it as 02:00:00:00:00:01"),
    ("pktgen -S 02:00", "is not a MAC address"),
    ("bridge -i a -i b -b 0", "from 1 to 8192"),
    ("bridge -i a -i b --slots 100", "a multiple of 8 from 64 to 8192"),
    ("bridge -i a -i b --mtu 20", "from 68 to 9710"),
    ("capture -w x -s -1", "from 0 to 262144"),
    ("capture -w x -c -1", "a whole number of 0 or more"),
    ("capture -w x --slots 7", "a multiple of 8 from 64 to 8192"),
    ("capture -w x --filter udp,53", "'udp,53' is not understood here. A filter is made of ip, arp"),
    ("capture -w x -C 0", "a whole number of 1 or more"),
    ("capture -w x -W 3", "-W counts files; add -C MEGABYTES or -G SECONDS"),
    ("capture -w - -C 3", "-C and -G write one file after the other; give -w FILE"),
    ("capture -w x.pcap --comment words", "name the file .pcapng, or add -F pcapng"),
    ("replay x --speed nan", "from 0.001 to 1000000"),
    ("replay x --speed 1e-300", "from 0.001 to 1000000"),
    ("replay x --speed 0", "from 0.001 to 1000000"),
    ("replay x -R -1", "0, or a number from 0.001"),
    ("responder -a nonsense", "nonsense"),
    ("responder -c -1", "a whole number of 0 or more"),
    ("ixrings emulate --socket x --mac 01:00:00:00:00:01", "it is a multicast address"),
    ("ixrings emulate --socket x --link nan", "0, or a number from 0.001"),
    ("ixrings emulate --socket x --sfp qsfp", "choose one of sr, lr"),
    ("ixrings emulate --socket x --fault rest", "'rest' is not a fault. Write link"),
    ("ixrings stats emulated --watch 0", "from 0.01 to 3600"),
    ("ixrings trace x --from nan", "a number from 0 to"),
])  # fmt: skip
def test_an_argument_out_of_range_is_refused_with_what_is_allowed(
    command: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program, *arguments = command.split()
    error = error_of(program, arguments, monkeypatch, capsys)
    assert words in error and "invalid" not in error, error
