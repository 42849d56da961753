"""What would make a deployment fail, or its builds wait, looked for before it begins.

Only service-linked roles are made; everything else is looked at and said.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from stack.inventory import OURS, described

if TYPE_CHECKING:
    from collections.abc import Iterator

    import boto3

    from stack.templates import Templates

# https://docs.aws.amazon.com/batch/latest/userguide/using-service-linked-roles.html
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/using-service-linked-roles.html
LINKED_ROLES: Mapping[str, str] = {
    "AWSServiceRoleForBatch": "batch.amazonaws.com",
    "AWSServiceRoleForECS": "ecs.amazonaws.com",
}
# Quotas by their names in Service Quotas, and how the template's parameters call the capacity.
FARGATE: Mapping[str, str] = {
    "FARGATE": "Fargate On-Demand vCPU resource count",
    "FARGATE_SPOT": "Fargate Spot vCPU resource count",
}
MACHINE = "Concurrently running builds for {} environment"
# A stack in these states takes no update:
# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html
_DEAD = ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED")
_DENIED = ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation")
_NOT_ALLOWED = "not allowed"
_REASONS_SHOWN = 3
_GIVEN = "parameter_overrides in samconfig.toml"


@dataclass(frozen=True)
class Finding:
    """Something that was found.

    Attributes:
        what: One sentence.
        todo: What to do about it; empty if nothing.
        stops: Whether a deployment cannot succeed with it.
    """

    what: str
    todo: str = ""
    stops: bool = False


@dataclass(frozen=True)
class Destination:
    """Where a stack is to be, and who deploys it.

    Attributes:
        name, region, account: Where.
        caller: Who deploys it.
        parameters: The template's parameters that are given.
        previous: What a stack that stands has for parameters: sam leaves it those that are not given.
    """

    name: str
    region: str
    account: str
    caller: str
    parameters: Mapping[str, str]
    previous: Mapping[str, str] = field(default_factory=dict)

    @property
    def values(self) -> Mapping[str, str]:
        """The parameters as they will be, but for the template's defaults."""
        return {**self.previous, **self.parameters}


def identify(session: boto3.Session, name: str, parameters: Mapping[str, str]) -> Destination:
    """Find out who deploys, and where to.

    Raises:
        botocore.exceptions.BotoCoreError, ClientError: There are no credentials, no region, or no network.
    """
    client = session.client("cloudformation")  # says so when no region is known, as STS does not
    identity = session.client("sts").get_caller_identity()
    stack = described(client, name) or {}
    previous = {each["ParameterKey"]: each["ParameterValue"] for each in stack.get("Parameters", ())}
    return Destination(
        name, client.meta.region_name, identity["Account"], identity["Arn"], parameters, previous
    )


def check(session: boto3.Session, to: Destination, templates: Templates) -> Iterator[Finding]:
    """Look for all that is known to go wrong."""
    status, findings = earlier_attempt(session, to)
    yield from findings
    yield from too_long_names(to, templates)
    wrong = list(values(to, templates))
    yield from wrong
    yield from networks(to, templates)
    yield from linked_roles(session)
    is_first = status in (None, "IMPORT_COMPLETE")  # nothing, or no more than a bucket that was taken over
    yield from machines(_quotas(session, "codebuild"), templates, is_first=is_first)
    if not any(finding.stops for finding in wrong):
        yield from capacity(_quotas(session, "fargate"), to, templates)


# ---------------------------------------------------------------- an earlier attempt


def earlier_attempt(session: boto3.Session, to: Destination) -> tuple[str | None, list[Finding]]:
    """Return the status of the stack if it was ever deployed, and what stands against deploying it now."""
    client = session.client("cloudformation")
    stack = described(client, to.name)
    if stack is None or stack["StackStatus"] == "REVIEW_IN_PROGRESS":
        return None, []
    status = stack["StackStatus"]
    if not stack.get("Description", "").startswith(OURS):
        what = f"There is a stack {to.name} already, and it is not one of Layerdrop's."
        return status, [Finding(what, "Choose another name: stack_name in samconfig.toml.", stops=True)]
    if status.endswith("_IN_PROGRESS"):
        what = f"CloudFormation is at work on the stack {to.name} ({status})."
        return status, [Finding(what, "Wait until it is done, then make deploy again.", stops=True)]
    if status in _DEAD:
        why = "".join(f"\n      {reason}" for reason in failures(client, stack["StackId"]))
        what = (
            f"An earlier attempt failed and left the stack {to.name} in {status}, which nothing can update."
        )
        todo = f"Mend what it failed on, then make delete, then make deploy.{why}"
        return status, [Finding(what, todo, stops=True)]
    if status == "UPDATE_ROLLBACK_FAILED":
        what = f"CloudFormation could not take back a failed update of the stack {to.name} ({status})."
        todo = (
            "Mend what its events name, then: aws cloudformation continue-update-rollback "
            f"--stack-name {to.name} --region {to.region}"
        )
        return status, [Finding(what, todo, stops=True)]
    return status, []


def failures(client: Any, stack: str) -> list[str]:
    """Return what the resources say that failed first."""
    pages = client.get_paginator("describe_stack_events").paginate(StackName=stack)
    failed = [
        f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason', 'no reason given')}"
        for page in pages
        for event in page["StackEvents"]
        if event["ResourceStatus"].endswith("_FAILED") and event.get("PhysicalResourceId") != stack
    ]
    # Those that were only stopped by another's failure say so.
    return [reason for reason in reversed(failed) if "cancelled" not in reason][:_REASONS_SHOWN]


# ---------------------------------------------------------------- parameters


def values(to: Destination, templates: Templates) -> Iterator[Finding]:
    """Say which parameters CloudFormation would not take, and which sam would leave out without a word.

    sam hands on those that the template has (samcli/commands/deploy/deploy_context.py, merge_parameters).
    """
    declared = templates.root["Parameters"]
    for name, value in to.parameters.items():
        if name not in declared:
            like = difflib.get_close_matches(name, declared, 1)
            meant = f" Is {like[0]} meant?" if like else ""
            what = f"{name} counts for nothing: the template has no such parameter.{meant}"
            yield Finding(what, f"Mend it, or take it out: {_GIVEN}.")
        elif wanted := _misfit(declared[name], value):
            yield Finding(f"{name} cannot be {value!r}: it is {wanted}.", f"Mend it: {_GIVEN}.", stops=True)


def _misfit(declared: Mapping[str, Any], value: str) -> str:
    """What a parameter has to be, if a value is not that.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/parameters-section-structure.html
    """
    if "AllowedValues" in declared:
        allowed = [str(one) for one in declared["AllowedValues"]]
        return "" if value in allowed else f"one of {', '.join(allowed)}"
    if declared["Type"] == "Number":
        least, most = declared.get("MinValue"), declared.get("MaxValue")
        try:
            number = float(value)
            fits = (least is None or number >= least) and (most is None or number <= most)
        except ValueError:
            fits = False
        bounds = [f"from {least}"] * (least is not None) + [f"up to {most}"] * (most is not None)
        return "" if fits else " ".join(["a number", *bounds])
    if len(value) > declared.get("MaxLength", len(value)):
        return f"at most {declared['MaxLength']} characters long"
    if re.search(declared.get("AllowedPattern", ""), value):
        return ""
    return declared.get("ConstraintDescription") or f"what matches {declared['AllowedPattern']}"


# ---------------------------------------------------------------- who is shown the catalogue


def networks(to: Destination, templates: Templates) -> Iterator[Finding]:
    """Say which networks of the catalogue's allow-list are none: they would let nobody in."""
    given = templates.parameter("CatalogueAddresses", to.values)
    for network in filter(None, given.split(",")):
        try:
            if re.search(r"/0\d", network):  # which Python reads, and the function does not
                raise ValueError("its bits begin with 0")  # noqa: TRY301
            ipaddress.ip_network(network)
        except ValueError as error:
            what = f"CatalogueAddresses has {network}, which is no network: {error}."
            yield Finding(what, "Write a network's own address and its bits: 203.0.113.0/24.", stops=True)
    if given and templates.parameter("CatalogueAccess", to.values) == "PRIVATE":
        what = "CatalogueAddresses counts for nothing: CatalogueAccess is PRIVATE."
        yield Finding(what, "Set CatalogueAccess to CLOUDFRONT if the catalogue is to have an address.")


# ---------------------------------------------------------------- names


def too_long_names(to: Destination, templates: Templates) -> Iterator[Finding]:
    """Say which names that are made of the stack's AWS would not take."""
    choose = "Choose another name: stack_name in samconfig.toml."
    if not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9-]{0,127}", to.name):
        what = f"{to.name} cannot be a stack's name: letters, digits and hyphens, the first a letter."
        yield Finding(what, choose, stops=True)
        return
    for derived in templates.names(to.name, to.region, to.account, to.values):
        if derived.is_valid:
            continue
        if (over := len(derived.name) - derived.longest) > 0:
            what = (
                f"The stack's name is too long by {over}: {derived.resource} would be called {derived.name}, "
                f"and its name may have {derived.longest} characters."
            )
            yield Finding(what, choose, stops=True)
        else:
            what = f"{derived.resource} would be called {derived.name}, which AWS does not take."
            yield Finding(
                what, "Choose a stack's name of lower-case letters, digits and hyphens.", stops=True
            )


# ---------------------------------------------------------------- service-linked roles


def linked_roles(session: boto3.Session) -> Iterator[Finding]:
    """Make the service-linked roles that Batch on Fargate needs, where they are missing.

    Batch and ECS make them at their first use, but then that use may come too early for them.
    """
    iam = session.client("iam")
    for role, service in LINKED_ROLES.items():
        try:
            iam.get_role(RoleName=role)
        except iam.exceptions.NoSuchEntityException:
            yield _make(iam, role, service)
        except (ClientError, BotoCoreError) as error:
            yield Finding(
                f"It is not known whether the account has {role} ({_why(error)}).", _by_hand(service)
            )


def _make(iam: Any, role: str, service: str) -> Finding:
    try:
        iam.create_service_linked_role(AWSServiceName=service)
    except iam.exceptions.InvalidInputException:
        return Finding(f"The service-linked role {role} is there.")  # made by somebody else at this moment
    except (ClientError, BotoCoreError) as error:
        what = f"The account has no {role} yet, and it could not be made ({_why(error)})."
        return Finding(what, _by_hand(service))
    return Finding(f"The service-linked role {role} was missing and is made.")


def _by_hand(service: str) -> str:
    command = f"aws iam create-service-linked-role --aws-service-name {service}"
    return f"Have somebody with the right to it run this first, or the first deployment may fail: {command}"


# ---------------------------------------------------------------- quotas


def machines(quotas: Quotas, templates: Templates, *, is_first: bool) -> Iterator[Finding]:
    """Say whether CodeBuild may run the builds of the images: in a new account it often may not."""
    names = [MACHINE.format(machine) for machine in dict.fromkeys(templates.machines())]
    if not isinstance(quotas, Mapping):
        yield _unread(
            quotas, "CodeBuild's quotas", "where they are 0, as in many a new account, no image can be built"
        )
        return
    for name in names:
        if name in quotas and quotas[name] < 1:
            what = f"CodeBuild may run no builds of a kind that the images take: {name} is 0."
            yield Finding(what, _ask_for(name, "codebuild", 1), stops=is_first)


def capacity(quotas: Quotas, to: Destination, templates: Templates) -> Iterator[Finding]:
    """Say whether Fargate lets as many build jobs run as the parameters would."""
    if not isinstance(quotas, Mapping):
        yield _unread(quotas, "Fargate's quotas", "beyond them, builds wait")
        return
    most = float(templates.parameter("MaxVcpus", to.values))
    late: dict[str, list[str]] = {}
    for prefix, architecture in (("Arm64", "arm64"), ("X8664", "x86_64")):
        name = FARGATE[templates.parameter(f"{prefix}Capacity", to.values)]
        one = float(templates.parameter(f"{prefix}Vcpu", to.values))
        if name not in quotas:
            continue
        if quotas[name] < one:
            what = (
                f"No {architecture} build could start: {name} is {quotas[name]:g}, and {prefix}Vcpu {one:g}."
            )
            yield Finding(what, _ask_for(name, "fargate", one))
        elif quotas[name] < most:
            late.setdefault(name, []).append(architecture)
    for name, architectures in late.items():
        what = (
            f"{' and '.join(architectures)} builds wait earlier than MaxVcpus={most:g} says: "
            f"{name} is {quotas[name]:g}."
        )
        yield Finding(what, f"That is no fault; for more, {_ask_for(name, 'fargate', most)}")


Quotas = Mapping[str, float] | str
"""Values by the quotas' names, or why they could not be read."""


def _quotas(session: boto3.Session, service: str) -> Quotas:
    try:
        pages = session.client("service-quotas").get_paginator("list_service_quotas")
        return {
            quota["QuotaName"]: quota["Value"]
            for page in pages.paginate(ServiceCode=service)
            for quota in page["Quotas"]
            if "Value" in quota
        }
    except (ClientError, BotoCoreError) as error:
        return _why(error)


def _unread(why: str, what: str, otherwise: str) -> Finding:
    todo = (
        "To have them checked, take the right to servicequotas:ListServiceQuotas along."
        if why == _NOT_ALLOWED
        else "Service Quotas in the console shows them."
    )
    return Finding(f"{what} could not be read ({why}): {otherwise}.", todo)


def _ask_for(name: str, service: str, value: float) -> str:
    return f'ask for {value:g} or more of "{name}" in Service Quotas, service {service}.'


def _why(error: Exception) -> str:
    code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
    return _NOT_ALLOWED if code in _DENIED else code
