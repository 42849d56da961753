"""Layer versions: reuse, publish, share, point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from layerdrop.aws import error_code
from layerdrop.errors import BuildError, ErrorCode
from layerdrop.manifest import PublishedVersion
from layerdrop.sharing import grant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_lambda.type_defs import GetLayerVersionResponseTypeDef
    from mypy_boto3_ssm import SSMClient

    from layerdrop.report import BuiltLayer
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
    """Publishes built layers. Every step may be repeated: a second run finds what the first one did."""

    lambda_client: LambdaClient
    ssm: SSMClient

    def publish(self, target: Target, layer: BuiltLayer) -> PublishedVersion:
        """Make the layer's version, share it, and only then move the pointer to it.

        Raises:
            BuildError: PUBLISH_REFUSED, when Lambda does not take it.
        """
        try:
            arn = self._reusable(target, layer)
            reused = arn is not None
            arn = arn or self._publish(target, layer)
            self._share(target.layer_name, _version(arn), target.share_with)
        except ClientError as error:
            if error_code(error) not in _REFUSALS:
                raise
            raise _refused(target, layer, error) from error
        self._point(target.layer_name, arn)
        return PublishedVersion(arn, _version(arn), reused)

    def _reusable(self, target: Target, layer: BuiltLayer) -> str | None:
        """The version that is this very layer: the one pointed to, or the newest, left by a run cut short."""
        for arn in dict.fromkeys((self._pointer(target.layer_name), self._newest(target.layer_name))):
            if arn is not None and self._is_same(arn, target, layer):
                return arn
        return None

    def _pointer(self, layer_name: str) -> str | None:
        try:
            value = self.ssm.get_parameter(Name=POINTER_PREFIX + layer_name)["Parameter"].get("Value", "")
        except self.ssm.exceptions.ParameterNotFound:
            return None
        # Someone may have put anything there.
        return value if f":layer:{layer_name}:" in value and value.rpartition(":")[2].isdigit() else None

    def _newest(self, layer_name: str) -> str | None:
        versions = self.lambda_client.list_layer_versions(LayerName=layer_name)["LayerVersions"]
        newest = max(versions, key=lambda version: version["Version"], default=None)
        return newest["LayerVersionArn"] if newest else None

    def _is_same(self, arn: str, target: Target, layer: BuiltLayer) -> bool:
        try:
            found = self.lambda_client.get_layer_version(
                LayerName=target.layer_name, VersionNumber=_version(arn)
            )
        except self.lambda_client.exceptions.ResourceNotFoundException:
            return False
        return _description(found) == (
            layer.code_sha256,
            layer.description,
            layer.license or "",
            [target.runtime],
            [target.architecture],
        )

    def _publish(self, target: Target, layer: BuiltLayer) -> str:
        license_info = {"LicenseInfo": layer.license} if layer.license else {}
        response = self.lambda_client.publish_layer_version(
            LayerName=target.layer_name,
            Description=layer.description,
            Content={"S3Bucket": layer.zip.bucket, "S3Key": layer.zip.key},
            CompatibleRuntimes=[target.runtime],
            CompatibleArchitectures=[target.architecture],
            **license_info,
        )
        # Whoever wrote the report could also write the zip; what it proved counts for these bytes only.
        if response["Content"]["CodeSha256"] != layer.code_sha256:
            raise BuildError(
                ErrorCode.REPORT_INVALID,
                f'The zip of "{target.layer_name}" is not the one that the build reported.',
                "Upload the file again; nothing points to this version.",
                {"layer_version_arn": response["LayerVersionArn"], "zip": layer.zip.key},
            )
        return response["LayerVersionArn"]

    def _share(self, layer_name: str, version: int, grantees: Sequence[str]) -> None:
        for statement in map(grant, grantees):
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
            except self.lambda_client.exceptions.ResourceConflictException:
                continue  # this version is shared with them already

    def _point(self, layer_name: str, arn: str) -> None:
        self.ssm.put_parameter(Name=POINTER_PREFIX + layer_name, Value=arn, Type="String", Overwrite=True)


def _version(arn: str) -> int:
    return int(arn.rpartition(":")[2])


def _description(found: GetLayerVersionResponseTypeDef) -> tuple[str, str, str, list[str], list[str]]:
    return (
        found["Content"]["CodeSha256"],
        found.get("Description", ""),
        found.get("LicenseInfo", ""),
        list(found.get("CompatibleRuntimes", [])),
        list(found.get("CompatibleArchitectures", [])),
    )


def _refused(target: Target, layer: BuiltLayer, error: ClientError) -> BuildError:
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
        {"error": error_code(error), "zip": layer.zip.key, "unzipped_bytes": layer.zip.unzipped_bytes},
    )
