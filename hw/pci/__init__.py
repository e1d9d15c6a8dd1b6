"""NICs on the PCI bus: find them in sysfs, bind them to a driver for programs, find out what prevents access."""
