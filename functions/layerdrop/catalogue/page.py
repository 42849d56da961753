"""The catalogue's page: one HTML file that asks for nothing else."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import jinja2

if TYPE_CHECKING:
    from collections.abc import Mapping


def render(index: Mapping[str, Any]) -> bytes:
    """The page of an index, as UTF-8.

    Args:
        index: The index by its schema. What packages and people wrote in it is escaped.
    """
    return _template().render(index=index).encode()


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("layerdrop.catalogue"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("index.html")
