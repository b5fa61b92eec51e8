"""Headless Chromium under the keyboard, over the DevTools protocol on a pair of pipes."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--remote-debugging-pipe", "--window-size=1000,900"),
)
NAMED = {"Enter": ("\r", 13), "Backspace": ("", 8)}
PATIENCE = 120.0


def _as_3_and_4(read: int, write: int) -> None:
    """Chromium listens on the one and talks on the other; each may have the other's number now."""
    high = [fcntl.fcntl(end, fcntl.F_DUPFD, 50) for end in (read, write)]
    for place, end in zip((3, 4), high, strict=True):
        os.dup2(end, place)


class Tab:
    """One page in a browser of its own, with a fresh profile."""

    def __init__(self, program: str, folder: Path) -> None:
        self.downloads = folder / "downloads"
        read, self._to = os.pipe()
        self._from, write = os.pipe()
        self._process = subprocess.Popen(
            [program, *OPTIONS, f"--user-data-dir={folder}", "about:blank"],
            preexec_fn=lambda: _as_3_and_4(read, write),
            pass_fds=(3, 4),
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(read)
        os.close(write)
        self._rest = b""
        self._events: list[dict[str, Any]] = []
        self._count = 0
        self._session: str | None = None
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        settings = {"behavior": "allow", "downloadPath": str(self.downloads)}
        self.send("Browser.setDownloadBehavior", **settings)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """One command and its answer."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            heard = self._hear()
            if heard.get("id") == message["id"]:
                assert "error" not in heard, heard
                return heard["result"]
            self._events.append(heard)

    def open(self, page: Path) -> None:
        self._loading("Page.navigate", url=page.resolve().as_uri())

    def reload(self) -> None:
        self._loading("Page.reload")

    def press(self, key: str) -> None:
        """One key, down and up, as a keyboard would."""
        text, code = NAMED.get(key, (key, ord(key[0].upper())))
        event = {"key": key, "windowsVirtualKeyCode": code}
        self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **event)
        self.send("Input.dispatchKeyEvent", type="keyUp", **event)

    def type(self, text: str) -> None:
        for letter in text:
            self.press(letter)

    def ask(self, expression: str) -> Any:
        """The value of an expression on the page."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def text(self, id_: str) -> str:
        return str(self.ask(f"document.getElementById({id_!r}).textContent"))

    def picture(self, file: Path) -> None:
        """A screenshot."""
        file.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))

    def download(self) -> Path:
        """The one file that was saved, once it is whole."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            files = [file for file in self.downloads.glob("*") if file.suffix != ".crdownload"]
            if files:
                (file,) = files
                return file
            time.sleep(0.02)
        raise AssertionError("nothing was saved")

    def complaints(self) -> list[dict[str, Any]]:
        """What the page has logged, blocked content and exceptions included."""
        self.ask("0")
        kinds = ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled")
        return [event for event in self._events if event.get("method") in kinds]

    def _loading(self, method: str, **params: Any) -> None:
        self._events = [e for e in self._events if e.get("method") != "Page.loadEventFired"]
        self.send(method, **params)
        while not any(event.get("method") == "Page.loadEventFired" for event in self._events):
            self._events.append(self._hear())

    def _hear(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            part = os.read(self._from, 1 << 16)
            assert part, "Chromium has gone"
            self._rest += part
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))
