"""`layerdrop ci`: the steps of GitHub's action (action.yml): sync, preview of a pull request, its comment.

Each starts the command that people use, reads its document, and tells the runner.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from layerdrop_client.github import base
from layerdrop_client.github.api import Discussion
from layerdrop_client.github.inert import data, line
from layerdrop_client.github.outcome import Checked, Outcome, of_pull_request, of_sync
from layerdrop_client.github.runner import MOST_SUMMARY_BYTES, Runner, annotation
from layerdrop_client.github.summary import comment, markdown, marker
from layerdrop_client.keys import why_not
from layerdrop_client.problems import BUG, DONE, USER, CommandError, worst

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

COMMENT = "layerdrop-comment.json"
_MOST_CHECKED = 50


def ci(step: str) -> int:
    """Run a step of the action, whose inputs are in the environment as `INPUT_…`; return its exit status.

    Raises:
        CommandError: INPUT_INVALID, BASE_NOT_FOUND, GIT_FAILED, GITHUB_REFUSED or GITHUB_UNREACHABLE.
    """
    return {"sync": _sync, "preview": _preview, "comment": _comment}[step](Runner(os.environ))


def _sync(runner: Runner) -> int:
    """Sync the folder; tell in outputs, summary and annotations what came of it."""
    if runner.pull_request is not None and runner.environment.get("GITHUB_EVENT_NAME") != "push":
        raise CommandError(
            "INPUT_INVALID",
            "A pull request's files are not synced: whoever opens one would publish layers.",
            "Use the event pull_request, which previews them, and push, which syncs.",
        )
    options = [
        *(["--delete"] if runner.flag("DELETE", default=False) else []),
        *(["--dry-run"] if runner.flag("DRY_RUN", default=False) else []),
        "--wait" if runner.flag("WAIT", default=True) else "--no-wait",
        f"--timeout={runner.text('TIMEOUT_MINUTES', '60')}",
    ]
    with _quiet():
        status, document = _run(["sync", *options, "--", str(_folder(runner))])
    outcome = of_sync(_in_repository(document, runner.workspace), lambda path: _text(runner.workspace / path))
    _tell(runner, outcome)
    return status


def _preview(runner: Runner) -> int:
    """Build here what the pull request changes, without AWS; tell what the layers would be."""
    pull_request = runner.pull_request
    if pull_request is None:
        raise CommandError("INPUT_INVALID", "The event is no pull request.", "Use it on pull_request.")
    workspace, folder = runner.workspace, _folder(runner)
    inside = PurePosixPath(folder.relative_to(workspace.resolve()).as_posix())
    start = base.commit(workspace, pull_request)
    changed = [path for path in base.changed(workspace, start, str(inside)) if _is_input(path, inside)]
    if len(changed) > _MOST_CHECKED:
        _say(f"::notice::{data(f'Of {len(changed)} changed files the first {_MOST_CHECKED} are built.')}")
    with _quiet():
        checks = [_checked(workspace, start, path, inside) for path in changed[:_MOST_CHECKED]]
    outcome = of_pull_request([checked for _, checked in checks])
    _tell(runner, outcome)
    told = {"body": comment(outcome, _scope(runner)), "only_if_there": not changed}
    Path(runner.environment["RUNNER_TEMP"], COMMENT).write_text(json.dumps(told))
    return worst(status for status, _ in checks)


def _comment(runner: Runner) -> int:
    """Write what the preview told as one comment on the pull request."""
    told = json.loads(Path(runner.environment["RUNNER_TEMP"], COMMENT).read_bytes())
    environment, pull_request = runner.environment, runner.pull_request or {}
    discussion = Discussion(
        environment["GITHUB_API_URL"],
        environment["GITHUB_REPOSITORY"],
        int(pull_request["number"]),
        environment["GITHUB_TOKEN"],
    )
    address = discussion.keep(told["body"], marker(_scope(runner)), told["only_if_there"])
    if address is None and not told["only_if_there"]:
        note = "No comment: the token may not write one, as on forks. The summary has it all."
        _say(f"::notice::{data(note)}")
    return DONE


def _tell(runner: Runner, outcome: Outcome) -> None:
    # Characters may take four bytes.
    runner.summarize(markdown(outcome, MOST_SUMMARY_BYTES // 4))
    runner.put_out(outcome.outputs)
    for finding in outcome.findings:
        _say(annotation(finding))
    if outcome.problem:
        _say(f"::error title={line(outcome.problem.code, 40)}::{data(line(outcome.problem.message))}")


def _checked(workspace: Path, start: str, path: str, folder: PurePosixPath) -> tuple[int, Checked]:
    key = str(PurePosixPath(path).relative_to(folder))
    earlier = base.content(workspace, start, path)
    before = None
    if earlier is not None:
        with TemporaryDirectory(prefix="layerdrop-base-") as scratch:
            file = Path(scratch, PurePosixPath(path).name)
            file.write_bytes(earlier)
            _, found = _run(["check", "--", str(file), key])
        before = found if "reports" in found else None
    file = workspace / path
    if file.is_symlink() or not file.resolve().is_relative_to(workspace.resolve()) or not file.is_file():
        return DONE, Checked(path, None, before, None)
    status, now = _run(["check", "--", str(file), key])
    return status, Checked(path, now, before, _text(file))


def _run(arguments: Sequence[str]) -> tuple[int, dict[str, Any]]:
    """Run a command; return its exit status and its document."""
    done = subprocess.run(
        [sys.executable, "-m", "layerdrop_client", "--output=json", *arguments],
        stdout=subprocess.PIPE,
        stderr=sys.stdout,  # one stream, so that what keeps the runner from obeying it comes first
        check=False,
    )
    try:
        document = json.loads(done.stdout)
    except ValueError:
        document = None
    if isinstance(document, dict):
        return done.returncode, document
    code, message = ("INPUT_INVALID", "The inputs were refused; the log says why.")
    if done.returncode != USER:
        code, message = "INTERNAL", "The command left no document; the log says more."
    error = {"code": code, "message": message, "hint": "", "details": {}}
    return done.returncode or BUG, {"error": error}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the runner from taking what is printed meanwhile for commands: files and packages have a say.

    https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands, "Stopping and
    starting workflow commands"
    """
    token = secrets.token_hex(16)
    _say(f"::stop-commands::{token}")
    try:
        yield
    finally:
        _say(f"\n::{token}::")


def _folder(runner: Runner) -> Path:
    """The folder with the inputs, inside the repository.

    Raises:
        CommandError: INPUT_INVALID.
    """
    told = runner.text("PATH", "layers")
    workspace = runner.workspace.resolve()
    folder = (workspace / told).resolve()
    if not folder.is_relative_to(workspace):
        raise CommandError("INPUT_INVALID", f'The input path is "{told}", outside of the repository.', "")
    return folder


def _is_input(path: str, folder: PurePosixPath) -> bool:
    below = PurePosixPath(path).relative_to(folder)
    return why_not(str(below)) is None and not any(part.startswith(".") for part in below.parts)


def _in_repository(document: dict[str, Any], workspace: Path) -> Mapping[str, Any]:
    """The document with paths as the repository has them: annotations go by those."""
    for file in document.get("files", ()):
        path = Path(file["path"]).resolve()
        if path.is_relative_to(workspace.resolve()):
            file["path"] = path.relative_to(workspace.resolve()).as_posix()
    return document


def _text(file: Path) -> str | None:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return None


def _scope(runner: Runner) -> str:
    return f"{runner.environment.get('LAYERDROP_STACK', '')}\n{runner.text('PATH', 'layers')}"


def _say(text: str) -> None:
    # A path may have bytes that are no text.
    sys.stdout.write(text.encode(errors="replace").decode() + "\n")
    sys.stdout.flush()
