"""`ixrings trace` reads, filters, counts, folds and compares traces of every kind, and refuses other files."""

from __future__ import annotations

import gzip
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ixrings import open_port
from ixrings.driver.cli import main
from ixrings.driver.cli.trace_compare import ranges
from ixrings.driver.cli.trace_fold import Fold, fold
from ixrings.hw.register import Register, Row
from ixrings.hw.registers import Registers
from ixrings.hw.trace.device import Access
from ixrings.hw.trace.file import TraceFile, parse_line
from tests.support.programs import ENVIRONMENT

LISTING = """\
--- reset
  W     00888 EIMC                         ffffffff
  POLL0 00000 CTRL                         04000008
SLEEP 10000 us
  SET   042a0 AUTOC                        00001000
  R     02100 SRRCTL[0] (alias 0x1014)     00000002
  FIELD 06028 TXDCTL[0]                    mask 00007f00 = 4
  TEST  00008 STATUS                       00080000
  loop x128: CLR 01028 ALLRXDCTL[0] 02000000; TEST 01028 ALLRXDCTL[0] 02000000; SLEEP 100 us  ... last ALLRXDCTL[127]
PCI-R 04
PCI-W 04 00000006
"""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("traces") / "port.trace"
    with open_port("emulated", busy_poll=True, trace=path) as port:
        port.send([bytes(60)])
        port.flush()
    return path


def output(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["trace", *map(str, words)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def refusal(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["trace", *map(str, words)]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and captured.err.startswith("ixrings: ")
    return captured.err


# ---- kinds of lines ----


@pytest.mark.parametrize(("line", "shown"), [
    ("   0.004211 write RXDCTL[0] 0x02000000 ENABLE=1  # driver/queues.py:enable_receive_queue",
     "write RXDCTL[0] 0x02000000 ENABLE=1"),
    ("   0.004211 write TDT[0] 0x00000005", "write TDT[0] 0x00000005"),
    ("   0.004211 read  SRRCTL[0]@0x02100 0x00000002 BSIZEPACKET=2  # a:b",
     "read  SRRCTL[0]@0x02100 0x00000002 BSIZEPACKET=2"),
    ("   0.004211 read  0x1fff0 0x00000000  # a:b", "read  0x1fff0 0x00000000"),
    ("   0.004211 write CONFIG+0x04 0x0006  # a:b", "write CONFIG+0x04 0x0006"),
    ("   0.00421 W BAR0 0x06018 4 00000005", "write TDT[0] 0x00000005"),
    ("W BAR0 0x06018 4 00000005", "write TDT[0] 0x00000005"),
    ("  5.93266 W BAR0 08d00 4 00000002 posted", "write SECRXCTRL 0x00000002 RX_DIS=1"),
    ("  5.93266 R CFG 0003d 1 01", "read  CONFIG+0x3d 0x01"),
    ("  5.93266 W CONFIG 0x00004 2 0006", "write CONFIG+0x04 0x0006"),
    ("  R     042a4 LINKS                        70000000", "read  LINKS 0x70000000 SPEED=3 (10 Gbit/s) LINK_UP=1"),
    ("  SET   01028 ALLRXDCTL[0]                 02000000", "write RXDCTL[0] 0x02000000 in bits 0x02000000 ENABLE=1"),
    ("  CLR   03000 RXCTRL                       00000001", "write RXCTRL 0x00000000 in bits 0x00000001 RXEN=0"),
    ("  POLL1 10010 EEC                          00000200", "read  EEC 0x00000200 in bits 0x00000200 AUTO_RD=1"),
    ("  TEST  00008 STATUS                       00080000", "read  STATUS ?"),
    ("  FIELD 06028 TXDCTL[0]                    mask 00007f00 = 4",
     "write TXDCTL[0] 0x00000400 in bits 0x00007f00 HTHRESH=4"),
    ("PCI-R 04", "read  CONFIG+0x04 ?"),
])  # fmt: skip
def test_an_access_is_decoded_from_each_kind_of_line(line: str, shown: str) -> None:
    found = parse_line(line + "\n")
    assert found is not None and [str(access) for access in found] == [shown]


@pytest.mark.parametrize("line", [
    "", "# ixrings trace of emulated:loop", "--- set_input", "SLEEP 1000 us", "  0.16269 DMA_MAP iova=0 size=40000000",
    "DEVICE_RESET  fds=0", "  0.16387 R CFG 00000 64 " + "00" * 64, "R MSIX 0x00000 4 00000000",
    "  1.00000 R BAR0 0x1fff0 4 00000000 errno 22", "19.97365 # client gone {}", "0.1 command 77  fds=0",
    "0.16183 VERSION (0, 0) b'{}'",
])  # fmt: skip
def test_a_line_without_an_access_is_skipped(line: str) -> None:
    assert parse_line(line + "\n") == []


@pytest.mark.parametrize("line", [
    "hello", "0.1 write RXDCTL[0] 0x02", "0.1 write RXDCTL[500] 0x00000000", "0.1 write rows 0x00000000",
    "0.1 write __init__ 0x00000000", "W BAR0 0x06019 4 00000005", "W BAR0 0x06018 4 005", "W BAR0 0x06018 4",
    "W BAR0 0xfffffff0 4 00000005", "R BAR0 0x00000 8 0000000000000000", "loop x3: nothing  ... last X",
    "loop x9999: W 03c00 RXPBSIZE[0] 00020000  ... last RXPBSIZE[7]", "loop x5: W 1fff0 ? 00000000  ... last ?",
    "R 00008 STATUS 0008000", "R BAR0 0x06018", "\0\1\2",
    "loop x" + "9" * 5000 + ": W 03c00 RXPBSIZE[0] 00020000  ... last RXPBSIZE[7]",
])  # fmt: skip
def test_an_invalid_line_is_reported_as_not_understood(line: str) -> None:
    assert parse_line(line + "\n") is None


def test_every_register_of_the_table_is_read_back_by_its_name() -> None:
    for row in Registers.rows():
        for index in {0, row.count - 1}:
            access = Access(1.0, True, row.offset(index), 0x1234_5678)
            assert parse_line(f"{1.0:11.6f} {access}  # a:b\n") == [
                Access(1.0, True, row.offset(index), 0x1234_5678, caller="a:b")
            ]
    assert isinstance(Registers.CTRL, Register)


# ---- shown ----


def test_fields_callers_and_sections_are_shown(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, recorded, "--callers", "--sections")
    access = r"^ +\d+\.\d{6} write RXDCTL\[0\] +0x02000000  ENABLE=1"
    step = r"  \(8\.2\.3\.8\.6\)  # driver/queues\.py:enable_receive_queue$"
    assert re.search(access + step, text, re.MULTILINE)
    plain = output(capsys, recorded)
    assert "#" not in plain and "(8.2" not in plain and "Receive Descriptor" not in plain


def test_long_names_are_shown_when_asked_for(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, recorded, "--names", "--writes")
    assert re.search(r" write RXDCTL\[0\] +0x02000000  Receive Descriptor Control: ENABLE=1$", text, re.MULTILINE)
    assert re.search(r" write TDT\[0\] +0x00000001  Transmit Descriptor Tail$", text, re.MULTILINE)


def test_a_loop_is_one_line(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, recorded)
    assert len(text.splitlines()) < 450 < 1500 < len(list(TraceFile(recorded)))
    for line in (
        r"write PFUTA\[0\.\.127\] +0x00000000$",
        r"write MPSAR\[1,3\.\.255\] +0x00000000 +these 2 x 128$",
        r"write RTTDQSEL +0x0+\.\.0x7f\n.* write RTTDT1C +0x0+\n.* write RTTBCNRC +0x0+ +these 3 x 128$",
    ):
        assert re.search(line, text, re.MULTILINE), line


def unfolded(folded: Iterator[Fold]) -> Iterator[tuple[str, str]]:
    """Every access again, with the name and the number that the lines show."""
    for each in folded:
        for number in range(each.times):
            for access in each.group:
                place = access.place
                assert place is not None
                if place.row.name == "RTTDQSEL":
                    yield "RTTDQSEL", f"{access.value + number * each.stride:#x}"
                else:
                    yield (
                        place.row.label(place.index + (number * each.stride if place.row.count > 1 else 0)),
                        f"{access.value:#x}",
                    )


@pytest.mark.parametrize("seed", range(40))
def test_folding_keeps_every_access_and_the_order(seed: int) -> None:
    dice = random.Random(seed)
    rows: list[Row[Any]] = [Registers.STATUS, Registers.RDT, Registers.MTA, Registers.RTTDQSEL, Registers.RTTDT1C]
    accesses: list[Access] = []
    while len(accesses) < 300:
        loop = [(dice.choice(rows), dice.randrange(40), dice.randrange(3)) for _ in range(dice.randrange(1, 6))]
        stride = dice.randrange(3)
        for number in range(dice.choice([1, 1, 2, 3, 20])):
            for row, index, value in loop:
                index = index + number * stride if row.count > 1 else 0
                accesses.append(
                    Access(
                        None, True, row.offset(index), value + number * stride if row is Registers.RTTDQSEL else value
                    )
                )
    assert list(unfolded(fold(accesses))) == [(each.name, f"{each.value:#x}") for each in accesses]


def test_a_poll_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "poll").write_text("R BAR0 0x042a4 4 00000000\n" * 37 + "R BAR0 0x042a4 4 40000000\n")
    assert re.fullmatch(
        r"read  LINKS +0x00000000  x 37\nread  LINKS +0x40000000  LINK_UP=1\n", output(capsys, tmp_path / "poll")
    )


# ---- chosen ----


def names(text: str) -> set[str]:
    return {line.split()[2].partition("[")[0] for line in text.splitlines()}


def test_registers_are_chosen_by_glob_and_by_section(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert names(output(capsys, recorded, "--register", "RXDCTL")) == {"RXDCTL"}
    # Brackets contain an index, not a set of letters.
    assert "no register TD[HT]* of the 82599" in refusal(capsys, recorded, "--register", "RDT", "--register", "TD[HT]*")
    assert "RXDCTL[1..127]" not in output(capsys, recorded, "--register", "RXDCTL[0]")
    assert (
        {"EIMC", "EICR", "EITR"}
        <= names(output(capsys, recorded, "--section", "8.2.3.5"))
        <= {row.name for row in Registers.rows() if row.section.startswith("8.2.3.5.")}
    )
    assert "no register is in section 8.2.3.50" in refusal(capsys, recorded, "--section", "8.2.3.50")


def test_reads_and_writes_and_times_are_chosen(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert " read " not in output(capsys, recorded, "--writes") and " write " not in output(capsys, recorded, "--reads")
    moments = [access.time_s for access in TraceFile(recorded)]
    middle = moments[len(moments) // 2]
    totals = [
        output(capsys, recorded, "--count", *choice).splitlines()[-1].split()
        for choice in (("--from", 0, "--to", middle), ("--from", middle), ())
    ]
    before, after, everything = (int(reads) + int(writes) for reads, writes, *_ in totals)
    assert before + after - moments.count(middle) == everything == len(moments)


def test_registers_are_also_chosen_by_other_names(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by_name = output(capsys, recorded, "--register", "RXDCTL[0]")
    assert by_name and output(capsys, recorded, "--register", "rxdctl[0]") == by_name
    by_name = output(capsys, recorded, "--register", "MAXFRS")
    assert by_name and output(capsys, recorded, "--register", "MHADD") == by_name


@pytest.mark.parametrize(
    ("option", "typo", "words"),
    [
        ("--register", "RXDTCL", "no register RXDTCL of the 82599 is known. Did you mean RXDCTL?"),
        ("--register", "rxdctl[128]", "RXDCTL has the numbers 0 to 127"),
        ("--register", "CTRL[0]", "CTRL is one register, without a number"),
        ("--register", "QQ*", "All names: ixrings regs emulated '*'"),
    ],
)
def test_a_name_that_no_register_has_is_refused(
    option: str, typo: str, words: str, recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for what in ((), ("--count",), ("--compare", recorded)):
        assert words in refusal(capsys, recorded, option, typo, *what)


def test_a_choice_without_any_access_is_said(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", str(recorded), "--register", "FDIRHASH"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "" and re.search(r"none of its \d+ accesses matches the options", captured.err)


def test_accesses_are_counted_by_register(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heading, *lines, total = output(capsys, recorded, "--count").splitlines()
    assert heading.split() == ["reads", "writes", "register"]
    counts = {line.split()[2]: (int(line.split()[0]), int(line.split()[1])) for line in lines}
    assert counts["FTQF[0..127]"] == (128, 128) and counts["TDT[0]"] == (0, 1)
    assert [line.split(maxsplit=3)[3] for line in lines if " TDT[0] " in line] == ["Transmit Descriptor Tail"]
    assert total.split()[:2] == [str(sum(column)) for column in zip(*counts.values())]


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_json_has_each_chosen_access(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = objects(output(capsys, recorded, "--json", "--register", "RTTDT1C"))
    assert len(found) == 128 and {each["value"] for each in found} == {0}
    last = objects(output(capsys, recorded, "--json", "--writes", "--register", "RXDCTL"))[0]
    assert last.pop("seconds") > 0 and last == {
        "write": True,
        "register": "RXDCTL[0]",
        "long_name": "Receive Descriptor Control",
        "offset": 0x1028,
        "value": 0x0200_0000,
        "mask": 0xFFFF_FFFF,
        "text": "ENABLE=1",
        "section": "8.2.3.8.6",
        "caller": "driver/queues.py:enable_receive_queue",
    }


def test_json_counts_and_compares_by_register(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counted = {
        each["register"]: (each["reads"], each["writes"])
        for each in objects(output(capsys, recorded, "--count", "--json"))
    }
    assert counted["RTTDT1C"] == (0, 128)
    other = tmp_path / "other.trace"
    other.write_text("W BAR0 0x08100 4 00000010\n")
    different = {each["register"]: each for each in objects(output(capsys, recorded, "--compare", other, "--json"))}
    assert [access["value"] for access in different["DTXMXSZRQ"]["b"]] == [0x10] and different["DTXMXSZRQ"][
        "first_difference"
    ] == 0
    assert different["DMATXCTL"]["a"] and not different["DMATXCTL"]["b"]


def test_a_trace_without_times_cannot_be_filtered_by_time(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "listing").write_text(LISTING)
    assert len(output(capsys, tmp_path / "listing").splitlines()) == 10
    assert "listing has no times" in refusal(capsys, tmp_path / "listing", "--from", "1")
    assert "listing has no times" in refusal(capsys, recorded, "--compare", tmp_path / "listing", "--to", "1")


# ---- compared ----


def test_two_runs_of_a_driver_write_the_same(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_port("emulated", busy_poll=True, trace=tmp_path / "again") as port:
        port.send([bytes(60)])
        port.flush()
    first, second, rest = output(capsys, recorded, "--compare", tmp_path / "again").split("\n", 2)
    assert first.startswith(f"A is {recorded}: ") and first.split(": ")[1] == second.split(": ")[1]
    assert rest.startswith("Written in both, with the same values: ") and rest.count("\n") == 1
    assert "RDBAL[0]" in rest and "MPSAR[0..255]" in rest


def test_the_first_difference_of_a_register_is_shown_by_field(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_port(
        "emulated", busy_poll=True, promiscuous=True, mtu=9000, rx_queues=2, trace=tmp_path / "other"
    ) as port:
        port.send([bytes(60)])
        port.flush()
    text = output(capsys, recorded, "--compare", tmp_path / "other")
    assert re.search(
        r"^  FCTRL +A .*\n +B .*\n +first at value 1: MPE 0x0 in A, 0x1 in B; UPE 0x0 in A, 0x1 in B$",
        text,
        re.MULTILINE,
    )
    assert re.search(r"^  MAXFRS +A .*\n +B .*\n +first at value 1: MFS 0x5ee in A, 0x233a in B$", text, re.MULTILINE)
    assert re.search(r"^Written in B only\n(  .*\n)*  RDLEN\[1\] ", text, re.MULTILINE)
    assert "Written in A only" not in text and "another order" not in text
    same = text.splitlines()[-1]
    assert same.startswith("Written in both, with the same values: ") and "FCTRL" not in same and "RDBAL[0]" in same


def test_another_order_is_shown_with_the_register_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = {
        "RXCTRL": "W BAR0 0x03000 4 00000001\n",
        "HLREG0": "W BAR0 0x04240 4 00000001\n",
        "FCTRL": "W BAR0 0x05080 4 00000001\n",
    }
    (tmp_path / "a").write_text(lines["RXCTRL"] + lines["HLREG0"] + lines["FCTRL"])
    (tmp_path / "b").write_text(lines["HLREG0"] + lines["FCTRL"] + lines["RXCTRL"] * 9)
    assert output(capsys, tmp_path / "a", "--compare", tmp_path / "b").splitlines()[2:] == [
        "Written in another order (by the first write of each)",
        "  RXCTRL               A first, B after FCTRL",
        "Written in both, with the same values: RXCTRL, HLREG0, FCTRL",
    ]


def test_bits_that_a_listing_sets_are_compared_with_whole_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").write_text("SET   01028 RXDCTL[0] 02000000\nCLR   03000 RXCTRL 00000001\n")
    (tmp_path / "b").write_text("W BAR0 0x01028 4 46000000\nW BAR0 0x03000 4 00000001\n")
    text = output(capsys, tmp_path / "a", "--compare", tmp_path / "b")
    assert "first at value 1: RXEN 0x0 in A, 0x1 in B" in text and text.endswith("with the same values: RXDCTL[0]\n")


def test_registers_of_an_array_are_shown_as_ranges() -> None:
    assert ranges(["RXCTRL"]) == "RXCTRL"
    assert ranges([f"A[{i}]" for i in (0, 1, 2, 5, 8, 10, 12, 40)]) == "A[0..2,5,8,10..12,40]"
    assert ranges(["A[3]"]) == "A[3]"


# ---- compressed, damaged and other files ----


def test_a_compressed_trace_is_read_without_unpacking_it_first(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with gzip.open(tmp_path / "port.trace.gz", "wb") as packed:
        packed.write(recorded.read_bytes())
    assert output(capsys, tmp_path / "port.trace.gz") == output(capsys, recorded)


@pytest.mark.parametrize("packed", [False, True])
def test_the_lines_of_a_truncated_file_are_used(
    packed: bool, recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = gzip.compress(recorded.read_bytes()) if packed else recorded.read_bytes()
    everything = [str(access) for access in TraceFile(recorded)]
    for length in range(len(whole) // 10, len(whole) // 10 + 40):
        (tmp_path / "cut").write_bytes(whole[:length])
        assert main(["trace", str(tmp_path / "cut"), "--count"]) == 0
        complaint = capsys.readouterr().err
        part = [str(access) for access in TraceFile(tmp_path / "cut")]
        assert part == everything[: len(part)] and part
        clean = not packed and whole[length - 1 : length] == b"\n"
        if clean:
            assert complaint == ""
        else:
            assert complaint.count("\n") == 1
            assert "not understood and left out" in complaint or "truncated or damaged" in complaint


def test_lines_that_are_not_understood_are_counted_and_the_first_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mixed").write_text("W BAR0 0x06018 4 00000005\nrubbish\nmore\n\nR BAR0 0x00008 4 00080000\n")
    assert main(["trace", str(tmp_path / "mixed")]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 2
    unknown = "2 of 5 lines are not understood and left out, first line 2: 'rubbish'"
    assert captured.err == f"ixrings trace: {tmp_path / 'mixed'}: {unknown}\n"


FOREIGN: dict[str, Callable[[], bytes]] = {
    "empty": lambda: b"",
    "text": lambda: b"Dear Sir or Madam,\n" * 50,
    "binary": lambda: random.Random(1).randbytes(200_000),
    "program": lambda: Path(sys.executable).read_bytes()[:500_000],
    "one line": lambda: b"x" * 3_000_000,
    "gzip of nothing": lambda: gzip.compress(b""),
    "gzip of text": lambda: gzip.compress(b"hello\n"),
    "gzip of zeros": lambda: gzip.compress(bytes(100_000_000), 1),
    "gzip's beginning": lambda: b"\x1f\x8b",
    "bad gzip": lambda: b"\x1f\x8b" + bytes(100),
    "pcap": lambda: b"\xd4\xc3\xb2\xa1" + bytes(1000),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_another_file_is_refused_in_a_sentence(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_bytes(FOREIGN[name]())
    complaint = refusal(capsys, tmp_path / "file")
    assert f"{tmp_path / 'file'} is not a register trace: " in complaint and "--trace FILE" in complaint


def test_another_file_is_refused_in_a_comparison(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("hello\n")
    assert "is not a register trace" in refusal(capsys, recorded, "--compare", tmp_path / "file")
    assert "is not a register trace" in refusal(capsys, tmp_path / "file", "--compare", recorded)
    assert "No such file" in refusal(capsys, tmp_path / "none")
    assert "directory" in refusal(capsys, tmp_path)


def test_an_endless_file_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "is not a register trace" in refusal(capsys, "/dev/zero")
    assert "is not a register trace" in refusal(capsys, "/dev/urandom", "--compare", "/dev/zero")


def test_more_values_than_can_be_compared_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ixrings.driver.cli.trace_compare.MOST_VALUES", 1000)
    (tmp_path / "long").write_text("".join(f"W BAR0 0x06018 4 {tail % 512:08x}\n" for tail in range(2000)))
    assert "more than 1000 values" in refusal(capsys, tmp_path / "long", "--compare", tmp_path / "long")
    assert len(output(capsys, tmp_path / "long").splitlines()) == 2000


@pytest.mark.parametrize("kind", ["changed bytes", "lost bytes", "joined lines"])
def test_a_damaged_trace_never_ends_in_a_traceback(
    kind: str, recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dice = random.Random(kind)
    whole = recorded.read_bytes()[:20_000]
    for _ in range(8):
        data = bytearray(whole)
        for _ in range(dice.randrange(1, 200)):
            place = dice.randrange(len(data))
            if kind == "changed bytes":
                data[place] = dice.randrange(256)
            elif kind == "lost bytes":
                del data[place : place + dice.randrange(1, 30)]
            else:
                data = data.replace(b"\n", b"", 1)
        (tmp_path / "damaged").write_bytes(data)
        for words in (["--callers", "--sections"], ["--count"], ["--compare", str(recorded)]):
            assert main(["trace", str(tmp_path / "damaged"), *words]) == 0
            assert capsys.readouterr().err.count("\n") <= 1


def test_a_closed_pipe_is_not_an_error(tmp_path: Path) -> None:
    (tmp_path / "long").write_text("".join(f"W BAR0 0x06018 4 {tail:08x}\n" for tail in range(20_000)))
    command = f"{sys.executable} -m ixrings trace {tmp_path / 'long'}; echo $? >&2"
    done = subprocess.run(
        ["sh", "-c", f"({command}) | head -1"], env=ENVIRONMENT, capture_output=True, text=True, timeout=20
    )
    assert (done.stdout, done.stderr) == ("write TDT[0]           0x00000000\n", "0\n")
