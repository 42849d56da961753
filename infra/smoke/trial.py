"""A real Lambda function with a layer attached, that imports it; made, called once and deleted."""

from __future__ import annotations

import io
import json
import time
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import boto3

_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}
_CODE = """\
import importlib, os

def handler(event, context):
    layer = os.path.isdir("/opt/python")
    names = event if layer else ()
    return {"layer": layer, "files": {name: importlib.import_module(name).__file__ for name in names}}
"""
# A new role takes some seconds to be known everywhere.
_ROLE_SECONDS = 90.0
_LOOK_SECONDS = 3.0


@dataclass(frozen=True)
class Imported:
    """What the function saw.

    Attributes:
        layer: Whether a layer was mounted at all.
        files: The imported modules' files, by name.
        error: What importing raised, as Lambda tells it; empty if nothing.
    """

    layer: bool
    files: Mapping[str, str]
    error: str


class TrialRole:
    """A role that may do nothing: a layer's code runs in its name. Use it in a ``with`` block.

    Attributes:
        name: What it is called.
        arn: Its ARN, once it is made.
    """

    def __init__(self, session: boto3.Session, name: str, parameters: Mapping[str, str]) -> None:
        """Take the boundary and the path of the stack's parameters: without them it may not be made."""
        self._iam = session.client("iam")
        self.name = name
        self.arn = ""
        self._bounds: dict[str, Any] = {
            role: parameters[given]
            for role, given in (("PermissionsBoundary", "PermissionsBoundaryArn"), ("Path", "RolePath"))
            if parameters.get(given)
        }

    def __enter__(self) -> TrialRole:
        """Make it."""
        role = self._iam.create_role(
            RoleName=self.name,
            AssumeRolePolicyDocument=json.dumps(_TRUST),
            Description="Tries layers of make smoke, and may do nothing",
            **self._bounds,
        )
        self.arn = role["Role"]["Arn"]
        return self

    def __exit__(self, *_: object) -> None:
        """Delete it."""
        self._iam.delete_role(RoleName=self.name)


def try_import(
    session: boto3.Session, role: TrialRole, name: str, layer: Mapping[str, Any], modules: tuple[str, ...]
) -> Imported:
    """Import modules in a function of the layer's runtime and architecture that has the layer.

    Args:
        session: The account.
        role: What the function runs as.
        name: What to call the function; it is deleted again.
        layer: A manifest's entry of a published layer.
        modules: What to import.

    Raises:
        ClientError: Lambda refuses.
        WaiterError: The function does not become active.
    """
    client = session.client("lambda")
    _create(client, role, name, layer)
    try:
        client.get_waiter("function_active_v2").wait(FunctionName=name)
        called = client.invoke(FunctionName=name, Payload=json.dumps(modules).encode())
        payload = json.loads(called["Payload"].read() or b"null") or {}
        if called.get("FunctionError"):
            message = f"{payload.get('errorType', '')}: {payload.get('errorMessage', payload)}"
            return Imported(layer=True, files={}, error=message)
        return Imported(payload["layer"], payload["files"], "")
    finally:
        client.delete_function(FunctionName=name)


def _create(client: Any, role: TrialRole, name: str, layer: Mapping[str, Any]) -> None:
    deadline = time.monotonic() + _ROLE_SECONDS
    while True:
        try:
            client.create_function(
                FunctionName=name,
                Runtime=layer["runtime"],
                Architectures=[layer["architecture"]],
                Role=role.arn,
                Handler="trial.handler",
                Code={"ZipFile": _package()},
                Layers=[layer["layer_version_arn"]],
                MemorySize=512,
                Timeout=60,
            )
        except ClientError as error:
            known = "cannot be assumed" in error.response["Error"]["Message"]
            if not known or time.monotonic() > deadline:
                raise
            time.sleep(_LOOK_SECONDS)
        else:
            return


def _package() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as package:
        entry = zipfile.ZipInfo("trial.py")
        entry.external_attr = 0o644 << 16
        package.writestr(entry, _CODE)
    return content.getvalue()
