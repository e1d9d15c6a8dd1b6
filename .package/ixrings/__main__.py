"""`python -m ixrings`: the `ixrings` command without its script."""

import sys

from ixrings.driver.cli import main

sys.exit(main())
