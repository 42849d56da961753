"""Functions with layers, as the API has them: what is refused, the states, who may, what is left."""

import base64
import json
import platform
import uuid
import zipfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from layer_builder.ground import interpreter
from local.lambda_code import LIMIT
from local.policies import statements_of
from local.server import EmbeddedAws
from local.settings import ACCOUNT_ID

from .conftest import eventually

TRUST = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
HERE = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
OTHER = "x86_64" if HERE == "arm64" else "arm64"
CODE = "def handler(event, context):\n    print('hello')\n    import there\n    return there.SAID\n"


def zipped(**files: str) -> bytes:
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(f"{name.replace('__', '/')}.py", text)
    return content.getvalue()


class Functions:
    """Makes layers and functions of this machine's runtime, with names of their own."""

    def __init__(self, aws: EmbeddedAws) -> None:
        self.aws, self.client = aws, aws.clients.lambda_
        self.names: list[str] = []
        minors = [minor for minor in ("3.13", "3.12", "3.11") if interpreter.find(minor)]
        self.runtime = f"python{minors[0]}"

    def role(self, name: str = "", *statements: dict[str, Any], trust: dict[str, Any] = TRUST) -> str:
        iam, name = self.aws.clients.get("iam"), name or f"role-{uuid.uuid4().hex[:8]}"
        made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({"Statement": [trust]}))
        if statements:
            document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
            iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=document)
        return str(made["Role"]["Arn"])

    def layer(self, name: str = "", **files: str) -> str:
        content = {"ZipFile": zipped(**(files or {"python__there": "SAID = 'layer'"}))}
        made = self.client.publish_layer_version(
            LayerName=name or f"l-{uuid.uuid4().hex[:8]}", Content=content
        )
        return made["LayerVersionArn"]

    def create(self, client: Any = None, **changes: Any) -> dict[str, Any]:
        name = f"f-{uuid.uuid4().hex[:8]}"
        given = {
            "FunctionName": name,
            "Runtime": self.runtime,
            "Architectures": [HERE],
            "Handler": "module.handler",
            "Code": {"ZipFile": zipped(module=CODE)},
            **changes,
        }
        given.setdefault("Role", None)
        given["Role"] = given["Role"] or self.role()
        made: dict[str, Any] = (client or self.client).create_function(**given)
        self.names.append(made["FunctionName"])
        return made

    def active(self, **changes: Any) -> str:
        name = str(self.create(**changes)["FunctionName"])
        self.client.get_waiter("function_active_v2").wait(FunctionName=name)
        return name

    def configuration(self, name: str) -> dict[str, Any]:
        return dict(self.client.get_function_configuration(FunctionName=name))

    def invoke(self, name: str) -> Any:
        return json.load(self.client.invoke(FunctionName=name)["Payload"])


@pytest.fixture
def functions(aws: EmbeddedAws) -> Iterator[Functions]:
    made = Functions(aws)
    yield made
    for name in made.names:
        made.client.delete_function(FunctionName=name)


def refusal(call: Callable[..., object], **parameters: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as error:
        call(**parameters)
    return error.value.response["Error"]["Code"], error.value.response["Error"]["Message"]


def test_it_is_pending_and_then_active_and_answers_from_its_layer(functions: Functions) -> None:
    functions.aws.creation.going_on.clear()
    try:
        made = functions.create(Layers=[functions.layer()])
        name = made["FunctionName"]
        assert (made["State"], made["StateReasonCode"]) == ("Pending", "Creating")
        held = functions.configuration(name)
        assert (held["State"], held["StateReason"]) == ("Pending", "The function is being created.")
        assert refusal(functions.client.invoke, FunctionName=name) == (
            "ResourceConflictException",
            "The operation cannot be performed at this time. "
            "The function is currently in the following state: Pending",
        )
    finally:
        functions.aws.creation.going_on.set()
    functions.client.get_waiter("function_active_v2").wait(FunctionName=name)
    assert "StateReason" not in functions.configuration(name)
    answer = functions.client.invoke(FunctionName=name, LogType="Tail")
    assert json.load(answer["Payload"]) == "layer"
    log = base64.b64decode(answer["LogResult"]).decode()
    assert log.startswith("START RequestId: ")
    assert "\nhello\nEND RequestId: " in log
    assert "\tInit Duration: " in log
    assert "LogResult" not in functions.client.invoke(FunctionName=name)


def test_a_pending_one_can_be_deleted(functions: Functions) -> None:
    functions.aws.creation.going_on.clear()
    try:
        name = functions.create()["FunctionName"]
        functions.names.remove(name)
        functions.client.delete_function(FunctionName=name)
        assert refusal(functions.configuration, name=name)[0] == "ResourceNotFoundException"
    finally:
        functions.aws.creation.going_on.set()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Architectures": [OTHER]}, f"This machine is {HERE}, and the function is for {OTHER}."),
        ({"Runtime": "nodejs24.x"}, "The embedded AWS does not run nodejs24.x functions."),
    ],
)
def test_what_this_machine_cannot_run_fails_and_says_why(
    functions: Functions, changes: dict[str, Any], words: str
) -> None:
    name = functions.create(**changes)["FunctionName"]
    failed = eventually(lambda: (now := functions.configuration(name))["State"] != "Pending" and now)
    assert (failed["State"], failed["StateReasonCode"]) == ("Failed", "InvalidRuntime")
    assert failed["StateReason"] == words
    code, message = refusal(functions.client.invoke, FunctionName=name)
    assert code == "ResourceConflictException"
    assert message.endswith("The function is currently in the following state: Failed")


def test_what_aws_refuses_is_refused(functions: Functions) -> None:
    def refused(**changes: Any) -> tuple[str, str]:
        return refusal(functions.create, **changes)

    layer, invalid = functions.layer("refused"), "InvalidParameterValueException"
    missing = f"{layer.rpartition(':')[0]}:9"
    assert refused(Layers=[missing]) == (invalid, f"Layer version {missing} does not exist.")
    assert refused(Layers=[layer.replace(ACCOUNT_ID, "999999999999")])[0] == "AccessDeniedException"
    again = functions.layer("refused", python__there="SAID = 2")
    assert "Two different versions of the same layer" in refused(Layers=[layer, again])[1]
    assert "more than 5 layers" in refused(Layers=[layer] * 6)[1]
    assert "Could not unzip" in refused(Code={"ZipFile": b"no zip"})[1]
    large = zipped(big="0" * (LIMIT - 5))
    assert refused(Code={"ZipFile": large}, Layers=[layer]) == (
        invalid,
        f"Function code combined with layers exceeds the maximum allowed size of {LIMIT} bytes. "
        f"The actual size is {LIMIT - 5 + 14} bytes.",
    )
    cannot = "The role defined for the function cannot be assumed by Lambda."
    batch = TRUST | {"Principal": {"Service": "batch.amazonaws.com"}}
    assert refused(Role=functions.role(trust=batch)) == (invalid, cannot)
    assert refused(Role=f"arn:aws:iam::{ACCOUNT_ID}:role/nobody-has-it") == (invalid, cannot)
    name = functions.create()["FunctionName"]
    assert refused(FunctionName=name)[0] == "ResourceConflictException"


def test_a_deleted_layer_stays_with_its_function_and_goes_with_it(functions: Functions) -> None:
    layer = functions.layer(python__there="SAID = 'kept'")
    name = functions.active(Layers=[layer])
    functions.client.delete_layer_version(LayerName=layer.split(":")[6], VersionNumber=1)
    assert functions.invoke(name) == "kept"
    folder = functions.aws.folder

    def unpacked() -> list[Path]:
        return [file for file in folder.glob("layers-*/python/there.py") if "kept" in file.read_text()]

    assert unpacked()
    assert list(folder.glob("worker-*"))
    functions.names.remove(name)
    functions.client.delete_function(FunctionName=name)
    eventually(lambda: not unpacked())


def test_a_changed_one_answers_with_what_it_has_now(functions: Functions) -> None:
    name = functions.active(Layers=[functions.layer()])
    assert functions.invoke(name) == "layer"
    other = functions.layer(python__there="SAID = 'other'")
    changed = functions.client.update_function_configuration(FunctionName=name, Layers=[other])
    assert [layer["Arn"] for layer in changed["Layers"]] == [other]
    assert functions.invoke(name) == "other"
    code = zipped(module="def handler(event, context): return 'new'\n")
    functions.client.update_function_code(FunctionName=name, ZipFile=code)
    assert functions.invoke(name) == "new"


def test_it_logs_what_its_role_may(functions: Functions) -> None:
    layer = functions.layer()
    may = {"Effect": "Allow", "Action": ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"]}
    for role, groups in (
        (functions.role(), 0),
        (functions.role("", may | {"Resource": "arn:aws:logs:*:*:log-group:/aws/lambda/f-*"}), 1),
    ):
        name = functions.active(Layers=[layer], Role=role)
        functions.invoke(name)
        logs = functions.aws.clients.get("logs")
        found = logs.describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{name}")["logGroups"]
        assert len(found) == groups


def test_making_one_takes_every_right_that_it_takes_on_aws(functions: Functions) -> None:
    layer, passed, label = functions.layer("mine"), functions.role("passed"), {"try": "yes"}
    function = f"arn:aws:lambda:*:{ACCOUNT_ID}:function:try-*"
    to_lambda = {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}
    allow = {"Effect": "Allow"}
    rights: list[dict[str, Any]] = [
        allow | {"Action": "lambda:CreateFunction", "Resource": function},
        allow | {"Action": "lambda:TagResource", "Resource": function},
        allow
        | {"Action": "lambda:GetLayerVersion", "Resource": f"arn:aws:lambda:*:{ACCOUNT_ID}:layer:mine:*"},
        allow | {"Action": "iam:PassRole", "Resource": passed, "Condition": to_lambda},
    ]
    assert statements_of({"Statement": rights})
    for number in range(len(rights) + 1):
        kept = [right for index, right in enumerate(rights) if index != number]
        client = functions.aws.clients.of_role(functions.role("", *kept)).lambda_
        given = {
            "client": client,
            "Role": passed,
            "Layers": [layer],
            "Tags": label,
            "FunctionName": f"try-{number}",
        }
        if number == len(rights):
            functions.create(**given)
            assert functions.client.get_function(FunctionName=f"try-{number}")["Tags"] == label
        else:
            code, message = refusal(functions.create, **given)
            assert code == "AccessDeniedException"
            assert rights[number]["Action"] in message
