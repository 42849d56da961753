"""The file that was chosen for a package."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

NOT_SAID: Final = "?"


@dataclass(frozen=True, slots=True)
class Pick:
    """The wheel chosen for one package; its source where there is no wheel and building is allowed.

    Attributes:
        name: the project's normalized name.
        version: its version.
        filename: the file's.
        url: where the index has it.
        sha256: the file's digest, in hexadecimal.
        size: the file's length in bytes, if the index says it.
        provenance: where the index says who published it; empty if nobody attested it, `NOT_SAID` if its page
            does not tell; None if that was not read.
    """

    name: str
    version: str
    filename: str
    url: str
    sha256: str
    size: int | None = None
    provenance: str | None = field(default=None, compare=False)

    @property
    def is_sdist(self) -> bool:
        """Whether it is no wheel yet but the source of one."""
        return not self.filename.endswith(".whl")


def said(provenance: str | None) -> str:
    """Write what a page that was read says of a file's provenance; None for nothing."""
    return NOT_SAID if provenance is None else provenance
