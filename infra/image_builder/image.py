"""An image as the template describes it, and the tag that says what is in it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Image:
    """An image for one architecture: the custom resource's properties.

    Attributes:
        architecture: ``arm64`` or ``x86_64``.
        project: the CodeBuild project that builds it.
        repository_uri: where it goes.
        source: ARN of the layer version whose content is the folder with the Dockerfile.
        base_image: build argument BASE_IMAGE; empty for the Dockerfile's own.
        system_packages: build argument SYSTEM_PACKAGES.
        recipe: how the project builds, its buildspec.
    """

    architecture: str
    project: str
    repository_uri: str
    source: str
    base_image: str
    system_packages: str
    recipe: str

    @classmethod
    def of(cls, properties: Mapping[str, str]) -> Self:
        """Read the properties.

        Raises:
            KeyError: one is missing.
        """
        return cls(
            architecture=properties["Architecture"],
            project=properties["Project"],
            repository_uri=properties["RepositoryUri"],
            source=properties["Source"],
            base_image=properties["BaseImage"],
            system_packages=properties["SystemPackages"],
            recipe=properties["Recipe"],
        )

    def tag(self, source_sha256: str) -> str:
        """Return the tag: equal for equal content, so that a job definition changes just when its image does.

        Args:
            source_sha256: of the layer version's content, as Lambda tells it.
        """
        content = json.dumps([source_sha256, self.base_image, self.system_packages, self.recipe])
        return f"{hashlib.sha256(content.encode()).hexdigest()[:24]}-{self.architecture}"
