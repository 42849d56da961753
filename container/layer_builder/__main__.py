"""`python -m layer_builder`, and the command `layer-builder`."""

from __future__ import annotations

import gc
import os
import sys
from contextlib import nullcontext, suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from layer_builder.ground.errors import EXIT_OK, BuildError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

_OBJECTS = 100_000  # new ones between looks for garbage: a build makes many that stay, and little garbage
_SHORT = 1 << 16  # bytes of a requirements file


def run() -> None:
    """Run one build as a process of its own; never returns."""
    gc.set_threshold(_OBJECTS)
    arguments = sys.argv[1:]
    with _resolving(arguments):
        from layer_builder.cli import main

        status = main(arguments)
    if status == EXIT_OK:
        # All is written and nothing runs any more. To take the interpreter apart would be a tenth of a small
        # build's time.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _resolving(arguments: Sequence[str]) -> AbstractContextManager[object]:
    """Have uv begin while the rest is loaded, if what it will be asked is here.

    The command line is only glanced at. What is wrong, or is taken for something else than it is, costs a run
    of uv that nobody waits for.
    """
    lines, paths = _values(arguments, "-r", "--requirements"), _values(arguments, "-p", "--path")
    others = any(one.startswith(("--cooldown", "--fix", "--options-file")) for one in arguments)
    if others or len(lines) + len(paths) != 1:
        return nullcontext()
    with suppress(BuildError, OSError, ValueError):
        text = lines[0].replace("|", "\n") if lines else _read(Path(paths[0]))
        if not text:
            return nullcontext()
        from layer_builder import environment
        from layer_builder.ground.target import Target
        from layer_builder.options import DEFAULT_ARCHITECTURE, DEFAULT_RUNTIME
        from layer_builder.resolution import ahead

        runtime = [*_values(arguments, "--runtime"), DEFAULT_RUNTIME][0]
        architecture = [*_values(arguments, "--architecture"), DEFAULT_ARCHITECTURE][0]
        target = Target.of(runtime, architecture)
        return ahead.begun(text, _values(arguments, "--constraint"), target, environment.read())
    return nullcontext()


def _values(arguments: Sequence[str], *names: str) -> list[str]:
    """List what stands behind an option, after a space or `=`."""
    found = [
        one.partition("=")[2] for one in arguments if one.startswith(tuple(f"{name}=" for name in names))
    ]
    return found + [value for name, value in pairwise(arguments) if name in names]


def _read(file: Path) -> str:
    """Read requirements; nothing of a lock, nor of what can be read only once or takes its time."""
    if file.suffix == ".toml" or not file.is_file() or file.stat().st_size > _SHORT:
        return ""
    return file.read_text("utf-8-sig")


if __name__ == "__main__":
    run()
