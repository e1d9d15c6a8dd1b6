"""README.md of this folder: `python -m hw.emulator.rules > hw/emulator/rules/README.md`."""

from __future__ import annotations

from . import CHAPTERS, rules_of

HEAD = """\
# The datasheet's rules

What a driver must do to an 82599, checked as it happens: `nic.violations` of an `Emulated82599` has what was broken, each a sentence with rule, section, register, values
and the access before it that mattered. `Emulated82599(rules=Policy.RAISE)`, `emulated@rules=raise` or `ixrings emulate --rules raise` make it an exception (RuleBroken),
`ignore` leaves it alone; `record` is what happens otherwise. An error makes the device misbehave; a warning is what drivers are known to get away with.

A rule is a few lines in its chapter here and a case of the same name in [tests/rule_cases.py](../../../tests/rule_cases.py), which keeps it and breaks it:
`pytest tests/test_rules.py -k NAME`. This list is printed by `python -m hw.emulator.rules`.
"""
TAIL = """
Not checked, because what they are about is not modelled: RSC's limits, DCA, DCB and virtualisation, the PCIe device status beside STATUS.GIO_MASTER_EN, the wait
of 100 us after a queue is off, whether a slot that the NIC owns was rewritten, and reserved bits of registers (Linux's own `ethtool -t` writes them).
Behind a vfio-user socket accesses come late, so how long a driver waited is not judged there.
Where a tail is stored at its doorbell's address, and not written by `write32`, only its range is checked, and that ENABLE was read before.
"""


def text() -> str:
    """The whole file."""
    lines = [HEAD]
    for chapter in CHAPTERS:
        title = (chapter.__doc__ or "").partition("\n")[0].rstrip(".")
        lines += [f"## {title}", "", "| rule | section | severity | a driver |", "|---|---|---|---|"]
        lines += [f"| `{rule.name}` | {rule.section} | {rule.severity.value} | {rule.sentence} |" for rule in rules_of(chapter)]
        lines.append("")
    return "\n".join(lines) + TAIL


if __name__ == "__main__":
    print(text(), end="")
