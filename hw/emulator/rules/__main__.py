"""README.md of this folder: `python -m ixrings.hw.emulator.rules > hw/emulator/rules/README.md`."""

from __future__ import annotations

from .book import CHAPTERS, rules_of

HEAD = """\
# The datasheet's rules

What a driver must do to an 82599, checked as it happens: `nic.violations` of an `Emulated82599` has what was broken, each a sentence with rule, section, register, values
and the access before it that mattered. `Emulated82599(rules=Policy.RAISE)`, `emulated@rules=raise` or `ixrings emulate --rules raise` make it an exception (RuleBroken),
`ignore` leaves it alone; `record` is what happens otherwise. An error makes the device misbehave; a warning is what drivers are known to get away with.

A rule is a few lines in its chapter here and a case of the same name in [tests/](../../../tests)`*rule_cases.py`, which keeps it and breaks it:
`pytest tests/hw/emulator/test_rules.py -k NAME`. This list is printed by `python -m ixrings.hw.emulator.rules`.
"""
TAIL = """
## What has no rule

| the datasheet | why no rule |
|---|---|
| a descriptor that the NIC owns is not rewritten (7.1.9) | each would have to be copied when it is given and compared when it is used; what the NIC then reads is judged |
| DD is not polled where the head is written back (7.2.3.5.2) | reads of memory are not seen |
| 100 us pass between a queue's end and its memory's (4.6.7.1.2) | a driver in Python takes about as long for its next step; that ENABLE was read as 0 is asked for |
| PCIe's Device Status has no transaction pending before a reset (4.2.1.6.1) | STATUS.GIO_MASTER_EN is asked for, and says the same of an emulated NIC |
| EERD.ADDR has 14 bits (8.2.3.2.2) | the field has no more to write |
| reserved bits keep their value | Linux's own `ethtool -t` writes them |
| flow control counts FCRTH by 16 bytes, or by 32 (8.2.3.3.4) | the text and the field contradict each other; 32 is assumed, and judged |
| what arbiters, credits and pools are set to (4.6.10, 4.6.11) | DCB and virtualisation are not emulated; whether the registers that switch them on agree is judged |
| causes of EICR, RS with WTHRESH, null descriptors, padding, DROP_EN, TXDCTL[0] with TE, bits that clear themselves | these tell what the NIC does, and no driver can break them |

Behind a vfio-user socket accesses come late, so how long a driver waited is not judged there.
Where a tail is stored at its doorbell's address, and not written by `write32`, only its range is checked, and that ENABLE was read before.
"""


def text() -> str:
    """The whole file."""
    lines = [HEAD]
    for chapter in CHAPTERS:
        title = (chapter.__doc__ or "").partition("\n")[0].rstrip(".")
        lines += [f"## {title}", "", "| rule | section | severity | a driver |", "|---|---|---|---|"]
        lines += [
            f"| `{rule.name}` | {rule.section} | {rule.severity.value} | {rule.sentence} |"
            for rule in rules_of(chapter)
        ]
        lines.append("")
    return "\n".join(lines) + TAIL


if __name__ == "__main__":
    print(text(), end="")
