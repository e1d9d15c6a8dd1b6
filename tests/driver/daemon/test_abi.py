"""Structures that stand in several languages agree: netmap's, and the messages between program and daemon.

Python's have to be those of the preload library (rings/shim) and of the header that all test programs and lab 11 use.
"""

from __future__ import annotations

import ctypes
import re
import struct
import subprocess
from collections.abc import Iterator
from enum import IntEnum, IntFlag
from pathlib import Path

import pytest

from ixrings.driver.daemon import abi, protocol
from tests.support.netmap_programs import HEADER
from tests.support.programs import ROOT

SHIM = ROOT / "rings" / "shim"
PROGRAMS = HEADER / "netmap_abi.h"
STRUCTURES: dict[str, type[ctypes.Structure]] = {
    "nmreq_header": abi.Header,
    "nmreq_option": abi.OptionHeader,
    "nmreq_register": abi.Register,
    "nmreq_port_info_get": abi.PortInfo,
    "nmreq_pools_info": abi.PoolsInfo,
    "nmreq_vale_attach": abi.ValeAttach,
    "nmreq_vale_list": abi.ValeList,
    "nmreq_vale_newif": abi.ValeNewif,
    "nmreq_vale_polling": abi.ValePolling,
    "nmreq_port_hdr": abi.PortHeader,
    "nmreq_sync_kloop_start": abi.KloopStart,
}
NUMBERS: dict[str, type[IntEnum] | type[IntFlag]] = {
    "NETMAP_REQ_": abi.Request,
    "NR_REG_": abi.Mode,
    "NR_": abi.Flag,
}


def of_python(text: str) -> Iterator[str]:
    """What Python says about the structures and numbers that `text`, a header, has, as conditions in C."""
    for name, structure in STRUCTURES.items():
        if f"struct {name} {{" not in text:
            continue
        yield f"sizeof(struct {name}) == {ctypes.sizeof(structure)}"
        for field in (str(field[0]) for field in structure._fields_ if not str(field[0]).startswith("pad")):
            place = getattr(structure, field)
            yield f"offsetof(struct {name}, {field}) == {place.offset}"
            yield f"sizeof(((struct {name} *)0)->{field}) == {place.size}"
    for prefix, numbers in NUMBERS.items():
        for number in numbers:
            if re.search(rf"\b{prefix}{number.name}\b", text):
                yield f"{prefix}{number.name} == {int(number)}"


def of_programs(text: str) -> Iterator[str]:
    """What the header of the test programs says about the structures that `text` has, too."""
    for kind, name, member, number in re.findall(
        r"^(AT|SIZE)\((\w+), (?:(\w+), )?(\d+)\);", PROGRAMS.read_text(), re.M
    ):
        if f"struct {name} {{" in text:
            place = f"offsetof(struct {name}, {member})" if kind == "AT" else f"sizeof(struct {name})"
            yield f"{place} == {number}"


def of_protocol() -> Iterator[str]:
    at = 0
    for name, code in zip(
        ("magic", "version", "kind", "error", "size", "value"), protocol.HEADER.format[1:], strict=True
    ):
        yield f"offsetof(struct message, {name}) == {at}"
        yield f"sizeof(((struct message *)0)->{name}) == {struct.calcsize('<' + code)}"
        at += struct.calcsize("<" + code)
    yield f"sizeof(struct message) == {protocol.HEADER.size}"
    yield f"MESSAGE_MAGIC == {protocol.MAGIC}"
    yield f"MESSAGE_VERSION == {protocol.VERSION}"
    yield f"MESSAGE_PAYLOAD == {protocol.MAX_PAYLOAD}"
    yield f"REPLY_DESCRIPTORS <= {protocol.MOST_FDS}"
    for kind in protocol.Kind:
        if f"MESSAGE_{kind.name}" in (SHIM / "wire.h").read_text():
            yield f"MESSAGE_{kind.name} == {int(kind)}"


def compiled(header: Path, conditions: list[str], folder: Path) -> None:
    lines = ["#include <assert.h>", "#include <stddef.h>", f'#include "{header}"']
    lines += [f'static_assert({condition}, "");' for condition in conditions]
    (folder / "conditions.c").write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        ["cc", "-std=c11", "-fsyntax-only", folder / "conditions.c"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("header", [SHIM / "abi.h", PROGRAMS], ids=["library", "programs"])
def test_netmaps_structures_are_the_same_in_python_and_c(header: Path, tmp_path: Path) -> None:
    text = header.read_text()
    conditions = [*of_python(text), *of_programs(text)]
    assert len(conditions) > 150
    compiled(header, conditions, tmp_path)


def test_messages_are_the_same_in_python_and_c(tmp_path: Path) -> None:
    conditions = list(of_protocol())
    assert sum("== " in condition and condition.startswith("MESSAGE_") for condition in conditions) >= 6
    compiled(SHIM / "wire.h", conditions, tmp_path)
