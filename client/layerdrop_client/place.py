"""Which stack is meant, and how to say so again."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from urllib.parse import urlsplit

DEFAULT_STACK = "layerdrop"


@dataclass(frozen=True)
class Place:
    """A stack, its region, and with whose rights it is asked.

    Attributes:
        stack: Its name.
        region: None for what the environment or the profile says.
        profile: Of the shared AWS configuration; None for the environment's.
        endpoint_url: Another AWS than AWS.
        given: The options that a person gave for this, as words.
    """

    stack: str = DEFAULT_STACK
    region: str | None = None
    profile: str | None = None
    endpoint_url: str | None = None
    given: tuple[str, ...] = ()

    @property
    def is_near(self) -> bool:
        """Whether it is on this machine, where asking often costs nobody anything."""
        return self.endpoint_url is not None and urlsplit(self.endpoint_url).hostname in (
            "127.0.0.1",
            "localhost",
            "::1",
        )

    def command(self, *words: str) -> str:
        """A command line for the same place."""
        return shlex.join(["layerdrop", *self.given, *words])
