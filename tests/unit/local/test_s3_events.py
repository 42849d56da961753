from urllib.parse import unquote_plus

from hypothesis import given
from hypothesis import strategies as st

from local.s3_events import Created, Sequencer, event_document

KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


def record(created: Created, sequencer: str = "00A1") -> dict:
    [only] = event_document(created, "config", sequencer, "us-east-1", "123456789012")["Records"]
    return only


@given(KEYS)
def test_the_key_comes_back_by_unquote_plus(key: str) -> None:
    encoded = record(Created("ObjectCreated:Put", "box", key, "v1", "e", 3))["s3"]["object"]["key"]
    assert unquote_plus(encoded) == key
    assert encoded.isascii()
    assert " " not in encoded


def test_slashes_are_left_as_they_are_and_spaces_become_plus_signs() -> None:
    event = record(Created("ObjectCreated:Put", "box", "requirements/a b+c/requirements.txt", "v", "e", 3))
    assert event["s3"]["object"]["key"] == "requirements/a+b%2Bc/requirements.txt"


def test_an_event_names_the_version() -> None:
    event = record(Created("ObjectCreated:Copy", "box", "k", "v7", "etag", 42), "00FF")
    assert event["eventName"] == "ObjectCreated:Copy"
    assert event["s3"]["bucket"]["name"] == "box"
    assert event["s3"]["object"] == {
        "key": "k", "size": 42, "eTag": "etag", "versionId": "v7", "sequencer": "00FF",
    }  # fmt: skip


def test_without_versioning_there_is_no_version_id() -> None:
    assert "versionId" not in record(Created("ObjectCreated:Put", "b", "k", None, "e", 1))["s3"]["object"]


def test_sequencers_grow_as_text_also_from_run_to_run() -> None:
    numbers = []
    for _ in range(3):
        sequencer = Sequencer()
        numbers += [sequencer.next() for _ in range(50)]
    assert numbers == sorted(set(numbers))
    assert all(int(number, 16) and len(number) == 18 for number in numbers)
