"""Headless Chromium, spoken to in plain WebDriver."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.request import ProxyHandler, Request, build_opener

ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--window-size=1400,900",
]


class Browser:
    """One window. Use as a context manager."""

    def __init__(self, chromedriver: str, chromium: str, directory: Path) -> None:
        self._chromedriver = chromedriver
        self._chromium = chromium
        self._directory = directory
        self._opener = build_opener(ProxyHandler({}))

    def __enter__(self) -> Self:
        log = self._directory / "chromedriver.log"
        command = [self._chromedriver, "--port=0", f"--log-path={log}"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            assert self._process.stdout is not None
            started = next(line for line in self._process.stdout if "started successfully on port" in line)
            self._url = f"http://127.0.0.1:{started.rstrip().rstrip('.').rpartition(' ')[2]}"
            options = {
                "binary": self._chromium,
                "args": [*ARGUMENTS, f"--user-data-dir={self._directory / 'profile'}"],
            }
            capabilities = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
            session = self._send("POST", "/session", {"capabilities": capabilities})
            self._url += f"/session/{session['sessionId']}"
        except BaseException:
            self._end_driver()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._send("DELETE", "")
        finally:
            self._end_driver()

    def open(self, url: str) -> None:
        self._send("POST", "/url", {"url": "about:blank"})  # a new fragment alone loads no page
        self._send("POST", "/url", {"url": url})

    def text(self) -> str:
        """What can be read on the page."""
        return str(self._run("return document.body.innerText"))

    def wait_for(self, *words: str) -> str:
        """The text of the page once all words are on it. If they never are, the test's time runs out."""
        while not all(word in (text := self.text()) for word in words):
            time.sleep(0.05)
        return text

    def click(self, text: str) -> None:
        """Click the innermost element that shows exactly this text, once there is one."""
        script = """
            const all = [...document.querySelectorAll("*")].filter(e => e.textContent.trim() === arguments[0]);
            if (all.length) all[all.length - 1].click();
            return all.length > 0;
        """
        while not self._run(script, text):
            time.sleep(0.05)

    def screenshot(self, file: Path) -> None:
        file.write_bytes(base64.b64decode(self._send("GET", "/screenshot")))

    def _run(self, script: str, *arguments: Any) -> Any:
        return self._send("POST", "/execute/sync", {"script": script, "args": arguments})

    def _send(self, method: str, path: str, content: Any = None) -> Any:
        data = None if content is None else json.dumps(content).encode()
        request = Request(self._url + path, data, {"Content-Type": "application/json"}, method=method)
        with self._opener.open(request) as response:
            return json.load(response)["value"]

    def _end_driver(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
