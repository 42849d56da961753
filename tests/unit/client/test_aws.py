"""What `Aws` makes of answers, with answers in the place of AWS's."""

import io
from typing import Any

import pytest
from botocore.exceptions import ClientError

from layerdrop_client.aws import Aws, _grantee
from layerdrop_client.history import State
from layerdrop_client.place import Place
from layerdrop_client.problems import CommandError
from layerdrop_client.remote_file import RemoteFile

from .test_history import two_targets

OUTPUTS = [
    {"OutputKey": "Bucket", "OutputValue": "box"},
    {"OutputKey": "StateMachine", "OutputValue": "arn:m"},
]


def refused(code: str, status: int = 400) -> ClientError:
    answer: Any = {"Error": {"Code": code, "Message": "said"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "X")


class Client:
    """Answers with what it has, or fails with it."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.meta = type("Meta", (), {"region_name": "eu-west-1", "endpoint_url": "x"})

    def __getattr__(self, name: str) -> Any:
        answer = self.__dict__["answers"][name]

        def call(*_: Any, **__: Any) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    def get_paginator(self, name: str) -> Any:
        call = getattr(self, name)

        class Pages:
            def paginate(self, **_: Any) -> Any:
                yield call()

        return Pages()


def aws(monkeypatch: pytest.MonkeyPatch, **clients: Client) -> Aws:
    clients.setdefault("cloudformation", Client(describe_stacks={"Stacks": [{"Outputs": OUTPUTS}]}))
    monkeypatch.setattr(Aws, "_client", lambda _, service: clients[service])
    return Aws(Place())


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (refused("ValidationError"), "There is no stack layerdrop in eu-west-1"),
        ({"Stacks": [{}]}, "not one of Layerdrop's"),
    ],
)
def test_a_stack_that_is_none_is_told(answer: Any, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandError, match=said):
        assert aws(monkeypatch, cloudformation=Client(describe_stacks=answer)).bucket


def test_who_may_not_see_executions_sees_answers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    denied = Client(get_execution_history=refused("AccessDeniedException"))
    assert aws(monkeypatch, stepfunctions=denied).progress("arn:x") is None


def test_who_may_not_see_jobs_sees_steps_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    history = Client(get_execution_history={"events": two_targets().events})
    found = aws(
        monkeypatch, stepfunctions=history, batch=Client(describe_jobs=refused("AccessDeniedException"))
    )
    progress = found.progress("arn:x")
    assert progress
    assert progress.targets["py313-arm64"]["BuildLayer"].state is State.RUNNING


def test_a_job_that_is_tried_again_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    history = Client(get_execution_history={"events": two_targets().events})
    job = {"jobs": [{"status": "RUNNABLE", "attempts": [{}, {}]}]}
    progress = aws(monkeypatch, stepfunctions=history, batch=Client(describe_jobs=job)).progress("arn:x")
    assert progress
    assert progress.targets["py313-arm64"]["BuildLayer"].note == "queued, try 2"


@pytest.mark.parametrize(
    ("statement", "who"),
    [
        ({"Principal": {"AWS": "arn:aws:iam::111122223333:root"}}, "111122223333"),
        ({"Principal": {"AWS": "111122223333"}}, "111122223333"),
        ({"Principal": "*"}, "*"),
        (
            {"Principal": "*", "Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1234567890"}}},
            "o-1234567890",
        ),
    ],
)
def test_who_may_use_a_version_is_read_out_of_its_policy(statement: dict, who: str) -> None:
    assert _grantee(statement) == who


def test_only_the_parts_that_are_read_are_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    content, asked = bytes(range(256)) * 40, []

    def urlopen(request: Any, timeout: float) -> Any:
        start, end = map(int, request.get_header("Range").removeprefix("bytes=").split("-"))
        asked.append(end - start + 1)
        return io.BytesIO(content[start : end + 1])

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    file = RemoteFile("https://x", len(content))
    file.seek(-100, io.SEEK_END)
    assert file.read() == content[-100:]
    assert file.read(1) == b""
    file.seek(10)
    assert (file.read(5), file.tell()) == (content[10:15], 15)
    assert asked == [100, 5]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b'{"layers": {"web": {"version": 2, "findings": [{"id": "GHSA-1"}]}}}', [{"id": "GHSA-1"}]),
        (b'{"layers": {"web": {"version": 1, "findings": [{"id": "GHSA-1"}]}}}', []),
        (b'{"layers": {"other": {"version": 2, "findings": [{"id": "GHSA-1"}]}}}', []),
        (b'{"layers": {"web": {"version": 2, "findings": ["x", {"id": "GHSA-1"}]}}}', [{"id": "GHSA-1"}]),
        (b'{"layers": {"web": {"version": 2, "findings": {}}}}', []),
        (b'{"layers": []}', []),
        (b"[" * 100_000, []),
        (b"", []),
        (None, []),
    ],
)
def test_findings_are_those_of_the_version(
    content: bytes | None, found: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    made = aws(monkeypatch)
    monkeypatch.setattr(Aws, "_read", lambda _, key: (asked.append(key), content)[1])
    assert made.findings("requirements/arm64/web/requirements.txt", "web", 2) == found
    assert made.findings("requirements/arm64/web/api-pylock.toml", "web", 2) == found
    assert asked == [
        "requirements/arm64/web/vulnerabilities.json",
        "requirements/arm64/web/api-pylock-vulnerabilities.json",
    ]
