"""A job whose builder has been taken over: tries what the job's role may have left open, and notes it all.

Stands in for the builder's image; called as: thief.py NOTES BUILDER ARGUMENT… NOTES is a folder: what a file
there, called like the layer, says of victims, it goes for. A layer that has no such file is built as always.
"""

import base64
import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

EVIL = b"PK\x05\x06" + bytes(18)  # a zip without files
SHA256 = base64.b64encode(hashlib.sha256(EVIL).digest()).decode()


def option(name: str) -> str:
    return next(one.removeprefix(f"{name}=") for one in sys.argv if one.startswith(f"{name}="))


def answer(call: Callable[..., Any], **arguments: Any) -> str:
    try:
        call(**arguments)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return "done"


def steal(victim: dict[str, str]) -> dict[str, str]:
    """Everything that is worth a try, by what it is; what S3 says to it."""
    s3 = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
    bucket, _, staging = option("--staging").removeprefix("s3://").partition("/")
    own = f"{staging}{os.environ['AWS_BATCH_JOB_ATTEMPT']}/mine.json"
    of = {"Bucket": bucket}
    told: dict[str, str] = {}

    def put(what: str, key: str, **more: Any) -> None:
        told[what] = answer(s3.put_object, **of, Key=key, Body=EVIL, **more)

    put("its own report", own, IfNoneMatch="*")
    etag = hashlib.md5(EVIL, usedforsecurity=False).hexdigest()
    for name, key in {"own": own, **victim}.items():
        put(f"put {name}", key)
        put(f"put {name} if it is not there", key, IfNoneMatch="*")
        put(f"put {name} if it is as it was", key, IfMatch=f'"{etag}"')
        copied = {**of, "Key": key, "CopySource": f"{bucket}/{own}"}
        told[f"copy onto {name}"] = answer(s3.copy_object, **copied)
        told[f"begin {name} in parts"] = answer(s3.create_multipart_upload, **of, Key=key)
        told[f"delete {name}"] = answer(s3.delete_object, **of, Key=key)
        told[f"delete the version of {name}"] = answer(s3.delete_object, **of, Key=key, VersionId="x")
        if name.startswith(("own", "report")):
            told[f"get {name}"] = answer(s3.get_object, **of, Key=key)
            told[f"head {name}"] = answer(s3.head_object, **of, Key=key)
    for prefix in ("", "builds/", staging):
        told[f"list {prefix and prefix.split('/')[0]}{prefix.count('/')}"] = answer(
            s3.list_objects_v2, **of, Prefix=prefix
        )
        told[f"list versions {prefix.count('/')}"] = answer(s3.list_object_versions, **of, Prefix=prefix)
    return told


def forge(victim: dict[str, str]) -> None:
    """Leave what claims to be the victim's layer, as if the builder had found it."""
    digest = victim["zip"].rpartition("/")[2].removesuffix(".zip")
    s3 = boto3.client("s3", config=Config(s3={"addressing_style": "path"}))
    bucket, _, staging = option("--staging").removeprefix("s3://").partition("/")
    sizes = {"bytes": len(EVIL), "unzipped_bytes": 0}
    lists = {"packages": [], "system_packages": [], "checks": {}, "warnings": []}
    layer = {
        "name": option("--name"),
        "description": "forged",
        "license": None,
        "digest": digest,
        "code_sha256": SHA256,
        "zip": {"location": "layer.zip", "bucket": None, "key": None, **sizes},
    }
    report = {"schema": "layerdrop/report/1", "layer": layer, "error": None, **lists}
    about = {"builder": {"version": "1"}, "asked": {}, "file_bytes": {}}
    record = {"schema": "layerdrop/layer/1", **about, "code_sha256": SHA256, **sizes, **lists}
    place = f"{staging}{os.environ['AWS_BATCH_JOB_ATTEMPT']}"
    only: dict[str, Any] = {"Bucket": bucket, "IfNoneMatch": "*"}
    s3.put_object(
        **only, Key=f"{place}/layer.zip", Body=EVIL, ChecksumSHA256=SHA256, ChecksumAlgorithm="SHA256"
    )
    s3.put_object(**only, Key=f"{place}/layer.json", Body=json.dumps(record).encode())
    s3.put_object(**only, Key=f"{place}/report.json", Body=json.dumps(report).encode())


def main() -> None:
    notes, builder, name = Path(sys.argv[1]), sys.argv[2], option("--name")
    plan = notes / f"{name}.plan"
    if plan.exists():
        found = json.loads(plan.read_text())
        if found["how"] == "steal":
            (notes / f"{name}.told").write_text(json.dumps(steal(found["victim"])))
        else:
            forge(found["victim"])
        if found["how"] == "forge":  # and the builder's own results never come
            return
    os.execv(builder, [builder, *sys.argv[3:]])


main()
