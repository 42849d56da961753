"""Options out of a file: more of them than a command line may hold, as ECS limits it."""

from __future__ import annotations

import json
import logging
import shlex
from typing import TYPE_CHECKING, Final

from layer_builder.ground import wording
from layer_builder.ground.errors import OptionsFileError, RequirementsNotFoundError
from layer_builder.results import storage

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_BYTES: Final = 1024 * 1024
_SHOWN: Final = 2000
_HINT: Final = """A file of options is a JSON list of texts, such as ["--slim", "--constraint=urllib3<2"]."""
# Where results go has to be known before the file is read; the others would be no build.
_NOT_THERE: Final = frozenset(("--options-file", "--staging", "--report", "-h", "--help", "--version"))

log = logging.getLogger("layer_builder")


def read(location: str) -> list[str]:
    """Read the arguments in a file, a path or `s3://BUCKET/KEY`.

    Raises:
        OptionsFileError: there is none, or it is no JSON list of texts.
        StorageDeniedError, StorageUnavailableError: S3 does not give it.
    """
    try:
        content = storage.read(location, limit=MAX_BYTES)
    except RequirementsNotFoundError as error:
        raise OptionsFileError(error.message, hint="Check --options-file.") from error
    if len(content) > MAX_BYTES:
        raise OptionsFileError(f"{location} has more than {MAX_BYTES:,} bytes.", hint=_HINT)
    try:
        arguments = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise OptionsFileError(f"{location} is no JSON: {error}.", hint=_HINT) from error
    if not isinstance(arguments, list) or not all(
        isinstance(one, str) and _is_text(one) for one in arguments
    ):
        raise OptionsFileError(f"{location} is no list of texts.", hint=_HINT)
    log.info("options: %s", wording.shortened(wording.visible(shlex.join(arguments), one_line=True), _SHOWN))
    return arguments


def check(location: str, normalized: Sequence[str]) -> None:
    """Refuse options that belong on the command line itself.

    Raises:
        OptionsFileError: there is one.
    """
    for argument in normalized:
        if (name := argument.partition("=")[0]) in _NOT_THERE:
            raise OptionsFileError(f"{location} has {name}, which belongs on the command line.", hint=_HINT)


def _is_text(argument: str) -> bool:
    """Tell whether a command line could have it: no NUL, no half of a surrogate pair."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in argument
