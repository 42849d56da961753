"""The pull request's files against those of its base, by git."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from layerdrop_client.github.inert import line
from layerdrop_client.problems import CommandError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any


def commit(workspace: Path, pull_request: Mapping[str, Any]) -> str:
    """The commit to compare with: what the pull request is merged into.

    Raises:
        CommandError: BASE_NOT_FOUND, the clone does not have it.
    """
    # What checkout takes is a merge of both, whose first parent is the base as it is now.
    for wanted in ("HEAD^2", str(pull_request.get("base", {}).get("sha", ""))):
        name = "HEAD^1" if wanted == "HEAD^2" else wanted
        if _has(workspace, wanted) and _has(workspace, name):
            return (
                _git(workspace, "rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}")
                .decode()
                .strip()
            )
    raise CommandError(
        "BASE_NOT_FOUND",
        "The clone does not have the commit that the pull request is merged into.",
        "Give actions/checkout the option fetch-depth: 2.",
    )


def changed(workspace: Path, base: str, folder: str) -> list[str]:
    """Paths of files below a folder that are not as in the base, from the repository's folder."""
    told = _git(
        workspace, "diff", "--name-only", "--no-renames", "-z", base, "HEAD", "--", f":(top,literal){folder}"
    )
    return sorted(path for path in told.decode(errors="surrogateescape").split("\0") if path)


def content(workspace: Path, base: str, path: str) -> bytes | None:
    """A file of the base; None if it has none."""
    done = subprocess.run(
        ["git", "-C", str(workspace), "cat-file", "blob", f"{base}:{path}"], capture_output=True, check=False
    )
    return done.stdout if done.returncode == 0 else None


def _has(workspace: Path, name: str) -> bool:
    if not name:
        return False
    command = ["git", "-C", str(workspace), "cat-file", "-e", f"{name}^{{commit}}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _git(workspace: Path, *arguments: str) -> bytes:
    done = subprocess.run(["git", "-C", str(workspace), *arguments], capture_output=True, check=False)
    if done.returncode:
        said = line(done.stderr.decode(errors="replace"))
        raise CommandError("GIT_FAILED", f"git {arguments[0]}: {said}", "Is the repository checked out?")
    return done.stdout
