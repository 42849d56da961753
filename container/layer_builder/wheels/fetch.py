"""Wheels from the index into the cache: several at once, each checked by its hash, each verified when first
seen.

The cache is addressed by content (a wheel lies under its sha256), so any number of builders share it without
locks.
"""

from __future__ import annotations

import hashlib
import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from layer_builder.ground import files
from layer_builder.ground.errors import (
    EXIT_RETRY,
    DownloadTooLargeError,
    HashMismatchError,
    IndexUnreachableError,
    InterruptedBuildError,
    LayerTooLargeError,
)
from layer_builder.ground.limits import MAX_DOWNLOAD_BYTES, MAX_FILE_BYTES, MAX_UNZIPPED_BYTES
from layer_builder.indexes import sources
from layer_builder.requirements.origins import Origins
from layer_builder.wheels import gpu, wheel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from layer_builder.ground.settings import Settings
    from layer_builder.indexes.access import Access
    from layer_builder.wheels.pick import Pick
    from layer_builder.wheels.wheel import Wheel

_NOWHERE_ELSE = Origins()
_BACKOFF = 0.5  # seconds, doubled each time
_CHUNK = 1 << 20
_ATTEMPTS = 3  # at a body that breaks off; requests that fail are repeated within `web`


def _nothing(_: Wheel) -> None:
    pass


def fetch(
    picks: Sequence[Pick],
    settings: Settings,
    origins: Origins = _NOWHERE_ELSE,
    own: Path | None = None,
    arrived: Callable[[Wheel], None] = _nothing,
) -> list[Wheel]:
    """Get the wheels, in the order of the picks.

    Args:
        picks: what to get.
        settings: of the installation; the wheels in its cache are taken for what they were when they came.
        origins: what the requirements say of where packages come from.
        own: an empty cache for this build alone. Then those wheels are hashed on the way there, and nothing
            that is known of them is taken.
        arrived: called with each wheel as soon as it is there, by several threads.

    Raises:
        IndexUnreachableError, IndexDeniedError: the index does not answer, or refuses.
        AddressRefusedError: it leads where a build must not go.
        DownloadTooLargeError: a file is longer than announced, or all of them are too long.
        HashMismatchError: what it sends is not what the lock names.
        UnsafeWheelError, LayerTooLargeError: see `wheel.load`.
    """
    paths = {pick: path_of(pick, replace(settings, cache=own or settings.cache)) for pick in picks}
    if own:
        for pick in picks:
            _take_over(pick, path_of(pick, settings), paths[pick])
    missing = [pick for pick in picks if not paths[pick].exists()]
    if not missing:
        wheels = [wheel.load(pick, paths[pick]) for pick in picks]
        for one in wheels:
            arrived(one)
        return wheels

    from concurrent.futures import ThreadPoolExecutor

    from layer_builder.indexes.web import CONNECTIONS
    from layer_builder.wheels.verifying import Verifiers

    stop, budget, absent = threading.Event(), _Budget(missing), {*missing}
    access = sources.of(settings, origins).access

    verifiers = Verifiers(missing)

    def get(pick: Pick) -> Wheel:
        if pick in absent:
            _get(pick, paths[pick], access, budget, stop)
            verifiers.verify(pick, paths[pick])
        if stop.is_set():
            raise InterruptedBuildError("The wheel was given up because another one failed.")
        one = wheel.load(pick, paths[pick])
        arrived(one)
        return one

    pool = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="fetch")
    with verifiers:
        try:
            # The largest first, as what comes last is waited for alone.
            largest = sorted(picks, key=lambda pick: -(pick.size or 0))
            wheels_by_pick = dict(zip(largest, pool.map(get, largest), strict=True))
            return [wheels_by_pick[pick] for pick in picks]
        finally:  # after a failure nobody waits for the rest
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)


def is_cached(pick: Pick, settings: Settings) -> bool:
    """Tell whether a wheel need not be fetched."""
    return path_of(pick, settings).exists()


def path_of(pick: Pick, settings: Settings) -> Path:
    """Say where the cache has, or would have, a file."""
    return settings.cache / "wheels" / pick.sha256[:2] / pick.sha256 / pick.filename


def fetch_file(pick: Pick, settings: Settings, origins: Origins) -> Path:
    """Get one file as it is, without looking into it.

    Raises:
        IndexUnreachableError, HashMismatchError, …: as `fetch`.
    """
    path = path_of(pick, settings)
    if path.exists() and not _is_right(pick, path):
        path.unlink()
    _get(pick, path, sources.of(settings, origins).access, _Budget([pick]), threading.Event())
    return path


def _is_right(pick: Pick, path: Path) -> bool:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == pick.sha256


def _take_over(pick: Pick, cached: Path, own: Path) -> None:
    """Copy a wheel out of the cache, if it is the right one; what is copied is what was hashed.

    Raises:
        HashMismatchError: it is not, and can be had nowhere else: it was built from source.
    """
    digest = hashlib.sha256()
    with suppress(FileNotFoundError, _NotItError), cached.open("rb") as stream:
        with files.written_atomically(own) as copy:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                copy.write(chunk)
            if digest.hexdigest() != pick.sha256:
                raise _NotItError
        return
    if not pick.url:
        raise HashMismatchError(
            f"{pick.filename}, which was built from the source of {pick.name}, was changed afterwards.",
            hint="Look at what the packages do whose source is built.",
            details={"package": pick.name, "expected": pick.sha256},
        )


def _limit(pick: Pick) -> int:
    """Say how many bytes a file may have."""
    return gpu.MAX_FILE_BYTES if gpu.is_gpu(pick.name) else MAX_FILE_BYTES


class _NotItError(Exception):
    """A file is another than its place says."""


class _Budget:
    """The bytes that are left for all files of a build; threads share it.

    Raises:
        LayerTooLargeError: what the index announces is more already.
    """

    def __init__(self, picks: Sequence[Pick]) -> None:
        self._left = MAX_DOWNLOAD_BYTES
        self._lock = threading.Lock()
        for pick in picks:
            if (pick.size or 0) > _limit(pick):
                raise LayerTooLargeError(
                    f"{pick.filename} alone has {pick.size:,} bytes; "
                    f"Lambda takes {MAX_UNZIPPED_BYTES:,} for a function with all its layers, unzipped.",
                    hint="Take a smaller build of it, if there is one, or a container image function.",
                    details={"package": pick.name, "bytes": pick.size},
                )

    def take(self, count: int) -> None:
        """Take so many bytes.

        Raises:
            DownloadTooLargeError: there are not so many left.
        """
        with self._lock:
            self._left -= count
            if self._left < 0:
                raise DownloadTooLargeError(
                    f"The files of this build have more than {MAX_DOWNLOAD_BYTES:,} bytes together.",
                    hint="Split the layer.",
                    details={"limit": MAX_DOWNLOAD_BYTES},
                )


def _get(pick: Pick, path: Path, access: Access, budget: _Budget, stop: threading.Event) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        if path.exists():
            break
        try:
            _download(pick, path, access, budget, stop)
        except (IndexUnreachableError, HashMismatchError) as error:
            if attempt == _ATTEMPTS or not error.details.get("broken"):
                raise
            import random

            # Builds that broke together are not to come back together.
            stop.wait(_BACKOFF * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311


def _download(pick: Pick, path: Path, access: Access, budget: _Budget, stop: threading.Event) -> None:
    from layer_builder.indexes import web

    digest = hashlib.sha256()
    limit = min(pick.size, _limit(pick)) if pick.size else _limit(pick)
    with web.get(pick.url, access) as response, files.written_atomically(path) as stream:
        for chunk in response.chunks(limit):
            if stop.is_set():
                raise InterruptedBuildError("The download was given up because another one failed.")
            budget.take(len(chunk))
            digest.update(chunk)
            stream.write(chunk)
        if digest.hexdigest() != pick.sha256:
            error = HashMismatchError(
                f"The file {pick.filename} from the package index is not the one the index announces.",
                hint="Try again; if it stays so, something between you and the index changes files.",
                details={"expected": pick.sha256, "received": digest.hexdigest(), "broken": True},
            )
            error.exit_status = EXIT_RETRY
            raise error
