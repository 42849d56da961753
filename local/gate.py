"""The front door: nothing reaches the embedded AWS that a web page sent, or that no key of its own signed.

It runs functions and jobs for whoever may call it, as the user who started it. On the loopback that is every
page that this user's browser has open, and every other user of the machine; so neither gets as far as moto.
"""

import hashlib
import io
import sys
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from moto.core.request import PRESERVED_HEADER_NAMES_ENVIRON_KEY

from local.errors import CallError, answer
from local.keys import Keyring
from local.signatures import Sent, check_payload, check_signature, check_time, read_signature

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ROLE: Final = "layerdrop.role"
"""Where the WSGI environment tells who signed: a role's name, or None for the account's owner."""
BODY_READ: Final = "layerdrop.body_read"
"""Where it tells that a request's body was read to its end."""
PIECE: Final = 1 << 18
"""Bytes of a body that are read and hashed at once."""


class Gate:
    """Lets requests through that one of the keys signed.

    Attributes:
        hosts: What the Host header may say.

    Args:
        application: Gets them, with ``ROLE`` in their environment.
        keys: Who may sign.
    """

    def __init__(self, application: "WSGIApplication", keys: Keyring) -> None:
        self.hosts: frozenset[str] = frozenset()
        self._application = application
        self._keys = keys

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Answer a request."""
        try:
            self._refuse_pages(environ)
            environ[ROLE] = self._signer(environ)
        except CallError as error:
            return answer(error, environ, start_response)
        return self._application(environ, start_response)

    def _refuse_pages(self, environ: "WSGIEnvironment") -> None:
        # https://www.w3.org/TR/fetch-metadata/: browsers set these, and pages cannot.
        site = environ.get("HTTP_SEC_FETCH_SITE", "none")
        if "HTTP_ORIGIN" in environ or site != "none":
            page = str(environ.get("HTTP_ORIGIN", site))
            raise CallError(
                HTTPStatus.FORBIDDEN,
                "AccessDenied",
                f"A web page sent this request ({page[:100]}), and the embedded AWS answers none.",
            )
        # A page can have its own name point here (DNS rebinding); then its requests are of its own origin.
        host = environ.get("HTTP_HOST", "")
        if host.lower() not in self.hosts:
            raise CallError(
                HTTPStatus.FORBIDDEN,
                "AccessDenied",
                f"The Host header says '{host[:100]}', but the embedded AWS is "
                f"{' or '.join(sorted(self.hosts))}; names of buckets go into the path.",
            )

    def _signer(self, environ: "WSGIEnvironment") -> str | None:
        sent = _sent(environ)
        signature = read_signature(sent)
        found = self._keys.find(signature.key_id)
        if found is None:
            raise CallError(
                HTTPStatus.FORBIDDEN,
                "InvalidAccessKeyId",
                f"The embedded AWS does not know the access key {signature.key_id[:40]}: "
                "export the lines that `make up` printed, in this shell.",
            )
        key, role = found
        check_time(signature)
        if signature.payload is not None:  # what is not signed is not even read
            check_signature(sent, signature, key, signature.payload)
        digest = _read_body(environ)
        if signature.payload is None:
            check_signature(sent, signature, key, digest)
        else:
            check_payload(signature.payload, digest)
        return role


def _sent(environ: "WSGIEnvironment") -> Sent:
    target = environ["RAW_URI"]
    # What else HTTP knows (a whole address, an asterisk) is read in more ways than one.
    if not target.startswith("/") or "#" in target:
        raise CallError(HTTPStatus.BAD_REQUEST, "InvalidURI", "The request names no path.")
    spelled = environ.get(PRESERVED_HEADER_NAMES_ENVIRON_KEY, {})
    headers = {
        spelled.get(name, name.removeprefix("HTTP_").replace("_", "-")).lower(): _text(value)
        for name, value in environ.items()
        if name.startswith("HTTP_") or name in ("CONTENT_TYPE", "CONTENT_LENGTH")
    }
    return Sent(environ["REQUEST_METHOD"], target, headers)


def _text(value: str) -> str:
    return value.encode("latin-1", "replace").decode("utf-8", "replace")  # WSGI's way to pass UTF-8


def _read_body(environ: "WSGIEnvironment") -> str:
    """Return the SHA-256 of a request's body, which can still be read by others, and from its start again."""
    length = environ.get("CONTENT_LENGTH") or "0"
    if not (length.isascii() and length.isdecimal()):
        raise CallError(HTTPStatus.BAD_REQUEST, "InvalidRequest", "Content-Length is not a number.")
    left = sys.maxsize if environ.get("wsgi.input_terminated") else int(length)
    body, digest, source = io.BytesIO(), hashlib.sha256(), environ["wsgi.input"]
    while left and (piece := source.read(min(left, PIECE))):  # while the sender sends the next one
        body.write(piece)
        digest.update(piece)
        left -= len(piece)
    if left and not environ.get("wsgi.input_terminated"):
        raise CallError(
            HTTPStatus.BAD_REQUEST, "IncompleteBody", f"The body ended before its {length} bytes."
        )
    body.seek(0)
    environ["wsgi.input"] = body
    environ[BODY_READ] = True
    return digest.hexdigest()
