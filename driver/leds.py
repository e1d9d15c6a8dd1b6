"""The port's LEDs (82599 8.2.3.1.5)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ixrings.hw.registers import Registers

ON = 14  # LEDn_MODE
LEDS = range(4)


@contextmanager
def blinking(nic: Registers) -> Iterator[None]:
    """Inside, all four LEDs blink, because boards use them differently; afterwards they are restored."""
    before = nic.LEDCTL.read()
    nic.LEDCTL.write(before, **{f"LED{led}_MODE": ON for led in LEDS}, **{f"LED{led}_BLINK": 1 for led in LEDS})
    try:
        yield
    finally:
        nic.LEDCTL.write(before)
