"""What the builder's tests share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from layer_builder.ground.settings import Settings
from layer_builder.results import storage
from tests.unit.builder.wheel_maker import Index

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "index: reads the real package index")


@pytest.fixture(autouse=True)
def _clients() -> Iterator[None]:
    """Let no test inherit another's client of S3, which knows a server that is gone."""
    yield
    storage._s3.cache_clear()


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """An empty package index on loopback; put wheels into `index.folder`."""
    folder = tmp_path / "index"
    folder.mkdir()
    with Index(folder) as one:
        yield one


@pytest.fixture
def settings(tmp_path: Path, index: Index) -> Settings:
    """Settings with a cache of the test's own and the loopback index."""
    return Settings(tmp_path / "cache", index.url)
