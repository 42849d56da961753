"""Which bucket is taken over, where S3 says what the embedded AWS does not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from stack import inventory, takeover
from stack.preflight import Destination, Finding
from stack.templates import Templates

TO = Destination("layerdrop", "eu-west-1", "111122223333", "arn:aws:iam::111122223333:user/u", {})
NAME = "layerdrop-111122223333-eu-west-1"


class Account:
    """An account as S3 and CloudFormation show it."""

    def __init__(self, status: int = 200, region: str = "eu-west-1", stack: str | None = None) -> None:
        self.status, self.region, self.stack = status, region, stack
        self.asked: list[dict[str, str]] = []

    def client(self, _service: str) -> Account:
        return self

    def describe_stacks(self, **_: str) -> dict[str, Any]:
        if self.stack is None:
            raise refusal("ValidationError", 400)
        return {"Stacks": [{"StackStatus": self.stack}]}

    def head_bucket(self, **asked: str) -> dict[str, str]:
        self.asked.append(asked)
        if self.status != 200:
            raise refusal(str(self.status), self.status)
        return {"BucketRegion": self.region}


def refusal(code: str, status: int) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "x")  # type: ignore[typeddict-item]


def look(account: Account, **parameters: str) -> Any:
    to = Destination(TO.name, TO.region, TO.account, TO.caller, parameters)
    return takeover.look(account, to, Templates.read())  # type: ignore[arg-type]


def test_where_there_is_no_bucket_there_is_nothing_to_take_over() -> None:
    account = Account(404)
    assert look(account) is None
    # S3 refuses, if it is another account's: nobody can lay one out for us.
    assert account.asked == [{"Bucket": NAME, "ExpectedBucketOwner": "111122223333"}]


def test_the_name_is_the_parameter_s_if_it_is_given() -> None:
    account = Account(404)
    look(account, BucketName="ours")
    assert account.asked[0]["Bucket"] == "ours"


def test_another_account_s_bucket_is_in_the_way() -> None:
    found = look(Account(403))
    assert isinstance(found, Finding)
    assert found.stops
    assert NAME in found.what


def test_a_bucket_of_another_region_is_in_the_way() -> None:
    found = look(Account(region="us-east-1"))
    assert isinstance(found, Finding)
    assert found.stops
    assert "in us-east-1; the stack is to be in eu-west-1" in found.what


def test_other_errors_are_not_taken_for_an_answer() -> None:
    with pytest.raises(ClientError):
        look(Account(503))


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE"])
def test_a_stack_that_is_there_has_its_bucket(status: str) -> None:
    account = Account(stack=status)
    assert look(account) is None
    assert account.asked == []


def test_a_change_set_that_was_not_executed_is_no_stack() -> None:
    account = Account(404, stack="REVIEW_IN_PROGRESS")
    look(account)
    assert account.asked


def test_what_a_stack_could_not_make_is_not_its_own() -> None:
    """A bucket whose name somebody had already has that name in CloudFormation's list all the same."""
    listed = [
        {"LogicalResourceId": name, "PhysicalResourceId": name.lower(), "ResourceStatus": status}
        for name, status in {
            "Bucket": "CREATE_FAILED", "UnansweredUploads": "CREATE_COMPLETE",
            "UnansweredBuilds": "DELETE_COMPLETE", "BuildLayers": "DELETE_FAILED",
        }.items()
    ]  # fmt: skip
    cloudformation = SimpleNamespace(
        get_paginator=lambda _: SimpleNamespace(paginate=lambda **_: [{"StackResourceSummaries": listed}])
    )
    made = inventory._made(cloudformation, {"StackId": "x"})
    assert made == {"UnansweredUploads": "unanswereduploads", "BuildLayers": "buildlayers"}
