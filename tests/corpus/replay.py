"""Sends cases of the corpus to a broker, many at a time, and says which answers differ from those that were expected.

Ownership: a run owns its connections; all are closed when it ends.
Units: seconds, bytes.
Errors: none are raised for a case; what is wrong with it becomes a text of the result.
Callers: tests/integration/test_corpus.py.
"""

import asyncio
import base64
import hashlib
import json
import struct
from typing import NamedTuple, Optional

HOST = "127.0.0.1"
TOGETHER = 32    # connections at a time
CASE_S = 30.0    # a case that takes longer hangs
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PROBE = b"GET / HTTP/1.1\r\nHost: probe\r\nConnection: close\r\n\r\n"

OPEN, CLOSED, EITHER = "open", "closed", "either"
ABSENT = object()
NO_ANSWER = ()   # to a handshake: the stream just ends


class Want(NamedTuple):
    """One HTTP answer."""

    status: object                # a number, or several of which any will do
    problem: Optional[str] = None  # the slug of its type; None: it is not looked at
    bare: bool = False            # answers HEAD: a length, and no body
    headers: tuple = ()           # ((name, value), ...): None: with any value; ABSENT: is not there
    offset: Optional[int] = None
    index: Optional[int] = None
    count: Optional[int] = None   # of messages taken
    rejected: Optional[int] = None  # lines of a stream
    lines: tuple = ()             # the refused ones that are named, in order
    may_be_lost: bool = False     # to a reset of the connection
    unread: bool = False          # its body goes on for ever: only the head is looked at
    library: bool = False         # by the HTTP library, before a handler of ours: only its status is looked at, then it closes


class HttpCase(NamedTuple):
    """Bytes that are sent on one connection, and what comes back."""

    name: str
    raw: object                   # bytes, or several that are sent one by one
    answers: tuple                # of Want
    after: str = CLOSED           # what becomes of the connection
    end: bool = False             # the client ends its stream behind them
    limit: Optional[str] = None   # of known.LIMITS: with it, `limited` is accepted, too
    limited: Optional[tuple] = None  # (answers, after)


class WsCase(NamedTuple):
    """A handshake, then bytes, and what comes back."""

    name: str
    handshake: bytes
    raw: object                   # bytes, or several, sent when the handshake is done
    answers: tuple                # of Want (refused upgrade) or of frames: see ws_streams.py
    after: str = CLOSED
    limit: Optional[str] = None
    limited: Optional[tuple] = None


class Result(NamedTuple):
    case: object
    wrong: Optional[str]          # None: as expected
    limited: bool                 # the library's answer, not the right one
    replies: list                 # of the Reply or frames that came


class Reply(NamedTuple):
    status: int
    headers: dict
    body: bytes

    def json(self):
        return json.loads(self.body)


class Ended(Exception):
    """The stream ended where more was expected; the text says what had come."""


class Mismatch(Exception):
    """Something came that was not expected."""


class Stream:
    """A connection, read through a buffer."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        self.buffer = bytearray()
        self.ended = False

    @classmethod
    async def open(cls, port):
        return cls(*await asyncio.open_connection(HOST, port))

    async def send(self, raw, end=False):
        """What the peer does not want to read any more is lost; that is no fault."""
        try:
            for part in [raw] if isinstance(raw, (bytes, bytearray)) else raw:
                self.writer.write(part)
                await self.writer.drain()
            if end:
                self.writer.write_eof()
        except OSError:
            pass

    async def more(self):
        """False at the end of the stream."""
        if self.ended:
            return False
        try:
            data = await self.reader.read(262144)
        except OSError:
            data = b""
        self.buffer += data
        self.ended = not data
        return not self.ended

    async def need(self, count):
        while len(self.buffer) < count:
            if not await self.more():
                raise Ended(f"end of stream behind {bytes(self.buffer[:200])!r}")

    async def take(self, count):
        await self.need(count)
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    async def take_until(self, mark):
        while mark not in self.buffer:
            if not await self.more():
                raise Ended(f"end of stream behind {bytes(self.buffer[:200])!r}")
        return await self.take(self.buffer.index(mark) + len(mark))

    async def rest(self):
        while await self.more():
            pass
        return bytes(self.buffer)

    def close(self):
        self.writer.transport.abort()


# ---- HTTP ----


async def read_reply(stream, bare=False, unread=False):
    """unread: the head is enough; what is behind it may be no body."""
    head = (await stream.take_until(b"\r\n\r\n")).decode("latin-1")
    lines = head[:-4].split("\r\n")
    if not lines[0].startswith("HTTP/1."):
        raise Mismatch(f"not an answer: {lines[0][:100]!r}")
    status = int(lines[0].split(" ")[1])
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    bodiless = bare or unread or status < 200 or status in (204, 304)
    body = b""
    if not bodiless and headers.get("transfer-encoding") == "chunked":
        body = await read_chunks(stream)
    elif not bodiless and "content-length" in headers:
        body = await stream.take(int(headers["content-length"]))
    elif not bodiless:
        body = await stream.rest()
    return Reply(status, headers, body)


async def read_chunks(stream):
    body = b""
    while True:
        size = int(await stream.take_until(b"\r\n"), 16)
        body += await stream.take(size)
        if await stream.take(2) != b"\r\n":
            raise Mismatch("a chunk is not ended")
        if size == 0:
            return body


def compare(want, reply):
    """What is wrong with an answer, or None."""
    statuses = want.status if isinstance(want.status, tuple) else (want.status,)
    if reply.status not in statuses:
        return f"status {reply.status}, wanted {want.status}: {reply.body[:300]!r}"
    for name, value in want.headers:
        got = reply.headers.get(name.lower())
        if (got is not None) if value is ABSENT else got is None or value not in (None, got):
            return f"header {name} is {got!r}, wanted {'none' if value is ABSENT else repr(value)}"
    wrong = compare_problem(want, reply) if want.problem else None
    return wrong or compare_numbers(want, reply)


def compare_numbers(want, reply):
    if want.count is None and want.rejected is None:
        return None
    body = reply.json()
    for name in ("count", "rejected"):
        if getattr(want, name) not in (None, body.get(name)):
            return f"{name} is not {getattr(want, name)}: {str(body)[:300]}"
    if want.lines and tuple(error["line"] for error in body["errors"]) != want.lines:
        return f"refused lines are not {want.lines}: {str(body)[:300]}"
    return None


def compare_problem(want, reply):
    if reply.headers.get("content-type") != "application/problem+json":
        return f"not a problem: {reply.headers}"
    body = reply.json()
    if body["type"] != "/problems/" + want.problem or body["status"] != reply.status or not body["title"]:
        return f"not {want.problem}: {body}"
    for name in ("offset", "index"):
        value = getattr(want, name)
        if value is not None and body.get(name) != value:
            return f"{name} is not {value}: {body}"
    return None


async def check_http(stream, case, answers, after):
    replies = []
    for want in answers:
        if want.may_be_lost and not await stream.more():
            return replies
        reply = await read_reply(stream, want.bare, want.library or want.unread)
        replies.append(reply)
        wrong = compare(want, reply)
        if wrong:
            raise Mismatch(wrong)
    if after == OPEN:
        await stream.send(PROBE)
        reply = await read_reply(stream)
        if reply.status != 200:
            raise Mismatch(f"the next request got {reply.status}: {reply.body[:200]!r}")
        replies.append(reply)
    if after != EITHER:
        rest = await stream.rest()
        if rest and not (answers and answers[-1].library):
            raise Mismatch(f"{len(answers)} answers were expected, and there is more: {rest[:300]!r}")
    return replies


async def play_http(port, case, answers, after):
    stream = await Stream.open(port)
    try:
        await stream.send(case.raw, case.end)
        return await check_http(stream, case, answers, after)
    finally:
        stream.close()


# ---- WebSocket ----

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


class Frame(NamedTuple):
    opcode: int
    payload: bytes

    def code(self):
        return struct.unpack(">H", self.payload[:2])[0] if len(self.payload) >= 2 else None


async def read_frame(stream):
    """A whole message of the server, which never sends fragments of one."""
    head = await stream.take(2)
    length = head[1] & 127
    if length == 126:
        length = struct.unpack(">H", await stream.take(2))[0]
    elif length == 127:
        length = struct.unpack(">Q", await stream.take(8))[0]
    payload = await stream.take(length)
    final, opcode = bool(head[0] & 128), head[0] & 15
    while not final:
        more = await read_frame_part(stream)
        payload, final = payload + more[0], more[1]
    if head[0] & 0x70 or head[1] & 128:
        raise Mismatch(f"a bad frame of the server: {head!r}")
    return Frame(opcode, payload)


async def read_frame_part(stream):
    head = await stream.take(2)
    length = head[1] & 127
    if length == 126:
        length = struct.unpack(">H", await stream.take(2))[0]
    elif length == 127:
        length = struct.unpack(">Q", await stream.take(8))[0]
    return await stream.take(length), bool(head[0] & 128)


def accept_of(handshake):
    """What Sec-WebSocket-Accept must be, or None if there is no key."""
    whole = handshake if isinstance(handshake, bytes) else b"".join(handshake)
    for line in whole.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"sec-websocket-key":
            return base64.b64encode(hashlib.sha1(value.strip() + GUID).digest()).decode("ascii")
    return None


async def check_ws(stream, case, answers, after):
    if answers is NO_ANSWER:
        if await stream.more():
            raise Mismatch(f"wanted the end: {bytes(stream.buffer[:200])!r}")
        return []
    answers = list(answers)
    reply = await read_reply(stream)
    replies = [reply]
    if answers and isinstance(answers[0], Want):
        wrong = compare(answers[0], reply)
        if wrong:
            raise Mismatch(wrong)
        if reply.status != 101:
            return replies
        answers.pop(0)
    elif reply.status != 101:
        raise Mismatch(f"no upgrade: {reply.status} {reply.body[:200]!r}")
    if reply.headers.get("sec-websocket-accept") != accept_of(case.handshake):
        raise Mismatch(f"Sec-WebSocket-Accept is {reply.headers.get('sec-websocket-accept')}")
    await stream.send(case.raw)
    for want in answers:
        wrong = await want(stream, replies)
        if wrong:
            raise Mismatch(wrong)
    if after == CLOSED:
        await stream.rest()
    return replies


async def play_ws(port, case, answers, after):
    stream = await Stream.open(port)
    try:
        await stream.send(case.handshake)
        return await check_ws(stream, case, answers, after)
    finally:
        stream.close()


# ---- all ----


async def attempt(play, port, case, answers, after):
    """(wrong or None, replies)"""
    try:
        return None, await asyncio.wait_for(play(port, case, answers, after), CASE_S)
    except (Mismatch, Ended) as error:
        return f"{type(error).__name__}: {error}", []
    except (OSError, ValueError, KeyError, IndexError) as error:
        return f"{type(error).__name__}: {error}", []
    except asyncio.TimeoutError:
        return f"no end within {CASE_S:g} s", []


async def play_case(play, port, case):
    """The library's known answer is tried first: waiting for the right one could only end with the time."""
    if case.limited is not None:
        wrong, replies = await attempt(play, port, case, *case.limited)
        if wrong is None:
            return Result(case, None, True, replies)
    wrong, replies = await attempt(play, port, case, case.answers, case.after)
    return Result(case, wrong, False, replies)


async def play_all(play, port, cases):
    gate = asyncio.Semaphore(TOGETHER)

    async def one(case):
        async with gate:
            return await play_case(play, port, case)

    return await asyncio.gather(*(one(case) for case in cases))


def run_http(port, cases):
    return asyncio.run(play_all(play_http, port, cases))


def run_ws(port, cases):
    return asyncio.run(play_all(play_ws, port, cases))
