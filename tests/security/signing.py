"""Signature Version 4 by its description, without botocore: what attackers and others have in hand.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hashlib
import hmac
import http.client
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

from local.keys import Key


@dataclass(frozen=True)
class Signed:
    """A request, ready to be sent as it is or changed."""

    endpoint: str
    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def but(self, **changes: Any) -> "Signed":
        return replace(self, **changes)

    def with_header(self, name: str, value: str | None) -> "Signed":
        headers = {n: v for n, v in self.headers.items() if n != name}
        return replace(self, headers=headers | ({} if value is None else {name: value}))

    def send(self) -> tuple[int, str]:
        """Send exactly this; return the status and the body."""
        connection = http.client.HTTPConnection(urlsplit(self.endpoint).netloc, timeout=60)
        try:
            connection.putrequest(self.method, self.target, skip_host=True, skip_accept_encoding=True)
            headers = {"host": urlsplit(self.endpoint).netloc, "content-length": str(len(self.body))}
            for name, value in (headers | dict(self.headers)).items():
                connection.putheader(name, value)
            connection.endheaders(self.body)
            response = connection.getresponse()
            return response.status, response.read().decode(errors="replace")
        finally:
            connection.close()


def signature(
    key: Key, method: str, target: str, headers: Mapping[str, str], payload: str, stamp: str, scope: str
) -> str:
    path, _, query = target.partition("?")
    if "/s3/" not in scope:
        path = quote(path, safe="/~")
    pairs = sorted((pair if "=" in pair else f"{pair}=") for pair in query.split("&") if pair)
    lines = [f"{name}:{' '.join(value.split())}" for name, value in sorted(headers.items())]
    request = "\n".join([method, path, "&".join(pairs), *lines, "", ";".join(sorted(headers)), payload])
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    secret = f"AWS4{key.secret}".encode()
    for part in scope.split("/"):
        secret = hmac.digest(secret, part.encode(), "sha256")
    return hmac.digest(secret, text.encode(), "sha256").hex()


def sign(
    endpoint: str,
    key: Key,
    method: str,
    target: str,
    *,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    service: str = "s3",
    when: datetime | None = None,
    payload: str | None = None,
    date: str | None = None,
    drop: tuple[str, ...] = (),
) -> Signed:
    """Sign a request in its header.

    `when` is the time that is signed, `payload` what is said of the body, `date` the scope's date where it is
    to be another, `drop` headers to send unsigned.
    """
    stamp = (when or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    payload = payload or hashlib.sha256(body).hexdigest()
    given = {"host": urlsplit(endpoint).netloc, "x-amz-date": stamp} | dict(headers or {})
    if service == "s3":
        given["x-amz-content-sha256"] = payload
    scope = f"{date or stamp[:8]}/us-east-1/{service}/aws4_request"
    signed = {name: value for name, value in given.items() if name not in drop}
    value = signature(key, method, target, signed, payload, stamp, scope)
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={key.id}/{scope}, "
        f"SignedHeaders={';'.join(sorted(signed))}, Signature={value}"
    )
    return Signed(endpoint, method, target, {**given, "authorization": authorization}, body)


def presign(
    endpoint: str,
    key: Key,
    method: str,
    path: str,
    *,
    seconds: int | str = 60,
    when: datetime | None = None,
    service: str = "s3",
    body: bytes = b"",
) -> Signed:
    """Sign a request in its address."""
    stamp = (when or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/us-east-1/{service}/aws4_request"
    query = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{key.id}/{scope}",
        "X-Amz-Date": stamp,
        "X-Amz-Expires": str(seconds),
        "X-Amz-SignedHeaders": "host",
    }
    target = f"{path}?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())
    headers = {"host": urlsplit(endpoint).netloc}
    value = signature(key, method, target, headers, "UNSIGNED-PAYLOAD", stamp, scope)
    return Signed(endpoint, method, f"{target}&X-Amz-Signature={value}", headers, body)
