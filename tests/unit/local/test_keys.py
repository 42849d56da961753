import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from local.keys import FILE, Key, KeyFileError, Keyring, machine_key, new_key
from local.settings import ROOT


def test_the_machine_keeps_one_key_that_is_its_users_alone(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "embedded-aws"
    before = os.umask(0)
    try:
        key = machine_key(folder)
    finally:
        os.umask(before)
    assert machine_key(folder) == key
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / FILE).stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == [FILE]
    assert machine_key(tmp_path / "another") != key


def test_those_who_come_at_the_same_time_get_the_same_key(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    script = (
        "import sys; from pathlib import Path; from local.keys import machine_key; sys.stdin.read(1); "
        "key = machine_key(Path(sys.argv[1])); print(key.id, key.secret)"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(folder)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(8)
    ]  # fmt: skip
    for process in started:
        assert process.stdin
        process.stdin.write("x")
        process.stdin.flush()
    told = {process.communicate()[0] for process in started}
    assert [process.returncode for process in started] == [0] * len(started)
    key = machine_key(folder)
    assert told == {f"{key.id} {key.secret}\n"}


def open_folder(folder: Path) -> None:
    folder.chmod(0o755)


def open_file(folder: Path) -> None:
    (folder / FILE).chmod(0o644)


def linked_file(folder: Path) -> None:
    (folder / FILE).rename(folder.parent / "elsewhere")
    (folder / FILE).symlink_to(folder.parent / "elsewhere")


def linked_folder(folder: Path) -> None:
    folder.rename(folder.parent / "elsewhere")
    folder.symlink_to(folder.parent / "elsewhere")


def not_a_folder(folder: Path) -> None:
    (folder / FILE).unlink()
    folder.rmdir()
    folder.write_text("")


def others_folder(folder: Path) -> None:
    os.chown(folder, 65534, 65534)


def others_file(folder: Path) -> None:
    os.chown(folder / FILE, 65534, 65534)


def empty(folder: Path) -> None:
    (folder / FILE).write_text("")


def no_secret(folder: Path) -> None:
    (folder / FILE).write_text(json.dumps({"access_key_id": "A"}))


def short_secret(folder: Path) -> None:
    (folder / FILE).write_text(json.dumps({"access_key_id": "A", "secret_access_key": ""}))


@pytest.mark.parametrize(
    "spoil",
    [
        open_folder, open_file, linked_file, linked_folder, not_a_folder, others_folder, others_file, empty,
        no_secret, short_secret,
    ],
)  # fmt: skip
def test_a_key_that_others_may_know_is_not_used(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    if spoil in (others_folder, others_file) and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    folder = tmp_path / "cache"
    machine_key(folder)
    spoil(folder)
    with pytest.raises(KeyFileError, match="delete it") as error:
        machine_key(folder)
    assert str(folder) in str(error.value)


def test_keys_are_of_the_form_of_awss_and_all_different() -> None:
    keys = [new_key() for _ in range(100)]
    assert len({key.id for key in keys}) == len({key.secret for key in keys}) == len(keys)
    for key in keys:
        assert len(key.id) == 20
        assert key.id.isalnum()
        assert key.id.startswith("AKIA")
        assert len(key.secret) == 40
        assert key.secret not in repr(key)


def test_a_keyring_knows_its_own_keys_alone() -> None:
    keys = Keyring()
    role = keys.of_role("arn:aws:iam::123456789012:role/path/web")
    assert keys.of_role("arn:aws:iam::123456789012:role/path/web") is role
    assert role.id.startswith("ASIA")
    assert keys.find(role.id) == (role, "web")
    assert keys.find(keys.owner.id) == (keys.owner, None)
    assert keys.find("web") is None
    assert keys.find(Keyring().owner.id) is None
    given = Key("AKIA", "secret")
    assert Keyring(given).owner is given
