"""The blocks of the software 82599, one file each: registers that do more than hold a value."""
