"""`python -m ixrings` runs the `ixrings` command."""

import sys

from ixrings.driver.cli import main

sys.exit(main())
