"""`layerdrop watch`: follows what is being built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from layerdrop_client.answers import answer, document
from layerdrop_client.commands.waiting import Patience, tell, wait
from layerdrop_client.following import Seen, Upload, look, status_of
from layerdrop_client.keys import key_of, short
from layerdrop_client.manifests import BUILDING
from layerdrop_client.problems import CommandError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from layerdrop_client.aws import Aws
    from layerdrop_client.screen import Screen


def watch(aws: Aws, screen: Screen, wanted: Sequence[str], patience: Patience) -> int:
    """Follow inputs until they are answered, and tell the answers.

    Args:
        aws: The stack.
        screen: Where to tell.
        wanted: Keys, or folders; none for all that is being built.
        patience: With `waits` off, how far they are now is all that is told.

    Returns:
        The exit status.

    Raises:
        CommandError: INPUT_NOT_FOUND or KEY_INVALID.
        StillBuildingError: Nobody waited for the end.
    """
    uploads = [_newest(aws, key_of(word)) for word in wanted] if wanted else _under_way(aws)
    seen: Mapping[Upload, Seen] = {}
    if uploads and patience.waits:
        seen = wait(aws, screen, uploads, patience)
    elif uploads:
        seen = {upload: look(aws, upload, detailed=False) for upload in uploads}
    screen.document(document("watch", uploads=[answer(*pair) for pair in seen.items()]))
    for upload, one in seen.items():
        tell(screen, upload.key, one, short(upload.key), _text(aws, upload) if one.problems else None)
        if not one.ended:
            screen.line(f"{short(upload.key)}: {one.state}")
    if not uploads:
        screen.line("Nothing is being built.")
    return status_of(seen)


def _newest(aws: Aws, key: str) -> Upload:
    stored = aws.stored(key)
    if stored is None:
        raise CommandError(
            "INPUT_NOT_FOUND", f"There is no s3://{aws.bucket}/{key}.", "See `layerdrop list`."
        )
    return Upload(key, stored.version_id)


def _under_way(aws: Aws) -> list[Upload]:
    manifests = aws.for_each(aws.manifest, aws.inputs())
    return [Upload(one.key, one.version_id) for one in manifests if one and one.status == BUILDING]


def _text(aws: Aws, upload: Upload) -> str | None:
    content = aws.content(upload.key, upload.version_id)
    return content.decode(errors="replace") if content is not None else None
