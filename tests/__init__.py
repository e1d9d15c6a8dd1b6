"""Tests, laid out as the code is; support/ has what they share, qemu/ the guests, bench/ the benchmarks."""

import os
import sys

# A test session starts hundreds of programs. Where this is set, each of them would compile all modules again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
