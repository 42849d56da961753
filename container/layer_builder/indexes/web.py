"""HTTP to package indexes: one pool, patient with what passes, plain about what does not.

An index's answer may lead anywhere, by a redirect or a link. So each step of the way is looked at: a name is
resolved once, and only addresses that may be reached are connected to; credentials go to the origin that they
are for and to no other.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from layer_builder import __version__
from layer_builder.ground.errors import (
    AddressRefusedError,
    BuildError,
    DownloadTooLargeError,
    IndexDeniedError,
    IndexUnreachableError,
)
from layer_builder.indexes.access import addresses_of, kind_of
from layer_builder.requirements.origins import PORTS, origin_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import urllib3

    from layer_builder.indexes.access import Access

CONNECTIONS = 16
_CHUNK = 1 << 18
_RETRIES = 4
_REDIRECTS = 5
_LONGEST_WAIT = 30  # seconds between two tries, whatever a server asks for
_ONE_AT_A_TIME = threading.Lock()
_BUSY = (408, 425, 429, 500, 502, 503, 504)
_DENIED = (401, 403, 407)
_MOVED = (301, 302, 303, 307, 308)

# Slower than this, after so long, is no download but a line held open.
_GRACE = 60  # seconds
_SLOWEST = 4096  # bytes per second, on average


class Response:
    """An answer, its body not yet read."""

    def __init__(self, url: str, response: urllib3.BaseHTTPResponse) -> None:
        self._url = url
        self._response = response
        self.url = url
        self.status = response.status
        self.headers = response.headers
        self.content_type = response.headers.get("Content-Type", "")

    def chunks(self, limit: int) -> Iterator[bytes]:
        """Read the body piece by piece.

        Raises:
            DownloadTooLargeError: it has, or announces, more than `limit` bytes.
            IndexUnreachableError: it breaks off, or comes so slowly that it would never end.
        """
        import urllib3

        length = self.headers.get("Content-Length", "")
        if length.isdecimal() and int(length) > limit:
            raise _too_large(self._url, limit)
        begun, received, piece = time.monotonic(), 0, bytearray()
        try:
            # What has come, however little: waiting for a full piece would outwait any limit.
            while chunk := self._response.read1(_CHUNK):
                received += len(chunk)
                if received > limit:
                    raise _too_large(self._url, limit)
                piece += chunk
                if len(piece) >= _CHUNK:  # TLS hands out 16 KiB at a time, which is little to hash and write
                    yield bytes(piece)
                    piece.clear()
                seconds = time.monotonic() - begun
                if seconds > _GRACE and received < seconds * _SLOWEST:
                    raise _unreachable(self._url, f"it sent {received:,} bytes in {seconds:.0f} seconds")
            if piece:
                yield bytes(piece)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _unreachable(self._url, _cause(error), broken=True) from error

    def read(self, limit: int) -> bytes:
        """Read the whole body, of at most `limit` bytes."""
        return b"".join(self.chunks(limit))


@contextmanager
def ask(
    url: str,
    access: Access,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    accept: str = "*/*",
    encodings: str = "identity",
) -> Iterator[Response]:
    """Ask for a URL, again after a while if the server is busy or the line breaks; take any answer.

    Raises:
        IndexUnreachableError: nobody answers.
        AddressRefusedError: the URL, or what it redirects to, is not to be reached.
    """
    sent = {"Accept": accept, "Accept-Encoding": encodings, **(headers or {})}
    response = _follow(method, url, access, sent)
    try:
        yield Response(url, response)
    finally:
        response.close()
        response.release_conn()


@contextmanager
def get(url: str, access: Access, *, accept: str = "*/*", encodings: str = "identity") -> Iterator[Response]:
    """Ask for a URL as `ask` does; only 200 is an answer.

    Raises:
        IndexDeniedError: credentials are missing or wrong.
        IndexUnreachableError, AddressRefusedError: as `ask`, or the answer is another error.
    """
    with ask(url, access, accept=accept, encodings=encodings) as response:
        if error := failure(response):
            raise error
        yield response


def failure(response: Response) -> BuildError | None:
    """Make an error of an answer that is not what was asked for."""
    host = urlsplit(response.url).hostname or response.url
    if response.status in _DENIED:
        return IndexDeniedError(
            f"The package index at {host} refuses: it answered {response.status}.",
            hint="Give the installation the index's credentials, or the right ones: see docs/deploy.md.",
            details={"host": host, "status": response.status},
        )
    return None if response.status == 200 else _unreachable(response.url, f"it answered {response.status}")


def _follow(method: str, url: str, access: Access, headers: Mapping[str, str]) -> urllib3.BaseHTTPResponse:
    import urllib3

    for _ in range(_REDIRECTS + 1):
        _check(url, access)
        login = access.logins.get(origin_of(url))
        sent = {**headers, "Authorization": login.header} if login else dict(headers)
        try:
            response = _pool_for(url, access).request(
                method, url, headers=sent, preload_content=False, redirect=False
            )
        except urllib3.exceptions.HTTPError as error:
            raise _unreachable(url, _cause(error)) from error
        where = response.headers.get("Location")
        if response.status not in _MOVED or not where:
            return response
        response.close()
        response.release_conn()
        before, url = url, urljoin(url, where)
        if before.lower().startswith("https:") and not url.lower().startswith("https:"):
            raise _refused(url, "it leaves HTTPS")
    raise _unreachable(url, f"it redirects more than {_REDIRECTS} times")


def _check(url: str, access: Access) -> None:
    """Look at a URL itself; where its name leads is looked at when it is connected to."""
    from urllib3.util import parse_url

    try:
        parts, sent_to = urlsplit(url), parse_url(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:  # urllib3's LocationParseError is one
        raise _refused(url, "it is no address") from error
    if parts.scheme not in PORTS or not host:
        raise _refused(url, "it is no address on the web")
    # Credentials are chosen by how Python reads an address, and urllib3 reads `https://a\\@b/` differently.
    if (parts.scheme, host, port) != (sent_to.scheme, (sent_to.host or "").strip("[]"), sent_to.port):
        raise _refused(url, "it can be read in two ways")
    if (address := _as_number(host)) and not access.permits(address):
        raise _refused(url, f"it is in {kind_of(address)}")


def _as_number(host: str) -> str:
    """Give the IP address that a host is written as, empty if it is a name: a proxy would take 0xa9fea9fe."""
    with suppress(ValueError):
        return str(ipaddress.ip_address(host.partition("%")[0]))
    with suppress(OSError):
        return socket.inet_ntoa(socket.inet_aton(host.rstrip(".")))
    return ""


def prepare() -> None:
    """Load what the first request would wait for."""
    # Not a module of it: where one thread is at the module and another at the package, one of them gets half.
    import urllib3  # noqa: F401

    _trust()


@cache
def _trust() -> ssl.SSLContext:
    return ssl.create_default_context(
        cafile=os.environ.get("SSL_CERT_FILE") or None, capath=os.environ.get("SSL_CERT_DIR") or None
    )


@cache
def pool(proxy: str | None, access: Access) -> urllib3.PoolManager:
    """Make what keeps connections, for one proxy and what may be reached."""
    # Imported late here and above: with every wheel in the cache nothing is fetched, and the import is not
    # cheap.
    import urllib3

    options: dict[str, Any] = {
        "maxsize": CONNECTIONS,
        "timeout": urllib3.Timeout(connect=10, read=60),
        "retries": urllib3.Retry(
            _RETRIES,
            redirect=False,
            backoff_factor=0.5,
            backoff_jitter=0.5,
            backoff_max=_LONGEST_WAIT,
            retry_after_max=_LONGEST_WAIT,
            status_forcelist=_BUSY,
            raise_on_status=False,
        ),
        "headers": {"User-Agent": f"layer-builder/{__version__}"},
        "ssl_context": _trust(),
    }
    if proxy:  # it resolves names itself, in its own network
        return urllib3.ProxyManager(proxy, **options)
    manager = urllib3.PoolManager(**options)
    manager.pool_classes_by_scheme = _guarded(access)
    return manager


def _guarded(access: Access) -> dict[str, Any]:
    """Make urllib3's pools with connections that look at the address before they connect to it."""
    from urllib3.connection import HTTPConnection, HTTPSConnection
    from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
    from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

    class Guard(HTTPConnection):
        def _new_conn(self) -> socket.socket:
            name, last = self._dns_host, None
            try:
                found = addresses_of(name.strip("[]"), self.port)
            except socket.gaierror as error:
                raise NameResolutionError(self.host, self, error) from error
            permitted = [address for address in found if access.permits(address)]
            if not permitted:
                raise _refused(f"http://{name}", f"it is in {kind_of(found[0])}")
            try:  # by number, so that nobody can answer differently the second time
                for address in permitted:
                    self._dns_host = address
                    try:
                        return super()._new_conn()
                    except (NewConnectionError, ConnectTimeoutError) as error:
                        last = error
            finally:
                self._dns_host = name
            raise last or NewConnectionError(self, "no address")

    class SecureGuard(Guard, HTTPSConnection):
        pass

    class Pool(HTTPConnectionPool):
        ConnectionCls = Guard

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = SecureGuard

    return {"http": Pool, "https": SecurePool}


def _pool_for(url: str, access: Access) -> urllib3.PoolManager:
    parts = urlsplit(url)
    with _ONE_AT_A_TIME:  # threads that start together are to share one pool
        return pool(None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme), access)


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


def _refused(url: str, reason: str) -> AddressRefusedError:
    shown = url.partition("?")[0].partition("#")[0]
    scheme, mark, rest = shown.partition("://")
    place = f"{scheme}{mark}{rest.rpartition('@')[2].partition('/')[0]}"[:200]
    return AddressRefusedError(
        f"The package index leads to {place!r}, which is not followed: {reason}.",
        hint="If it belongs to your index, the installation has to allow it: see docs/deploy.md.",
        details={"address": place, "reason": reason},
    )


def _too_large(url: str, limit: int) -> DownloadTooLargeError:
    name = urlsplit(url).path.rpartition("/")[2] or urlsplit(url).hostname or url
    return DownloadTooLargeError(
        f"{name[:200]} has more than {limit:,} bytes, the most that it may have.",
        hint="Take another version; if it stays so, something is wrong with the index.",
        details={"limit": limit},
    )
