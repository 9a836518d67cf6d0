"""A headless Chromium for a test, driven over the DevTools protocol.

Ownership: a Browser owns its process and its profile directory; both go away in close().
Units: seconds, CSS pixels.
Errors: BrowserError; an exception in the page is one too.
Callers: one thread.

    with Browser() as browser:
        page = browser.open("http://127.0.0.1:8080/")
        page.wait("document.querySelector('h1')")
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time

import websocket

from broker import wait_until

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


class BrowserError(Exception):
    """The browser or the page did not do what a test needs."""


class Page:
    def __init__(self, url):
        self._socket = websocket.create_connection(url, timeout=30, suppress_origin=True)
        self._id = 0
        self.complaints = []  # errors and warnings of the console, exceptions
        for domain in ("Page", "Runtime", "Log"):
            self.call(domain + ".enable")

    def _take(self):
        said = json.loads(self._socket.recv())
        method, words = said.get("method"), said.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.complaints.append(words["exceptionDetails"].get("exception", {}).get("description", words["exceptionDetails"]["text"]))
        elif method == "Log.entryAdded" and words["entry"]["level"] in ("error", "warning"):
            self.complaints.append(words["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and words["type"] in ("error", "warning"):
            self.complaints.append(str(words["args"]))
        return said

    def call(self, method, **words):
        self._id += 1
        self._socket.send(json.dumps({"id": self._id, "method": method, "params": words}))
        while True:
            said = self._take()
            if said.get("id") == self._id:
                if "error" in said:
                    raise BrowserError(f"{method}: {said['error']}")
                return said["result"]

    def evaluate(self, expression):
        """The value of a JavaScript expression; promises are waited for."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise BrowserError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, expression, timeout=20):
        """Until the expression is truthy; returns its value."""
        value = None

        def look():
            nonlocal value
            value = self.evaluate(f"(() => {{ const value = {expression}; return value instanceof Element ? true : value; }})()")
            return bool(value)
        wait_until(look, timeout, expression, 0.05)
        return value

    def go(self, url):
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def key(self, name, code, text=None):
        words = {"key": name, "code": name, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", **words, **({"text": text} if text else {}))
        self.call("Input.dispatchKeyEvent", type="keyUp", **words)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def size(self, width, height, phone=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)

    def scheme(self, name):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def screenshot(self, path):
        height = self.evaluate("document.documentElement.scrollHeight")
        width = self.evaluate("window.innerWidth")
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True,
                         clip={"x": 0, "y": 0, "width": width, "height": height, "scale": 1})
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as out:
            out.write(base64.b64decode(shot["data"]))


class Browser:
    def __init__(self):
        program = next((path for path in map(shutil.which, PROGRAMS) if path), None)
        if program is None:
            raise BrowserError("no Chromium; deploy/deps test installs it")
        self._profile = tempfile.mkdtemp(prefix="cmq-browser-")
        # In the sandbox of a test machine Chromium's own one cannot be made; the pages are ours.
        self._process = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0",
             f"--user-data-dir={self._profile}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        port_file = os.path.join(self._profile, "DevToolsActivePort")
        try:
            wait_until(lambda: self._process.poll() is not None or (os.path.exists(port_file) and os.path.getsize(port_file) > 10),
                       60, "the browser's port")
            if self._process.poll() is not None:
                raise BrowserError(f"{program} ended with {self._process.returncode}")
        except Exception:
            self.close()
            raise
        with open(port_file, encoding="ascii") as file:
            self._port = int(file.readline())
        self._pages = []

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close()

    def open(self, url):
        import urllib.request
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}/json/new?about:blank", method="PUT")
        with urllib.request.urlopen(request, timeout=30) as answer:
            page = Page(json.load(answer)["webSocketDebuggerUrl"])
        self._pages.append(page)
        page.go(url)
        return page

    def close(self):
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, 9)
                self._process.wait(10)
        for _ in range(50):  # helpers of the browser may still write there
            shutil.rmtree(self._profile, ignore_errors=True)
            if not os.path.exists(self._profile):
                return
            time.sleep(0.1)
