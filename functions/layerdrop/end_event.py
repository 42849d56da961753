"""The event on the bus that tells of a build's end. Its schema is schemas/end-event.schema.json."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from layerdrop.input_key import manifest_key
from layerdrop.notice import notice

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = "layerdrop/end-event/1"
DETAIL_TYPE = "Layer Build Ended"
SUPERSEDED = "SUPERSEDED"
"""The end state of a build that a newer upload made needless; it has no manifest."""

# An event may have 256 KiB: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-putevents.html
_LONGEST_TEXT = 2000


def end_event(manifest: Mapping[str, Any], status: str) -> dict[str, Any]:
    """The event's detail: what the manifest says, in short.

    Args:
        manifest: The manifest by its schema, in its end state.
        status: How the build ended: the manifest's status, or SUPERSEDED.
    """
    build_input = manifest["input"]
    answer = {"bucket": build_input["bucket"], "key": manifest_key(build_input["key"])}
    error = _short(manifest["error"]) if status != SUPERSEDED else None
    return {
        "schema": SCHEMA,
        "status": status,
        "input": build_input,
        "execution": manifest["execution"],
        "manifest": answer,
        "layers": [
            {
                "architecture": layer["architecture"],
                "runtime": layer["runtime"],
                "layer_name": layer["layer_name"],
                "layer_version_arn": layer["layer_version_arn"],
                "version": layer["version"],
                "reused": layer["reused"],
            }
            for layer in manifest["layers"]
        ],
        "error": error,
        "notice": notice(build_input, answer, error) if error else None,
    }


def _short(error: Mapping[str, Any] | None) -> dict[str, str] | None:
    if error is None:
        return None
    return {name: str(error[name])[:_LONGEST_TEXT] for name in ("code", "message", "hint")}
