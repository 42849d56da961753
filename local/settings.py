"""What the embedded AWS is called: one account, one region, one stack."""

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
TEMPLATE: Final = ROOT / "template.yaml"
ACCOUNT_ID: Final = "123456789012"  # moto's own
REGION: Final = "us-east-1"
STACK: Final = "layerdrop"
BUCKET: Final = "layerdrop-local"
HOST: Final = "127.0.0.1"
PORT: Final = 4566
"""Where local AWS emulators are usually looked for."""


class PortInUseError(Exception):
    """Another program listens on the port."""
