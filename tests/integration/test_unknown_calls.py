"""What moto lacks is made up for, or said in one line."""

import ast
import inspect
import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.awslambda.responses import LambdaResponse
from moto.s3 import responses

from local.calls import model_of
from local.server import EmbeddedAws
from local.unknown_calls import UNKNOWN_TO_S3


@contextmanager
def refused(status: int, code: str) -> Iterator[list[str]]:
    messages: list[str] = []
    with pytest.raises(ClientError) as error:
        yield messages
    response = error.value.response
    assert (response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]) == (code, status)
    messages.append(response["Error"]["Message"])


@pytest.fixture(scope="module")
def layer(aws: EmbeddedAws) -> dict[str, Any]:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("python/there.py", "")
    zipped = {"ZipFile": content.getvalue()}
    return aws.clients.lambda_.publish_layer_version(LayerName="by-arn", Content=zipped)


def test_a_layer_version_is_found_by_its_arn(aws: EmbeddedAws, layer: dict[str, Any]) -> None:
    client = aws.clients.lambda_
    by_arn = client.get_layer_version_by_arn(Arn=layer["LayerVersionArn"])
    by_name = client.get_layer_version(LayerName="by-arn", VersionNumber=layer["Version"])
    for told in (by_arn, by_name):
        del told["ResponseMetadata"]
        assert told["Content"].pop("Location").startswith(f"{aws.endpoint}/_layers/by-arn/1?")
    assert by_arn == by_name


@pytest.mark.parametrize(
    ("old", "new", "status", "code"),
    [
        (":1", ":2", 404, "ResourceNotFoundException"),
        ("by-arn", "nobody-made-it", 404, "ResourceNotFoundException"),
        (":1", "", 400, "ValidationException"),
        (":1", ":one", 400, "ValidationException"),
        (":layer:", ":function:", 400, "ValidationException"),
        ("by-arn", "by/arn", 400, "ValidationException"),
        ("123456789012", "999999999999", 403, "AccessDeniedException"),
        ("us-east-1", "eu-west-1", 403, "AccessDeniedException"),
    ],
)
def test_an_arn_of_no_layer_version_is_refused(
    aws: EmbeddedAws, layer: dict[str, Any], old: str, new: str, status: int, code: str
) -> None:
    head, found, tail = layer["LayerVersionArn"].rpartition(old)
    assert found
    wrong = f"{head}{new}{tail}"
    with refused(status, code) as messages:
        aws.clients.lambda_.get_layer_version_by_arn(Arn=wrong)
    assert wrong in messages[0]


@pytest.mark.parametrize(
    ("service", "operation", "parameters"),
    [  # of each protocol, and of each way in which moto fails
        ("lambda", "GetAccountSettings", {}),
        ("lambda", "GetRuntimeManagementConfig", {"FunctionName": "f"}),
        ("batch", "ListConsumableResources", {}),
        ("ssm", "DescribeOpsItems", {}),
        ("stepfunctions", "ValidateStateMachineDefinition", {"definition": "{}"}),
        ("cloudwatch", "ListManagedInsightRules", {"ResourceARN": "a"}),
        ("sns", "GetSMSSandboxAccountStatus", {}),
        ("iam", "ListDelegationRequests", {}),
        ("ec2", "DescribeCapacityBlocks", {}),
        ("route53", "ListCidrCollections", {}),
        ("s3", "CreateSession", {"Bucket": "bucket"}),
        ("s3", "GetBucketAbac", {"Bucket": "bucket"}),
        ("s3files", "ListFileSystems", {}),
        ("apprunner", "ListServices", {}),
        ("chime", "ListAccounts", {}),
    ],
)
def test_a_call_that_moto_does_not_know_is_named(
    aws: EmbeddedAws, service: str, operation: str, parameters: dict[str, Any]
) -> None:
    with refused(501, "NotImplemented") as messages:
        aws.clients.get(service)._make_api_call(operation, parameters)
    assert messages == [f"The embedded AWS does not know the call {service}:{operation}."]


def test_a_setting_of_an_object_that_moto_passes_over_does_not_change_the_object(aws: EmbeddedAws) -> None:
    s3 = aws.clients.s3
    s3.create_bucket(Bucket="settings")
    s3.put_object(Bucket="settings", Key="key", Body=b"as it was")
    with refused(501, "NotImplemented"):
        s3._make_api_call(
            "RenameObject", {"Bucket": "settings", "Key": "key", "RenameSource": "/settings/other"}
        )
    assert s3.get_object(Bucket="settings", Key="key")["Body"].read() == b"as it was"


def test_what_motos_s3_passes_over_is_all_known() -> None:
    # The parts that AWS's model knows, less those of which moto's code says anything.
    model = model_of("s3")
    addresses = [model.operation_model(name).http["requestUri"] for name in model.operation_names]
    parts = {re.split("[&=]", uri.partition("?")[2])[0] for uri in addresses}
    tree = ast.parse(inspect.getsource(responses))
    said = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert parts - said - {""} == UNKNOWN_TO_S3


def test_a_failure_of_motos_own_is_no_page_either(aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_response: LambdaResponse) -> str:
        raise KeyError("gone")

    monkeypatch.setattr(LambdaResponse, "list_layers", fail)
    with refused(500, "InternalFailure") as messages:
        aws.clients.lambda_.list_layers()
    assert messages == ["moto failed at lambda:ListLayers: KeyError: 'gone'"]
