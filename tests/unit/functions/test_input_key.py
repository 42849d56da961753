import itertools
import string
from fnmatch import fnmatchcase
from urllib.parse import quote_plus

import pytest
from aws_lambda_powertools.utilities.data_classes import S3Event
from hypothesis import assume, given
from hypothesis import strategies as st

from layerdrop import input_key
from layerdrop.build_input import BuildInput
from layerdrop.errors import BuildError, ErrorCode
from local.watch import Upload

architectures = st.sampled_from(["arm64", "x86_64"])
runtimes = st.sampled_from(["python3.11", "python3.12", "python3.13", "python3.14"])
# Any character but the separator; surrogates cannot stand in a key.
names = st.text(st.characters(exclude_characters="/", exclude_categories=("Cs",)), min_size=1, max_size=12)
folders = names.filter(lambda name: name not in (".", "..") and not name.lower().startswith("python"))
stems = st.text(st.characters(exclude_characters="/", exclude_categories=("Cs",)), max_size=12)
suffixes = st.sampled_from(["requirements.txt", "pylock.toml"])


@given(architectures, st.none() | runtimes, st.lists(folders, max_size=4), stems, suffixes)
def test_reads_back_what_was_joined(
    architecture: str, runtime: str | None, middle: list[str], stem: str, suffix: str
) -> None:
    key = "/".join(["requirements", architecture, *filter(None, [runtime]), *middle, stem + suffix])
    parsed = input_key.parse(key)
    assert (parsed.architecture, parsed.runtime, list(parsed.folders), parsed.stem) == (
        architecture,
        runtime,
        middle,
        stem,
    )
    assert parsed.is_lock == (suffix == "pylock.toml")


@pytest.mark.parametrize(
    ("key", "named"),
    [
        ("requirements/requirements.txt", "architecture"),
        ("requirements/web/requirements.txt", "web"),
        ("requirements/ARM64/requirements.txt", "ARM64"),
        ("requirements/aarch64/requirements.txt", "aarch64"),
        ("requirements//requirements.txt", '""'),
        ("requirements/arm64//requirements.txt", '""'),
        ("requirements/arm64/../requirements.txt", '".."'),
        ("requirements/arm64/./requirements.txt", '"."'),
        ("requirements/arm64/python3.10/requirements.txt", "python3.10"),
        ("requirements/arm64/python3/requirements.txt", "python3"),
        ("requirements/arm64/Python3.13/requirements.txt", "Python3.13"),
        ("requirements/arm64/python3.13/python3.12/requirements.txt", "python3.12"),
        ("requirements/arm64/web/python3.12/requirements.txt", "python3.12"),
        ("requirements/arm64/requirements.txt.bak", "requirements.txt.bak"),
        ("requirements/arm64/requirements.TXT", "requirements.TXT"),
        ("requirements/arm64/pylock.web.toml", "pylock.web.toml"),
        ("requirements/arm64/../pylock.toml", '".."'),
        ("requirements/web/pylock.toml", "web"),
        ("other/arm64/requirements.txt", "other/arm64"),
        ("requirements.txt", "requirements.txt"),
        ("", '""'),
    ],
)
def test_refuses_and_names_what_is_wrong(key: str, named: str) -> None:
    with pytest.raises(BuildError) as caught:
        input_key.parse(key)
    problem = caught.value.problem
    assert problem.code == ErrorCode.KEY_INVALID
    assert named in problem.message
    assert "requirements/<arm64 or x86_64>/[<runtime>/]" in problem.hint


@pytest.mark.parametrize(
    ("written", "meant"),
    [("ARM64", "arm64"), ("aarch64", "arm64"), ("amd64", "x86_64"), ("X86_64", "x86_64")],
)
def test_guesses_the_architecture_that_was_meant(written: str, meant: str) -> None:
    with pytest.raises(BuildError) as caught:
        input_key.parse(f"requirements/{written}/requirements.txt")
    assert f'Did you mean "{meant}"?' in caught.value.problem.hint


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=60))
def test_says_yes_or_a_documented_no(middle: str) -> None:
    try:
        input_key.parse(f"requirements/{middle}requirements.txt")
    except BuildError as error:
        assert error.problem.code == ErrorCode.KEY_INVALID


def test_a_folder_may_begin_like_a_runtime() -> None:
    assert input_key.parse("requirements/arm64/python-tools/requirements.txt").folders == ("python-tools",)


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40), suffixes)
def test_manifest_lies_beside_and_starts_nothing(stem: str, suffix: str) -> None:
    key = f"requirements/{stem}{suffix}"
    manifest = input_key.manifest_key(key)
    assert manifest.rpartition("/")[0] == key.rpartition("/")[0]
    assert not manifest.endswith(input_key.SUFFIXES)
    # What the roles of PlanBuild and WriteManifest may write below requirements/, by the template.
    assert fnmatchcase(manifest, "requirements/*manifest.json")
    with pytest.raises(BuildError):
        input_key.parse(manifest)


@given(st.lists(st.text(string.ascii_letters + "-. ", max_size=8), min_size=2, max_size=2, unique=True))
def test_two_inputs_of_a_folder_have_two_manifests(stems: list[str]) -> None:
    keys = [input_key.manifest_key(f"requirements/arm64/{stem}requirements.txt") for stem in stems]
    assert len(set(keys)) == 2


@pytest.mark.parametrize(
    ("name", "manifest"),
    [
        ("requirements.txt", "manifest.json"),
        ("web-requirements.txt", "web-manifest.json"),
        ("pylock.toml", "pylock-manifest.json"),
        ("web-pylock.toml", "web-pylock-manifest.json"),
        ("pylock-requirements.txt", "pylock-requirements-manifest.json"),
        ("web-pylock-requirements-requirements.txt", "web-pylock-requirements-requirements-manifest.json"),
    ],
)
def test_manifests_are_called_after_their_inputs(name: str, manifest: str) -> None:
    assert input_key.manifest_key(f"requirements/arm64/{name}") == f"requirements/arm64/{manifest}"


@pytest.mark.attack(
    "an uploader takes the place of another file's manifest by the name of a lock, or the like"
)
def test_no_two_inputs_share_a_manifest() -> None:
    """All stems of up to five of the words that names of inputs and manifests are made of."""
    words = ["requirements", "pylock", "manifest", "-", ".", "txt", "toml", "json", "web"]
    stems = ["".join(some) for count in range(6) for some in itertools.product(words, repeat=count)]
    keys = {f"requirements/arm64/{stem}{suffix}" for stem in stems for suffix in input_key.SUFFIXES}
    assert len({input_key.manifest_key(key) for key in keys}) == len(keys) > 100_000


@given(st.lists(st.sampled_from(["requirements-", "pylock-", "web", "manifest.json"]), max_size=5), suffixes)
def test_whoever_watches_looks_in_the_same_place(stem: list[str], suffix: str) -> None:
    key = f"requirements/arm64/{''.join(stem)}{suffix}"
    assert Upload("bucket", key, "v").manifest_key == input_key.manifest_key(key)


@given(names)
def test_keys_of_events_are_decoded_as_forms(name: str) -> None:
    key = f"requirements/arm64/{name}/requirements.txt"
    assume(len(key.encode()) <= 1024)
    event = {
        "Records": [
            {
                "s3": {
                    "bucket": {"name": "bucket"},
                    "object": {
                        "key": quote_plus(key),
                        "size": 3,
                        "eTag": "e",
                        "versionId": "v",
                        "sequencer": "0A",
                    },
                }
            }
        ]
    }
    assert BuildInput.from_record(S3Event(event).record).key == key


def test_an_unversioned_bucket_is_refused() -> None:
    record = {"s3": {"bucket": {"name": "plain"}, "object": {"key": "k", "size": 3, "sequencer": "0A"}}}
    with pytest.raises(ValueError, match="plain keeps no versions"):
        BuildInput.from_record(S3Event({"Records": [record]}).record)
