"""A real Chromium, driven by its DevTools protocol over pipes: nothing listens, no library is needed.

https://chromedevtools.github.io/devtools-protocol/; `--remote-debugging-pipe` reads from descriptor 3 and
writes to 4, messages ending in a null byte.
"""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECONDS = 30
KEYS = {"Enter": 13, "Tab": 9, "ArrowRight": 39, "ArrowLeft": 37, "End": 35, "Home": 36, " ": 32}


class BrowserError(Exception):
    """What the browser says it could not do."""


class Page:
    """A tab. What its console, its policies and the network said is kept in `told` and `requests`."""

    def __init__(self, process: "subprocess.Popen[bytes]", reading: int, writing: int) -> None:
        self._process, self._reading, self._writing = process, reading, writing
        self._unread = b""
        self._number = 0
        self._session: str | None = None
        self.told: list[str] = []
        self.requests: list[str] = []
        self._loaded: set[str] = set()
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its answer."""
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        rest = json.dumps(message).encode() + b"\0"
        while rest:
            rest = rest[os.write(self._writing, rest) :]
        while (answer := self._message()).get("id") != number:
            self._note(answer)
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error']['message']}")
        return dict(answer["result"])

    def _message(self, seconds: float = SECONDS) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._reading], [], [], max(0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            more = os.read(self._reading, 1 << 20)
            assert more, f"the browser ended with {self._process.poll()}"
            self._unread += more
        message, _, self._unread = self._unread.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, message: dict[str, Any]) -> None:
        about = message.get("params", {})
        match message.get("method"):
            case "Runtime.consoleAPICalled" if about["type"] in ("error", "warning", "assert"):
                self.told.append(f"{about['type']}: {json.dumps(about['args'])}")
            case "Runtime.exceptionThrown":
                self.told.append(json.dumps(about["exceptionDetails"]))
            case "Log.entryAdded" if about["entry"]["level"] in ("error", "warning"):
                self.told.append(f"{about['entry']['source']}: {about['entry']['text']}")
            case "Network.requestWillBeSent" if not about["request"]["url"].startswith("data:"):
                self.requests.append(about["request"]["url"])
            case "Page.lifecycleEvent" if about["name"] == "load":
                self._loaded.add(about["loaderId"])

    def open(self, address: str) -> None:
        """Open an address from nothing, so that it is loaded even if only what follows its # is another."""
        for one in ("about:blank", address):
            answer = self.call("Page.navigate", url=one)
            assert "errorText" not in answer, answer["errorText"]
            while answer["loaderId"] not in self._loaded:
                self._note(self._message())

    def js(self, expression: str) -> Any:
        """Return what JavaScript says, also by a promise."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True, userGesture=True
        )
        if details := answer.get("exceptionDetails"):
            raise BrowserError(details.get("exception", {}).get("description") or details["text"])
        return answer["result"].get("value")

    def drawn(self) -> None:
        """Wait until what was asked for is on the screen: two frames."""
        self.js("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(null))))")

    def until(self, expression: str) -> Any:
        """Return what an expression says as soon as it is something."""
        deadline = time.monotonic() + SECONDS
        # An element has no value outside of the browser.
        while not (found := self.js(f"(found => found instanceof Node || found)({expression})")):
            assert time.monotonic() < deadline, f"never: {expression}"
            self.drawn()
        return found

    def texts(self, selector: str) -> list[str]:
        """What is to be read in the elements, as it is shown."""
        return list(self.js(f"[...document.querySelectorAll({selector!r})].map(e => e.innerText)"))

    def click(self, selector: str) -> None:
        self.js(f"document.querySelector({selector!r}).click()")
        self.drawn()

    def type(self, text: str) -> None:
        """Type into what has the focus."""
        for character in text:
            self.call("Input.dispatchKeyEvent", type="keyDown", text=character, key=character)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=character)
        self.drawn()

    def press(self, key: str) -> None:
        code = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
        text = {"Enter": {"text": "\r"}, " ": {"text": " "}}.get(key, {})
        self.call("Input.dispatchKeyEvent", type="keyDown", **code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **code)
        self.drawn()

    def resize(self, width: int, height: int = 900) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def prefer(self, **features: str) -> None:
        """Have the person's preferences be these, as in `prefers_color_scheme="dark"`."""
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", features=named)

    def picture(self, path: Path, *, whole: bool = False) -> None:
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def tree(self) -> list[tuple[str, str]]:
        """What a screen reader is given: roles and names."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node["ignored"] and "role" in node
        ]


def _moved(descriptor: int) -> int:
    """The same file by a number of ten or more."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved


@contextlib.contextmanager
def browser(*options: str) -> Iterator[Page]:
    """Start a browser with a profile of its own and give its page; it ends with the block."""
    with tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        command = [
            str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-quic", "--no-proxy-server", "--disable-dev-shm-usage", "--hide-scrollbars",
            f"--user-data-dir={folder / 'profile'}", "--remote-debugging-pipe", *options,
        ]  # fmt: skip
        environment = {"PATH": os.environ["PATH"], "HOME": made, "TMPDIR": made}
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        # They are to be the browser's 3 and 4, so neither may have one of these numbers before.
        theirs_in, theirs_out = (_moved(number) for number in (theirs_in, theirs_out))
        shell = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                ["bash", "-c", shell, "bash", *command], env=environment, stdout=log, stderr=log,
                stdin=subprocess.DEVNULL, start_new_session=True, pass_fds=(theirs_in, theirs_out),
            )  # fmt: skip
        os.close(theirs_in)
        os.close(theirs_out)
        try:
            yield Page(process, ours_in, ours_out)
        except AssertionError as error:
            error.add_note((folder / "log").read_text(errors="replace")[-2000:])
            raise
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            os.close(ours_in)
            os.close(ours_out)
