"""Credentials of package indexes: from a secret, from CodeArtifact by role, or from an index's own URL.

They are fetched by the builder itself, with its role, and kept in its memory only. A variable of the
environment or a file, such as a container's secrets become, could be read by the code of a package that is
built or imported: it runs as the same user.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from layer_builder.ground import redaction
from layer_builder.ground.errors import IndexDeniedError, IndexUnreachableError
from layer_builder.ground.login import Login
from layer_builder.requirements.origins import origin_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BUSY = (
    "Throttl",
    "TooManyRequests",
    "InternalServiceError",
    "InternalServerException",
    "ServiceUnavailable",
)
_FORM = '{"username": "…", "password": "…"}, or {"https://index.example.com/": {"username": …}, …}'


def split(url: str) -> tuple[str, Login | None]:
    """Take the credentials out of a URL.

    Raises:
        IndexDeniedError: they would go over an open line.
    """
    parts = urlsplit(url)
    userinfo, _, place = parts.netloc.rpartition("@")
    if not userinfo:
        return url, None
    user, _, password = userinfo.partition(":")
    bare = urlunsplit((parts.scheme, place, parts.path, parts.query, parts.fragment))
    login = Login(unquote(user), unquote(password))
    if not password:
        redaction.remember(unquote(user))  # a token may stand in the user's place
    _require_privacy(bare)
    return bare, login


def of_secret(name: str, indexes: Sequence[str]) -> dict[str, Login]:
    """Read the secret of the installation: credentials by origin.

    Args:
        name: the secret's ARN, or its name.
        indexes: the installation's own indexes: what one user and password without an address are for.

    Raises:
        IndexDeniedError: it cannot be read, or is not of the form that it should have.
        IndexUnreachableError: Secrets Manager does not answer.
    """
    with _errors("The secret with the credentials of the package index cannot be read"):
        client = _client("secretsmanager", name.split(":")[3] if name.startswith("arn:") else "")
        answer = client.get_secret_value(SecretId=name)
    try:
        document = dict(json.loads(answer.get("SecretString", "")))
        if "password" in document:
            origins = {origin_of(index) for index in indexes}
            if len(origins) != 1:
                raise _malformed(
                    f"it has one user and password, but there are {len(origins)} hosts that it could be for"
                )
            return {_private(origin): _login(document) for origin in origins}
        if not document:
            raise _malformed("it is empty")
        found: dict[str, Login] = {}
        for url, value in document.items():
            origin, login = _private(url), _login(value)
            if found.setdefault(origin, login) != login:
                raise _malformed("two entries are for the same host and differ")
    except (ValueError, TypeError, KeyError):
        # Not in that error's words, nor with it as the cause: it may quote the secret.
        raise _malformed("it is not of the form that it should have") from None
    return found


def of_codeartifact(arn: str) -> tuple[str, Login]:
    """Ask CodeArtifact for a repository's index and a token for it (AWS CodeArtifact User Guide, "Using
    CodeArtifact with Python").

    Args:
        arn: the repository's: `arn:aws:codeartifact:REGION:ACCOUNT:repository/DOMAIN/REPOSITORY`.

    Raises:
        IndexDeniedError: the role may not, or there is no such repository.
        IndexUnreachableError: CodeArtifact does not answer.
    """
    try:
        _, _, _, region, owner, resource = arn.split(":", 5)
        _, domain, repository = resource.split("/")
    except ValueError as error:
        raise IndexDeniedError(
            f"{arn!r} is no ARN of a CodeArtifact repository.",
            hint="It looks like arn:aws:codeartifact:REGION:ACCOUNT:repository/DOMAIN/REPOSITORY.",
        ) from error
    with _errors(f"CodeArtifact's repository {repository} cannot be used"):
        client = _client("codeartifact", region)
        endpoint = client.get_repository_endpoint(
            domain=domain, domainOwner=owner, repository=repository, format="pypi"
        )["repositoryEndpoint"]
        # 0 seconds: for as long as the role's own session lasts, and no longer.
        token = client.get_authorization_token(domain=domain, domainOwner=owner, durationSeconds=0)
    return f"{endpoint.rstrip('/')}/simple", Login("aws", token["authorizationToken"])


def _private(url: str) -> str:
    _require_privacy(url)
    return origin_of(url)


def _require_privacy(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise IndexDeniedError(
            f"Credentials for {parts.hostname or 'an index'} are not sent: it is not reached by HTTPS.",
            hint="Name the index with https://.",
        )


def _login(value: Any) -> Login:
    username, password = value["username"], value["password"]
    if not isinstance(username, str) or not isinstance(password, str) or ":" in username:
        raise TypeError
    return Login(username, password)


def _malformed(reason: str) -> IndexDeniedError:
    return IndexDeniedError(
        f"The secret with the credentials of the package index cannot be used: {reason}.",
        hint=f"Write it as JSON: {_FORM}.",
    )


def _client(service: str, region: str) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(retries={"mode": "standard", "max_attempts": 5}, connect_timeout=10, read_timeout=30)
    return boto3.client(service, region_name=region or None, config=config)  # type: ignore[call-overload]


@contextmanager
def _errors(what: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

    try:
        yield
    except ClientError as error:
        answer = error.response.get("Error", {})
        code, reason = answer.get("Code", ""), answer.get("Message") or answer.get("Code", "")
        message = f"{what}: {reason.rstrip('.')}."
        if code.startswith(_BUSY):
            raise IndexUnreachableError(message, hint="Try again.") from error
        raise IndexDeniedError(message, hint="Check the name, and the role's permissions.") from error
    except (NoCredentialsError, NoRegionError) as error:
        raise IndexDeniedError(f"{what}: {error}.", hint="Configure AWS credentials and a region.") from error
    except BotoCoreError as error:
        raise IndexUnreachableError(f"{what}: {error}.", hint="Try again.") from error
