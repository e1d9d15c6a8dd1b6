"""From evidence to sentences for the student: what is missing, which rule was broken by which access, how the script ended."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from gaps import still_open

from .evidence import Evidence, Lab
from .rules import is_error
from .sandbox import MOST_MEMORY, MOST_OUTPUT, Ending

MOST_COMPLAINTS = 5
MOST_LINES = 12  # of what a script printed


@dataclass(frozen=True)
class Verdict:
    """passed, and why not: `missing` is the first thing that the lab asked for in vain, `complaints` what the NIC noticed."""

    passed: bool
    missing: str
    complaints: tuple[str, ...]
    remarks: tuple[str, ...]
    ending: str
    open_gaps: tuple[int, ...]
    note: str = ""

    @property
    def reason(self) -> str:
        """The first of it, for a table."""
        return "" if self.passed else next(text for text in (self.missing, *self.complaints, self.ending) if text)

    def __str__(self) -> str:
        parts: list[str] = []
        if self.missing:
            parts.append(self.missing)
        if self.complaints:
            parts.append("The NIC noticed:\n" + "\n".join(f"  - {complaint}" for complaint in self.complaints))
        if self.ending:
            parts.append(self.ending)
        if self.open_gaps and not self.passed:
            parts.append(f"Still open in the file: GAP {', '.join(map(str, self.open_gaps))}.")
        if self.remarks:
            parts.append(
                "Not wrong, but not the datasheet's way:\n" + "\n".join(f"  - {remark}" for remark in self.remarks)
            )
        return "\n\n".join(parts + [self.note] * bool(self.note))


def judge(lab: Lab, evidence: Evidence, script: str) -> Verdict:
    """script: its text, as it was before it ran."""
    steps = lab.steps if evidence.opened else (untouched,)
    missing = next((text for step in steps if (text := step(evidence))), "")
    errors = [violation for violation in evidence.complaints if is_error(violation)]
    remarks = [violation for violation in evidence.complaints if not is_error(violation)]
    ending = how_it_ended(evidence)
    return Verdict(
        not missing and not errors and not ending,
        missing,
        shorten([str(violation) for violation in errors]),
        shorten([str(violation) for violation in remarks]),
        ending,
        tuple(still_open(script)),
        evidence.not_left,
    )


def untouched(evidence: Evidence) -> str:
    return "The script did not open the NIC: `with open_nic() as device:`, then Registers(device)."


def shorten(sentences: list[str]) -> tuple[str, ...]:
    more = len(sentences) - MOST_COMPLAINTS
    return (*sentences[:MOST_COMPLAINTS], f"and {more} more") if more > 0 else tuple(sentences)


def how_it_ended(evidence: Evidence) -> str:
    """ "" when it ended well."""
    run = evidence.run
    told = "\n".join(f"  {line}" for line in run.errors.strip().splitlines()[-MOST_LINES:])
    if run.ending is Ending.FINISHED:
        return ""
    if run.ending is Ending.TIMED_OUT:
        last = evidence.record[-1] if evidence.record else None
        doing = (
            f" Its last access to the NIC was `{last}`, {max(run.seconds - last.at_s, 0):.1f} s before." if last else ""
        )
        return f"The script was still running after {run.seconds:.1f} s and was ended: a loop that waits needs a bound (wait(..., timeout=...)).{doing}"
    if run.ending is Ending.TALKED_TOO_MUCH:
        return f"The script printed more than {MOST_OUTPUT // 1024} KB and was ended: it prints in a loop that does not end."
    if run.ending is Ending.KILLED:
        return f"The script was ended by {signal.Signals(run.code).name}: {why(run.code)}"
    if "MemoryError" in run.errors:
        return f"The script wanted more than {MOST_MEMORY >> 20} MB of memory.\n{told}"
    return (
        f"The script ended with exit code {run.code} and said:\n{told}"
        if told
        else f"The script ended with exit code {run.code} and said nothing."
    )


def why(number: int) -> str:
    if number in (signal.SIGSEGV, signal.SIGBUS):
        return "it touched memory that is not there. DMA memory is used by .view here, its .iova is the NIC's address for it."
    if number == signal.SIGXCPU:
        return "it used up its time."
    return "something ended it from outside, or it did so itself."
