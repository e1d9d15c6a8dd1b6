"""What this process holds: descriptors, shared mappings, threads and child processes. Used to find leaks of a test."""

from __future__ import annotations

import os


def shared_mappings() -> set[str]:
    """Mappings of memfds: regions and DMA memory, in a client or a server."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as lines:
        return {f"mapping {line.split()[0]} of {line.split()[5]}" for line in lines if "/memfd:" in line}


def descriptors() -> set[str]:
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.add(f"descriptor {fd}, {os.readlink(f'/proc/self/fd/{fd}')}")
        except FileNotFoundError:  # the descriptor that listed the directory
            pass
    return found


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except (FileNotFoundError, ProcessLookupError):
        return "ended"


def tasks() -> set[str]:
    """Threads, also those of C, and child processes, also zombies."""
    found = set()
    for tid in os.listdir("/proc/self/task"):
        found.add(f"thread {tid} ({read(f'/proc/self/task/{tid}/comm')})")
        for child in read(f"/proc/self/task/{tid}/children").split():
            if child.isdecimal():
                found.add(f"child process {child} ({read(f'/proc/{child}/comm')})")
    return found


def held() -> set[str]:
    return descriptors() | shared_mappings() | tasks()
