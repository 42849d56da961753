"""Errors as AWS's protocols word them, so that the aws command and the SDKs tell them in their own way.

The form follows from what a request looks like, not from a service's model: models are not read for those who
are turned away.
"""

import json
import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from local.calls import service_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

XML_SERVICES: Final = {"s3", "s3express", "s3-outposts", "route53", "cloudfront"}
UNPRINTABLE: Final = re.compile(r"[^\t\x20-\x7e\xa0-\ud7ff\ue000-\ufffd]")


class CallError(Exception):
    """What a call is answered with in place of a result.

    Attributes:
        status: HTTP's.
        code: AWS's name of the error.
        message: A sentence for people.
    """

    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = UNPRINTABLE.sub("?", message)


def answer(error: CallError, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """Answer a request with an error, in the form of its protocol."""
    headers, body = _worded(error, environ)
    if environ["REQUEST_METHOD"] == "HEAD":
        body = b""
    headers += [("Content-Length", str(len(body))), ("X-Content-Type-Options", "nosniff")]
    start_response(f"{error.status.value} {error.status.phrase}", headers)
    return [body]


def _worded(error: CallError, environ: "WSGIEnvironment") -> tuple[list[tuple[str, str]], bytes]:
    service = service_of(environ.get("HTTP_AUTHORIZATION", ""))
    content_type = environ.get("CONTENT_TYPE", "")
    words = {"__type": error.code, "message": error.message}
    if environ.get("HTTP_SMITHY_PROTOCOL") == "rpc-v2-cbor":
        return [("Content-Type", "application/cbor"), ("smithy-protocol", "rpc-v2-cbor")], _cbor(words)
    if "HTTP_X_AMZ_TARGET" not in environ:
        inner = f"<Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>"
        if content_type.startswith("application/x-www-form-urlencoded"):
            ec2 = f"<Response><Errors><Error>{inner}</Error></Errors></Response>"
            others = f"<ErrorResponse><Error>{inner}</Error></ErrorResponse>"
            return [("Content-Type", "text/xml")], (ec2 if service == "ec2" else others).encode()
        if service in XML_SERVICES:
            return [("Content-Type", "application/xml")], f"<Error>{inner}</Error>".encode()
    headers = [("Content-Type", "application/json"), ("x-amzn-ErrorType", error.code)]
    return headers, json.dumps(words).encode()


def _cbor(words: dict[str, str]) -> bytes:
    # A map of texts: https://www.rfc-editor.org/rfc/rfc8949#section-3
    encoded = [text.encode() for pair in words.items() for text in pair]
    texts = (b"\x79" + len(text).to_bytes(2, "big") + text for text in encoded)
    return bytes([0xA0 + len(words)]) + b"".join(texts)
