"""Access keys of the embedded AWS: one of this machine's, for its owner, and one for each role of a run."""

import json
import os
import re
import secrets
import stat
import string
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from local.settings import ROOT

FOLDER: Final = ROOT / ".cache" / "embedded-aws"
FILE: Final = "key.json"
ID: Final = re.compile(r"AKIA[A-Z2-7]{16}", re.ASCII)
SECRET_LENGTH: Final = 40
OPEN: Final = os.O_CLOEXEC | os.O_NOFOLLOW


@dataclass(frozen=True)
class Key:
    """An access key; the secret stays out of messages."""

    id: str
    secret: str = field(repr=False)


KeyOf = Callable[[str], Key]
"""Returns what a role signs with, by its ARN."""


class KeyFileError(Exception):
    """The key of this machine cannot be kept, or somebody else could have read or written it."""


def new_key(kind: str = "AKIA") -> Key:
    """Make a key that nobody can guess.

    Args:
        kind: How AWS begins the id: `AKIA` for one that stays, `ASIA` for one that is temporary.
            https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html#identifiers-prefixes
    """
    letters = string.ascii_uppercase + "234567"
    return Key(kind + "".join(secrets.choice(letters) for _ in range(16)), secrets.token_urlsafe(30))


def machine_key(folder: Path = FOLDER) -> Key:
    """Return the key of this machine; the first call makes it.

    It stays the same from one `make up` to the next, so that shells keep what they exported.

    Args:
        folder: Holds it; made with mode 0700, the file in it with 0600.

    Raises:
        KeyFileError: Folder or file are another user's, open to others, or hold no key.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    try:
        # Whoever may rename the folder cannot make us look elsewhere from here on.
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | OPEN)
    except OSError as error:
        raise KeyFileError(f"{folder} is no folder of its own: delete it, and it is made anew.") from error
    try:
        _check_private(place, folder)
        with suppress(FileExistsError):
            _write_new(place)
        return _read(place, folder / FILE)
    finally:
        os.close(place)


def _write_new(place: int) -> None:
    """Make a key, unless there is one; whoever comes at the same time finds a whole one or none.

    Raises:
        FileExistsError: There is one.
    """
    if FILE in os.listdir(place):
        raise FileExistsError(FILE)
    key = new_key()
    partial = f".{FILE}.{secrets.token_hex(8)}"
    file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | OPEN, 0o600, dir_fd=place)
    try:
        with open(file, "w", encoding="ascii") as writing:  # noqa: PTH123 (a descriptor)
            json.dump({"access_key_id": key.id, "secret_access_key": key.secret}, writing)
        os.link(partial, FILE, src_dir_fd=place, dst_dir_fd=place)
    finally:
        os.unlink(partial, dir_fd=place)


def _read(place: int, path: Path) -> Key:
    try:
        file = os.open(FILE, os.O_RDONLY | OPEN, dir_fd=place)
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read ({error.strerror}): delete it for a new key.") from error
    with open(file, encoding="utf-8") as reading:  # noqa: PTH123 (a descriptor)
        _check_private(file, path)
        try:
            found = json.load(reading)
            key = Key(str(found["access_key_id"]), str(found["secret_access_key"]))
        except (ValueError, KeyError, TypeError):
            key = Key("", "")
    if not ID.fullmatch(key.id) or len(key.secret) != SECRET_LENGTH:
        raise KeyFileError(f"{path} holds no key: delete it for a new one.")
    return key


def _check_private(descriptor: int, path: Path) -> None:
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid():
        raise KeyFileError(f"{path} is another user's: delete it for a new key.")
    if stat.S_IMODE(found.st_mode) & 0o077:
        mode = stat.S_IMODE(found.st_mode)
        raise KeyFileError(f"{path} is open to other users (mode {mode:o}): delete it for a new key.")


class Keyring:
    """The keys that an embedded AWS knows: its owner's, and one for each role.

    Attributes:
        owner: May do everything.
    """

    def __init__(self, owner: Key | None = None) -> None:
        self.owner = owner or new_key()
        self._lock = threading.Lock()
        self._of_roles: dict[str, Key] = {}
        self._names: dict[str, str] = {}

    def of_role(self, arn: str) -> Key:
        """Return the key that a role's calls are signed with, by its ARN."""
        name = arn.rpartition("/")[2]
        with self._lock:
            if name not in self._of_roles:
                key = self._of_roles[name] = new_key("ASIA")
                self._names[key.id] = name
            return self._of_roles[name]

    def find(self, key_id: str) -> tuple[Key, str | None] | None:
        """Return the key of an id with the name of its role, None for the owner; None for an unknown id."""
        if key_id == self.owner.id:
            return self.owner, None
        name = self._names.get(key_id)
        return None if name is None else (self._of_roles[name], name)
