"""The builder, where it is installed beside this: a command of its own, started as a process."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from layerdrop_client.problems import BUG, CommandError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COMMAND = "layer-builder"


def find() -> str:
    """Return where the builder is.

    Raises:
        CommandError: BUILDER_NOT_FOUND.
    """
    beside = Path(sys.executable).with_name(COMMAND)
    found = str(beside) if beside.is_file() else shutil.which(COMMAND)
    if found is None:
        raise CommandError(
            "BUILDER_NOT_FOUND",
            f"The command {COMMAND} is not installed here, and check builds with it.",
            "It is in the folder container/ of Layerdrop's repository: pip install ./container, or "
            "uv tool install ./container.",
        )
    return found


def build(command: str, file: Path, options: Sequence[str]) -> tuple[int, Mapping[str, Any]]:
    """Build a layer that nobody keeps; return the exit status and the report (`layerdrop/report/1`).

    Raises:
        CommandError: BUILDER_BROKEN, it left no report.
    """
    with TemporaryDirectory(prefix="layerdrop-check-") as folder:
        report = Path(folder, "report.json")
        done = subprocess.run(
            [command, f"--path={file}", *options, f"--output={folder}/", f"--report={report}"],
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            return done.returncode, json.loads(report.read_bytes())
        except (OSError, ValueError) as error:
            said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            raise CommandError(
                "BUILDER_BROKEN", f"{COMMAND} left no report, and said: {said}", status=BUG
            ) from error
