"""The project's templates, as far as they are looked at before a deployment: parameters, names, machines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml  # type: ignore[import-untyped]
from samtranslator.yaml_helper import intrinsics_multi_constructor  # type: ignore[import-untyped]

from stack.inventory import BUCKET

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
    ("AWS::Chatbot::MicrosoftTeamsChannelConfiguration", "ConfigurationName"): (128, r"[\w-]+"),
    ("AWS::Chatbot::SlackChannelConfiguration", "ConfigurationName"): (128, r"[\w-]+"),
    ("AWS::CloudFront::Function", "Name"): (64, r"[\w-]+"),
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
class Nested:
    """A nested template.

    Attributes:
        template: What it is.
        suffix: What its stack is called after the root's name, with placeholders for CloudFormation's part.
        stack_name: Its parameter that the root's name is handed on as, if there is one.
        texts: Its parameters that are given a text as it is.
    """

    template: Mapping[str, Any]
    suffix: str
    stack_name: str | None
    texts: Mapping[str, str]


@dataclass(frozen=True)
class Templates:
    """The root template and all those nested in it, and in these."""

    root: Mapping[str, Any]
    nested: tuple[Nested, ...]

    @classmethod
    def read(cls, path: Path = ROOT) -> Self:
        """Read template.yaml and the templates that it names, as often as it does."""
        root = _read(path.read_text())
        return cls(root, tuple(_nested_in(root, path.parent, STACK, "")))

    def parameter(self, name: str, given: Mapping[str, str]) -> str:
        """Return a parameter's value: the given one, or its default."""
        return str(given.get(name, self.root["Parameters"][name]["Default"]))

    def names(self, stack: str, region: str, account: str, given: Mapping[str, str]) -> Iterator[DerivedName]:
        """Return every name that is made of the stack's, nested stacks' included."""
        pseudo = {"AWS::AccountId": account, "AWS::Region": region, "AWS::Partition": "aws"}
        parts: list[tuple[Mapping[str, Any], dict[str, str], Mapping[str, str]]] = [
            (self.root, {STACK: stack}, {})
        ]
        for nested in self.nested:
            handed_on = {nested.stack_name: stack} if nested.stack_name else {}
            parts.append((nested.template, {STACK: stack + nested.suffix, **handed_on}, nested.texts))
        for template, names, texts in parts:
            for resource, definition in template["Resources"].items():
                for key, value in definition.get("Properties", {}).items():
                    written = _chosen(value, given)
                    limit = LIMITS.get((definition["Type"], key))
                    if (
                        limit
                        and isinstance(written, str)
                        and any(f"${{{name}}}" in written for name in names)
                    ):
                        yield DerivedName(resource, _filled(written, {**texts, **names, **pseudo}), *limit)

    def bucket(self, stack: str, region: str, account: str, given: Mapping[str, str]) -> str:
        """Return what the stack's bucket is called."""
        written = _chosen(self.root["Resources"][BUCKET]["Properties"]["BucketName"], given)
        pseudo = {"AWS::AccountId": account, "AWS::Region": region, "AWS::Partition": "aws"}
        return _filled(written, {STACK: stack} | pseudo)

    def machines(self) -> Iterator[str]:
        """Return CodeBuild's machine kinds as its quotas call them, such as ``ARM/Small``."""
        for template in (self.root, *(nested.template for nested in self.nested)):
            for definition in template["Resources"].values():
                if definition["Type"] == "AWS::CodeBuild::Project":
                    environment = definition["Properties"]["Environment"]
                    system = {"ARM_CONTAINER": "ARM", "LINUX_CONTAINER": "Linux"}[environment["Type"]]
                    size = environment["ComputeType"].removeprefix("BUILD_GENERAL1_").capitalize()
                    yield f"{system}/{size}"


# samtranslator's own reads with the loader that is written in Python, ten times as long.
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    pass


_Loader.add_multi_constructor("!", intrinsics_multi_constructor)


def _read(text: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.load(text, _Loader)  # noqa: S506 (a safe one)
    return document


def _nested_in(
    template: Mapping[str, Any], folder: Path, stack_name: str | None, suffix: str
) -> Iterator[Nested]:
    for name, resource in template["Resources"].items():
        if resource["Type"] == _NESTED:
            properties = resource["Properties"]
            path = folder / properties["Location"]
            handed_on = properties.get("Parameters", {})
            called = next((key for key, value in handed_on.items() if value == {"Ref": stack_name}), None)
            texts = {key: value for key, value in handed_on.items() if isinstance(value, str)}
            inner = Nested(_read(path.read_text()), f"{suffix}-{name}{_RANDOM}", called, texts)
            yield inner
            yield from _nested_in(inner.template, path.parent, called, inner.suffix)


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
