"""The software 82599: `Emulated82599` implements Device. Start reading at README.md."""

from ..errors import WireError
from .faults import Fault, parse_fault
from .nic import DEFAULT_MAC, Emulated82599
from .pf_agent import PfAgent, emulated_vf
from .rules.findings import Policy, RuleBroken, Severity, Violation
from .virtual_function import VirtualFunction
from .wires import WIRES

__all__ = [
    "DEFAULT_MAC",
    "WIRES",
    "Emulated82599",
    "Fault",
    "PfAgent",
    "Policy",
    "RuleBroken",
    "Severity",
    "Violation",
    "VirtualFunction",
    "WireError",
    "emulated_vf",
    "parse_fault",
]
