"""Layer versions: reuse, or publish."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from layerdrop.aws import error_code
from layerdrop.candidates import Candidate
from layerdrop.errors import BuildError, ErrorCode
from layerdrop.layer_versions import version_of
from layerdrop.manifest import PublishedVersion
from layerdrop.sharing import grant, is_ours

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_lambda.type_defs import GetLayerVersionResponseTypeDef, LayerVersionsListItemTypeDef

    from layerdrop.candidates import Candidates
    from layerdrop.layer_versions import LayerVersions
    from layerdrop.report import BuiltLayer
    from layerdrop.shelves import Stored
    from layerdrop.target import Target

# What Lambda answers when the layer itself is at fault, or the account is full; anything else may pass.
REFUSALS = (
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

    Every step may be repeated: a second run finds what the first one did. A version that it makes is a
    candidate: nobody is pointed to it before it is released (see `releasing`).

    Attributes:
        versions: what may be asked again.
        publishing: for PublishLayerVersion, which may not.
        candidates: what is published and not released.
        bucket: where zips are kept.
    """

    versions: LayerVersions
    publishing: LambdaClient
    candidates: Candidates
    bucket: str

    def publish(self, target: Target, layer: BuiltLayer, kept: Stored, execution: str) -> PublishedVersion:
        """Find the version that is this very layer, or make it.

        Args:
            target: What was asked for.
            layer: What was built.
            kept: That version of its zip.
            execution: The name of the execution that it is for.

        Raises:
            BuildError: PUBLISH_REFUSED, when Lambda does not take it; REPORT_INVALID, when it took other
                bytes.
        """
        name = target.layer_name
        pointer = self.versions.pointer(name)
        arn, newest = self._reusable(target, layer, pointer)
        left = self.candidates.find(name)
        if left and arn and arn != pointer and left.covers(arn, layer.code_sha256):
            # By an earlier try of this, or by a build that is not the newest any more.
            if left.execution != execution:
                self.candidates.note(name, replace(left, execution=execution))
            return PublishedVersion(arn, version_of(arn), reused=False, zip_key=kept.key)
        if left:
            self.candidates.clear(name, left)
        if arn:
            return PublishedVersion(arn, version_of(arn), reused=True, zip_key=kept.key)
        self.candidates.note(name, Candidate(execution, newest, layer.code_sha256))
        try:
            arn = self._publish(target, layer, kept)
        except ClientError as error:
            if error_code(error) not in REFUSALS:
                raise
            details = {"zip": kept.key, "unzipped_bytes": layer.zip.unzipped_bytes}
            raise refused(f'the layer "{name}"', error, details) from error
        return PublishedVersion(arn, version_of(arn), reused=False, zip_key=kept.key)

    def _reusable(self, target: Target, layer: BuiltLayer, pointer: str | None) -> tuple[str | None, int]:
        """The version that is this very layer: most likely the one pointed to, else the newest such.

        If there is none, also the highest number that a version has, 0 for no version.
        """
        if pointer and self._is_same(pointer, target, layer):
            return pointer, 0
        newest = 0
        for item in self.versions.listed(target.layer_name):
            arn = item["LayerVersionArn"]
            newest = max(newest, item["Version"])
            # What the list tells spares most of the questions.
            looks_same = _told(item) == _told_of(target, layer)
            if looks_same and arn != pointer and self._is_same(arn, target, layer):
                return arn, 0
        return None, newest

    def _is_same(self, arn: str, target: Target, layer: BuiltLayer) -> bool:
        """Whether a version has these bytes and words, and is shared with nobody else by us."""
        try:
            found = self.versions.lambda_client.get_layer_version(
                LayerName=target.layer_name, VersionNumber=version_of(arn)
            )
        except self.versions.lambda_client.exceptions.ResourceNotFoundException:
            return False
        if found["Content"]["CodeSha256"] != layer.code_sha256 or _told(found) != _told_of(target, layer):
            return False
        wanted = {grant(grantee).statement_id for grantee in target.share_with}
        given = filter(is_ours, self.versions.statements(target.layer_name, version_of(arn)))
        return wanted.issuperset(given)

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
            self.versions.delete(target.layer_name, response["Version"])
            raise BuildError(
                ErrorCode.REPORT_INVALID,
                f'Lambda took other bytes for "{target.layer_name}" than those that the build reported.',
                "Upload the file again; that version is deleted.",
                {"layer_version_arn": response["LayerVersionArn"], "zip": kept.key},
            )
        return response["LayerVersionArn"]


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


def refused(what: str, error: ClientError, details: Mapping[str, Any]) -> BuildError:
    """What to say when Lambda does not take something, in its own words."""
    said = error.response["Error"].get("Message", "")
    hints = {
        "CodeStorageExceededException": "Delete layer versions and functions that nobody uses any more.",
        "PolicyLengthExceededException": "Share with an organization instead of its accounts.",
    }
    return BuildError(
        ErrorCode.PUBLISH_REFUSED,
        f"Lambda does not take {what}: {said.rstrip('.')}.",
        hints.get(
            error_code(error), "Change what Lambda names, in the requirements or in the settings block."
        ),
        {"error": error_code(error), **details},
    )
