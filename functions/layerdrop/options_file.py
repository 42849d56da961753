"""What the settings ask of a job travels in a file: ECS takes so many characters of a command and no more.

A container's overrides have at most 8,192 characters, the JSON around them included
(https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html); settings can have six times as
many. What PlanBuild itself tells a job stays in its command, which so is of bounded length, and can be read
where jobs are listed. All else goes into the file, whatever it is: an option that is new needs nothing here.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_s3 import S3Client

    from layerdrop.target import Target

PREFIX: Final = "plans/"
"""Where they lie: jobs may read there what they are told of, and write nothing."""

_OURS: Final = frozenset(
    (
        "--path",
        "--version-id",
        "--name",
        "--architecture",
        "--runtime",
        "--reuse",
        "--staging",
        "--no-import-check",
    )
)


def split(command: Sequence[str]) -> tuple[list[str], list[str]]:
    """Part the builder's arguments into those for the command, each tied to its option, and the others."""
    ours = [word for word in command if word.partition("=")[0] in _OURS]
    return ours, [word for word in command if word.partition("=")[0] not in _OURS]


@dataclass(frozen=True)
class OptionsFiles:
    """The files in the bucket. One that is written again is another: nobody else can guess its name."""

    s3: S3Client
    bucket: str

    def put(self, target: Target, execution: str) -> Target:
        """Write what the settings ask of a target's job, if anything; return the target with what is left."""
        ours, asked = split(target.job.command)
        if not asked:
            return target
        # What other people's settings say is none of a job's business, and all jobs have one role.
        key = f"{PREFIX}{execution}/{target.id}/{secrets.token_urlsafe(18)}.json"
        body = json.dumps(asked, ensure_ascii=False) + "\n"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body.encode(), ContentType="application/json")
        command = (*ours, f"--options-file=s3://{self.bucket}/{key}")
        return replace(target, job=replace(target.job, command=command))
