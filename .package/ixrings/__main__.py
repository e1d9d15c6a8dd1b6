"""`python -m ixrings` runs the `ixrings` command."""

from ixrings.driver.cli import program

program()
