"""A Chromium without a window, steered over its DevTools protocol: what a user would do."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any

from websockets.sync.client import connect

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
)
STARTS = 30.0  # seconds for the browser
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38}
KEYS |= {"ArrowRight": 39, "ArrowDown": 40}


def program() -> str | None:
    """Path of a Chromium on this machine."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


class Chrome:
    """One page in a browser of its own. A context manager.

    Args:
        folder: where the browser's files go; must be empty.
        microphone: WAV that the fake microphone plays, over and over.
    """

    def __init__(self, folder: Path, microphone: Path | None = None) -> None:
        path = program()
        assert path is not None
        sound = [f"--use-file-for-fake-audio-capture={microphone}"] if microphone else []
        self._process = subprocess.Popen(
            [path, *QUIET, *sound, "--remote-debugging-port=0", f"--user-data-dir={folder}"]
            + ["about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._count = 0
        self.events: deque[dict[str, Any]] = deque(maxlen=2000)
        try:
            self._stack = contextlib.ExitStack()
            self._socket = self._stack.enter_context(connect(self._address(folder), max_size=None))
        except BaseException:
            self._process.kill()
            raise
        for domain in ("Page", "Runtime", "DOM", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Chrome:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _address(self, folder: Path) -> str:
        """Of the first page, for its own protocol."""
        port_file = folder / "DevToolsActivePort"
        end = time.monotonic() + STARTS
        while time.monotonic() < end:
            if port_file.exists() and (lines := port_file.read_text().split()):
                with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json") as answer:
                    targets = json.load(answer)
                pages = [t for t in targets if t["type"] == "page"]
                if pages:
                    return str(pages[0]["webSocketDebuggerUrl"])
            time.sleep(0.1)
        raise TimeoutError("Chromium does not start")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One command of the protocol, and its answer."""
        self._count += 1
        self._socket.send(json.dumps({"id": self._count, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("id") != self._count:
                self.events.append(message)
            elif "error" in message:
                raise RuntimeError(f"{method}: {message['error']['message']}")
            else:
                return dict(message["result"])

    def open(self, url: str) -> None:
        """Load a page; returns before it is complete."""
        self.call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        answer = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True,
            userGesture=False,
        )  # fmt: skip
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, script: str, seconds: float = 20.0) -> Any:
        """Until an expression is true; its value.

        Raises:
            TimeoutError: It never is.
        """
        end = time.monotonic() + seconds
        while not (value := self.run(script)):
            if time.monotonic() > end:
                raise TimeoutError(f"never true: {script}; the page says: {self.text('.theatre')}")
            time.sleep(0.1)
        return value

    def text(self, selector: str) -> str:
        """What an element says."""
        return str(self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def click(self, selector: str) -> None:
        """With the mouse, in the middle of an element, which is brought into view."""
        x, y = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center', behavior: 'instant'});"
            "const b = e.getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1
            )  # fmt: skip

    def press(self, key: str, times: int = 1) -> None:
        """A key that has a name, like Tab."""
        for kind in ("keyDown", "keyUp") * times:
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=key, code=key,
                windowsVirtualKeyCode=KEYS[key], **({"text": "\r"} if key == "Enter" else {}),
            )  # fmt: skip

    def write(self, text: str) -> None:
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)

    def choose_file(self, selector: str, path: Path) -> None:
        """What the user picks where the page asks for a file."""
        document = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=document, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", files=[str(path)], nodeId=node)

    def look(self, width: int, height: int, *, dark: bool = False, phone: bool = False) -> None:
        """The size of the window, and what the user prefers."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height,
            deviceScaleFactor=2 if phone else 1, mobile=phone,
        )  # fmt: skip
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """As PNG; ``whole`` takes what must be scrolled to as well."""
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    def complaints(self) -> list[str]:
        """Errors that the page's scripts threw or that the browser logged."""
        self.run("0")  # takes in what has come
        found = []
        for event in self.events:
            if event.get("method") == "Runtime.exceptionThrown":
                found.append(json.dumps(event["params"]["exceptionDetails"]))
            entry = event.get("params", {}).get("entry", {})
            if event.get("method") == "Log.entryAdded" and entry["level"] == "error":
                found.append(f"{entry['text']} {entry.get('url', '')}")
        return found
