"""The project's templates, as far as they are looked at before a deployment: parameters, names, machines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).parents[2] / "template.yaml"
STACK = "AWS::StackName"
_NESTED = "AWS::Serverless::Application"
# What CloudFormation puts behind parent and logical id is 12 or 13 characters in AWS's examples.
_RANDOM = "-" + "X" * 13
# How long a name may be, and of which characters; the reference of each type says so.
# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-template-resource-type-ref.html
LIMITS: Mapping[tuple[str, str], tuple[int, str]] = {
    ("AWS::Batch::ComputeEnvironment", "ComputeEnvironmentName"): (128, r"[\w-]+"),
    ("AWS::Batch::JobDefinition", "JobDefinitionName"): (128, r"[\w-]+"),
    ("AWS::Batch::JobQueue", "JobQueueName"): (128, r"[\w-]+"),
    ("AWS::CloudWatch::Alarm", "AlarmName"): (255, r".+"),
    ("AWS::CloudWatch::Dashboard", "DashboardName"): (255, r"[\w-]+"),
    ("AWS::CodeBuild::Project", "Name"): (150, r"[\w-]+"),
    ("AWS::ECR::Repository", "RepositoryName"): (256, r"[a-z][a-z0-9/_-]*[a-z0-9]"),
    ("AWS::Events::Rule", "Name"): (64, r"[\w.-]+"),
    ("AWS::IAM::Role", "RoleName"): (64, r"[\w+=,.@-]+"),
    ("AWS::Lambda::Function", "FunctionName"): (64, r"[\w-]+"),
    ("AWS::Lambda::LayerVersion", "LayerName"): (140, r"[\w-]+"),
    ("AWS::Logs::LogGroup", "LogGroupName"): (512, r"[.\w/#-]+"),
    ("AWS::S3::Bucket", "BucketName"): (63, r"[a-z0-9][a-z0-9.-]*[a-z0-9]"),
    ("AWS::Serverless::Function", "FunctionName"): (64, r"[\w-]+"),
    ("AWS::Serverless::LayerVersion", "LayerName"): (140, r"[\w-]+"),
    ("AWS::Serverless::StateMachine", "Name"): (80, r"[\w-]+"),
    ("AWS::SNS::Topic", "TopicName"): (256, r"[\w-]+"),
    ("AWS::SQS::Queue", "QueueName"): (80, r"[\w-]+"),
}


@dataclass(frozen=True)
class DerivedName:
    """A name that is made of the stack's.

    Attributes:
        resource: The resource's logical id.
        name: The name as it would be.
        longest: How many characters it may have.
        alphabet: A regular expression that it has to match as a whole.
    """

    resource: str
    name: str
    longest: int
    alphabet: str

    @property
    def is_valid(self) -> bool:
        """Whether AWS takes it."""
        return len(self.name) <= self.longest and bool(re.fullmatch(self.alphabet, self.name, re.ASCII))


@dataclass(frozen=True)
class Templates:
    """The root template and those nested in it, by logical id."""

    root: Mapping[str, Any]
    nested: Mapping[str, Mapping[str, Any]]

    @classmethod
    def read(cls, path: Path = ROOT) -> Self:
        """Read template.yaml and the templates that it names."""
        root = yaml_parse(path.read_text())
        locations = {
            name: path.parent / resource["Properties"]["Location"]
            for name, resource in root["Resources"].items()
            if resource["Type"] == _NESTED
        }
        return cls(root, {name: yaml_parse(place.read_text()) for name, place in locations.items()})

    def parameter(self, name: str, given: Mapping[str, str]) -> str:
        """Return a parameter's value: the given one, or its default."""
        return str(given.get(name, self.root["Parameters"][name]["Default"]))

    def names(self, stack: str, region: str, account: str, given: Mapping[str, str]) -> Iterator[DerivedName]:
        """Return every name that is made of the stack's, nested stacks' included."""
        pseudo = {"AWS::AccountId": account, "AWS::Region": region, "AWS::Partition": "aws"}
        parts = [(stack, self.root)]
        parts += [(f"{stack}-{name}{_RANDOM}", template) for name, template in self.nested.items()]
        for name, template in parts:
            for resource, definition in template["Resources"].items():
                for key, value in definition.get("Properties", {}).items():
                    written = _chosen(value, given)
                    limit = LIMITS.get((definition["Type"], key))
                    if limit and isinstance(written, str) and f"${{{STACK}}}" in written:
                        yield DerivedName(resource, _filled(written, {STACK: name, **pseudo}), *limit)

    def machines(self) -> Iterator[str]:
        """Return CodeBuild's machine kinds as its quotas call them, such as ``ARM/Small``."""
        for template in (self.root, *self.nested.values()):
            for definition in template["Resources"].values():
                if definition["Type"] == "AWS::CodeBuild::Project":
                    environment = definition["Properties"]["Environment"]
                    system = {"ARM_CONTAINER": "ARM", "LINUX_CONTAINER": "Linux"}[environment["Type"]]
                    size = environment["ComputeType"].removeprefix("BUILD_GENERAL1_").capitalize()
                    yield f"{system}/{size}"


def _chosen(value: Any, given: Mapping[str, str]) -> Any:
    """A property's text with its placeholders, or the given parameter that stands in its place."""
    match value:
        case {"Fn::Sub": str() as text}:
            return text
        case {"Ref": "AWS::StackName"}:
            return f"${{{STACK}}}"
        case {"Fn::If": [_, one, other]}:
            for branch in (one, other):
                if isinstance(branch, dict) and given.get(branch.get("Ref", "")):
                    return given[branch["Ref"]]
            return next((text for text in (_chosen(one, given), _chosen(other, given)) if text), None)
    return None


def _filled(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\$\{([\w:]+)\}", lambda found: values.get(found[1], found[0]), text)
