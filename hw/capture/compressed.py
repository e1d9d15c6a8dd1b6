"""What gzip has compressed (RFC 1952): one or more members, the last of which may be incomplete."""

from __future__ import annotations

import io
import zlib

from ..errors import CaptureError
from ..output import GZIP_MAGIC

GZIP = zlib.MAX_WBITS | 16
LEVEL = 1  # the fastest
PIECE = 16384  # bytes


def compressed(data: memoryview) -> bytes:
    """A whole member. A file of such members is complete after each of them."""
    compressor = zlib.compressobj(LEVEL, wbits=GZIP)
    return compressor.compress(data) + compressor.flush()


def decompressed(data: bytes, most: int) -> tuple[bytes, bool]:
    """The contents of a gzip file, and whether they are complete. Raises CaptureError above `most` bytes.

    A piece at a time: `unused_data` copies the rest of what a member was given, and a file may have many members.
    """
    found = io.BytesIO()  # its contents are taken from it without a copy
    at, whole = 0, True
    while data.startswith(GZIP_MAGIC, at):
        member = zlib.decompressobj(GZIP)
        while at < len(data) and not member.eof:
            piece = data[at : at + PIECE]
            try:
                found.write(member.decompress(piece, most + 1 - found.tell()))
            except zlib.error as error:
                raise CaptureError(f"gzip's data are damaged ({error})") from None
            if found.tell() > most:
                raise CaptureError(f"at most {most} bytes can be read, and it has more when decompressed")
            at += len(piece) - len(member.unused_data)
        whole = member.eof
    return found.getvalue(), whole and data[at:] != GZIP_MAGIC[:1]
