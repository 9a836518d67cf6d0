"""The clients of the crash campaign, as processes of their own: client.py publish|consume SETTINGS(JSON).

Ownership: a client writes its own history file, one write() a line, so that its death costs at most the line in hand.
Units: seconds, bytes.
Errors: what the broker does is history; a broken client ends with a traceback and exit 1.
Callers: campaign.py. SIGTERM: end in order. SIGUSR1 (consumer): leave in order, and come back.
"""

import json
import os
import random
import select
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from checker import make, parse  # noqa: E402
from wsclient import WsClient, WsClosed, WsError  # noqa: E402

ANSWER_S = 10.0
RECONNECT_S = 0.002
REQUESTS_MAX = 50       # on one connection: so that all instances behind the port get some
BATCH_MAX = 12


class History:
    """Appends lines to a file, each with one write()."""

    def __init__(self, path):
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, **entry):
        os.write(self._fd, json.dumps(entry, separators=(",", ":")).encode("ascii") + b"\n")


class Stop:
    """Signals as flags; wakes select() through a pipe."""

    def __init__(self):
        self.now = self.leave = False
        self.fd, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(self.fd, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._term)
        signal.signal(signal.SIGUSR1, self._usr1)

    def _term(self, *_):
        self.now = True

    def _usr1(self, *_):
        self.leave = True

    def wait(self, timeout, *fds):
        """Until a descriptor is readable, a signal came, or the time is over."""
        ready, _, _ = select.select([self.fd, *fds], [], [], timeout)
        if self.fd in ready:
            os.read(self.fd, 512)
        return [fd for fd in ready if fd != self.fd]


class Publisher:
    """One producer: one request at a time; a refused one is tried again, one without an answer sometimes."""

    def __init__(self, settings, stop):
        self.settings, self.stop = settings, stop
        self.history = History(settings["history"])
        self.random = random.Random(settings["seed"])
        self.sock = None
        self.next = 0

    def run(self):
        while not self.stop.now:
            count = 1 if self.random.random() < 0.5 else self.random.randint(2, BATCH_MAX)
            first, self.next = self.next, self.next + count
            while not self._deliver_once(first, count) and not self.stop.now:
                pass
            if self.random.randrange(REQUESTS_MAX) == 0:
                self._drop()

    def _deliver_once(self, first, count):
        """One try; True when the messages need no other try."""
        if not self._connected():
            return False
        texts = [make(self.settings["run"], self.settings["producer"], first + k, self.random.randint(0, 250))
                 for k in range(count)]
        invoke = time.monotonic()
        entry = {"producer": self.settings["producer"], "first": first, "count": count, "invoke": invoke}
        self.history.add(type="invoke", **entry)
        status, seq = self._post(texts)
        result = "info" if status is None else "ok" if status == 200 else "fail"
        self.history.add(type="publish", **entry, end=None if status is None else time.monotonic(), result=result,
                         seq=seq, status=status)
        if result == "fail":
            self.stop.wait(0.005)
        return result == "ok" or result == "info" and self.random.random() < 0.5

    def _connected(self):
        if self.sock is None:
            try:
                self.sock = socket.create_connection(("127.0.0.1", self.settings["port"]), timeout=ANSWER_S)
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                self.stop.wait(RECONNECT_S)
                return False
        return True

    def _post(self, texts):
        """(status, number of the record) of one POST; (None, None) if no whole answer came."""
        if len(texts) == 1:
            path, body = "/input", {"content": texts[0]}
        else:
            path, body = "/input/batch", {"messages": [{"content": text} for text in texts]}
        body = json.dumps(body).encode("ascii")
        head = (f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n").encode("ascii")
        try:
            self.sock.sendall(head + body)
            return self._answer(len(texts))
        except OSError:
            self._drop()
            return None, None

    def _answer(self, count):
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, rest = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:])
        while len(rest) < int(fields["content-length"]):
            rest += self._more()
        status = int(lines[0].split(" ")[1])
        if fields.get("connection") == "close":
            self._drop()
        if status != 200:
            return status, None
        answer = json.loads(rest)
        if answer["count"] != count:
            raise RuntimeError(f"{count} messages were sent, the answer says {answer}")
        return status, int(answer["id"].split("-")[0])

    def _more(self):
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionResetError("end of stream")
        return data

    def _drop(self):
        if self.sock is not None:
            self.sock.close()
            self.sock = None


class Consumer:
    """One consumer of the root endpoint, always coming back."""

    def __init__(self, settings, stop):
        self.settings, self.stop = settings, stop
        self.history = History(settings["history"])
        self.sessions = 0

    def run(self):
        while not self.stop.now:
            try:
                client = WsClient("127.0.0.1", self.settings["port"], receive_buffer=16384)
            except (OSError, WsError):
                self.stop.wait(RECONNECT_S)
                continue
            session = self.settings["consumer"] * 1000000 + self.sessions
            self.sessions += 1
            self.stop.leave = False
            self.history.add(type="session", session=session, event="open", t=time.monotonic())
            self._session(client, session)
            self.history.add(type="session", session=session, event="close", t=time.monotonic())
            if self.stop.leave:
                self.stop.wait(0.05)

    def _session(self, client, session):
        """Reads to the end of the stream. To leave in order it asks for the close and goes on reading."""
        deadline = None
        try:
            while True:
                for content in client.messages():
                    self._frame(content, session)
                if (self.stop.now or self.stop.leave) and deadline is None:
                    client.ask_close()
                    deadline = time.monotonic() + ANSWER_S
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                if self.stop.wait(left, client.fileno()):
                    client.read()
                elif left == 0.0:
                    raise RuntimeError("the close frame was not answered")
        except (OSError, WsClosed):
            client.end()

    def _frame(self, content, session):
        now = time.monotonic()
        ids, bad = [], []
        for text in json.loads(content):
            number = parse(self.settings["run"], text)
            if number is None:
                bad.append(text[:200])
            else:
                ids.extend(number)
        self.history.add(type="deliver", session=session, t=now, ids=ids, bad=bad)


def main():
    settings = json.loads(sys.argv[2])
    role = {"publish": Publisher, "consume": Consumer}[sys.argv[1]]
    client = role(settings, Stop())
    print("ready", flush=True)      # signals have their handlers from here on
    client.run()


if __name__ == "__main__":
    main()
