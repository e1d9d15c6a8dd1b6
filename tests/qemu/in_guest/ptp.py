"""In a guest: use the NIC's IEEE 1588 clock through Linux, and print the results as JSON.

ptp.py clock               the rate of /dev/ptp0, and the effect of settime, adjtime and adjfine
ptp.py send SEQUENCE...    send one Sync message each over Ethernet, and print the hardware's transmit times
ptp.py receive COUNT       receive this many event messages, and print the hardware's receive times
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import socket
import struct
import sys
import time

INTERFACE, ETHER_TYPE, GROUP = "eth0", 0x88F7, bytes.fromhex("011b19000000")
SIOCSHWTSTAMP, TX_ON, V2_EVENT = 0x89B0, 1, 12  # linux/net_tstamp.h
SO_TIMESTAMPING, TX_HARDWARE, RX_HARDWARE, RAW_HARDWARE = 37, 1, 4, 64
SOL_PACKET, ADD_MEMBERSHIP, MULTICAST, MSG_ERRQUEUE = 263, 1, 0, 0x2000
ADJ_FREQUENCY, ADJ_SETOFFSET, ADJ_NANO = 0x2, 0x100, 0x2000  # linux/timex.h
WAIT_S = 20.0


class Timex(ctypes.Structure):
    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("sec", ctypes.c_long),
        ("nsec", ctypes.c_long),
        ("rest", ctypes.c_long * 15),
    ]


def adjust(clock: int, **fields: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.clock_adjtime(clock, ctypes.byref(Timex(**fields))) < 0:
        raise OSError(ctypes.get_errno(), "clock_adjtime")


def both_times(clock: int) -> tuple[int, int]:
    """The kernel's time and this clock's time, from the fastest of ten readings: an interruption makes one slow."""
    readings = []
    for _ in range(10):
        start, ours, end = time.monotonic_ns(), time.clock_gettime_ns(clock), time.monotonic_ns()
        readings.append((end - start, start, ours))
    return min(readings)[1:]


def rate(clock: int, seconds: float = 1.0) -> float:
    """Seconds of this clock in one second of the kernel."""
    start, ours = both_times(clock)
    time.sleep(seconds)
    end, later = both_times(clock)
    return (later - ours) / (end - start)


def clock_scenario() -> dict[str, float]:
    file = os.open("/dev/ptp0", os.O_RDWR)
    clock = (~file << 3) | 3  # FD_TO_CLOCKID
    ahead = (time.clock_gettime_ns(clock) - time.time_ns()) / 1e9
    plain = rate(clock)
    time.clock_settime_ns(clock, 5_000_000_000)
    after_set = time.clock_gettime_ns(clock) / 1e9
    before = time.clock_gettime_ns(clock)
    adjust(clock, modes=ADJ_SETOFFSET | ADJ_NANO, sec=1000, nsec=500)
    stepped = (time.clock_gettime_ns(clock) - before) / 1e9
    adjust(clock, modes=ADJ_FREQUENCY, freq=100_000 << 16)  # 10 %
    return {"ahead": ahead, "rate": plain, "after_set": after_set, "stepped": stepped, "faster": rate(clock)}


def open_socket() -> socket.socket:
    """A raw socket that receives PTP messages, with hardware timestamps in both directions."""
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHER_TYPE))
    raw.bind((INTERFACE, ETHER_TYPE))
    config = struct.pack("iii", 0, TX_ON, V2_EVENT)
    buffer = ctypes.create_string_buffer(config)
    fcntl.ioctl(raw, SIOCSHWTSTAMP, struct.pack("16sP16x", INTERFACE.encode(), ctypes.addressof(buffer)))
    raw.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, TX_HARDWARE | RX_HARDWARE | RAW_HARDWARE)
    raw.setsockopt(
        SOL_PACKET, ADD_MEMBERSHIP, struct.pack("iHH8s", socket.if_nametoindex(INTERFACE), MULTICAST, len(GROUP), GROUP)
    )
    raw.settimeout(WAIT_S)
    return raw


def hardware_stamp(ancillary: list[tuple[int, int, bytes]]) -> int:
    """The hardware's time, the third of three times in the message; 0 when there is none."""
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPING):
            seconds: int
            nanoseconds: int
            seconds, nanoseconds = struct.unpack("32xqq", data[:48])
            return seconds * 10**9 + nanoseconds
    return 0


def send(sequences: list[int]) -> dict[int, int]:
    stamps: dict[int, int] = {}
    with open_socket() as raw:
        for sequence in sequences:
            raw.send(
                GROUP
                + bytes([2, 0, 0, 0, 0, 1])
                + ETHER_TYPE.to_bytes(2, "big")
                + struct.pack("!BB28xH14x", 0, 2, sequence)
            )
            end = time.monotonic() + WAIT_S
            while sequence not in stamps and time.monotonic() < end:
                try:
                    _, ancillary, _, _ = raw.recvmsg(2048, 1024, MSG_ERRQUEUE | socket.MSG_DONTWAIT)
                    stamps[sequence] = hardware_stamp(ancillary)
                except BlockingIOError:
                    time.sleep(0.01)
            time.sleep(0.2)
    return stamps


def receive(count: int) -> dict[int, int]:
    stamps: dict[int, int] = {}
    with open_socket() as raw:
        print("listening", flush=True)
        while len(stamps) < count:
            data, ancillary, _, sender = raw.recvmsg(2048, 1024)
            if sender[2] != socket.PACKET_OUTGOING:
                stamps[int.from_bytes(data[44:46], "big")] = hardware_stamp(ancillary)
    return stamps


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["clock"]:
            print(json.dumps(clock_scenario()))
        case ["send", *sequences]:
            print(json.dumps(send([int(sequence) for sequence in sequences])))
        case ["receive", count]:
            print(json.dumps(receive(int(count))))
        case _:
            sys.exit(__doc__)
