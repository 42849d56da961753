"""`layerdrop check`: what would become of a file, built on this machine, without AWS."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from layerdrop_client import builder, settings_block
from layerdrop_client import screen as shown
from layerdrop_client.answers import document
from layerdrop_client.folder import read
from layerdrop_client.keys import ARCHITECTURES, key_of, key_of_file, runtime_in
from layerdrop_client.problems import CommandError, Problem, worst
from layerdrop_client.quoting import quote

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from layerdrop_client.screen import Screen

DEFAULT_RUNTIME = "python3.13"
"""What a stack takes that was deployed with the default of its parameter DefaultRuntime."""


def check(screen: Screen, file: Path, where: str | None) -> int:
    """Build a file's layers here, for each runtime that it asks for, and tell what they would be.

    Args:
        screen: Where to tell.
        file: A requirements file or a lock.
        where: The key that it would have, which says architecture and runtime; None to go by where the file
            lies, and for arm64 if that says nothing.

    Returns:
        The exit status, the builder's.

    Raises:
        CommandError: FILE_NOT_FOUND, KEY_INVALID, SETTINGS_INVALID, BUILDER_NOT_FOUND or BUILDER_BROKEN.
    """
    text = read(file).decode(errors="replace")
    architecture, runtime = _target(file, where)
    asked = settings_block.read(text)
    command = builder.find()
    results = []
    for one in asked.runtimes or (runtime,):
        screen.news(f"Building {file} for {one} on {architecture} …")
        options = [f"--architecture={architecture}", f"--runtime={one}", *asked.options]
        results.append(builder.build(command, file, options))
    screen.document(document("check", file=str(file), reports=[report for _, report in results]))
    for _, report in results:
        _tell(screen, report, str(file), text)
    for name in asked.left:
        screen.news(shown.dim(f"The setting {name} counts in a stack only."))
    return worst(status for status, _ in results)


def _target(file: Path, where: str | None) -> tuple[str, str]:
    if where:
        key = key_of(where, file.name)
    else:
        try:
            key = key_of_file(PurePosixPath(file.absolute().as_posix()))
        except CommandError:
            return ARCHITECTURES[0], DEFAULT_RUNTIME
    return key.split("/")[1], runtime_in(key) or DEFAULT_RUNTIME


def _tell(screen: Screen, report: Mapping[str, Any], file: str, text: str) -> None:
    target = f"{report['target']['runtime']} {report['target']['architecture']}"
    layer, error = report.get("layer"), report.get("error")
    if layer:
        sizes = layer["zip"]
        told = f"{shown.size(sizes['bytes'])} zip, {shown.size(sizes['unzipped_bytes'])} unzipped"
        screen.line(shown.good(f"{target}: {shown.count(len(report['packages']), 'package')}, {told}"))
        rows = [
            (one["name"], one["version"], shown.size(one.get("unzipped_bytes"))) for one in report["packages"]
        ]
        screen.table(["Package", "Version", "Unzipped"], rows, right=["Unzipped"])
    for warning in report.get("warnings", ()):
        screen.warning(warning)
    if error:
        problem = Problem(error["code"], error["message"], error.get("hint", ""), error.get("details", {}))
        screen.problem(problem, file, quote(problem, text))
        screen.line(shown.bad(f"{target}: no layer"))
