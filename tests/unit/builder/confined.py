"""Has builds from source leave notes for the tests: nothing else of a test is in their sight."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from layer_builder.ground import confinement

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def let_write(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Let confined code write to folders; they become its user's."""
    original = confinement.confined

    def widened(rules: confinement.Rules, *arguments: Any, **options: Any) -> Any:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        return original(replace(rules, write=[*rules.write, *map(str, folders)]), *arguments, **options)

    monkeypatch.setattr(confinement, "confined", widened)
