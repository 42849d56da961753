"""Each answer against what it ought to be: the manifest, the job behind it, the layer in a function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError, WaiterError

from smoke.cases import SUCCEEDED
from smoke.checks import FAILED, NOT_CHECKED, PASSED, Check, Times
from smoke.images import stored_image
from smoke.jobs import job_of
from smoke.trial import try_import

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import boto3

    from smoke.builds import Answer
    from smoke.jobs import Job
    from smoke.trial import TrialRole

NO_IMAGES = "the embedded AWS has no images: the builder on this machine stands in"
_SPOT = "FARGATE_SPOT"


def times_of(answer: Answer, job: Job | None) -> Times:
    """Return the row of an upload."""
    title, architecture = answer.case.title, answer.case.architecture
    if job is None:
        return Times(title, architecture, answer.got, answer.seconds)
    return Times(
        title,
        architecture,
        answer.got,
        answer.seconds,
        queued=job.created - answer.uploaded,
        started=job.started - job.created if job.started else None,
        ran=job.stopped - job.started if job.started and job.stopped else None,
        attempts=job.attempts,
    )


def find_job(session: boto3.Session, answer: Answer) -> Job | None:
    """Return the job behind an answer, if there is one and it can be looked at."""
    try:
        return job_of(session, answer.manifest)
    except ClientError:
        return None  # the times are missing then; the answer is what counts


def check_answer(answer: Answer) -> Check:
    """Compare an answer with what was expected, and its layer with the file's folder."""
    case = answer.case
    what = f"{case.title}, {case.architecture}: answered {case.expected}"
    if answer.got != case.expected:
        error = answer.manifest.get("error") or {}
        return Check(what, FAILED, ": ".join(part for part in (answer.got, error.get("message", "")) if part))
    if case.expected != SUCCEEDED:
        error = answer.manifest["error"]
        if not error.get("hint"):
            return Check(what, FAILED, "there is no hint of what to do")
        return Check(what, PASSED, error["message"])
    layer = answer.layer
    if layer is None:
        return Check(what, FAILED, "it names no layer version")
    if layer["architecture"] != case.architecture or not layer["layer_name"].startswith(case.stem):
        return Check(what, FAILED, f"it names {layer['layer_name']} for {layer['architecture']}")
    return Check(what, PASSED, layer["layer_version_arn"])


def check_import(session: boto3.Session, role: TrialRole, answer: Answer, emulated: bool) -> Check | None:
    """Import a published layer in a real function; None where there is nothing to import.

    Args:
        session: The account.
        role: What the function runs as.
        answer: The answer that names the layer.
        emulated: Whether there may be no such runtime or architecture, which is no fault of the layer.
    """
    case, layer = answer.case, answer.layer
    if layer is None or not case.imports:
        return None
    what = f"{case.title}, {case.architecture}: a function imports {', '.join(case.imports)}"
    name = f"{case.stem}-{case.architecture}".replace("_", "-")[:64]
    try:
        seen = try_import(session, role, name, layer, case.imports)
    except WaiterError as error:
        told: Any = error.last_response
        state = told.get("Configuration", {})
        # The embedded AWS has no other runtimes and architectures than its machine.
        elsewhere = emulated and state.get("StateReasonCode") == "InvalidRuntime"
        return Check(what, NOT_CHECKED if elsewhere else FAILED, state.get("StateReason") or str(error))
    except ClientError as error:
        return Check(what, FAILED, str(error))
    if seen.error or not seen.layer:
        return Check(what, FAILED, seen.error or "the function saw no layer in /opt")
    others = [path for path in seen.files.values() if not path.startswith("/opt/")]
    if others or set(seen.files) != set(case.imports):
        return Check(what, FAILED, f"imported from elsewhere: {', '.join(others) or seen.files}")
    return Check(what, PASSED, ", ".join(seen.files.values()))


def check_spot(answer: Answer, job: Job | None) -> Check:
    """Tell whether a build that was to run on Spot did."""
    what = f"Spot, {answer.case.architecture}: the job ran on it"
    if job is None:
        return Check(what, FAILED, "there is no job to look at")
    if job.capacity != _SPOT:
        return Check(what, FAILED, f"its queue has {job.capacity}")
    if job.started is None:
        return Check(what, FAILED, job.reason or "it never started")
    return Check(what, PASSED, f"{job.attempts} tries")


def check_images(session: boto3.Session, jobs: Iterable[Job], emulated: bool) -> Iterator[Check]:
    """Look at the images that the jobs ran in: size, compression, and what the scan found."""
    uris = sorted({job.image for job in jobs if job.image})
    if not uris:
        found = (NOT_CHECKED, NO_IMAGES) if emulated else (FAILED, "no job says which image it ran in")
        yield Check("images: kept and scanned", *found)
    for uri in uris:
        what = f"image {uri.rpartition(':')[2]}: kept and scanned"
        try:
            image = stored_image(session, uri)
        except ClientError as error:
            yield Check(what, NOT_CHECKED if emulated else FAILED, str(error))
            continue
        if image is None:
            yield Check(what, *((NOT_CHECKED, NO_IMAGES) if emulated else (FAILED, f"there is no {uri}")))
        else:
            # Findings are the base's, and no fault of the deployment.
            complete = image.scan in ("COMPLETE", "ACTIVE")
            yield Check(what, PASSED if complete else NOT_CHECKED, str(image))
