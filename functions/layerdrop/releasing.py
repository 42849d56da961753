"""Releasing a layer version to those it is for, or taking back one that must not be released."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from layerdrop.aws import TryLaterError, error_code
from layerdrop.layer_versions import version_of
from layerdrop.publishing import REFUSALS, refused
from layerdrop.sharing import grant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from layerdrop.candidates import Candidates
    from layerdrop.catalogue.releases import Releases
    from layerdrop.layer_users import LayerUsers
    from layerdrop.layer_versions import LayerVersions
    from layerdrop.target import Target


@dataclass(frozen=True)
class LayerReleaser:
    """Releases published versions, one caller a layer's name at a time. Every step may be repeated.

    Attributes:
        versions: the layers' versions and pointers.
        candidates: what is published and not released.
        users: the functions that use layers.
        releases: what the catalogue is to know of versions.
        keep_versions: how many versions of a layer to keep, 0 for all.
    """

    versions: LayerVersions
    candidates: Candidates
    users: LayerUsers
    releases: Releases
    keep_versions: int = 0

    def release(self, target: Target, arn: str, execution: str) -> None:
        """Share a version, give it its own parameter, only then move the pointer to it, and clear up behind.

        Args:
            target: What was asked for.
            arn: The version's.
            execution: The name of the execution that it was published or found by.

        Raises:
            BuildError: PUBLISH_REFUSED, when Lambda does not take what it is to be shared with, or Parameter
                Store is full; INTERNAL_ERROR, when the version's parameter has another value.
        """
        name = target.layer_name
        try:
            self._share(name, version_of(arn), target.share_with)
        except ClientError as error:
            if error_code(error) not in REFUSALS:
                raise
            raise refused(f'the layer "{name}"', error, {"layer_version_arn": arn}) from error
        self.versions.pin(name, arn)
        if arn != self.versions.pointer(name):
            self.versions.point(name, arn)
        if (candidate := self.candidates.find(name)) and candidate.execution == execution:
            self.candidates.clear(name, candidate, keep=arn)
        self._retire(name, version_of(arn))

    def discard(self, target: Target, execution: str) -> None:
        """Delete what an execution published and did not release; nothing that was there before it."""
        candidate = self.candidates.find(target.layer_name)
        if candidate and candidate.execution == execution:
            self.candidates.clear(target.layer_name, candidate)

    def _share(self, layer_name: str, version: int, grantees: Sequence[str]) -> None:
        if not grantees:
            return
        client = self.versions.lambda_client
        given = self.versions.statements(layer_name, version)
        for statement in map(grant, grantees):
            if statement.statement_id in given:
                continue
            organization = {"OrganizationId": statement.organization_id} if statement.organization_id else {}
            try:
                client.add_layer_version_permission(
                    LayerName=layer_name,
                    VersionNumber=version,
                    StatementId=statement.statement_id,
                    Action="lambda:GetLayerVersion",
                    Principal=statement.principal,
                    **organization,
                )
            except client.exceptions.ResourceConflictException as error:
                # It exists by now, or another change is under way.
                if statement.statement_id not in self.versions.statements(layer_name, version):
                    raise TryLaterError(str(error)) from error

    def _retire(self, layer_name: str, current: int) -> None:
        """Delete versions beyond those to keep, but none that is pointed to, shared with anyone or used here.

        What is used is asked last, and once for all. If it cannot be found out, nothing is deleted: the next
        release asks again.
        """
        if not self.keep_versions:
            return
        others = [item for item in self.versions.listed(layer_name) if item["Version"] != current]
        others.sort(key=lambda item: item["Version"], reverse=True)
        alone = [
            item
            for item in others[self.keep_versions - 1 :]
            if not self.versions.statements(layer_name, item["Version"])
        ]
        used = self.users.used() if alone else None
        if used is None:
            return
        for item in alone:
            if item["LayerVersionArn"] in used:
                continue
            try:
                self.releases.delete(layer_name, item["Version"])
            except (ClientError, BotoCoreError):
                # The catalogue keeps no layer from being released: version and document go with the next one.
                continue
            self.versions.retire(layer_name, item["Version"])
