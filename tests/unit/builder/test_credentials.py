"""Credentials: a secret, CodeArtifact's token, URLs; what is refused, and that nothing shows them."""

from __future__ import annotations

import json
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.stub import Stubber

from layer_builder import environment
from layer_builder.ground import redaction
from layer_builder.ground.errors import IndexDeniedError, IndexUnreachableError, UsageError
from layer_builder.ground.login import Login
from layer_builder.ground.settings import Settings
from layer_builder.indexes import credentials, sources
from layer_builder.results.report import Report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

INDEX = "https://packages.example.com/simple"
ORIGIN = "https://packages.example.com:443"
OTHER = "https://other.example.com:8443"
ARN = "arn:aws:codeartifact:eu-west-1:111122223333:repository/acme/python"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Stubber]:
    """Puts a stub in the place of a service: it holds calls and answers against botocore's description."""

    def stub(service: str) -> Stubber:
        client = boto3.client(
            service, region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x"
        )
        stubber = Stubber(client)
        stubber.activate()
        monkeypatch.setattr(credentials, "_client", lambda *_: client)
        return stubber

    return stub


def secret(aws: Callable[[str], Stubber], value: Any) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    answer = {"SecretString": text, "ARN": f"arn:aws:secretsmanager:eu-west-1:111122223333:secret:{'x' * 6}"}
    aws("secretsmanager").add_response("get_secret_value", answer, {"SecretId": "name"})


def test_one_user_is_for_the_one_host(aws: Callable[[str], Stubber]) -> None:
    secret(aws, {"username": "u", "password": "hunter2"})
    assert credentials.of_secret("name", [INDEX, f"{INDEX}/other"]) == {ORIGIN: Login("u", "hunter2")}


def test_several_hosts_have_an_entry_each(aws: Callable[[str], Stubber]) -> None:
    secret(aws, {INDEX: {"username": "u", "password": "p1"}, OTHER: {"username": "v", "password": "p2"}})
    assert credentials.of_secret("name", []) == {ORIGIN: Login("u", "p1"), OTHER: Login("v", "p2")}


@pytest.mark.parametrize(
    "value",
    [
        "hunter2",
        "[]",
        {"password": "hunter2"},
        {"username": "u", "password": 5},
        {"username": "a:b", "password": "hunter2"},
        {"username": "u", "password": "hunter2", "extra": "ignored"} | {"username": None},
        {INDEX: "hunter2"},
        {
            INDEX: {"username": "u", "password": "hunter2"},
            f"{INDEX}/x": {"username": "u", "password": "hunter3"},
        },
        {"http://packages.example.com/": {"username": "u", "password": "hunter2"}},
        {"https://[bad/": {"username": "u", "password": "hunter2"}},
    ],
)
def test_another_form_is_refused_and_not_quoted(aws: Callable[[str], Stubber], value: Any) -> None:
    secret(aws, value)
    with pytest.raises(IndexDeniedError) as caught:
        credentials.of_secret("name", [INDEX])
    assert caught.value.exit_status == 2
    assert "hunter" not in str(vars(caught.value))
    assert caught.value.__cause__ is None


def test_one_user_for_two_hosts_is_refused(aws: Callable[[str], Stubber]) -> None:
    """Or each host would be told the other's password."""
    secret(aws, {"username": "u", "password": "hunter2"})
    with pytest.raises(IndexDeniedError, match="2 hosts"):
        credentials.of_secret("name", [INDEX, OTHER])


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("AccessDeniedException", IndexDeniedError),
        ("ResourceNotFoundException", IndexDeniedError),
        ("ThrottlingException", IndexUnreachableError),
        ("InternalServiceError", IndexUnreachableError),
    ],
)
def test_aws_s_refusals_are_told_from_its_troubles(
    aws: Callable[[str], Stubber], code: str, error: type[Exception]
) -> None:
    aws("secretsmanager").add_client_error("get_secret_value", code, "because")
    with pytest.raises(error, match="because"):
        credentials.of_secret("name", [INDEX])


def test_codeartifact_gives_its_address_and_a_token(aws: Callable[[str], Stubber], tmp_path: Path) -> None:
    whose = {"domain": "acme", "domainOwner": "111122223333"}
    endpoint = "https://acme-111122223333.d.codeartifact.eu-west-1.amazonaws.com/pypi/python/"
    stub = aws("codeartifact")
    stub.add_response(
        "get_repository_endpoint",
        {"repositoryEndpoint": endpoint},
        {**whose, "repository": "python", "format": "pypi"},
    )
    stub.add_response(
        "get_authorization_token",
        {"authorizationToken": "t0ken-of-the-role"},
        {**whose, "durationSeconds": 0},
    )
    found = sources.of(Settings(tmp_path, codeartifact=ARN))
    assert found.indexes == (f"{endpoint}simple",)
    assert list(found.access.logins.values()) == [Login("aws", "t0ken-of-the-role")]
    assert not found.is_public
    assert "t0ken" not in repr(found)


@pytest.mark.parametrize("arn", ["x", "arn:aws:codeartifact:eu-west-1:1:domain/acme", f"{ARN}/more"])
def test_what_is_no_repository_is_refused(arn: str) -> None:
    with pytest.raises(IndexDeniedError, match="no ARN"):
        credentials.of_codeartifact(arn)


def test_a_url_s_credentials_are_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAYER_BUILDER_INDEX_URL", "https://u:p%40ss-word@packages.example.com/simple")
    monkeypatch.setenv("LAYER_BUILDER_EXTRA_INDEX_URLS", "https://a.example.com/x, https://b.example.com/y")
    settings = environment.read()
    assert settings.index_url == INDEX
    assert settings.extra_index_urls == ("https://a.example.com/x", "https://b.example.com/y")
    assert dict(settings.logins) == {ORIGIN: Login("u", "p@ss-word")}
    assert "p@ss-word" not in repr(settings)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("http://u:hunter2@packages.example.com/", IndexDeniedError),
        ("packages.example.com", UsageError),
        ("https://", UsageError),
        ("https://[bad/", UsageError),
        ("file:///etc", UsageError),
    ],
)
def test_an_address_that_makes_no_sense_is_refused(
    monkeypatch: pytest.MonkeyPatch, url: str, error: type[Exception]
) -> None:
    monkeypatch.setenv("LAYER_BUILDER_INDEX_URL", url)
    with pytest.raises(error) as caught:
        environment.read()
    assert "hunter2" not in str(vars(caught.value))


@contextmanager
def lines(formatter: logging.Formatter) -> Iterator[list[str]]:
    found: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(formatter.format(record))

    logger, handler = logging.getLogger("redaction"), Handler()
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


def test_whatever_others_send_back_is_blotted_out() -> None:
    password = 'very "odd"\\ pässword/+'
    login = Login("u", password)
    report = Report(warnings=[f"it said {password} and {login.header}"])
    assert b"odd" not in report.to_json()
    assert login.header.removeprefix("Basic ").encode() not in report.to_json()
    json.loads(report.to_json())
    with lines(redaction.Formatter("%(message)s")) as found:
        try:
            int(password)
        except ValueError:
            logging.getLogger("redaction").exception("to %s", login.header)
    assert "odd" not in found[0]
    assert "ValueError" in found[0]
