"""What ``make deploy`` looks for before it deploys, as a command against the embedded AWS."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from moto.cloudformation import cloudformation_backends
from moto.cloudformation.models import Event
from moto.iam.models import SERVICE_NAME_CONVERSION

from local.settings import ACCOUNT_ID, REGION, ROOT

from .owner import Owner


@pytest.fixture(autouse=True)
def names_of_linked_roles(monkeypatch: pytest.MonkeyPatch) -> None:
    """As AWS has them; moto knows those of three other services."""
    monkeypatch.setitem(SERVICE_NAME_CONVERSION, "batch", "Batch")
    monkeypatch.setitem(SERVICE_NAME_CONVERSION, "ecs", "ECS")


def answered(owner: Owner) -> None:
    """As after sam's questions."""
    config = owner.folder / "samconfig.toml"
    config.write_text(config.read_text() + 'parameter_overrides = "MaxVcpus=\\"4\\""\n')


def into(owner: Owner, status: str, *failed: tuple[str, str]) -> None:
    """Put the stack into a state, with events of what failed."""
    stack = cloudformation_backends[ACCOUNT_ID][REGION].get_stack("removable")
    stack.status = status
    for name, reason in failed:
        stack.events.append(
            Event(
                stack_id=stack.stack_id,
                stack_name=stack.name,
                logical_resource_id=name,
                physical_resource_id="x",
                resource_type="AWS::SQS::Queue",
                resource_status="CREATE_FAILED",
                resource_status_reason=reason,
                resource_properties=None,
            )
        )


def test_it_says_who_deploys_where_to_and_makes_the_roles(owner: Owner) -> None:
    answered(owner)
    done = owner.run("preflight")
    assert done.returncode == 0, done.stderr
    assert f"Deploying removable to us-east-1, account {ACCOUNT_ID}, as arn:aws:" in done.stderr
    assert "AWSServiceRoleForBatch was missing and is made" in done.stderr
    assert done.stdout == ""
    again = owner.run("preflight")
    assert "AWSServiceRole" not in again.stderr
    # The embedded AWS has no quotas: that is said, and stops nothing.
    assert "CodeBuild's quotas could not be read" in again.stderr
    assert again.returncode == 0


def test_before_the_first_deployment_sam_is_to_ask(owner: Owner) -> None:
    done = owner.run("preflight")
    assert done.stdout == "--guided --stack-name removable --region us-east-1\n"


def test_without_anybody_to_ask_sam_does_not(owner: Owner) -> None:
    done = owner.run("preflight", "--ci")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "--no-confirm-changeset --no-fail-on-empty-changeset\n"


def test_at_a_terminal_name_and_region_are_asked_for_before_they_are_judged(owner: Owner) -> None:
    """sam asks only when the checks are done."""
    leader, follower = pty.openpty()
    os.write(leader, f"{'l' * 50}\neu-west-1\n".encode())
    done = subprocess.run(
        [sys.executable, "-m", "stack", "preflight"],
        cwd=owner.folder,
        env=owner.environment,
        stdin=follower,
        capture_output=True,
        text=True,
        check=False,
    )
    os.close(leader)
    os.close(follower)
    assert done.returncode == 1
    assert "Stack name [removable]: " in done.stderr
    assert "Region [us-east-1]: " in done.stderr
    assert "in eu-west-1" in done.stderr or "to eu-west-1" in done.stderr
    assert "The stack's name is too long by" in done.stderr
    assert done.stdout == ""


def test_a_failed_first_attempt_is_named_with_its_reasons(deployed: Owner) -> None:
    into(
        deployed,
        "ROLLBACK_COMPLETE",
        ("Image", "Cannot have more than 0 builds in queue for the account"),
        ("UnansweredUploads", "Resource creation cancelled"),
    )
    done = deployed.run("preflight", "--ci")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "left the stack removable in ROLLBACK_COMPLETE" in done.stderr
    assert "then make delete, then make deploy" in done.stderr
    assert "Image: Cannot have more than 0 builds" in done.stderr
    assert "cancelled" not in done.stderr
    # And that is a way on.
    gone = deployed.run("delete", answer="removable\n")
    assert gone.returncode == 0, gone.stderr
    assert deployed.run("preflight", "--ci").returncode == 0


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    "status, words",
    [
        ("ROLLBACK_FAILED", "then make delete, then make deploy"),
        ("DELETE_FAILED", "then make delete, then make deploy"),
        ("CREATE_IN_PROGRESS", "Wait until it is done"),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "Wait until it is done"),
        ("UPDATE_ROLLBACK_FAILED", "continue-update-rollback --stack-name removable --region us-east-1"),
        ("CREATE_COMPLETE", None),
        ("UPDATE_COMPLETE", None),
        ("UPDATE_ROLLBACK_COMPLETE", None),
        ("CREATE_FAILED", None),
    ],
)
def test_the_state_of_an_earlier_attempt_is_judged(deployed: Owner, status: str, words: str | None) -> None:
    into(deployed, status)
    try:
        done = deployed.run("preflight", "--ci")
    finally:
        into(deployed, "CREATE_COMPLETE")
    assert done.returncode == (1 if words else 0), done.stderr
    assert (words or "") in done.stderr
    assert ("Nothing was deployed." in done.stderr) == bool(words)


def test_somebody_else_s_stack_of_that_name_is_not_deployed_over(owner: Owner) -> None:
    client = owner.aws.clients.get("cloudformation")
    template = {"Description": "Something else", "Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}
    client.create_stack(StackName="removable", TemplateBody=json.dumps(template))
    try:
        done = owner.run("preflight", "--ci")
    finally:
        client.delete_stack(StackName="removable")
    assert done.returncode == 1
    assert "it is not one of Layerdrop's" in done.stderr


@pytest.mark.parametrize(
    "variables, words",
    [
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "There are no valid AWS credentials"),
        ({"AWS_REGION": None, "AWS_DEFAULT_REGION": None}, "It is not known which region is meant"),
    ],
)
def test_without_credentials_or_a_region_it_says_so(
    owner: Owner, variables: dict[str, Any], words: str
) -> None:
    (owner.folder / "samconfig.toml").write_text('[default.deploy.parameters]\nstack_name = "removable"\n')
    done = owner.run("preflight", "--ci", **variables)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.sample(1)
@pytest.mark.parametrize("ci, expected", [("true", True), ("", False), ("false", False)])
def test_make_deploy_passes_on_what_sam_is_told(
    owner: Owner, tmp_path: Path, ci: str, expected: bool
) -> None:
    """make, with a stand-in for sam: what it is called with, and that it is not when a check fails."""
    sam = tmp_path / "sam"
    sam.write_text(f'#!/bin/sh\necho "$*" >> {tmp_path}/calls\n')
    sam.chmod(0o755)
    made = ["--assume-old=.venv-sam/sam.stamp", "--assume-old=.venv/run.stamp"]

    def deploy(**variables: str) -> list[str]:
        (tmp_path / "calls").unlink(missing_ok=True)
        subprocess.run(
            [
                "make",
                "--silent",
                *made,
                f"SAM={sam}",
                f"CI={ci}",
                f"BIN={Path(sys.executable).parent}",
                "deploy",
            ],
            cwd=ROOT,
            env=owner.environment | {"PATH": os.environ["PATH"], **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        return (tmp_path / "calls").read_text().splitlines()

    calls = deploy()
    assert calls[0] == "build"
    assert ("--no-confirm-changeset --no-fail-on-empty-changeset" in calls[1]) == expected
    assert ("--guided" in calls[1]) == (not expected)
    assert deploy(AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="") == ["build"]
