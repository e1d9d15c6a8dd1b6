"""Lab 08: RSS (82599 7.1.2.8, 8.2.3.7.12-15)."""

from __future__ import annotations

import struct
from random import Random

from .evidence import Evidence, Lab, Setup
from .shared import PEER, any_mac

QUEUES, FLOWS, PACKETS = 4, 64, 3
WORDS, ENTRIES = 10, 128  # 32-bit words of the key, entries of the table


def setup(random: Random) -> Setup:
    mac = any_mac(random)
    flows = [udp(mac, random) for _ in range(FLOWS)]
    return Setup(mac, tuple(flow for _ in range(PACKETS) for flow in flows))


def udp(mac: bytes, random: Random) -> bytes:
    """A frame of a random flow to 10.0.0.1. Its checksums are 0; RSS ignores them."""
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 46, 0, 0, 64, 17, 0) + bytes(
        [10, random.randrange(1, 255), random.randrange(256), 1, 10, 0, 0, 1]
    )
    return mac + PEER + b"\x08\x00" + ip + struct.pack("!HHHH", random.randrange(1024, 65536), 9, 26, 0) + bytes(18)


def all_queues(evidence: Evidence) -> str | None:
    missing = [queue for queue in range(QUEUES) if evidence.set_at("RXDCTL", queue, ENABLE=1) is None]
    if missing:
        return (
            f"RXDCTL[{missing[0]}].ENABLE was never set: RSS spreads frames over {QUEUES} queues, and a frame for a "
            "queue that is off is lost (82599 4.6.7)."
        )
    return None


def key_written(evidence: Evidence) -> str | None:
    words = [evidence.last("RSSRK", word) for word in range(WORDS)]
    if not any(words):
        return (
            "RSSRK[0] to RSSRK[9] are 0: with a key of zeros every hash is 0, and every frame goes to "
            "the same queue (82599 8.2.3.7.14)."
        )
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
        return (
            f"RETA names queue {queue} in {shares[queue]} entries; the script has the queues 0 to {QUEUES - 1} "
            "(82599 8.2.3.7.15)."
        )
    if min(shares[:QUEUES]) < ENTRIES // QUEUES:
        return (
            f"RETA has {shares[:QUEUES]} entries for the queues 0 to {QUEUES - 1}. Each queue gets "
            f"{ENTRIES // QUEUES} of the {ENTRIES} entries, which are in 32 registers of four (82599 8.2.3.7.15)."
        )
    wrong = next((entry for entry, queue in enumerate(entries) if queue != entry % QUEUES), None)
    if wrong is not None:
        return (
            f"RETA entry {wrong} names queue {entries[wrong]}, but queue_of({wrong}) is {wrong % QUEUES}: entry e is "
            "the field ENTRY_(e % 4) of RETA[e // 4] (82599 8.2.3.7.15)."
        )
    return None


def switched_on(evidence: Evidence) -> str | None:
    asked = next((access.word for access in reversed(evidence.writes("MRQC"))), None)
    if asked is None or asked.MRQE != 1:
        return "MRQC.MRQE is not 1 (RSS): the NIC does not use the key and the table (82599 8.2.3.7.12)."
    if not asked.IPV4:
        return "MRQC.IPV4 is 0: IPv4 frames that are not UDP are not hashed (82599 8.2.3.7.12)."
    if not asked.UDPIPV4:
        return (
            "MRQC.UDPIPV4 is 0: the ports of UDP over IPv4 are not hashed, so all flows between two hosts go to one "
            "queue (82599 8.2.3.7.12)."
        )
    if not evidence.writes("RXCSUM") or not evidence.writes("RXCSUM")[-1].word.PCSD:
        return (
            "RXCSUM.PCSD was not set: the descriptor has one field for the hash and the fragment checksum, and "
            "PCSD=0 chooses the checksum (82599 8.2.3.7.5)."
        )
    return None


def counted(evidence: Evidence) -> str | None:
    total = FLOWS * PACKETS
    if sum(evidence.received[:QUEUES]) != total:
        return (
            f"The queues 0 to {QUEUES - 1} received {sum(evidence.received[:QUEUES])} of {total} frames. Is RDT of "
            "every queue written, and is reception on?"
        )
    for queue in range(QUEUES):
        claimed, real = evidence.numbers(f"queue {queue}").get("frames"), evidence.received[queue]
        if claimed != real:
            printed = "no frames=" if claimed is None else f"frames={claimed:g}"
            return (
                f'Queue {queue} received {real} frames (QPRC), the script printed {printed}. Print the line "queue '
                f'{queue}: frames={real} ...".'
            )
    return None


def predicted(evidence: Evidence) -> str | None:
    right = int(sum(evidence.numbers(f"queue {queue}").get("predicted", 0) for queue in range(QUEUES)))
    if right == evidence.received[0]:
        return (
            "The script predicted queue 0 for every frame, so its hashes were 0. The hash is in bits 63:32 of the "
            "descriptor's first word (82599 7.1.6.2)."
        )
    if right != FLOWS * PACKETS:
        return (
            f"The script predicted the queue of {right} of {FLOWS * PACKETS} frames. The hash is in bits 63:32 of the "
            "descriptor's first word; its lowest 7 bits are the number of the RETA entry that names the queue (82599 "
            "7.1.2.8, 7.1.6.2)."
        )
    return None


LAB = Lab("08", setup, (all_queues, key_written, table_written, switched_on, counted, predicted))
