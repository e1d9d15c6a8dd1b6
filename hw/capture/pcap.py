"""Read pcap and pcapng files, also compressed by gzip. Link type Ethernet only. Writing is in writer.py.

Formats: draft-ietf-opsawg-pcap (classic), draft-ietf-opsawg-pcapng (see pcapng.py).
A capture is read, not mapped: if another program truncated a mapped file, its readers would die by SIGBUS.
"""

from __future__ import annotations

import os
import stat
import struct
from array import array
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import CaptureError, CaptureTruncated
from ..output import GZIP_MAGIC
from .compressed import decompressed
from .frames import (
    CAPTURE,
    MAX_FRAME,
    NS,
    PCAP_HEADER,
    PCAP_MAGICS,
    Capture,
    bad_length,
    gather,
    linktype_refusal,
    to_capture,
    truncated,
)
from .pcapng import read_pcapng
from .writer import CaptureWriter

__all__ = ["Capture", "CaptureError", "CaptureTruncated", "CaptureWriter", "read_capture"]

Path: TypeAlias = str | os.PathLike[str]

MAX_FILE = 2**31 - 1
COMPRESSED = {  # first bytes, besides gzip's: the program that decompresses to its standard output
    b"\x28\xb5\x2f\xfd": "unzstd -c",
    b"\x04\x22\x4d\x18": "lz4 -dc",
    b"\xfd7zXZ": "xz -dc",
    b"BZh": "bunzip2 -c",
}
# The link type word (draft-ietf-opsawg-pcap 4): bit 26 (P) says that bits 28 to 31 give the length of the FCS.
LINKTYPE_MASK, FCS_PRESENT, FCS_LENGTH_SHIFT = 0xFFFF, 1 << 26, 28


def read_capture(path: Path, *, allow_truncated: bool = False) -> Capture:
    """All frames of a pcap or pcapng file, also of one that gzip has compressed.

    allow_truncated: skip an incomplete record at the end of the file instead of raising CaptureTruncated.
    Raises CaptureTruncated, and CaptureError if the file is missing, is not a capture, has more than 2 GiB, is damaged,
    or has another link type than Ethernet.
    """
    data = read_file(path)
    name = os.fspath(path)
    zipped, whole = data.startswith(GZIP_MAGIC), True
    try:
        if zipped:
            data, whole = decompressed(data, MAX_FILE)
            check_decompressed(data[:6], whole, name)
        capture = (read_pcap if data[:4] in PCAP_MAGICS else read_pcapng)(data, allow_truncated)
        if not whole and not allow_truncated:
            raise CaptureTruncated(f"gzip's data end early; the {len(capture)} frames in them are complete")
        return capture
    except CaptureTruncated as error:
        rescue = f"gunzip -c < {name} | tcpdump -r - -w whole.pcap" if zipped else f"tcpdump -r {name} -w whole.pcap"
        raise CaptureTruncated(f"{name}: {error}; to keep the complete frames, run: {rescue}") from None
    except CaptureError as error:
        raise CaptureError(f"{name}: {error}") from None


def read_file(path: Path) -> bytes:
    """The bytes of a capture file. Raises CaptureError."""
    name = os.fspath(path)
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):  # reading a pipe could wait without bound
            what = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
            raise CaptureError(f"{name} is {what}; give the path of a pcap or pcapng file")
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_FILE:
                raise CaptureError(
                    f"{name} has {size} bytes, and at most {MAX_FILE} can be read; run: editcap -c 1000000 {name} "
                    "part.pcap"
                )
            first = file.read(6)
            if not first.startswith(GZIP_MAGIC):
                check_magic(first, name)
            file.seek(0)
            return file.read(size)
    except OSError as error:
        raise CaptureError(f"{name} cannot be read: {error.strerror}") from error


def check_magic(first: bytes, name: str) -> None:
    """Raises CaptureError unless the file `name` begins with the bytes `first` of pcap or pcapng."""
    if not first:
        raise CaptureError(f"{name} is empty: it has no capture header")
    for magic, command in COMPRESSED.items():
        if first.startswith(magic):
            raise CaptureError(f"{name} is compressed; run: {command} {name} > plain.pcap")
    if not first.startswith(CAPTURE.begins):
        raise CaptureError(
            f"{name} is not a pcap or pcapng file: it begins with the bytes {first[:4].hex(' ')}. If it is a capture "
            f"in another format, run: editcap -F pcap {name} plain.pcap"
        )


def check_decompressed(first: bytes, whole: bool, name: str) -> None:
    """Raises CaptureError unless what gzip has compressed begins with the bytes `first` of pcap or pcapng."""
    if first.startswith(CAPTURE.begins):
        return
    if not whole and len(first) < 4:
        raise CaptureError("gzip's data end early, before the first frame")
    what = f"begins with the bytes {first[:4].hex(' ')}" if first else "is empty"
    raise CaptureError(
        f"what gzip has compressed is not a pcap or pcapng file: it {what}. To look at it alone, run: "
        f"gunzip -c < {name} > inside"
    )


def read_pcap(data: bytes, allow_truncated: bool) -> Capture:
    """Frames of a classic pcap file. Raises CaptureError, CaptureTruncated."""
    order, unit_ns, header = PCAP_MAGICS[data[:4]]
    if len(data) < PCAP_HEADER:
        raise CaptureError(f"the file header is truncated: it needs {PCAP_HEADER} bytes and the file has {len(data)}")
    major, minor, linktype = struct.unpack_from(order + "HH12xI", data, 4)
    if major != 2:
        raise CaptureError(f"pcap version {major}.{minor} is not supported; current programs write 2.4")
    if linktype & FCS_PRESENT and linktype >> FCS_LENGTH_SHIFT:
        raise CaptureError(
            f"the link type word {linktype:#010x} means that frames include their FCS; capture without FCS"
        )
    if refusal := linktype_refusal(linktype & LINKTYPE_MASK, "the file"):
        raise CaptureError(refusal)
    positions = scan_records(data, order, header, allow_truncated)
    layout = np.dtype(
        [("seconds", order + "u4"), ("fraction", order + "u4"), ("captured", order + "u4"), ("wire", order + "u4")]
    )
    records = gather(data, layout, positions)
    times = records["seconds"].astype(np.int64) * NS + records["fraction"].astype(np.int64) * unit_ns
    return to_capture(data, positions + header, records["captured"], records["wire"], times)


def scan_records(data: bytes, order: str, header: int, allow_truncated: bool) -> npt.NDArray[np.int64]:
    """Byte positions of the record headers, each of `header` bytes."""
    found = array("q")
    captured_at = struct.Struct(order + "8xI4x").unpack_from
    at, size = PCAP_HEADER, len(data)
    while at + header <= size:
        (captured,) = captured_at(data, at)
        if captured > MAX_FRAME:
            raise CaptureError(f"record {len(found) + 1} at byte {at} {bad_length(captured)}")
        if at + header + captured > size:
            break
        found.append(at)
        at += header + captured
    if at < size and not allow_truncated:
        needs = header + (captured_at(data, at)[0] if at + header <= size else 0)
        raise truncated(f"record {len(found) + 1}", at, needs, size - at, len(found))
    return np.array(found, np.int64)
