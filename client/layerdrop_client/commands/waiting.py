"""Waiting for answers, and telling them; what drop, sync and watch have in common."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from layerdrop_client import screen as shown
from layerdrop_client.following import StillBuildingError, follow
from layerdrop_client.keys import short
from layerdrop_client.problems import AGAIN, INTERRUPTED
from layerdrop_client.quoting import quote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from layerdrop_client.aws import Aws
    from layerdrop_client.following import Seen, Upload
    from layerdrop_client.manifests import Layer
    from layerdrop_client.screen import Screen


@dataclass(frozen=True)
class Patience:
    """Whether to wait for answers, and for how many seconds at most."""

    waits: bool = True
    seconds: float = 3600.0


def wait(aws: Aws, screen: Screen, uploads: Sequence[Upload], patience: Patience) -> Mapping[Upload, Seen]:
    """Wait for all answers, showing how far the builds are.

    Raises:
        StillBuildingError: Somebody would not wait, or it took too long.
    """
    keys = [upload.key for upload in uploads]
    with still_building(keys):
        try:
            return screen.follow(follow(aws, uploads, time.monotonic() + patience.seconds))
        except TimeoutError:
            raise StillBuildingError(keys, AGAIN) from None


@contextmanager
def still_building(keys: Sequence[str]) -> Iterator[None]:
    """Tell whoever presses Ctrl-C that what was uploaded is built all the same.

    Raises:
        StillBuildingError: Somebody did.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise StillBuildingError(keys, INTERRUPTED) from None


def tell(screen: Screen, key: str, seen: Seen, where: str, text: str | None) -> None:
    """Tell what became of an upload.

    Args:
        screen: Where to.
        key: Its key.
        seen: What became of it.
        where: What the person calls the file.
        text: The file; None if it is not at hand.
    """
    layers = seen.manifest.layers if seen.manifest else []
    for layer in layers:
        if layer.version is not None and layer.problem is None:
            _tell_layer(screen, layer, seen.manifest.seconds if seen.manifest else None)
    for warning in dict.fromkeys(warning for layer in layers for warning in layer.warnings):
        screen.warning(warning)
    # What all targets have in common is told once.
    for problem in {(one.code, one.message): one for one in seen.problems}.values():
        screen.problem(problem, where, quote(problem, text) if text is not None else None)
    if seen.problems:
        done = sum(layer.problem is None for layer in layers)
        rest = f"; {done} of {len(layers)} layers released" if 0 < done < len(layers) else ""
        screen.line(shown.bad(f"{short(key)} failed{rest}"))


def _tell_layer(screen: Screen, layer: Layer, seconds: float | None) -> None:
    how = "reused, nothing has changed" if layer.reused else "new"
    took = f" in {seconds:.1f} s" if seconds is not None else ""
    screen.line(shown.good(f"{layer.name} version {layer.version}, {how}{took}"))
    facts = [shown.count(len(layer.packages), "package"), f"{shown.size(layer.zip_bytes)} zip"]
    facts.append(f"{shown.size(layer.unzipped_bytes)} unzipped")
    if layer.imports_ms:
        facts.append(f"imports in {shown.milliseconds(sum(layer.imports_ms.values()))}")
    screen.line(shown.dim(f"  {', '.join(facts)}"))
    screen.line(f"  {layer.arn}")
    if layer.not_tried:
        screen.warning(f"Not tried in a function: {layer.not_tried}")
