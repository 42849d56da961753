"""ResolveLayer: what can be found out of a target without its job, by a Lambda function.

A job waits half a minute for its machine, to build for a few seconds. Here requirements are resolved, to
wheels only, and no wheel is even fetched, so no code of packages runs. The user's mistakes end here. A layer
that is there already is taken, with what was found of it. Else the job gets the lock, so what is built is
what was resolved. Whatever cannot be found out here is left to the job: nothing gets worse.

A choice of wheels leads to a digest by what PublishLayer noted of it (`layers/choices/`): who compiles
bytecode, and which system libraries there are, only the job's image knows. Another image is another revision
of the job's definition, for which nothing is noted yet.

Asked only to look (`"look": true`), it tells what a build would take today, and writes nothing.
"""

from __future__ import annotations

import json
import logging
import re
import secrets
import shutil
import signal
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Never

from layer_builder import build, cli, delivery, environment
from layer_builder.ground import errors, redaction, wording
from layer_builder.indexes import sources
from layer_builder.proof import sizes
from layer_builder.resolution import lock
from layer_builder.results import storage
from layer_builder.results.report import Report

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import FrameType
    from typing import Protocol

    from layer_builder.build import Build

    class Context(Protocol):
        """What of the function's context is needed."""

        def get_remaining_time_in_millis(self) -> int:
            """Tell how long the call may still take."""


CHOICES: Final = "choices/"
SCHEMA: Final = "layerdrop/choice/1"

_PLANS: Final = "plans/"  # jobs may read there what they are told of
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_MAX_BYTES: Final = 4096
_RESERVE: Final = 10.0  # seconds of a call that are not for resolving
# A job begins with nothing, so it sees what was uploaded a moment ago. Pages are kept for crowds of uploads.
_KEEP_PAGES: Final = 60.0
# For which the user can do something, and which a job could not find otherwise.
_CONCLUSIVE: Final = (
    errors.UsageError,
    errors.RequirementsError,
    errors.ResolutionError,
    errors.NoWheelError,
    errors.TooYoungError,
    errors.UploadTimeUnknownError,
    errors.HashMismatchError,
    errors.LayerTooLargeError,
)
# Of these, what is so whatever sources there are.
_OF_THE_FILE: Final = (errors.UsageError, errors.RequirementsError)

log = logging.getLogger("layer_builder")


class _Cache:
    """A folder for index pages: this environment's own, and new every now and then, so it stays small."""

    def __init__(self) -> None:
        self._folder: Path | None = None
        self._made = 0.0

    def folder(self) -> Path:
        """Give the folder; for one call at a time, as Lambda makes them."""
        now = time.monotonic()
        if self._folder is None or now - self._made > _KEEP_PAGES:
            if self._folder:
                shutil.rmtree(self._folder, ignore_errors=True)
            sources.forget()  # credentials, too, do not count for ever
            self._folder, self._made = Path(tempfile.mkdtemp(prefix="layer-builder-")), now
        return self._folder


_CACHE: Final = _Cache()


class BuildError(Exception):
    """A target that has ended. The state machine knows such errors by this name; their text is JSON."""


class _OutOfTimeError(Exception):
    """Resolving took too long."""


def handler(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Resolve a target: end it, find its layer, or give its job the lock. Or only look what it would be.

    Returns:
        The event's input and target. The target says `is_known` where there is nothing to build. For a look,
        `{"packages": [{"name": …, "version": …}, …]}`, or null where that cannot be told here.

    Raises:
        BuildError: what is asked for cannot be built.
    """
    cli.log_to_stderr()
    bucket, target, looks = event["input"]["bucket"], event["target"], event.get("look") is True
    try:
        with _in_time(context.get_remaining_time_in_millis() / 1000 - _RESERVE):
            if looks:
                return {"packages": _looked(target)}
            target = _resolved(bucket, target)
    except _CONCLUSIVE as error:
        log.info("error %s: %s", error.code, error.message)
        raise BuildError(_told(error)) from None
    except errors.BuildError as error:
        log.warning("left to the job: error %s: %s", error.code, error.message)
    except _OutOfTimeError:
        log.warning("left to the job: it takes too long")
    return {"packages": None} if looks else {"input": event["input"], "target": target}


def _looked(target: Mapping[str, Any]) -> list[dict[str, str]] | None:
    """Tell what a build would take today, where wheels are enough for it."""
    left = ("--staging=", "--reuse=", "--report=")
    options = cli.parse(
        [word for word in cli.normalized(target["job"]["command"]) if not word.startswith(left)]
    )
    settings = replace(environment.read(), cache=_CACHE.folder())
    delivery.connect(options)
    report, wheels_only = Report(options.architecture, options.runtime), replace(options, allow_sdist=())
    try:
        # What wheels satisfy, a build that may take sources takes wheels for as well.
        chosen = build.choose(wheels_only, settings, report)
    except _OF_THE_FILE:
        raise
    except _CONCLUSIVE:
        if options.sdist_projects:
            return None
        raise
    if error := sizes.outlook(chosen.picks, options.size_limit, fit=options.fit or options.slim):
        raise error
    return [{"name": pick.name, "version": pick.version} for pick in chosen.picks]


def _resolved(bucket: str, target: Mapping[str, Any]) -> dict[str, Any]:
    started, job = time.perf_counter(), target["job"]
    place = _place(target)
    # What is left here is not where the job may write, nor anything that an earlier call left.
    staging = f"builds/{place}"
    others = [word for word in cli.normalized(job["command"]) if not word.startswith("--staging=")]
    options = cli.parse([*others, f"--staging=s3://{bucket}/{staging}"])
    if options.sdist_projects:
        # What a source needs may have to be asked of its code, and none runs here, whoever asks.
        return dict(target)
    report = Report(options.architecture, options.runtime)
    settings = replace(environment.read(), cache=_CACHE.folder())
    delivery.connect(options)
    chosen = build.choose(options, settings, report)
    choice = build.choice(chosen, job["definition"])
    digest = _digest(f"{options.reuse}{CHOICES}{choice}.json")
    if digest and build.reuse(chosen, digest):
        report.timings["total"] = round(time.perf_counter() - started, 4)
        storage.write(options.report_place, report.to_json(), "application/json", is_new=True)
        log.info("%s is there already", digest)
        return {**target, "staging": staging, "is_known": True}
    if error := sizes.outlook(chosen.picks, options.size_limit, fit=options.fit or options.slim):
        raise error
    if lock.is_lock(options.path):
        # For a cooldown they were looked for before.
        if not chosen.counting:
            lock.located(chosen.picks, settings, chosen.wanted.origins)
    else:
        others = [word for word in others if not word.startswith(("--path=", "--version-id="))]
        others.insert(0, f"--path={_leave_lock(chosen, f's3://{bucket}/{_PLANS}{place}{lock.NAME}')}")
    return {**target, "choice": choice, "job": {**job, "command": others + _staging(job)}}


def _place(target: Mapping[str, Any]) -> str:
    """Name a folder that nobody else can guess, below those of the execution and the target."""
    return f"{target['staging'].split('/')[1]}/{target['id']}/{secrets.token_urlsafe(18)}/"


def _staging(job: Mapping[str, Any]) -> list[str]:
    return [word for word in job["command"] if word.startswith("--staging=")]


def _digest(location: str) -> str | None:
    """Read which layer a choice came to, if that was noted."""
    try:
        document = json.loads(storage.read(location, limit=_MAX_BYTES))
        digest = document["digest"] if document["schema"] == SCHEMA else ""
    except (errors.BuildError, ValueError, KeyError, TypeError):
        return None
    return digest if isinstance(digest, str) and _DIGEST.fullmatch(digest) else None


def _leave_lock(chosen: Build, url: str) -> str:
    report = chosen.report
    left_out = report.cooldown["left_out"] if report.cooldown else ()
    remarks = lock.Remarks(tuple(report.warnings), tuple(left_out))
    text = lock.text(chosen.wanted, chosen.picks, chosen.target, chosen.counting, remarks)
    storage.write(url, text.encode(), "application/toml", is_new=True)
    return url


def _told(error: errors.BuildError) -> str:
    """Write an error as the state machine hands it on."""
    document = {"code": error.code, "message": error.message, "hint": error.hint}
    details = wording.bounded(error.details)
    return redaction.clean(json.dumps(redaction.shown({**document, "details": details})))


@contextmanager
def _in_time(seconds: float) -> Iterator[None]:
    """End what takes longer, as a signal ends a job: what was started ends with it, files are removed."""

    def stop(_number: int, _frame: FrameType | None) -> Never:
        raise _OutOfTimeError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
