"""The resolution's first question, put to uv before the rest of the builder is loaded.

uv and Python's imports take about as long as each other, so side by side they take half. What is asked is
what `resolve` will ask, word for word; if it then asks something else, this was for nothing, and no more.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from layer_builder.ground.errors import BuildError
from layer_builder.indexes import sources
from layer_builder.requirements import parser
from layer_builder.resolution import rounds, uv

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from layer_builder.ground.settings import Settings
    from layer_builder.ground.target import Target


@contextmanager
def begun(text: str, constraints: Sequence[str], target: Target, settings: Settings) -> Iterator[None]:
    """Have uv begin, if it can be told without asking anybody what; it ends with the context at the latest.

    Args:
        text: of the requirements.
        constraints: versions that packages must have if they are needed.
        target: what the layer is for.
        settings: of the installation.
    """
    asks_aws = settings.codeartifact or settings.index_secret
    with ExitStack() as end:
        with suppress(BuildError, OSError):  # who resolves will come to it again, and says so
            wanted = parser.parse(text, settings.allowed, constraints)
            if not (asks_aws or settings.cooldown) and sources.of(settings, wanted.origins).is_public:
                ruled = rounds.recall(wanted, target, settings, None)
                asked = [*wanted.constraints, *ruled.constraints]
                end.enter_context(uv.begun(wanted.texts, asked, target, settings))
        yield
