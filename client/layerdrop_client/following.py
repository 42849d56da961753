"""Following uploads until they are answered."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from layerdrop_client.history import Progress
from layerdrop_client.problems import DONE, Problem, worst

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from layerdrop_client.aws import Aws
    from layerdrop_client.manifests import Manifest

SECONDS_BETWEEN = 1.0
SECONDS_BETWEEN_NEARBY = 0.2
DETAILED = 10
"""Of more uploads than this only the answers are looked for. Step Functions throttles requests for histories,
for all users of the account together: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html"""

WAITING, BUILDING, ANSWERED, REPLACED = "waiting", "building", "answered", "replaced"


@dataclass(frozen=True)
class Upload:
    """A version of an input.

    Attributes:
        key: The input's.
        version_id: Its version in the bucket.
        since: When it was uploaded, or first looked at, in seconds since the epoch.
    """

    key: str
    version_id: str
    since: float = field(default_factory=time.time, compare=False)


@dataclass(frozen=True)
class Seen:
    """What was seen of an upload.

    Attributes:
        state: One of WAITING, BUILDING, ANSWERED and REPLACED (by a newer upload, which gets the answer).
        manifest: That of this very upload.
        progress: Its steps, as far as they were asked for.
    """

    state: str = WAITING
    manifest: Manifest | None = None
    progress: Progress = field(default_factory=Progress)

    @property
    def ended(self) -> bool:
        """Whether there is nothing more to come."""
        return self.state in (ANSWERED, REPLACED)

    @property
    def problems(self) -> list[Problem]:
        """What went wrong."""
        if self.state == REPLACED:
            hint = "Its answer is that of the newer one; watch shows it."
            return [Problem("SUPERSEDED", "A newer upload of this file has taken over.", hint)]
        return self.manifest.problems if self.manifest else []

    @property
    def exit_status(self) -> int:
        """What a command that waited for it ends with."""
        return worst(problem.exit_status for problem in self.problems)


class StillBuildingError(Exception):
    """Not all were answered in the time that there was, or a person would not wait; builds go on."""

    def __init__(self, keys: Sequence[str], status: int) -> None:
        super().__init__(*keys)
        self.keys = keys
        self.status = status


def follow(
    aws: Aws, uploads: Sequence[Upload], deadline: float, sleep: Callable[[float], None] = time.sleep
) -> Iterator[Mapping[Upload, Seen]]:
    """Look again and again; yield what was seen, the last time when all have ended.

    Args:
        aws: The stack.
        uploads: What to look at.
        deadline: Until when, by the monotonic clock.
        sleep: Passes time.

    Raises:
        TimeoutError: The time is over.
    """
    detailed = len(uploads) <= DETAILED
    seen = {upload: Seen() for upload in uploads}
    while True:
        open_ones = [upload for upload in uploads if not seen[upload].ended]
        looks = aws.for_each(lambda upload: look(aws, upload, detailed), open_ones)
        seen |= dict(zip(open_ones, looks, strict=True))
        yield seen
        if all(one.ended for one in seen.values()):
            return
        if time.monotonic() > deadline:
            raise TimeoutError
        sleep(SECONDS_BETWEEN_NEARBY if aws.place.is_near else SECONDS_BETWEEN)


def look(aws: Aws, upload: Upload, detailed: bool) -> Seen:
    """Look at one upload once."""
    manifest = aws.manifest(upload.key)
    if manifest is None or manifest.version_id != upload.version_id:
        stored = aws.stored(upload.key)
        return Seen(WAITING if stored and stored.version_id == upload.version_id else REPLACED)
    progress = aws.progress(manifest.execution) if detailed and manifest.execution else None
    return Seen(ANSWERED if manifest.ended else BUILDING, manifest, progress or Progress())


def status_of(seen: Mapping[Upload, Seen]) -> int:
    """What a command that waited for all of them ends with."""
    return worst(one.exit_status for one in seen.values()) if seen else DONE
