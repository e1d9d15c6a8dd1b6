"""Variations of the labs' solutions, made mechanically: wrong constants, other registers, lines removed or exchanged.

    python -m tests.support.lab_mutants        # all labs: what the checker says to each variation
    python -m tests.support.lab_mutants 03 05  # some labs

Read the answers: each must describe what is wrong in the changed line, and blame nothing else.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.lab_verdicts import LABS, Case, judged

GAP = re.compile(r"( *)# GAP (\d+): ")
NEIGHBOURS = {  # names that students take for each other
    "TDBAL": ("TDBAH", "RDBAL"),
    "TDBAH": ("TDBAL", "RDBAH"),
    "TDLEN": ("TDT", "RDLEN"),
    "TDT": ("TDH", "RDT"),
    "TDH": ("TDT",),
    "RDBAL": ("RDBAH", "TDBAL"),
    "RDBAH": ("RDBAL", "TDBAH"),
    "RDLEN": ("RDT", "TDLEN"),
    "RDT": ("RDH", "TDT"),
    "TXDCTL": ("RXDCTL", "DMATXCTL"),
    "RXDCTL": ("TXDCTL",),
    "DMATXCTL": ("RXCTRL",),
    "RXCTRL": ("DMATXCTL",),
    "SRRCTL": ("RXDCTL",),
    "DCA_RXCTRL": ("DCA_TXCTRL",),
    "DCA_TXCTRL": ("DCA_RXCTRL",),
    "TDWBAL": ("TDWBAH", "TDBAL"),
    "TDWBAH": ("TDWBAL", "TDBAH"),
    "EIMC": ("EIMS", "EICR"),
    "EIMS_EX": ("EIMC_EX", "EICS_EX"),
    "EIAM_EX": ("EIMS_EX",),
    "EIAC": ("EIAM",),
    "IVAR": ("IVAR_MISC",),
    "RAL": ("RAH",),
    "RAH": ("RAL",),
    "EEC": ("EERD",),
    "STATUS": ("CTRL",),
    "LINKS": ("AUTOC",),
    "RX_DD": ("TX_DD",),
    "TX_DD": ("RX_DD",),
    "EOP": ("RS",),
    "IFCS": ("EOP",),
    "RS": ("IFCS",),
    "DEXT": ("RS",),
    "iova": ("address",),
    "update": ("write",),
    "slot": ("0", "self.next"),
    "rx_rings": ("tx_rings",),
    "received": ("sent",),
    "sent": ("received",),
    "poll": ("flush",),
}


@dataclass(frozen=True)
class Mutant:
    """line: the changed line, or what happened to it. script: the whole file."""

    lab: str
    gap: int
    line: str
    script: str


def mutants(lab: str) -> list[Mutant]:
    """All variations of the gaps of a lab, in the order of the file; none twice, and each is valid Python."""
    text = next(LABS.glob(f"{lab}_*/solution.py")).read_text(encoding="utf-8")
    found: dict[str, Mutant] = {}
    for gap, first, last in gap_lines(text):
        for what, script in variations(text, first, last):
            if script != text and is_python(script):
                found.setdefault(script, Mutant(lab, gap, what, script))
    return list(found.values())


def is_python(script: str) -> bool:
    try:
        ast.parse(script)
    except SyntaxError:
        return False
    return True


def gap_lines(text: str) -> Iterator[tuple[int, int, int]]:
    """The number of each gap, and its first and its last line; lines count from 1."""
    lines = text.splitlines()
    for at, line in enumerate(lines):
        if gap := GAP.match(line):
            first = at + 1
            while lines[first].lstrip().startswith("#"):
                first += 1
            last = first
            while last + 1 < len(lines) and lines[last + 1].strip():
                last += 1
            yield int(gap[2]), first + 1, last + 1


def variations(text: str, first: int, last: int) -> Iterator[tuple[str, str]]:
    tree = ast.parse(text)
    inside = [node for node in ast.walk(tree) if isinstance(node, ast.expr | ast.stmt) and first <= node.lineno <= last]
    statements = [node for node in inside if isinstance(node, ast.stmt)]
    yield from statements_changed(text, statements)
    for node in inside:
        for new in replacements(node):
            yield replaced(text, node, new)


def statements_changed(text: str, statements: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    """Each statement removed, and exchanged with the one after it."""
    lines = text.splitlines()
    for node in statements:
        start, end = node.lineno - 1, node.end_lineno or node.lineno
        what = lines[start].strip()
        yield f"removed: {what}", joined([*lines[:start], " " * node.col_offset + "pass", *lines[end:]])
        after = next(
            (other for other in statements if other.lineno == end + 1 and other.col_offset == node.col_offset), None
        )
        if after:
            stop = after.end_lineno or after.lineno
            order = [*lines[:start], *lines[end:stop], *lines[start:end], *lines[stop:]]
            yield f"exchanged with the next: {what}", joined(order)


def joined(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def replacements(node: ast.AST) -> Iterator[str]:
    """What may stand in a node's place."""
    match node:
        case ast.Constant(value=bool()):
            pass
        case ast.Constant(value=int(number)):
            yield from (str(other) for other in (0, number - 1, number + 1, number * 2) if 0 <= other != number)
        case ast.Constant(value=float(number)):
            yield from ("0.0", str(number / 10))
        case ast.Constant(value="little"):
            yield '"big"'
        case ast.Name(id=name):
            yield from NEIGHBOURS.get(name, ())
        case ast.Attribute(value=value, attr=name):
            yield from (f"{ast.unparse(value)}.{other}" for other in NEIGHBOURS.get(name, ()))
        case ast.BinOp(left=left, right=right):
            yield from (ast.unparse(left), ast.unparse(right))
        case ast.UnaryOp(operand=operand):
            yield ast.unparse(operand)
        case ast.Compare(left=left, ops=[ast.Lt()], comparators=[right]):
            yield f"{ast.unparse(left)} <= {ast.unparse(right)}"
        case ast.Compare(left=left, ops=[ast.Eq()], comparators=[right]):
            yield f"{ast.unparse(left)} != {ast.unparse(right)}"
        case ast.Call(func=ast.Attribute(attr="write" | "update" | "wait") as function, keywords=keywords):
            arguments = [ast.unparse(argument) for argument in node.args]
            for left_out in keywords:
                rest = [f"{each.arg}={ast.unparse(each.value)}" for each in keywords if each is not left_out]
                if arguments or rest:
                    yield f"{ast.unparse(function)}({', '.join([*arguments, *rest])})"


def replaced(text: str, node: ast.expr | ast.stmt, new: str) -> tuple[str, str]:
    lines = text.splitlines()
    start, end = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    before = lines[start].encode()[: node.col_offset].decode()
    after = lines[end].encode()[node.end_col_offset :].decode()
    line = before + new + after
    return line.strip(), joined([*lines[:start], line, *lines[end + 1 :]])


def hasty(text: str) -> str:
    """The script with a shorter wait: these scripts wait for something that never happens."""
    text = re.sub(r"^PATIENCE_S = .*$", "PATIENCE_S = 0.3", text, flags=re.MULTILINE)
    return text.replace("PATIENCE_MS = 2000", "PATIENCE_MS = 300")


def main() -> None:
    for lab in sys.argv[1:] or [f"{number:02}" for number in range(1, 13) if number != 11]:
        each = mutants(lab)
        verdicts = judged([Case(lab, hasty(mutant.script), 4.0) for mutant in each])
        for mutant, verdict in zip(each, verdicts):
            texts = [verdict.missing, *verdict.complaints, verdict.ending, *(f"({text})" for text in verdict.remarks)]
            print(f"\n{lab} gap {mutant.gap}: {mutant.line}\n  {'PASSED' if verdict.passed else ''}", end="")
            print("\n  ".join(text for text in texts if text))


if __name__ == "__main__":
    main()
