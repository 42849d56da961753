"""What tests see of confined code: the notes that it may leave, and whether any of it still runs."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from layer_builder.ground import confinement

if TYPE_CHECKING:
    import pytest


def let_write(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Let confined code write to folders; they become its user's."""
    original = confinement.confined

    def widened(rules: confinement.Rules, *arguments: Any, **options: Any) -> Any:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        return original(replace(rules, write=[*rules.write, *map(str, folders)]), *arguments, **options)

    monkeypatch.setattr(confinement, "confined", widened)


def running(mark: str) -> list[str]:
    """The processes that have this on their command line."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if mark.encode() in place.read_bytes().split(b"\0"):
                found.append(place.parent.name)
    return found
