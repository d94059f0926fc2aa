"""A real browser that opens pages, and reports what they requested and what was refused."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from websockets.sync.client import connect
from websockets.sync.connection import Connection

from prefect_platform.polling import wait_until
from tests.support.requirements import require_packages

_SECONDS = 60.0  # enough for a page on a busy machine
_PROGRAM = "chromium-headless-shell"  # the name of the Debian package and of its program


@dataclass
class Page:
    """A tab of the browser, with everything that happened in it since it was opened."""

    _connection: Connection
    _session: str = ""
    _calls: int = 0
    _requested: dict[str, str] = field(default_factory=dict)
    _refused: set[str] = field(default_factory=set)
    _idle: set[str] = field(default_factory=set)
    violations: set[tuple[str, str]] = field(default_factory=set)
    """The directive and the origin of each request that the page's policy refused."""
    errors: list[str] = field(default_factory=list)
    """The exceptions that no code of the page caught."""

    @property
    def sent(self) -> set[str]:
        """The origins of all requests that left the browser."""
        urls = (url for request, url in self._requested.items() if request not in self._refused)
        return {_origin(url) for url in urls} - {""}

    def open(self, url: str, expected: str) -> None:
        """Open a page, and wait until the expression `expected` is true and no request is open.

        Forgets what happened before. Raises AssertionError with what the page shows instead.
        """
        for seen in (self._requested, self._refused, self.violations, self.errors):
            seen.clear()
        loader = self.call("Page.navigate", url=url)["loaderId"]
        self.wait_for(expected)
        assert wait_until(lambda: self.value("true") and loader in self._idle, _SECONDS), url

    def wait_for(self, expected: str) -> None:
        """Wait until an expression is true; raises AssertionError with what the page shows."""
        if not wait_until(lambda: self.value(f"Boolean({expected})"), _SECONDS):
            shown = self.value("document.body.innerText")
            raise AssertionError(f"never true: {expected}\n{shown}\n{self.errors}")

    def type(self, text: str) -> None:
        """Type a text into the element that has the focus, and press the enter key."""
        self.call("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r")

    def value(self, expression: str) -> Any:  # noqa: ANN401 - any value of JSON
        """Return the value of an expression in the page; None if it throws."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value") if "exceptionDetails" not in answer else None

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Return the browser's answer to a command of the Chrome DevTools Protocol."""
        self._calls += 1
        message = {"id": self._calls, "method": method, "params": parameters}
        session = {"sessionId": self._session} if self._session else {}
        self._connection.send(json.dumps(message | session))
        while (answer := json.loads(self._connection.recv(_SECONDS))).get("id") != self._calls:
            self._note(answer.get("method", ""), answer.get("params", {}))
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    def _note(self, event: str, details: dict[str, Any]) -> None:
        match event:
            case "Network.requestWillBeSent":
                self._requested[details["requestId"]] = details["request"]["url"]
            case "Network.loadingFailed" if details.get("blockedReason") == "csp":
                self._refused.add(details["requestId"])
            case "Page.lifecycleEvent" if details["name"] == "networkIdle":
                self._idle.add(details["loaderId"])
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(details["exceptionDetails"]))
            case "Audits.issueAdded":
                if violation := details["issue"]["details"].get(
                    "contentSecurityPolicyIssueDetails"
                ):
                    directive = violation["violatedDirective"]
                    self.violations.add((directive, _origin(violation.get("blockedURL", ""))))


def _origin(url: str) -> str:
    """Return the origin of a URL, or an empty text if it names no host."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""


@contextmanager
def browser(directory: Path) -> Iterator[Page]:
    """Start a browser with its profile in `directory`, and yield an empty page.

    It resolves no host name, so that no request of a page reaches the internet.
    """
    require_packages(_PROGRAM)
    process = subprocess.Popen(
        [
            _PROGRAM,
            "--window-size=1280,2000",  # long enough for what a page loads only when it is visible
            "--no-sandbox",  # which a browser that root starts does not have
            "--remote-debugging-port=0",
            "--use-angle=swiftshader",
            "--enable-unsafe-swiftshader",  # WebGL, which the graph of a flow run is drawn with
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--user-data-dir={directory}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        port_file = directory / "DevToolsActivePort"
        address = wait_until(lambda: port_file.exists() and port_file.read_text(), _SECONDS)
        assert address, f"{_PROGRAM} does not start"
        port, path = address.split()
        with connect(f"ws://127.0.0.1:{port}{path}", max_size=None, proxy=None) as connection:
            page = Page(connection)
            target = page.call("Target.createTarget", url="about:blank")["targetId"]
            attached = page.call("Target.attachToTarget", targetId=target, flatten=True)
            page._session = attached["sessionId"]
            for domain in ("Page", "Network", "Runtime", "Audits"):
                page.call(f"{domain}.enable")
            page.call("Page.setLifecycleEventsEnabled", enabled=True)
            yield page
    finally:
        # The program is a shell script, which does not pass signals on to the browser.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
