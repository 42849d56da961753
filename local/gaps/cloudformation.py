"""CloudFormation: the stacks that `local/deploy.py` has made are described, as on AWS."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from moto.cloudformation.models import CloudFormationBackend, cloudformation_backends
from moto.cloudformation.responses import CloudFormationResponse
from moto.core.responses import ActionResult

from local.deploy import Deployment
from local.gaps import Replacements
from local.intrinsics import pseudo_parameters
from local.settings import ACCOUNT_ID, REGION


@dataclass(frozen=True)
class StandingStack:
    """A stack as DescribeStacks and ListStackResources tell of it.

    Attributes:
        name: Its name; a nested one's is made up.
        description: That of its template.
        deployment: What it has.
        since: When it came to stand.
    """

    name: str
    description: str
    deployment: Deployment
    since: datetime

    @property
    def stack_id(self) -> str:
        """What ``Ref`` gives of it, where it is nested."""
        return str(pseudo_parameters(self.name)["AWS::StackId"])

    def described(self) -> dict[str, Any]:
        """Return its entry of DescribeStacks."""
        return {
            "StackName": self.name,
            "StackId": self.stack_id,
            "Description": self.description,
            "StackStatus": "CREATE_COMPLETE",
            "CreationTime": self.since,
            "Tags": {},  # as moto keeps them
            "Outputs": [
                {"OutputKey": name, "OutputValue": str(value)}
                for name, value in self.deployment.outputs.items()
            ],
        }

    def resources(self) -> list[dict[str, Any]]:
        """Return its entries of ListStackResources."""
        return [
            {
                "LogicalResourceId": logical_id,
                "PhysicalResourceId": str(self.deployment.values[logical_id]),
                "ResourceType": standing.kind,
                "ResourceStatus": "CREATE_COMPLETE",
                "LastUpdatedTimestamp": self.since,
            }
            for logical_id, standing in self.deployment.resources.items()
        ]

    def nested(self) -> Iterator["StandingStack"]:
        """Yield the stack and all that is nested in it."""
        yield self
        for logical_id, deployment in self.deployment.nested.items():
            # arn:aws:cloudformation:REGION:ACCOUNT:stack/NAME/ID
            name = str(self.deployment.values[logical_id]).split("/")[1]
            yield from StandingStack(name, "", deployment, self.since).nested()


class CloudFormationService:
    """moto's stacks, and beside them those that the embedded AWS has made its own way."""

    def __init__(self) -> None:
        self._stacks: dict[str, StandingStack] = {}

    def stands(self, name: str, template: Mapping[str, Any], deployment: Deployment) -> None:
        """Tell of a stack from now on, or of what has become of it."""
        now = datetime.now(UTC)
        for stack in StandingStack(name, template.get("Description", ""), deployment, now).nested():
            self._stacks[stack.name] = stack

    def install(self, replacements: Replacements) -> None:
        """Have both told by the calls that tell of moto's."""
        # moto knows only stacks that it made itself, by a CloudFormation that drops what it does not know.
        for operation, ours in (("describe_stacks", self._described), ("list_stack_resources", self._listed)):
            original = getattr(CloudFormationResponse, operation)
            replacements.put(CloudFormationResponse, operation, _with(ours, original))

    def _described(self, wanted: str | None) -> dict[str, Any] | None:
        if wanted is None:
            mine = [stack.described() for stack in self._stacks.values()]
            return {"Stacks": [*mine, *_backend().describe_stacks("")]}
        found = self._find(wanted)
        return {"Stacks": [found.described()]} if found else None

    def _listed(self, wanted: str | None) -> dict[str, Any] | None:
        found = self._find(wanted or "")
        return {"StackResourceSummaries": found.resources()} if found else None

    def _find(self, wanted: str) -> StandingStack | None:
        """A stack by its name or id."""
        return next((one for one in self._stacks.values() if wanted in (one.name, one.stack_id)), None)


def _with(ours: Any, original: Any) -> Any:
    def respond(response: CloudFormationResponse) -> ActionResult:
        told = ours(response._get_param("StackName"))  # noqa: SLF001 (the request's own parameter)
        return original(response) if told is None else ActionResult(told)

    return respond


def _backend() -> CloudFormationBackend:
    return cloudformation_backends[ACCOUNT_ID][REGION]
