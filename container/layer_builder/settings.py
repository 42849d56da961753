"""What the machine's owner sets, read once: the environment variables of the builder."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layer_builder.credentials import Login


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the installation, as against those of one build.

    Attributes:
        cache: a folder to keep wheels and index pages in, shared by any number of builders.
        index_url: the package index's simple page; empty for the usual public one.
        extra_index_urls: indexes that are asked before that one, in this order; what one of them has is taken
            from it alone.
        allowed_indexes: beginnings of addresses that a requirements file may name.
        logins: the credentials that stood in the indexes' URLs, by origin.
        index_secret: name or ARN of the secret with the indexes' credentials; empty for none.
        codeartifact: ARN of the CodeArtifact repository that is the index, in the place of `index_url`.
    """

    cache: Path
    index_url: str = ""
    extra_index_urls: tuple[str, ...] = ()
    allowed_indexes: tuple[str, ...] = ()
    logins: tuple[tuple[str, Login], ...] = field(default=(), repr=False)
    index_secret: str = ""
    codeartifact: str = ""

    @property
    def allowed(self) -> tuple[str, ...]:
        """Beginnings of addresses that a file may name: the installation's own indexes among them."""
        own = filter(None, (self.index_url, *self.extra_index_urls))
        return (*self.allowed_indexes, *own)

    @classmethod
    def from_environment(cls) -> Settings:
        """Read the variables LAYER_BUILDER_…, as `layer-builder -h` lists them.

        Raises:
            UsageError: an address among them makes no sense.
            IndexDeniedError: credentials in one would go over an open line.
        """
        folder = os.environ.get("LAYER_BUILDER_CACHE")
        if not folder:
            base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
            folder = str(Path(base, "layer-builder"))
        logins: dict[str, Login] = {}
        index_url = _addresses("LAYER_BUILDER_INDEX_URL", logins)
        return cls(
            Path(folder).absolute(),
            index_url[0] if index_url else "",
            _addresses("LAYER_BUILDER_EXTRA_INDEX_URLS", logins),
            _addresses("LAYER_BUILDER_ALLOWED_INDEXES", logins),
            tuple(logins.items()),
            os.environ.get("LAYER_BUILDER_INDEX_SECRET", ""),
            os.environ.get("LAYER_BUILDER_CODEARTIFACT", ""),
        )


def _addresses(variable: str, logins: dict[str, Login]) -> tuple[str, ...]:
    """Read addresses with commas or spaces between, and put their credentials where those are kept."""
    given = [url for url in re.split(r"[\s,]+", os.environ.get(variable, "")) if url]
    if not given:
        return ()
    from layer_builder import credentials
    from layer_builder.errors import UsageError
    from layer_builder.origins import origin_of

    found = []
    for one in given:
        try:
            url, login = credentials.split(one)
            origin = origin_of(url)
        except ValueError:
            origin = ""
        if not re.fullmatch(r"https?://[^/]+:\d+", origin):
            raise UsageError(
                f"{variable} has an address that makes no sense.", hint="Write https://HOST/PATH."
            )
        if login:
            logins[origin] = login
        found.append(url)
    return tuple(found)
