"""Checks a driver's register accesses against the rules, and keeps the violations."""

from __future__ import annotations

import ctypes
from functools import partial
from typing import Any

from ...register import Row
from ...registers import QUEUES, Registers
from ..engine.library import Engine, Finding
from .access import Access, History, show, vf_of_queue
from .book import Book
from .findings import IOMMU, NO_REGISTER, Policy, Rule, RuleBroken, Violation

TAILS = ("RDT", "TDT")


class Inspector:
    """Checks the accesses to one NIC. The engine is frozen from `before_…` to `after_…`, except for `before_tail`.

    waits_are_seen: False while accesses arrive late; the rules about how long a driver waited are not checked then.
    """

    def __init__(self, engine: Engine, raw: Registers, policy: Policy) -> None:
        self.policy = policy
        self._engine, self._raw, self._book = engine, raw, Book.of_all_chapters()
        self._history = History()
        self._violations: dict[tuple[str, str, tuple[int, ...]], Violation] = {}
        self._taken = 0  # number of the engine's findings in _violations
        self._to_raise: dict[int | None, Violation] = {}  # by the VF that broke a rule; None: the PF
        self.waits_are_seen = True

    # ---- accesses ----

    def before_write(self, row: Row[Any], index: int, value: int, *, vf: int | None = None) -> None:
        if self.policy is not Policy.IGNORE:
            now = self._access(row, index, value, vf=vf)
            for rule in self._book.on_write(row.name):
                self._check(rule, now)

    def before_tail(self, row: Row[Any], index: int, value: int, *, vf: int | None = None) -> None:
        """As before_write, while the engine runs. It moves the head toward the tail that it knows, and no rule depends
        on how far. The engine is frozen only to record a violation.
        """
        if self.policy is Policy.IGNORE:
            return
        now = self._access(row, index, value, vf=vf)
        found = [(rule, rule.check(now)) for rule in self._book.on_write(row.name) if rule.check is not None]
        broken = [(rule, wrong) for rule, wrong in found if wrong]
        if broken:
            with self._engine.frozen():
                for rule, wrong in broken:
                    self._record(rule, now, wrong)

    def after_write(self, row: Row[Any], index: int, value: int) -> None:
        self._history.note_write(row.name, index, value)

    def before_read(self, row: Row[Any], index: int) -> None:
        rules = self._book.on_read(row.name)
        if rules and self.policy is not Policy.IGNORE:
            now = self._access(row, index, 0, is_read=True)
            for rule in rules:
                self._check(rule, now)

    def after_read(self, row: Row[Any], index: int, value: int) -> None:
        self._history.note_read(row.name, index, value)

    def unknown_write(self, offset: int, value: int) -> None:
        for rule in self._book.on_write(NO_REGISTER):
            self._check(rule, self._access(None, offset, value))

    def unmap(self, iova: int, size: int) -> None:
        for rule in self._book.on_unmap:
            self._check(rule, self._access(None, 0, iova, size=size))

    def forget(self) -> None:
        """Called by a reset: what was written before it does not count."""
        self._history.forget()

    def forget_queues(self, queues: range) -> None:
        """Called by the reset of a virtual function."""
        self._history.forget_queues(queues)

    def _access(
        self,
        row: Row[Any] | None,
        index: int,
        value: int,
        *,
        is_read: bool = False,
        size: int = 0,
        vf: int | None = None,
    ) -> Access:
        before = self._engine.registers[row.offset(index) >> 2] if row else 0
        if row is not None and row.name in TAILS and value != before:  # else no rule asks how far the NIC is
            self._engine.call("nic_show_head", row.name == "RDT", index)
        memory = partial(self._memory, index if row is not None and row.count == QUEUES else QUEUES)
        return Access(
            row, index, value, before, self._raw, self._history, memory, is_read, size, self.waits_are_seen, vf
        )

    def _memory(self, queue: int, iova: int, size: int) -> bytes | None:
        """Memory of the function that owns the queue; QUEUES: of the PF."""
        buffer = ctypes.create_string_buffer(size)
        return buffer.raw if self._engine.call("nic_peek", queue, iova, ctypes.addressof(buffer), size) else None

    # ---- violations ----

    def _check(self, rule: Rule, now: Access) -> None:
        assert rule.check is not None, f"{rule.name} checks accesses"
        wrong = rule.check(now)
        if wrong and self.policy is not Policy.IGNORE:
            self._record(rule, now, wrong)

    def _record(self, rule: Rule, now: Access, wrong: str) -> None:
        register = "DMA window" if now.size else now.register
        if now.size:
            done = f"{now.size} bytes at IOVA {now.value:#x} were unmapped"
        elif now.is_read:
            done = f"{register} read"
        else:
            done = f"{register} written {show(now.row, now.value) if now.row else hex(now.value)}"
        self.take()
        violation = Violation(rule, register, now.index if now.row else 0, (now.value,), f"{done}: {wrong}")
        self._add(violation, (), now.vf)

    def take(self) -> None:
        """Add the engine's new findings, so that all violations stay in order."""
        for finding in self._engine.findings()[self._taken :]:
            self._taken += 1
            self._take(finding)

    def _take(self, finding: Finding) -> None:
        rule, found = self._book.found[finding.kind]
        if self.policy is Policy.IGNORE and rule.section != IOMMU:
            return
        queue, first, second = finding.queue, finding.values[0], finding.values[1]
        register = found.register.format(queue=queue)
        if (rule.name, register, ()) not in self._violations:  # otherwise a check of a register access found it, too
            self._add(
                Violation(
                    rule, register, queue, (first, second), found.text.format(queue=queue, first=first, second=second)
                ),
                (first, second),
                vf_of_queue(self._raw, queue),
            )

    def _add(self, violation: Violation, values: tuple[int, ...], vf: int | None) -> None:
        """Record a violation once for each place, however often a driver repeats it."""
        self._violations.setdefault((violation.rule.name, violation.register, values), violation)
        self._to_raise.setdefault(vf, violation)

    def clear(self) -> None:
        self._engine.call("nic_clear_findings")
        self._violations.clear()
        self._taken = 0
        self._to_raise.clear()

    @property
    def violations(self) -> list[Violation]:
        return list(self._violations.values())

    def raise_broken(self, vf: int | None = None) -> None:
        """Raise RuleBroken for the first violation of this function since the last call, if there was one."""
        if self._engine.call("nic_finding_count") > self._taken:
            self.take()
        broken = self._to_raise.pop(vf, None)
        if broken is not None:
            raise RuleBroken(broken)
