"""WebSocket handshakes, byte streams and commands, and what RFC 6455 and docs/PROTOCOL.md say to them.

Ownership: none, tables and pure functions.
Units: bytes.
Errors: none.
Callers: tests/integration/test_corpus.py.

What is wanted behind a handshake is a list of functions, each of which takes what comes next from the stream and says what is
wrong with it: ok(), fault(), pong(), close(), gone(), alive(), say().
"""

import base64
import json
import struct

import packing
from corpus.http_requests import CANARY, NOISE
from corpus.replay import (BINARY, CLOSE, CLOSED, CONTINUATION, EITHER, NO_ANSWER, PING, PONG, TEXT, Ended, HttpCase, Want, WsCase,
                           read_frame)

CRLF = "\r\n"
KEY = base64.b64encode(b"0123456789abcdef").decode("ascii")
JSON, MSGPACK = "ciphermq.v1.json", "ciphermq.v1.msgpack"
RECEIVE_BYTES_MAX = 65536  # dispatcher.receive_bytes_max
HALF = {"json": TEXT, "msgpack": BINARY}

BAD_UPGRADE = (Want(400),)
FORBIDDEN = (Want(403),)
NOT_FOUND = (Want(404),)


# ---- what is sent ----


def shake(path="/v1/ws", protocol=JSON, lines=(), **changed):
    """changed: HeaderName with underscores -> value, or None to leave it out."""
    headers = {"Host": "h:8080", "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": KEY,
               "Sec-WebSocket-Version": "13"}
    if protocol is not None:
        headers["Sec-WebSocket-Protocol"] = protocol
    method, version = changed.pop("method", "GET"), changed.pop("version", "HTTP/1.1")
    for name, value in changed.items():
        headers[name.replace("_", "-")] = value
    every = [f"{name}: {value}" for name, value in headers.items() if value is not None] + list(lines)
    return (CRLF.join([f"{method} {path} {version}", *every]) + CRLF + CRLF).encode("latin-1")


def frame(opcode, payload=b"", fin=True, rsv=0, masked=True, form=None, declared=None, mask=b"\x11\x22\x33\x44"):
    """form: 7, 16 or 64 bits of length; declared: another length than the payload's."""
    length = len(payload) if declared is None else declared
    if form is None:
        form = 7 if length < 126 else 16 if length < 65536 else 64
    bit = 0x80 if masked else 0
    head = struct.pack(">B", (0x80 if fin else 0) | rsv << 4 | opcode)
    head += {7: lambda: struct.pack(">B", bit | length), 16: lambda: struct.pack(">BH", bit | 126, length),
             64: lambda: struct.pack(">BQ", bit | 127, length)}[form]()
    if not masked:
        return head + payload
    repeated = (mask * (len(payload) // 4 + 1))[:len(payload)]
    return head + mask + bytes(a ^ b for a, b in zip(payload, repeated))


def command(value, form="json"):
    if form == "json":
        return frame(TEXT, json.dumps(value, separators=(",", ":")).encode("utf-8"))
    return frame(BINARY, packing.packb(value))


def connect(form="json"):
    return command({"id": 1, "connect": {}}, form)


def text(data, **options):
    return frame(TEXT, data if isinstance(data, bytes) else data.encode("utf-8"), **options)


# ---- what is wanted ----


async def next_value(stream, replies, form):
    got = await read_frame(stream)
    replies.append(got)
    if got.opcode != HALF[form]:
        return None, f"opcode {got.opcode}, payload {got.payload[:100]!r}"
    return (json.loads(got.payload) if form == "json" else packing.unpackb(got.payload)), None


def ok(number, form="json"):
    async def check(stream, replies):
        value, wrong = await next_value(stream, replies, form)
        return wrong or (None if value.get("id") == number and "ok" in value else f"wanted ok {number}: {value}")
    return check


def fault(number, code, form="json"):
    async def check(stream, replies):
        value, wrong = await next_value(stream, replies, form)
        if wrong:
            return wrong
        right = value.get("id") == number and value.get("error", {}).get("code") == code and value["error"]["message"]
        return None if right else f"wanted {code} for {number}: {value}"
    return check


async def read_past_messages(stream):
    """What comes behind the messages that an endpoint without subprotocol gets unasked: they are arrays."""
    got = await read_frame(stream)
    while got.opcode == TEXT and got.payload.startswith(b"["):
        got = await read_frame(stream)
    return got


def pong(payload=b""):
    async def check(stream, replies):
        got = await read_past_messages(stream)
        replies.append(got)
        return None if got == (PONG, payload) else f"wanted a pong of {payload[:40]!r}: {got.opcode} {got.payload[:60]!r}"
    return check


def close(*codes):
    """A close frame with one of the codes, and nothing before it. None: without a code."""
    async def check(stream, replies):
        got = await read_past_messages(stream)
        replies.append(got)
        if got.opcode != CLOSE:
            return f"wanted close {codes}: opcode {got.opcode}, {got.payload[:100]!r}"
        await stream.send(frame(CLOSE, got.payload[:2]))  # as a client does; without it the server waits
        return None if got.code() in codes else f"wanted close {codes}: {got.code()} {got.payload[2:60]!r}"
    return check


def close_if_read(*codes):
    """As close(); but the server ends while more is on its way, and the reset may take the close frame along (RFC 9112, 9.6)."""
    async def check(stream, replies):
        return None if not await stream.more() else await close(*codes)(stream, replies)
    return check


def gone():
    """The stream ends without a close frame."""
    async def check(stream, replies):
        try:
            got = await read_frame(stream)
        except Ended:
            return None
        return f"wanted the end: opcode {got.opcode}, {got.payload[:100]!r}"
    return check


def say(raw):
    """No answer: sends more. Control frames are answered at once, so what they must not overtake is waited for before."""
    async def check(stream, replies):
        await stream.send(raw)
    return check


def ok_or_close(number, code):
    """One or the other, as the bytes happen to come."""
    async def check(stream, replies):
        await stream.need(2)
        return await (ok(number) if stream.buffer[0] & 15 == TEXT else close(code))(stream, replies)
    return check


def maybe_ok(number, then):
    """A reply that a close may have overtaken, and what follows."""
    async def check(stream, replies):
        await stream.need(2)
        wrong = await ok(number)(stream, replies) if stream.buffer[0] & 15 == TEXT else None
        return wrong or await then(stream, replies)
    return check


def alive(form="json"):
    """The connection still takes commands. form None: the root endpoint, which has pings only."""
    async def check(stream, replies):
        if form is None:
            await stream.send(frame(PING, b"alive?"))
            return await pong(b"alive?")(stream, replies)
        await stream.send(command({"id": 4242, "ping": {}}, form))
        return await ok(4242, form)(stream, replies)
    return check


# ---- handshakes ----

UPGRADED = {
    "json": shake(), "msgpack": shake(protocol=MSGPACK), "root": shake("/", None), "upgrade-case": shake(Upgrade="WebSocket"),
    "upgrade-upper": shake(Upgrade="WEBSOCKET"), "connection-case": shake(Connection="upgrade"),
    "connection-list": shake(Connection="keep-alive, Upgrade"), "both-names": shake(protocol=f"{JSON}, {MSGPACK}"),
    "both-names-blanks": shake(protocol=f"  {MSGPACK} ,{JSON}"), "unknown-then-known": shake(protocol=f"chat, {JSON}"),
    "query": shake("/v1/ws?client=x"), "query-root": shake("/?x", None),
    "more-headers": shake(lines=[f"X-{i}: v" for i in range(30)]),
    "user-agent": shake(lines=["User-Agent: " + "u" * 200]), "cookie": shake(lines=["Cookie: " + "c" * 1000]),
    "host-port": shake(Host="127.0.0.1:8080"), "host-ipv6": shake(Host="[::1]:8080"), "names-lower": shake().lower().replace(
        b"get", b"GET").replace(b"http/1.1", b"HTTP/1.1").replace(KEY.lower().encode(), KEY.encode()),
    "origin-same": shake(Origin="http://h:8080"), "origin-same-other-port": shake(Origin="http://h:9"),
    "origin-localhost": shake(Origin="http://localhost:3000"), "origin-loopback": shake(Origin="http://127.0.0.1"),
    "origin-loopback-6": shake(Origin="http://[::1]:5"), "origin-case": shake(Origin="HTTP://H"),
    "origin-https": shake(Origin="https://h"), "origin-root": shake("/", None, Origin="http://h"),
    "extensions": shake(lines=["Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"]),
}
REFUSED = {
    # RFC 6455, 4.2.1 and 4.2.2; docs/PROTOCOL.md
    "no-subprotocol": (shake(protocol=None), BAD_UPGRADE), "other-subprotocol": (shake(protocol="chat"), BAD_UPGRADE),
    "empty-subprotocol": (shake(protocol=""), BAD_UPGRADE), "subprotocol-case": (shake(protocol="CipherMQ.v1.json"), BAD_UPGRADE),
    "subprotocol-prefix": (shake(protocol="ciphermq.v1.jso"), BAD_UPGRADE),
    "subprotocol-longer": (shake(protocol="ciphermq.v1.jsonx"), BAD_UPGRADE),
    "subprotocol-ours-root": (shake(protocol="cmq-root"), BAD_UPGRADE),
    "subprotocol-ours-listener": (shake(protocol="cmq-listener"), BAD_UPGRADE),
    "subprotocol-ours-and-good": (shake(protocol=f"cmq-root, {JSON}"), BAD_UPGRADE),
    "subprotocol-quoted": (shake(protocol=f'"{JSON}"'), BAD_UPGRADE),
    "subprotocol-long": (shake(protocol="p" * 400), BAD_UPGRADE),
    "root-with-subprotocol": (shake("/", JSON), BAD_UPGRADE), "root-with-other-subprotocol": (shake("/", "chat"), BAD_UPGRADE),
    "path-unknown": (shake("/nothing"), NOT_FOUND), "path-slash-behind": (shake("/v1/ws/"), NOT_FOUND),
    "path-upper": (shake("/V1/WS"), NOT_FOUND), "path-longer": (shake("/v1/wss"), NOT_FOUND), "path-v1": (shake("/v1"), NOT_FOUND),
    "path-v2": (shake("/v2/ws"), NOT_FOUND), "path-topics": (shake("/v1/topics/a"), NOT_FOUND),
    "path-long": (shake("/" + "a" * 2000), NOT_FOUND), "path-dots": (shake("/v1/ws/../wsx"), NOT_FOUND),
    "path-escape-cut": (shake("/v1/ws%2"), (Want((400, 403, 404)),)),
    "path-escape-bad": (shake("/v1/ws%zz"), (Want((400, 403, 404)),)),
    "origin-other": (shake(Origin="http://evil.example"), FORBIDDEN), "origin-null": (shake(Origin="null"), FORBIDDEN),
    "origin-word": (shake(Origin="h"), FORBIDDEN), "origin-prefix": (shake(Origin="http://h.evil.example"), FORBIDDEN),
    "origin-suffix": (shake(Origin="http://evilh"), FORBIDDEN), "origin-path": (shake(Origin="http://evil/h"), FORBIDDEN),
    "origin-user": (shake(Origin="http://h@evil"), FORBIDDEN),
    "origin-localhost-prefix": (shake(Origin="http://localhost.evil"), FORBIDDEN),
    "origin-loopback-prefix": (shake(Origin="http://127.0.0.1.evil"), FORBIDDEN),
    "origin-file": (shake(Origin="file://"), FORBIDDEN),
    "origin-long": (shake(Origin="http://" + "o" * 300), FORBIDDEN),
    "origin-root": (shake("/", None, Origin="http://evil"), FORBIDDEN),
    "origin-two": (shake(Origin="http://h http://evil"), FORBIDDEN), "origin-bracket": (shake(Origin="http://[::1"), FORBIDDEN),
}


def handshakes():
    for name, raw in UPGRADED.items():
        form = None if raw.startswith((b"GET / ", b"GET /?")) else "json"
        if b"v1.msgpack" in raw.split(b"rotocol")[-1].split(b",")[0]:  # the first that is known is taken
            form = "msgpack"
        first = [] if form is None else [ok(1, form)]
        yield WsCase(f"upgrade-{name}", raw, b"" if form is None else connect(form), [Want(101), *first, alive(form)], EITHER)
    for name, (raw, wanted) in REFUSED.items():
        yield WsCase(f"refused-{name}", raw, b"", wanted, CLOSED)
    whole = shake()
    for at in (1, 5, 20, 60, len(whole) - 2, len(whole) - 1):
        yield WsCase(f"upgrade-pieces-{at}", [whole[:at], whole[at:]], connect(), [Want(101), ok(1), alive()], EITHER)
    yield WsCase("upgrade-bytes", [whole[i:i + 1] for i in range(len(whole))], connect(), [Want(101), ok(1), alive()], EITHER)
    yield from broken_handshakes()


def broken_handshakes():
    """Not those of RFC 6455. Some the library decides by itself: those have the RFC's answer, and the library's."""
    accepted = ([Want(101)], EITHER)
    for name, version in (("missing", None), ("0", "0"), ("7", "7"), ("8", "8"), ("12", "12"), ("14", "14"), ("word", "x"),
                          ("empty", ""),
                          ("113", "113")):
        wanted = [Want(426, "websocket-version", headers=(("Sec-WebSocket-Version", "13"),))]  # RFC 6455, 4.2.2
        yield WsCase(f"version-{name}", shake(Sec_WebSocket_Version=version), b"", wanted, EITHER)
    for name, key in (("short", "dGVzdA=="), ("long", base64.b64encode(b"k" * 20).decode()), ("no-base64", "?" * 24),
                      ("word", "key"),
                      ("15-bytes", base64.b64encode(b"k" * 15).decode()), ("unpadded", KEY.rstrip("="))):
        yield WsCase(f"key-{name}", shake(Sec_WebSocket_Key=key), b"", (Want(400, "bad-handshake"),), EITHER)
    yield WsCase("key-missing", shake(Sec_WebSocket_Key=None), b"", BAD_UPGRADE, EITHER, "bad-upgrade-ends", (NO_ANSWER, CLOSED))
    yield WsCase("key-empty", shake(Sec_WebSocket_Key=""), b"", BAD_UPGRADE, EITHER, "bad-upgrade-ends", (NO_ANSWER, CLOSED))
    for name, raw in (("upgrade-other", shake(Upgrade="h2c")), ("upgrade-prefix", shake(Upgrade="websocketx")),
                      ("host-missing", shake(Host=None)), ("connection-missing", shake(Connection=None)),
                      ("connection-close", shake(Connection="close")), ("upgrade-missing", shake(Upgrade=None)),
                      ("upgrade-empty", shake(Upgrade=""))):
        yield WsCase(f"broken-{name}", raw, b"", (Want((400, 403, 426)),), EITHER, "bad-upgrade-ends", (NO_ANSWER, CLOSED))
    yield WsCase("broken-method-get", shake(method="get"), b"", (Want((400, 405, 501)),), EITHER, "method-in-any-case", accepted)
    for method in ("POST", "PUT", "HEAD"):
        yield WsCase(f"broken-method-{method}", shake(method=method), b"", (Want((400, 404, 405)),), EITHER, "bad-upgrade-ends",
                     (NO_ANSWER, CLOSED))
    yield WsCase("broken-version-1.0", shake(version="HTTP/1.0"), b"", (Want(400, "bad-handshake"),), EITHER)
    yield WsCase("broken-path-nul", shake("/v1/ws%00"), b"", NOT_FOUND, EITHER, "bad-upgrade-ends", (NO_ANSWER, CLOSED))
    # A client waits for the answer before it sends frames (RFC 6455, 4.1).
    whole = shake() + connect()
    for more in (-2, 0, 1, 3, 7, len(connect())):
        at = len(shake()) + more
        # With the end of the handshake: it ends without a close frame. Behind it all goes well.
        ends = ((Want(101),), EITHER) if more < 0 else None
        yield WsCase(f"broken-too-early-{more}", [whole[:at], whole[at:]], b"", [Want(101), ok_or_close(1, 1002)], EITHER,
                     "frames-cut-by-handshake", ends)


# ---- plain HTTP and noise on the port ----


def plain():
    def request(line, lines=()):
        return (CRLF.join([line, "Host: h", *lines]) + CRLF + CRLF).encode("latin-1")

    yield HttpCase("ws-port-get", request("GET / HTTP/1.1"), (Want(200),), EITHER)
    yield HttpCase("ws-port-get-v1", request("GET /v1/ws HTTP/1.1"), (Want(426, headers=(("Upgrade", "websocket"),)),), EITHER)
    yield HttpCase("ws-port-unknown", request("GET /nothing HTTP/1.1"), (Want(404),), EITHER)
    yield HttpCase("ws-port-post", request("POST / HTTP/1.1", ["Content-Length: 0"]), (Want(405, headers=(("Allow", None),)),),
                   EITHER)
    yield HttpCase("ws-port-put", request("PUT / HTTP/1.1", ["Content-Length: 0"]), (Want(405),), EITHER)
    yield HttpCase("ws-port-topics", request("POST /v1/topics/a HTTP/1.1", ["Content-Length: 0"]), (Want((404, 405)),), EITHER)
    for name, raw in NOISE.items():
        yield HttpCase(f"ws-port-noise-{name}", raw, (Want((400, 403, 404, 405, 505)),), EITHER, True, "no-answer-to-noise",
                       ((), EITHER))
    yield HttpCase("ws-port-head-never-ends", b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20000, (Want((400, 403, 413, 431)),), EITHER,
                   False,
                   "no-answer-to-noise", ((), EITHER))
    yield HttpCase("ws-port-target-64-kib", request("GET /" + "a" * 65536 + " HTTP/1.1"), (Want((400, 403, 404, 414, 431)),),
                   EITHER,
                   False, "no-answer-to-noise", ((), EITHER))
    yield HttpCase("ws-port-header-64-kib", request("GET / HTTP/1.1", ["X: " + "v" * 65536]), (Want((200, 400, 403, 431)),), EITHER,
                   False, "no-answer-to-noise", ((), EITHER))
    for at in (1, 20, 100, 150):
        yield HttpCase(f"ws-port-cut-{at}", shake()[:at], (), EITHER, end=True)


# ---- frames ----


def v1(name, raw, *wanted, after=CLOSED, limit=None, limited=None):
    """On a connection of ciphermq.v1.json that has said connect."""
    first = [ok(1), say(raw)]
    as_limited = None if limited is None else (first + list(limited[0]), limited[1])
    return WsCase(f"frame-{name}", shake(), connect(), first + list(wanted), after, limit, as_limited)


PING_2 = b'{"id":2,"ping":{}}'
HALF_1, HALF_2 = PING_2[:9], PING_2[9:]


def bits():
    for rsv in range(1, 8):
        yield v1(f"rsv-{rsv}-text", text(PING_2, rsv=rsv), close(1002))
        # Behind these the library waits for the client to end the connection.
        yield v1(f"rsv-{rsv}-ping", frame(PING, b"p", rsv=rsv), close(1002), after=EITHER)
        yield v1(f"rsv-{rsv}-close", frame(CLOSE, b"\x03\xe8", rsv=rsv), close(1002), after=EITHER)
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield v1(f"opcode-{opcode}", frame(opcode, b"x"), close(1002))
        yield v1(f"opcode-{opcode}-unfinished", frame(opcode, b"x", fin=False), close(1002))
        yield v1(f"opcode-{opcode}-empty", frame(opcode), close(1002))
    for name, opcode in (("ping", PING), ("pong", PONG), ("close", CLOSE)):
        yield v1(f"{name}-fragment", frame(opcode, fin=False), close(1002))
        for size in (126, 65536):
            yield v1(f"{name}-{size}-bytes", frame(opcode, b"\x03\xe8".ljust(size, b"p")), close(1002), limit="long-control-ends",
                     limited=([gone()], CLOSED))
    yield v1("ping-empty", frame(PING), pong(), alive(), after=EITHER)
    yield v1("ping-125-bytes", frame(PING, b"p" * 125), pong(b"p" * 125), alive(), after=EITHER)
    yield v1("ping-binary", frame(PING, b"\xff\0\xfe"), pong(b"\xff\0\xfe"), alive(), after=EITHER)
    yield v1("pong-unasked", frame(PONG, b"nobody asked"), alive(), after=EITHER)
    yield v1("pong-empty", frame(PONG), alive(), after=EITHER)
    yield v1("ping-between-fragments", text(HALF_1, fin=False) + frame(PING, b"p") + frame(CONTINUATION, HALF_2), pong(b"p"), ok(2),
             alive(), after=EITHER)


def lengths():
    for form, sizes in ((16, (0, 1, 18, 125)), (64, (0, 1, 18, 125, 126, 65535))):
        for size in sizes:
            data = PING_2.ljust(size)[:max(size, len(PING_2))] if size >= len(PING_2) else b"{}"[:size]
            answers = {0: [close(3500)], 1: [close(3500)]}.get(size, [ok(2), alive()])
            yield v1(f"length-{size}-in-{form}-bits", text(data, form=form), close(1002), limit="length-not-minimal",
                     limited=(answers, EITHER))
    yield v1("length-2^63", text(b"x" * 20, form=64, declared=1 << 63), close(1002), limit="length-bit-63",
             limited=([gone()], CLOSED))
    yield v1("length-all-ones", text(b"x" * 20, form=64, declared=(1 << 64) - 1), close(1002), limit="length-bit-63",
             limited=([gone()], CLOSED))
    for name, size in (("2^62", 1 << 62), ("2^40", 1 << 40), ("2^32", 1 << 32), ("2^31", 1 << 31),
                       ("limit-and-1", RECEIVE_BYTES_MAX + 1)):
        yield v1(f"length-{name}", text(b"x" * 20, form=64, declared=size), close(3501), after=EITHER)
    yield v1("length-at-limit", text(PING_2.ljust(RECEIVE_BYTES_MAX)), ok(2), alive(), after=EITHER)
    yield v1("length-65535", text(PING_2.ljust(65535)), ok(2), alive(), after=EITHER)
    for size in (126, 127, 128, 4095, 4096, 4097, 20000):
        yield v1(f"length-{size}", text(PING_2.ljust(size)), ok(2), alive(), after=EITHER)
    yield v1("length-above-limit", text(PING_2.ljust(RECEIVE_BYTES_MAX + 1)), close_if_read(3501))
    yield v1("length-1-mib", text(PING_2.ljust(1 << 20)), close_if_read(3501))
    yield v1("length-above-limit-in-fragments", text(PING_2, fin=False) + frame(CONTINUATION, b" " * 40000, fin=False)
             + frame(CONTINUATION, b" " * 40000), close_if_read(3501))
    yield v1("length-says-more", text(PING_2, declared=100), after=EITHER)


def masks():
    for name, data, answers in (("text", text(PING_2, masked=False), [ok(2), alive()]),
                                ("ping", frame(PING, b"p", masked=False), [pong(b"p"), alive()]),
                                ("close", frame(CLOSE, b"\x03\xe8", masked=False), [close(1000)])):
        yield v1(f"unmasked-{name}", data, close(1002), limit="unmasked", limited=(answers, EITHER))
    yield v1("unmasked-second-fragment", text(HALF_1, fin=False) + frame(CONTINUATION, HALF_2, masked=False), close(1002),
             limit="unmasked", limited=([ok(2), alive()], EITHER))
    for name, mask in (("zero", b"\0\0\0\0"), ("ones", b"\xff\xff\xff\xff"), ("ascii", b"{}[]")):
        yield v1(f"mask-{name}", text(PING_2, mask=mask), ok(2), alive(), after=EITHER)


def fragments():
    yield v1("continuation-first", frame(CONTINUATION, PING_2), close(1002))
    yield v1("continuation-first-unfinished", frame(CONTINUATION, PING_2, fin=False), close(1002))
    yield v1("continuation-behind-whole", text(PING_2) + frame(CONTINUATION, b"x"), maybe_ok(2, close(1002)))
    yield v1("text-in-fragments-of-text", text(HALF_1, fin=False) + text(HALF_2), close(1002))
    yield v1("text-unfinished-twice", text(HALF_1, fin=False) + text(HALF_2, fin=False), close(1002))
    yield v1("binary-in-fragments-of-text", text(HALF_1, fin=False) + frame(BINARY, HALF_2), close(1002))
    for count in (2, 3, 10, 18):
        size = -(-len(PING_2) // count)
        parts = [PING_2[i:i + size] for i in range(0, len(PING_2), size)]
        raw = [frame(TEXT if i == 0 else CONTINUATION, part, fin=i == len(parts) - 1) for i, part in enumerate(parts)]
        yield v1(f"fragments-{count}", b"".join(raw), ok(2), alive(), after=EITHER)
        yield v1(f"fragments-{count}-one-by-one", raw, ok(2), alive(), after=EITHER)
    # dispatcher.fragments_max is 64.
    parts = [frame(TEXT if i == 0 else CONTINUATION, PING_2 if i == 0 else b" ", fin=i == 63) for i in range(64)]
    yield v1("fragments-64", b"".join(parts), ok(2), alive(), after=EITHER)
    parts = [frame(TEXT if i == 0 else CONTINUATION, PING_2 if i == 0 else b" ", fin=i == 64) for i in range(65)]
    yield v1("fragments-65", b"".join(parts), close_if_read(3501), after=EITHER)
    yield v1("fragments-for-ever", text(b" ", fin=False) + frame(CONTINUATION, b" ", fin=False) * 30000, close_if_read(3501),
             after=EITHER)
    yield v1("fragments-empty-for-ever", text(b"", fin=False) + frame(CONTINUATION, fin=False) * 30000, close_if_read(3501),
             after=EITHER)
    yield v1("fragments-empty", text(b"", fin=False) + frame(CONTINUATION, PING_2, fin=False) + frame(CONTINUATION), ok(2), alive(),
             after=EITHER)
    yield v1("fragments-all-empty", text(b"", fin=False) + frame(CONTINUATION, fin=False) + frame(CONTINUATION), close(3500))
    yield v1("fragments-with-pongs", text(HALF_1, fin=False) + frame(PONG, b"x") + frame(PONG) + frame(CONTINUATION, HALF_2), ok(2),
             alive(), after=EITHER)
    yield v1("close-between-fragments", text(HALF_1, fin=False) + frame(CLOSE, b"\x03\xe8"), close(1000))
    yield v1("fragments-never-finished-then-end", text(HALF_1, fin=False) + frame(CONTINUATION, HALF_2, fin=False), after=EITHER)
    yield v1("many-in-one-write", b"".join(command({"id": i, "ping": {}}) for i in range(2, 102)), *[ok(i) for i in range(2, 102)],
             alive(), after=EITHER)
    whole = text(PING_2)
    yield v1("frame-in-bytes", [whole[i:i + 1] for i in range(len(whole))], ok(2), alive(), after=EITHER)
    # A command counts for what it says, in either kind of frame.
    yield v1("binary-json", frame(BINARY, PING_2), ok(2), alive(), after=EITHER)


CLOSES_GOOD = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3500, 3999, 4000, 4999]
CLOSES_BAD = [0, 1, 500, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 32768, 65535]


def closes():
    for code in CLOSES_GOOD:
        yield v1(f"close-{code}", frame(CLOSE, struct.pack(">H", code)), close(code))
    for code in CLOSES_BAD:
        yield v1(f"close-{code}", frame(CLOSE, struct.pack(">H", code)), close(1002), limit="close-code-echoed",
                 limited=([close(code)], CLOSED))
    yield v1("close-empty", frame(CLOSE), close(None, 1000))
    yield v1("close-one-byte", frame(CLOSE, b"\x03"), close(1002), limit="one-byte-close-echoed", limited=([close(None)], CLOSED))
    yield v1("close-reason", frame(CLOSE, b"\x03\xe8bye"), close(1000))
    yield v1("close-reason-123", frame(CLOSE, b"\x03\xe8" + b"r" * 123), close(1000))
    yield v1("close-reason-utf8", frame(CLOSE, b"\x03\xe8\xc3\xa4"), close(1000))
    for name, reason in (("bad", b"\xff"), ("cut", b"\xc3"), ("surrogate", b"\xed\xa0\x80")):
        yield v1(f"close-reason-{name}-utf8", frame(CLOSE, b"\x03\xe8" + reason), close(1007, 1002), limit="close-reason-unchecked",
                 limited=([close(1000)] if name == "cut" else [gone()], CLOSED))
    yield v1("close-then-data", frame(CLOSE, b"\x03\xe8") + text(PING_2) * 5, close(1000))
    yield v1("close-twice", frame(CLOSE, b"\x03\xe8") * 2, close(1000))
    yield v1("data-then-close", text(PING_2) + frame(CLOSE, b"\x03\xe8"), maybe_ok(2, close(1000)))


# ---- UTF-8 in text (RFC 6455, 8.1: fail with 1007) ----

UTF8_GOOD = {"2": b"\xc3\xa4", "3": b"\xe2\x82\xac", "4": b"\xf0\x9f\x98\x80", "first-2": b"\xc2\x80", "last-2": b"\xdf\xbf",
             "first-3": b"\xe0\xa0\x80", "last-3": b"\xef\xbf\xbf", "before-surrogates": b"\xed\x9f\xbf",
             "behind-surrogates": b"\xee\x80\x80",
             "first-4": b"\xf0\x90\x80\x80", "last-4": b"\xf4\x8f\xbf\xbf", "bom-inside": b"\xef\xbb\xbf",
             "noncharacter": b"\xef\xbf\xbe",
             "replacement": b"\xef\xbf\xbd"}
UTF8_BAD = {"lone-continuation": b"\x80", "lone-continuation-bf": b"\xbf", "c0": b"\xc0\x80", "c1": b"\xc1\xbf", "cut-2": b"\xc3",
            "cut-3": b"\xe2\x82", "cut-3-early": b"\xe2", "cut-4": b"\xf0\x9f\x98", "overlong-3": b"\xe0\x80\x80",
            "overlong-3-last": b"\xe0\x9f\xbf", "overlong-4": b"\xf0\x80\x80\x80", "overlong-4-last": b"\xf0\x8f\xbf\xbf",
            "surrogate-high": b"\xed\xa0\x80", "surrogate-low": b"\xed\xbf\xbf", "surrogate-pair": b"\xed\xa0\xbd\xed\xb8\x80",
            "above-10ffff": b"\xf4\x90\x80\x80", "f5": b"\xf5\x80\x80\x80", "f8": b"\xf8\x88\x80\x80\x80",
            "fc": b"\xfc\x84\x80\x80\x80\x80",
            "fe": b"\xfe", "ff": b"\xff", "latin1": b"\xe4 ", "wrong-second": b"\xc3\x28", "wrong-third": b"\xe2\x82\x28"}


def utf8():
    def about(data):
        return b'{"id":1,"connect":{"client":"' + data + b'"}}'

    for name, data in UTF8_GOOD.items():
        yield WsCase(f"utf8-{name}", shake(), text(about(data)), [ok(1), alive()], EITHER)
        cut = len(about(b"")) - 3 + 1  # inside the character
        raw = text(about(data)[:cut], fin=False) + frame(CONTINUATION, about(data)[cut:])
        yield WsCase(f"utf8-{name}-split", shake(), raw, [ok(1), alive()], EITHER)
    for name, data in UTF8_BAD.items():
        yield WsCase(f"utf8-bad-{name}", shake(), text(about(data)), [close(1007)])
        raw = text(about(b"")[:-3] + data, fin=False) + frame(CONTINUATION, b'"}}')
        yield WsCase(f"utf8-bad-{name}-fragment", shake(), raw, [close(1007)])
        yield WsCase(f"utf8-bad-{name}-at-the-end", shake(), text(b"{}" + data), [close(1007)])
    yield WsCase("utf8-bad-in-binary", shake(), frame(BINARY, about(b"\xff")), [close(3500)])  # not 1007: it is not text


# ---- the endpoint `/`: what clients send is ignored ----


def root():
    def case(name, raw, *wanted, after=EITHER, **options):
        return WsCase(f"root-{name}", shake("/", None), raw, list(wanted), after, **options)

    yield case("text", text("anything"), alive(None))
    yield case("binary", frame(BINARY, b"\xff\0"), alive(None))
    yield case("empty", text(""), alive(None))
    yield case("json", text('{"id":1,"connect":{}}'), alive(None))
    yield case("fragments", text("a", fin=False) + frame(CONTINUATION, b"b"), alive(None))
    yield case("at-limit", text("x" * RECEIVE_BYTES_MAX), alive(None))
    yield case("above-limit", text("x" * (RECEIVE_BYTES_MAX + 1)), close_if_read(1009))
    yield case("above-limit-in-fragments", text("x" * 40000, fin=False) + frame(CONTINUATION, b"x" * 40000), close_if_read(1009))
    yield case("fragments-for-ever", text("x", fin=False) + frame(CONTINUATION, b"x", fin=False) * 30000, close_if_read(1009))
    yield case("bad-utf8", text(b"\xff"), close(1007))
    yield case("rsv", text("x", rsv=4), close(1002))
    yield case("opcode", frame(3, b"x"), close(1002))
    yield case("continuation", frame(CONTINUATION, b"x"), close(1002))
    yield case("close", frame(CLOSE, b"\x03\xe8"), close(1000))
    yield case("ping", frame(PING, b"p"), pong(b"p"), alive(None))


# ---- commands ----

BROKEN = "3500"  # closes

# Text of a message behind connect -> error code, "ok", "alive" (no answer), or BROKEN. Ids are 2.
JSON_COMMANDS = {
    # not JSON, or not one map (RFC 8259; docs/PROTOCOL.md: 3500)
    "empty": ("", BROKEN), "blank": ("  ", BROKEN), "word": ("ping", BROKEN), "array": ("[]", BROKEN), "number": ("1", BROKEN),
    "string": ('"ping"', BROKEN), "null": ("null", BROKEN), "true": ("true", BROKEN), "cut": ('{"id":2,"ping":{', BROKEN),
    "open": ("{", BROKEN), "close": ("}", BROKEN), "two": ("{}{}", BROKEN), "trailing": ("{} x", BROKEN),
    "trailing-comma": ('{"id":2,"ping":{},}', BROKEN), "single-quotes": ("{'id':2,'ping':{}}", BROKEN),
    "no-quotes": ("{id:2,ping:{}}", BROKEN), "comment": ('{"id":2,/* */"ping":{}}', BROKEN),
    "bom": ('\ufeff{"id":2,"ping":{}}', BROKEN),
    "nul": ('{"id":2,"ping":{}}\0', BROKEN), "control": ('{"id":2,"ping\x01":{}}', BROKEN), "nan": ('{"id":NaN,"ping":{}}', BROKEN),
    "infinity": ('{"id":Infinity,"ping":{}}', BROKEN), "1e999": ('{"id":1e999,"ping":{}}', BROKEN),
    "plus": ('{"id":+2,"ping":{}}', BROKEN),
    "hex": ('{"id":0x2,"ping":{}}', BROKEN), "zero-before": ('{"id":02,"ping":{}}', BROKEN),
    "point": ('{"id":2.,"ping":{}}', BROKEN),
    "lone-surrogate": ('{"id":2,"connect":{"client":"\\ud800"}}', BROKEN),
    "bad-escape": ('{"id":2,"connect":{"client":"\\x"}}', BROKEN),
    "deep-33": ('{"id":2,"x":' + "[" * 32 + "]" * 32 + "}", BROKEN), "deep-60000": ("[" * 60000, BROKEN),
    "deep-objects": ('{"a":' * 10000, BROKEN), "array-of-commands": ('[{"id":2,"ping":{}}]', BROKEN),
    # one command, and id
    "heartbeat": ("{}", "alive"), "heartbeat-blanks": (" { } ", "alive"), "ping": ('{"id":2,"ping":{}}', "ok"),
    "ping-turned": ('{"ping":{},"id":2}', "ok"), "ping-blanks": (' {\n"id" : 2 ,\t"ping" : { } }\r\n', "ok"),
    "ping-without-id": ('{"ping":{}}', "alive"), "ping-escaped": ('{"\\u0069d":2,"p\\u0069ng":{}}', "ok"),
    "id-0": ('{"id":0,"ping":{}}', "ok-0"), "id-largest": ('{"id":18446744073709551615,"ping":{}}', "ok-18446744073709551615"),
    "id-2^53+1": ('{"id":9007199254740993,"ping":{}}', "ok-9007199254740993"),
    "id-too-large": ('{"id":18446744073709551616,"ping":{}}', BROKEN), "id-negative": ('{"id":-1,"ping":{}}', "null-bad_command"),
    "id-float": ('{"id":2.5,"ping":{}}', "null-bad_command"), "id-2.0": ('{"id":2.0,"ping":{}}', "null-bad_command"),
    "id-exponent": ('{"id":2e0,"ping":{}}', "null-bad_command"), "id-string": ('{"id":"2","ping":{}}', "null-bad_command"),
    "id-null": ('{"id":null,"ping":{}}', "null-bad_command"), "id-array": ('{"id":[2],"ping":{}}', "null-bad_command"),
    "id-bool": ('{"id":true,"ping":{}}', "null-bad_command"), "id-twice": ('{"id":2,"id":2,"ping":{}}', "null-bad_command"),
    "id-only": ('{"id":2}', "bad_command"), "unknown": ('{"id":2,"pong":{}}', "bad_command"),
    "upper": ('{"id":2,"PING":{}}', "bad_command"),
    "empty-name": ('{"id":2,"":{}}', "bad_command"), "two-commands": ('{"id":2,"ping":{},"unsubscribe":{"id":9}}', "bad_command"),
    "same-twice": ('{"id":2,"ping":{},"ping":{}}', "bad_command"), "known-and-unknown": ('{"id":2,"ping":{},"x":1}', "bad_command"),
    "long-name": ('{"id":2,"' + "x" * 60000 + '":{}}', "bad_command"), "members-1000": (
        '{"id":2,' + ",".join(f'"m{i}":{i}' for i in range(1000)) + "}", "bad_command"),
    "nul-in-name": ('{"id":2,"ping\\u0000":{}}', "bad_command"), "ping-null": ('{"id":2,"ping":null}', "bad_command"),
    "ping-array": ('{"id":2,"ping":[]}', "bad_command"), "ping-string": ('{"id":2,"ping":"x"}', "bad_command"),
    "ping-number": ('{"id":2,"ping":1}', "bad_command"), "ping-member": ('{"id":2,"ping":{"x":1}}', "bad_command"),
    # connect
    "connect-again": ('{"id":2,"connect":{}}', "bad_command"),
    "connect-token-number": ('{"id":2,"connect":{"token":1}}', "bad_command"),
    "connect-unknown": ('{"id":2,"connect":{"user":"x"}}', "bad_command"),
    "connect-null": ('{"id":2,"connect":null}', "bad_command"),
    # subscribe
    "subscribe": ('{"id":2,"subscribe":{"topic":"c.a"}}', "ok"), "subscribe-earliest": (
        '{"id":2,"subscribe":{"topic":"c.none","since":"earliest"}}', "ok"),
    "subscribe-pattern": ('{"id":2,"subscribe":{"topic":"c.none.*.>"}}', "ok"),
    "subscribe-dead": ('{"id":2,"subscribe":{"topic":"$dead.c"}}', "ok"),
    "subscribe-no-id": ('{"subscribe":{"topic":"c.a"}}', "null-bad_command"),
    "subscribe-no-topic": ('{"id":2,"subscribe":{}}', "bad_command"),
    "subscribe-topic-null": ('{"id":2,"subscribe":{"topic":null}}', "bad_command"),
    "subscribe-topic-number": ('{"id":2,"subscribe":{"topic":5}}', "bad_command"),
    "subscribe-topic-list": ('{"id":2,"subscribe":{"topic":["a"]}}', "bad_command"),
    "subscribe-topic-twice": ('{"id":2,"subscribe":{"topic":"a","topic":"b"}}', "bad_command"),
    "subscribe-unknown": ('{"id":2,"subscribe":{"topic":"a","queue":"q"}}', "bad_command"),
    "subscribe-group": ('{"id":2,"subscribe":{"topic":"a","group":"g"}}', "bad_command"),
    "subscribe-empty": ('{"id":2,"subscribe":{"topic":""}}', "bad_topic"),
    "subscribe-dots": ('{"id":2,"subscribe":{"topic":"a..b"}}', "bad_topic"),
    "subscribe-blank": ('{"id":2,"subscribe":{"topic":"a b"}}', "bad_topic"),
    "subscribe-nul": ('{"id":2,"subscribe":{"topic":"a\\u0000"}}', "bad_topic"),
    "subscribe-utf8": ('{"id":2,"subscribe":{"topic":"\u00e4"}}', "bad_topic"),
    "subscribe-more-first": ('{"id":2,"subscribe":{"topic":">.a"}}', "bad_topic"),
    "subscribe-star-inside": ('{"id":2,"subscribe":{"topic":"a*"}}', "bad_topic"), "subscribe-33-levels": (
        '{"id":2,"subscribe":{"topic":"' + ".".join("a" * 33) + '"}}', "bad_topic"),
    "subscribe-256-bytes": ('{"id":2,"subscribe":{"topic":"' + "t" * 256 + '"}}', "bad_topic"),
    "subscribe-40000-bytes": ('{"id":2,"subscribe":{"topic":"' + "t" * 40000 + '"}}', "bad_topic"),
    "subscribe-slash": ('{"id":2,"subscribe":{"topic":"a/b"}}', "bad_topic"),
    "subscribe-dollar": ('{"id":2,"subscribe":{"topic":"$"}}', "bad_topic"),
    "since-word": ('{"id":2,"subscribe":{"topic":"a","since":"now"}}', "bad_since"),
    "since-empty": ('{"id":2,"subscribe":{"topic":"a","since":""}}', "bad_since"),
    "since-number": ('{"id":2,"subscribe":{"topic":"a","since":1}}', "bad_command"),
    "since-one-part": ('{"id":2,"subscribe":{"topic":"a","since":"12"}}', "bad_since"),
    "since-minus": ('{"id":2,"subscribe":{"topic":"a","since":"-1-0"}}', "bad_since"),
    "since-zero-before": ('{"id":2,"subscribe":{"topic":"a","since":"01-0"}}', "bad_since"),
    "since-three": ('{"id":2,"subscribe":{"topic":"a","since":"1-0-0"}}', "bad_since"), "since-overflow": (
        '{"id":2,"subscribe":{"topic":"a","since":"99999999999999999999-0"}}', "bad_since"),
    "since-blank": ('{"id":2,"subscribe":{"topic":"a","since":" 1-0"}}', "bad_since"),
    "since-upper": ('{"id":2,"subscribe":{"topic":"a","since":"LATEST"}}', "bad_since"),
    "since-date": ('{"id":2,"subscribe":{"topic":"a","since":"2026-01-01T00:00:00Z"}}', "bad_since"),
    # consume
    "consume": ('{"id":2,"consume":{"topic":"c.g","group":"corpus-1"}}', "ok"),
    "consume-no-group": ('{"id":2,"consume":{"topic":"a"}}', "bad_command"),
    "consume-no-id": ('{"consume":{"topic":"a","group":"g"}}', "null-bad_command"),
    "consume-nobody": ('{"id":2,"consume":{"group":"corpus-none"}}', "no_such_group"),
    "consume-bad-topic": ('{"id":2,"consume":{"topic":"a..b","group":"corpus-2"}}', "bad_topic"),
    "group-empty": ('{"id":2,"consume":{"topic":"a","group":""}}', "bad_group"),
    "group-blank": ('{"id":2,"consume":{"topic":"a","group":"a b"}}', "bad_group"),
    "group-65": ('{"id":2,"consume":{"topic":"a","group":"' + "g" * 65 + '"}}', "bad_group"),
    "group-64": ('{"id":2,"consume":{"topic":"c.g","group":"' + "g" * 64 + '"}}', "ok"),
    "group-utf8": ('{"id":2,"consume":{"topic":"a","group":"\u00e4"}}', "bad_group"),
    "group-slash": ('{"id":2,"consume":{"topic":"a","group":"a/b"}}', "bad_group"),
    "group-dots": ('{"id":2,"consume":{"topic":"c.g","group":"..."}}', "ok"),
    "group-nul": ('{"id":2,"consume":{"topic":"a","group":"a\\u0000"}}', "bad_group"),
    "group-number": ('{"id":2,"consume":{"topic":"a","group":1}}', "bad_command"),
    "credit-zero": ('{"id":2,"consume":{"topic":"c.g","group":"corpus-3","credit":0}}', "ok"),
    "credit-negative": ('{"id":2,"consume":{"topic":"a","group":"g","credit":-1}}', "bad_command"),
    "credit-float": ('{"id":2,"consume":{"topic":"a","group":"g","credit":1.5}}', "bad_command"),
    "credit-string": ('{"id":2,"consume":{"topic":"a","group":"g","credit":"1"}}', "bad_command"),
    "credit-million-1": ('{"id":2,"consume":{"topic":"a","group":"g","credit":1000001}}', "bad_command"),
    "credit-million": ('{"id":2,"consume":{"topic":"c.g","group":"corpus-4","credit":1000000}}', "ok"),
    "wait-day-1": ('{"id":2,"consume":{"topic":"a","group":"g","ack_wait_ms":86400001}}', "bad_command"),
    "wait-2^64": ('{"id":2,"consume":{"topic":"a","group":"g","ack_wait_ms":18446744073709551615}}', "bad_command"),
    "deliver-null": ('{"id":2,"consume":{"topic":"a","group":"g","max_deliver":null}}', "bad_command"),
    # ack, nack, credit, unsubscribe
    "ack-nobody": ('{"id":2,"ack":{"group":"g","ids":["1-0"]}}', "no_such_group"),
    "ack-no-group": ('{"id":2,"ack":{"ids":["1-0"]}}', "bad_command"),
    "ack-neither": ('{"id":2,"ack":{"group":"g"}}', "bad_command"),
    "ack-both": ('{"id":2,"ack":{"group":"g","ids":[],"upto":"1-0"}}', "bad_command"),
    "ack-ids-string": ('{"id":2,"ack":{"group":"g","ids":"1-0"}}', "bad_command"),
    "ack-ids-numbers": ('{"id":2,"ack":{"group":"g","ids":[1]}}', "bad_command"),
    "ack-ids-null": ('{"id":2,"ack":{"group":"g","ids":null}}', "bad_command"),
    "ack-ids-nested": ('{"id":2,"ack":{"group":"g","ids":[["1-0"]]}}', "bad_command"),
    "ack-delay": ('{"id":2,"ack":{"group":"g","ids":["1-0"],"delay_ms":1}}', "bad_command"),
    "nack-nobody": ('{"id":2,"nack":{"group":"g","ids":["1-0"]}}', "no_such_group"),
    "nack-upto": ('{"id":2,"nack":{"group":"g","upto":"1-0"}}', "bad_command"),
    "nack-no-ids": ('{"id":2,"nack":{"group":"g"}}', "bad_command"),
    "nack-delay-negative": ('{"id":2,"nack":{"group":"g","ids":[],"delay_ms":-5}}', "bad_command"),
    "credit-nobody": ('{"id":2,"credit":{"group":"g","credit":1}}', "no_such_group"),
    "credit-nothing": ('{"id":2,"credit":{}}', "bad_command"),
    "unsubscribe-nobody": ('{"id":2,"unsubscribe":{"id":3}}', "no_such_sub"),
    "unsubscribe-nothing": ('{"id":2,"unsubscribe":{}}', "bad_command"),
    "unsubscribe-string": ('{"id":2,"unsubscribe":{"id":"3"}}', "bad_command"),
    "unsubscribe-number": ('{"id":2,"unsubscribe":3}', "bad_command"),
}

# Ids of a group that the connection is a member of.
ACK_IDS = {"word": ("x", "bad_id"), "empty": ("", "bad_id"), "one-part": ("12", "bad_id"), "zero-before": ("01-0", "bad_id"),
           "minus": ("-1-0", "bad_id"), "three": ("1-0-0", "bad_id"), "attempt-0": ("1-0:0", "bad_id"),
           "attempt-word": ("1-0:x", "bad_id"),
           "attempt-empty": ("1-0:", "bad_id"), "attempt-huge": ("1-0:4294967296", "bad_id"),
           "overflow": ("18446744073709551616-0", "bad_id"),
           "index-overflow": ("1-4294967296", "bad_id"), "blank": ("1-0 ", "bad_id"), "nul": ("1-0\0", "bad_id"),
           "utf8": ("\u0661-0", "bad_id"),
           "stale": ("999999-0", "ok"), "stale-attempt": ("999999-0:3", "ok")}

# Bytes of a message behind connect, in MessagePack.
MP = packing.packb
MSGPACK_COMMANDS = {
    "empty": (b"", BROKEN), "nil": (b"\xc0", BROKEN), "never-used": (b"\xc1", BROKEN), "array": (b"\x90", BROKEN),
    "string": (MP("ping"), BROKEN),
    "number": (b"\x01", BROKEN), "map-cut": (b"\x81", BROKEN), "key-cut": (b"\x81\xa4pi", BROKEN),
    "value-missing": (b"\x81\xa4ping", BROKEN),
    "key-number": (b"\x81\x01\x80", BROKEN), "key-bin": (b"\x81\xc4\x04ping\x80", BROKEN), "key-nil": (b"\x81\xc0\x80", BROKEN),
    "map32-bomb": (b"\xdf\xff\xff\xff\xff", BROKEN), "array32-bomb": (b"\xdd\xff\xff\xff\xff", BROKEN),
    "str32-bomb": (b"\xdb\xff\xff\xff\xff", BROKEN),
    "map16-bomb": (b"\xde\xff\xff", BROKEN), "nested-bomb": (b"\x82\xa2id\x02\xa4ping\xdf\xff\xff\xff\xff", BROKEN),
    "ids-bomb": (b"\x82\xa2id\x02\xa3ack\x82\xa5group\xa1g\xa3ids\xdd\xff\xff\xff\xff", BROKEN),
    "ext": (b"\xc7\x01\x00\x00", BROKEN),
    "fixext": (b"\xd4\x00\x00", BROKEN), "behind": (MP({"id": 2, "ping": {}}) + b"\xc0", BROKEN),
    "two": (MP({"id": 2, "ping": {}}) * 2, BROKEN),
    "deep": (b"\x81\xa4ping" + b"\x91" * 1000 + b"\xc0", BROKEN), "deep-60000": (b"\x91" * 60000, BROKEN),
    "json": (b'{"id":2,"ping":{}}', BROKEN),
    "ext-in-value": (b"\x82\xa2id\x02\xa4ping\xd4\x00\x00", "bad_command"),
    "heartbeat": (b"\x80", "alive"), "heartbeat-map16": (b"\xde\x00\x00", "alive"), "ping": (MP({"id": 2, "ping": {}}), "ok"),
    "ping-map32": (b"\xdf\x00\x00\x00\x02\xa2id\x02\xa4ping\x80", "ok"), "ping-str8": (b"\x82\xd9\x02id\x02\xa4ping\x80", "ok"),
    "id-uint64": (b"\x82\xa2id\xcf\x00\x00\x00\x00\x00\x00\x00\x02\xa4ping\x80", "ok"),
    "id-int8": (b"\x82\xa2id\xd0\x02\xa4ping\x80", "ok"),
    "id-negative": (MP({"id": -1, "ping": {}}), "null-bad_command"), "id-float": (MP({"id": 2.0, "ping": {}}), "null-bad_command"),
    "id-string": (MP({"id": "2", "ping": {}}), "null-bad_command"), "id-nil": (MP({"id": None, "ping": {}}), "null-bad_command"),
    "unknown": (MP({"id": 2, "pong": {}}), "bad_command"), "ping-nil": (MP({"id": 2, "ping": None}), "bad_command"),
    "topic-bin": (MP({"id": 2, "subscribe": {"topic": b"a"}}), "bad_command"),
    "topic-float": (MP({"id": 2, "subscribe": {"topic": 1.5}}), "bad_command"),
    "topic-bad-utf8": (b"\x82\xa2id\x02\xa9subscribe\x81\xa5topic\xa1\xff", "bad_topic"),
    "subscribe": (MP({"id": 2, "subscribe": {"topic": "c.m"}}), "ok"),
    "since-nil": (MP({"id": 2, "subscribe": {"topic": "a", "since": None}}), "bad_command"),
    "credit-float": (MP({"id": 2, "consume": {"topic": "a", "group": "g", "credit": 1.0}}), "bad_command"),
    "ids-bin": (MP({"id": 2, "ack": {"group": "g", "ids": [b"1-0"]}}), "bad_command"),
}


def behind_connect(name, payload, verdict, form):
    data = frame(HALF[form], payload)
    if verdict == BROKEN:
        wanted = [close(3500)]
    elif verdict == "alive":
        wanted = [alive(form)]
    elif verdict.startswith("ok"):
        wanted = [ok(int(verdict[3:] or 2), form), alive(form)]
    elif verdict.startswith("null-"):
        wanted = [fault(None, verdict[5:], form), alive(form)]
    else:
        wanted = [fault(2, verdict, form), alive(form)]
    handshake = shake(protocol=JSON if form == "json" else MSGPACK)
    return WsCase(name, handshake, [connect(form), data], [ok(1, form), *wanted], CLOSED if verdict == BROKEN else EITHER)


def commands():
    for name, (data, verdict) in JSON_COMMANDS.items():
        yield behind_connect(f"command-{name}", data.encode("utf-8"), verdict, "json")
    for name, (data, verdict) in MSGPACK_COMMANDS.items():
        yield behind_connect(f"command-msgpack-{name}", data, verdict, "msgpack")
    for name, (item, verdict) in ACK_IDS.items():
        for verb, form in (("ack", "json"), ("nack", "msgpack")):
            raw = [connect(form), command({"id": 2, "consume": {"topic": "c.none", "group": f"ids-{verb}"}}, form),
                   command({"id": 3, verb: {"group": f"ids-{verb}", "ids": ["999998-0", item]}}, form)]
            want = ok(3, form) if verdict == "ok" else fault(3, verdict, form)
            yield WsCase(f"{verb}-id-{name}", shake(protocol=JSON if form == "json" else MSGPACK), raw,
                         [ok(1, form), ok(2, form), want, alive(form)], EITHER)
    yield from before_connect()
    yield from sequences()


def before_connect():
    """The first command is connect; all others end the connection, behind their reply."""
    for verb, body in (("ping", {}), ("subscribe", {"topic": "a"}), ("consume", {"topic": "a", "group": "g"}),
                       ("ack", {"group": "g", "ids": []}), ("nack", {"group": "g", "ids": []}),
                       ("credit", {"group": "g", "credit": 1}),
                       ("unsubscribe", {"id": 1})):
        for form, protocol in (("json", JSON), ("msgpack", MSGPACK)):
            yield WsCase(f"early-{verb}-{form}", shake(protocol=protocol), command({"id": 2, verb: body}, form),
                         [fault(2, "not_connected", form), close(3500)])
    for name, body in (("token-number", {"token": 5}), ("client-list", {"client": []}), ("unknown", {"password": "x"})):
        yield WsCase(f"connect-{name}", shake(), command({"id": 1, "connect": body}), [fault(1, "bad_command")], EITHER)
    for name, body in (("client", {"client": "corpus"}), ("secrets", {"client": CANARY.decode(), "token": CANARY.decode()}),
                       ("client-long", {"client": "c" * 50000}), ("client-empty", {"client": ""}),
                       ("client-nul", {"client": "\0"})):
        yield WsCase(f"connect-{name}", shake(), command({"id": 1, "connect": body}), [ok(1), alive()], EITHER)
    yield WsCase("connect-without-id", shake(), command({"connect": {}}), [alive()], EITHER)
    yield WsCase("heartbeat-first", shake(), text("{}") * 10 + connect(), [ok(1), alive()], EITHER)


def sequences():
    def case(name, values, *wanted):
        return WsCase(f"sequence-{name}", shake(), [connect(), *map(command, values)], [ok(1), *wanted, alive()], EITHER)

    sub = {"id": 2, "subscribe": {"topic": "c.none"}}
    yield case("id-in-use", [sub, sub], ok(2), fault(2, "id_in_use"))
    yield case("id-in-use-consume", [sub, {"id": 2, "consume": {"topic": "c.none", "group": "seq-1"}}], ok(2),
               fault(2, "id_in_use"))
    yield case("id-free-again", [sub, {"id": 3, "unsubscribe": {"id": 2}}, sub], ok(2), ok(3), ok(2))
    yield case("unsubscribe-twice", [sub, {"id": 3, "unsubscribe": {"id": 2}}, {"id": 4, "unsubscribe": {"id": 2}}], ok(2), ok(3),
               fault(4, "no_such_sub"))
    group = {"topic": "c.none", "group": "seq-2"}
    yield case("group-twice", [{"id": 2, "consume": group}, {"id": 3, "consume": group}], ok(2), fault(3, "bad_group"))
    yield case("group-other-topic", [{"id": 2, "consume": {**group, "group": "seq-3"}},
                                     {"id": 3, "consume": {"topic": "c.other", "group": "seq-3"}}], ok(2),
                                     fault(3, "group_mismatch"))
    yield case("ack-of-subscription", [sub, {"id": 3, "ack": {"group": "seq-4", "ids": ["1-0"]}}], ok(2), fault(3, "no_such_group"))
    yield case("upto-bad", [{"id": 2, "consume": {**group, "group": "seq-5"}}, {"id": 3, "ack": {"group": "seq-5", "upto": "x"}}],
               ok(2),
               fault(3, "bad_id"))
    yield case("upto-future",
               [{"id": 2, "consume": {**group, "group": "seq-6"}}, {"id": 3, "ack": {"group": "seq-6", "upto": "999999999-0"}}],
               ok(2), ok(3))
    yield case("ids-5000", [{"id": 2, "consume": {**group, "group": "seq-7"}},
                            {"id": 3, "ack": {"group": "seq-7", "ids": [f"9{i}-0" for i in range(5000)]}}], ok(2), ok(3))
    yield case("same-id-for-pings", [{"id": 2, "ping": {}}] * 3, ok(2), ok(2), ok(2))


GROUPS = {"handshakes": (handshakes,), "frames": (bits, lengths, masks, fragments, closes, utf8, root), "commands": (commands,)}


def cases(group):
    return [case for make in GROUPS[group] for case in make()]


def http_cases():
    """For the same port, as raw HTTP."""
    return list(plain())
