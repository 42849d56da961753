"""`layerdrop rollback`: the pointer goes back to a version that was released before."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from layerdrop_client import screen as shown
from layerdrop_client.answers import document
from layerdrop_client.lookup import number_in, resolve
from layerdrop_client.problems import AGAIN, DONE, CommandError

if TYPE_CHECKING:
    from layerdrop_client.aws import Aws
    from layerdrop_client.screen import Screen


def rollback(aws: Aws, screen: Screen, word: str, number: int) -> int:
    """Move a layer's pointer to another of its versions.

    Raises:
        CommandError: LAYER_NOT_FOUND; VERSION_NOT_FOUND; NOT_RELEASED, it never passed; NOT_SHARED, not
            all who use the version pointed to now may use it; BUSY, a build is publishing the layer.
    """
    name = resolve(aws, word)
    pointer = aws.pointer(name)
    arn = _released(aws, name, number)
    _check_sharing(aws, name, number_in(pointer), number)
    if arn != pointer:
        aws.point(name, arn)
    screen.document(document("rollback", name=name, before=pointer, after=arn, moved=arn != pointer))
    if arn == pointer:
        screen.line(f"/layerdrop/{name} names version {number} already.")
        return DONE
    screen.line(
        shown.good(f"/layerdrop/{name} names version {number} now, and named {number_in(pointer)} before.")
    )
    screen.line(f"  {arn}")
    screen.hint(
        "The next build of the file moves it on. So that it stays, put the file back to what that version "
        "had; functions get the version at their next deployment."
    )
    return DONE


def _released(aws: Aws, name: str, number: int) -> str:
    """The version's ARN, if it is there and was released."""
    claim = aws.claim(name)
    if claim and claim.until > time.time():
        raise CommandError(
            "BUSY",
            f"A build of {claim.key} is publishing {name} at this moment.",
            "Try again in a minute.",
            AGAIN,
        )
    found = aws.version(name, number)
    if found is None:
        numbers = ", ".join(str(item["Version"]) for item in aws.versions(name)) or "none"
        raise CommandError("VERSION_NOT_FOUND", f"{name} has no version {number}.", f"There are: {numbers}.")
    # What is published and not released has a note until it is; what did not pass is deleted again.
    candidate = aws.candidate(name)
    waits = candidate is not None and number > candidate["after"]
    if waits and candidate and found["Content"]["CodeSha256"] == candidate["code_sha256"]:
        raise CommandError(
            "NOT_RELEASED",
            f"Version {number} of {name} was published and not released: it has not passed its trial.",
            "Take an earlier one: `layerdrop show` lists them.",
        )
    return str(found["LayerVersionArn"])


def _check_sharing(aws: Aws, name: str, now: int | None, number: int) -> None:
    """Refuse a version that others may not use who use the present one."""
    if now is None or now == number:
        return
    if missing := sorted(aws.grants(name, now) - aws.grants(name, number)):
        raise CommandError(
            "NOT_SHARED",
            f"Version {number} of {name} is not shared with {', '.join(missing)}, as version {now} is.",
            f"Share it: aws lambda add-layer-version-permission --layer-name {name} "
            f"--version-number {number} …",
        )
