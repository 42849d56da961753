"""Fixes: versions that mend something, a vulnerability above all, as they are asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.version import Version

from layer_builder.ground.cooldown import normalized

if TYPE_CHECKING:
    from collections.abc import Iterable

_FIX = re.compile(
    r"(?P<project>[A-Z0-9](?:[A-Z0-9._-]{0,126}[A-Z0-9])?)==(?P<version>[A-Z0-9.!_-]{1,128})",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Fix:
    """A version of a project, by its normalized name: with that, or a newer one, something is mended."""

    project: str
    version: Version

    def __str__(self) -> str:
        return f"{self.project}=={self.version}"

    @property
    def constraint(self) -> str:
        """What the project's version has to be, if it is needed."""
        return f"{self.project}>={self.version}"


def parse(text: str) -> Fix:
    """Read `NAME==VERSION`.

    Raises:
        ValueError: it is none, or the version is a local one, of which there is no newer.
    """
    match = _FIX.fullmatch(text)
    if not match:
        raise ValueError("no project and its version")
    (project,) = normalized([match["project"]])
    return Fix(project, Version(match["version"]))


def greatest(fixes: Iterable[Fix]) -> tuple[Fix, ...]:
    """Take of each project the one that mends most, sorted by name."""
    found: dict[str, Fix] = {}
    for fix in fixes:
        if fix.project not in found or fix.version > found[fix.project].version:
            found[fix.project] = fix
    return tuple(found[name] for name in sorted(found))
