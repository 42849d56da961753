"""Fixes: kept for one content of one file, and handed to its builder."""

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from layerdrop.fixes import Fixes, fixes_key
from tests.catalogue_documents import schema
from tests.unit.functions.test_handlers import EXECUTION, KEY

FIXED = b'# /// layer\n# rebuild = "fixed"\n# ///\nurllib3\n'


def fixes(account: Any) -> Fixes:
    return Fixes(account.s3, account.bucket)


def options(account: Any, handler: Callable[..., Any], text: bytes, sequencer: str = "00A0") -> list[str]:
    """What the settings and fixes ask of the job of an upload."""
    build_input = account.upload(KEY, text, sequencer)
    [target] = handler("plan_build", {"input": build_input.to_json(), "execution": EXECUTION})["targets"]
    [file] = [word for word in target["job"]["command"] if word.startswith("--options-file=")] or [""]
    return account.json(file.removeprefix(f"--options-file=s3://{account.bucket}/")) if file else []


def test_a_file_s_fixes_reach_its_job_while_it_stays_as_it_is(
    account: Any, handler: Callable[..., Any]
) -> None:
    etag = account.upload(KEY, FIXED).etag
    fixes(account).keep(KEY, f'"{etag}"', ["urllib3==2.5.0"])
    jsonschema.validate(account.json(fixes_key(KEY, etag)), schema("fixes"))
    assert options(account, handler, FIXED, "00A1") == ["--fix=urllib3==2.5.0"]
    assert options(account, handler, FIXED + b"# another\n", "00A2") == []


def test_a_file_that_asks_for_none_gets_none(account: Any, handler: Callable[..., Any]) -> None:
    etag = account.upload(KEY, b"urllib3\n").etag
    fixes(account).keep(KEY, etag, ["urllib3==2.5.0"])
    assert options(account, handler, b"urllib3\n", "00A1") == []


def test_another_file_of_the_same_content_has_its_own(account: Any) -> None:
    fixes(account).keep(KEY, "e", ["urllib3==2.5.0"])
    assert fixes(account).find("requirements/arm64/other/requirements.txt", "e") == ()


@pytest.mark.attack("whoever writes fixes: options of the builder")
@pytest.mark.parametrize(
    "spoilt",
    [
        b"",
        b"[" * 100_000,
        b"\xff",
        {},
        {"fixes": "urllib3==2.5.0"},
        {"fixes": ["urllib3==2.5.0", "--allow-sdist=evil"]},
        {"fixes": ["urllib3==2.5.0 --slim"]},
        {"fixes": ["urllib3==2.5.0\n"]},
        {"fixes": ["urllib3>=2.5.0"]},
        {"fixes": ["urllib3 @ https://example.com/x.whl"]},
        {"fixes": [["urllib3==2.5.0"]]},
        {"fixes": ["a==1"] * 51},
        {"fixes": ["urllib3==2.5.0"], "key": "requirements/arm64/other/requirements.txt"},
        {"fixes": ["urllib3==2.5.0"], "schema": "layerdrop/fixes/2"},
    ],
)
def test_what_is_no_list_of_fixes_is_none(account: Any, handler: Callable[..., Any], spoilt: Any) -> None:
    etag = account.upload(KEY, FIXED).etag
    document = {"schema": "layerdrop/fixes/1", "key": KEY, "etag": etag}
    body = spoilt if isinstance(spoilt, bytes) else json.dumps(document | spoilt).encode()
    account.s3.put_object(Bucket=account.bucket, Key=fixes_key(KEY, etag), Body=body)
    assert options(account, handler, FIXED, "00A1") == []


@pytest.mark.parametrize("wrong", [[], ["urllib3"], ["a==1"] * 51, ["--slim"]])
def test_only_fixes_are_kept(account: Any, wrong: list[str]) -> None:
    with pytest.raises(ValueError, match="no fixes"):
        fixes(account).keep(KEY, "e", wrong)
