"""For `python -m layerdrop_client`."""

import sys

from layerdrop_client.cli import main

sys.exit(main())
