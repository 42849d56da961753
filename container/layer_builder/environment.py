"""The environment variables of the builder, read once."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from layer_builder.ground.errors import UsageError
from layer_builder.ground.settings import Settings

if TYPE_CHECKING:
    from layer_builder.ground.login import Login


def read() -> Settings:
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
    return Settings(
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
    from layer_builder.indexes import credentials
    from layer_builder.requirements.origins import origin_of

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
