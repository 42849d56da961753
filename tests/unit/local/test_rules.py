import pytest

from local.clients import Clients
from local.deploy import deploy
from local.intrinsics import TemplateError
from local.keys import Keyring
from local.rules import check
from local.translate import read_template

RULES = read_template("""
Size:
  RuleCondition: !Not [!Equals [!Ref Kind, none]]
  Assertions:
    - Assert: !Or [!Not [!Equals [!Ref Kind, small]], !Contains [[1, "2"], !Ref Size]]
      AssertDescription: A small one has the size 1 or 2
    - Assert: !And [!Not [!Equals [!Ref Size, 0]], !Equals [!Ref "AWS::Region", us-east-1]]
      AssertDescription: Nothing has no size
""")


@pytest.mark.parametrize(
    ("kind", "size", "told"),
    [
        ("small", "1", None),
        ("small", "2", None),
        ("small", "3", "A small one has the size 1 or 2"),
        ("large", "3", None),
        ("large", "0", "Nothing has no size"),
        ("none", "0", None),  # the rule does not ask
    ],
)
def test_the_first_assertion_that_does_not_hold_is_told(kind: str, size: str, told: str | None) -> None:
    values = {"Kind": kind, "Size": size, "AWS::Region": "us-east-1"}
    if told is None:
        check(RULES, values)
    else:
        with pytest.raises(TemplateError, match=f"^Rule Size: {told}$"):
            check(RULES, values)


@pytest.mark.parametrize(
    ("expression", "named"),
    [
        ({"Fn::EachMemberIn": [["a"], ["a"]]}, "Fn::EachMemberIn"),
        ({"Fn::Equals": [{"Ref": "Box"}, "a"]}, "Box"),
    ],
)
def test_what_a_rule_may_not_say_is_refused_by_name(expression: dict, named: str) -> None:
    with pytest.raises(TemplateError, match=named):
        check({"Odd": {"Assertions": [{"Assert": expression}]}}, {})


def test_rules_are_asked_before_anything_is_made() -> None:
    template = {
        "Parameters": {"Size": {"Type": "Number", "Default": 1}},
        "Rules": {"Even": {"Assertions": [{"Assert": {"Fn::Equals": [{"Ref": "Size"}, "2"]}}]}},
        "Resources": {"Q": {"Type": "AWS::SQS::Queue"}},
    }
    nobody = Clients("http://127.0.0.1:1", Keyring())  # every call to it fails, with another message
    with pytest.raises(TemplateError, match="Rule Even"):
        deploy(template, "web", {}, nobody)
    with pytest.raises(TemplateError, match=r"^Q \(AWS::SQS::Queue\)"):
        deploy(template, "web", {"Size": "2"}, nobody)
