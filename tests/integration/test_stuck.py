"""Jobs that no compute environment has room for: canceled by the queue, answered, and told by mail."""

import json

import pytest

from local.server import EmbeddedAws

from .conftest import Pipeline, eventually


@pytest.fixture(scope="module")
def small(aws: EmbeddedAws) -> Pipeline:
    """The real stack, its jobs larger than what may be at work at once."""
    parameters = {
        "BucketName": "small",
        "Arm64Vcpu": "2",
        "Arm64Memory": "4096",
        "MaxVcpus": "1",
        "NotificationEmail": "somebody@example.com",
    }
    stack = aws.deploy(stack="small", parameters=parameters)
    return Pipeline(aws, stack, "small")


@pytest.mark.long
def test_a_job_without_a_place_is_answered_and_told(small: Pipeline) -> None:
    sns, sqs = small.aws.clients.get("sns"), small.aws.clients.get("sqs")
    queue = sqs.create_queue(QueueName="mails")["QueueUrl"]
    [topic] = [topic["TopicArn"] for topic in sns.list_topics()["Topics"] if ":small-" in topic["TopicArn"]]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)

    manifest = small.build("requirements/arm64/large/requirements.txt", "idna == 3.10\n")

    assert manifest["status"] == "FAILED"
    [layer] = manifest["layers"]
    assert layer["error"]["code"] == manifest["error"]["code"] == "JOB_NOT_STARTED"
    assert "MaxVcpus" in layer["error"]["hint"]
    assert layer["error"]["details"]["attempts"] == 0

    told: list[dict[str, object]] = []

    def both() -> bool:
        messages = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", [])
        told.extend(json.loads(json.loads(message["Body"])["Message"]) for message in messages)
        return {event["detail-type"] for event in told} == {"Batch Job Queue Blocked", "Layer Build Ended"}

    assert eventually(both)
    # The other queue has room.
    manifest = small.build("requirements/x86_64/little/requirements.txt", "idna == 3.10\n")
    assert manifest["status"] == "SUCCEEDED"
