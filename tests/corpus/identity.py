"""Who may do what: tokens in every place and shape, and the answers to all others. For a broker that needs tokens.

Ownership: none, tables and pure functions.
Units: milliseconds since 1970.
Errors: none.
Callers: tests/integration/test_corpus.py, which writes the file of tokens.
"""

import base64
import hashlib

from corpus.http_requests import JSON, get, head, post
from corpus.replay import ABSENT, CLOSED, EITHER, OPEN, HttpCase, Want, WsCase
from corpus.ws_streams import MSGPACK, alive, close, command, connect, fault, ok, shake
from corpus.ws_streams import JSON as V1_JSON

FAILURES_MAX = 300  # tokens.failures_max: more than all bad attempts of the groups below


def token_of(name):
    return "cmq_" + base64.urlsafe_b64encode(hashlib.sha256(name.encode("ascii")).digest()).decode("ascii").rstrip("=")


# name -> rights, as support/tokens.py writes them
TOKENS = {
    "orders": {"publish": "orders.*", "subscribe": "orders.*", "consume": "orders.*"},
    "all": {"publish": ">", "subscribe": ">", "consume": ">"},
    "dead": {"subscribe": "$dead.>"},
    "reader": {"subscribe": "orders.>"},
    "one": {"publish": "only.this", "consume": "default"},
    "first": {"publish": "default", "consume": "default"},
    "nothing": {"publish": "nothing.here"},
    "admin": {"admin": True},
    "late": {"publish": ">", "subscribe": ">", "consume": ">", "expires_ms": 1700000000000},
}

NO_TOKEN = Want(401, "unauthorized", headers=(("WWW-Authenticate", 'Bearer realm="ciphermq"'),))
BAD_TOKEN = Want(401, "unauthorized", headers=(("WWW-Authenticate", 'Bearer realm="ciphermq", error="invalid_token"'),))
FORBIDDEN = Want(403, "forbidden", headers=(("WWW-Authenticate", 'Bearer realm="ciphermq", error="insufficient_scope"'),))
OK = Want(200)


def bearer(name):
    return f"Authorization: Bearer {token_of(name)}"


def key(name):
    return f"X-API-Key: {token_of(name)}"


GOOD_ALL = token_of("all")
# Header lines -> who sent it is known.
SHOWN_GOOD = {"bearer": [bearer("all")], "lower": [f"authorization: bearer {GOOD_ALL}"],
              "upper": [f"AUTHORIZATION: BEARER {GOOD_ALL}"],
              "blanks": [f"Authorization:   Bearer    {GOOD_ALL}   "], "api-key": [key("all")],
              "api-key-case": [f"x-api-KEY: {GOOD_ALL}"],
              "api-key-blanks": [f"X-API-Key:    {GOOD_ALL}  "]}
# No token was sent: nothing, or another scheme.
SHOWN_NONE = {"nothing": [], "basic": ["Authorization: Basic dTpw"], "digest": ['Authorization: Digest username="u"'],
              "cookie": [f"Cookie: token={GOOD_ALL}"], "other-header": [f"X-Token: {GOOD_ALL}"],
              "proxy": [f"Proxy-Authorization: Bearer {GOOD_ALL}"],
              "bare": [f"Authorization: {GOOD_ALL}"], "token-scheme": [f"Authorization: Token {GOOD_ALL}"],
              "empty": ["Authorization:"],
              "scheme-only": ["Authorization: Bearer"], "api-key-empty": ["X-API-Key:"],
              "no-blank": [f"Authorization: Bearer{GOOD_ALL}"]}
# A token that is none, or is not good (any more).
SHOWN_BAD = {"unknown": [bearer("unheard-of")], "expired": [bearer("late")], "short": [f"Authorization: Bearer {GOOD_ALL[:-1]}"],
             "long": [f"Authorization: Bearer {GOOD_ALL}A"], "case": [f"Authorization: Bearer {GOOD_ALL.swapcase()}"],
             "prefix": [f"Authorization: Bearer {GOOD_ALL[4:]}"], "prefix-upper": [f"Authorization: Bearer CMQ_{GOOD_ALL[4:]}"],
             "quoted": [f'Authorization: Bearer "{GOOD_ALL}"'], "two-in-one": [f"Authorization: Bearer {GOOD_ALL} {GOOD_ALL}"],
             "comma": [f"Authorization: Bearer {GOOD_ALL}, x"], "equals": [f"Authorization: Bearer {GOOD_ALL}="],
             "word": ["Authorization: Bearer x"],
             "digest-itself": ["Authorization: Bearer " + hashlib.sha256(GOOD_ALL.encode()).hexdigest()], "percent": [
                 f"Authorization: Bearer {GOOD_ALL.replace('_', '%5F', 1)}"], "api-key-bearer": [f"X-API-Key: Bearer {GOOD_ALL}"],
             "api-key-unknown": [key("unheard-of")], "api-key-latin1": ["X-API-Key: \xe4"],
             "long-4000": ["Authorization: Bearer " + "A" * 4000],
             "star": ["Authorization: Bearer *"], "null": ["Authorization: Bearer null"], "name": ["Authorization: Bearer all"],
             "jwt": ["Authorization: Bearer eyJhbGciOiJub25lIn0.e30."]}
SHOWN_TWICE = {"both": [bearer("all"), key("all")], "twice": [bearer("all"), bearer("all")],
               "other": [bearer("all"), bearer("orders")],
               "api-key-twice": [key("all"), key("all")]}


def shown():
    route = "/v1/topics/orders.shown"
    for name, lines in SHOWN_GOOD.items():
        yield HttpCase(f"token-{name}", post(target=route, lines=lines),
                       (Want(200, count=1, headers=(("WWW-Authenticate", ABSENT),)),), OPEN)
    for name, lines in SHOWN_NONE.items():
        yield HttpCase(f"token-none-{name}", post(target=route, lines=lines), (NO_TOKEN,))
        yield HttpCase(f"token-none-{name}-empty", post(b"", target=route, lines=lines), (NO_TOKEN,), OPEN)
    for name, lines in SHOWN_BAD.items():
        yield HttpCase(f"token-bad-{name}", post(target=route, lines=lines), (BAD_TOKEN,))
    for name, lines in SHOWN_TWICE.items():
        yield HttpCase(f"token-twice-{name}", post(target=route, lines=lines), (Want(400, "bad-request"),))


# (token, topic) -> whether it may publish there
SCOPES = {
    ("orders", "orders.eu"): True, ("orders", "orders.us"): True, ("orders", "orders"): False, ("orders", "orders.eu.paid"): False,
    ("orders", "ordersx.eu"): False, ("orders", "xorders.eu"): False, ("orders", "Orders.eu"): False, ("orders", "default"): False,
    ("all", "orders.eu"): True, ("all", "default"): True, ("all", "a.b.c.d"): True, ("all", "$dead.a"): False,
    ("all", "$sys"): False,
    ("reader", "orders.eu"): False, ("dead", "$dead.orders"): False, ("nothing", "orders.eu"): False, ("admin", "orders.eu"): False,
    ("one", "only.this"): True, ("one", "only.that"): False, ("one", "only"): False, ("one", "only.this.too"): False,
}


def scopes():
    for (who, topic), may in SCOPES.items():
        want = Want(200, count=1) if may else FORBIDDEN
        after = OPEN if may else CLOSED
        yield HttpCase(f"scope-{who}-{topic}", post(target=f"/v1/topics/{topic}", lines=[bearer(who)]), (want,), after)
        yield HttpCase(f"scope-{who}-{topic}-batch", post(b'["a"]', target=f"/v1/topics/{topic}/batch", lines=[key(who), JSON]),
                       (want,), after)
    for who, may in (("all", True), ("first", True), ("orders", False), ("one", False), ("nothing", False)):
        want = Want(200, count=1) if may else FORBIDDEN
        after = OPEN if may else CLOSED
        yield HttpCase(f"scope-{who}-input", post(b'{"content":"a"}', target="/input", lines=[bearer(who), JSON]), (want,), after)
        body = b'{"messages":[{"content":"a"}]}'
        yield HttpCase(f"scope-{who}-input-batch", post(body, target="/input/batch", lines=[bearer(who), JSON]), (want,), after)


def order_of_rules():
    """What is said first: nothing is told about topics and bodies to who may not publish."""
    for route in ("/", "/healthz", "/readyz", "/v1/openapi.json"):
        yield HttpCase(f"open-{route}", get(route), (OK,), OPEN)
        yield HttpCase(f"open-{route}-bad-token", get(route, lines=[bearer("unheard-of")]), (OK,), OPEN)
    yield HttpCase("open-options", head("OPTIONS", "/v1/topics/orders.eu"), (Want(204),), OPEN)
    yield HttpCase("metrics-nobody", get("/metrics"), (NO_TOKEN,), OPEN)
    yield HttpCase("metrics-publisher", get("/metrics", lines=[bearer("all")]), (FORBIDDEN,), OPEN)
    yield HttpCase("metrics-admin", get("/metrics", lines=[bearer("admin")]), (OK,), OPEN)
    yield HttpCase("first-framing", head(lines=["Content-Length: 1", "Transfer-Encoding: chunked"]), (Want(400, "bad-request"),))
    yield HttpCase("first-secret-in-url", get("/v1/topics/h?token=x"), (Want(400, "token-in-url"),), OPEN)
    yield HttpCase("first-path", get("/nothing"), (Want(404, "not-found"),), OPEN)
    yield HttpCase("first-method", get("/v1/topics/orders.eu"), (Want(405, "method-not-allowed"),), OPEN)
    yield HttpCase("then-token-bad-topic", post(b"", target="/v1/topics/a..b"), (NO_TOKEN,), OPEN)
    yield HttpCase("then-token-large", head(target="/v1/topics/orders.eu", lines=["Content-Length: 99999999"]), (NO_TOKEN,))
    yield HttpCase("then-token-type", post(target="/input"), (NO_TOKEN,))
    yield HttpCase("then-token-reserved", post(b"", target="/v1/topics/$dead.a"), (NO_TOKEN,), OPEN)
    yield HttpCase("then-topic", post(b"", target="/v1/topics/a..b", lines=[bearer("all")]), (Want(400, "bad-topic"),), OPEN)
    yield HttpCase("pipeline-each-its-own", post(target="/v1/topics/orders.eu", lines=[bearer("orders")])
                   + post(b"", target="/v1/topics/orders.eu") + post(target="/v1/topics/orders.eu", lines=[key("orders")]),
                   (OK, NO_TOKEN, OK), OPEN)
    yield HttpCase("pipeline-refused-hidden", post(target="/v1/topics/orders.eu")
                   + post(target="/v1/topics/smuggled.identity", lines=[bearer("all")]), (NO_TOKEN,))


# ---- the WebSocket port ----


def upgrade(lines=(), path="/v1/ws", protocol=V1_JSON):
    return shake(path, protocol, lines)


def sockets():
    for name, lines in SHOWN_GOOD.items():
        yield WsCase(f"ws-token-{name}", upgrade(lines), connect(), [Want(101), ok(1), alive()], EITHER)
    for name in ("unknown", "expired", "short", "long", "case", "quoted", "word", "api-key-unknown", "name"):
        yield WsCase(f"ws-token-bad-{name}", upgrade(SHOWN_BAD[name]), b"", (BAD_TOKEN,), EITHER)
    for name, lines in SHOWN_TWICE.items():
        only_one_seen = {} if name != "api-key-twice" else {"limit": "own-header-twice", "limited": ([Want(101)], EITHER)}
        yield WsCase(f"ws-token-twice-{name}", upgrade(lines), b"", (Want(400),), EITHER, **only_one_seen)
    # As a subprotocol beside the real one, which alone is answered.
    beside = f"{V1_JSON}, ciphermq.token.{GOOD_ALL}"
    answered = Want(101, headers=(("Sec-WebSocket-Protocol", V1_JSON),))
    yield WsCase("ws-protocol", upgrade(protocol=beside), connect(), [answered, ok(1), alive()], EITHER)
    yield WsCase("ws-protocol-first", upgrade(protocol=f"ciphermq.token.{GOOD_ALL}, {V1_JSON}"), connect(),
                 [answered, ok(1), alive()], EITHER)
    yield WsCase("ws-protocol-msgpack", upgrade(protocol=f"{MSGPACK}, ciphermq.token.{GOOD_ALL}"), connect("msgpack"),
                 [Want(101, headers=(("Sec-WebSocket-Protocol", MSGPACK),)), ok(1, "msgpack"), alive("msgpack")], EITHER)
    yield WsCase("ws-protocol-bad", upgrade(protocol=f"{V1_JSON}, ciphermq.token.{token_of('unheard-of')}"), b"", (BAD_TOKEN,),
                 EITHER)
    yield WsCase("ws-protocol-alone", upgrade(protocol=f"ciphermq.token.{GOOD_ALL}"), b"", (Want(400),), EITHER)
    yield WsCase("ws-protocol-and-header", upgrade([bearer("all")], protocol=beside), b"", (Want(400),), EITHER)
    yield WsCase("ws-protocol-two", upgrade(protocol=f"{beside}, ciphermq.token.{token_of('orders')}"), b"", (Want(400),), EITHER)
    # In connect.
    for form, protocol in (("json", V1_JSON), ("msgpack", MSGPACK)):
        def said(token, form=form):
            return command({"id": 1, "connect": {} if token is None else {"token": token}}, form)

        yield WsCase(f"ws-connect-{form}", upgrade(protocol=protocol), said(GOOD_ALL), [ok(1, form), alive(form)], EITHER)
        for name, token in (("none", None), ("unknown", token_of("unheard-of")), ("expired", token_of("late")), ("empty", ""),
                            ("short", GOOD_ALL[:-1]),
                            ("long", GOOD_ALL + "A"), ("bearer", f"Bearer {GOOD_ALL}"), ("huge", "A" * 50000),
                            ("nul", GOOD_ALL + "\0")):
            yield WsCase(f"ws-connect-{form}-{name}", upgrade(protocol=protocol), said(token),
                         [fault(1, "unauthorized", form), close(3500)])
    for name in ("token", "access_token", "authorization", "api_key", "TOKEN", "to%6ben"):
        yield WsCase(f"ws-url-{name}", upgrade(path=f"/v1/ws?{name}={GOOD_ALL}"), b"", (Want(400, "token-in-url"),), EITHER)
        yield WsCase(f"ws-url-{name}-second", upgrade(path=f"/v1/ws?a=b&{name}={GOOD_ALL}"), b"", (Want(400, "token-in-url"),),
                     EITHER)
        yield HttpCase(f"ws-url-{name}-plain", get(f"/?{name}={GOOD_ALL}"), (Want(400, "token-in-url"),), EITHER)
    yield from root_sockets()


def root_sockets():
    for who, want in (("all", Want(101)), ("first", Want(101)), ("one", Want(101)), ("orders", Want(403)), ("nothing", Want(403)),
                      ("reader", Want(403)),
                      ("late", BAD_TOKEN), ("unheard-of", BAD_TOKEN)):
        yield WsCase(f"ws-root-{who}", upgrade([bearer(who)], "/", None), b"", [want], EITHER)
    yield WsCase("ws-root-nobody", upgrade((), "/", None), b"", (NO_TOKEN,), EITHER)


# (token, verb, topic) -> whether it may
VERBS = {
    ("orders", "subscribe", "orders.eu"): True, ("orders", "subscribe", "orders.*"): True,
    ("orders", "subscribe", "orders.>"): False,
    ("orders", "subscribe", ">"): False, ("orders", "subscribe", "*.eu"): False, ("orders", "subscribe", "orders"): False,
    ("orders", "consume", "orders.eu"): True, ("orders", "consume", "orders.>"): False, ("reader", "subscribe", "orders.>"): True,
    ("reader", "subscribe", "orders.a.b"): True, ("reader", "consume", "orders.eu"): False, ("all", "subscribe", ">"): True,
    ("all", "subscribe", "$dead.>"): False, ("all", "consume", "$dead.a"): False, ("dead", "subscribe", "$dead.>"): True,
    ("dead", "subscribe", "$dead.a"): True, ("dead", "subscribe", "$sys"): False, ("dead", "subscribe", "dead.a"): False,
    ("nothing", "subscribe", "orders.eu"): False, ("admin", "subscribe", "orders.eu"): False,
    ("one", "subscribe", "only.this"): False,
    ("one", "consume", "default"): True, ("one", "consume", "only.this"): False,
}


def rights():
    for number, ((who, verb, topic), may) in enumerate(VERBS.items()):
        body = {"topic": topic} if verb == "subscribe" else {"topic": topic, "group": f"rights-{number}"}
        for form, protocol in (("json", V1_JSON), ("msgpack", MSGPACK)):
            # Refused, the connection goes on; allowed, messages may come.
            wanted = [ok(2, form)] if may else [fault(2, "forbidden", form), alive(form)]
            yield WsCase(f"right-{who}-{verb}-{topic}-{form}", upgrade([bearer(who)], protocol=protocol), connect(form),
                         [Want(101), ok(1, form), say_command({"id": 2, verb: body}, form), *wanted], EITHER)
    yield WsCase("right-bad-topic-first", upgrade([bearer("nothing")]), connect(),
                 [Want(101), ok(1), say_command({"id": 2, "subscribe": {"topic": "a..b"}}), fault(2, "bad_topic"), alive()], EITHER)


def say_command(value, form="json"):
    async def check(stream, replies):
        await stream.send(command(value, form))
    return check


HTTP_GROUPS = {"shown": (shown,), "scopes": (scopes,), "order": (order_of_rules,)}
WS_GROUPS = {"sockets": (sockets,), "rights": (rights,)}


def cases(group):
    return [case for make in {**HTTP_GROUPS, **WS_GROUPS}[group] for case in make()]


def flood():
    """More bad attempts than are looked at; answers are 401 at first and 429 in the end."""
    either = Want((401, 429))
    return [HttpCase(f"flood-{number}", post(b"", target="/v1/topics/orders.eu", lines=[bearer(f"guess-{number}")]), (either,),
                     OPEN)
            for number in range(FAILURES_MAX + 50)]


def behind_flood():
    late = Want(429, "too-many-failures", headers=(("Retry-After", None),))
    yield HttpCase("flooded-bad", post(b"", target="/v1/topics/orders.eu", lines=[bearer("guess-more")]), (late,), OPEN)
    yield HttpCase("flooded-good", post(target="/v1/topics/orders.eu", lines=[bearer("orders")]), (Want(200, count=1),), OPEN)
    yield HttpCase("flooded-none", post(b"", target="/v1/topics/orders.eu"), (NO_TOKEN,), OPEN)
    yield HttpCase("flooded-open", get("/healthz"), (OK,), OPEN)
