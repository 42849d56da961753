"""Calls that moto does not know are answered by one clear error that names them.

moto itself answers with a page of HTML, which the aws command cannot read, or, in S3, with something else
that is at the same address: a list of objects for a setting of the bucket.
"""

import logging
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from local.calls import NAMES, Request, UnknownCallError, call_of, request_of, service_of
from local.errors import CallError, answer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger(__name__)

UNKNOWN_TO_S3: Final = frozenset({
    "abac", "analytics", "annotation", "intelligent-tiering", "metadataAnnotationTable",
    "metadataConfiguration", "metadataInventoryTable", "metadataJournalTable", "metadataTable", "metrics",
    "renameObject", "requestPayment", "session", "torrent",
})  # fmt: skip
"""Parts of addresses that moto's S3 passes over: it would do what the rest of the address says."""
TAKEN_FOR_S3: Final = frozenset({"s3-object-lambda", "s3files"})
"""Services that moto has not, and whose addresses its S3 takes for buckets."""


class KnownCalls:
    """moto, less its pages of HTML."""

    def __init__(self, application: "WSGIApplication") -> None:
        self._application = application

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer a request."""
        service, asked = service_of(environ.get("HTTP_AUTHORIZATION", "")), environ["wsgi.input"]
        query = dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
        if service in TAKEN_FOR_S3 or (service == "s3" and not UNKNOWN_TO_S3.isdisjoint(query)):
            return answer(_unknown(environ), environ, start_response)
        answers: list[Any] = []

        def keep(*given: Any) -> Any:
            answers.append(given)
            return None

        try:
            body = self._application(environ, keep)
            status, headers, *rest = answers[0]
            if status[:3] in ("404", "405") and service != "s3" and environ["REQUEST_METHOD"] != "HEAD":
                content = b"".join(body)
                if hasattr(body, "close"):
                    body.close()
                if _is_page(headers, content):
                    raise NotImplementedError  # noqa: TRY301 (as moto says it elsewhere)
                body = [content]
        except NotImplementedError:
            asked.seek(0)
            return answer(_unknown(environ | {"wsgi.input": asked}), environ, start_response)
        except Exception as error:
            asked.seek(0)
            name = _name(request_of(environ | {"wsgi.input": asked}))
            logger.exception("moto failed at %s", name)
            message = f"moto failed at {name}: {type(error).__name__}: {error}"
            failure = CallError(HTTPStatus.INTERNAL_SERVER_ERROR, "InternalFailure", message)
            return answer(failure, environ, start_response)
        start_response(status, headers, *rest)
        return body


def _is_page(headers: list[tuple[str, str]], content: bytes) -> bool:
    """Whether this is what Flask says of an address that it does not know, or moto of none of its own."""
    kind = next((value for name, value in headers if name.lower() == "content-type"), "")
    return kind.startswith("text/html") and (not content or content.lower().startswith(b"<!doctype html"))


def _unknown(environ: "WSGIEnvironment") -> CallError:
    message = f"The embedded AWS does not know the call {_name(request_of(environ))}."
    return CallError(HTTPStatus.NOT_IMPLEMENTED, "NotImplemented", message)


def _name(request: Request) -> str:
    """Return service and operation, or what else there is to name a call by."""
    signed = service_of(request.headers.get("authorization", ""))
    service = NAMES.get(signed, signed)
    form = dict(parse_qsl(request.body.decode(errors="replace"))) if b"Action=" in request.body else {}
    if action := form.get("Action") or request.query.get("Action"):
        return f"{service}:{action}"
    if target := request.headers.get("x-amz-target"):
        return f"{service}:{target.rpartition('.')[2]}"
    if "/operation/" in request.path:  # Smithy RPC v2
        return f"{service}:{request.path.rpartition('/')[2]}"
    try:
        call = call_of(request)
    except UnknownCallError:
        return f"{service} {request.method} {request.path}"
    return f"{call.service}:{call.operation}"
