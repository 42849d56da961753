"""The nested templates as the whole stack uses them."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from local.translate import read_template
from tests.unit.infra.templates import ROOT
from tests.whole import whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEMPLATE: dict[str, Any] = read_template((ROOT / "template.yaml").read_text())


@dataclass(frozen=True)
class Nested:
    """A nested template, as written.

    Attributes:
        template: What is in it.
        given: What it is given for its parameters.
        outer: That which it is nested in; None for the root.
    """

    template: dict[str, Any]
    given: dict[str, Any]
    outer: Nested | None

    def origin(self, parameter: str) -> str | None:
        """The root's parameter that one of this template's stands for."""
        value = self.given.get(parameter)
        if not isinstance(value, dict) or "Ref" not in value:
            return None
        if self.outer:
            return self.outer.origin(value["Ref"])
        return value["Ref"] if value["Ref"] in TEMPLATE["Parameters"] else None


def nested_in(
    template: dict[str, Any], folder: Path, outer: Nested | None = None
) -> Iterator[tuple[str, Nested]]:
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::Serverless::Application":
            path = folder / resource["Properties"]["Location"]
            inner = read_template(path.read_text())
            found = Nested(inner, resource["Properties"].get("Parameters", {}), outer)
            yield name, found
            yield from nested_in(inner, path.parent, found)


NESTED = dict(nested_in(TEMPLATE, ROOT))


def uses(value: Any) -> list[str]:
    """Return every ``Resource.Attribute`` in a value."""
    if isinstance(value, dict):
        found = [".".join(value["Fn::GetAtt"])] if "Fn::GetAtt" in value else []
        found += re.findall(r"\$\{(\w+\.[\w.]+)\}", str(value.get("Fn::Sub", "")))
        return found + [use for each in value.values() for use in uses(each)]
    if isinstance(value, list):
        return [use for each in value for use in uses(each)]
    return []


LIMITS = ("AllowedPattern", "AllowedValues", "MinLength", "MaxLength", "MinValue", "MaxValue")


@pytest.mark.parametrize("name", NESTED)
def test_parameters_are_handed_on_as_they_are(name: str) -> None:
    """What the nested template would refuse is refused before anything is made, and nothing is forgotten."""
    nested = NESTED[name]
    known = nested.template.get("Parameters", {})
    assert set(nested.given) == set(known)
    for parameter, declared in known.items():
        limits = declared.keys() & set(LIMITS)
        origin = nested.origin(parameter)
        if origin:
            ours = TEMPLATE["Parameters"][origin]
            assert declared["Type"] == ours["Type"], parameter
            assert declared.get("Default", ours["Default"]) == ours["Default"], parameter
            assert {limit: declared[limit] for limit in limits} == {
                limit: ours.get(limit) for limit in limits
            }
        elif isinstance(nested.given[parameter], str):
            assert nested.given[parameter] in declared["AllowedValues"]
        else:  # worked out, so nobody's to get wrong
            assert (declared["Type"], limits) == ("String", set()), parameter


def test_each_limit_of_what_an_architecture_is_given_is_asked_before(name: str = "Arm64") -> None:
    """That is, there are such: the test above compares something."""
    nested = NESTED[name]
    compared = {
        parameter
        for parameter, declared in nested.template["Parameters"].items()
        if nested.origin(parameter) and declared.keys() & set(LIMITS)
    }
    assert {
        "Capacity",
        "Vcpu",
        "Memory",
        "EphemeralStorage",
        "MaxVcpus",
        "IndexUrl",
        "HttpsProxy",
    } <= compared


@pytest.mark.parametrize("name", NESTED)
def test_every_parameter_of_a_nested_template_is_explained_and_used(name: str) -> None:
    template = NESTED[name].template
    text = json.dumps(
        {part: template.get(part) for part in ("Conditions", "Mappings", "Resources", "Outputs")}
    )
    for parameter, declared in template.get("Parameters", {}).items():
        assert declared["Description"].endswith("."), parameter
        assert f'"Ref": "{parameter}"' in text or f"${{{parameter}}}" in text, parameter


def test_outputs_that_are_used_are_there() -> None:
    templates = [TEMPLATE, *(nested.template for nested in NESTED.values())]
    used = {use for template in templates for use in uses(template) if ".Outputs." in use}
    assert {use.partition(".")[0] for use in used} == set(NESTED)
    for use in used:
        name, _, output = use.partition(".Outputs.")
        assert output in NESTED[name].template["Outputs"], use
    unused = {
        f"{name}.Outputs.{output}" for name, nested in NESTED.items() for output in nested.template["Outputs"]
    } - used
    assert not unused


def holds(rule: Any, values: dict[str, str]) -> Any:
    """Work out a rule's assertion.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/intrinsic-function-reference-rules.html
    """
    if not isinstance(rule, dict):
        return rule
    ((function, argument),) = rule.items()
    if function == "Ref":
        return values[argument]
    parts = [part if isinstance(part, list) else holds(part, values) for part in argument]
    return {
        "Fn::And": lambda: all(parts),
        "Fn::Or": lambda: any(parts),
        "Fn::Not": lambda: not parts[0],
        "Fn::Equals": lambda: parts[0] == parts[1],
        "Fn::Contains": lambda: parts[1] in parts[0],
    }[function]()


def keeps(rule: str, values: dict[str, str]) -> bool:
    """Whether parameters keep a rule of the template."""
    assertions = TEMPLATE["Rules"][rule]["Assertions"]
    return all(holds(assertion["Assert"], values) for assertion in assertions)


@pytest.mark.parametrize("vpc, subnets, secret, path", list(itertools.product([False, True], repeat=4)))
def test_rules_refuse_what_is_given_by_halves_or_twice(
    vpc: bool, subnets: bool, secret: bool, path: bool
) -> None:
    values = {
        "VpcId": "vpc-0123" if vpc else "",
        "SubnetIds": "subnet-0123,subnet-4567" if subnets else "",
        "DockerSecretArn": "arn:aws:secretsmanager:eu-west-1:111122223333:secret:hub-AbCdEf"
        if secret
        else "",
        "DockerParameterPath": "/docker/hub" if path else "",
    }
    for name, value in values.items():
        assert re.search(TEMPLATE["Parameters"][name]["AllowedPattern"], value)
    assert keeps("NetworkIsGivenWholeOrNotAtAll", values) == (vpc == subnets)
    assert keeps("DockerLoginIsInOnePlace", values) == (not (secret and path))


def test_jobs_get_a_way_out_of_the_network_that_the_stack_makes() -> None:
    """Its subnets are public and it has no NAT: without a public address a job could not fetch its image."""
    for name in (f"{prefix}{kind}JobDefinition" for prefix in ("Arm64", "X8664") for kind in ("", "Source")):
        properties = whole()["Resources"][name]["Properties"]["ContainerProperties"]
        assert properties["NetworkConfiguration"]["AssignPublicIp"] == {
            "Fn::If": ["MakeNetwork", "ENABLED", {"Ref": "AssignPublicIp"}]
        }
