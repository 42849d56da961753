"""A stack of the run's own: deployed as ``make deploy`` does, updated, deleted with all that it kept."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stack import removal
from stack.config import StackConfig
from stack.inventory import NoStackError, find, take

from smoke import leftovers

if TYPE_CHECKING:
    from collections.abc import Mapping

    import boto3

ROOT: Final = Path(__file__).resolve().parents[2]
SAM: Final = ROOT / ".venv-sam/bin/sam"
# Logs and records that nobody will read for long; what is asked for by the person comes after.
_PARAMETERS: Final = {"LogRetentionDays": "1", "BuildRecordDays": "1"}


class DeploymentError(Exception):
    """The stack could not be deployed; sam has said why."""


@dataclass(frozen=True)
class OwnStack:
    """The stack.

    Attributes:
        session: The account and region.
        name: Its name.
        profile: The AWS profile that sam is to use; None for the shell's.
        parameters: What the person wants for parameters.
    """

    session: boto3.Session
    name: str
    profile: str | None
    parameters: Mapping[str, str]

    def deploy(self, **parameters: str) -> str:
        """Create or update it; return its bucket.

        Args:
            parameters: More parameters, for this time.

        Raises:
            DeploymentError: It could not be.
        """
        given = {**_PARAMETERS, **self.parameters, **parameters}
        command = [
            str(SAM), "deploy",
            "--stack-name", self.name, "--s3-prefix", self.name, "--region", self.session.region_name,
            "--no-confirm-changeset", "--no-fail-on-empty-changeset", "--tags", "project=layerdrop-smoke",
            "--parameter-overrides", *(f"{name}={value}" for name, value in given.items()),
            *(("--profile", self.profile) if self.profile else ()),
        ]  # fmt: skip
        done = subprocess.run(command, cwd=ROOT, check=False)
        if done.returncode:
            raise DeploymentError(f"sam deploy ended with {done.returncode}; what it printed says why")
        outputs = {
            each["OutputKey"]: each["OutputValue"] for each in find(self.session, self.name)["Outputs"]
        }
        return str(outputs["Bucket"])

    def delete(self) -> None:
        """Delete it, and then what a stack keeps: bucket, layers, pointers, and what sam uploaded.

        Raises:
            RemovalError, NoStackError, ClientError: Something could not be deleted.
        """
        config = StackConfig(self.name, self.session.region_name, self.profile, self.name)
        try:
            inventory = take(self.session, config)
        except NoStackError as error:
            if "There is no stack" not in str(error):
                raise
            return
        removal.remove(self.session, inventory)
        removal.deregister(self.session, inventory)
        removal.sweep(self.session, inventory)
        leftovers.delete_layers(self.session, inventory.layers)
        if inventory.bucket:
            leftovers.delete_bucket(self.session, inventory.bucket)
        if inventory.uploads:
            bucket, _, prefix = inventory.uploads.removeprefix("s3://").partition("/")
            leftovers.delete_objects(self.session, bucket, prefix)
