"""Headless Chromium over its DevTools protocol: what a page shows, runs and fetches."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0",
    "--hide-scrollbars",
)  # fmt: skip


@dataclass
class Seen:
    """What happened since a page was opened.

    Attributes:
        dialogs: Messages of alert, confirm and prompt.
        requests: Every address that was asked for.
        errors: Uncaught errors of scripts.
    """

    dialogs: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def foreign(self) -> list[str]:
        """Return the requests that leave this machine."""
        own = ("127.0.0.1", "localhost", None)
        return [a for a in self.requests if urlsplit(a).hostname not in own]


class Browser:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._number = socket, 0
        self.seen = Seen()
        for domain in ("Page", "Network", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._number += 1
        number = self._number
        self._socket.send(json.dumps({"id": number, "method": method, "params": arguments}))
        while True:
            message = json.loads(self._socket.recv(60))
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return dict(message["result"])
            self._note(message)

    def open(self, address: str, *, wait_for: str = "true", wait_s: float = 30.0) -> Seen:
        """Open a page and wait until the JavaScript expression `wait_for` holds."""
        self.seen = Seen()
        self.call("Page.navigate", url=address)
        self.wait(wait_for, wait_s)
        return self.seen

    def wait(self, expression: str, wait_s: float = 30.0) -> None:
        """Wait until an expression holds.

        Raises:
            AssertionError: If it does not within `wait_s` seconds.
        """
        deadline = time.monotonic() + wait_s
        while not self.run(f"document.readyState === 'complete' && !!({expression})"):
            assert time.monotonic() < deadline, f"never true: {expression}"
            time.sleep(0.1)

    def idle(self, seconds: float) -> None:
        """Let the page work for a while, and take note of what it does."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                self._note(json.loads(self._socket.recv(left)))
            except TimeoutError:
                return

    def run(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; promises are awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("text", "script error"))
        return answer["result"].get("value")

    def resize(self, width: int, height: int, *, mobile: bool = False) -> None:
        """Set the size of the page in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=mobile,
        )  # fmt: skip

    def dark(self, on: bool = True) -> None:
        """Ask for the dark or the light scheme."""
        feature = {"name": "prefers-color-scheme", "value": "dark" if on else "light"}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def key(self, name: str) -> None:
        """Press and release a key, e.g. `ArrowRight`, `Enter`, `a`."""
        text = {"text": name} if len(name) == 1 else {"text": "\r"} if name == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=name, code=name, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=name, code=name)

    def click(self, x: float, y: float) -> None:
        """Click at a point in CSS pixels."""
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path) -> Path:
        """Write what is seen as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
        return path

    def _note(self, message: dict[str, Any]) -> None:
        kind, told = message.get("method"), message.get("params", {})
        if kind == "Page.javascriptDialogOpening":
            self.seen.dialogs.append(told["message"])
            self._number += 1
            close = {"id": self._number, "method": "Page.handleJavaScriptDialog"}
            self._socket.send(json.dumps({**close, "params": {"accept": True}}))
        elif kind == "Network.requestWillBeSent":
            self.seen.requests.append(told["request"]["url"])
        elif kind == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            thrown = details.get("exception", {}).get("description", details.get("text", ""))
            self.seen.errors.append(thrown)


def quiet(tab: Browser, width: int, height: int) -> Iterator[Browser]:
    """Give a light tab of a size, in which a page is quiet.

    No error, no dialog, nothing asked of another machine.
    """
    tab.resize(width, height)
    tab.dark(False)
    yield tab
    assert tab.seen.errors == []
    assert tab.seen.dialogs == []
    assert tab.seen.foreign() == []


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """Start Chromium with a fresh profile; skip the test where there is none."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), "")
    if not program:
        pytest.skip("no Chromium here")
    process = subprocess.Popen(
        [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        with connect(_address(profile), max_size=None) as socket:
            yield Browser(socket)
    except ConnectionClosed as error:
        raise RuntimeError("Chromium is gone") from error
    finally:
        process.terminate()
        process.wait(30)


def _address(profile: Path) -> str:
    """Return the address of the first tab, once Chromium has written its port."""
    file, deadline = profile / "DevToolsActivePort", time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            port = int(file.read_text().split()[0])
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=5) as answer:
                pages = [tab for tab in json.load(answer) if tab["type"] == "page"]
            return str(pages[0]["webSocketDebuggerUrl"])
        except (OSError, ValueError, IndexError):
            time.sleep(0.2)
    raise RuntimeError("Chromium did not start within a minute")
