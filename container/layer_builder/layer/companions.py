"""Packages that belong together, or are in others' layers too, so that a function may meet two versions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layer_builder.ground.wording import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Each release of boto3 requires botocore of its own minor version (its metadata's Requires-Dist), and the
# runtime has both.
_SDK = ("boto3", "botocore")


def warnings(packages: Iterable[str]) -> Iterator[str]:
    """Say what a layer with these packages (by normalized name) may meet in a function."""
    names = set(packages)
    for one, other in (_SDK, _SDK[::-1]):
        if one in names and other not in names:
            yield (
                f"The layer has {one} without {other}: it meets the runtime's own {other}, in a version that"
                f" may not fit. Require both, or exclude both."
            )
    if found := sorted(name for name in names if name.startswith("opentelemetry-")):
        yield (
            f"The layer has {listed(found)} of its own: a layer of OpenTelemetry's or AWS's (ADOT,"
            f" Application Signals) in the same function brings them too, and of each module the one counts"
            f" that is found first. Exclude them if the function has such a layer."
        )
