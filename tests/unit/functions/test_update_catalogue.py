"""The catalogue in the bucket: by many writers at once, after loss, and over whatever lies there."""

import gzip
import json
from collections.abc import Callable
from typing import Any

import jsonschema

from tests.catalogues import a_release, arn, schema

Call = Callable[..., Any]
INDEX = "catalogue/index.json"
PAGE = "catalogue/index.html"
WEB = "web-py313-arm64"
SWEEP = {"detail-type": "Scheduled Event", "source": "aws.events", "detail": {}}


def told(*names: Any) -> dict[str, Any]:
    """What the queue hands on when builds of these layers have ended."""
    event = {
        "detail-type": "Layer Build Ended",
        "detail": {"layers": [{"layer_name": name} for name in names]},
    }
    return {"Records": [{"messageId": "1", "body": json.dumps(event)}]}


def release(account: Any, name: str, version: int, **changes: Any) -> None:
    """A version is released: the pointer leads to it, and its document is there."""
    account.put_json(f"catalogue/releases/{name}/{version}.json", a_release(name, version, **changes))
    point(account, name, version)


def point(account: Any, name: str, version: int) -> None:
    account.ssm.put_parameter(
        Name=f"/layerdrop/{name}", Value=arn(name, version), Type="String", Overwrite=True
    )


def index(account: Any) -> Any:
    found = account.json(INDEX)
    jsonschema.Draft202012Validator(schema("catalogue")).validate(found)
    return found


def test_first(account: Any, handler: Call) -> None:
    release(account, WEB, 1)
    release(account, WEB, 2)
    handler("update_catalogue", told(WEB))
    found = index(account)
    assert [layer["version"] for layer in found["layers"]] == [2]
    page = account.s3.get_object(Bucket=account.bucket, Key=PAGE)
    assert b"web-py313" in gzip.decompress(page["Body"].read())
    handler("update_catalogue", SWEEP)
    assert index(account) == found
