"""`layerdrop catalogue`: the page of all layers, in a browser or as a copy."""

from __future__ import annotations

import webbrowser
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from layerdrop_client.answers import document
from layerdrop_client.problems import AGAIN, DONE, CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layerdrop_client.aws import Aws
    from layerdrop_client.screen import Screen

PAGE = "catalogue/index.html"
DOCUMENTS = ("catalogue/index.json", "catalogue/vulnerabilities.json")
LONGEST = timedelta(days=7)
"""How long a presigned address can be good:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/ShareObjectPreSignedURL.html"""
_MOST_BYTES = 1 << 30
_GZIP = zlib.MAX_WBITS | 16


@dataclass(frozen=True)
class Wish:
    """What is wanted of the catalogue.

    Attributes:
        opens: In a browser; None for: if there is a terminal.
        good_for: How long the address is good, if it is made for this.
        folder: Where a copy is to be.
    """

    opens: bool | None = None
    good_for: timedelta = timedelta(hours=1)
    folder: Path | None = None


def catalogue(aws: Aws, screen: Screen, wish: Wish) -> int:
    """Tell where the catalogue is, and open or copy it; return the exit status.

    Raises:
        CommandError: CATALOGUE_NOT_FOUND, CATALOGUE_BROKEN, FOLDER_NOT_FOUND.
    """
    saved = _copy(aws, wish.folder) if wish.folder else []
    address, expires = (saved[0].as_uri(), None) if saved else _address(aws, wish.good_for)
    _tell(screen, aws.bucket, address, expires, saved)
    if (screen.is_watched if wish.opens is None else wish.opens) and not webbrowser.open(address):
        screen.warning("No browser could be started: open the address yourself.")
    return DONE


def _address(aws: Aws, good_for: timedelta) -> tuple[str, datetime | None]:
    """Where the page can be read, and until when, if the address is made for this (in UTC)."""
    if aws.catalogue_address:
        return aws.catalogue_address, None
    if not aws.is_there(PAGE):
        raise _missing(aws)
    return aws.presigned(PAGE, good_for), datetime.now(UTC).replace(microsecond=0) + good_for


def _tell(screen: Screen, bucket: str, address: str, expires: datetime | None, saved: Sequence[Path]) -> None:
    screen.document(
        document(
            "catalogue",
            bucket=bucket,
            address=address,
            expires=expires and expires.isoformat().replace("+00:00", "Z"),
            saved=[str(path) for path in saved],
        )
    )
    for path in saved:
        screen.line(str(path))
    if not saved:
        screen.line(address)
    if expires:
        screen.news(
            f"Whoever has this address can read the catalogue until {expires:%Y-%m-%d %H:%M} UTC, "
            "or until the credentials that it was made with end."
        )


def _missing(aws: Aws) -> CommandError:
    hint = f"It is written as a build ends: {aws.place.command('drop', 'requirements.txt', 'arm64/web')}"
    return CommandError("CATALOGUE_NOT_FOUND", f"The bucket {aws.bucket} has no catalogue yet.", hint, AGAIN)


def _copy(aws: Aws, folder: Path) -> list[Path]:
    page = aws.fetch(PAGE, _MOST_BYTES)
    if page is None:
        raise _missing(aws)
    contents = {PAGE: _unzipped(page)} | {key: aws.fetch(key, _MOST_BYTES) for key in DOCUMENTS}
    saved = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for key, content in contents.items():
            if content is not None:  # nothing is known of vulnerabilities before the watch has asked
                path = folder.resolve() / Path(key).name
                path.write_bytes(content)
                saved.append(path)
    except OSError as error:
        raise CommandError("FOLDER_NOT_FOUND", f"Nothing can be written to {folder}: {error}.") from error
    return saved


def _unzipped(content: bytes) -> bytes:
    """The page, which is kept as browsers take it."""
    stream = zlib.decompressobj(_GZIP)
    try:
        page = stream.decompress(content, _MOST_BYTES)
    except zlib.error:
        page = b""
    if not stream.eof:
        hint = "The hourly look writes it anew."
        raise CommandError("CATALOGUE_BROKEN", "The catalogue's page cannot be unpacked.", hint, AGAIN)
    return page
