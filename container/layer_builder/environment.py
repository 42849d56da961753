"""The environment variables of the builder, read once."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from layer_builder.ground import cooldown
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
        _cooldown(exempt := _exempt()),
        tuple(one for one in exempt if not _is_project(one)),
    )


def _cooldown(exempt: list[str]) -> cooldown.Rule | None:
    """Read the installation's own cooldown."""
    text = os.environ.get("LAYER_BUILDER_COOLDOWN", "")
    if not text:
        return None
    try:
        age = cooldown.parse(text)
    except ValueError as error:
        raise UsageError(
            f"LAYER_BUILDER_COOLDOWN is {text!r}, which is no duration.", hint=f"Write {cooldown.GOOD}."
        ) from error
    return cooldown.Rule(age, cooldown.normalized(filter(_is_project, exempt)))


def _exempt() -> list[str]:
    """Read what the installation exempts: projects, and indexes by address or by CodeArtifact's ARN."""
    from layer_builder.requirements.origins import why_not

    variable = "LAYER_BUILDER_COOLDOWN_EXEMPT"
    given = [one for one in re.split(r"[\s,]+", os.environ.get(variable, "")) if one]
    for one in given:
        if not (_is_project(one) or one.startswith("arn:") or not why_not(one, [one])):
            raise UsageError(
                f"{variable} has {one!r}, which is neither a package nor an index.",
                hint="Write names such as boto3, and addresses such as https://HOST/PATH.",
            )
    return given


def _is_project(text: str) -> bool:
    return bool(re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?", text))


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
