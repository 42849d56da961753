"""Jobs: shell commands in place of the builder."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.deploy import Deployment
from local.gaps.batch import LocalJob
from local.server import EmbeddedAws

from .conftest import eventually

TEMPLATE = """
Parameters:
  SubnetIds: {Type: "List<AWS::EC2::Subnet::Id>"}
  VpcId: {Type: AWS::EC2::VPC::Id}
Resources:
  Group:
    Type: AWS::EC2::SecurityGroup
    Properties: {GroupDescription: none, VpcId: !Ref VpcId}
  Wide: &environment
    Type: AWS::Batch::ComputeEnvironment
    Properties:
      Type: MANAGED
      ComputeResources: &resources
        {Type: FARGATE, MaxvCpus: 16, Subnets: !Ref SubnetIds, SecurityGroupIds: [!Ref Group]}
  Narrow:
    Type: AWS::Batch::ComputeEnvironment
    Properties:
      Type: MANAGED
      ComputeResources: {<<: *resources, MaxvCpus: 1}
  Queue:
    Type: AWS::Batch::JobQueue
    Properties:
      Priority: 1
      ComputeEnvironmentOrder: [{Order: 1, ComputeEnvironment: !Ref Wide}]
  NarrowQueue:
    Type: AWS::Batch::JobQueue
    Properties:
      Priority: 1
      ComputeEnvironmentOrder: [{Order: 1, ComputeEnvironment: !Ref Narrow}]
  Logs:
    Type: AWS::Logs::LogGroup
  Job:
    Type: AWS::Batch::JobDefinition
    Properties:
      Type: container
      PlatformCapabilities: [FARGATE]
      Timeout: {AttemptDurationSeconds: 60}
      RetryStrategy:
        Attempts: 3
        EvaluateOnExit:
          - {OnReason: "CannotPullContainerError*", Action: RETRY}
          - {OnExitCode: "75", Action: RETRY}
          - {OnReason: "*", Action: EXIT}
      ContainerProperties: &container
        Image: local/shell
        ExecutionRoleArn: arn:aws:iam::123456789012:role/nobody
        Environment: [{Name: COLOUR, Value: red}, {Name: SIZE, Value: small}]
        ResourceRequirements: [{Type: VCPU, Value: 1}, {Type: MEMORY, Value: 2048}]
        LogConfiguration:
          LogDriver: awslogs
          Options: {awslogs-group: !Ref Logs, awslogs-stream-prefix: shell}
  Unpullable:
    Type: AWS::Batch::JobDefinition
    Properties:
      Type: container
      RetryStrategy:
        Attempts: 2
        EvaluateOnExit:
          - {OnReason: "CannotPullContainerError*", Action: RETRY}
          - {OnReason: "*", Action: EXIT}
      ContainerProperties: {<<: *container, Image: local/nothing}
Outputs:
  Queue: {Value: !Ref Queue}
  NarrowQueue: {Value: !Ref NarrowQueue}
  Job: {Value: !Ref Job}
  Unpullable: {Value: !Ref Unpullable}
  Logs: {Value: !Ref Logs}
"""
ENDED = ("SUCCEEDED", "FAILED")


class Jobs:
    """Submits and looks."""

    def __init__(self, aws: EmbeddedAws, stack: Deployment) -> None:
        self.batch = aws.clients.batch
        self.logs = aws.clients.get("logs")
        self.names = stack.outputs

    def submit(self, script: str, queue: str = "Queue", definition: str = "Job", **more: Any) -> str:
        overrides = {"command": [script], **more.pop("overrides", {})}
        return self.batch.submit_job(
            jobName="job",
            jobQueue=self.names[queue],
            jobDefinition=self.names[definition],
            containerOverrides=overrides,
            **more,
        )["jobId"]

    def look(self, job: str) -> Mapping[str, Any]:
        return self.batch.describe_jobs(jobs=[job])["jobs"][0]

    def end(self, job: str) -> Mapping[str, Any]:
        eventually(lambda: self.look(job)["status"] in ENDED, 30)
        return self.look(job)

    def run(self, script: str, **more: Any) -> Mapping[str, Any]:
        return self.end(self.submit(script, **more))

    def lines(self, stream: str) -> list[str]:
        events = self.logs.get_log_events(logGroupName=self.names["Logs"], logStreamName=stream)["events"]
        return [event["message"] for event in events]


@pytest.fixture(scope="module")
def jobs(aws: EmbeddedAws, project: Callable[..., Path]) -> Jobs:
    return Jobs(aws, aws.deploy(project(TEMPLATE), "jobs"))


@pytest.mark.long
def test_a_job_is_described_while_others_come(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    first, describe = jobs.submit("true"), LocalJob.describe

    def describe_and_submit(job: LocalJob) -> dict[str, Any]:
        if job.job_id == first:
            jobs.submit("true")
        return describe(job)

    monkeypatch.setattr(LocalJob, "describe", describe_and_submit)
    assert {job["jobId"] for job in jobs.batch.describe_jobs(jobs=[])["jobs"]} >= {first}


def test_a_job_that_ends_well_is_described_whole(jobs: Jobs) -> None:
    job = jobs.run("echo out; echo err >&2")
    assert job["status"] == "SUCCEEDED"
    assert "statusReason" not in job
    assert job["container"]["exitCode"] == 0
    assert job["createdAt"] <= job["startedAt"] <= job["stoppedAt"]
    [attempt] = job["attempts"]
    assert attempt["container"]["exitCode"] == 0
    assert attempt["container"]["logStreamName"] == job["container"]["logStreamName"]
    assert job["container"]["logStreamName"].startswith("shell/default/")
    assert jobs.lines(job["container"]["logStreamName"]) == ["out", "err"]


def test_a_job_has_its_own_variables_and_those_of_batch(jobs: Jobs) -> None:
    overrides = {"environment": [{"name": "SIZE", "value": "large"}]}
    job = jobs.run(
        'echo "$COLOUR $SIZE $AWS_BATCH_JOB_ATTEMPT $AWS_ACCESS_KEY_ID"; echo "$AWS_BATCH_JOB_ID"',
        overrides=overrides,
    )
    assert jobs.lines(job["container"]["logStreamName"]) == ["red large 1 ", job["jobId"]]  # no role, no key


def test_what_ecs_cannot_take_fails_before_it_starts(jobs: Jobs) -> None:
    """8,192 characters of overrides, the JSON and what Batch itself adds included."""
    assert jobs.run(f"true {'x' * 7_000}")["status"] == "SUCCEEDED"
    job = jobs.run(f"true {'x' * 8_192}")
    assert (job["status"], job["attempts"]) == ("FAILED", [])
    assert job["statusReason"] == "Container Overrides length must be at most 8192"
    with pytest.raises(ClientError, match="Job size must be less than 30 KiB"):
        jobs.submit(f"true {'x' * (30 << 10)}")


def test_a_revision_that_is_deregistered_takes_no_job(jobs: Jobs) -> None:
    container = {"image": "local/shell", "command": ["true"], "memory": 512, "vcpus": 1}
    arns = [
        jobs.batch.register_job_definition(
            jobDefinitionName="twice", type="container", containerProperties=container
        )["jobDefinitionArn"]
        for _ in range(2)
    ]
    jobs.batch.deregister_job_definition(jobDefinition=arns[0])
    queue = jobs.names["Queue"]
    with pytest.raises(ClientError, match="twice:1 is not in ACTIVE status"):
        jobs.batch.submit_job(jobName="job", jobQueue=queue, jobDefinition=arns[0])
    assert jobs.batch.submit_job(jobName="job", jobQueue=queue, jobDefinition=arns[1])["jobId"]


def test_describing_a_job_does_not_change_it(jobs: Jobs) -> None:
    job = jobs.run("true", overrides={"environment": [{"name": "SIZE", "value": "large"}]})
    assert jobs.look(job["jobId"]) == jobs.look(job["jobId"]) == job


@pytest.mark.parametrize(("code", "attempts"), [(2, 1), (70, 1), (75, 3)])
def test_the_exit_code_decides_whether_it_is_tried_again(jobs: Jobs, code: int, attempts: int) -> None:
    job = jobs.run(f'echo "try $AWS_BATCH_JOB_ATTEMPT"; exit {code}')
    assert (job["status"], job["statusReason"]) == ("FAILED", "Essential container in task exited")
    assert job["container"]["exitCode"] == code
    assert [attempt["container"]["exitCode"] for attempt in job["attempts"]] == [code] * attempts
    streams = [attempt["container"]["logStreamName"] for attempt in job["attempts"]]
    assert [jobs.lines(stream) for stream in streams] == [[f"try {n}"] for n in range(1, attempts + 1)]


def test_a_later_try_can_succeed(jobs: Jobs) -> None:
    job = jobs.run('test "$AWS_BATCH_JOB_ATTEMPT" = 2 || exit 75')
    assert job["status"] == "SUCCEEDED"
    assert [attempt["container"]["exitCode"] for attempt in job["attempts"]] == [75, 0]


def test_a_job_may_bring_its_own_retry_strategy(jobs: Jobs) -> None:
    job = jobs.run("exit 75", retryStrategy={"attempts": 1})
    assert len(job["attempts"]) == 1


def test_an_image_that_is_not_there_is_tried_again(jobs: Jobs) -> None:
    job = jobs.run("true", definition="Unpullable")
    assert job["status"] == "FAILED"
    assert "exitCode" not in job["container"]
    reasons = [attempt["container"]["reason"] for attempt in job["attempts"]]
    assert len(reasons) == 2
    assert all(reason.startswith("CannotPullContainerError") for reason in reasons)


def test_time_running_out_is_final(jobs: Jobs) -> None:
    job = jobs.run("sleep 60", timeout={"attemptDurationSeconds": 1})
    assert (job["status"], job["statusReason"]) == ("FAILED", "Job attempt duration exceeded timeout")
    assert len(job["attempts"]) == 1


def test_a_terminated_job_ends_with_the_reason_given(jobs: Jobs, tmp_path: Path) -> None:
    job = jobs.submit(f"echo $$ > {tmp_path}/pid; sleep 60; echo woke > {tmp_path}/woke")
    eventually((tmp_path / "pid").exists, 10)
    jobs.batch.terminate_job(jobId=job, reason="no longer wanted")
    ended = jobs.end(job)
    assert (ended["status"], ended["statusReason"]) == ("FAILED", "no longer wanted")
    assert ended["isTerminated"]
    assert not (tmp_path / "woke").exists()


def test_cancelling_takes_a_job_from_the_queue_but_stops_none_that_runs(jobs: Jobs, tmp_path: Path) -> None:
    script = f"touch {tmp_path}/running; until test -e {tmp_path}/go; do sleep 0.05; done"
    running = jobs.submit(script, queue="NarrowQueue")
    eventually((tmp_path / "running").exists, 10)
    queued = jobs.submit(f"touch {tmp_path}/ran", queue="NarrowQueue")
    assert jobs.look(queued)["status"] == "RUNNABLE"
    for job in (running, queued):
        jobs.batch.cancel_job(jobId=job, reason="cancelled")
    ended = jobs.end(queued)
    assert (ended["status"], ended["statusReason"]) == ("FAILED", "cancelled")
    assert jobs.look(running)["status"] == "RUNNING"
    (tmp_path / "go").touch()
    assert jobs.end(running)["status"] == "SUCCEEDED"
    assert not (tmp_path / "ran").exists()


def test_no_more_jobs_run_than_the_compute_environment_has_vcpus(jobs: Jobs, tmp_path: Path) -> None:
    # Each job fails if it meets another one.
    script = f"mkdir {tmp_path}/alone || exit 1; sleep 0.05; rmdir {tmp_path}/alone"
    submitted = [jobs.submit(script, queue="NarrowQueue") for _ in range(6)]
    assert {jobs.end(job)["status"] for job in submitted} == {"SUCCEEDED"}


def test_what_is_not_served_is_said(jobs: Jobs) -> None:
    first = jobs.submit("true")
    second = jobs.submit("true", dependsOn=[{"jobId": first}])
    assert "does not make a job wait" in jobs.end(second)["statusReason"]
    with pytest.raises(ClientError):
        jobs.submit("true", definition="Queue")
