"""`python -m layer_builder`."""

import sys

from layer_builder.cli import main

sys.exit(main())
