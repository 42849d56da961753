import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.clients import Clients
from local.deploy import NESTED, deploy, in_order
from local.intrinsics import TemplateError
from local.keys import Keyring
from local.resources import MAKERS, STAND_INS, Stack, shaped
from tests.whole import whole

NOBODY = Clients("http://127.0.0.1:1", Keyring())  # every call to it fails


def refused(template: dict) -> str:
    with pytest.raises(TemplateError) as error:
        deploy(template, "web", {}, NOBODY)
    return str(error.value)


def test_a_type_that_is_not_known_is_refused_by_name() -> None:
    message = refused({"Resources": {"Table": {"Type": "AWS::DynamoDB::Table"}}})
    assert "Table" in message
    assert "AWS::DynamoDB::Table" in message


@pytest.mark.parametrize(
    ("template", "named"),
    [
        ({"Resources": {}, "Hooks": {}}, "Hooks"),
        ({"Resources": {"Q": {"Type": "AWS::SQS::Queue", "CreationPolicy": {}}}}, "CreationPolicy"),
        (
            {"Resources": {"Q": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": {"Fn::Cidr": []}}}}},
            "Cidr",
        ),
        ({"Resources": {"Q": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": {"Ref": "X"}}}}}, "X"),
        ({"Resources": {"Q": {"Type": "AWS::SQS::Queue", "Properties": {"Colour": "red"}}}}, "Colour"),
        (
            {"Resources": {"F": {"Type": "AWS::Lambda::Function", "Properties": {"Colour": "red"}}}},
            "Colour",
        ),
        (
            {
                "Resources": {
                    "D": {
                        "Type": "AWS::Batch::JobDefinition",
                        "Properties": {
                            "Type": "container",
                            "ContainerProperties": {"Image": "x", "Colour": 1},
                        },
                    }
                }
            },
            "Colour",
        ),
        (
            {
                "Resources": {
                    "C": {
                        "Type": "AWS::Lambda::EventInvokeConfig",
                        "Properties": {
                            "FunctionName": "f",
                            "Qualifier": "$LATEST",
                            "DestinationConfig": {"OnFailure": {"Destination": "arn:aws:sns:us-east-1:1:t"}},
                        },
                    }
                }
            },
            "arn:aws:sns",
        ),
        (
            {
                "Resources": {
                    "M": {
                        "Type": "AWS::Lambda::EventSourceMapping",
                        "Properties": {
                            "FunctionName": "f",
                            "EventSourceArn": "arn:aws:kinesis:us-east-1:1:s",
                        },
                    }
                }
            },
            "arn:aws:kinesis",
        ),
    ],
)
def test_whatever_is_not_known_is_refused_by_name_before_a_call(template: dict, named: str) -> None:
    assert named in refused(template)


def test_a_condition_that_does_not_hold_leaves_a_resource_out() -> None:
    template = {
        "Conditions": {"Never": {"Fn::Equals": ["a", "b"]}},
        "Resources": {"Table": {"Type": "AWS::DynamoDB::Table", "Condition": "Never"}},
        "Outputs": {"Region": {"Value": {"Ref": "AWS::Region"}}},
    }
    deployment = deploy(template, "web", {}, NOBODY)
    assert (deployment.values, deployment.outputs) == ({}, {"Region": "us-east-1"})


def test_every_type_of_the_stack_is_known() -> None:
    resources = whole()["Resources"]
    nested = {name: resource for name, resource in resources.items() if resource["Type"] == NESTED}
    assert nested.keys() - {"Network"} == STAND_INS.keys()  # the embedded AWS has a network
    kinds = {resource["Type"] for name, resource in resources.items() if name not in nested}
    # There are no chats here, and no CloudFront: a stack with a channel or an open catalogue is refused.
    elsewhere = {kind for kind in kinds if kind.startswith(("AWS::Chatbot::", "AWS::CloudFront::"))}
    assert {kind.split("::")[1] for kind in elsewhere} == {"Chatbot", "CloudFront"}
    assert kinds - elsewhere <= MAKERS.keys()


NAMES = "abcdef"


@given(st.dictionaries(st.sampled_from(NAMES), st.sets(st.sampled_from(NAMES))), st.randoms())
def test_each_resource_comes_after_what_it_needs_or_the_circle_is_told(needs, random) -> None:
    resources = {
        name: {"Properties": {"x": [{"Ref": other} for other in others]}}
        if random.random() < 0.5
        else {"DependsOn": sorted(others)}
        for name, others in needs.items()
    }
    try:
        order = list(in_order(resources))
    except TemplateError as error:
        assert "Circular dependency" in str(error)
        assert not any(
            all(
                other not in needs or order.index(other) < order.index(name)
                for name in order
                for other in needs[name]
            )
            for order in itertools.islice(itertools.permutations(needs), 720)
        )
    else:
        assert sorted(order) == sorted(needs)
        for name in order:
            assert all(order.index(other) < order.index(name) for other in needs[name] & needs.keys())


def job_definition_shape():
    return NOBODY.get("batch").meta.service_model.operation_model("RegisterJobDefinition").input_shape


def test_names_take_the_case_of_the_api_and_values_its_types() -> None:
    given_values = {
        "JobDefinitionName": "box",
        "Type": "container",
        "PropagateTags": "true",
        "Timeout": {"AttemptDurationSeconds": "60"},
        "Parameters": {"Left": "AsItIs"},
        "ContainerProperties": {
            "Image": "x",
            "ResourceRequirements": [{"Type": "VCPU", "Value": 1}],
            "LogConfiguration": {"LogDriver": "awslogs", "Options": {"awslogs-group": "g"}},
        },
    }
    assert shaped(given_values, job_definition_shape()) == {
        "jobDefinitionName": "box",
        "type": "container",
        "propagateTags": True,
        "timeout": {"attemptDurationSeconds": 60},
        "parameters": {"Left": "AsItIs"},
        "containerProperties": {
            "image": "x",
            "resourceRequirements": [{"type": "VCPU", "value": "1"}],
            "logConfiguration": {"logDriver": "awslogs", "options": {"awslogs-group": "g"}},
        },
    }


def test_made_up_names_differ_by_stack_and_resource_and_stay_the_same() -> None:
    names = {
        (stack, name): Stack(stack, NOBODY).physical_name(name) for stack in ("a", "b") for name in ("x", "y")
    }
    assert len(set(names.values())) == 4
    assert Stack("a", NOBODY).physical_name("x") == names["a", "x"]
