"""NICs on the PCI bus as the kernel shows them: finding them, taking them for a program, and what is in the way."""
