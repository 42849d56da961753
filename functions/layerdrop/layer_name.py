"""The name of a layer, from the path of its requirements file."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import TYPE_CHECKING

from layerdrop.target import Architecture, Runtime, target_id

if TYPE_CHECKING:
    from layerdrop.input_key import InputKey

# https://docs.aws.amazon.com/lambda/latest/api/API_PublishLayerVersion.html#lambda-PublishLayerVersion-request-LayerName
MAX_LENGTH = 140
_NOT_ALLOWED = re.compile(r"[^A-Za-z0-9_-]")
# What joins the stem to "requirements.txt" in a file name, as in web-requirements.txt.
_JOINTS = "-_. "
_DIGEST_LENGTH = 8


def base_name(key: InputKey) -> str:
    """Folders and stem joined with `-`, or `layer` when there are none."""
    parts = [*key.folders, key.stem.rstrip(_JOINTS)]
    return _NOT_ALLOWED.sub("-", "-".join(part for part in parts if part)) or "layer"


def layer_name(base: str, runtime: Runtime, architecture: Architecture) -> str:
    """The base with the target's id, because one version number can hold only one zip.

    A base too long for Lambda is cut and ends in its digest, so that two long ones stay two layers.
    """
    suffix = f"-{target_id(runtime, architecture)}"
    room = MAX_LENGTH - len(suffix)
    if len(base) > room:
        digest = sha256(base.encode()).hexdigest()[:_DIGEST_LENGTH]
        base = f"{base[: room - _DIGEST_LENGTH - 1]}-{digest}"
    return base + suffix
