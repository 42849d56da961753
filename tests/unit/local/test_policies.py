"""Statements, judged as IAM's documentation says."""

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.permissions import Permission
from local.policies import PolicyError, denials_of, is_allowed, matches, statements_of

READ = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/in/*"}


def allowed(action: str, resource: str, *statements: dict[str, object], **context: str) -> bool:
    pairs = tuple((name.replace("__", ":"), value) for name, value in context.items())
    return is_allowed(Permission(action, resource, pairs), statements_of({"Statement": list(statements)}))


@given(st.text("ab*?/", max_size=8), st.text("ab/\n", max_size=8))
def test_wildcards_are_those_of_file_names(pattern: str, text: str) -> None:
    """Apart from brackets, which mean nothing in a policy."""
    assert matches(pattern, text) == fnmatch.fnmatchcase(text, pattern)


def test_brackets_mean_themselves() -> None:
    assert matches("a[b]", "a[b]")
    assert not matches("a[b]", "ab")


@pytest.mark.parametrize(
    ("action", "resource", "expected"),
    [
        ("s3:GetObject", "arn:aws:s3:::b/in/x/y", True),
        ("S3:getobject", "arn:aws:s3:::b/in/x", True),  # actions have no case, resources do
        ("s3:GetObject", "arn:aws:s3:::b/IN/x", False),
        ("s3:GetObject", "arn:aws:s3:::b/out/x", False),
        ("s3:GetObjectVersion", "arn:aws:s3:::b/in/x", False),
        ("s3:PutObject", "arn:aws:s3:::b/in/x", False),
        ("s3:GetObject", "*", False),
    ],
)
def test_what_is_not_allowed_is_refused(action: str, resource: str, expected: bool) -> None:
    assert allowed(action, resource, READ) is expected


def test_a_denial_wins_wherever_it_stands() -> None:
    everything = {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["*"]}
    but = {"Effect": "Deny", "Action": "s3:Delete*", "Resource": "*"}
    for statements in ([everything, but], [but, everything]):
        assert allowed("s3:GetObject", "arn:aws:s3:::b/k", *statements)
        assert not allowed("s3:DeleteObjectVersion", "arn:aws:s3:::b/k", *statements)


def test_all_conditions_must_hold_and_any_of_their_values_does() -> None:
    conditions = {
        "StringEquals": {"events:Source": ["ours", "other"]},
        "ArnLike": {"aws:SourceArn": "arn:*:rule/*"},
    }
    tell = {"Effect": "Allow", "Action": "events:PutEvents", "Resource": "*", "Condition": conditions}
    arn = "arn:aws:events:rule/x"
    assert allowed("events:PutEvents", "*", tell, events__source="ours", aws__sourcearn=arn)
    assert not allowed("events:PutEvents", "*", tell, events__source="theirs", aws__sourcearn=arn)
    assert not allowed("events:PutEvents", "*", tell, events__source="ours", aws__sourcearn="arn:x")
    assert not allowed("events:PutEvents", "*", tell, events__source="ours")


@pytest.mark.parametrize(
    "more",
    [
        {"NotAction": "s3:*"},
        {"Principal": "*"},
        {"Condition": {"NumericLessThan": {"s3:max-keys": "10"}}},
        {"Condition": {"ForAllValues:StringEquals": {"aws:TagKeys": "x"}}},
    ],
)
def test_what_is_not_judged_here_is_an_error(more: dict[str, object]) -> None:
    with pytest.raises(PolicyError):
        statements_of({"Statement": [{**READ, **more}]})
    with pytest.raises(PolicyError):
        statements_of({"Statement": {"Effect": "Allow", "Action": "s3:*"}})


CREATE = {
    "Effect": "Deny",
    "Principal": "*",
    "Action": "s3:PutObject",
    "Resource": "arn:aws:s3:::b/builds/*",
    "Condition": {"Null": {"s3:if-none-match": "true"}},
}


@pytest.mark.parametrize(
    ("key", "context", "denied"),
    [
        ("builds/x", (), True),
        ("builds/x", (("s3:if-none-match", "*"),), False),
        ("builds/x", (("s3:if-match", "e"),), True),
        ("layers/x", (), False),
    ],
)
def test_a_bucket_may_demand_that_nothing_is_replaced(
    key: str, context: tuple[tuple[str, str], ...], denied: bool
) -> None:
    (statement,) = denials_of({"Statement": CREATE})
    assert statement.applies_to(Permission("s3:PutObject", f"arn:aws:s3:::b/{key}", context)) is denied


def test_null_asks_whether_a_key_is_there() -> None:
    def with_null(value: str) -> dict[str, object]:
        return {**READ, "Condition": {"Null": {"s3:x": value}}}

    for value, absent in (("true", True), ("false", False)):
        assert allowed("s3:GetObject", "arn:aws:s3:::b/in/x", with_null(value)) is absent
        assert allowed("s3:GetObject", "arn:aws:s3:::b/in/x", with_null(value), s3__x="y") is not absent


@pytest.mark.parametrize(
    "more",
    [
        {"Effect": "Allow"},
        {"Principal": {"AWS": "111122223333"}},
        {"NotPrincipal": "*"},
        {"Condition": {"NumericLessThan": {"s3:max-keys": "10"}}},
    ],
)
def test_a_bucket_s_policy_that_is_not_judged_here_is_an_error(more: dict[str, object]) -> None:
    with pytest.raises(PolicyError):
        denials_of({"Statement": [{**CREATE, **more}]})
