"""The builder's image as the registry has it: its size, its compression, and what the scan says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import boto3

_FORMATS = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
]


@dataclass(frozen=True)
class StoredImage:
    """An image in ECR.

    Attributes:
        megabytes: Of all layers, compressed.
        compressions: What its layers are compressed with, such as ``zstd``.
        scan: The scan's status, in ECR's words.
        findings: How many of each severity.
    """

    megabytes: float
    compressions: tuple[str, ...]
    scan: str
    findings: dict[str, int]

    def __str__(self) -> str:
        """Say it in a line."""
        counted = ", ".join(f"{number} {severity.lower()}" for severity, number in self.findings.items())
        scan = f"scan {self.scan}" + (f", {counted}" if counted else "")
        return f"{self.megabytes:.0f} MB, {' and '.join(self.compressions)}; {scan}"


def stored_image(session: boto3.Session, uri: str) -> StoredImage | None:
    """Return what the registry says of an image; None if it has none of that name.

    Raises:
        ClientError: ECR refuses to tell.
    """
    repository, _, tag = uri.partition("/")[2].rpartition(":")
    ecr = session.client("ecr")
    name = {"repositoryName": repository, "imageIds": [{"imageTag": tag}]}
    try:
        found = ecr.batch_get_image(**name, acceptedMediaTypes=_FORMATS)["images"]
    except ecr.exceptions.RepositoryNotFoundException:
        return None
    if not found:
        return None
    layers = json.loads(found[0]["imageManifest"])["layers"]
    [details] = ecr.describe_images(**name)["imageDetails"]
    scan: dict[str, Any] = details.get("imageScanStatus", {})
    return StoredImage(
        megabytes=sum(layer["size"] for layer in layers) / 1e6,
        compressions=tuple(
            sorted({layer["mediaType"].replace("+", ".").rpartition(".")[2] for layer in layers})
        ),
        scan=scan.get("status", "none"),
        findings=details.get("imageScanFindingsSummary", {}).get("findingSeverityCounts", {}),
    )
