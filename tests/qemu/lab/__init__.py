"""The QEMU lab: what it is made of, where it is, guests, emulated NICs for them, and the far ends of their cables."""
