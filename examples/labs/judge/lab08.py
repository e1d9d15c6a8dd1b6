"""Lab 08: RSS (82599 7.1.2.8, 8.2.3.7.12-15)."""

from __future__ import annotations

import struct
from random import Random

from .evidence import Evidence, Lab, Setup
from .shared import PEER, any_mac

QUEUES, FLOWS, PACKETS = 4, 64, 3
WORDS, ENTRIES = 10, 128  # of the key, of the table


def setup(random: Random) -> Setup:
    mac = any_mac(random)
    flows = [udp(mac, random) for _ in range(FLOWS)]
    return Setup(mac, tuple(flow for _ in range(PACKETS) for flow in flows))


def udp(mac: bytes, random: Random) -> bytes:
    """A frame of any flow to 10.0.0.1; checksums are 0, RSS does not look at them."""
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 46, 0, 0, 64, 17, 0) + bytes(
        [10, random.randrange(1, 255), random.randrange(256), 1, 10, 0, 0, 1]
    )
    return mac + PEER + b"\x08\x00" + ip + struct.pack("!HHHH", random.randrange(1024, 65536), 9, 26, 0) + bytes(18)


def all_queues(evidence: Evidence) -> str | None:
    missing = [queue for queue in range(QUEUES) if evidence.set_at("RXDCTL", queue, ENABLE=1) is None]
    if missing:
        return f"RXDCTL[{missing[0]}].ENABLE was never set: RSS spreads frames over {QUEUES} queues, and what it sends to one that is off is lost (82599 4.6.7)."
    return None


def key_written(evidence: Evidence) -> str | None:
    words = [evidence.last("RSSRK", word) for word in range(WORDS)]
    if not any(words):
        return "RSSRK[0..9] were never written: with a key of zeros every hash is 0, and every frame goes to the same queue (82599 8.2.3.7.14)."
    if not all(words):
        return f"RSSRK[{words.index(0)}] is 0: the key has 40 bytes, four in each of 10 registers (82599 8.2.3.7.14)."
    return None


def table_written(evidence: Evidence) -> str | None:
    if not any(access.name == "RETA" for access in evidence.record):
        return "RETA was never written: all 128 entries are 0, so every frame goes to queue 0 (82599 8.2.3.7.15)."
    entries = [evidence.last("RETA", entry // 4) >> 8 * (entry % 4) & 0xF for entry in range(ENTRIES)]
    shares = [entries.count(queue) for queue in range(16)]
    if any(shares[QUEUES:]):
        queue = next(queue for queue in range(QUEUES, 16) if shares[queue])
        return f"RETA names queue {queue} in {shares[queue]} entries: the script has queues 0 to {QUEUES - 1} (82599 8.2.3.7.15)."
    if min(shares[:QUEUES]) < ENTRIES // QUEUES:
        return (
            f"RETA has {shares[:QUEUES]} entries for queues 0 to {QUEUES - 1}: {ENTRIES} entries, four in each of 32 registers, "
            f"are {ENTRIES // QUEUES} for each (82599 8.2.3.7.15)."
        )
    return None


def switched_on(evidence: Evidence) -> str | None:
    asked = next((access.word for access in reversed(evidence.writes("MRQC"))), None)
    if asked is None or asked.MRQE != 1:
        return "MRQC.MRQE is not 1 (RSS): key and table are there, and nobody uses them (82599 8.2.3.7.12)."
    if not asked.UDPIPV4:
        return "MRQC.UDPIPV4 is 0: the frames are UDP over IPv4, so their ports are not hashed, and hosts with many flows stay on one queue (82599 8.2.3.7.12)."
    if not evidence.writes("RXCSUM") or not evidence.writes("RXCSUM")[-1].word.PCSD:
        return "RXCSUM.PCSD was not set: hash and fragment checksum share a place in the descriptor, and 0 chooses the checksum (82599 8.2.3.7.5)."
    return None


def counted(evidence: Evidence) -> str | None:
    total = FLOWS * PACKETS
    if sum(evidence.received[:QUEUES]) != total:
        return f"{sum(evidence.received[:QUEUES])} of {total} frames came into queues 0 to {QUEUES - 1}: is every queue's tail, RDT, written, and reception on?"
    for queue in range(QUEUES):
        said, real = evidence.numbers(f"queue {queue}").get("frames"), evidence.received[queue]
        if said != real:
            printed = "nothing of it" if said is None else f"{said:g}"
            return f'Queue {queue} got {real} frames (QPRC), the script printed {printed}; the line is "queue {queue}: frames={real} ...".'
    return None


def predicted(evidence: Evidence) -> str | None:
    right = int(sum(evidence.numbers(f"queue {queue}").get("predicted", 0) for queue in range(QUEUES)))
    if right == evidence.received[0]:
        return (
            "The script predicted queue 0 for every frame, so its hashes were 0: the hash is in the upper half of the descriptor's first word, "
            "bits 63:32 (82599 7.1.6.2)."
        )
    if right != FLOWS * PACKETS:
        return (
            f"The script predicted the queue of {right} of {FLOWS * PACKETS} frames. The lowest 7 bits of the hash "
            "say which entry of RETA names its queue (82599 7.1.2.8)."
        )
    return None


LAB = Lab("08", setup, (all_queues, key_written, table_written, switched_on, counted, predicted))
