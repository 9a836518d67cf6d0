#!/usr/bin/python3
"""tests/bench/slow_load.py: clients that keep a broker's connections busy with next to nothing.

    slow_load.py HTTP_PORT WS_PORT --heads N --bodies N --unread N --idle N [--interval S]

heads   send the head of a POST one byte an interval, and never end it;
bodies  send a whole head, and then the body one byte an interval;
unread  send one request behind the other into a small window and read no reply;
idle    WebSockets of the v1 protocol with a subscription to which nothing comes; they answer pings.

Who was ended by the broker connects again. Turns are spread over the interval, and the first
connections over several seconds, so that the broker sees a steady trickle of bytes and of new connections. Connections come from several loopback addresses, because the broker bounds those of one.

A line of JSON is written when all are open and the unread ones are stuck, and one with the counts at the end of the input.

Ownership: the process owns its sockets; the end of standard input ends it.
Units: seconds, bytes.
Errors: a connection that cannot be opened is counted and tried again.
Callers: slow_clients.py.
"""

import argparse
import collections
import errno
import json
import resource
import select
import socket
import struct
import sys
import time

ADDRESSES = 8
TICK = 0.001
OPEN_PER_TICK = 1  # new connections, at most
STUFF_BYTES = 65536  # of requests that an unread connection sends in a turn, at most
SEGMENT_BYTES = 1460  # of the unread ones, as on a real network; on loopback 64 KiB otherwise, and send buffers grow with them
WS_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.ECONNABORTED, errno.ETIMEDOUT)


class Slow:
    """One place of the load; connections in it follow each other."""

    kind = "slow"
    events = select.EPOLLIN | select.EPOLLRDHUP

    def __init__(self, load, number):
        self.load = load
        self.source = f"127.0.0.{2 + number % ADDRESSES}"
        self.sock = None
        self.settled = False  # as slow as it is going to be
        self.begin()

    def begin(self):
        """What the next connection starts with."""

    def options(self, sock):
        """Before the connection is made."""

    def target(self):
        """Where it goes."""
        return self.load.http

    def open(self):
        """Starts a connection."""
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.options(sock)
        self.begin()
        try:
            sock.bind((self.source, 0))
            sock.connect(self.target())
        except BlockingIOError:
            pass
        except OSError:
            sock.close()
            self.load.closed.append(self)
            self.load.count("not_opened", self)
            return
        self.sock = sock
        self.load.places[sock.fileno()] = self
        self.load.epoll.register(sock, self.events)
        self.load.count("opened", self)

    def end(self):
        """The broker ended it."""
        self.load.count("ended", self)
        self.close()

    def close(self):
        """Closes what is open."""
        if self.sock is None:
            return
        self.load.epoll.unregister(self.sock)
        del self.load.places[self.sock.fileno()]
        self.sock.close()
        self.sock = None
        self.load.closed.append(self)

    def send(self, data):
        """Bytes that were taken; 0: none now. Ends the connection when it is gone."""
        try:
            return self.sock.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno not in GONE:
                raise
            self.end()
            return 0

    def turn(self):
        """Once an interval."""
        raise NotImplementedError

    def event(self, events):
        """Something came."""
        try:
            gone = not self.sock.recv(4096) or events & (select.EPOLLHUP | select.EPOLLERR)
        except BlockingIOError:
            gone = events & (select.EPOLLHUP | select.EPOLLERR)
        except OSError:
            gone = True
        if gone:
            self.end()


class Dripper(Slow):
    """Sends its first bytes at once and the rest one by one."""

    first = b""
    drip = b"a"

    def begin(self):
        self.left = self.first

    def turn(self):
        if self.left:
            self.left = self.left[self.send(self.left):]
            self.settled = self.settled or not self.left
        else:
            self.send(self.drip)


class Head(Dripper):
    """A head that never ends."""

    kind = "heads"
    first = b"POST /v1/topics/bench.slow HTTP/1.1\r\nHost: slow\r\nContent-Length: 5\r\nX-Slow: "


class Body(Dripper):
    """A body that hardly comes."""

    kind = "bodies"
    first = (b"POST /v1/topics/bench.slow HTTP/1.1\r\nHost: slow\r\nContent-Type: application/octet-stream\r\n"
             b"Content-Length: 60000\r\n\r\n") + b"a" * 2000


class Unread(Slow):
    """Requests without end, and no reply is read."""

    kind = "unread"
    events = select.EPOLLRDHUP

    def options(self, sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)

    def begin(self):
        self.at = 0  # inside the repeated request

    def event(self, events):
        self.end()

    def turn(self):
        requests = self.load.requests
        sent = 0
        while self.sock is not None and sent < STUFF_BYTES:
            got = self.send(requests[self.at:])
            if got == 0:
                self.settled = self.settled or self.sock is not None
                return
            sent += got
            self.at = (self.at + got) % len(requests)


class Idle(Slow):
    """A WebSocket that waits for what does not come."""

    kind = "idle"

    def target(self):
        return self.load.ws

    def begin(self):
        host = "%s:%d" % self.load.ws
        self.left = (f"GET /v1/ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     f"Sec-WebSocket-Key: {WS_KEY}\r\nSec-WebSocket-Version: 13\r\n"
                     "Sec-WebSocket-Protocol: ciphermq.v1.json\r\n\r\n").encode()
        self.head = b""
        self.frames = None  # bytes of frames that are not whole; None: no WebSocket yet

    def command(self, opcode, data):
        """Queues a frame; its mask is zero."""
        self.left += struct.pack("!BB4x", 0x80 | opcode, 0x80 | len(data)) + data

    def turn(self):
        if self.left:
            self.left = self.left[self.send(self.left):]

    def event(self, events):
        try:
            data = self.sock.recv(4096)
        except BlockingIOError:
            data = None
        except OSError:
            data = b""
        if data == b"" or events & (select.EPOLLHUP | select.EPOLLERR):
            self.end()
        elif data:
            self.take(data)
            self.turn()

    def take(self, data):
        """Bytes of the reply to the handshake, then of frames."""
        if self.frames is None:
            self.head += data
            head, gap, data = self.head.partition(b"\r\n\r\n")
            if not gap:
                return
            if b" 101 " not in head.split(b"\r\n", 1)[0]:
                self.load.count("refused", self)
                self.end()
                return
            self.frames = b""
            self.command(1, b'{"id":1,"connect":{"client":"idle"}}')
            self.command(1, b'{"id":2,"subscribe":{"topic":"bench.idle"}}')
        self.frames += data
        while len(self.frames) >= 2 and self.sock is not None:
            opcode, length = self.frames[0] & 0x0F, self.frames[1] & 0x7F
            start = 2
            if length == 126:
                if len(self.frames) < 4:
                    return
                start, length = 4, int.from_bytes(self.frames[2:4], "big")
            if len(self.frames) < start + length:
                return
            payload = self.frames[start:start + length]
            self.frames = self.frames[start + length:]
            self.frame(opcode, payload)

    def frame(self, opcode, payload):
        """One frame of the broker."""
        if opcode == 9:
            self.load.count("pings", self)
            self.command(10, payload)
        elif opcode == 8:
            self.end()
        elif b'"id":2' in payload:
            self.settled = True
            if b'"error"' in payload:
                self.load.count("refused", self)


class Load:
    """All connections, in one thread."""

    def __init__(self, args):
        self.http = ("127.0.0.1", args.http_port)
        self.ws = ("127.0.0.1", args.ws_port)
        request = b"GET / HTTP/1.1\r\nHost: slow\r\n\r\n"
        self.requests = request * (16384 // len(request))
        self.interval = args.interval
        self.epoll = select.epoll()
        self.places = {}
        self.counts = {}
        kinds = ((Head, args.heads), (Body, args.bodies), (Unread, args.unread), (Idle, args.idle))
        self.slots = [kind(self, number) for kind, number in sorted(
            ((kind, number) for kind, count in kinds for number in range(count)), key=lambda entry: entry[1])]
        self.closed = collections.deque(self.slots)
        self.turns = 0
        self.looks = []  # how many were open, once an interval since all were

    def count(self, what, place):
        """Counts by kind."""
        counts = self.counts.setdefault(what, {})
        counts[place.kind] = counts.get(place.kind, 0) + 1

    def take_turns(self, now):
        """The turns that are due, and some new connections."""
        due = int((now - self.began) / self.interval * len(self.slots))
        while self.turns < due:
            place = self.slots[self.turns % len(self.slots)]
            self.turns += 1
            if place.sock is not None:
                place.turn()
        for _ in range(min(len(self.closed), OPEN_PER_TICK)):
            self.closed.popleft().open()

    def run(self):
        """Until the input ends."""
        self.began = time.monotonic()
        self.epoll.register(sys.stdin.fileno(), select.EPOLLIN)
        ready, looked = False, 0.0
        while True:
            for fd, events in self.epoll.poll(TICK, 256):
                if fd == sys.stdin.fileno():
                    return
                place = self.places.get(fd)
                if place is not None:
                    place.event(events)
            now = time.monotonic()
            self.take_turns(now)
            if ready and now >= looked + self.interval:
                looked = now
                self.looks.append(len(self.places))
            if not ready and all(place.settled for place in self.slots):
                ready, looked = True, now
                print(json.dumps({"open": len(self.places), "counts": self.counts}), flush=True)

    def close(self):
        """Closes all."""
        for place in self.slots:
            place.close()


def main():
    """Parses, runs, reports."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("http_port", type=int)
    parser.add_argument("ws_port", type=int)
    for kind in ("heads", "bodies", "unread", "idle"):
        parser.add_argument("--" + kind, type=int, default=0)
    parser.add_argument("--interval", type=float, default=1.0, help="between two bytes of a connection")
    args = parser.parse_args()
    need = args.heads + args.bodies + args.unread + args.idle + 64
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < need:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(need, hard), hard))
    load = Load(args)
    load.run()
    open_mean = sum(load.looks) / max(1, len(load.looks))
    load.close()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"open_mean": open_mean, "open_least": min(load.looks, default=0), "counts": load.counts, "cpu_s": usage.ru_utime + usage.ru_stime}), flush=True)


if __name__ == "__main__":
    main()
