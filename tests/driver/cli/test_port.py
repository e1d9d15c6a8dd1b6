"""The commands `ixrings regs`, `stats` and `sfp` on the emulated NIC."""

from __future__ import annotations

import json
import re
import select
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from ixrings import open_port
from ixrings.driver.cli import main
from ixrings.driver.cli.regs import Entry, changes, lines, refuse_effects
from ixrings.driver.cli.stats import hardware_counts, per_second
from ixrings.hw.emulator import Emulated82599
from ixrings.hw.errors import DeviceError
from ixrings.hw.registers import Registers
from ixrings.rings import Region, RegionError
from tests.support.programs import Process, interrupt, started


def output(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(words) == 0
    return capsys.readouterr().out


def registers(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in json.loads(output(capsys, "regs", *words, "--json"))["registers"]}


RING = 1024  # slots of a port that no option changes
IXRINGS = [sys.executable, "-m", "ixrings"]


def next_line(process: Process) -> str:
    """The next line of the process's output, in bounded time."""
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], 30)[0], "nothing was printed in 30 s"
    return process.stdout.readline()


def ended_by_ctrl_c(process: Process) -> None:
    """Ctrl-C is the normal end of --watch."""
    _, complaint = interrupt(process)
    assert (process.returncode, complaint) == (0, "")


# ---- regs ----


def test_regs_shows_every_register_whose_read_has_no_effect(capsys: pytest.CaptureFixture[str]) -> None:
    found = registers(capsys, "emulated")
    assert {"CTRL", "STATUS", "LINKS", "AUTOC"} <= set(found)
    by_name = {row.name: row for row in Registers.rows()}
    assert not [name for name in found if by_name[name.partition("[")[0]].access.read_has_effect]
    assert (found["LINKS"]["offset"], found["LINKS"]["long_name"]) == ("0x042a4", "Link Status")


def test_a_named_array_is_shown_whole_with_long_name_and_fields(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(registers(capsys, "emulated", "SRRCTL", "AUTOC")) == 129
    first, others, last = output(capsys, "regs", "emulated", "SRRCTL", "AUTOC").splitlines()
    assert first.startswith("0x01014  SRRCTL[0] ") and "Split Receive Control: " in first
    assert "DESCTYPE=1 (advanced, one buffer)" in first
    assert others.startswith("0x01054  SRRCTL[1..127] ") and "BSIZEPACKET=2" in others
    assert "Auto-Negotiation Control: " in last and "LMS=3 (10G serial)" in last


def test_fields_are_shown_with_their_bits_numbers_and_meanings(capsys: pytest.CaptureFixture[str]) -> None:
    head, *fields = output(capsys, "regs", "emulated", "PCS1GLCTL", "--fields").splitlines()
    assert head == "0x04208  PCS1GLCTL        0x02040000  PCS_1G Link Control"
    assert len(fields) == 5 and fields[-1].split(maxsplit=4) == [
        "[25]",
        "LINK_OK_FIX_EN",
        "=",
        "1",
        "fix of LINK_OK and SYNC_OK; set in normal operation",
    ]
    *_, bam = output(capsys, "regs", "emulated", "FCTRL", "--fields", "--diff").splitlines()
    assert bam.split(maxsplit=6) == ["[10]", "BAM", "=", "0", "->", "1", "accept broadcast"]
    fields_of = registers(capsys, "emulated", "FCTRL", "--fields")["FCTRL"]["fields"]
    assert {"name": "BAM", "high": 10, "low": 10, "value": 1, "meaning": "accept broadcast"} in fields_of


@pytest.mark.parametrize(
    ("name", "finds"),
    [
        ("TXPBS*", {f"TXPBSIZE[{i}]" for i in range(8)}),
        ("rxdctl[5]", {"RXDCTL[5]"}),
        ("VMOLR", {f"PFVML2FLT[{i}]" for i in range(64)}),
        ("VMOLR[3]", {"PFVML2FLT[3]"}),
        ("MHAD?", {"MAXFRS"}),
        ("8.2.3.22.19", {"AUTOC"}),
        ("GPRC", {"GPRC"}),
        ("RUC*", set()),
    ],
)
def test_a_register_is_found_by_part_of_its_name_another_drivers_or_its_section(
    capsys: pytest.CaptureFixture[str], name: str, finds: set[str]
) -> None:
    if finds:
        assert set(registers(capsys, "emulated", name)) == finds
    else:
        assert main(["regs", "emulated", name]) == 1  # a read clears RUC, so a pattern does not find it


def test_diff_shows_the_fields_that_the_driver_has_set(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "regs", "emulated", "--diff").splitlines()
    (fctrl,) = [each for each in text if " FCTRL " in each]
    assert fctrl.endswith("0x00000000 -> 0x00000400  Filter Control: BAM=0->1")
    found = registers(capsys, "emulated", "--diff", "8.2.3.5")
    assert {"GPIE", "EITR[0]", "IVAR[0]"} <= set(found) and "IVAR[63]" not in found
    assert all(entry["value"] != entry["reset"] for entry in found.values())


def test_before_bring_up_only_registers_of_the_eeprom_the_fuses_and_the_link_differ_from_reset() -> None:
    with Emulated82599("sink", manual=True) as nic:
        different = {
            row.label(index)
            for row in Registers.rows()
            for index in range(row.count)
            if row.access.name in ("RW", "RO") and nic.read32(row.offset(index)) != row.reset_value(index)
        }
    assert different == {"RAL[0]", "RAH[0]", "STATUS", "LINKS", "SECTXSTAT", "SECRXSTAT"}


def test_equal_neighbours_share_a_line_and_changes_are_shown_by_field() -> None:
    layout = Registers.RXDCTL.layout
    values = {
        Entry(Registers.RXDCTL, index): layout(value) for index, value in ((0, 0), (2, 0), (4, 0), (6, 1 << 25), (7, 0))
    }
    assert [each.split()[1] for each in lines(values, {})] == ["RXDCTL[0,2..4]", "RXDCTL[6]", "RXDCTL[7]"]
    assert list(changes(layout(1 << 25), layout(1 << 30))) == ["ENABLE=1->0", "VME=0->1"]


@pytest.mark.slow
def test_watch_shows_only_the_registers_that_change(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    socket = str(tmp_path / "nic")
    with started([*IXRINGS, "emulate", "--socket", socket, "--wire", "sink"]) as nic:
        assert "listens" in next_line(nic)
        assert [
            registers(capsys, f"vfio-user:{socket}", "RXDCTL[0]", *up)["RXDCTL[0]"]["text"] for up in ((), ("--up",))
        ] == ["", "ENABLE=1"]
        with started(
            [*IXRINGS, "regs", f"vfio-user:{socket}", "--watch", "0.05", "--json", "8.2.3.1", "LINKS"]
        ) as process:
            assert json.loads(next_line(process))["registers"] == []
            nic.send_signal(signal.SIGUSR1)  # pulls the cable
            seen: dict[str, dict[str, int]] = {}
            while not {"STATUS", "LINKS"} <= set(seen):
                seen.update({entry["name"]: entry for entry in json.loads(next_line(process))["registers"]})
            ended_by_ctrl_c(process)
    assert set(seen) == {"STATUS", "LINKS"}
    assert (seen["STATUS"]["before"], seen["STATUS"]["value"]) == (0x80080, 0x80000)


def test_registers_are_watched_while_frames_arrive() -> None:
    with started([*IXRINGS, "regs", "emulated:source", "--watch", "0.05"]) as process:
        assert re.fullmatch(r"emulated:source: \d+ registers, read every 0.05 s; changes follow\n", next_line(process))
        moves = 0
        for _ in range(1000):
            moves += "RDT[0]" in next_line(process)
            if moves == 3:
                break
        ended_by_ctrl_c(process)
    assert moves == 3


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("RXDTCL", "no register RXDTCL of the 82599 is known. Did you mean RXDCTL?"),
        ("GPR*", "names only registers that change when they are read, or that cannot be read: GPRC."),
    ],
)
def test_a_name_that_stands_for_no_register_is_refused(
    name: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["regs", "emulated", name]) == 1
    assert words in capsys.readouterr().err


def test_a_register_that_a_read_changes_is_not_read_while_a_driver_uses_the_nic() -> None:
    refuse_effects([Registers.CTRL], "ixgbe")
    with pytest.raises(DeviceError, match=r"GPRC changes when it is read \(read to clear\), and ixgbe uses the NIC"):
        refuse_effects([Registers.CTRL, Registers.GPRC], "ixgbe")


def test_a_closed_pipe_is_not_an_error() -> None:
    with started([*IXRINGS, "regs", "emulated", "*"]) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""


# ---- stats ----


def test_stats_gives_every_counter_its_datasheet_name(capsys: pytest.CaptureFixture[str]) -> None:
    counts = json.loads(output(capsys, "stats", "emulated:sink", "--json"))["counts"]
    assert {"GPRC", "GPTC", "GORC", "RXDGBC", "QPRC[0]", "QBTC[15]"} <= set(counts) and set(counts.values()) == {0}
    assert not {"GORCL", "RXDGBCH"} & set(counts)
    assert "GPRC" in output(capsys, "stats", "emulated:sink", "--all")
    assert f"all {len(counts)} counters are 0; to see their names, add --all" in output(
        capsys, "stats", "emulated:sink"
    )
    with Emulated82599("loop") as nic:
        with open_port(nic, promiscuous=True) as port:
            port.send([bytes(60)] * 7)
            port.flush()
            counts = hardware_counts(port.nic)
        assert counts["GPTC"] == counts["QPTC[0]"] == 7 and counts["GOTC"] == 7 * 64


@pytest.mark.slow
def test_watched_stats_show_totals_and_rates() -> None:
    with started([*IXRINGS, "stats", "emulated:source", "--watch", "0.05", "--json"]) as process:
        head, last, looks = json.loads(next_line(process)), -1, []
        for _ in range(400):
            look = json.loads(next_line(process))
            received = look["counts"].get("GPRC", 0)  # a look has no counters that are 0
            if received > last and look["rates"]:  # on a busy machine, nothing may have come between two looks
                looks.append(look)
                last = received
            if len(looks) == 8:
                break
        ended_by_ctrl_c(process)
    assert head["source"].startswith("counts since it was opened")
    # Frames are received between looks, so each look counts frames: at least more than the ring holds, in all.
    assert len(looks) == 8 and last - looks[0]["counts"]["GPRC"] > 2 * RING
    assert all(rate > 0 for look in looks for rate in look["rates"].values())


@pytest.mark.parametrize(
    ("name", "rate", "shown"),
    [
        ("GPRC", 14_880_952.0, "14.88 M/s"),
        ("GORC", 1.25e9, "10.00 Gbit/s"),
        ("QBTC[3]", 125.0, "1.00 kbit/s"),
        ("MPC", 12.0, "12 /s"),
    ],
)
def test_rates_have_the_units_of_a_link(name: str, rate: float, shown: str) -> None:
    assert per_second(name, rate) == shown


# ---- sfp ----


def test_sfp_shows_the_module_and_its_measurements(capsys: pytest.CaptureFixture[str]) -> None:
    module = json.loads(output(capsys, "sfp", "emulated", "--json"))
    assert (module["vendor"], module["part"], module["serial"], module["types"]) == (
        "Intel Corp",
        "IXRINGS-SR",
        "1",
        ["10GBASE-SR"],
    )
    text = output(capsys, "sfp", "emulated")
    assert "850 nm" in text and "300 m of OM3 fibre" in text and "light received 0.5100 mW (-2.9 dBm)" in text


def test_a_lack_of_memory_is_reported_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Region, "for_ports", refuse_memory)
    assert main(["ring", "emulated"]) == 1
    assert capsys.readouterr().err == "ixrings: The region's 0.3 MB cannot be allocated\n"


def refuse_memory(*_: object, **__: object) -> None:
    raise RegionError("The region's 0.3 MB cannot be allocated")
