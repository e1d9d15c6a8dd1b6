"""Draw a ring as a circle of characters."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from ..ring_view import Owner, RingView

CELLS = 64  # the most that are drawn; a cell of a longer ring stands for several slots
ROWS, COLUMNS = 11, 23  # radius; a character is about twice as high as wide
MARKS = {"head": "h", "cur": "c", "tail": "t", "NIC head": "H", "NIC tail": "T"}
MARGIN = len(MARKS) + 1
COLOURS = {Owner.PROGRAM: 32, Owner.GIVEN: 33, Owner.NIC: 34, Owner.DONE: 35, Owner.UNUSED: 90, Owner.DRIVER: 34}
LISTED = 12  # the most slots of an owner in the list


def draw(view: RingView, *, colour: bool = False) -> str:
    """The ring, clockwise from slot 0 at the top, with its pointers, a legend, and a list of the slots with frames."""
    height, width = 2 * ROWS + 3, 2 * (COLUMNS + MARGIN) + 1
    grid = [[" "] * width for _ in range(height)]

    def put(row: float, column: int, text: str) -> None:
        for at, character in enumerate(text, column):
            grid[round(row)][at] = character

    cells = min(CELLS, view.num_slots)
    for cell, owner in enumerate(cell_owners(view, cells)):
        row, column = place(cell / cells, ROWS, COLUMNS)
        grid[row][column] = f"\033[{COLOURS[owner]}m{owner.letter}\033[0m" if colour else owner.letter
        marks = "".join(MARKS[name] for name, slot in view.pointers.items() if slot * cells // view.num_slots == cell)
        row, column = place(cell / cells, ROWS + 1, COLUMNS + 2)
        put(row, column if cell * 2 <= cells else column + 1 - len(marks), marks)
    centre = [view.name, "", *(f"{MARKS[name]}  {name:8} {slot:5}" for name, slot in view.pointers.items())]
    for line, text in enumerate(centre):
        put(ROWS + 1 - len(centre) // 2 + line, width // 2 - len(text) // 2, text[: 2 * COLUMNS - 4])
    return "\n".join(["".join(row).rstrip() for row in grid] + list(legend(view)) + list(listed(view)))


def place(turn: float, rows: int, columns: int) -> tuple[int, int]:
    """Row and column in the grid at `turn` (0..1, clockwise from the top)."""
    angle = 2 * math.pi * turn
    return round(ROWS + 1 - rows * math.cos(angle)), round(COLUMNS + MARGIN + columns * math.sin(angle))


def cell_owners(view: RingView, cells: int) -> Iterator[Owner]:
    """The owner of most slots of each cell."""
    for cell in range(cells):
        inside = view.slots[cell * view.num_slots // cells : (cell + 1) * view.num_slots // cells]
        yield Counter(slot.owner for slot in inside).most_common(1)[0][0]


def legend(view: RingView) -> Iterator[str]:
    """A line for each owner."""
    for owner, number in Counter(slot.owner for slot in view.slots).items():
        yield f"{owner.letter}  {number:5} {'slot' if number == 1 else 'slots'} {owner.words}"
    if view.num_slots > CELLS:
        yield f"One letter stands for {view.num_slots / CELLS:g} slots."


def listed(view: RingView) -> Iterator[str]:
    """The slots that carry a frame, with their descriptors."""
    carrying = [Owner.GIVEN, Owner.NIC, Owner.DONE] if view.transmits else [Owner.PROGRAM, Owner.DONE, Owner.GIVEN]
    for owner in carrying:
        found = [index for index, slot in enumerate(view.slots) if slot.owner is owner]
        for index in found[:LISTED]:
            slot = view.slots[index]
            words = f"buf_idx {slot.buf_idx:5}  len {slot.len:5}  flags {slot.flags:#x}  {slot.descriptor}"
            yield f"{owner.letter} {index:5}  {words}".rstrip()
        if len(found) > LISTED:
            yield f"{owner.letter}        and {len(found) - LISTED} more"
