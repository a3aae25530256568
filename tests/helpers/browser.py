"""Chromium through its own debugging protocol, on a pipe: one start serves many pages, windows and checks.

Scripts run beside the page, so that the rules by which it keeps out all scripts but its own stay as they are.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = "no Chromium is installed: the page is not tested in a browser"
_OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe", "about:blank"),
)


class Browser:
    """One Chromium with one tab.

    Attributes:
        console: what pages said on the console, and what they threw, since the last `open`.
    """

    def __init__(self, profile: Path) -> None:
        """Start the program, which keeps its files in `profile`."""
        out_read, self._write = os.pipe()
        self._read, in_write = os.pipe()
        # the browser reads commands from descriptor 3 and answers on 4
        words = ["bash", "-c", f'exec "$@" 3<&{out_read} 4>&{in_write}', "bash", str(PROGRAM), *_OPTIONS]
        self._process = subprocess.Popen(
            [*words, f"--user-data-dir={profile}"],
            pass_fds=(out_read, in_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(out_read)
        os.close(in_write)
        self._buffer, self._last, self._session = b"", 0, ""
        self._events: set[str] = set()
        self.console: list[str] = []
        targets = self._ask("Target.getTargets")["targetInfos"]
        target = next(one["targetId"] for one in targets if one["type"] == "page")
        self._session = self._ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._ask(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._write)  # the end of its commands ends the browser
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._read)

    def open(self, page: Path | str, width: int, height: int = 900, *, dark: bool = False, calm: bool = False) -> None:
        """Show `page` in a window of that size in CSS pixels, a touch screen's below 600 of width."""
        self.console = []
        self._ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if calm else "no-preference"},
        ]
        self._ask("Emulation.setEmulatedMedia", media="", features=features)
        for url in ("about:blank", page if isinstance(page, str) else page.as_uri()):
            self._events.clear()
            self._ask("Page.navigate", url=url)
            self._wait("Page.loadEventFired")

    def run(self, script: str) -> Any:
        """Return what the body of an async function gives in the page, as JSON.

        Raises:
            RuntimeError: the script threw.
        """
        words = {"expression": f"(async () => {{ {script} }})()", "awaitPromise": True, "returnByValue": True}
        answer = self._ask("Runtime.evaluate", **words)
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description", details["text"]))
        return answer["result"].get("value")

    def media(self, name: str) -> None:
        """Show the page as on `screen` or in `print`."""
        self._ask("Emulation.setEmulatedMedia", media=name)

    def point(self, x: float, y: float) -> None:
        """Move the mouse to a place of the window."""
        self._ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def key(self, name: str, code: int, text: str = "") -> None:
        """Press a key: its name, its number, and what it types."""
        for kind in ("keyDown", "keyUp"):
            said = {"text": text} if text and kind == "keyDown" else {}
            self._ask("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code, **said)

    def shot(self, *, whole: bool = False) -> bytes:
        """Return what the window shows, or the whole page, as PNG."""
        return base64.b64decode(self._ask("Page.captureScreenshot", captureBeyondViewport=whole)["data"])

    def paper(self) -> bytes:
        """Return the page as it is printed, as PDF."""
        answer = self._ask("Page.printToPDF", printBackground=False, preferCSSPageSize=True)
        return base64.b64decode(answer["data"])

    def _ask(self, method: str, **params: object) -> dict[str, Any]:
        self._last += 1
        call: dict[str, object] = {"id": self._last, "method": method, "params": params}
        if self._session:
            call["sessionId"] = self._session
        os.write(self._write, json.dumps(call).encode() + b"\0")
        while True:
            message = self._next()
            if message.get("id") == self._last:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                result: dict[str, Any] = message["result"]
                return result
            self._heard(message)

    def _wait(self, method: str) -> None:
        while method not in self._events:
            self._heard(self._next())

    def _heard(self, message: dict[str, Any]) -> None:
        method, params = message.get("method", ""), message.get("params", {})
        self._events.add(method)
        if method == "Runtime.consoleAPICalled":
            self.console.append(" ".join(str(one.get("value", one)) for one in params["args"]))
        elif method == "Runtime.exceptionThrown":
            self.console.append(params["exceptionDetails"]["text"])
        elif method == "Log.entryAdded":
            self.console.append(params["entry"]["text"])

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            more = os.read(self._read, 1 << 20)
            if not more:
                raise RuntimeError("Chromium has ended")
            self._buffer += more
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        return message


def png_size(data: bytes) -> Sequence[int]:
    """Return width and height of a PNG."""
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
