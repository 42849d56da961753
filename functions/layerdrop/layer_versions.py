"""The versions of a layer, and the pointer to the one that was released last."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_lambda.type_defs import LayerVersionsListItemTypeDef
    from mypy_boto3_ssm import SSMClient

POINTER_PREFIX = "/layerdrop/"


@dataclass(frozen=True)
class LayerVersions:
    """What Lambda and Parameter Store say of a layer; every call may be made again without harm."""

    lambda_client: LambdaClient
    ssm: SSMClient

    def listed(self, layer_name: str) -> Iterator[LayerVersionsListItemTypeDef]:
        """A layer's versions, as Lambda lists them: the newest first."""
        pages = self.lambda_client.get_paginator("list_layer_versions").paginate(LayerName=layer_name)
        return (item for page in pages for item in page["LayerVersions"])

    def statements(self, layer_name: str, version: int) -> set[str]:
        """The ids of the statements that share a version."""
        try:
            policy = self.lambda_client.get_layer_version_policy(LayerName=layer_name, VersionNumber=version)
        except self.lambda_client.exceptions.ResourceNotFoundException:
            return set()
        return {str(statement.get("Sid")) for statement in json.loads(policy["Policy"])["Statement"]}

    def code_sha256(self, layer_name: str, version: int) -> str | None:
        """Base64 of the SHA-256 of a version's zip; None when there is no such version."""
        try:
            found = self.lambda_client.get_layer_version(LayerName=layer_name, VersionNumber=version)
        except self.lambda_client.exceptions.ResourceNotFoundException:
            return None
        return found["Content"]["CodeSha256"]

    def delete(self, layer_name: str, version: int) -> None:
        """Delete a version; functions that use it keep it."""
        self.lambda_client.delete_layer_version(LayerName=layer_name, VersionNumber=version)

    def pointer(self, layer_name: str) -> str | None:
        """The ARN that the layer's pointer names, if it is one of its versions."""
        try:
            value = self.ssm.get_parameter(Name=POINTER_PREFIX + layer_name)["Parameter"].get("Value", "")
        except self.ssm.exceptions.ParameterNotFound:
            return None
        # Someone may have put anything there.
        return value if f":layer:{layer_name}:" in value and value.rpartition(":")[2].isdigit() else None

    def point(self, layer_name: str, arn: str) -> None:
        """Move the pointer."""
        self.ssm.put_parameter(Name=POINTER_PREFIX + layer_name, Value=arn, Type="String", Overwrite=True)


def version_of(arn: str) -> int:
    """The number at the end of a layer version's ARN."""
    return int(arn.rpartition(":")[2])
