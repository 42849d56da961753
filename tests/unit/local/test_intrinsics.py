import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.intrinsics import (
    NO_VALUE,
    Scope,
    TemplateError,
    evaluate,
    parameter_values,
    pseudo_parameters,
    references,
)

SCOPE = Scope(
    values=pseudo_parameters("web") | {"Name": "box", "Nets": ["net-1", "net-2"], "Empty": ""},
    attributes={("Box", "Arn"): "arn:box"},
    conditions={
        "IsBox": {"Fn::Equals": [{"Ref": "Name"}, "box"]},
        "NotBox": {"Fn::Not": [{"Condition": "IsBox"}]},
        "Both": {"Fn::And": [{"Condition": "IsBox"}, {"Fn::Not": [{"Condition": "NotBox"}]}]},
        "Either": {"Fn::Or": [{"Condition": "NotBox"}, {"Fn::Equals": ["1", 1]}]},
        "Nothing": {"Fn::Equals": [{"Ref": "Empty"}, "x"]},
    },
    mappings={"Sizes": {"small": {"cpu": 1}}},
)


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("plain", "plain"),
        ({"Ref": "Name"}, "box"),
        ({"Ref": "Nets"}, ["net-1", "net-2"]),
        ({"Fn::GetAtt": ["Box", "Arn"]}, "arn:box"),
        ({"Fn::GetAtt": "Box.Arn"}, "arn:box"),
        ({"Fn::Sub": "${AWS::StackName}-${Name}/${Box.Arn}/${!Name}"}, "web-box/arn:box/${Name}"),
        ({"Fn::Sub": ["${Name}-${Own}", {"Own": {"Ref": "Name"}}]}, "box-box"),
        ({"Fn::Join": [",", {"Ref": "Nets"}]}, "net-1,net-2"),
        ({"Fn::Select": [1, {"Ref": "Nets"}]}, "net-2"),
        ({"Fn::Select": ["0", {"Fn::Split": ["-", "a-b"]}]}, "a"),
        ({"Fn::FindInMap": ["Sizes", "small", "cpu"]}, 1),
        ({"Fn::If": ["IsBox", {"Ref": "Name"}, "other"]}, "box"),
        ({"Fn::If": ["Nothing", "x", {"a": [{"Ref": "Name"}]}]}, {"a": ["box"]}),
        ({"a": {"Ref": "AWS::NoValue"}, "b": 1}, {"b": 1}),
        (["a", {"Fn::If": ["NotBox", "b", {"Ref": "AWS::NoValue"}]}], ["a"]),
        ({"Ref": "Name", "Other": 1}, {"Ref": "Name", "Other": 1}),  # no function: two names
    ],
)
def test_functions_are_replaced_by_their_results(value: object, result: object) -> None:
    assert evaluate(value, SCOPE) == result


@pytest.mark.parametrize(
    ("name", "holds"), [("IsBox", True), ("NotBox", False), ("Both", True), ("Either", True)]
)
def test_conditions(name: str, holds: bool) -> None:
    assert SCOPE.condition(name) is holds


@pytest.mark.parametrize(
    "value",
    [
        {"Ref": "Nobody"},
        {"Fn::GetAtt": ["Box", "Colour"]},
        {"Fn::Sub": "${Nobody}"},
        {"Fn::Cidr": ["10.0.0.0/16", 2, 8]},
        {"Fn::If": ["NoSuchCondition", 1, 2]},
        {"Fn::FindInMap": ["Sizes", "large", "cpu"]},
        {"a": [{"Fn::ImportValue": "x"}]},
    ],
)
def test_what_is_not_there_or_not_known_is_an_error(value: object) -> None:
    with pytest.raises(TemplateError):
        evaluate(value, SCOPE)


def test_no_value_alone_is_left_to_whoever_holds_it() -> None:
    assert evaluate({"Ref": "AWS::NoValue"}, SCOPE) is NO_VALUE


NAMES = st.sampled_from(["Name", "Box", "Other"])
VALUES = st.recursive(
    st.one_of(
        st.integers(),
        st.text(max_size=5),
        st.builds(lambda name: {"Ref": name}, NAMES),
        st.builds(lambda name: {"Fn::GetAtt": [name, "Arn"]}, NAMES),
        st.builds(lambda name: {"Fn::GetAtt": f"{name}.Arn"}, NAMES),
        st.builds(lambda name: {"Fn::Sub": f"x${{{name}}}${{{name}.Arn}}"}, NAMES),
        st.builds(lambda name: {"Fn::Sub": [f"${{{name}}}${{Own}}", {"Own": {"Ref": name}}]}, NAMES),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
)


@given(VALUES)
def test_a_value_can_be_worked_out_once_all_it_refers_to_is_there_and_not_before(value: object) -> None:
    names = set(references(value))
    complete = Scope(dict.fromkeys(names, "x"), {(name, "Arn"): "y" for name in names})
    evaluate(value, complete)
    for name in names:
        lacking = Scope(dict.fromkeys(names - {name}, "x"), {(other, "Arn"): "y" for other in names - {name}})
        with pytest.raises(TemplateError):
            evaluate(value, lacking)


DECLARED = {
    "Size": {"Type": "Number", "Default": 3, "AllowedValues": [3, 5]},
    "Nets": {"Type": "List<AWS::EC2::Subnet::Id>"},
    "Name": {"Type": "String", "Default": "", "AllowedPattern": "^$|^[a-z]+$", "MaxLength": 8},
    "Days": {"Type": "Number", "Default": 7, "MinValue": 1, "MaxValue": 14},
}


def test_parameters_have_their_defaults_and_lists_are_split() -> None:
    values = parameter_values(DECLARED, {"Nets": "a, b", "Days": "14"})
    assert values == {"Size": "3", "Nets": ["a", "b"], "Name": "", "Days": "14"}


@pytest.mark.parametrize(
    "given_values",
    [
        {},
        {"Nets": "a", "Nobody": "1"},
        {"Nets": "a", "Size": "4"},
        {"Nets": "a", "Name": "UPPER"},
        {"Nets": "a", "Name": "lower\nmore"},
        {"Nets": "a", "Name": "muchtoolong"},
        {"Nets": "a", "Days": "0"},
        {"Nets": "a", "Days": "15"},
        {"Nets": "a", "Days": "many"},
        {"Nets": ["a"]},  # CloudFormation takes texts only, from a nested stack's caller, too
    ],
)
def test_a_parameter_that_is_missing_unknown_or_not_allowed_is_an_error(given_values) -> None:
    with pytest.raises(TemplateError):
        parameter_values(DECLARED, given_values)
