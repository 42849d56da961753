import io
import json
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from layerdrop.aws import TryLaterError
from layerdrop.candidates import Candidate, Candidates
from layerdrop.catalogue.releases import Releases
from layerdrop.errors import BuildError, ErrorCode
from layerdrop.layer_users import LayerUsers
from layerdrop.layer_versions import LayerVersions
from layerdrop.manifest import PublishedVersion
from layerdrop.publishing import LayerPublisher
from layerdrop.releasing import LayerReleaser
from layerdrop.report import BuiltLayer, Report
from layerdrop.shelves import Shelves
from layerdrop.target import Target

from .conftest import TARGET

POINTER = "/layerdrop/web-py313-arm64"


@pytest.fixture
def built(build: Callable[..., Any]) -> Callable[..., BuiltLayer]:
    def built(target: Target = TARGET, content: str = "x = 1", description: str = "requests") -> BuiltLayer:
        report = build(target.to_json(), content, description)
        return Report.from_text(json.dumps(report)).layer_for(target, "layerdrop-test")

    return built


@dataclass(frozen=True)
class Publisher:
    """PublishLayer and ReleaseLayer, of one account."""

    publisher: LayerPublisher
    releaser: LayerReleaser

    @classmethod
    def of(
        cls,
        account: Any,
        lambda_: Any = None,
        publishing: Any = None,
        ssm: Any = None,
        s3: Any = None,
        keep_versions: int = 0,
    ) -> "Publisher":
        lambda_ = lambda_ or account.lambda_
        layers = LayerVersions(lambda_, ssm or account.ssm)
        candidates = Candidates(s3 or account.s3, account.bucket, layers)
        releases = Releases(s3 or account.s3, account.bucket)
        return cls(
            LayerPublisher(layers, publishing or lambda_, candidates, account.bucket),
            LayerReleaser(layers, candidates, LayerUsers(lambda_), releases, keep_versions),
        )


@pytest.fixture
def publisher(account: Any) -> Publisher:
    return Publisher.of(account)


def only_publish(
    publisher: Publisher, target: Target, layer: BuiltLayer, execution: str = "web-1"
) -> PublishedVersion:
    """As PublishLayer does it, once the job is done."""
    s3 = boto3.client("s3", "us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    kept = Shelves(s3, publisher.publisher.bucket).keep(target, 1, layer)
    return publisher.publisher.publish(target, layer, kept, execution)


def publish(
    publisher: Publisher, target: Target, layer: BuiltLayer, execution: str = "web-1"
) -> PublishedVersion:
    """As PublishLayer and ReleaseLayer do it, one after the other."""
    published = only_publish(publisher, target, layer, execution)
    publisher.releaser.release(target, published.layer_version_arn, execution)
    return published


def versions(account: Any, name: str = TARGET.layer_name) -> list[int]:
    return sorted(
        item["Version"] for item in account.lambda_.list_layer_versions(LayerName=name)["LayerVersions"]
    )


def pointer(account: Any) -> str:
    return str(account.ssm.get_parameter(Name=POINTER)["Parameter"]["Value"])


def statements(account: Any, version: int) -> dict[str, Any]:
    policy = account.lambda_.get_layer_version_policy(LayerName=TARGET.layer_name, VersionNumber=version)
    return {statement["Sid"]: statement for statement in json.loads(policy["Policy"])["Statement"]}


def test_publishes_what_the_report_says(account: Any, publisher: Publisher, built: Any) -> None:
    target = replace(TARGET, license="MIT", description="HTTP clients")
    layer = built(target)
    published = publish(publisher, target, layer)
    assert (published.version, published.reused) == (1, False)
    found = account.lambda_.get_layer_version(LayerName=target.layer_name, VersionNumber=1)
    assert found["LayerVersionArn"] == published.layer_version_arn == pointer(account)
    assert found["Content"]["CodeSha256"] == layer.code_sha256
    assert found["Description"] == "HTTP clients"
    assert found["LicenseInfo"] == "MIT"
    assert found["CompatibleRuntimes"] == ["python3.13"]
    assert found["CompatibleArchitectures"] == ["arm64"]


def test_the_same_layer_again_is_the_same_version(account: Any, publisher: Publisher, built: Any) -> None:
    first = publish(publisher, TARGET, built())
    again = publish(publisher, TARGET, built())
    assert again == replace(first, reused=True)
    assert versions(account) == [1]


@pytest.mark.parametrize("change", ["content", "description", "license"])
def test_any_difference_is_a_new_version(account: Any, publisher: Publisher, built: Any, change: str) -> None:
    publish(publisher, TARGET, built())
    target = replace(TARGET, license="MIT") if change == "license" else TARGET
    changes = {} if change == "license" else {change: "other"}
    second = publish(publisher, target, built(target, **changes))
    assert (second.version, second.reused) == (2, False)
    assert pointer(account) == second.layer_version_arn


def test_going_back_finds_the_version_that_was(account: Any, publisher: Publisher, built: Any) -> None:
    """A content is published once, and the pointer names what the newest upload wanted."""
    for content, version in (("a", 1), ("b", 2), ("c", 3), ("a", 1), ("b", 2)):
        assert publish(publisher, TARGET, built(content=content)).version == version
        assert pointer(account).endswith(f":{version}")
    assert versions(account) == [1, 2, 3]


def test_who_is_not_shared_with_any_more_gets_no_new_version(
    account: Any, publisher: Publisher, built: Any
) -> None:
    both = replace(TARGET, share_with=("111122223333", "o-a1b2c3d4e5"))
    one = replace(TARGET, share_with=("111122223333",))
    assert publish(publisher, both, built(both)).version == 1
    assert publish(publisher, one, built(one)).version == 2
    assert (len(statements(account, 1)), len(statements(account, 2))) == (2, 1)
    assert publish(publisher, both, built(both)).version == 2
    assert len(statements(account, 2)) == 2


def test_a_grant_made_by_hand_is_nobody_s_business(account: Any, publisher: Publisher, built: Any) -> None:
    publish(publisher, TARGET, built())
    account.lambda_.add_layer_version_permission(
        LayerName=TARGET.layer_name,
        VersionNumber=1,
        StatementId="mine",
        Action="lambda:GetLayerVersion",
        Principal="999988887777",
    )
    assert publish(publisher, TARGET, built()).reused


def test_keeps_so_many_versions_and_whatever_is_named(account: Any, built: Any) -> None:
    keeper = Publisher.of(account, keep_versions=2)
    shared = replace(TARGET, share_with=("111122223333",))
    publish(keeper, shared, built(shared, content="0"))
    for number in range(1, 6):
        publish(keeper, TARGET, built(content=str(number)))
    assert versions(account) == [1, 5, 6], "the shared one, and the two newest"
    assert publish(keeper, shared, built(shared, content="0")).version == 1
    assert pointer(account).endswith(":1")
    assert versions(account) == [1, 6], "the one pointed to counts as the first of the two"


def test_grants_accounts_and_organizations(account: Any, publisher: Publisher, built: Any) -> None:
    target = replace(TARGET, share_with=("111122223333", "o-a1b2c3d4e5"))
    publish(publisher, target, built(target))
    granted = statements(account, 1)
    assert len(granted) == 2
    account_grant, organization_grant = (granted[sid] for sid in sorted(granted))
    assert "111122223333" in json.dumps(account_grant["Principal"])
    # That this is for the organization only, moto does not keep; the stubbed test below looks at that.
    assert organization_grant["Principal"] == "*"
    assert {statement["Action"] for statement in granted.values()} == {"lambda:GetLayerVersion"}


def test_a_grantee_added_later_gets_the_reused_version(
    account: Any, publisher: Publisher, built: Any
) -> None:
    publish(publisher, TARGET, built())
    target = replace(TARGET, share_with=("111122223333",))
    assert publish(publisher, target, built(target)).reused
    assert len(statements(account, 1)) == 1


@pytest.mark.parametrize("there", [False, True], ids=["another change under way", "granted meanwhile"])
@pytest.mark.parametrize("organization", [False, True])
def test_a_conflict_is_fine_if_the_grant_is_there(organization: bool, there: bool) -> None:
    grantee = "o-a1b2c3d4e5" if organization else "111122223333"
    sid = f"organization-{grantee}" if organization else f"account-{grantee}"
    client = boto3.client("lambda", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    where = {"LayerName": TARGET.layer_name, "VersionNumber": 7}

    def policy(*sids: str) -> dict[str, str]:
        return {"Policy": json.dumps({"Statement": [{"Sid": sid} for sid in sids]})}

    with Stubber(client) as stub:
        stub.add_client_error("get_layer_version_policy", "ResourceNotFoundException", http_status_code=404)
        request = {
            **where,
            "StatementId": sid,
            "Action": "lambda:GetLayerVersion",
            "Principal": "*" if organization else grantee,
        }
        if organization:
            request["OrganizationId"] = grantee
        stub.add_client_error(
            "add_layer_version_permission",
            "ResourceConflictException",
            http_status_code=409,
            expected_params=request,
        )
        stub.add_response("get_layer_version_policy", policy(sid) if there else policy("other"), where)
        releaser = LayerReleaser(LayerVersions(client, None), None, None, None)  # type: ignore[arg-type]
        with nullcontext() if there else pytest.raises(TryLaterError):
            releaser._share(TARGET.layer_name, 7, [grantee])
        stub.assert_no_pending_responses()


class Mortal:
    """A client whose process dies right after a certain call to AWS."""

    def __init__(self, client: Any, calls: list[int]) -> None:
        self._client, self._calls = client, calls

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._client, name)
        if name == "exceptions":
            return attribute
        if name == "get_paginator":
            return lambda operation: MortalPages(getattr(self, operation))

        def call(**arguments: Any) -> Any:
            result = attribute(**arguments)
            self._calls[0] -= 1
            if self._calls[0] == 0:
                raise SystemExit
            return result

        return call


class MortalPages:
    """All pages in one."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def paginate(self, **arguments: Any) -> list[Any]:
        return [self._call(**arguments)]


@pytest.mark.sample(1)
@pytest.mark.parametrize("again", [False, True], ids=["first version", "next version"])
def test_killed_after_any_call_a_second_try_ends_in_one_complete_version(
    account: Any, publisher: Publisher, built: Any, again: bool
) -> None:
    target = replace(TARGET, share_with=("111122223333", "444455556666"))
    deaths = 0
    for call in range(1, 50):
        name = f"web{call}-py313-arm64"
        one = replace(target, layer_name=name)
        if again:
            publish(publisher, one, built(one, content="before"))
        layer = built(one)
        left = [call]
        mortal = Publisher.of(
            account,
            *(Mortal(client, left) for client in (account.lambda_, account.lambda_, account.ssm, account.s3)),
        )
        try:
            publish(mortal, one, layer)
        except SystemExit:
            deaths += 1
        published = publish(publisher, one, layer)
        expected = 2 if again else 1
        assert versions(account, name) == list(range(1, expected + 1)), f"killed after call {call}"
        assert published.version == expected
        policy = account.lambda_.get_layer_version_policy(LayerName=name, VersionNumber=expected)
        sids = {statement["Sid"] for statement in json.loads(policy["Policy"])["Statement"]}
        assert len(sids) == 2
        for parameter in (f"/layerdrop/{name}", f"/layerdrop/{name}/{expected}"):
            value = account.ssm.get_parameter(Name=parameter)["Parameter"]["Value"]
            assert value == published.layer_version_arn
        if left[0] > 0:
            break
    else:
        pytest.fail("publishing never came to its end")
    assert deaths >= 5, "pointer, list, publish, two grants and the pointer again are at least as many calls"


@pytest.mark.parametrize(
    "value",
    [
        "not an ARN",
        "arn:aws:lambda:us-east-1:123456789012:layer:web-py313-arm64:99",
        "arn:aws:lambda:us-east-1:123456789012:layer:web-py313-arm64:x",
        "arn:aws:lambda:us-east-1:123456789012:layer:another:1",
    ],
)
def test_a_pointer_that_points_nowhere_is_mended(
    account: Any, publisher: Publisher, built: Any, value: str
) -> None:
    account.ssm.put_parameter(Name=POINTER, Value=value, Type="String")
    published = publish(publisher, TARGET, built())
    assert not published.reused
    assert pointer(account) == published.layer_version_arn


def test_other_bytes_than_reported_are_taken_back(account: Any, publisher: Publisher, built: Any) -> None:
    layer = built()

    class Lying:
        def __getattr__(self, name: str) -> Any:
            return getattr(account.lambda_, name)

        def publish_layer_version(self, **given: Any) -> Any:
            answer = account.lambda_.publish_layer_version(**given)
            return answer | {"Content": answer["Content"] | {"CodeSha256": "A" * 43 + "="}}

    lying = Publisher.of(account, publishing=Lying())
    with pytest.raises(BuildError) as caught:
        publish(lying, TARGET, layer)
    assert caught.value.problem.code == ErrorCode.REPORT_INVALID
    assert versions(account) == []
    with pytest.raises(account.ssm.exceptions.ParameterNotFound):
        pointer(account)


def test_publishes_that_version_of_the_zip(account: Any, publisher: Publisher, built: Any) -> None:
    asked = []

    class Listening:
        def __getattr__(self, name: str) -> Any:
            return getattr(account.lambda_, name)

        def publish_layer_version(self, **given: Any) -> Any:
            asked.append(given["Content"])
            return account.lambda_.publish_layer_version(**given)

    layer = built()
    published = publish(Publisher.of(account, publishing=Listening()), TARGET, layer)
    head = account.s3.head_object(Bucket=account.bucket, Key=published.zip_key)
    wanted = {"S3Bucket": account.bucket, "S3Key": f"layers/{layer.digest}.zip"}
    assert asked == [wanted | {"S3ObjectVersion": head["VersionId"]}]


@pytest.mark.parametrize(
    ("code", "refused"),
    [
        ("InvalidParameterValueException", True),
        ("CodeStorageExceededException", True),
        ("PolicyLengthExceededException", True),
        ("TooManyRequestsException", False),
        ("ServiceException", False),
        ("AccessDeniedException", False),
    ],
)
def test_only_what_stays_refused_is_called_so(
    account: Any, publisher: Publisher, built: Any, code: str, refused: bool
) -> None:
    layer = built()
    said = "Unzipped size must be smaller than 262144000 bytes"

    class Refusing:
        def __getattr__(self, name: str) -> Any:
            return getattr(account.lambda_, name)

        def publish_layer_version(self, **_: Any) -> Any:
            raise ClientError({"Error": {"Code": code, "Message": said}}, "PublishLayerVersion")

    with pytest.raises(BuildError if refused else ClientError) as caught:
        publish(Publisher.of(account, publishing=Refusing()), TARGET, layer)
    if isinstance(caught.value, BuildError):
        assert caught.value.problem.code == ErrorCode.PUBLISH_REFUSED
        assert said in caught.value.problem.message
        assert TARGET.layer_name in caught.value.problem.message
    with pytest.raises(account.ssm.exceptions.ParameterNotFound):
        pointer(account)


# -------------------------------------------------------------------------------------------- not released


def test_what_is_only_published_nobody_is_pointed_to(account: Any, publisher: Publisher, built: Any) -> None:
    only_publish(publisher, replace(TARGET, share_with=("111122223333",)), built())
    assert versions(account) == [1]
    with pytest.raises(account.ssm.exceptions.ParameterNotFound):
        pointer(account)
    with pytest.raises(account.lambda_.exceptions.ResourceNotFoundException):
        statements(account, 1)


def test_what_is_not_released_goes_again(account: Any, publisher: Publisher, built: Any) -> None:
    publish(publisher, TARGET, built(content="good"), "first")
    only_publish(publisher, TARGET, built(content="bad"), "second")
    assert versions(account) == [1, 2]
    for _ in range(2):  # as after being killed
        publisher.releaser.discard(TARGET, "second")
        assert versions(account) == [1]
    assert pointer(account).endswith(":1")


def test_what_was_there_before_stays(account: Any, publisher: Publisher, built: Any) -> None:
    """It is in use, whatever a later trial of it says; so is one that was published by hand."""
    publish(publisher, TARGET, built(content="a"), "first")
    publish(publisher, TARGET, built(content="b"), "second")
    assert only_publish(publisher, TARGET, built(content="a"), "third").reused
    account.lambda_.publish_layer_version(
        LayerName=TARGET.layer_name, Content={"ZipFile": b"by hand"}, CompatibleRuntimes=["python3.13"]
    )
    publisher.releaser.discard(TARGET, "third")
    assert versions(account) == [1, 2, 3]


def test_an_older_version_of_the_same_bytes_stays(account: Any, publisher: Publisher, built: Any) -> None:
    """It has no parameter of its own, as of before there were any, and nobody is pointed to it any more."""
    publish(publisher, TARGET, built(content="a"), "first")
    publish(publisher, TARGET, built(content="b"), "second")
    account.ssm.delete_parameter(Name=f"{POINTER}/1")
    assert not only_publish(publisher, TARGET, built(content="a", description="other words"), "third").reused
    assert versions(account) == [1, 2, 3]
    publisher.releaser.discard(TARGET, "third")
    assert versions(account) == [1, 2]


def test_what_was_published_by_hand_meanwhile_stays(account: Any, publisher: Publisher, built: Any) -> None:
    only_publish(publisher, TARGET, built(), "first")
    account.lambda_.publish_layer_version(
        LayerName=TARGET.layer_name, Content={"ZipFile": b"by hand"}, CompatibleRuntimes=["python3.13"]
    )
    publisher.releaser.discard(TARGET, "first")
    assert versions(account) == [2]


def test_a_released_version_is_not_taken_back(account: Any, publisher: Publisher, built: Any) -> None:
    publish(publisher, TARGET, built(), "first")
    publisher.releaser.discard(TARGET, "first")
    assert versions(account) == [1]


def test_one_that_is_pointed_to_is_released_even_if_its_release_was_cut_short(
    account: Any, publisher: Publisher, built: Any
) -> None:
    published = only_publish(publisher, TARGET, built(), "first")
    account.ssm.put_parameter(Name=POINTER, Value=published.layer_version_arn, Type="String")
    publisher.releaser.discard(TARGET, "first")
    assert versions(account) == [1]
    assert only_publish(publisher, TARGET, built(), "second").reused


def test_the_next_build_clears_up_behind_one_that_died(
    account: Any, publisher: Publisher, built: Any
) -> None:
    only_publish(publisher, TARGET, built(content="died"), "first")
    published = publish(publisher, TARGET, built(content="next"), "second")
    assert versions(account) == [published.version] == [2]
    publisher.releaser.discard(TARGET, "first")  # comes to life again
    assert versions(account) == [2]


def test_the_next_build_takes_over_what_it_wants_itself(
    account: Any, publisher: Publisher, built: Any
) -> None:
    """Then it is the next one's to take back: the first, which is superseded, leaves it alone."""
    first = only_publish(publisher, TARGET, built(), "first")
    assert not first.reused
    assert only_publish(publisher, TARGET, built(), "second") == first
    publisher.releaser.discard(TARGET, "first")
    assert versions(account) == [1]
    publisher.releaser.discard(TARGET, "second")
    assert versions(account) == []


def test_two_of_one_build_become_one(account: Any, publisher: Publisher, built: Any) -> None:
    """A publishing whose answer never came may have done its work all the same."""
    layer = built()
    only_publish(publisher, TARGET, layer, "first")
    found = account.lambda_.get_layer_version(LayerName=TARGET.layer_name, VersionNumber=1)
    late = publisher.publisher._publish(
        TARGET, layer, Shelves(account.s3, account.bucket).keep(TARGET, 1, layer)
    )
    assert found["Content"]["CodeSha256"] == layer.code_sha256
    assert versions(account) == [1, 2]
    publisher.releaser.release(TARGET, late, "first")
    assert versions(account) == [2]


# -------------------------------------------------------------------------------------------- pins


def pins(account: Any) -> dict[str, str]:
    found = account.ssm.get_parameters_by_path(Path=POINTER)["Parameters"]
    return {parameter["Name"].removeprefix(POINTER + "/"): parameter["Value"] for parameter in found}


def test_each_released_version_has_a_parameter_that_stays(
    account: Any, publisher: Publisher, built: Any
) -> None:
    only_publish(publisher, TARGET, built(content="a"), "first")
    assert pins(account) == {}
    first = publish(publisher, TARGET, built(content="a"), "first").layer_version_arn
    second = publish(publisher, TARGET, built(content="b")).layer_version_arn
    assert pins(account) == {"1": first, "2": second}
    assert publish(publisher, TARGET, built(content="a")).layer_version_arn == pointer(account) == first
    assert pins(account) == {"1": first, "2": second}
    histories = [account.ssm.get_parameter_history(Name=f"{POINTER}/{number}") for number in (1, 2)]
    assert [len(history["Parameters"]) for history in histories] == [1, 1], "each was written once"


def test_a_version_of_before_there_were_pins_gets_one(account: Any, publisher: Publisher, built: Any) -> None:
    first = publish(publisher, TARGET, built()).layer_version_arn
    account.ssm.delete_parameter(Name=f"{POINTER}/1")
    assert publish(publisher, TARGET, built()).reused
    assert pins(account) == {"1": first}


def test_a_pin_that_somebody_else_wrote_is_not_pointed_past(
    account: Any, publisher: Publisher, built: Any
) -> None:
    account.ssm.put_parameter(Name=f"{POINTER}/1", Value="arn:of:something:else", Type="String")
    with pytest.raises(BuildError) as caught:
        publish(publisher, TARGET, built())
    assert caught.value.problem.code == ErrorCode.INTERNAL_ERROR
    assert f"{POINTER}/1" in caught.value.problem.message
    assert pins(account) == {"1": "arn:of:something:else"}
    with pytest.raises(account.ssm.exceptions.ParameterNotFound):
        pointer(account)


class OnPut:
    """Parameter Store, with something else in the place of the first writing of a pin."""

    def __init__(self, account: Any, instead: Callable[[Any], None]) -> None:
        self._ssm, self._instead, self._done = account.ssm, instead, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ssm, name)

    def put_parameter(self, **given: Any) -> Any:
        if not self._done:
            self._done = True
            self._instead(given)
        return self._ssm.put_parameter(**given)


@pytest.mark.parametrize("same", [True, False])
def test_a_pin_that_appears_meanwhile(account: Any, built: Any, same: bool) -> None:
    """Its first writing may have been done, and its answer lost."""

    def write(given: Any) -> None:
        account.ssm.put_parameter(**given | ({} if same else {"Value": "x"}))

    publisher = Publisher.of(account, ssm=OnPut(account, write))
    with nullcontext() if same else pytest.raises(BuildError, match="INTERNAL_ERROR"):
        publish(publisher, TARGET, built())
    assert set(pins(account)) == {"1"}


def test_a_full_parameter_store_is_told(account: Any, built: Any) -> None:
    def refuse(given: Any) -> None:
        raise ClientError({"Error": {"Code": "ParameterLimitExceeded", "Message": "full"}}, "PutParameter")

    with pytest.raises(BuildError) as caught:
        publish(Publisher.of(account, ssm=OnPut(account, refuse)), TARGET, built())
    assert caught.value.problem.code == ErrorCode.PUBLISH_REFUSED
    assert f"{POINTER}/1" in caught.value.problem.message
    assert "docs/deploy.md" in caught.value.problem.hint


def test_what_is_pinned_is_not_taken_back(account: Any, publisher: Publisher, built: Any) -> None:
    """A release that died between pin and pointer: who pinned it meanwhile keeps it."""
    layer = built(content="good")
    published = only_publish(publisher, TARGET, layer, "first")
    publisher.releaser.versions.pin(TARGET.layer_name, published.layer_version_arn)
    publisher.releaser.discard(TARGET, "first")
    assert versions(account) == [1]
    publish(publisher, TARGET, built(content="next"), "second")
    assert versions(account) == [1, 2]
    assert set(pins(account)) == {"1", "2"}


def test_a_pin_goes_before_its_version(account: Any, built: Any) -> None:
    """A parameter that leads to a deleted version would fail whoever deploys with it, much later."""
    keeper = Publisher.of(account, keep_versions=1)
    publish(Publisher.of(account), TARGET, built(content="a"))

    class Dying:
        def __getattr__(self, name: str) -> Any:
            return getattr(account.lambda_, name)

        def delete_layer_version(self, **_: Any) -> None:
            raise SystemExit

    with pytest.raises(SystemExit):
        publish(Publisher.of(account, Dying(), keep_versions=1), TARGET, built(content="b"))
    assert (versions(account), set(pins(account))) == ([1, 2], {"2"})
    publish(keeper, TARGET, built(content="b"))
    assert (versions(account), set(pins(account))) == ([2], {"2"})


# -------------------------------------------------------------------------------------------- who uses it


def function(account: Any, name: str, *layers: str) -> None:
    """A function with layers."""
    iam = boto3.client("iam", "us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("main.py", "")
    account.lambda_.create_function(
        FunctionName=name,
        Role=role,
        Runtime="python3.13",
        Handler="main.handler",
        Code={"ZipFile": stream.getvalue()},
        Layers=layers,
    )


@pytest.mark.parametrize("kind", ["the function as it is", "a published version only"])
def test_what_a_function_uses_is_kept(account: Any, built: Any, kind: str) -> None:
    keeper = Publisher.of(account, keep_versions=1)
    used = publish(keeper, TARGET, built(content="a")).layer_version_arn
    function(account, "user", used)
    if kind == "a published version only":
        account.lambda_.publish_version(FunctionName="user")
        account.lambda_.update_function_configuration(FunctionName="user", Layers=[])
    for content in "bcd":
        publish(keeper, TARGET, built(content=content))
    assert versions(account) == [1, 4]
    assert set(pins(account)) == {"1", "4"}
    account.lambda_.delete_function(FunctionName="user")
    publish(keeper, TARGET, built(content="e"))
    assert versions(account) == [5]


class Listing:
    """Lambda, of which pages of functions are asked through here."""

    def __init__(self, account: Any, pages: Callable[[dict[str, Any]], Any]) -> None:
        self._lambda, self._pages = account.lambda_, pages

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lambda, name)

    def get_paginator(self, operation: str) -> Any:
        return self if operation == "list_functions" else self._lambda.get_paginator(operation)

    def paginate(self, **given: Any) -> Any:
        return self._pages(given)


@pytest.mark.parametrize("code", ["AccessDeniedException", "TooManyRequestsException", "ServiceException"])
def test_nothing_is_deleted_when_users_cannot_be_found_out(account: Any, built: Any, code: str) -> None:
    def fail(_: Any) -> Any:
        yield {"Functions": []}
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "ListFunctions")

    keeper = Publisher.of(account, Listing(account, fail), keep_versions=1)
    for content in "ab":
        publish(keeper, TARGET, built(content=content))
    assert versions(account) == [1, 2]
    assert set(pins(account)) == {"1", "2"}
    assert pointer(account).endswith(":2"), "released it is all the same"


def test_nothing_is_deleted_when_it_takes_too_long(account: Any) -> None:
    def endless(_: Any) -> Any:
        while True:
            yield {"Functions": [{"FunctionName": "x"}]}

    assert LayerUsers(Listing(account, endless), patience=0.05).used() is None  # type: ignore[arg-type]


def test_users_are_asked_for_once_and_only_for_what_would_go(account: Any, built: Any) -> None:
    asked: list[Any] = []

    def pages(given: Any) -> Any:
        asked.append(given)
        return [{"Functions": [{"Layers": [{"Arn": "arn:of:another:1"}]}, {}]}, {"Functions": []}]

    for content in "abc":
        publish(Publisher.of(account), TARGET, built(content=content))
    publish(Publisher.of(account, Listing(account, pages), keep_versions=4), TARGET, built(content="d"))
    assert asked == []
    publish(Publisher.of(account, Listing(account, pages), keep_versions=1), TARGET, built(content="e"))
    assert asked == [{"FunctionVersion": "ALL"}]
    assert versions(account) == [5]


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{" * 9999, b'{"schema": "layerdrop/candidate/1"}'])
def test_what_is_no_note_says_nothing(content: bytes | None) -> None:
    assert Candidate.read(content) is None
