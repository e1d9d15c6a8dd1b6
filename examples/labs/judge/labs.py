"""All labs, by number."""

from __future__ import annotations

from . import lab01, lab02, lab03, lab04

LABS = {lab.number: lab for lab in (lab01.LAB, lab02.LAB, lab03.LAB, lab04.LAB)}
