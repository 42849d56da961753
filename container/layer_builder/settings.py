"""What the machine's owner sets, read once: the environment variables of the builder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the installation, as against those of one build.

    Attributes:
        cache: a folder to keep wheels and index pages in, shared by any number of builders.
        index_url: the package index's simple page; empty for the usual public one.
    """

    cache: Path
    index_url: str = ""

    @classmethod
    def from_environment(cls) -> Settings:
        """Read LAYER_BUILDER_CACHE (else the XDG base directory's cache) and LAYER_BUILDER_INDEX_URL."""
        folder = os.environ.get("LAYER_BUILDER_CACHE")
        if not folder:
            base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
            folder = str(Path(base, "layer-builder"))
        return cls(Path(folder).absolute(), os.environ.get("LAYER_BUILDER_INDEX_URL", ""))
