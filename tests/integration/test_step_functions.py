"""Tasks that run a job and wait for it, and the start of executions."""

import json
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl
from moto.stepfunctions.parser.asl.parse.preprocessor import Preprocessor
from moto.stepfunctions.parser.backend.execution import Execution

from local.deploy import Deployment
from local.gaps import batch, stepfunctions
from local.server import EmbeddedAws

from .conftest import eventually
from .test_batch import TEMPLATE as JOBS

DEFINITION = {
    "StartAt": "Identify",
    "States": {
        "Identify": {
            "Type": "Pass",
            "Parameters": {"started.$": "$$.Execution.StartTime", "script.$": "$.script"},
            "Next": "Run",
        },
        "Run": {
            "Type": "Task",
            "Resource": "arn:${Partition}:states:::batch:submitJob.sync",
            "Parameters": {
                "JobName": "job",
                "JobQueue": "${Queue}",
                "JobDefinition": "${Job}",
                "ContainerOverrides": {"Command.$": "States.Array($.script)"},
            },
            "TimeoutSeconds": 3,
            "ResultPath": "$.job",
            "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "Caught"}],
            "End": True,
        },
        "Caught": {"Type": "Pass", "End": True},
    },
}

TEMPLATE = JOBS.replace("Resources:\n", "Transform: AWS::Serverless-2016-10-31\nResources:\n", 1).replace(
    "Outputs:\n",
    """
  Machine:
    Type: AWS::Serverless::StateMachine
    Properties:
      DefinitionUri: machine.json
      DefinitionSubstitutions: {Partition: aws, Queue: !Ref Queue, Job: !Ref Job}
      Role: !GetAtt MachineRole.Arn
  MachineRole:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument: {Version: "2012-10-17", Statement: []}
      Policies:
        - PolicyName: jobs
          PolicyDocument:
            Version: "2012-10-17"
            Statement: [{Effect: Allow, Action: "batch:*", Resource: "*"}]
Outputs:
  Machine: {Value: !Ref Machine}
""",
)


class Machine:
    """Starts executions and looks."""

    def __init__(self, aws: EmbeddedAws, stack: Deployment) -> None:
        self.sfn = aws.clients.stepfunctions
        self.batch = aws.clients.batch
        self.arn = stack.outputs["Machine"]

    def start(self, script: str, name: str | None = None) -> str:
        name = name or uuid.uuid4().hex
        given = json.dumps({"script": script})
        return self.sfn.start_execution(stateMachineArn=self.arn, name=name, input=given)["executionArn"]

    def end(self, execution: str) -> Mapping[str, Any]:
        def ended() -> Any:
            described = self.sfn.describe_execution(executionArn=execution)
            return described if described["status"] != "RUNNING" else None

        return eventually(ended, 30)

    def run(self, script: str) -> dict[str, Any]:
        ended = self.end(self.start(script))
        assert ended["status"] == "SUCCEEDED", ended
        return json.loads(ended["output"])

    def job_of(self, execution: str) -> str:
        def submitted() -> str | None:
            events = self.sfn.get_execution_history(executionArn=execution)["events"]
            outputs = [
                e["taskSubmittedEventDetails"]["output"] for e in events if e["type"] == "TaskSubmitted"
            ]
            return json.loads(outputs[0])["JobId"] if outputs else None

        return eventually(submitted, 10)

    def job_ended(self, job: str) -> Mapping[str, Any]:
        def ended() -> Any:
            [described] = self.batch.describe_jobs(jobs=[job])["jobs"]
            return described if described["status"] in ("SUCCEEDED", "FAILED") else None

        return eventually(ended, 10)


@pytest.fixture(scope="module")
def machine(aws: EmbeddedAws, project: Callable[..., Path]) -> Machine:
    template = project(TEMPLATE)
    (template.parent / "machine.json").write_text(json.dumps(DEFINITION))
    return Machine(aws, aws.deploy(template, "machines"))


def test_a_job_that_succeeds_gives_its_description_with_capitals(machine: Machine) -> None:
    job = machine.run("true")["job"]
    assert (job["Status"], job["Container"]["ExitCode"]) == ("SUCCEEDED", 0)
    assert {"Name": "MANAGED_BY_AWS", "Value": "STARTED_BY_STEP_FUNCTIONS"} in job["Container"]["Environment"]


def test_a_job_that_fails_is_the_cause_of_a_task_failure(machine: Machine) -> None:
    error = machine.run("exit 2")["error"]
    assert error["Error"] == "States.TaskFailed"
    cause = json.loads(error["Cause"])
    assert (cause["Status"], cause["Container"]["ExitCode"]) == ("FAILED", 2)
    assert cause["StatusReason"] == "Essential container in task exited"
    assert cause["Attempts"][-1]["Container"]["LogStreamName"].startswith("shell/default/")


def test_a_command_that_batch_refuses_is_an_error_of_batch(machine: Machine, aws: EmbeddedAws) -> None:
    definition = json.loads(
        json.dumps(DEFINITION).replace("${Queue}", "nobody").replace("${Partition}", "aws")
    )
    definition["States"]["Run"]["Parameters"]["JobDefinition"] = "nobody"
    role = machine.sfn.describe_state_machine(stateMachineArn=machine.arn)["roleArn"]
    arn = machine.sfn.create_state_machine(name="refused", definition=json.dumps(definition), roleArn=role)[
        "stateMachineArn"
    ]
    execution = machine.sfn.start_execution(stateMachineArn=arn, input='{"script": "true"}')["executionArn"]
    error = json.loads(machine.end(execution)["output"])["error"]
    assert error["Error"] == "Batch.ClientException"


def test_a_task_that_times_out_takes_its_job_along(machine: Machine, tmp_path: Path) -> None:
    execution = machine.start(f"sleep 20; touch {tmp_path}/woke")
    error = json.loads(machine.end(execution)["output"])["error"]
    assert error["Error"] == "States.Timeout"
    job = machine.job_ended(machine.job_of(execution))
    assert (job["status"], job["isTerminated"]) == ("FAILED", True)
    assert not (tmp_path / "woke").exists()


def test_stopping_an_execution_takes_its_job_along(machine: Machine, tmp_path: Path) -> None:
    execution = machine.start(f"touch {tmp_path}/running; sleep 20")
    eventually((tmp_path / "running").exists, 10)
    machine.sfn.stop_execution(executionArn=execution)
    assert machine.end(execution)["status"] == "ABORTED"
    assert machine.job_ended(machine.job_of(execution))["isTerminated"]


def test_the_end_of_an_execution_is_told_on_the_bus(machine: Machine, aws: EmbeddedAws) -> None:
    sqs, events = aws.clients.get("sqs"), aws.clients.get("events")
    queue = sqs.create_queue(QueueName="ends")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    pattern = {"source": ["aws.states"], "detail": {"stateMachineArn": [machine.arn]}}
    events.put_rule(Name="ends", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="ends", Targets=[{"Id": "queue", "Arn": arn}])
    execution = machine.start("true")
    [message] = eventually(lambda: sqs.receive_message(QueueUrl=queue).get("Messages"), 20)
    told = json.loads(message["Body"])
    assert told["detail-type"] == "Step Functions Execution Status Change"
    assert (told["detail"]["executionArn"], told["detail"]["status"]) == (execution, "SUCCEEDED")
    events.remove_targets(Rule="ends", Ids=["queue"])
    events.delete_rule(Name="ends")


def test_times_in_the_context_are_text_of_iso_8601(machine: Machine) -> None:
    started = machine.run("true")["started"]
    assert time.strptime(started[:19], "%Y-%m-%dT%H:%M:%S")
    assert started.endswith("Z")
    assert len(started) == len("2026-11-21T02:38:28.839Z")


def test_many_starts_under_one_name_start_one_execution(machine: Machine, linger) -> None:
    linger(Execution)
    name = uuid.uuid4().hex

    def start(number: int) -> bool:
        try:
            machine.start(f"true {number}", name)
        except machine.sfn.exceptions.ExecutionAlreadyExists:
            return False
        return True

    with ThreadPoolExecutor(16) as threads:
        started = list(threads.map(start, range(32)))
    assert started.count(True) == 1
    arns = [e["executionArn"] for e in machine.sfn.list_executions(stateMachineArn=machine.arn)["executions"]]
    assert len([arn for arn in arns if arn.endswith(name)]) == 1


RETRYING = {
    "StartAt": "Try",
    "States": {
        "Try": {
            "Type": "Task",
            "Resource": "arn:aws:states:::sqs:sendMessage",
            "Parameters": {"QueueUrl": "http://nobody/here", "MessageBody": "a"},
            "Retry": [
                {"ErrorEquals": ["States.ALL"], "IntervalSeconds": 1, "MaxAttempts": 2, "BackoffRate": 1}
            ],
            "End": True,
        }
    },
}


def test_executions_of_one_definition_count_their_tries_apart(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is parsed once for all of them."""
    parsed: list[str] = []
    visit = Preprocessor.visitState_machine

    def noting(preprocessor: Preprocessor, tree: Any) -> Any:
        parsed.append(tree.getText())
        return visit(preprocessor, tree)

    monkeypatch.setattr(Preprocessor, "visitState_machine", noting)
    monkeypatch.setattr(retrier_decl, "time", SimpleNamespace(sleep=lambda _seconds: time.sleep(0.05)))
    role = machine.sfn.describe_state_machine(stateMachineArn=machine.arn)["roleArn"]
    made = machine.sfn.create_state_machine(name="retries", definition=json.dumps(RETRYING), roleArn=role)
    arn = made["stateMachineArn"]
    started = [machine.sfn.start_execution(stateMachineArn=arn)["executionArn"] for _ in range(4)]
    for execution in started:
        assert machine.end(execution)["status"] == "FAILED"
        events = machine.sfn.get_execution_history(executionArn=execution)["events"]
        assert sum(event["type"] == "TaskFailed" for event in events) == 3
    assert len(parsed) == 1


def test_the_newest_histories_and_jobs_are_kept(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    first = machine.start("true")
    job = machine.job_of(first)
    machine.end(first)
    monkeypatch.setattr(stepfunctions, "HISTORIES", 2)
    monkeypatch.setattr(batch, "JOBS", 2)
    newer = [machine.start("true") for _ in range(2)]
    kept = [machine.job_of(execution) for execution in newer]
    assert [machine.end(execution)["status"] for execution in newer] == ["SUCCEEDED"] * 2

    def events(execution: str) -> int:
        return len(machine.sfn.get_execution_history(executionArn=execution)["events"])

    eventually(lambda: events(first) == 0)
    assert all(events(execution) for execution in newer)
    assert machine.end(first)["status"] == "SUCCEEDED", "that it was, is known"
    with pytest.raises(machine.sfn.exceptions.ExecutionAlreadyExists):
        machine.start("true", first.rpartition(":")[2])
    assert machine.batch.describe_jobs(jobs=[job])["jobs"] == []
    assert len(machine.batch.describe_jobs(jobs=kept)["jobs"]) == 2


@pytest.mark.parametrize("name", ["x" * 81, "with space", "colon:colon", "star*"])
def test_a_name_that_step_functions_refuses_is_refused(machine: Machine, name: str) -> None:
    with pytest.raises(ClientError):
        machine.start("true", name)
