"""Nested stacks: deployed from their own templates, with parameters in, outputs out and roles that count."""

from collections.abc import Callable
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from local.intrinsics import TemplateError
from local.server import EmbeddedAws

ROOT = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Days: {Type: Number, Default: 3}
Resources:
  Keeper:
    Type: AWS::Serverless::Application
    Properties:
      Location: keeper.yaml
      Parameters: {Days: !Ref Days, Box: !Ref Box}
  Second:
    Type: AWS::Serverless::Application
    DependsOn: Keeper
    Properties:
      Location: keeper.yaml
      Parameters: {Days: 5, Box: !GetAtt Keeper.Outputs.Queue}
  Box: {Type: AWS::SQS::Queue}
Outputs:
  Role: {Value: !GetAtt Keeper.Outputs.Role}
  Other: {Value: !GetAtt Second.Outputs.Role}
  Given: {Value: !GetAtt Second.Outputs.Given}
"""
KEEPER = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  Days: {Type: Number, MaxValue: 14}
  Box: {Type: String}
Rules:
  Odd:
    Assertions:
      - {Assert: !Contains [["3", "5", "15"], !Ref Days], AssertDescription: Days are odd}
Resources:
  Queue: {Type: AWS::SQS::Queue}
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument: {Version: "2012-10-17", Statement: []}
      Policies:
        - PolicyName: Send
          PolicyDocument:
            Version: "2012-10-17"
            Statement: [{Effect: Allow, Action: sqs:SendMessage, Resource: !GetAtt Queue.Arn}]
Outputs:
  Role: {Value: !GetAtt Role.Arn}
  Queue: {Value: !Ref Queue}
  Given: {Value: !Ref Box}
"""


@pytest.fixture
def template(project: Callable[..., Path]) -> Path:
    path = project(ROOT)
    path.with_name("keeper.yaml").write_text(KEEPER)
    return path


def test_what_is_nested_is_made_and_its_roles_are_judged(aws: EmbeddedAws, template: Path) -> None:
    stack = aws.deploy(template, "nested")
    assert stack.outputs["Given"] == stack.nested["Keeper"].values["Queue"]
    made = stack.all_values()
    inner = {f"{name}.{part}" for name in ("Keeper", "Second") for part in ("Queue", "Role")}
    assert made.keys() == {"Box", "Keeper", "Second"} | inner
    assert len({made["Box"], made["Keeper.Queue"], made["Second.Queue"]}) == 3
    queues = {name: made[f"{name}.Queue"] for name in ("Keeper", "Second")}
    for output, own, other in (("Role", "Keeper", "Second"), ("Other", "Second", "Keeper")):
        sqs = aws.clients.of_role(stack.outputs[output]).get("sqs")
        sqs.send_message(QueueUrl=queues[own], MessageBody="x")
        with pytest.raises(ClientError, match="not authorized"):
            sqs.send_message(QueueUrl=queues[other], MessageBody="x")


@pytest.mark.parametrize(("days", "told"), [("4", "Days are odd"), ("15", "Days may not be '15'")])
def test_what_a_nested_template_refuses_is_refused(
    aws: EmbeddedAws, template: Path, days: str, told: str
) -> None:
    with pytest.raises(TemplateError, match=rf"^Keeper \(.*{told}"):
        aws.deploy(template, f"nested-{days}", parameters={"Days": days})
