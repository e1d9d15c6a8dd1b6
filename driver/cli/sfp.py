"""`ixrings sfp`: show the SFP+ module in a NIC's cage."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from ixrings.hw.errors import DeviceError

from ..sfp import Diagnostics, Module, dbm, read_module
from .peek import peek

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser("sfp", help="show the SFP+ module: vendor, part, serial number, measurements")
    parser.set_defaults(run=run)
    parser.add_argument("port", metavar="PORT", help="a port's name, such as 0000:03:00.0 or emulated")
    parser.add_argument("--json", action="store_true", help="print JSON instead; null for an empty cage")


def run(options: argparse.Namespace) -> int:
    with peek(options.port) as seen:
        if seen.device is None:
            netdev = seen.function.netdevs[0] if seen.function and seen.function.netdevs else ""
            ask = f"Run: ethtool -m {netdev}" if netdev else "Ask that program (port.sfp)"
            raise DeviceError(f"{seen.holder} has the NIC, and reading the module writes registers. {ask}")
        module = read_module(seen.nic)
    if options.json:
        print(json.dumps(None if module is None else asdict(module), indent=2))
    elif module is None:
        print(f"{options.port}: there is no SFP+ module in the cage")
    else:
        for name, value in described(module):
            if value:
                print(f"{name:14} {value}")
    return 0


def described(module: Module) -> list[tuple[str, str]]:
    """Label and value of each line."""
    measured = module.diagnostics
    return [
        ("module", module.identifier),
        ("type", ", ".join(module.types) or "unknown"),
        ("connector", module.connector),
        ("vendor", module.vendor),
        ("oui", module.oui),
        ("part", module.part),
        ("revision", module.revision),
        ("serial", module.serial),
        ("date", module.date),
        ("wavelength", f"{module.wavelength_nm} nm" if module.wavelength_nm else ""),
        ("reach", ", ".join(f"{metres} m of {name}" for name, metres in module.lengths_m.items())),
        *(measurements(measured) if measured else []),
        *(("doubt", doubt) for doubt in module.doubts),
    ]


def measurements(measured: Diagnostics) -> list[tuple[str, str]]:
    return [
        ("temperature", f"{measured.temperature_c:.1f} C"),
        ("supply", f"{measured.supply_v:.2f} V"),
        ("laser bias", f"{measured.bias_ma:.2f} mA"),
        ("light sent", light(measured.tx_power_mw)),
        ("light received", light(measured.rx_power_mw)),
    ]


def light(power_mw: float) -> str:
    return f"{power_mw:.4f} mW ({dbm(power_mw):.1f} dBm)" if power_mw else "none"
