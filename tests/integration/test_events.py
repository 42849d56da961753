"""What functions are told of new objects, and how they are called."""

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from local import server
from local.deploy import Deployment
from local.server import EmbeddedAws

from .conftest import eventually

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  BucketName: {Type: String, Default: watched-box}
Resources:
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Version: "2012-10-17"
        Statement: [{Effect: Allow, Principal: {Service: lambda.amazonaws.com}, Action: sts:AssumeRole}]
      Policies:
        - PolicyName: Tell
          PolicyDocument:
            Version: "2012-10-17"
            Statement:
              - Effect: Allow
                Action: [sqs:SendMessage, s3:ListBucket, lambda:InvokeFunction]
                Resource: "*"
              - Effect: Allow
                Action: [sqs:ReceiveMessage, sqs:DeleteMessage, sqs:GetQueueAttributes]
                Resource: !GetAtt Paintings.Arn
  Bucket:
    Type: AWS::S3::Bucket
    Properties:
      BucketName: !Ref BucketName
      VersioningConfiguration: {Status: Enabled}
  Tellers:
    Type: AWS::SQS::Queue
  Failures:
    Type: AWS::SQS::Queue
  Tell:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: code/
      Handler: tell.handler
      Runtime: python3.13
      Role: !GetAtt Role.Arn
      Timeout: 20
      Environment:
        Variables: {QUEUE: !Ref Tellers}
      EventInvokeConfig:
        DestinationConfig:
          OnFailure: {Type: SQS, Destination: !GetAtt Failures.Arn}
      Events:
        Created:
          Type: S3
          Properties:
            Bucket: !Ref Bucket
            Events: s3:ObjectCreated:*
            Filter:
              S3Key:
                Rules:
                  - {Name: prefix, Value: in/}
                  - {Name: suffix, Value: .txt}
  Note:
    Type: AWS::Serverless::Function
    Properties: &noting
      CodeUri: code/
      Handler: tell.note
      Runtime: python3.13
      Role: !GetAtt Role.Arn
      Environment:
        Variables: {QUEUE: !Ref Tellers}
      Events:
        Rule:
          Type: EventBridgeRule
          Properties: {Pattern: {source: [tests], detail: {colour: [red, green]}}}
        Hourly: {Type: Schedule, Properties: {Schedule: rate(1 hour)}}
        Daily: {Type: Schedule, Properties: {Schedule: rate(1 day)}}
  Fail:
    Type: AWS::Serverless::Function
    Properties:
      <<: *noting
      Handler: tell.fail
      Events: {}
      EventInvokeConfig:
        MaximumRetryAttempts: 0
        DestinationConfig:
          OnFailure: {Type: Lambda, Destination: !GetAtt Note.Arn}
  Paintings:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: 3600
      RedrivePolicy: {deadLetterTargetArn: !GetAtt Rejected.Arn, maxReceiveCount: 3}
  Rejected:
    Type: AWS::SQS::Queue
  Painted:
    Type: AWS::Events::Rule
    Properties:
      EventPattern: {source: [painters]}
      Targets: [{Id: Queue, Arn: !GetAtt Paintings.Arn}]
  Take:
    Type: AWS::Serverless::Function
    Properties:
      <<: *noting
      Handler: tell.take
      Events:
        Queue:
          Type: SQS
          Properties:
            Queue: !GetAtt Paintings.Arn
            BatchSize: 100
            MaximumBatchingWindowInSeconds: 1
            ScalingConfig: {MaximumConcurrency: 2}
Outputs:
  Paintings: {Value: !Ref Paintings}
  Rejected: {Value: !Ref Rejected}
  Fail: {Value: !Ref Fail}
  Bucket: {Value: !Ref Bucket}
  Queue: {Value: !Ref Tellers}
  Failures: {Value: !Ref Failures}
  Function: {Value: !Ref Tell}
"""

TELL = """
import json, os, time, boto3
sqs, s3 = boto3.client("sqs"), boto3.client("s3")
def wait_for(key):
    for _ in range(250):
        if s3.list_objects_v2(Bucket="watched-box", Prefix=key)["KeyCount"]:
            return True
        time.sleep(0.02)
    return False
def handler(event, context):
    [record] = event["Records"]
    key = record["s3"]["object"]["key"]
    if key == "in/patient.txt":
        record["saw"] = wait_for("go")
    sqs.send_message(QueueUrl=os.environ["QUEUE"], MessageBody=json.dumps(record))
    if "fail" in key:
        raise ValueError("told to fail")
def note(event, context):
    sqs.send_message(QueueUrl=os.environ["QUEUE"], MessageBody=json.dumps({"noted": event}))
def take(event, context):
    numbers = [json.loads(record["body"])["detail"]["number"] for record in event["Records"]]
    noted = {"took": numbers, "source": event["Records"][0]["eventSource"]}
    sqs.send_message(QueueUrl=os.environ["QUEUE"], MessageBody=json.dumps({"noted": noted}))
    if 13 in numbers:
        raise ValueError("told to fail")
def fail(event, context):
    raise ValueError("told to fail")
"""

BUCKET = "watched-box"


class Told:
    """The events that the function was called with."""

    def __init__(self, aws: EmbeddedAws, queue: str) -> None:
        self._sqs = aws.clients.get("sqs")
        self._queue = queue
        self._seen: list[dict[str, Any]] = []

    def of(self, key: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait for as many events of a key; return all that came."""
        return eventually(lambda: self._found(key, count), 20)

    def _found(self, key: str, count: int) -> list[dict[str, Any]]:
        messages = self._sqs.receive_message(QueueUrl=self._queue, MaxNumberOfMessages=10).get("Messages", [])
        for message in messages:
            self._seen.append(json.loads(message["Body"]))
            self._sqs.delete_message(QueueUrl=self._queue, ReceiptHandle=message["ReceiptHandle"])
        found = [record for record in self._seen if record.get("s3", {}).get("object", {}).get("key") == key]
        return found if len(found) >= count else []

    def noted(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait for a note of an event."""

        def found() -> dict[str, Any] | None:
            self._found("", 1)
            notes = [record["noted"] for record in self._seen if "noted" in record]
            return next((note for note in notes if wanted(note)), None)

        note = eventually(found, 20)
        assert note
        return note


@pytest.fixture(scope="module")
def stack(aws: EmbeddedAws, project: Callable[..., Path]) -> Deployment:
    return aws.deploy(project(TEMPLATE, tell=TELL), "events", {"BucketName": BUCKET})


@pytest.fixture(scope="module")
def told(aws: EmbeddedAws, stack: Deployment) -> Told:
    return Told(aws, stack.outputs["Queue"])


def put(aws: EmbeddedAws, key: str, body: bytes = b"x") -> Mapping[str, Any]:
    return aws.clients.s3.put_object(Bucket=BUCKET, Key=key, Body=body)


def names(records: list[dict[str, Any]]) -> list[str]:
    return [record["eventName"] for record in records]


def test_a_put_is_told_once_with_its_version(aws: EmbeddedAws, told: Told) -> None:
    stored = put(aws, "in/put.txt", b"four")
    put(aws, "in/after.txt")
    told.of("in/after.txt")
    [record] = told.of("in/put.txt")
    assert record["eventName"] == "ObjectCreated:Put"
    assert record["s3"]["bucket"]["name"] == BUCKET
    s3_object = record["s3"]["object"]
    assert s3_object["versionId"] == stored["VersionId"]
    assert s3_object["eTag"] == stored["ETag"].strip('"')
    assert s3_object["size"] == 4


def test_a_copy_is_told_as_a_copy(aws: EmbeddedAws, told: Told) -> None:
    put(aws, "elsewhere/original.txt")
    source = {"Bucket": BUCKET, "Key": "elsewhere/original.txt"}
    copied = aws.clients.s3.copy_object(Bucket=BUCKET, Key="in/copy.txt", CopySource=source)
    put(aws, "in/after-copy.txt")
    told.of("in/after-copy.txt")
    [record] = told.of("in/copy.txt")
    assert record["eventName"] == "ObjectCreated:Copy"
    assert record["s3"]["object"]["versionId"] == copied["VersionId"]


def test_an_upload_in_parts_is_told_once_at_its_end(aws: EmbeddedAws, told: Told) -> None:
    s3, key = aws.clients.s3, "in/parts.txt"
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    sizes = [5 << 20, 3]
    parts = [
        s3.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=number, Body=b"x" * size)
        for number, size in enumerate(sizes, 1)
    ]
    done = s3.complete_multipart_upload(
        Bucket=BUCKET,
        Key=key,
        UploadId=upload,
        MultipartUpload={"Parts": [{"ETag": p["ETag"], "PartNumber": n} for n, p in enumerate(parts, 1)]},
    )
    put(aws, "in/after-parts.txt")
    told.of("in/after-parts.txt")
    [record] = told.of(key)
    assert record["eventName"] == "ObjectCreated:CompleteMultipartUpload"
    assert record["s3"]["object"]["versionId"] == done["VersionId"]
    assert record["s3"]["object"]["size"] == sum(sizes)


def test_only_keys_that_match_prefix_and_suffix_are_told(aws: EmbeddedAws, told: Told) -> None:
    for key in ("other/a.txt", "in/a.json", "xin/a.txt"):
        put(aws, key)
    put(aws, "in/matching.txt")
    told.of("in/matching.txt")
    seen = {record["s3"]["object"]["key"] for record in told._seen if "s3" in record}
    assert not {"other/a.txt", "in/a.json", "xin/a.txt"} & seen


def test_sequencers_order_the_versions_of_a_key(aws: EmbeddedAws, told: Told) -> None:
    versions = [put(aws, "in/many.txt", bytes([number]))["VersionId"] for number in range(5)]
    records = [record["s3"]["object"] for record in told.of("in/many.txt", 5)]
    in_order = sorted(records, key=lambda found: found["sequencer"])
    assert [found["versionId"] for found in in_order] == versions


def test_an_upload_does_not_wait_for_the_function(aws: EmbeddedAws, told: Told) -> None:
    put(aws, "in/patient.txt")
    put(aws, "go")  # what the function waits for
    [record] = told.of("in/patient.txt")
    assert record["saw"]


def test_a_failing_function_is_called_three_times_then_its_event_is_kept(
    aws: EmbeddedAws, stack: Deployment, told: Told
) -> None:
    put(aws, "in/fail.txt")
    records = told.of("in/fail.txt", 3)
    assert records[0] == records[1] == records[2]
    sqs, queue = aws.clients.get("sqs"), stack.outputs["Failures"]
    [message] = eventually(lambda: sqs.receive_message(QueueUrl=queue).get("Messages"), 20)
    kept = json.loads(message["Body"])
    assert kept["requestPayload"]["Records"] == [records[0]]
    assert kept["responsePayload"]["errorType"] == "ValueError"
    assert kept["requestContext"]["condition"] == "RetriesExhausted"
    assert len(told.of("in/fail.txt")) == 3


def test_calls_are_answered_as_lambda_answers_them(aws: EmbeddedAws, stack: Deployment) -> None:
    invoke, name = aws.clients.lambda_.invoke, stack.outputs["Function"]
    event = json.dumps({"Records": [{"s3": {"object": {"key": "fail"}}}]})
    waited_for = invoke(FunctionName=name, Payload=event)
    assert (waited_for["StatusCode"], waited_for["FunctionError"]) == (200, "Unhandled")
    assert json.load(waited_for["Payload"])["errorMessage"] == "told to fail"
    dry = invoke(FunctionName=name, Payload=event, InvocationType="DryRun")
    assert dry["StatusCode"] == 204
    accepted = invoke(FunctionName=name, Payload=event, InvocationType="Event")
    assert (accepted["StatusCode"], accepted["Payload"].read()) == (202, b"")


def test_a_function_can_be_told_of_what_another_failed_at(
    aws: EmbeddedAws, stack: Deployment, told: Told
) -> None:
    aws.clients.lambda_.invoke(
        FunctionName=stack.outputs["Fail"], Payload=b'{"number": 7}', InvocationType="Event"
    )
    record = told.noted(lambda note: note.get("requestPayload") == {"number": 7})
    assert record["responsePayload"]["errorMessage"] == "told to fail"
    assert record["requestContext"]["approximateInvokeCount"] == 1


def test_a_rule_tells_a_function_of_events_that_match(aws: EmbeddedAws, told: Told) -> None:
    def entry(colour: str, number: int) -> dict[str, str]:
        detail = json.dumps({"colour": colour, "number": number})
        return {"Source": "tests", "DetailType": "paint", "Detail": detail}

    aws.clients.get("events").put_events(Entries=[entry("blue", 1), entry("green", 2)])
    note = told.noted(lambda note: note.get("source") == "tests")
    assert note["detail"] == {"colour": "green", "number": 2}
    assert note["detail-type"] == "paint"


def test_the_clock_strikes_for_hourly_schedules_alone(aws: EmbeddedAws, told: Told) -> None:
    aws._events.strike()
    note = told.noted(lambda note: note.get("detail-type") == "Scheduled Event")
    assert (note["source"], note["detail"], note["account"]) == ("aws.events", {}, "123456789012")
    assert "NoteHourly" in note["resources"][0]
    told._found("", 1)
    strikes = [one for one in told._seen if one.get("noted", {}).get("detail-type") == "Scheduled Event"]
    assert not [one for one in strikes if "Daily" in one["noted"]["resources"][0]]


def test_the_clock_goes_on_until_it_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HOUR_SECONDS", 0.001)
    stop, strikes = threading.Event(), []

    def strike() -> None:
        strikes.append(1)
        if len(strikes) == 3:
            stop.set()

    server._strike_hourly(stop, strike)
    assert len(strikes) == 3


def waiting(aws: EmbeddedAws, queue: str) -> tuple[int, int]:
    """How many messages of a queue can be seen, and how many somebody has taken."""
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    told = aws.clients.get("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=names)["Attributes"]
    return int(told[names[0]]), int(told[names[1]])


def paint(aws: EmbeddedAws, *numbers: int) -> None:
    for number in numbers:
        entry = {"Source": "painters", "DetailType": "paint", "Detail": json.dumps({"number": number})}
        aws.clients.get("events").put_events(Entries=[entry])


def test_a_function_takes_what_a_rule_puts_into_a_queue_many_at_a_time(
    aws: EmbeddedAws, stack: Deployment, told: Told
) -> None:
    paint(aws, *range(100, 130))

    def takes() -> list[list[int]]:
        told._found("", 1)
        notes = [record["noted"] for record in told._seen if "took" in record.get("noted", {})]
        assert {note["source"] for note in notes} <= {"aws:sqs"}
        return [[number for number in note["took"] if number >= 100] for note in notes]

    eventually(lambda: sum(map(len, takes())) >= 30, 20)
    taken = [numbers for numbers in takes() if numbers]
    assert sorted(number for numbers in taken for number in numbers) == list(range(100, 130))
    assert len(taken) < 30, "not one by one"
    eventually(lambda: waiting(aws, stack.outputs["Paintings"]) == (0, 0), 20)
    assert waiting(aws, stack.outputs["Rejected"]) == (0, 0)


def test_what_a_function_fails_at_comes_again_and_then_goes_to_the_other_queue(
    aws: EmbeddedAws, stack: Deployment, told: Told
) -> None:
    paint(aws, 13)
    eventually(lambda: waiting(aws, stack.outputs["Rejected"]) == (1, 0), 20)
    told._found("", 1)
    tries = [record for record in told._seen if 13 in record.get("noted", {}).get("took", [])]
    assert len(tries) == 3
    assert waiting(aws, stack.outputs["Paintings"]) == (0, 0)
    sqs = aws.clients.get("sqs")
    [message] = sqs.receive_message(QueueUrl=stack.outputs["Rejected"])["Messages"]
    assert json.loads(message["Body"])["detail"] == {"number": 13}


def test_what_a_function_prints_is_in_its_log_group(aws: EmbeddedAws, stack: Deployment) -> None:
    name = stack.outputs["Function"]
    aws.clients.lambda_.invoke(FunctionName=name, Payload=b'{"Records": []}')
    events = aws.clients.get("logs").filter_log_events(logGroupName=f"/aws/lambda/{name}")["events"]
    lines = [event["message"] for event in events]
    assert any("ValueError: not enough values to unpack" in line for line in lines)
    assert any(line.startswith("REPORT RequestId:") for line in lines)
