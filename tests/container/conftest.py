"""The real Dockerfile, built once by a real engine on the stand-in base."""

from __future__ import annotations

import contextlib
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.container import stand_in
from tests.container.debian import DebianError
from tests.container.engine import Engine, EngineError, engine

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".cache/container"

# As strict as a container can be run: whether Fargate asks for it or not, a build needs no more.
STRICT = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark those that run the image as ``long``: it takes most of a minute to be made."""
    for item in items:
        if item.path.parent == Path(__file__).parent and "image" in item.fixturenames:
            item.add_marker(pytest.mark.long)


@dataclass(frozen=True)
class Image:
    """The builder's image.

    Attributes:
        engine: runs it.
        name: what it is called there.
        cache: a folder of the machine that its containers keep wheels in.
    """

    engine: Engine
    name: str
    cache: Path

    def build(
        self, *arguments: str, scratch: Path, options: tuple[str, ...] = STRICT
    ) -> subprocess.CompletedProcess[str]:
        """Run one build whose /tmp is the folder ``scratch``; its exit status is the result's."""
        return self.run(*options, *self.folders(scratch), command=arguments)

    def folders(self, scratch: Path) -> tuple[str, ...]:
        """Return the options for a container whose /tmp is ``scratch`` and that shares the cache."""
        scratch.chmod(0o1777)
        return (
            f"--volume={scratch}:/tmp",
            f"--volume={self.cache}:/cache",
            "--env=LAYER_BUILDER_CACHE=/cache",
        )

    def python(self, code: str, *options: str, program: str = "") -> subprocess.CompletedProcess[str]:
        """Run Python code: in the builder's own environment, or in an interpreter of the image."""
        program = program or "/usr/local/lib/layer-builder/bin/python"
        return self.run(*STRICT, *options, f"--entrypoint={program}", command=("-c", code))

    def run(self, *options: str, command: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run a container on the machine's network."""
        return self.engine.run("run", "--rm", "--network=host", *options, self.name, *command, check=False)


@pytest.fixture(scope="session")
def docker() -> Iterator[Engine]:
    with contextlib.ExitStack() as stack:
        try:
            running = stack.enter_context(engine(KEPT))
        except EngineError as error:
            pytest.skip(str(error))
        yield running


@pytest.fixture(scope="session")
def image(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    try:
        base = stand_in.make(KEPT)
    except DebianError as error:
        pytest.skip(f"no stand-in for the base image can be made here: {error}")
    cache = tmp_path_factory.mktemp("wheels")
    cache.chmod(0o1777)
    name = f"layer-builder-test:{uuid.uuid4().hex[:8]}"
    try:
        docker.run("import", *[f"--change={change}" for change in stand_in.CHANGES], base, f"{name}-base")
        docker.run(
            "build",
            "--network=host",
            f"--build-arg=BASE_IMAGE={name}-base",
            f"--tag={name}",
            ROOT / "container",
        )
        yield Image(docker, name, cache)
    finally:
        docker.run("image", "rm", "--force", name, f"{name}-base", check=False)
