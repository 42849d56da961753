"""A small CloudFormation: makes a translated template's resources by API calls, or says what it cannot make.

moto's own CloudFormation drops properties without a word (a bucket's notifications, a function's log group).
Here every property is either used, or listed below with the reason why not, or an error.
"""

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from local.clients import Clients
from local.intrinsics import Scope, TemplateError, evaluate, parameter_values, pseudo_parameters, references
from local.resources import MAKERS, STAND_INS, UPDATERS, Change, Made, Properties, Stack
from local.rules import check

NESTED: Final = "AWS::CloudFormation::Stack"
FROM_PARAMETER_STORE: Final = "AWS::SSM::Parameter::Value<String>"
USED_SECTIONS: Final = {"Parameters", "Rules", "Mappings", "Conditions", "Resources", "Outputs"}
SKIPPED_SECTIONS: Final = {
    "AWSTemplateFormatVersion": "There is one version.",
    "Description": "For people.",
    "Metadata": "For the console, linters and sam.",
}
USED_ATTRIBUTES: Final = {"Type", "Properties", "DependsOn", "Condition"}
SKIPPED_ATTRIBUTES: Final = {
    "Metadata": "For sam and linters.",
    "DeletionPolicy": "Everything ends with the process.",
    "UpdateReplacePolicy": "Nothing is ever replaced.",
}


@dataclass(frozen=True)
class Standing:
    """A resource that stands: its type, its properties, and what references to it give."""

    kind: str
    properties: Mapping[str, Any]
    made: Made


@dataclass(frozen=True)
class Deployment:
    """A stack that stands.

    Attributes:
        values: What ``Ref`` gives, by logical id.
        outputs: The stack's outputs.
        nested: The stacks nested in it, by logical id.
        resources: What an update compares with, by logical id.
    """

    values: Mapping[str, Any]
    outputs: Mapping[str, Any]
    nested: Mapping[str, "Deployment"] = field(default_factory=dict)
    resources: Mapping[str, Standing] = field(default_factory=dict)

    def all_values(self) -> dict[str, Any]:
        """Return what ``Ref`` gives, of nested stacks, too, whose resources are called STACK.RESOURCE."""
        inner = {
            f"{stack}.{name}": value
            for stack, deployment in self.nested.items()
            for name, value in deployment.all_values().items()
        }
        return {**self.values, **inner}


def deploy(
    template: Mapping[str, Any],
    stack: str,
    parameters: Mapping[str, str],
    clients: Clients,
    earlier: Deployment | None = None,
) -> Deployment:
    """Make all resources of a translated template, each after those it refers to.

    Args:
        template: CloudFormation, with no SAM left in it.
        stack: The stack's name.
        parameters: Values for those parameters that have no default, and others.
        clients: Where to make the resources.
        earlier: The stack as it stands, if this is an update: what has not changed is left alone. Of a type
            that has no updater nothing may change, and nothing may go.

    Raises:
        TemplateError: A type, property, function or section is not known here, a parameter breaks a rule, a
            reference leads nowhere, references go in a circle, a call was refused, or a change cannot be
            made here.
    """
    _refuse_unknown("section", template, USED_SECTIONS, SKIPPED_SECTIONS)
    declared = template.get("Parameters", {})
    values = pseudo_parameters(stack) | _looked_up(declared, parameter_values(declared, parameters), clients)
    check(template.get("Rules", {}), values)
    scope = Scope(
        values=values,
        conditions=template.get("Conditions", {}),
        mappings=template.get("Mappings", {}),
    )
    resources = {
        logical_id: resource
        for logical_id, resource in template["Resources"].items()
        if "Condition" not in resource or scope.condition(resource["Condition"])
    }
    made_by = _Stack(stack, clients, earlier)
    if gone := sorted(made_by.standing.keys() - resources.keys()):
        raise TemplateError(f"{gone[0]}: the embedded AWS deletes nothing in an update")
    for logical_id in in_order(resources):
        _make(logical_id, resources[logical_id], scope, made_by)
    outputs = {
        name: evaluate(output["Value"], scope)
        for name, output in template.get("Outputs", {}).items()
        if "Condition" not in output or scope.condition(output["Condition"])
    }
    values = {name: scope.values[name] for name in resources}
    return Deployment(values, outputs, made_by.nested, made_by.resources)


def _looked_up(declared: Mapping[str, Any], values: Mapping[str, Any], clients: Clients) -> dict[str, Any]:
    """Put in the place of Parameter Store's names what they hold now, at each deployment.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/systems-manager-parameter-types.html
    """
    found = dict(values)
    for name, declaration in declared.items():
        if declaration["Type"] == FROM_PARAMETER_STORE:
            try:
                parameter = clients.ssm.get_parameter(Name=values[name])["Parameter"]
            except ClientError as error:
                raise TemplateError(f"Parameter {name}: there is no {values[name]} ({error})") from error
            found[name] = parameter["Value"]
        elif declaration["Type"].startswith("AWS::SSM::"):
            raise TemplateError(f"Parameter {name} has a type that is not known here: {declaration['Type']}")
    return found


class _Stack(Stack):
    """A stack that can have others nested in it, and may stand already."""

    def __init__(self, name: str, clients: Clients, earlier: Deployment | None) -> None:
        super().__init__(name, clients)
        self.nested: dict[str, Deployment] = {}
        self.resources: dict[str, Standing] = {}
        self.standing = earlier.resources if earlier else {}
        self._inner = earlier.nested if earlier else {}

    def make_nested(self, properties: Properties, logical_id: str) -> Made:
        """AWS::CloudFormation::Stack: all that its template has, by the same makers."""
        bucket, key = properties.take("TemplateURL").removeprefix("https://s3.amazonaws.com/").split("/", 1)
        template = json.loads(self.call("s3", "GetObject", Bucket=bucket, Key=key)["Body"].read())
        properties.take("Tags")  # SAM's own; what is nested does not get them here
        name = self.physical_name(logical_id)
        self.nested[logical_id] = made = deploy(
            template, name, properties.take("Parameters", {}), self.clients, self._inner.get(logical_id)
        )
        outputs = {f"Outputs.{output}": value for output, value in made.outputs.items()}
        return Made(pseudo_parameters(name)["AWS::StackId"], outputs)


def in_order(resources: Mapping[str, Any]) -> Iterator[str]:
    """Return the logical ids, each after those it refers to or depends on.

    Raises:
        TemplateError: They go in a circle, which CloudFormation would refuse, too.
    """
    needed = {
        logical_id: {name for name in (*references(resource), *_depends_on(resource)) if name in resources}
        for logical_id, resource in resources.items()
    }
    try:
        yield from TopologicalSorter(needed).static_order()
    except CycleError as error:
        raise TemplateError(f"Circular dependency: {' -> '.join(error.args[1])}") from error


def _depends_on(resource: Mapping[str, Any]) -> list[str]:
    wanted = resource.get("DependsOn", [])
    return [wanted] if isinstance(wanted, str) else list(wanted)


def _make(logical_id: str, resource: Mapping[str, Any], scope: Scope, stack: _Stack) -> None:
    kind = resource["Type"]
    _refuse_unknown("attribute", resource, USED_ATTRIBUTES, SKIPPED_ATTRIBUTES, where=logical_id)
    if kind not in MAKERS and kind != NESTED:
        raise TemplateError(f"{logical_id}: the embedded AWS does not deploy {kind}")
    wanted = evaluate(resource.get("Properties", {}), scope)
    properties, standing = Properties(deepcopy(wanted)), stack.standing.get(logical_id)
    try:
        if kind == NESTED and logical_id in STAND_INS:
            made = STAND_INS[logical_id](properties, logical_id, stack)
        elif kind == NESTED:  # looked into even if it has not changed: what it answers is the same
            made = stack.make_nested(properties, logical_id)
        elif standing is None:
            made = MAKERS[kind](properties, logical_id, stack)
        elif (standing.kind, standing.properties) == (kind, wanted):
            made = standing.made
            properties.take_all()
        else:
            made = _update(kind, standing, properties, logical_id, stack)
    except (ClientError, BotoCoreError, TemplateError) as error:
        raise TemplateError(f"{logical_id} ({kind}): {error}") from error
    if properties.left:
        raise TemplateError(f"{logical_id}: the embedded AWS does not deploy {kind}.{min(properties.left)}")
    stack.resources[logical_id] = Standing(kind, wanted, made)
    scope.values[logical_id] = made.ref
    scope.attributes |= {(logical_id, name): value for name, value in made.attributes.items()}


def _update(kind: str, standing: Standing, properties: Properties, logical_id: str, stack: Stack) -> Made:
    if standing.kind != kind or kind not in UPDATERS:
        raise TemplateError("the embedded AWS cannot change it in an update")
    return UPDATERS[kind](Change(logical_id, standing.made, standing.properties, properties), stack)


def _refuse_unknown(
    what: str,
    given: Mapping[str, Any],
    used: set[str],
    skipped: Mapping[str, str],
    where: str = "The template",
) -> None:
    if unknown := sorted(given.keys() - used - skipped.keys()):
        raise TemplateError(f"{where} has the {what} {unknown[0]}, which the embedded AWS does not know")
