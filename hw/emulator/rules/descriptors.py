"""Transmit descriptors, checked by the engine while it sends a frame (82599 7.2.3)."""

from __future__ import annotations

from ..engine.findings import FindingKind
from .findings import ERROR, WARNING, Found, Rule

QUEUE = "TX queue {queue}"


DESCRIPTOR_TYPE = Rule(
    "transmit_descriptor_type",
    "7.2.3.2.4",
    ERROR,
    "A transmit descriptor is legacy, data or context; all descriptors of a frame have one type",
    found=(Found(FindingKind.TX_DESCRIPTOR_TYPE, QUEUE, "TX queue {queue} descriptor {first}: Q1 is {second:#x}"),),
)

CHAIN = Rule(
    "chain_length",
    "7.2.1.1",
    ERROR,
    "A frame has at most 38 descriptors: two fewer than the chip holds",
    found=(
        Found(
            FindingKind.TX_CHAIN_TOO_LONG,
            QUEUE,
            "TX queue {queue}: the frame at descriptor {first} has {second} descriptors or more",
        ),
    ),
)

LENGTH = Rule(
    "frame_length",
    "7.2.3.2.2",
    ERROR,
    "A frame is not empty and not longer than the NIC can send",
    found=(Found(FindingKind.TX_LENGTH, QUEUE, "TX queue {queue} descriptor {first}: {second} bytes cannot be sent"),),
)

PAYLEN = Rule(
    "paylen",
    "7.2.3.2.4",
    ERROR,
    "PAYLEN is the length of the frame; with segmentation, the length without headers",
    found=(
        Found(
            FindingKind.TX_PAYLEN,
            QUEUE,
            "TX queue {queue}: PAYLEN is {first}, the frame's descriptors hold {second} bytes",
        ),
    ),
)

IFCS = Rule(
    "ifcs_with_padding",
    "7.2.3.2.2",
    ERROR,
    "IFCS is set for a frame that is padded",
    found=(
        Found(
            FindingKind.TX_IFCS,
            QUEUE,
            "TX queue {queue} descriptor {first}: the frame has {second} bytes and IFCS is 0",
        ),
    ),
)

CONTEXT = Rule(
    "context_before_use",
    "7.2.3.2.3",
    ERROR,
    "A context descriptor comes before the frame that needs it, and fits it",
    found=(
        Found(
            FindingKind.TX_CONTEXT,
            QUEUE,
            "TX queue {queue}: the frame at descriptor {first} ({second} bytes) and its context do not fit each other",
        ),
    ),
)

LONG_BUFFER = Rule(  # the datasheet's limit; Linux exceeds it, and silicon sends such buffers
    "buffer_length",
    "7.2.3.2.2",
    WARNING,
    "A transmit buffer has at most 15.5 KB",
    found=(Found(FindingKind.TX_LONG_BUFFER, QUEUE, "TX queue {queue} had a buffer of more than {first} bytes"),),
)

SHORT = Rule(  # ASSUMPTION (datasheet not at hand): 17, because Linux pads shorter frames to 17 bytes
    "shortest_frame",
    "7.2.3.2.4",
    WARNING,
    "A frame that is given to the NIC has at least 17 bytes",
    found=(Found(FindingKind.TX_SHORT, QUEUE, "TX queue {queue} descriptor {first}: the frame has {second} bytes"),),
)

OFFLOAD_IFCS = Rule(
    "ifcs_with_offloads",
    "7.2.3.2.2",
    ERROR,
    "IFCS is set for a frame that gets a checksum or a VLAN tag, or is segmented",
    found=(Found(FindingKind.TX_OFFLOAD_IFCS, QUEUE, "TX queue {queue} descriptor {first}: IFCS is 0"),),
)

LEGACY_MODE = Rule(
    "no_legacy_descriptors",
    "7.2.3.1",
    ERROR,
    "Legacy descriptors are not used with DCB or virtualisation",
    found=(Found(FindingKind.TX_LEGACY_MODE, QUEUE, "TX queue {queue}: MTQC is {first:#x}"),),
)

LEGACY_RS = Rule(
    "rs_with_eop",
    "7.2.3.2.2",
    WARNING,
    "RS is set only in the last descriptor of a frame",
    found=(
        Found(
            FindingKind.TX_LEGACY_RS,
            QUEUE,
            "TX queue {queue} descriptor {first} is a legacy one with RS and without EOP",
        ),
    ),
)

LEGACY_CHECKSUM = Rule(
    "legacy_checksum_place",
    "7.2.3.2.2",
    ERROR,
    "A legacy descriptor's CSO is larger than its CSS, and both are inside the frame",
    found=(Found(FindingKind.TX_LEGACY_CHECKSUM, QUEUE, "TX queue {queue}: CSS is {first} and CSO {second}"),),
)
