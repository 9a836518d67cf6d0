"""Requests for /t/{topic}/json, /sse and /ws, good and bad (docs/PROTOCOL.md).

Ownership: none, tables and pure functions.
Units: none.
Errors: none.
Callers: tests/integration/test_corpus.py.
"""

from corpus.http_requests import head
from corpus.replay import CLOSED, EITHER, HttpCase, Want, WsCase
from corpus.ws_streams import JSON, alive, shake

TOPIC = "corpus.unused"  # nothing is ever published there: an answer is empty, and ends
LINES = Want(200, headers=(("Content-Type", "application/x-ndjson"),))
EVENTS = Want(200, headers=(("Content-Type", "text/event-stream"),), unread=True)


def problem(status, slug):
    return Want(status, slug)


PATHS_GOOD = {"plain": TOPIC, "star": "corpus.unused.*", "more": "corpus.unused.>", "star-escaped": "corpus.unused.%2A",
              "more-escaped": "corpus.unused.%3E", "more-escaped-lower": "corpus.unused.%3e", "letter-escaped": "corpus.%75nused",
              "dead": "$dead.corpus.unused", "dead-escaped": "%24dead.corpus.unused", "255": "u" * 255,
              "32-levels": ".".join("u" * 32)}
TOPICS_BAD = {"dots": "a..b", "dot-first": ".a", "dot-last": "a.", "blank": "a%20b", "plus": "a+b", "star-inside": "a*",
              "more-first": ">.a",
              "control": "a%01b", "utf8": "%C3%A4", "bad-utf8": "%FF", "256": "u" * 256, "33-levels": ".".join("u" * 33),
              "dollar": "$",
              "dollar-inside": "a.$b", "colon": "a:b"}
PATHS_UNKNOWN = {"prefix": "/t/", "no-kind": f"/t/{TOPIC}", "slash": f"/t/{TOPIC}/", "xml": f"/t/{TOPIC}/xml",
                 "behind": f"/t/{TOPIC}/json/",
                 "upper": f"/t/{TOPIC}/JSON", "two-levels": f"/t/a/{TOPIC}/json", "slash-escaped": "/t/a%2Fb/json",
                 "jsonx": f"/t/{TOPIC}/jsonx",
                 "upper-t": f"/T/{TOPIC}/json", "kind-only": "/t/json", "topics": f"/topics/{TOPIC}/json"}
QUERIES_GOOD = {"since-earliest": "since=earliest", "since-latest": "since=latest", "limit": "limit=1",
                "limit-large": "limit=999999999",
                "wait": "wait_ms=1", "wait-zero": "wait_ms=0", "all": "since=earliest&limit=5&wait_ms=1",
                "since-escaped": "since=%65arliest"}
QUERIES_BAD = {"since-empty": "since=", "unknown": "x=1", "unknown-bare": "x", "limit-zero": "limit=0", "limit-minus": "limit=-1",
               "limit-word": "limit=all",
               "limit-empty": "limit=", "limit-point": "limit=1.5", "limit-20-digits": "limit=" + "9" * 20,
               "wait-minus": "wait_ms=-1", "wait-unit": "wait_ms=5s",
               "since-upper": "SINCE=earliest", "group": "group=g", "callback": "callback=f"}
SINCE_BAD = {"word": "now", "one-part": "12", "three-parts": "1-0-0", "zero-before": "01-0", "minus": "-1-0",
             "future": "999999999-0", "upper": "Earliest",
             "overflow": "99999999999999999999-0", "date": "2026-01-01"}


def request(path, lines=(), method="GET", version="HTTP/1.1"):
    return head(method, path, version, lines)


def paths():
    for name, topic in PATHS_GOOD.items():
        yield HttpCase(f"read-{name}", request(f"/t/{topic}/json"), (LINES,), CLOSED)
        yield HttpCase(f"read-{name}-sse", request(f"/t/{topic}/sse"), (EVENTS,), EITHER)
    for name, topic in TOPICS_BAD.items():
        for kind in ("json", "sse"):
            yield HttpCase(f"read-{kind}-topic-{name}", request(f"/t/{topic}/{kind}"), (problem(400, "bad-topic"),), EITHER)
    for name, path in PATHS_UNKNOWN.items():
        yield HttpCase(f"read-unknown-{name}", request(path), (problem(404, "not-found"),), EITHER)
    yield HttpCase("read-newline", request("/t/a%0Ab/json"), (Want((400, 404)),), EITHER)
    yield HttpCase("read-nul", request("/t/a%00b/json"), (Want((400, 404)),), EITHER, False, "bad-upgrade-ends", ((), CLOSED))


def queries():
    for name, query in QUERIES_GOOD.items():
        yield HttpCase(f"read-query-{name}", request(f"/t/{TOPIC}/json?{query}"), (LINES,), CLOSED)
    for name, query in QUERIES_BAD.items():
        yield HttpCase(f"read-query-{name}", request(f"/t/{TOPIC}/json?{query}"), (problem(400, "bad-query"),), EITHER)
    for name, since in SINCE_BAD.items():
        for kind in ("json", "sse"):
            yield HttpCase(f"read-{kind}-since-{name}", request(f"/t/{TOPIC}/{kind}?since={since}"), (problem(400, "bad-since"),),
                           EITHER)
            yield HttpCase(f"read-{kind}-last-event-{name}", request(f"/t/{TOPIC}/{kind}", [f"Last-Event-ID: {since}"]),
                           (problem(400, "bad-since"),), EITHER)
    for query in ("limit=1", "wait_ms=1"):  # of json only
        yield HttpCase(f"read-sse-{query}", request(f"/t/{TOPIC}/sse?{query}"), (problem(400, "bad-query"),), EITHER)
    for name in ("token", "access_token", "authorization", "api_key"):
        yield HttpCase(f"read-url-{name}", request(f"/t/{TOPIC}/json?{name}=x"), (problem(400, "token-in-url"),), EITHER)
        yield HttpCase(f"read-url-{name}-sse", request(f"/t/{TOPIC}/sse?since=latest&{name}=x"), (problem(400, "token-in-url"),),
                       EITHER)
    yield HttpCase("read-last-event", request(f"/t/{TOPIC}/sse", ["Last-Event-ID: 1-0"]), (EVENTS,), EITHER)
    yield HttpCase("read-last-event-empty", request(f"/t/{TOPIC}/sse", ["Last-Event-ID:"]), (EVENTS,), EITHER)
    yield HttpCase("read-50-arguments", request(f"/t/{TOPIC}/json?" + "&".join(["limit=1"] * 50)), (problem(400, "bad-query"),),
                   EITHER)


def methods():
    for kind in ("json", "sse", "ws"):
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            yield HttpCase(f"read-{method}-{kind}", request(f"/t/{TOPIC}/{kind}", ["Content-Length: 0"], method),
                           (Want(405, "method-not-allowed", headers=(("Allow", None),)),), EITHER)
        yield HttpCase(f"read-OPTIONS-{kind}", request(f"/t/{TOPIC}/{kind}", method="OPTIONS"),
                       (Want(204, headers=(("Allow", None),)),), EITHER)
        yield HttpCase(f"read-body-{kind}", request(f"/t/{TOPIC}/{kind}", ["Content-Length: 4"]) + b"body",
                       (problem(400, "bad-request"),), EITHER)
        yield HttpCase(f"read-chunked-{kind}", request(f"/t/{TOPIC}/{kind}", ["Transfer-Encoding: chunked"]) + b"0\r\n\r\n",
                       (problem(400, "bad-request"),), EITHER)
    for kind in ("json", "sse"):
        yield HttpCase(f"read-HEAD-{kind}", request(f"/t/{TOPIC}/{kind}", method="HEAD"), (Want(200, bare=True),), EITHER)
        yield HttpCase(f"read-origin-{kind}", request(f"/t/{TOPIC}/{kind}", ["Origin: https://evil.example"]), (Want(403),), EITHER)
        yield WsCase(f"read-upgrade-{kind}", shake(f"/t/{TOPIC}/{kind}", None), b"", (problem(400, "no-websocket"),), EITHER)
    yield HttpCase("read-http-1.0", request(f"/t/{TOPIC}/json", version="HTTP/1.0"), (LINES,), CLOSED)
    yield HttpCase("read-ws-without-upgrade", request(f"/t/{TOPIC}/ws"),
                   (Want(426, "upgrade-required", headers=(("Upgrade", None),)),), EITHER)


def sockets():
    for name, topic in PATHS_GOOD.items():
        yield WsCase(f"read-ws-{name}", shake(f"/t/{topic}/ws", None), b"", [Want(101), alive(None)], EITHER)
    for name, topic in TOPICS_BAD.items():
        yield WsCase(f"read-ws-topic-{name}", shake(f"/t/{topic}/ws", None), b"", (problem(400, "bad-topic"),), EITHER)
    for name, since in SINCE_BAD.items():
        yield WsCase(f"read-ws-since-{name}", shake(f"/t/{TOPIC}/ws?since={since}", None), b"", (problem(400, "bad-since"),),
                     EITHER)
    for query in ("limit=1", "wait_ms=1", "x=1", "since="):
        yield WsCase(f"read-ws-{query}", shake(f"/t/{TOPIC}/ws?{query}", None), b"", (problem(400, "bad-query"),), EITHER)
    yield WsCase("read-ws-since", shake(f"/t/{TOPIC}/ws?since=earliest", None), b"", [Want(101), alive(None)], EITHER)
    yield WsCase("read-ws-protocol", shake(f"/t/{TOPIC}/ws", "ciphermq.topic.json"), b"", [Want(101), alive(None)], EITHER)
    for name, protocol in (("v1", JSON), ("other", "chat"), ("ours", "cmq-root"), ("both", f"ciphermq.topic.json, {JSON}")):
        yield WsCase(f"read-ws-protocol-{name}", shake(f"/t/{TOPIC}/ws", protocol), b"", (problem(400, "bad-subprotocol"),), EITHER)
    yield WsCase("read-ws-origin", shake(f"/t/{TOPIC}/ws", None, Origin="https://evil.example"), b"", (Want(403),), EITHER)
    yield WsCase("read-ws-token-in-url", shake(f"/t/{TOPIC}/ws?token=x", None), b"", (problem(400, "token-in-url"),), EITHER)


GROUPS = {"reads": (paths, queries, methods, sockets)}


def cases(group):
    return [case for make in GROUPS[group] for case in make()]
