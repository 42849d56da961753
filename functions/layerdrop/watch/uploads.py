"""The newest upload of an input, and the targets that a build of it would have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from layerdrop import input_key, settings
from layerdrop.build_input import BuildInput, Execution
from layerdrop.objects import RequirementsReader
from layerdrop.plan import Workshop, plan
from layerdrop.target import ARCHITECTURES, REBUILD_FIXED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_s3 import S3Client

    from layerdrop.target import Runtime, Target

# Nobody builds there: a plan that is only looked at needs a name for the place.
_NOWHERE: Final = {one: Workshop("none", "none", "none") for one in ARCHITECTURES}
_EXECUTION: Final = Execution("none", "watch", "")


@dataclass(frozen=True)
class Planned:
    """What a build of an upload would be.

    Attributes:
        targets: by layer name.
        rebuilds: whether the file asks to be built again as soon as that mends a finding.
        refreshes: whether it is resolved anew each time.
    """

    targets: Mapping[str, Target]
    rebuilds: bool
    refreshes: bool


@dataclass(frozen=True)
class Uploads:
    """The inputs in the bucket."""

    s3: S3Client
    bucket: str
    default_runtime: Runtime

    def newest(self, key: str) -> BuildInput | None:
        """The newest upload of a key; None if the file is deleted.

        S3 lists keys in their order and a key's versions from the newest to the oldest, so what comes first
        of all that begin like it is this one's newest:
        https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html
        """
        listed = self.s3.list_object_versions(Bucket=self.bucket, Prefix=key, MaxKeys=1)
        for version in listed.get("Versions", []):
            if version["Key"] == key:
                etag = version["ETag"].strip('"')
                # Which event it came with is not known here: see `mending`.
                return BuildInput(self.bucket, key, version["VersionId"], etag, "", version["Size"])
        return None

    def planned(self, upload: BuildInput) -> Planned:
        """What a build of it would be.

        Raises:
            BuildError: the file cannot be built, as the build's own answer would say it.
        """
        key = input_key.parse(upload.key)
        wanted = settings.parse(RequirementsReader(self.s3).read(upload, is_lock=key.is_lock))
        targets = plan(upload, _EXECUTION, key, wanted, self.default_runtime, _NOWHERE)
        return Planned(
            {target.layer_name: target for target in targets},
            wanted.rebuild == REBUILD_FIXED,
            wanted.refresh,
        )
