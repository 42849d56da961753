"""A stack of the run's own: deployed as ``make deploy`` does, updated, deleted with all that it kept."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stack import preflight, removal, takeover
from stack.config import StackConfig
from stack.inventory import NeverDeployedError, NoStackError, described, find, take, uploads
from stack.templates import Templates

from smoke import leftovers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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

    def look(self) -> Iterator[preflight.Finding]:
        """Look for what would make the deployment fail, as ``make deploy`` does.

        Raises:
            BotoCoreError, ClientError: AWS does not say.
        """
        templates = Templates.read()
        to = preflight.identify(self.session, self.name, {**_PARAMETERS, **self.parameters})
        yield from preflight.check(self.session, to, templates)
        kept = takeover.look(self.session, to, templates)
        if isinstance(kept, takeover.Kept):  # all of a run's bucket is deleted in the end
            yield preflight.Finding(
                f"There is a bucket {kept.bucket} already, with layers of yours.",
                "Give another BucketName, or none.",
                stops=True,
            )
        elif kept:
            yield kept

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
        client = self.session.client("cloudformation")
        try:
            inventory = take(self.session, config)
        except NeverDeployedError:  # CloudFormation did not take its change set
            client.delete_stack(StackName=self.name)
        except NoStackError:
            if described(client, self.name) is not None:
                raise
        else:
            removal.remove(self.session, inventory)
            removal.deregister(self.session, inventory)
            removal.sweep(self.session, inventory)
            leftovers.delete_layers(self.session, inventory.layers)
            if inventory.bucket:
                leftovers.delete_bucket(self.session, inventory.bucket)
        leftovers.delete_trials(self.session, leftovers.stem_of(self.name))
        # sam has uploaded before CloudFormation was asked for anything.
        if uploaded := uploads(client, config.s3_prefix):
            bucket, _, prefix = uploaded.removeprefix("s3://").partition("/")
            leftovers.delete_objects(self.session, bucket, prefix)
