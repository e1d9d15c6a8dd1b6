"""Prints README.md of this folder: `python -m ixrings.hw.emulator.rules > hw/emulator/rules/README.md`."""

from __future__ import annotations

from .book import CHAPTERS, rules_of

HEAD = """\
# The datasheet's rules

What a driver must do to an 82599. The emulator checks each register access as it happens, and the engine checks
descriptors as it uses them. `nic.violations` of an `Emulated82599` lists the broken rules, each as a sentence with the
section, the register, the values, and the earlier access that mattered.

| policy | what a broken rule does |
|---|---|
| `record` (default) | it is added to `nic.violations` |
| `raise` | it raises `RuleBroken` |
| `ignore` | nothing |

Choose one with `Emulated82599(rules=Policy.RAISE)`, `emulated@rules=raise` or `ixrings emulate --rules raise`.
With every policy the register behaves as silicon does, as far as is known
([driver/README.md, contract 7](../../../driver/README.md#contracts)).

A driver that breaks an *error* rule makes the device misbehave. Known drivers break a *warning* rule and work on
real cards.

To add a rule, write its lines in a chapter here, and in
[tests/hw/emulator/rule_cases/](../../../tests/hw/emulator/rule_cases) a case with its name that keeps the rule or
breaks it. Run the case with `pytest tests/hw/emulator/test_rules.py -k NAME`.

This list is generated: `python -m ixrings.hw.emulator.rules > hw/emulator/rules/README.md`.
"""
# (what the datasheet says, why there is no rule for it)
NO_RULE = (
    (
        "software does not change a descriptor that the NIC owns (7.1.9)",
        "each descriptor would have to be copied and compared; what the NIC reads is checked",
    ),
    (
        "with head write-back, software does not poll DD (7.2.3.5.2)",
        "the emulator does not see reads of memory",
    ),
    (
        "100 us pass between disabling a queue and freeing its memory (4.6.7.1.2)",
        "a Python driver takes about as long for its next step; reading ENABLE as 0 is checked",
    ),
    (
        "PCIe Device Status shows no pending transaction before a reset (4.2.1.6.1)",
        "reading STATUS.GIO_MASTER_EN as 0 is checked; in an emulated NIC both show the same",
    ),
    (
        "EERD.ADDR has 14 bits (8.2.3.2.2)",
        "a larger address does not fit into the field",
    ),
    (
        "reserved bits keep their value",
        "Linux's `ethtool -t` writes them",
    ),
    (
        "flow control thresholds count 16 bytes, or 32 (8.2.3.3.4)",
        "the datasheet contradicts itself; 32 is assumed, and checked",
    ),
    (
        "settings of arbiters and credits (4.6.11)",
        "DCB is not emulated; it is checked that the registers that enable it agree",
    ),
    (
        "a VF uses nothing but VFMAILBOX while RSTI is 1 (4.6.10)",
        "the PF may reset while a VF's driver works, which cannot know it yet; enabling a queue is checked",
    ),
    (
        "PFQDE covers the queues of a VF before PFVFRE opens its pool (8.2.3.27.9)",
        "the register shows one queue at a time, and a rule sees registers",
    ),
    (
        "EICR causes, RS with WTHRESH, null descriptors, padding, DROP_EN, TXDCTL[0] with TE, self-clearing bits",
        "they describe the NIC; no driver can break them",
    ),
)
TAIL = """
Register accesses through a vfio-user socket arrive late, so rules about how long a driver waited are not checked there.
Posted writes of one tail that wait in the socket together act as the last one, and rules see only that one.
When a driver stores a tail at its doorbell address instead of using `write32`, the emulator checks only the tail's
range, and that ENABLE was read before.
"""


def text() -> str:
    """The whole README.md."""
    lines = [HEAD]
    for chapter in CHAPTERS:
        title = (chapter.__doc__ or "").partition("\n")[0].rstrip(".")
        lines += [f"## {title}", "", "| rule | section | severity | in words |", "|---|---|---|---|"]
        lines += [
            f"| `{rule.name}` | {rule.section} | {rule.severity.value} | {rule.sentence} |"
            for rule in rules_of(chapter)
        ]
        lines.append("")
    lines += ["## What has no rule", "", "| the datasheet | why there is no rule |", "|---|---|"]
    lines += [f"| {statement} | {reason} |" for statement, reason in NO_RULE]
    return "\n".join(lines) + "\n" + TAIL


if __name__ == "__main__":
    print(text(), end="")
