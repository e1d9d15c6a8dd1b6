"""Headers of frames as numpy dtypes for read() and write(): ETHERNET, IPV4, UDP and TCP.

    ip = port.read(span, IPV4, offset=14)
    ip["src"], ip["protocol"]                # arrays, an element for each frame

The dtypes are big-endian, so that the arrays hold plain numbers. Fields of less than a byte share one: `version_ihl`,
`flags_fragment`, `offset_flags`. Options after IPV4 and TCP are not included.
"""

from __future__ import annotations

import numpy as np

ETHERNET = np.dtype([("dst", "u1", 6), ("src", "u1", 6), ("ethertype", ">u2")])
"""IEEE 802.3: 14 bytes, without a VLAN tag. Addresses are arrays of 6 bytes."""

IPV4 = np.dtype(
    [
        ("version_ihl", "u1"),  # 0x45: version 4, a header of 5 words of 32 bits
        ("tos", "u1"),
        ("total_length", ">u2"),  # bytes, with this header
        ("identification", ">u2"),
        ("flags_fragment", ">u2"),
        ("ttl", "u1"),
        ("protocol", "u1"),  # 6 TCP, 17 UDP
        ("checksum", ">u2"),
        ("src", ">u4"),
        ("dst", ">u4"),
    ]
)
"""RFC 791: 20 bytes."""

UDP = np.dtype([("src", ">u2"), ("dst", ">u2"), ("length", ">u2"), ("checksum", ">u2")])
"""RFC 768: 8 bytes. src and dst are ports."""

TCP = np.dtype(
    [
        ("src", ">u2"),
        ("dst", ">u2"),
        ("seq", ">u4"),
        ("ack", ">u4"),
        ("offset_flags", ">u2"),  # bits 15:12 the header's length in words of 32 bits, 8:0 the flags
        ("window", ">u2"),
        ("checksum", ">u2"),
        ("urgent", ">u2"),
    ]
)
"""RFC 9293: 20 bytes. src and dst are ports."""
