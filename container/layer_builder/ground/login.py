"""Who to be for an index."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from layer_builder.ground import redaction


@dataclass(frozen=True, slots=True)
class Login:
    """A user and a password, or a token in its place."""

    username: str
    password: str = field(repr=False)

    @property
    def header(self) -> str:
        """The value of an `Authorization` header (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()

    def __post_init__(self) -> None:
        """Have it blotted out wherever it would be shown."""
        if self.password:
            redaction.remember(self.password, self.header.removeprefix("Basic "))
