"""The watch: ask what is known against all layers, tell, look what a rebuild would change, rebuild."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from layerdrop.watch.schedule import Counts, Pointed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from layerdrop.catalogue.looking import Layers
    from layerdrop.catalogue.releases import Release, Releases
    from layerdrop.watch.inquiry import Inquiry
    from layerdrop.watch.outlooks import Outlooks
    from layerdrop.watch.state import Store

_READS: Final = 8  # fewer than the ten connections that a client keeps


def watch(
    pointed: Sequence[Pointed], store: Store, inquiry: Inquiry | None, outlooks: Outlooks | None
) -> Counts:
    """Do what is due, as far as there is time; the next run goes on.

    Args:
        pointed: All layers.
        store: What is known already.
        inquiry: None where nobody is to be asked.
        outlooks: None where nothing is resolved without a job.
    """
    counts = Counts()
    state = store.vulnerabilities()
    if inquiry:
        state = inquiry.run(pointed, state, counts)
    if outlooks:
        outlooks.run(pointed, state, counts)
    return counts


def pointed_to(index: Mapping[str, Any]) -> list[Pointed]:
    """The layers of a catalogue; of versions without a release document nobody knows what is in them."""
    return [Pointed(one["name"], one["version"]) for one in index["layers"] if one["released"]]


def gone(layers: Layers, names: Collection[str]) -> set[str]:
    """Which of these are no layers any more: without a pointer, or none of this stack's."""
    return {name for name, seen in layers.some(names, {}).items() if seen.entry is None} if names else set()


def read(releases: Releases, pointed: Iterable[Pointed]) -> dict[str, Release]:
    """The release documents of layers, by layer name; without those that are not there any more."""
    with ThreadPoolExecutor(_READS) as threads:
        found = threads.map(lambda one: releases.read(one.name, one.version), pointed)
        return {one.layer_name: one for one in found if one}
