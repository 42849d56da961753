"""Signature Version 4, checked: what a request was signed with, whether it is what was signed, and when.

botocore computes the signature anew from what came: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html
"""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl, quote

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from local.errors import CallError
from local.keys import Key
from local.settings import REGION

SCOPE: Final = r"(?P<key>\w+)/(?P<date>\d{8})/(?P<region>[\w-]+)/(?P<service>[\w-]+)/aws4_request"
HEADER: Final = re.compile(
    rf"AWS4-HMAC-SHA256 Credential={SCOPE}, ?"
    r"SignedHeaders=(?P<headers>[\w;-]+), ?Signature=(?P<signature>[0-9a-f]{64})",
    re.ASCII,
)
CREDENTIAL: Final = re.compile(SCOPE, re.ASCII)
HEX: Final = re.compile(r"[0-9a-f]{64}")
TIMESTAMP: Final = "%Y%m%dT%H%M%SZ"
MOST_SKEW: Final = timedelta(minutes=15)
"""https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html (RequestTimeTooSkewed)"""
LONGEST: Final = 604_800
"""Seconds for which an address may be presigned, at most:
https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html"""
UNSIGNED: Final = ("UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
IN_THE_QUERY: Final = "UNSIGNED-PAYLOAD"
MUST_BE_SIGNED: Final = ("x-amz-", "x-moto-")
"""Headers that change what a call means:
https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html"""


@dataclass(frozen=True)
class Sent:
    """A request as it came.

    Attributes:
        target: Path and query, encoded as they were sent.
        headers: By their names in lower case; what came several times is joined by commas.
    """

    method: str
    target: str
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Signature:
    """What a request says of its signature.

    Attributes:
        expires: Seconds for which a presigned address is good; None for a signature in the header.
        payload: The body's SHA-256, or one of the words for none; None where the sender does not say.
    """

    key_id: str
    region: str
    service: str
    timestamp: str
    signed: tuple[str, ...]
    value: str
    expires: int | None
    payload: str | None


def read_signature(sent: Sent) -> Signature:
    """Return what a request says of its signature, in the header or in the query.

    Raises:
        CallError: It says nothing, or nothing that can be right.
    """
    header = sent.headers.get("authorization")
    query = dict(parse_qsl(sent.target.partition("?")[2], keep_blank_values=True))
    if header is not None and "X-Amz-Signature" in query:
        raise _wrong("The request is signed twice, in its header and in its address.")
    if header is not None:
        found = HEADER.fullmatch(header)
        if found is None:
            raise _wrong("The Authorization header is not one of Signature Version 4.")
        return _read(
            sent, found, sent.headers.get("x-amz-date", ""), found["headers"], found["signature"], None
        )
    if "X-Amz-Signature" in query:
        found = CREDENTIAL.fullmatch(query.get("X-Amz-Credential", ""))
        seconds = query.get("X-Amz-Expires", "")
        right = (
            found is not None
            and found["service"] == "s3"  # others are called by who holds a key
            and query.get("X-Amz-Algorithm") == "AWS4-HMAC-SHA256"
            and HEX.fullmatch(query["X-Amz-Signature"])
            and re.fullmatch(r"[0-9]{1,6}", seconds)
            and 1 <= int(seconds) <= LONGEST
        )
        if found is None or not right:
            raise _wrong("The address is not presigned as S3's are, by Signature Version 4.")
        names, value = query.get("X-Amz-SignedHeaders", ""), query["X-Amz-Signature"]
        return _read(sent, found, query.get("X-Amz-Date", ""), names, value, int(seconds))
    if "Signature" in query and "AWSAccessKeyId" in query:  # what boto3 does unless it is told otherwise
        raise _wrong("The address is presigned by Signature Version 2: ask for signature_version s3v4.")
    raise CallError(
        HTTPStatus.FORBIDDEN,
        "MissingAuthenticationToken",
        "The request is not signed: export the lines that `make up` printed, in this shell.",
    )


def _read(
    sent: Sent, scope: re.Match[str], timestamp: str, names: str, value: str, expires: int | None
) -> Signature:
    if not re.fullmatch(r"\d{8}T\d{6}Z", timestamp, re.ASCII) or timestamp[:8] != scope["date"]:
        raise _wrong("The date that was signed (X-Amz-Date) is missing, or is not that of the credential.")
    signed = tuple(names.split(";"))
    unsigned = {name for name in sent.headers if name.startswith(MUST_BE_SIGNED)} - set(signed)
    if "host" not in signed or unsigned:
        missing = ", ".join(sorted(unsigned)) or "host"
        raise _wrong(f"There are headers in the request that were not signed: {missing}.")
    payload = sent.headers.get("x-amz-content-sha256", None if expires is None else IN_THE_QUERY)
    return Signature(
        scope["key"], scope["region"], scope["service"], timestamp, signed, value, expires, payload
    )


def check_time(signature: Signature, now: datetime | None = None) -> None:
    """Refuse what was signed too long ago, or ahead of time.

    Raises:
        CallError: It was.
    """
    now = now or datetime.now(UTC)
    try:
        then = datetime.strptime(signature.timestamp, TIMESTAMP).replace(tzinfo=UTC)
    except ValueError as error:
        raise _wrong(f"X-Amz-Date says {signature.timestamp}, which is no time.") from error
    if signature.expires is not None and now > then + timedelta(seconds=signature.expires):
        raise CallError(
            HTTPStatus.FORBIDDEN,
            "AccessDenied",
            f"The address was good for {signature.expires} seconds from {signature.timestamp} on.",
        )
    if then - now > MOST_SKEW or (signature.expires is None and now - then > MOST_SKEW):
        raise CallError(
            HTTPStatus.FORBIDDEN,
            "RequestTimeTooSkewed",
            f"The request was signed at {signature.timestamp}, and it is {now:{TIMESTAMP}}; "
            "15 minutes are the limit.",
        )


def check_signature(sent: Sent, signature: Signature, key: Key, payload: str) -> None:
    """Refuse what was not signed with a key, or is not what was signed.

    Args:
        sent: The request.
        signature: What it says.
        key: The key that it names.
        payload: What the signer took for the body: its SHA-256, or a word.

    Raises:
        CallError: It is not.
    """
    names = [name for name in signature.signed if name in sent.headers]
    headers = {name: sent.headers[name] for name in names}
    path, _, query = sent.target.partition("?")
    if signature.expires is not None:
        query = "&".join(pair for pair in query.split("&") if not pair.startswith("X-Amz-Signature="))
    request: Any = AWSRequest(sent.method, f"http://local{path}" + (f"?{query}" if query else ""), headers)
    request.context |= {"timestamp": signature.timestamp, "signed": headers}
    credentials = Credentials(key.id, key.secret)
    kind = _S3Signer if signature.service == "s3" else _Signer
    signer = kind(credentials, signature.service, signature.region)
    signer.payload_hash = payload
    text = signer.string_to_sign(request, signer.canonical_request(request))
    if len(names) < len(signature.signed) or not hmac.compare_digest(
        signer.signature(text, request), signature.value
    ):
        raise CallError(
            HTTPStatus.FORBIDDEN,
            "SignatureDoesNotMatch",
            f"The signature is not what the secret of {key.id} makes of this request: "
            "export the lines that `make up` printed, in this shell.",
        )


class _AsSent:
    """Signs what the sender says that it signed, neither more nor less."""

    payload_hash = ""

    def headers_to_sign(self, request: Any) -> Any:
        return request.context["signed"]

    def canonical_headers(self, headers_to_sign: Any) -> str:
        # botocore's own, for headers that may come several times, takes longer than all else here.
        return "\n".join(
            f"{name}:{' '.join(headers_to_sign[name].split())}" for name in sorted(headers_to_sign)
        )

    def payload(self, _request: Any) -> str:
        return self.payload_hash


class _Signer(_AsSent, SigV4Auth):
    pass


class _S3Signer(_AsSent, S3SigV4Auth):
    pass


def check_payload(payload: str, digest: str) -> None:
    """Refuse a body that is not the one that was signed.

    Args:
        payload: What was signed: its SHA-256, or a word for none.
        digest: The SHA-256 of what came, in hexadecimal.

    Raises:
        CallError: It is another, or signed in a way that is not checked here.
    """
    if payload in UNSIGNED:
        return
    if not HEX.fullmatch(payload):
        raise CallError(
            HTTPStatus.NOT_IMPLEMENTED,
            "NotImplemented",
            f"The embedded AWS does not check bodies that are signed as {payload[:50]}: "
            "sign the body's SHA-256, or UNSIGNED-PAYLOAD.",
        )
    if not hmac.compare_digest(digest, payload):
        raise CallError(
            HTTPStatus.BAD_REQUEST,
            "XAmzContentSHA256Mismatch",
            "The body is not the one that was signed: its SHA-256 is not x-amz-content-sha256.",
        )


def presigned(url: str, key: Key, seconds: int) -> str:
    """Return an address that whoever has it may GET for a while."""
    request = AWSRequest("GET", quote(url, safe=":/"))
    S3SigV4QueryAuth(Credentials(key.id, key.secret), "s3", REGION, expires=seconds).add_auth(request)
    return str(request.url)


def _wrong(message: str) -> CallError:
    return CallError(HTTPStatus.FORBIDDEN, "AccessDenied", message)
