"""The real stack with a key, a boundary and a path, as organisations ask for them."""

import json

import pytest

from local.server import EmbeddedAws
from local.settings import ACCOUNT_ID, REGION

from .conftest import Pipeline

KEY = f"arn:aws:kms:{REGION}:{ACCOUNT_ID}:key/0123abcd-12ab-34cd-56ef-0123456789ab"


@pytest.mark.long
def test_it_builds_layers_as_ever(aws: EmbeddedAws) -> None:
    """Roles are judged by their own statements here; that the key may be used is not asked."""
    clients = aws.clients
    boundary = clients.get("iam").create_policy(
        PolicyName="workloads",
        PolicyDocument=json.dumps(
            {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
        ),
    )["Policy"]["Arn"]
    given = {
        "BucketName": "organisation",
        "KmsKeyArn": KEY,
        "PermissionsBoundaryArn": boundary,
        "RolePath": "/team/",
    }
    stack = aws.deploy(stack="organisation", parameters=given)
    pipeline = Pipeline(aws, stack, "organisation")
    manifest = pipeline.build("requirements/arm64/organisation/requirements.txt", "idna == 3.10\n")
    assert manifest["status"] == "SUCCEEDED", manifest["error"]
    [layer] = manifest["layers"]
    stored = clients.s3.head_object(Bucket="organisation", Key=layer["zip"]["key"])
    assert (stored["ServerSideEncryption"], stored["SSEKMSKeyId"]) == ("aws:kms", KEY)
    roles = clients.get("iam").list_roles(PathPrefix="/team/")["Roles"]
    assert {role["RoleName"].split("-")[-2] for role in roles} >= {"PublishLayerRole", "JobRole"}
    queues = clients.get("sqs").list_queues(QueueNamePrefix="organisation-")["QueueUrls"]
    for queue in queues:
        told = clients.get("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["KmsMasterKeyId"])
        assert told["Attributes"]["KmsMasterKeyId"] == KEY
    assert len(queues) == 4
    told = clients.get("sns").get_topic_attributes(TopicArn=stack.outputs["Notifications"])
    assert told["Attributes"]["KmsMasterKeyId"] == KEY
