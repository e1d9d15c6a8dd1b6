"""The labs by number. A copy for students may have some of them only."""

from __future__ import annotations

from . import lab01, lab02, lab03, lab04, lab05, lab06, lab07, lab08, lab09, lab10, lab11, lab12

LABS = {
    lab.number: lab
    for lab in (
        lab01.LAB,
        lab02.LAB,
        lab03.LAB,
        lab04.LAB,
        lab05.LAB,
        lab06.LAB,
        lab07.LAB,
        lab08.LAB,
        lab09.LAB,
        lab10.LAB,
        lab11.LAB,
        lab12.LAB,
    )
    if lab.is_here
}
