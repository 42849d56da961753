"""HTTP to package indexes: one pool, patient with what passes, plain about what does not."""

from __future__ import annotations

import os
import ssl
import threading
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from layer_builder import __version__
from layer_builder.errors import IndexUnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import urllib3

CONNECTIONS = 16
_CHUNK = 1 << 18
_RETRIES = 4
_ONE_AT_A_TIME = threading.Lock()
_BUSY = (408, 425, 429, 500, 502, 503, 504)


class Response:
    """An answer of 200, its body not yet read."""

    def __init__(self, url: str, response: urllib3.BaseHTTPResponse) -> None:
        self._url = url
        self._response = response
        self.content_type = response.headers.get("Content-Type", "")

    def chunks(self) -> Iterator[bytes]:
        """Read the body piece by piece.

        Raises:
            IndexUnreachableError: it breaks off.
        """
        import urllib3

        try:
            yield from self._response.stream(_CHUNK)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _unreachable(self._url, _cause(error), broken=True) from error

    def read(self, limit: int) -> bytes:
        """Read the whole body, of at most `limit` bytes."""
        content = bytearray()
        for chunk in self.chunks():
            content += chunk
            if len(content) > limit:
                raise _unreachable(self._url, f"the answer has more than {limit:,} bytes")
        return bytes(content)


@contextmanager
def get(url: str, *, accept: str = "*/*", encodings: str = "identity") -> Iterator[Response]:
    """Ask for a URL, again after a while if the server is busy or the line breaks.

    Raises:
        IndexUnreachableError: nobody answers, or the answer is an error.
    """
    import urllib3

    try:
        response = _pool_for(url).request(
            "GET", url, headers={"Accept": accept, "Accept-Encoding": encodings}, preload_content=False
        )
    except urllib3.exceptions.HTTPError as error:
        raise _unreachable(url, _cause(error)) from error
    try:
        if response.status != 200:
            raise _unreachable(url, f"it answered {response.status} {response.reason or ''}".rstrip())
        yield Response(url, response)
    finally:
        response.close()
        response.release_conn()


@cache
def _pool(proxy: str | None) -> urllib3.PoolManager:
    # Imported late here and above: with every wheel in the cache nothing is fetched, and the import is not
    # cheap.
    import urllib3

    options: dict[str, Any] = {
        "maxsize": CONNECTIONS,
        "timeout": urllib3.Timeout(connect=10, read=60),
        "retries": urllib3.Retry(
            _RETRIES, redirect=5, backoff_factor=0.5, status_forcelist=_BUSY, raise_on_status=False
        ),
        "headers": {"User-Agent": f"layer-builder/{__version__}"},
        "ssl_context": ssl.create_default_context(
            cafile=os.environ.get("SSL_CERT_FILE") or None, capath=os.environ.get("SSL_CERT_DIR") or None
        ),
    }
    return urllib3.ProxyManager(proxy, **options) if proxy else urllib3.PoolManager(**options)


def _pool_for(url: str) -> urllib3.PoolManager:
    parts = urlsplit(url)
    with _ONE_AT_A_TIME:  # threads that start together are to share one pool
        return _pool(None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme))


def _cause(error: BaseException) -> str:
    """Say in a few words what lies under urllib3's chain of errors."""
    reason = getattr(error, "reason", None)
    text = str(reason if isinstance(reason, Exception) else error)
    return text.rpartition(": ")[2].strip(")'\" ") or type(error).__name__


def _unreachable(url: str, cause: str, *, broken: bool = False) -> IndexUnreachableError:
    host = urlsplit(url).hostname or url
    return IndexUnreachableError(
        f"The package index at {host} could not be read: {cause}.",
        hint="Try again; if it stays so, check the network and the index.",
        details={"host": host, "cause": cause, "broken": broken},
    )
