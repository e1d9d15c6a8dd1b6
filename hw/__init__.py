"""How to reach an 82599, real or emulated. Policy is in driver/, rings are in rings/."""

if __name__ != "ixrings.hw":  # the root of a checkout is on sys.path
    raise ImportError("import ixrings, not hw: the folder hw/ is the package ixrings.hw")
