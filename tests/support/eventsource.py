"""What a browser's EventSource does with a stream of events (WHATWG HTML, 9.2), over a curl that does the HTTP; and curl itself.

Ownership: a stream owns its curl process, which ends with it.
Units: seconds.
Errors: TimeoutError when nothing comes for so long; EOFError when the stream has ended.
Callers: one thread a stream.
"""

import os
import select
import subprocess
import time
from typing import NamedTuple

CURL = ["curl", "--silent", "--show-error", "--no-buffer", "--globoff"]


def curl(*args, timeout=30.0):
    """(exit code, status, headers with names in lower case, body) of one request that ends by itself."""
    done = subprocess.run([*CURL, "--include", "--max-time", str(timeout), *args], capture_output=True, timeout=timeout + 10,
                          check=False)
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    status = int(lines[0].split()[1]) if lines[0].startswith("HTTP/") else 0
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    return done.returncode, status, headers, body


class Event(NamedTuple):
    kind: str
    data: str
    id: str


class EventSource:
    """last_id and retry are those of the browser's object: they stay when it connects again."""

    def __init__(self, url, *args, last_id=""):
        self.url, self.args = url, args
        self.last_id, self.retry, self.comments = last_id, None, 0
        self._child = None
        self.connect()

    def connect(self):
        """Again, as the browser would: with the last id in a header, and the same URL."""
        self.close()
        header = ["-H", f"Last-Event-ID: {self.last_id}"] if self.last_id else []
        self._child = subprocess.Popen([*CURL, *header, *self.args, self.url], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        os.set_blocking(self._child.stdout.fileno(), False)
        self._rest = b""
        self._id, self._kind, self._data = self.last_id, "", []

    def _line(self, deadline):
        while b"\n" not in self._rest:
            if not select.select([self._child.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError("no line")
            data = os.read(self._child.stdout.fileno(), 1 << 20)
            if not data:
                raise EOFError("the stream has ended")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        assert b"\r" not in line, line
        return line.decode("utf-8")

    def _field(self, line):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "":
            self.comments += 1
        elif name == "id":
            self._id = value
        elif name == "event":
            self._kind = value
        elif name == "data":
            self._data.append(value)
        elif name == "retry":
            self.retry = int(value)
        else:
            raise AssertionError(f"no such field: {line}")

    def block(self, timeout=20.0):
        """The next event; None for lines without data, which are not shown to the page."""
        deadline = time.monotonic() + timeout
        line = self._line(deadline)
        while line:
            self._field(line)
            line = self._line(deadline)
        self.last_id = self._id
        kind, data, self._kind, self._data = self._kind or "message", self._data, "", []
        return Event(kind, "\n".join(data), self.last_id) if data else None

    def event(self, timeout=20.0):
        """The next event that the page gets."""
        deadline = time.monotonic() + timeout
        while True:
            event = self.block(max(0.0, deadline - time.monotonic()))
            if event:
                return event

    def end(self, timeout=20.0):
        """Reads until the stream ends; curl's exit code, 0 if it ended in order."""
        try:
            while True:
                self.block(timeout)
        except EOFError:
            return self._child.wait(timeout)

    def close(self):
        if self._child:
            self._child.kill()
            self._child.wait()
            self._child.stdout.close()
            self._child = None
