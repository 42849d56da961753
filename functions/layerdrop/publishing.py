"""Layer versions: reuse, publish, share, point, retire."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from layerdrop.aws import TryLaterError, error_code
from layerdrop.errors import BuildError, ErrorCode
from layerdrop.manifest import PublishedVersion
from layerdrop.sharing import grant, is_ours

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_lambda.type_defs import GetLayerVersionResponseTypeDef, LayerVersionsListItemTypeDef
    from mypy_boto3_ssm import SSMClient

    from layerdrop.report import BuiltLayer
    from layerdrop.shelves import Stored
    from layerdrop.target import Target

POINTER_PREFIX = "/layerdrop/"

# What Lambda answers when the layer itself is at fault, or the account is full; anything else may pass.
_REFUSALS = (
    "InvalidParameterValueException",
    "CodeStorageExceededException",
    "RequestTooLarge",
    "RequestEntityTooLargeException",
    "ValidationException",
    "PolicyLengthExceededException",
)


@dataclass(frozen=True)
class LayerPublisher:
    """Publishes built layers, one caller a layer's name at a time.

    Every step may be repeated: a second run finds what the first one did.

    Attributes:
        lambda_client: for what may be asked again.
        publishing: for PublishLayerVersion, which may not.
        ssm: holds the pointers.
        bucket: where zips are kept.
        keep_versions: how many versions of a layer to keep, 0 for all.
    """

    lambda_client: LambdaClient
    publishing: LambdaClient
    ssm: SSMClient
    bucket: str
    keep_versions: int = 0

    def publish(self, target: Target, layer: BuiltLayer, kept: Stored) -> PublishedVersion:
        """Make the layer's version, share it, only then move the pointer to it, and clear up behind.

        Args:
            target: What was asked for.
            layer: What was built.
            kept: That version of its zip.

        Raises:
            BuildError: PUBLISH_REFUSED, when Lambda does not take it; REPORT_INVALID, when it took other
                bytes.
        """
        pointer = self._pointer(target.layer_name)
        try:
            arn = self._reusable(target, layer, pointer)
            reused = arn is not None
            arn = arn or self._publish(target, layer, kept)
            self._share(target.layer_name, _version(arn), target.share_with)
        except ClientError as error:
            if error_code(error) not in _REFUSALS:
                raise
            raise _refused(target, layer, kept, error) from error
        if arn != pointer:
            self._point(target.layer_name, arn)
        self._retire(target.layer_name, _version(arn))
        return PublishedVersion(arn, _version(arn), reused, kept.key)

    def _reusable(self, target: Target, layer: BuiltLayer, pointer: str | None) -> str | None:
        """The version that is this very layer: most likely the one pointed to, else the newest such."""
        if pointer and self._is_same(pointer, target, layer):
            return pointer
        for item in self._versions(target.layer_name):
            arn = item["LayerVersionArn"]
            # What the list tells spares most of the questions.
            looks_same = _told(item) == _told_of(target, layer)
            if looks_same and arn != pointer and self._is_same(arn, target, layer):
                return arn
        return None

    def _versions(self, layer_name: str) -> Iterator[LayerVersionsListItemTypeDef]:
        """A layer's versions, as Lambda lists them: the newest first."""
        pages = self.lambda_client.get_paginator("list_layer_versions").paginate(LayerName=layer_name)
        return (item for page in pages for item in page["LayerVersions"])

    def _pointer(self, layer_name: str) -> str | None:
        try:
            value = self.ssm.get_parameter(Name=POINTER_PREFIX + layer_name)["Parameter"].get("Value", "")
        except self.ssm.exceptions.ParameterNotFound:
            return None
        # Someone may have put anything there.
        return value if f":layer:{layer_name}:" in value and value.rpartition(":")[2].isdigit() else None

    def _is_same(self, arn: str, target: Target, layer: BuiltLayer) -> bool:
        """Whether a version has these bytes and words, and is shared with nobody else by us."""
        try:
            found = self.lambda_client.get_layer_version(
                LayerName=target.layer_name, VersionNumber=_version(arn)
            )
        except self.lambda_client.exceptions.ResourceNotFoundException:
            return False
        if found["Content"]["CodeSha256"] != layer.code_sha256 or _told(found) != _told_of(target, layer):
            return False
        wanted = {grant(grantee).statement_id for grantee in target.share_with}
        given = filter(is_ours, self._statements(target.layer_name, _version(arn)))
        return wanted.issuperset(given)

    def _statements(self, layer_name: str, version: int) -> set[str]:
        """The ids of the statements that share a version."""
        try:
            policy = self.lambda_client.get_layer_version_policy(LayerName=layer_name, VersionNumber=version)
        except self.lambda_client.exceptions.ResourceNotFoundException:
            return set()
        return {str(statement.get("Sid")) for statement in json.loads(policy["Policy"])["Statement"]}

    def _publish(self, target: Target, layer: BuiltLayer, kept: Stored) -> str:
        license_info = {"LicenseInfo": layer.license} if layer.license else {}
        response = self.publishing.publish_layer_version(
            LayerName=target.layer_name,
            Description=layer.description,
            # By its version: whatever is put in its place meanwhile has no effect.
            Content={"S3Bucket": self.bucket, "S3Key": kept.key, "S3ObjectVersion": kept.version_id},
            CompatibleRuntimes=[target.runtime],
            CompatibleArchitectures=[target.architecture],
            **license_info,
        )
        # What was proved counts for these bytes only.
        if response["Content"]["CodeSha256"] != layer.code_sha256:
            self.lambda_client.delete_layer_version(
                LayerName=target.layer_name, VersionNumber=response["Version"]
            )
            raise BuildError(
                ErrorCode.REPORT_INVALID,
                f'Lambda took other bytes for "{target.layer_name}" than those that the build reported.',
                "Upload the file again; that version is deleted.",
                {"layer_version_arn": response["LayerVersionArn"], "zip": kept.key},
            )
        return response["LayerVersionArn"]

    def _share(self, layer_name: str, version: int, grantees: Sequence[str]) -> None:
        if not grantees:
            return
        given = self._statements(layer_name, version)
        for statement in map(grant, grantees):
            if statement.statement_id in given:
                continue
            organization = {"OrganizationId": statement.organization_id} if statement.organization_id else {}
            try:
                self.lambda_client.add_layer_version_permission(
                    LayerName=layer_name,
                    VersionNumber=version,
                    StatementId=statement.statement_id,
                    Action="lambda:GetLayerVersion",
                    Principal=statement.principal,
                    **organization,
                )
            except self.lambda_client.exceptions.ResourceConflictException as error:
                # It exists by now, or another change is under way.
                if statement.statement_id not in self._statements(layer_name, version):
                    raise TryLaterError(str(error)) from error

    def _retire(self, layer_name: str, current: int) -> None:
        """Delete versions beyond those to keep, but none that is pointed to or shared with anyone."""
        if not self.keep_versions:
            return
        others = [item["Version"] for item in self._versions(layer_name) if item["Version"] != current]
        for version in sorted(others, reverse=True)[self.keep_versions - 1 :]:
            if not self._statements(layer_name, version):
                self.lambda_client.delete_layer_version(LayerName=layer_name, VersionNumber=version)

    def _point(self, layer_name: str, arn: str) -> None:
        self.ssm.put_parameter(Name=POINTER_PREFIX + layer_name, Value=arn, Type="String", Overwrite=True)


def _version(arn: str) -> int:
    return int(arn.rpartition(":")[2])


Told = tuple[str, str, list[str], list[str]]


def _told(version: GetLayerVersionResponseTypeDef | LayerVersionsListItemTypeDef) -> Told:
    return (
        version.get("Description", ""),
        version.get("LicenseInfo", ""),
        list(version.get("CompatibleRuntimes", [])),
        list(version.get("CompatibleArchitectures", [])),
    )


def _told_of(target: Target, layer: BuiltLayer) -> Told:
    return (layer.description, layer.license or "", [target.runtime], [target.architecture])


def _refused(target: Target, layer: BuiltLayer, kept: Stored, error: ClientError) -> BuildError:
    said = error.response["Error"].get("Message", "")
    hints = {
        "CodeStorageExceededException": "Delete layer versions and functions that nobody uses any more.",
        "PolicyLengthExceededException": "Share with an organization instead of its accounts.",
    }
    return BuildError(
        ErrorCode.PUBLISH_REFUSED,
        f'Lambda does not take the layer "{target.layer_name}": {said.rstrip(".")}.',
        hints.get(
            error_code(error), "Change what Lambda names, in the requirements or in the settings block."
        ),
        {"error": error_code(error), "zip": kept.key, "unzipped_bytes": layer.zip.unzipped_bytes},
    )
