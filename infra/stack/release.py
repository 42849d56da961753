"""Giving up a layer's name for the file that has claimed it: looked at, refused or done, name by name."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from stack.inventory import CLAIMS

if TYPE_CHECKING:
    from collections.abc import Iterator

    import boto3

    from stack.inventory import Place

_MAX_BYTES = 64 * 1024
# 412: the condition does not hold; 409: another write is under way; 404: there is nothing any more.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
_LOST_RACE = (404, 409, 412)


class ReleaseError(Exception):
    """A name that cannot be released; the message says why and what to do."""


@dataclass(frozen=True)
class Claimed:
    """A name and whose it is.

    Attributes:
        name: The layer's name.
        owner: The key of the requirements file that has claimed it; None if the claim cannot be read.
        is_there: Whether that file is still in the bucket.
        etag: Of the claim as it was read.
        lease: Who may still be publishing under the name, as the claim has it; None for nobody.
    """

    name: str
    owner: str | None
    is_there: bool
    etag: str
    lease: Any


def look(session: boto3.Session, place: Place, name: str) -> Claimed:
    """Find out whose a name is.

    Raises:
        ReleaseError: Nobody's, or one of the owner's builds is under way.
    """
    s3 = session.client("s3")
    try:
        response = s3.get_object(Bucket=place.bucket, Key=f"{CLAIMS}{name}.json")
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchKey":
            raise
        raise ReleaseError(_unclaimed(s3, place.bucket, name)) from error
    with response["Body"] as body:
        content = body.read(_MAX_BYTES)
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        document = None
    match document:
        case {"key": str() | None as owner, "lease": {"until": int() | float() as until} as lease}:
            pass
        case {"key": str() | None as owner, "lease": None as lease}:
            until = 0.0
        case _:
            return Claimed(name, None, False, response["ETag"], None)
    if owner is None:
        raise ReleaseError(f"The name {name} is free already: the next upload that asks for it gets it.")
    if until > time.time():
        raise ReleaseError(
            f"A build of {owner} is publishing {name} at this moment: "
            "run this again when its manifest says how it ended."
        )
    if execution := _build_of(session, place.state_machine, owner):
        raise ReleaseError(
            f"A build of {owner}, which owns {name}, is under way ({execution}) and would take the name "
            "back: run this again when its manifest says how it ended."
        )
    return Claimed(name, owner, _is_there(s3, place.bucket, owner), response["ETag"], lease)


def in_words(claimed: Claimed) -> Iterator[str]:
    """Return the lines that say whose the name is and what releasing it means."""
    if claimed.owner is None:
        yield f"{claimed.name} has a claim that cannot be read, so nobody can use the name."
    else:
        gone = "is still there" if claimed.is_there else "is not there any more"
        yield f"{claimed.name} belongs to {claimed.owner}, which {gone}."
    if claimed.is_there:
        yield (
            f"Unless it is deleted or given another name, {claimed.owner} claims it again with its next "
            "upload, if nobody else has done so by then."
        )


def release(session: boto3.Session, place: Place, claimed: Claimed) -> None:
    """Make the name nobody's, if its claim is still what was looked at.

    The object stays: what the stack has made is known by its claims.

    Raises:
        ReleaseError: The claim is another one by now.
    """
    document = {"schema": "layerdrop/claim/1", "key": None, "lease": claimed.lease}
    try:
        session.client("s3").put_object(
            Bucket=place.bucket,
            Key=f"{CLAIMS}{claimed.name}.json",
            Body=(json.dumps(document) + "\n").encode(),
            ContentType="application/json",
            IfMatch=claimed.etag,
        )
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] not in _LOST_RACE:
            raise
        raise ReleaseError(
            f"The claim of {claimed.name} has changed meanwhile: nothing was released, run this again."
        ) from error


def _unclaimed(s3: Any, bucket: str, name: str) -> str:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{CLAIMS}{name}")
    longer = [PurePosixPath(item["Key"]).stem for page in pages for item in page.get("Contents", ())]
    also = f" There are: {', '.join(longer)}." if longer else ""
    return f"No file has claimed the name {name}; a layer's name ends in its target, as -py313-arm64.{also}"


def _build_of(session: boto3.Session, state_machine: str | None, owner: str) -> str | None:
    """The name of a running execution that builds a file."""
    if state_machine is None:
        return None
    client = session.client("stepfunctions")
    pages = client.get_paginator("list_executions")
    for page in pages.paginate(stateMachineArn=state_machine, statusFilter="RUNNING"):
        for execution in page["executions"]:
            described = client.describe_execution(executionArn=execution["executionArn"])
            if json.loads(described["input"]).get("input", {}).get("key") == owner:
                return str(execution["name"])
    return None


def _is_there(s3: Any, bucket: str, key: str) -> bool:
    try:
        s3.head_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
            raise
        return False
    return True
