"""The nested templates as the whole stack uses them."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import pytest
from samtranslator.yaml_helper import yaml_parse

from tests.unit.infra.templates import ROOT
from tests.whole import whole

TEMPLATE: dict[str, Any] = yaml_parse((ROOT / "template.yaml").read_text())
NESTED = {
    name: resource["Properties"]
    for name, resource in TEMPLATE["Resources"].items()
    if resource["Type"] == "AWS::Serverless::Application"
}
# No parameter of the whole stack, but what it makes; empty unless it does.
MADE_HERE = {"NotificationTopicArn"}


def nested(name: str) -> dict[str, Any]:
    read: dict[str, Any] = yaml_parse((ROOT / NESTED[name]["Location"]).read_text())
    return read


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
    known = nested(name).get("Parameters", {})
    given = NESTED[name].get("Parameters", {})
    assert set(given) - MADE_HERE == set(known) - MADE_HERE
    for parameter, value in given.items():
        declared, ours = known[parameter], TEMPLATE["Parameters"].get(value.get("Ref"))
        if ours is None:  # worked out by the stack, so no limit but the kind can be broken
            assert not declared.keys() & set(LIMITS), parameter
            assert declared["Type"] == "String", parameter
            continue
        assert declared["Type"] == ours["Type"], parameter
        assert declared.get("Default", ours["Default"]) == ours["Default"], parameter
        for limit in declared.keys() & set(LIMITS) | {"AllowedPattern", "MaxLength"}:
            assert declared.get(limit) == ours.get(limit), (parameter, limit)


@pytest.mark.parametrize("name", NESTED)
def test_every_parameter_of_a_nested_template_is_explained_and_used(name: str) -> None:
    template = nested(name)
    text = json.dumps(
        {part: template.get(part) for part in ("Conditions", "Mappings", "Resources", "Outputs")}
    )
    for parameter, declared in template.get("Parameters", {}).items():
        assert declared["Description"].endswith("."), parameter
        assert f'"Ref": "{parameter}"' in text or f"${{{parameter}}}" in text, parameter


def test_outputs_that_are_used_are_there() -> None:
    used = [use.partition(".Outputs.") for use in uses(TEMPLATE) if ".Outputs." in use]
    assert {name for name, _, _ in used} == set(NESTED)
    for name, _, output in used:
        assert output in nested(name)["Outputs"], (name, output)


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
