"""`python -m driver.cli`: the `ixrings` command without its script."""

import sys

from driver.cli import main

sys.exit(main())
