"""Tests, laid out as the code is; support/ has what they share, qemu/ the guests, bench/ the benchmarks."""
