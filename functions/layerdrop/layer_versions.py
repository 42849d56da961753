"""The versions of a layer, and their parameters: the pointer to the one released last, a pin for each."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from layerdrop.aws import error_code
from layerdrop.errors import BuildError, ErrorCode

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
        """Move the pointer.

        Raises:
            BuildError: PUBLISH_REFUSED, when Parameter Store is full.
        """
        self._put(POINTER_PREFIX + layer_name, arn, overwrite=True)

    def pinned(self, layer_name: str, version: int) -> str | None:
        """What a version's own parameter holds, if there is one."""
        try:
            found = self.ssm.get_parameter(Name=pin_of(layer_name, version))
        except self.ssm.exceptions.ParameterNotFound:
            return None
        return found["Parameter"].get("Value", "")

    def pin(self, layer_name: str, arn: str) -> None:
        """Write a version's own parameter, which never changes again.

        Raises:
            BuildError: INTERNAL_ERROR, when it holds something else; PUBLISH_REFUSED, when Parameter Store is
                full.
        """
        name = pin_of(layer_name, version_of(arn))
        # Read first: of a version that is reused it is there, and writes are what AWS throttles soonest.
        found = self.pinned(layer_name, version_of(arn))
        if found is None:
            try:
                self._put(name, arn, overwrite=False)
            except self.ssm.exceptions.ParameterAlreadyExists:
                found = self.pinned(layer_name, version_of(arn))
        if found not in (None, arn):
            raise BuildError(
                ErrorCode.INTERNAL_ERROR,
                f'The parameter "{name}" is to lead to {arn}, and has another value: somebody else wrote it.',
                "Look who else may write to it; delete it, then upload the file again.",
                {"parameter": name, "value": found, "layer_version_arn": arn},
            )

    def retire(self, layer_name: str, version: int) -> None:
        """Delete a version that was released, with its parameter: one that leads nowhere helps nobody."""
        # The parameter first: cut short after it, the next try finds the version and goes on.
        with suppress(self.ssm.exceptions.ParameterNotFound):
            self.ssm.delete_parameter(Name=pin_of(layer_name, version))
        self.delete(layer_name, version)

    def _put(self, name: str, arn: str, *, overwrite: bool) -> None:
        try:
            self.ssm.put_parameter(Name=name, Value=arn, Type="String", Overwrite=overwrite)
        except ClientError as error:
            if error_code(error) != "ParameterLimitExceeded":
                raise
            raise BuildError(
                ErrorCode.PUBLISH_REFUSED,
                f'Parameter Store has no room for "{name}": the account has all that it may have here.',
                'Whoever runs the stack: see docs/deploy.md, "When Parameter Store is full".',
                {"parameter": name, "error": error_code(error)},
            ) from error


def pin_of(layer_name: str, version: int) -> str:
    """The name of the parameter that holds a version's ARN for good."""
    return f"{POINTER_PREFIX}{layer_name}/{version}"


def version_of(arn: str) -> int:
    """The number at the end of a layer version's ARN."""
    return int(arn.rpartition(":")[2])
