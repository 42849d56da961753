"""`layerdrop drop`: one file goes up, and what became of it is told."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from layerdrop_client.answers import answer, document
from layerdrop_client.commands.waiting import Patience, still_building, tell, wait
from layerdrop_client.folder import read
from layerdrop_client.following import Seen, Upload, status_of
from layerdrop_client.keys import key_of, key_of_file, short
from layerdrop_client.problems import DONE

if TYPE_CHECKING:
    from pathlib import Path

    from layerdrop_client.aws import Aws
    from layerdrop_client.screen import Screen


def drop(aws: Aws, screen: Screen, file: Path, where: str | None, patience: Patience) -> int:
    """Upload a file, wait for its answer, and tell it.

    Args:
        aws: The stack.
        screen: Where to tell.
        file: A requirements file or a lock.
        where: Its place below `requirements/`, or a folder there; None to go by where the file lies.
        patience: Whether to wait.

    Returns:
        The exit status.

    Raises:
        CommandError: FILE_NOT_FOUND, KEY_INVALID or KEY_MISSING.
        StillBuildingError: Nobody waited for the end.
    """
    content = read(file)
    key = key_of(where, file.name) if where else key_of_file(PurePosixPath(file.absolute().as_posix()))
    upload = Upload(key, aws.upload(key, content))
    with still_building([key]):
        screen.news(f"Uploaded {file} to s3://{aws.bucket}/{key}")
        if not patience.waits:
            screen.document(document("drop", **answer(upload, Seen())))
            screen.line(f"Watch it: {aws.place.command('watch', short(key))}")
            return DONE
        seen = wait(aws, screen, [upload], patience)
    screen.document(document("drop", **answer(upload, seen[upload])))
    tell(screen, key, seen[upload], str(file), content.decode(errors="replace"))
    return status_of(seen)
