"""The rules of a ring, and the sentence that reports each broken rule."""

from __future__ import annotations

from enum import Enum


class Rule(Enum):
    """A rule that an application may break, or the NIC (HEAD_WRITE_BACK). Python alone checks ADVANCE and NOT_A_SLOT; C
    reports ONE_THREAD as the result of a sync.

    number: the RULE_ of the same name in hotloop.h, if C checks it. In the text, {value} was found in {slot}, and {low}
    to {high} is allowed.
    """

    HEAD_RANGE = 1, "head is {value}, but the ring's slots are {low}..{high}"
    CUR_RANGE = 2, "cur is {value}, but the ring's slots are {low}..{high}"
    HEAD_BACKWARDS = 3, "head moved backwards to {value}; it may be {low} (already handed over) to {high} (tail)"
    HEAD_PAST_TAIL = 4, "head is {value}, past the tail; it may be {low} to {high} (tail)"
    CUR_BEHIND_HEAD = 5, "cur is {value}, before head; it may be {low} (head) to {high} (tail)"
    CUR_PAST_TAIL = 6, "cur is {value}, past the tail; it may be {low} (head) to {high} (tail)"
    BUF_IDX = 7, "slot {slot} has buf_idx {value}, but buffers of this region are {low}..{high} (0 and 1 are reserved)"
    LEN_ZERO = 8, "slot {slot} has len {value}; a slot to send carries {low}..{high} bytes"
    LEN_OVER_BUFFER = 9, "slot {slot} has len {value}; a slot to send carries {low}..{high} bytes, one buffer at most"
    CHAIN_TOO_LONG = (
        10,
        "the frame in slot {slot} has {value} slots up to there; NS_MOREFRAG joins at most {high}",
    )
    CHAIN_NOT_ENDED = 11, "slot {slot} is the last before head and has NS_MOREFRAG; move head only past whole frames"
    INDIRECT = 12, "slot {slot} has NS_INDIRECT (flags {value:#x}); put the data in the slot's own buffer"
    FRAME_TOO_SHORT = (
        13,
        "the frame that ends in slot {slot} has {value} bytes in several slots; the NIC accepts {low}..{high}",
    )
    FRAME_TOO_LONG = 14, "the frame in slot {slot} has {value} bytes up to there; the NIC accepts {low}..{high}"
    HEAD_WRITE_BACK = (
        15,
        "the NIC reports {value} as its head, which can only be {low} to {high}; reopen the port",
    )
    CONTEXT = (
        16,
        (
            "slot {slot} has NS_CONTEXT and ptr {value:#x}, which requests nothing that the NIC can do; "
            "take it from Context(...).word()"
        ),
    )
    CONTEXT_ALONE = (
        17,
        (
            "slot {slot} has NS_CONTEXT (flags {value:#x}); "
            "put it on a slot of its own, directly before the first slot of a frame"
        ),
    )
    CONTEXT_HEADERS = (
        18,
        (
            "the frame in slot {slot} has {value} bytes up to there, and its context needs {low}: "
            "all headers in the first slot, and payload after them if the NIC segments the frame"
        ),
    )
    ADVANCE = (
        19,
        (
            "advance({value}) is outside {low}..{high}, the slots that you own now; "
            "call reserve() first and use its length"
        ),
    )
    NOT_A_SLOT = (
        20,
        "{value} is not a slot of this ring (0..{high}): another program wrote to its head or tail; sync to reset it",
    )

    ONE_THREAD = (
        21,
        (
            "another thread syncs this ring now, and one thread at a time may use a queue; give each thread a queue of "
            "its own, port.queue(k), or take a lock"
        ),
    )

    OFFSET = (
        22,
        "slot {slot} has offset {value} in its ptr; it may be {low}..{high}, so that all bytes stay in the buffer",
    )

    OWN_CRC = (
        23,
        (
            "slot {slot} has NS_OWN_CRC and {value} bytes; a frame with its own CRC has {low}..{high} bytes in one "
            "slot, and no context"
        ),
    )
    OWN_CRC_HERE = (
        24,
        "slot {slot} has NS_OWN_CRC (flags {value:#x}); only a NIC's TX ring sends a frame with its own CRC",
    )

    def __init__(self, number: int, text: str) -> None:
        self.number = number
        self.text = text
