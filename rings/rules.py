"""What an application may get wrong on a ring, and the error that says so."""

from __future__ import annotations

from enum import Enum


class Rule(Enum):
    """A rule of the ring contract. `number` is hotloop.h's RULE_ of the same name.

    The text's {value} is what was found, {low} and {high} what was allowed, {slot} where.
    """

    HEAD_RANGE = 1, "head is {value}, but the ring's slots are {low}..{high}"
    CUR_RANGE = 2, "cur is {value}, but the ring's slots are {low}..{high}"
    HEAD_BACKWARDS = 3, "head went backwards to {value}; it may stand from {low} (already taken) on to {high} (tail)"
    HEAD_PAST_TAIL = 4, "head is {value}, past the tail; it may stand from {low} on to {high} (tail)"
    CUR_BEHIND_HEAD = 5, "cur is {value}, behind head; it may stand from {low} (head) on to {high} (tail)"
    CUR_PAST_TAIL = 6, "cur is {value}, past the tail; it may stand from {low} (head) on to {high} (tail)"
    BUF_IDX = 7, "slot {slot} has buf_idx {value}, but buffers of this region are {low}..{high} (0 and 1 are reserved)"
    LEN_ZERO = 8, "slot {slot} has len {value}; a slot to send carries {low}..{high} bytes"
    LEN_OVER_BUFFER = 9, "slot {slot} has len {value}; a slot to send carries {low}..{high} bytes, one buffer at most"
    CHAIN_TOO_LONG = (
        10,
        "the frame that ends or goes on in slot {slot} has {value} slots; NS_MOREFRAG joins at most {high}",
    )
    CHAIN_NOT_ENDED = 11, "slot {slot} is the last before head and has NS_MOREFRAG; move head only past whole frames"
    INDIRECT = 12, "slot {slot} has NS_INDIRECT (flags {value:#x}); put the data in the slot's own buffer"
    FRAME_TOO_SHORT = (
        13,
        "the frame that ends in slot {slot} has {value} bytes over several slots; the NIC takes {low}..{high}",
    )
    FRAME_TOO_LONG = 14, "the frame that reaches slot {slot} has {value} bytes; the NIC takes {low}..{high}"
    HEAD_WRITE_BACK = (
        15,
        "the NIC reports {value} as its head, but only {low} on to {high} were given to it; reopen the port",
    )
    CONTEXT = (
        16,
        "slot {slot} has NS_CONTEXT and ptr {value:#x}, which asks for nothing that the NIC does; take it from Context(...).word()",
    )
    CONTEXT_ALONE = (
        17,
        "slot {slot} has NS_CONTEXT (flags {value:#x}), which belongs on a slot of its own right before the first one of a frame",
    )
    CONTEXT_HEADERS = (
        18,
        (
            "the frame of slot {slot} has {value} bytes up to there, and its context needs {low}: "
            "all headers in the first slot, and payload behind them if it is to be cut"
        ),
    )
    ADVANCE = (
        19,
        "advance({value}) is outside {low}..{high}, the slots that are yours now; call reserve() first and use its length",
    )
    NOT_A_SLOT = (
        20,
        "{value} is not a slot of this ring (0..{high}): another program wrote into its head or tail; sync to reset it",
    )

    def __init__(self, number: int, text: str) -> None:
        self.number = number
        self.text = text
