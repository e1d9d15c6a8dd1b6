"""NICs on the PCI bus, as sysfs shows them: find them, bind them to a driver for programs, see what prevents access."""
