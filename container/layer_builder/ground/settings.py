"""What the machine's owner sets, as against what one build asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from layer_builder.ground.cooldown import Rule
    from layer_builder.ground.login import Login


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
        cooldown: what counts for every build, whatever it asks for; None for nothing.
        ageless: beginnings of addresses of indexes to which no cooldown applies, and the ARN above if it is
            one of them.
    """

    cache: Path
    index_url: str = ""
    extra_index_urls: tuple[str, ...] = ()
    allowed_indexes: tuple[str, ...] = ()
    logins: tuple[tuple[str, Login], ...] = field(default=(), repr=False)
    index_secret: str = ""
    codeartifact: str = ""
    cooldown: Rule | None = None
    ageless: tuple[str, ...] = ()

    @property
    def allowed(self) -> tuple[str, ...]:
        """Beginnings of addresses that a file may name: the installation's own indexes among them."""
        own = filter(None, (self.index_url, *self.extra_index_urls))
        return (*self.allowed_indexes, *own)
