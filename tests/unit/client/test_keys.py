from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerdrop import input_key
from layerdrop_client import keys
from layerdrop_client.problems import CommandError

PLACES = st.text("abpylock-requirements.toml/", max_size=40)


@given(PLACES, st.sampled_from([keys.SUFFIX, keys.LOCK_SUFFIX]))
def test_manifests_lie_where_the_pipeline_puts_them(stem: str, suffix: str) -> None:
    key = f"requirements/arm64/{stem}{suffix}"
    assert keys.manifest_key(key) == input_key.manifest_key(key)


@pytest.mark.parametrize(
    ("key", "manifest"),
    [
        ("arm64/web/requirements.txt", "arm64/web/manifest.json"),
        ("arm64/web-requirements.txt", "arm64/web-manifest.json"),
        ("arm64/web/pylock.toml", "arm64/web/pylock-manifest.json"),
        ("arm64/api-pylock.toml", "arm64/api-pylock-manifest.json"),
        ("arm64/pylock-requirements.txt", "arm64/pylock-requirements-manifest.json"),
    ],
)
def test_both_kinds_of_inputs_have_a_manifest_of_their_own(key: str, manifest: str) -> None:
    assert keys.manifest_key(f"requirements/{key}") == f"requirements/{manifest}"


@pytest.mark.parametrize(
    ("word", "file", "key"),
    [
        ("arm64/web", "requirements.txt", "arm64/web/requirements.txt"),
        ("arm64/web/", "requirements.txt", "arm64/web/requirements.txt"),
        ("requirements/arm64/web/requirements.txt", "x", "arm64/web/requirements.txt"),
        ("/x86_64/python3.12/a/b", "dev-requirements.txt", "x86_64/python3.12/a/b/dev-requirements.txt"),
        ("arm64/web", "wanted.in", "arm64/web/requirements.txt"),
        ("arm64/web", "pylock.toml", "arm64/web/pylock.toml"),
        ("arm64/web", "pylock.api.toml", "arm64/web/api-pylock.toml"),
        ("arm64/web-requirements.txt", "pylock.toml", "arm64/web-requirements.txt"),
    ],
)
def test_a_place_is_told_in_short(word: str, file: str, key: str) -> None:
    found = keys.key_of(word, file)
    assert found == f"requirements/{key}"
    assert input_key.parse(found)


@pytest.mark.parametrize(
    ("word", "said"),
    [("web", "no architecture"), ("AARCH64/web", 'did you mean "arm64"'), ("", "no architecture")],
)
def test_what_the_pipeline_would_refuse_is_refused_before(word: str, said: str) -> None:
    with pytest.raises(CommandError, match=said) as error:
        keys.key_of(word)
    assert error.value.status == 2


def test_a_file_that_lies_as_its_key_says_needs_none() -> None:
    path = PurePosixPath("/home/x86_64/repo/layers/arm64/python3.12/web/requirements.txt")
    assert keys.key_of_file(path) == "requirements/arm64/python3.12/web/requirements.txt"
    assert keys.runtime_in(keys.key_of_file(path)) == "python3.12"
    with pytest.raises(CommandError, match="does not say what it is built for"):
        keys.key_of_file(PurePosixPath("/home/me/requirements.txt"))


def test_what_keys_end_in_is_left_out_for_people() -> None:
    assert keys.short("requirements/arm64/web/requirements.txt") == "arm64/web"
    assert keys.short("requirements/arm64/web/pylock.toml") == "arm64/web/pylock.toml"
    assert keys.key_of(keys.short("requirements/arm64/a/pylock.toml")) == "requirements/arm64/a/pylock.toml"
