"""The two documents by which the watch tells the catalogue: their keys, their schemas, a word in them."""

from __future__ import annotations

from typing import Final

VULNERABILITIES: Final = "catalogue/vulnerabilities.json"
VULNERABILITIES_SCHEMA: Final = "layerdrop/vulnerabilities/1"
OUTDATED: Final = "catalogue/outdated.json"
OUTDATED_SCHEMA: Final = "layerdrop/outdated/1"

SEVERITIES: Final = ("CRITICAL", "HIGH", "MEDIUM", "LOW", "NONE", "UNKNOWN")
"""What a finding may have as `severity`, the worst first."""
