"""Wheels from the index into the cache: several at once, each checked by its hash, each verified when first
seen.

The cache is addressed by content (a wheel lies under its sha256), so any number of builders share it without
locks.
"""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

from layer_builder import files, wheel
from layer_builder.errors import EXIT_RETRY, HashMismatchError, IndexUnreachableError, InterruptedBuildError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from layer_builder.resolve import Pick
    from layer_builder.settings import Settings
    from layer_builder.wheel import Wheel

_BACKOFF = 0.5  # seconds, doubled each time
_ATTEMPTS = 3  # at a body that breaks off; requests that fail are repeated within `web`


def fetch(picks: Sequence[Pick], settings: Settings) -> list[Wheel]:
    """Get the wheels, in the order of the picks.

    Raises:
        IndexUnreachableError: the index does not answer.
        HashMismatchError: what it sends is not what the lock names.
        UnsafeWheelError, LayerTooLargeError: see `wheel.load`.
    """
    paths = {pick: path_of(pick, settings) for pick in picks}
    missing = [pick for pick in picks if not paths[pick].exists()]
    if not missing:
        return [wheel.load(pick, paths[pick]) for pick in picks]

    from concurrent.futures import ThreadPoolExecutor

    from layer_builder.web import CONNECTIONS

    stop = threading.Event()
    pool = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="fetch")
    try:
        return list(pool.map(lambda pick: _fetch_one(pick, paths[pick], stop), picks))
    finally:  # after a failure nobody waits for the rest
        stop.set()
        pool.shutdown(wait=False, cancel_futures=True)


def is_cached(pick: Pick, settings: Settings) -> bool:
    """Tell whether a wheel need not be fetched."""
    return path_of(pick, settings).exists()


def path_of(pick: Pick, settings: Settings) -> Path:
    """Say where the cache has, or would have, a file."""
    return settings.cache / "wheels" / pick.sha256[:2] / pick.sha256 / pick.filename


def fetch_file(pick: Pick, settings: Settings) -> Path:
    """Get one file as it is, without looking into it.

    Raises:
        IndexUnreachableError, HashMismatchError: as `fetch`.
    """
    path = path_of(pick, settings)
    _get(pick, path, threading.Event())
    return path


def _fetch_one(pick: Pick, path: Path, stop: threading.Event) -> Wheel:
    _get(pick, path, stop)
    return wheel.load(pick, path)


def _get(pick: Pick, path: Path, stop: threading.Event) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        if path.exists():
            break
        try:
            _download(pick, path, stop)
        except (IndexUnreachableError, HashMismatchError) as error:
            if attempt == _ATTEMPTS or not error.details.get("broken"):
                raise
            stop.wait(_BACKOFF * 2**attempt)


def _download(pick: Pick, path: Path, stop: threading.Event) -> None:
    from layer_builder import web

    digest = hashlib.sha256()
    with web.get(pick.url) as response, files.written_atomically(path) as stream:
        for chunk in response.chunks():
            if stop.is_set():
                raise InterruptedBuildError("The download was given up because another one failed.")
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
