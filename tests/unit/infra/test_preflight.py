"""What ``make deploy`` looks for first: names against schemas, quotas and roles against answers."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import EndpointConnectionError
from botocore.stub import Stubber
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER
from hypothesis import given, settings
from hypothesis import strategies as st
from moto import mock_aws
from moto.iam.models import SERVICE_NAME_CONVERSION
from stack import preflight
from stack.config import StackConfig
from stack.preflight import LINKED_ROLES, Destination, Finding
from stack.templates import LIMITS, STACK, Templates

from tests.unit.infra.templates import ROOT
from tests.whole import LEFT, parts, whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TEMPLATES = Templates.read()
PLENTY = {
    "Concurrently running builds for ARM/Small environment": 1.0,
    "Concurrently running builds for Linux/Small environment": 1.0,
    "Fargate On-Demand vCPU resource count": 16.0,
    "Fargate Spot vCPU resource count": 16.0,
}


def destination(name: str = "layerdrop", region: str = "eu-west-1", **parameters: str) -> Destination:
    return Destination(name, region, "111122223333", "arn:aws:iam::111122223333:user/me", parameters)


def client(service: str) -> Any:
    return boto3.client(service, "eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")


# ---------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("MaxVcpus", "lots", "a number from 1 up to 4000"),
        ("MaxVcpus", "0", "a number from 1 up to 4000"),
        ("MaxVcpus", "nan", "a number"),
        ("X8664Capacity", "SPOT", "one of FARGATE, FARGATE_SPOT"),
        ("Arm64Vcpu", "3", "one of 0.25, 0.5, 1, 2, 4, 8, 16"),
        ("Cooldown", "a week", "such as 36 hours"),
        ("SlackChannel", "#builds", "what matches ^"),
        ("CooldownExempt", "a" * 2001, "at most 2000 characters"),
        ("BucketName", "Mine", "lower-case letters"),
    ],
)
def test_what_cloudformation_would_not_take_is_said_first(name: str, value: str, words: str) -> None:
    [found] = preflight.values(destination(**{name: value}), TEMPLATES)
    assert found.stops
    assert f"{name} cannot be {value!r}: it is " in found.what
    assert words in found.what
    assert "samconfig.toml" in found.todo


def test_defaults_and_what_is_empty_on_purpose_are_taken() -> None:
    declared = TEMPLATES.root["Parameters"]
    given = {name: str(each["Default"]) for name, each in declared.items()}
    assert list(preflight.values(destination(**given), TEMPLATES)) == []


def test_a_parameter_that_sam_would_leave_out_is_said_and_stops_nothing() -> None:
    [found] = preflight.values(destination(MaxVcpu="4"), TEMPLATES)
    assert not found.stops
    assert found.what == (
        "MaxVcpu counts for nothing: the template has no such parameter. Is MaxVcpus meant?"
    )


@mock_aws
def test_a_wrong_value_ends_in_its_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not in what reads it further on."""
    monkeypatch.setattr(preflight, "_quotas", lambda *_: PLENTY)
    session: Any = SimpleNamespace(client=client)
    found = list(preflight.check(session, destination(X8664Capacity="SPOT", MaxVcpus="lots"), TEMPLATES))
    assert len([finding for finding in found if finding.stops]) == 2


def test_a_stack_that_stands_keeps_what_is_not_given() -> None:
    """As sam does it: samcli/commands/deploy/deploy_context.py has UsePreviousValue for the others."""
    quotas = {**PLENTY, "Fargate On-Demand vCPU resource count": 6.0}
    stands = replace(destination(), previous={"MaxVcpus": "4", "OfEarlierVersions": "x"})
    assert list(preflight.capacity(quotas, stands, TEMPLATES)) == []
    assert list(preflight.values(stands, TEMPLATES)) == []
    assert (
        len(list(preflight.capacity(quotas, replace(stands, parameters={"MaxVcpus": "8"}), TEMPLATES))) == 1
    )


# ---------------------------------------------------------------- who is shown the catalogue


@pytest.mark.parametrize(
    ("addresses", "wrong"),
    [
        ("", []),
        ("203.0.113.0/24,2001:db8::/32,0.0.0.0/0", []),
        ("203.0.113.7/24,10.0.0.0/8", ["203.0.113.7/24"]),
        ("10.0.0.0/33,2001:db8::/129,10.0.0.0/08", ["10.0.0.0/33", "2001:db8::/129", "10.0.0.0/08"]),
    ],
)
def test_networks_that_would_let_nobody_in_are_said(addresses: str, wrong: list[str]) -> None:
    to = destination(CatalogueAddresses=addresses, CatalogueAccess="CLOUDFRONT")
    findings = list(preflight.networks(to, TEMPLATES))
    assert all(finding.stops for finding in findings)
    assert len(findings) == len(wrong)
    for finding, network in zip(findings, wrong, strict=True):
        assert f"CatalogueAddresses has {network}, which is no network" in finding.what


def test_a_list_for_a_page_that_has_no_address_is_said() -> None:
    [finding] = preflight.networks(destination(CatalogueAddresses="10.0.0.0/8"), TEMPLATES)
    assert not finding.stops
    assert "PRIVATE" in finding.what


# ---------------------------------------------------------------- names


def derived_of_translated() -> Iterator[tuple[str, str, Any]]:
    """Type, property and value of everything in the translated templates that is named after the stack."""
    for template in (whole(), *(parts().nested[name] for name in LEFT)):
        for resource in template["Resources"].values():
            for key, value in resource.get("Properties", {}).items():
                if key.endswith("Name") and STACK in str(value):
                    yield resource["Type"], key, value


def test_every_name_of_the_templates_is_looked_at() -> None:
    """Counted by another road: in what SAM makes of the templates."""
    translated = [key for _, key, _ in derived_of_translated()]
    ours = list(TEMPLATES.names("s", "eu-west-1", "1", {}))
    assert len(ours) == len(translated) > 8
    assert {derived.resource for derived in ours} >= {"Bucket", "WriteManifest", "BuildLayers", "Dashboard"}
    [dashboard] = (derived.name for derived in ours if derived.resource == "Dashboard")
    assert dashboard == "s-watching-eu-west-1"  # of the root's name, not of the nested stack's


@pytest.mark.parametrize("kind, name", [key for key in LIMITS if "Serverless" not in key[0]])
def test_limits_are_those_of_the_schemas(kind: str, name: str) -> None:
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema["properties"][name]
    longest, alphabet = LIMITS[kind, name]
    if "maxLength" in schema:
        assert schema["maxLength"] == longest
    if "pattern" in schema:
        for text in ("a", "a" * longest, "a-b", "a/b", "A", "a b", "a.b", "ä"):
            ours = len(text) <= longest and bool(re.fullmatch(alphabet, text, re.ASCII))
            assert not ours or re.search(schema["pattern"], text, re.ASCII), text


@settings(max_examples=100, deadline=None)
@given(
    name=st.from_regex(r"[a-z][a-z0-9-]{0,70}", fullmatch=True),
    region=st.sampled_from(["us-east-1", "ap-southeast-1"]),
)
def test_a_name_is_too_long_exactly_when_some_derived_name_is(name: str, region: str) -> None:
    """The bucket has the shortest limit of all, which here is worked out by hand."""
    found = list(preflight.too_long_names(destination(name, region), TEMPLATES))
    bucket = f"{name}-111122223333-{region}"
    machine, function = f"{name}-build-layers", f"{name}-WriteManifest"
    fits = len(bucket) <= 63 and len(machine) <= 80 and len(function) <= 64
    assert bool(found) == (not fits)
    assert all(finding.stops and finding.todo for finding in found)


def test_it_says_which_name_and_how_much_too_long() -> None:
    [found] = preflight.too_long_names(destination("l" * 41, "eu-west-1"), TEMPLATES)
    assert "too long by 1: Bucket would be called" in found.what
    assert "63" in found.what


def test_a_bucket_s_name_that_is_given_is_not_made_of_the_stack_s() -> None:
    assert list(preflight.too_long_names(destination("l" * 45, BucketName="mine"), TEMPLATES)) == []
    assert list(preflight.too_long_names(destination("l" * 45, BucketName=""), TEMPLATES))


@pytest.mark.parametrize("name", ["1st", "my_stack", "a b", "", "größe", "x;id", "x" * 129])
def test_what_is_no_stack_s_name_is_said(name: str) -> None:
    [found] = preflight.too_long_names(destination(name), TEMPLATES)
    assert found.stops


def test_capitals_are_not_for_buckets() -> None:
    [found] = preflight.too_long_names(destination("Layerdrop"), TEMPLATES)
    assert "Bucket would be called Layerdrop-" in found.what
    assert "lower-case" in found.todo


# ---------------------------------------------------------------- service-linked roles


@mock_aws
def test_missing_service_linked_roles_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # How AWS calls them; moto knows the names of three others.
    # https://docs.aws.amazon.com/aws-managed-policy/latest/reference/BatchServiceRolePolicy.html
    monkeypatch.setitem(SERVICE_NAME_CONVERSION, "batch", "Batch")
    monkeypatch.setitem(SERVICE_NAME_CONVERSION, "ecs", "ECS")
    session: Any = SimpleNamespace(client=client)
    found = list(preflight.linked_roles(session))
    assert [finding.what for finding in found] == [
        f"The service-linked role {role} was missing and is made." for role in LINKED_ROLES
    ]
    assert not any(finding.stops for finding in found)
    for role, service in LINKED_ROLES.items():
        made = client("iam").get_role(RoleName=role)["Role"]
        assert service in str(made["AssumeRolePolicyDocument"])
    assert list(preflight.linked_roles(session)) == []


@pytest.mark.parametrize("at", ["get_role", "create_service_linked_role"])
def test_who_may_not_make_them_is_told_and_goes_on(at: str) -> None:
    iam = client("iam")
    with Stubber(iam) as stub:
        for _ in LINKED_ROLES:
            if at == "create_service_linked_role":
                stub.add_client_error("get_role", "NoSuchEntity")
            stub.add_client_error(at, "AccessDenied")
        found = list(preflight.linked_roles(SimpleNamespace(client=lambda _: iam)))  # type: ignore[arg-type]
        stub.assert_no_pending_responses()
    assert len(found) == 2
    for finding, service in zip(found, LINKED_ROLES.values(), strict=True):
        assert "not allowed" in finding.what
        assert f"--aws-service-name {service}" in finding.todo
        assert not finding.stops


def test_a_role_made_by_somebody_else_at_the_same_moment_is_no_fault() -> None:
    iam = client("iam")
    with Stubber(iam) as stub:
        for _ in LINKED_ROLES:
            stub.add_client_error("get_role", "NoSuchEntity")
            stub.add_client_error("create_service_linked_role", "InvalidInput")
        found = list(preflight.linked_roles(SimpleNamespace(client=lambda _: iam)))  # type: ignore[arg-type]
    assert [finding.todo for finding in found] == ["", ""]


# ---------------------------------------------------------------- quotas


def test_the_machines_are_those_of_the_projects() -> None:
    assert set(TEMPLATES.machines()) == {"ARM/Small", "Linux/Small"}


def test_enough_is_not_talked_about() -> None:
    assert list(preflight.machines(PLENTY, TEMPLATES, is_first=True)) == []
    assert list(preflight.capacity(PLENTY, destination(), TEMPLATES)) == []


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("kind", ["ARM/Small", "Linux/Small"])
def test_no_builds_at_all_stop_a_first_deployment(kind: str, is_first: bool) -> None:
    name = f"Concurrently running builds for {kind} environment"
    [found] = preflight.machines({**PLENTY, name: 0.0}, TEMPLATES, is_first=is_first)
    assert f"{name} is 0" in found.what
    assert f'"{name}" in Service Quotas' in found.todo
    # Later on, images are there already unless their content changed.
    assert found.stops == is_first


@pytest.mark.parametrize(
    "quota, parameters, words",
    [
        (6.0, {}, ["arm64 and x86_64 builds wait earlier than MaxVcpus=16"]),
        (6.0, {"X8664Capacity": "FARGATE_SPOT"}, ["arm64 builds wait earlier than MaxVcpus=16"]),
        (6.0, {"MaxVcpus": "4"}, []),
        (0.0, {}, ["No arm64 build could start", "No x86_64 build could start"]),
        (1.0, {"Arm64Vcpu": "2", "MaxVcpus": "1"}, ["No arm64 build could start"]),
        (0.0, {"Arm64Capacity": "FARGATE_SPOT", "X8664Capacity": "FARGATE_SPOT"}, []),
    ],
)
def test_on_demand_capacity_is_judged_by_the_parameters(
    quota: float, parameters: dict[str, str], words: list[str]
) -> None:
    quotas = {**PLENTY, "Fargate On-Demand vCPU resource count": quota}
    found = list(preflight.capacity(quotas, destination(**parameters), TEMPLATES))
    assert len(found) == len(words)
    assert all(word in finding.what for finding, word in zip(found, words, strict=True))
    assert all("Service Quotas" in finding.todo and not finding.stops for finding in found)


def test_spot_capacity_is_judged_where_it_is_used() -> None:
    quotas = {**PLENTY, "Fargate Spot vCPU resource count": 0.0}
    assert list(preflight.capacity(quotas, destination(), TEMPLATES)) == []
    [found] = preflight.capacity(quotas, destination(X8664Capacity="FARGATE_SPOT"), TEMPLATES)
    assert "No x86_64 build could start: Fargate Spot vCPU" in found.what


def asked(fill: Callable[[Stubber], None]) -> Any:
    quotas = client("service-quotas")
    with Stubber(quotas) as stub:
        fill(stub)
        return preflight._quotas(SimpleNamespace(client=lambda _: quotas), "fargate")  # type: ignore[arg-type]


def test_quotas_are_read_by_name_from_all_pages() -> None:
    def fill(stub: Stubber) -> None:
        for number, more in enumerate(({"NextToken": "2"}, {})):
            stub.add_response(
                "list_service_quotas", {"Quotas": [{"QuotaName": f"q{number}", "Value": 6.0}], **more}
            )

    assert asked(fill) == {"q0": 6.0, "q1": 6.0}


def test_a_quota_that_may_not_be_read_is_said_and_stops_nothing() -> None:
    why = asked(lambda stub: stub.add_client_error("list_service_quotas", "AccessDeniedException"))
    assert why == "not allowed"
    found: list[Finding] = [
        *preflight.machines(why, TEMPLATES, is_first=True),
        *preflight.capacity(why, destination(), TEMPLATES),
    ]
    assert len(found) == 2
    for finding in found:
        assert "could not be read (not allowed)" in finding.what
        assert "ListServiceQuotas" in finding.todo
        assert not finding.stops


def test_a_region_without_service_quotas_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    quotas = client("service-quotas")

    def unreachable(**_: Any) -> None:
        raise EndpointConnectionError(endpoint_url="https://servicequotas.example.com")

    quotas.meta.events.register("before-send", unreachable)
    why = preflight._quotas(SimpleNamespace(client=lambda _: quotas), "fargate")  # type: ignore[arg-type]
    assert why == "EndpointConnectionError"


# ---------------------------------------------------------------- samconfig


@pytest.mark.parametrize(
    "overrides, expected",
    [
        (r'"MaxVcpus=\"4\" BucketName=\"\" NoProxy=\"a b\""',
         {"MaxVcpus": "4", "BucketName": "", "NoProxy": "a b"}),
        ('"MaxVcpus=4 IndexUrl=https://x/?a=b"', {"MaxVcpus": "4", "IndexUrl": "https://x/?a=b"}),
        ("""["MaxVcpus=4 A='1'", 'NoProxy="a b"', ["B=2"]]""",
         {"MaxVcpus": "4", "A": "1", "NoProxy": "a b", "B": "2"}),
        ('"ParameterKey=MaxVcpus,ParameterValue=4 ParameterKey=NoProxy,ParameterValue=a,b"',
         {"MaxVcpus": "4", "NoProxy": "a,b"}),
        ('{MaxVcpus = 4, SubnetIds = ["subnet-1", "subnet-2"], BucketName = "mine"}',
         {"MaxVcpus": "4", "SubnetIds": "subnet-1,subnet-2", "BucketName": "mine"}),
        ('''"NotificationEmail=o'brien@example.com MaxVcpus=4"''',
         {"NotificationEmail": "o'brien@example.com", "MaxVcpus": "4"}),
        (r"""'SystemPackages="gcc a\ b" Name="x=\"1\""'""", {"SystemPackages": "gcc a b", "Name": 'x="1"'}),
        ('""', {}),
    ],
)  # fmt: skip
def test_parameters_are_read_as_sam_reads_them(tmp_path: Path, overrides: str, expected: Any) -> None:
    path = tmp_path / "samconfig.toml"
    path.write_text(f'[default.deploy.parameters]\nstack_name = "s"\nparameter_overrides = {overrides}\n')
    assert StackConfig.read(path).parameters == expected


def test_before_sam_was_answered_there_are_none() -> None:
    assert StackConfig.read(ROOT / "samconfig.toml").parameters is None
