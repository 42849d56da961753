"""The name of an execution: the same event gives the same name, so that it starts once."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING

from layerdrop.input_key import PREFIX, SUFFIX

if TYPE_CHECKING:
    from layerdrop.build_input import BuildInput

_SLUG_LENGTH = 40
_DIGEST_LENGTH = 32


def execution_name(build_input: BuildInput) -> str:
    """A slug for people and a digest for uniqueness, 73 characters at most of `[A-Za-z0-9-]`.

    Step Functions takes 80 and refuses a name that was used in the last 90 days:
    https://docs.aws.amazon.com/step-functions/latest/apireference/API_StartExecution.html
    """
    identity = (build_input.bucket, build_input.key, build_input.version_id, build_input.sequencer)
    digest = sha256("\0".join(identity).encode()).hexdigest()[:_DIGEST_LENGTH]
    middle = build_input.key.removeprefix(PREFIX).removesuffix(SUFFIX)
    slug = re.sub(r"[^A-Za-z0-9]+", "-", middle)[:_SLUG_LENGTH].strip("-") or "build"
    return f"{slug}-{digest}"
