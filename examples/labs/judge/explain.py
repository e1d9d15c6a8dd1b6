"""Turns evidence into sentences for the student: what is missing, which rules were broken, how the script ended."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from gaps import still_open

from .evidence import Evidence, Lab
from .rules import is_error
from .sandbox import MOST_MEMORY, MOST_OUTPUT, Ending

MOST_COMPLAINTS = 5
STOPPED = "The script stopped in line"
MOST_LINES = 12  # of a script's error output


@dataclass(frozen=True)
class Verdict:
    """missing: the first thing that the lab asks for and the script did not do. complaints: rules that the script
    broke. remarks: broken rules that real NICs tolerate. ending: how the script ended, "" for a good end. note: why
    files could not be saved, or "".
    """

    passed: bool
    missing: str
    complaints: tuple[str, ...]
    remarks: tuple[str, ...]
    ending: str
    open_gaps: tuple[int, ...]
    note: str = ""

    @property
    def reason(self) -> str:
        """The first reason why the script did not pass, for a table."""
        first = (self.ending, self.missing) if self.stopped else (self.missing, *self.complaints, self.ending)
        return "" if self.passed else next(text for text in first if text)

    @property
    def stopped(self) -> bool:
        """Whether an error in a line of the script ended it: what is missing then is mostly what follows that line."""
        return self.ending.startswith(STOPPED)

    def __str__(self) -> str:
        parts: list[str] = []
        if self.stopped:
            parts.append(self.ending)
        if self.missing:
            parts.append(f"What was missing until then: {self.missing}" if self.stopped else self.missing)
        if self.complaints:
            parts.append("The NIC reports:\n" + "\n".join(f"  - {complaint}" for complaint in self.complaints))
        if self.ending and not self.stopped:
            parts.append(self.ending)
        if self.open_gaps and not self.passed:
            parts.append(f"Still open in the file: GAP {', '.join(map(str, self.open_gaps))}.")
        if self.remarks:
            parts.append(
                "This works, but the datasheet asks for something else:\n"
                + "\n".join(f"  - {remark}" for remark in self.remarks)
            )
        return "\n\n".join(parts + [self.note] * bool(self.note))


def judge(lab: Lab, evidence: Evidence, script: str) -> Verdict:
    """The verdict on one run. script: the file's text before the run."""
    steps = lab.steps if evidence.opened else (untouched,)
    missing = next((text for step in steps if (text := step(evidence))), "")
    errors = [violation for violation in evidence.complaints if is_error(violation)]
    remarks = [violation for violation in evidence.complaints if not is_error(violation)]
    ending = how_it_ended(evidence, in_c=lab.file.endswith(".c"))
    return Verdict(
        not missing and not errors and not ending,
        missing,
        shorten([str(violation) for violation in errors]),
        shorten([str(violation) for violation in remarks]),
        ending,
        tuple(still_open(script)),
        evidence.not_saved,
    )


def untouched(evidence: Evidence) -> str:
    return "The script did not open the NIC. Write `with open_nic() as device:`, and then Registers(device)."


def shorten(sentences: list[str]) -> tuple[str, ...]:
    more = len(sentences) - MOST_COMPLAINTS
    return (*sentences[:MOST_COMPLAINTS], f"and {more} more") if more > 0 else tuple(sentences)


def how_it_ended(evidence: Evidence, *, in_c: bool = False) -> str:
    """One sentence about a bad end; "" for a good one. in_c: the daemon accesses the NIC, not the program."""
    run = evidence.run
    errors = "\n".join(f"  {line}" for line in run.errors.strip().splitlines()[-MOST_LINES:])
    if run.ending is Ending.FINISHED:
        return ""
    if run.ending is Ending.TIMED_OUT:
        last = evidence.record[-1] if evidence.record and not in_c else None
        bound = "poll() with a timeout, and a number of turns" if in_c else "wait(..., timeout=...)"
        doing = (
            f" Its last access to the NIC was `{last}`, {max(run.seconds - last.at_s, 0):.1f} s before the end."
            if last
            else ""
        )
        return (
            f"The script was still running after {run.seconds:.1f} s and was stopped. A loop that waits needs a "
            f"bound: {bound}.{doing}"
        )
    if run.ending is Ending.TALKED_TOO_MUCH:
        return (
            f"The script printed more than {MOST_OUTPUT // 1024} KB and was stopped: it prints in a loop that does "
            "not end."
        )
    if run.ending is Ending.TOOK_TOO_MUCH:
        return (
            f"The script took more than {MOST_MEMORY >> 20} MB of memory and was stopped. Files in memory, such as "
            "those of memfd_create(), and DMA memory count too."
        )
    if run.ending is Ending.KILLED:
        return f"The script was killed by the signal {signal.Signals(run.code).name}: {why(run.code, in_c=in_c)}"
    if "MemoryError" in run.errors:
        return f"The script asked for more than {MOST_MEMORY >> 20} MB of memory.\n{errors}"
    if run.raised:
        kind = run.errors.strip().splitlines()[-1]
        return f"{STOPPED} {run.raised[1]} with an error: {kind}\n  {run.raised[0]}"
    return (
        f"The script ended with exit code {run.code} and this error:\n{errors}"
        if errors
        else f"The script ended with exit code {run.code} and without an error message."
    )


def why(number: int, *, in_c: bool) -> str:
    if number in (signal.SIGSEGV, signal.SIGBUS) and in_c:
        return (
            "it accessed memory that does not exist. NETMAP_IF, NETMAP_TXRING, NETMAP_RXRING and NETMAP_BUF say where "
            "things are in the mapped memory."
        )
    if number in (signal.SIGSEGV, signal.SIGBUS):
        return (
            "it accessed memory that does not exist. The script uses DMA memory through .view; .iova is the NIC's "
            "address of it."
        )
    if number == signal.SIGXCPU:
        return "it used all of its CPU time."
    return "another program sent the signal, or the script itself did."
