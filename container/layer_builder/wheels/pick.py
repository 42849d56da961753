"""The file that was chosen for a package."""

from __future__ import annotations

from dataclasses import dataclass


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
    """

    name: str
    version: str
    filename: str
    url: str
    sha256: str
    size: int | None = None

    @property
    def is_sdist(self) -> bool:
        """Whether it is no wheel yet but the source of one."""
        return not self.filename.endswith(".whl")
