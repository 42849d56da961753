"""`layerdrop logs`: what the last build of a layer has logged."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from layerdrop_client.answers import document
from layerdrop_client.keys import PREFIX, is_input, key_of
from layerdrop_client.lookup import resolve
from layerdrop_client.problems import DONE, CommandError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from layerdrop_client.aws import Aws
    from layerdrop_client.manifests import Manifest
    from layerdrop_client.screen import Screen


def logs(aws: Aws, screen: Screen, word: str) -> int:
    """Tell what the jobs of the last build logged, and where the log of an error is.

    Args:
        aws: The stack.
        screen: Where to tell.
        word: A layer's name, or a key.

    Raises:
        CommandError: LAYER_NOT_FOUND, KEY_INVALID, or NOT_BUILT: there is no answer to tell of.
    """
    key = _key(aws, word)
    manifest = aws.manifest(key)
    if manifest is None:
        raise CommandError(
            "NOT_BUILT", f"There is no manifest of {key}.", "Upload the file, or see `layerdrop list`."
        )
    streams = [_stream(aws, group, stream) for group, stream in dict.fromkeys(_places(aws, manifest))]
    screen.document(document("logs", key=key, execution=manifest.execution, streams=streams))
    screen.facts([("file", key), ("execution", manifest.execution or "none")])
    for stream in streams:
        screen.line()
        screen.title(f"{stream['group']} {stream['stream'] or '(its newest stream)'}")
        for event in stream["events"]:
            screen.line(f"{event['time'][11:19]}  {event['message']}")
    if not streams:
        screen.line(
            "\nThis build had no job, so nothing but its execution tells of it: the layer was known already."
        )
    return DONE


def _key(aws: Aws, word: str) -> str:
    if word.startswith(PREFIX) or "/" in word or is_input(word):
        return key_of(word)
    claim = aws.claim(resolve(aws, word))
    if claim is None or claim.key is None:
        raise CommandError("NOT_BUILT", f"No file has the name {word}.", "Give the file's key instead.")
    return claim.key


def _places(aws: Aws, manifest: Manifest) -> Iterator[tuple[str, str | None]]:
    """Where an error says that its log is; then the logs of all jobs."""
    for problem in manifest.problems:
        if problem.log and problem.log.get("group"):
            yield str(problem.log["group"]), problem.log.get("stream")
    for event in aws.events(manifest.execution) if manifest.execution else ():
        if event["type"] == "TaskSubmitted":
            output = json.loads(event["taskSubmittedEventDetails"].get("output") or "{}")
            job = aws.job(output["JobId"]) if "JobId" in output else None
            container: Mapping[str, Any] = job["container"] if job else {}
            group = container.get("logConfiguration", {}).get("options", {}).get("awslogs-group")
            if group and container.get("logStreamName"):
                yield group, container["logStreamName"]


def _stream(aws: Aws, group: str, stream: str | None) -> dict[str, Any]:
    """What a stream has; without its name, nothing but the group is known."""
    events = aws.log(group, stream) if stream else ()
    return {
        "group": group,
        "stream": stream,
        "events": [
            {
                "time": datetime.fromtimestamp(event["timestamp"] / 1000, UTC).isoformat(),
                "message": event["message"].rstrip("\n"),
            }
            for event in events
        ],
    }
