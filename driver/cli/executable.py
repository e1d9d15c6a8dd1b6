"""Whether a library can be preloaded into a program: what its ELF headers say."""

from __future__ import annotations

import os
import shutil
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

ELF64 = struct.Struct("<16sHHIQQQIHHHHHH")  # Elf64_Ehdr
SEGMENT = struct.Struct("<IIQQQQQQ")  # Elf64_Phdr
PT_INTERP, PT_NOTE = 3, 4
MOST_SCRIPTS = 5  # an interpreter may be a script itself; Linux follows as many


@dataclass(frozen=True)
class Executable:
    """path: of the program, or of the interpreter of a script. why_not: a sentence, "" if preloading works."""

    path: str
    why_not: str = ""
    is_go: bool = False


def examine(path: str) -> Executable:
    """Follow scripts to their interpreter, and look at its headers. A file that cannot be read gets no judgement."""
    try:
        for _ in range(MOST_SCRIPTS):
            interpreter = interpreter_of(path)
            if not interpreter:
                break
            path = interpreter
        return judge(path)
    except (OSError, struct.error):
        return Executable(path)


def interpreter_of(path: str) -> str:
    """The program that runs a script; "" for another file. For `/usr/bin/env NAME` it is NAME."""
    with open(path, "rb") as file:
        first = file.readline(256)
    if not first.startswith(b"#!"):
        return ""
    words = os.fsdecode(first[2:]).split()
    names = [word for word in words[1:] if not word.startswith("-")]
    if words and os.path.basename(words[0]) == "env" and names:
        return shutil.which(names[0]) or words[0]
    return words[0] if words else ""


def judge(path: str) -> Executable:
    with open(path, "rb") as file:
        head = file.read(ELF64.size)
        if not head.startswith(b"\x7fELF"):
            return Executable(path)
        own_class, own_machine = machine_of("/proc/self/exe")
        if (head[4], head[18:20]) != (own_class, own_machine):
            return Executable(path, f"{path} is a program for another kind of processor than this Python")
        segments = list(segments_of(file, head))
        is_go = any(kind == PT_NOTE and is_go_note(file, offset, size) for kind, offset, size in segments)
    if not any(kind == PT_INTERP for kind, _, _ in segments):
        language = "a Go program, statically linked" if is_go else "statically linked"
        return Executable(path, f"{path} is {language}", is_go)
    return Executable(path, gains_rights(path), is_go)


def machine_of(path: str) -> tuple[int, bytes]:
    """Class (32 or 64 bits) and machine of an ELF file."""
    with open(path, "rb") as file:
        head = file.read(20)
    return head[4], head[18:20]


def segments_of(file: BinaryIO, head: bytes) -> Iterator[tuple[int, int, int]]:
    """Kind, offset and size of each segment of a 64-bit program."""
    _, _, _, _, _, table, _, _, _, size, count, _, _, _ = ELF64.unpack(head)
    for i in range(count):
        file.seek(table + i * size)
        kind, _, offset, _, _, length, _, _ = SEGMENT.unpack(file.read(SEGMENT.size))
        yield kind, offset, length


def is_go_note(file: BinaryIO, offset: int, size: int) -> bool:
    """The Go linker leaves a note of type 4, its build id, under the name Go."""
    file.seek(offset)
    return b"\x04\0\0\0Go\0\0" in file.read(min(size, 4096))


def gains_rights(path: str) -> str:
    """A sentence if the program gets more rights than its user: the dynamic linker then ignores LD_PRELOAD."""
    info = os.stat(path)
    if info.st_mode & stat.S_ISUID and info.st_uid != os.geteuid():
        return f"{path} is setuid, and nothing is preloaded into a program that changes its user"
    if info.st_mode & stat.S_ISGID and info.st_mode & stat.S_IXGRP and info.st_gid != os.getegid():
        return f"{path} is setgid, and nothing is preloaded into a program that changes its group"
    with suppress(OSError):
        if os.getxattr(path, "security.capability") and os.geteuid():
            return f"{path} has file capabilities (getcap {path}), and nothing is preloaded into such a program"
    return ""
