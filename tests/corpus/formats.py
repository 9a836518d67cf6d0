"""Bodies of the other formats of a batch: JSON lines, MessagePack, CloudEvents; and what elements carry besides their data.

Ownership: none, tables and pure functions.
Units: bytes; offset = byte of the body, index = position among the messages.
Errors: none.
Callers: tests/integration/test_corpus.py.
"""

import base64
import json
import struct

import packing
from corpus import json_texts
from corpus.bodies import ELEMENTS_BAD, ELEMENTS_GOOD, JSON, MALFORMED, REQUEST_MESSAGES_MAX, Body, Raw, taken
from corpus.http_requests import MESSAGE_BYTES_MAX, REQUEST_BYTES_MAX
from corpus.replay import Want

LINES, MSGPACK = "application/x-ndjson", "application/msgpack"
EVENT, EVENTS = "application/cloudevents+json", "application/cloudevents-batch+json"
NO_LINE = Want(400, "malformed-lines")
NO_MSGPACK = Want(400, "malformed-msgpack")
NO_EVENT = Want(400, "malformed-event")
LARGE = Want(413, "too-large")


def renamed(text, prefix):
    """Ids that no other case has."""
    return text.replace('"id":"k', '"id":"' + prefix) if '"id":"k' in text else text.replace('"id":"', '"id":"' + prefix)


# ---- what elements carry: ttl_ms and headers, the same in every format (docs/HTTP.md) ----

CARRIED_GOOD = {
    "ttl-1": {"ttl_ms": 1}, "ttl-day": {"ttl_ms": 86400000}, "ttl-largest": {"ttl_ms": 315360000000},
    "headers-none": {"headers": {}},
    "headers-one": {"headers": {"shop": "berlin"}}, "headers-empty-value": {"headers": {"a": ""}},
    "headers-utf8": {"headers": {"a": "\u00e4\U0001f600"}},
    "headers-32": {"headers": {str(i): "v" for i in range(32)}}, "headers-4096": {"headers": {"a": "v" * 4095}},
    "headers-name-128": {"headers": {"n" * 128: "v"}}, "headers-marks": {"headers": {"!#$%&'*+-.^_`|~": "v"}},
    "both": {"ttl_ms": 5000, "headers": {"a": "b"}},
}
CARRIED_BAD = {
    "ttl-0": {"ttl_ms": 0}, "ttl-minus": {"ttl_ms": -1}, "ttl-float": {"ttl_ms": 1.5}, "ttl-string": {"ttl_ms": "5s"},
    "ttl-null": {"ttl_ms": None},
    "ttl-too-long": {"ttl_ms": 315360000001}, "ttl-true": {"ttl_ms": True}, "ttl-list": {"ttl_ms": [1]},
    "headers-null": {"headers": None},
    "headers-list": {"headers": []}, "headers-string": {"headers": "a: b"}, "headers-number-value": {"headers": {"a": 1}},
    "headers-null-value": {"headers": {"a": None}}, "headers-list-value": {"headers": {"a": ["b"]}},
    "headers-upper": {"headers": {"Shop": "x"}},
    "headers-empty-name": {"headers": {"": "x"}}, "headers-blank-name": {"headers": {"a b": "x"}},
    "headers-utf8-name": {"headers": {"\u00e4": "x"}},
    "headers-colon-name": {"headers": {"a:": "x"}}, "headers-name-129": {"headers": {"n" * 129: "v"}},
    "headers-newline": {"headers": {"a": "x\ny"}},
    "headers-nul": {"headers": {"a": "\0"}}, "headers-del": {"headers": {"a": "\x7f"}},
    "headers-33": {"headers": {str(i): "v" for i in range(33)}},
    "headers-4097": {"headers": {"a": "v" * 4096}},
}
# Over a limit: the request, or what it may carry, is too large.
CARRIED_LARGE = ("headers-33", "headers-4097")


def carried():
    for name, more in CARRIED_GOOD.items():
        element = {"data": "c", **more}
        data = None if more.get("ttl_ms") == 1 else ("c",)  # over before it can be delivered
        has = more.get("headers") or None
        yield Body(f"carried-json-{name}", "/v1/topics/corpus.carried/batch", JSON, json.dumps([element]).encode(), taken(), data,
                   headers=has)
        yield Body(f"carried-lines-{name}", "/v1/topics/corpus.carried/batch", LINES, json.dumps(element).encode(), taken(), data,
                   headers=has)
        yield Body(f"carried-msgpack-{name}", "/v1/topics/corpus.carried/batch", MSGPACK, packing.packb([element]), taken(), data,
                   headers=has)
    for name, more in CARRIED_BAD.items():
        element = {"data": "c", **more}
        large = LARGE if name in CARRIED_LARGE else None
        yield Body(f"carried-json-bad-{name}", "/v1/topics/corpus.carried/batch", JSON, json.dumps([element]).encode(),
                   large or MALFORMED)
        yield Body(f"carried-lines-bad-{name}", "/v1/topics/corpus.carried/batch", LINES, json.dumps(element).encode(), NO_LINE)
        yield Body(f"carried-msgpack-bad-{name}", "/v1/topics/corpus.carried/batch", MSGPACK, packing.packb([element]),
                   large or NO_MSGPACK)
    route = "/v1/topics/corpus.carried/batch"
    # The request's headers go with every message that does not have the same name itself.
    mixed = json.dumps(["a", {"data": "b", "headers": {"y": "2"}}]).encode()
    yield Body("carried-inherited", route, JSON, mixed, taken(2), ("a", "b"), ("CMQ-Meta-x: 1",))
    yield Body("carried-own-wins", route, JSON, b'[{"data":"a","headers":{"x":"own"}}]', taken(), ("a",), ("CMQ-Meta-X: theirs",),
               {"x": "own"})
    yield Body("carried-whole", "/v1/topics/corpus.carried", "text/plain", b"t", taken(), ("t",),
               ("CMQ-Meta-Shop: berlin", "CMQ-TTL: 1h"), {"shop": "berlin"})
    yield Body("carried-input", "/input", JSON, b'{"content":"t"}', taken(), ("t",), ("CMQ-Meta-Shop: berlin",), {"shop": "berlin"})
    yield Body("carried-twice", route, JSON, b'[{"data":"a","headers":{"x":"1","x":"2"}}]', MALFORMED._replace(index=0))
    yield Body("carried-ttl-twice", route, JSON, b'[{"data":"a","ttl_ms":1,"ttl_ms":1}]', MALFORMED._replace(index=0))
    yield Body("carried-ttl-exponent", route, JSON, b'[{"data":"a","ttl_ms":1e3}]', MALFORMED._replace(index=0))
    yield Body("carried-ttl-huge", route, JSON, b'[{"data":"a","ttl_ms":' + b"9" * 50 + b"}]", MALFORMED._replace(index=0))
    together = json.dumps([{"data": "a", "headers": {"h" + str(i): "v" for i in range(20)}}]).encode()
    yield Body("carried-too-many-together", route, JSON, together, LARGE, None, tuple(f"CMQ-Meta-{i}: v" for i in range(20)))


# ---- JSON lines ----


def lines():
    route = "/v1/topics/corpus.lines/batch"

    def body(name, text, want, data=None, kind=LINES, more=()):
        return Body("lines-" + name, route, kind, text, want, data, more)

    for name, (text, data) in ELEMENTS_GOOD.items():
        first, second = renamed(text, "l").encode(), renamed(text, "m").encode()
        yield body(name, first, taken(), data)
        yield body(name + "-between", b'"x"\n' + second + b'\n"y"\n', taken(3)._replace(rejected=0), ("x", *data, "y"))
    for name, text in ELEMENTS_BAD.items():
        yield body("bad-" + name, text.encode(), NO_LINE._replace(rejected=1, lines=(1,)))
        yield body("bad-" + name + "-between", b'"x"\n' + text.encode() + b'\n"y"', Want(207, count=2, rejected=1, lines=(2,)),
                   ("x", "y"))
    for name, text in json_texts.BROKEN.items():
        if b"\n" in text:
            continue
        yield body("data-" + name, b'"x"\n{"data":' + text + b'}\n"y"\n', Want(207, count=2, rejected=1, lines=(2,)), ("x", "y"))
    for name, text in json_texts.good():
        if b"\n" in text:
            continue
        data = json.loads(text) if name.startswith("string-") else Raw(text.strip())
        yield body("data-" + name, b'{"data":' + text + b"}", taken(), (data,))
    yield body("empty", b"", Want(200, count=0, rejected=0))
    yield body("blank", b"\n \n\t\r\n\r\n", Want(200, count=0, rejected=0))
    yield body("crlf", b'"a"\r\n"b"\r\n', Want(200, count=2, rejected=0), ("a", "b"))
    yield body("blank-between", b'\n"a"\n\n\n"b"\n\n', Want(200, count=2, rejected=0), ("a", "b"))
    yield body("cr-only", b'"a"\r"b"', NO_LINE._replace(rejected=1))
    yield body("two-on-a-line", b'"a" "b"\n"c"', Want(207, count=1, rejected=1, lines=(1,)), ("c",))
    yield body("array", b'["a"]', NO_LINE._replace(rejected=1))
    yield body("bom", b'\xef\xbb\xbf"a"\n"b"', Want(207, count=1, rejected=1, lines=(1,)), ("b",))
    yield body("nul", b'"a"\n\0\n"b"', Want(207, count=2, rejected=1, lines=(2,)), ("a", "b"))
    yield body("record-separators", b'\x1e"a"\n\x1e"b"\n', NO_LINE._replace(rejected=2, lines=(1, 2)))
    yield body("string-over-lines", b'"a\nb"', NO_LINE._replace(rejected=2, lines=(1, 2)))
    yield body("object-over-lines", b'{"data":\n"a"}', NO_LINE._replace(rejected=2))
    yield body("every-second", b'"a"\n[]\n' * 50, Want(207, count=50, rejected=50, lines=tuple(range(2, 101, 2))), ("a",) * 50)
    yield body("numbered-with-blanks", b'\n\n"a"\n\n[]\n', Want(207, count=1, rejected=1, lines=(5,)), ("a",))
    yield body("2000-bad", b"x\n" * 2000, NO_LINE._replace(rejected=2000))  # 1,000 are named
    yield body("10000", b'"m"\n' * 10000, Want(200, count=10000, rejected=0))
    yield body("large-message", b'"a"\n"' + b"x" * (MESSAGE_BYTES_MAX + 1) + b'"\n"b"', Want(207, count=2, rejected=1, lines=(2,)),
               ("a", "b"))
    yield body("message-at-limit", b'"' + b"x" * MESSAGE_BYTES_MAX + b'"\n', Want(200, count=1, rejected=0))
    yield body("line-above-request", b'"a"\n"' + b"x" * (REQUEST_BYTES_MAX + 1) + b'"\n"b"',
               Want(207, count=2, rejected=1, lines=(2,)), ("a", "b"))
    yield body("body-above-request", (b'"' + b"y" * 100000 + b'"\n') * 60, Want(200, count=60, rejected=0))
    yield body("key", b'"a"', Want(400, "bad-header"), more=("Idempotency-Key: k",))
    yield body("gzip", b"\x1f\x8b", Want(415, "unsupported-content-coding"), more=("Content-Encoding: gzip",))
    yield body("same-id", b'{"data":"a","id":"ls1"}\n{"data":"a","id":"ls1"}\n', Want((200, 207, 409)))
    for kind in ("application/ndjson", "application/jsonl", "APPLICATION/X-NDJSON", "application/x-ndjson; charset=utf-8"):
        yield body("type-" + kind, b'"a"\n', Want(200, count=1), ("a",), kind)
    for kind in ("application/x-ndjson; charset=latin1", "application/x-ndjsonx", "text/x-ndjson", "application/json-seq",
                 "application/jsonlines"):
        yield body("type-bad-" + kind, b'"a"\n', Want(415, "unsupported-media-type"), None, kind)
    # One message of a type that has lines is one message.
    yield Body("lines-whole", "/v1/topics/corpus.lines", LINES, b'"a"\n[\n', taken(), ('"a"\n[\n',))


# ---- MessagePack ----


def packed(*elements):
    """An array of elements that are packed already."""
    return bytes([0x90 | len(elements)]) + b"".join(elements)


MP = packing.packb
MP_GOOD = {
    "str": (MP("a"), ("a",)), "str-empty": (b"\xa0", ("",)), "str8": (b"\xd9\x01a", ("a",)), "str16": (b"\xda\x00\x01a", ("a",)),
    "str32": (b"\xdb\x00\x00\x00\x01a", ("a",)), "str-utf8": (MP("\u00e4\U0001f600"), ("\u00e4\U0001f600",)),
    "str-nul": (MP("\0"), ("\0",)),
    "bin8": (b"\xc4\x02\xff\x00", (b"\xff\x00",)), "bin16": (b"\xc5\x00\x01\xff", (b"\xff",)),
    "bin32": (b"\xc6\x00\x00\x00\x01\xff", (b"\xff",)),
    "bin-empty": (b"\xc4\x00", (b"",)), "data-str": (MP({"data": "a"}), ("a",)), "data-bin": (MP({"data": b"\xff"}), (b"\xff",)),
    "id": (MP({"data": "a", "id": "p1"}), ("a",)), "id-first": (MP({"id": "p2", "data": "a"}), ("a",)),
    "type": (MP({"data": "a", "type": "text/csv"}), ("a",)),
    "type-json": (MP({"data": "[1]", "type": "application/json"}), ([1],)),
    "type-json-bin": (MP({"data": b'{"a":1}', "type": "application/json"}), ({"a": 1},)),
    "map16": (b"\xde\x00\x01" + MP("data") + MP("a"), ("a",)), "map32": (b"\xdf\x00\x00\x00\x01" + MP("data") + MP("a"), ("a",)),
    "name-str8": (b"\x81\xd9\x04data\xa1a", ("a",)), "id-128": (MP({"data": "a", "id": "q" * 128}), ("a",)),
    "long": (MP("x" * 70000), ("x" * 70000,)),
    "ttl-int64": (b"\x82" + MP("data") + MP("a") + MP("ttl_ms") + b"\xd3\x00\x00\x00\x00\x00\x01\x00\x00", ("a",)),
}
MP_BAD = {
    "nil": b"\xc0", "true": b"\xc3", "int": b"\x01", "negative": b"\xff", "uint64": b"\xcf" + b"\xff" * 8,
    "float32": b"\xca\0\0\0\0", "float64": MP(1.5),
    "array": MP(["a"]), "array-empty": b"\x90", "map-empty": b"\x80", "ext8": b"\xc7\x01\x05a", "fixext1": b"\xd4\x05a",
    "timestamp": b"\xd6\xff\0\0\0\0",
    "never-used": b"\xc1", "no-data": MP({"id": "x"}), "data-int": MP({"data": 1}), "data-nil": MP({"data": None}),
    "data-map": MP({"data": {}}),
    "data-array": MP({"data": []}), "data-true": MP({"data": True}), "data-float": MP({"data": 0.5}),
    "data-ext": b"\x81" + MP("data") + b"\xd4\x05a",
    "unknown": MP({"data": "a", "x": 1}), "upper": MP({"Data": "a"}), "name-int": b"\x81\x01\xa1a",
    "name-bin": b"\x81\xc4\x04data\xa1a", "name-nil": b"\x81\xc0\xa1a",
    "twice": b"\x82" + MP("data") + MP("a") + MP("data") + MP("b"), "id-int": MP({"data": "a", "id": 1}),
    "id-bin": MP({"data": "a", "id": b"x"}),
    "id-empty": MP({"data": "a", "id": ""}), "id-129": MP({"data": "a", "id": "q" * 129}),
    "id-blank": MP({"data": "a", "id": "a b"}),
    "id-nil": MP({"data": "a", "id": None}), "type-int": MP({"data": "a", "type": 1}),
    "type-word": MP({"data": "a", "type": "text"}),
    "type-long": MP({"data": "a", "type": "a/" + "b" * 126}), "json-broken": MP({"data": "[1", "type": "application/json"}),
    "json-bom": MP({"data": "\ufeff[]", "type": "application/json"}),
    "json-utf16": MP({"data": "[]", "type": "application/json; charset=utf-16"}),
    "json-bin-broken": MP({"data": b"\xff", "type": "application/json"}), "utf8-ff": b"\xa1\xff", "utf8-cut": b"\xa2\xe2\x82",
    "utf8-surrogate": b"\xa3\xed\xa0\x80",
    "utf8-overlong": b"\xa2\xc0\x80", "utf8-in-data": b"\x81" + MP("data") + b"\xa1\xff", "utf8-in-name": b"\x81\xa1\xff\xa1a",
    "utf8-in-type": b"\x82" + MP("data") + MP(
        "a") + MP("type") + b"\xa3a/\xff", "headers-key-int": b"\x82" + MP("data") + MP("a") + MP("headers") + b"\x81\x01\xa1a",
    "headers-twice": b"\x82" + MP("data") + MP("a") + MP("headers") + b"\x82\xa1a\xa1b\xa1a\xa1c",
    "deep": b"\x91" * 10000 + b"\xc0",
}
MP_WHOLE_BAD = {
    "empty": b"", "str": MP("a"), "map": MP({"data": "a"}), "nil": b"\xc0", "int": b"\x01", "bin": MP(b"a"), "ext": b"\xd4\x00a",
    "never-used": b"\xc1", "json": b'["a"]',
    "behind": packed(MP("a")) + b"\xc0", "two": packed(MP("a")) * 2, "array16-cut": b"\xdc", "array16-cut-2": b"\xdc\x00",
    "array32-cut": b"\xdd\x00\x00\x00",
    "count-too-large": b"\x92\xa1a", "str32-bomb": b"\x91\xdb\xff\xff\xff\xff", "bin32-bomb": b"\x91\xc6\xff\xff\xff\xff",
    "map32-bomb": b"\x91\xdf\xff\xff\xff\xff",
    "map16-bomb": b"\x91\xde\xff\xff", "array32-inside-bomb": b"\x91\xdd\xff\xff\xff\xff",
    "headers-bomb": b"\x91\x82" + MP("data") + MP("a") + MP("headers") + b"\xdf\xff\xff\xff\xff",
    "ext32-bomb": b"\x91\xc9\xff\xff\xff\xff\x00", "array16-of-nothing": b"\xdc\x07\xd0", "zeros": b"\0" * 100, "ff": b"\xff" * 100,
    "gzip": b"\x1f\x8b\x08\0",
}


def msgpack():
    route = "/v1/topics/corpus.msgpack/batch"

    def body(name, raw, want, data=None, kind=MSGPACK, more=()):
        return Body("msgpack-" + name, route, kind, raw, want, data, more)

    for name, (raw, data) in MP_GOOD.items():
        yield body(name, packed(raw), taken(), data)
        other = raw.replace(b"\xa2p", b"\xa2o").replace(b"qqq", b"rrr")  # ids of its own
        yield body(name + "-between", packed(MP("x"), other, MP("y")), taken(3), ("x", *data, "y"))
    for name, raw in MP_BAD.items():
        yield body("bad-" + name, packed(raw), NO_MSGPACK._replace(index=0))
        yield body("bad-" + name + "-second", packed(MP("x"), raw, MP("y")), NO_MSGPACK._replace(index=1))
    for name, raw in MP_WHOLE_BAD.items():
        yield body("whole-" + name, raw, NO_MSGPACK)
    whole = packed(MP({"data": "ab", "id": "w1", "type": "text/csv", "ttl_ms": 70000, "headers": {"a": "b"}}), MP(b"\x01\x02"))
    for at in range(1, len(whole)):
        yield body(f"cut-at-{at}", whole[:at], NO_MSGPACK)
    yield body("whole", whole, taken(2), ("ab", b"\x01\x02"))
    yield body("none", b"\x90", taken(0))
    yield body("none-array16", b"\xdc\0\0", taken(0))
    yield body("none-array32", b"\xdd\0\0\0\0", taken(0))
    yield body("array32", b"\xdd\0\0\0\x01\xa1a", taken(), ("a",))
    yield body("at-count", b"\xdc" + struct.pack(">H", REQUEST_MESSAGES_MAX) + b"\xa1m" * REQUEST_MESSAGES_MAX,
               taken(REQUEST_MESSAGES_MAX))
    yield body("above-count", b"\xdc" + struct.pack(">H", REQUEST_MESSAGES_MAX + 1) + b"\xa1m" * (REQUEST_MESSAGES_MAX + 1), LARGE)
    yield body("count-bomb", b"\xdd\xff\xff\xff\xff", NO_MSGPACK._replace(offset=0))
    yield body("large", packed(MP("x" * (MESSAGE_BYTES_MAX + 1))), LARGE._replace(index=0))
    yield body("at-limit", packed(MP("x" * MESSAGE_BYTES_MAX)), taken())
    yield body("key-and-id", packed(MP({"data": "a", "id": "w2"})), Want(400, "bad-header"), None, more=("Idempotency-Key: k",))
    for kind in ("application/x-msgpack", "application/vnd.msgpack", "APPLICATION/MSGPACK", "application/msgpack; charset=latin1"):
        yield body("type-" + kind, packed(MP("a")), taken(), ("a",), kind)
    for name, raw, offset, index in (
            ("element", packed(MP("a"), b"\x01"), 3, 1), ("behind", packed(MP("a")) + b"\xc0", 3, None), ("root", b"\xa1a", 0, None),
            ("member", packed(MP({"data": "a", "x": 1})), 9, 0)):
        yield body("offset-" + name, raw, NO_MSGPACK._replace(offset=offset, index=index))
    yield Body("msgpack-whole-message", "/v1/topics/corpus.msgpack", MSGPACK, b"\xc1\xff", taken(), (b"\xc1\xff",))


# ---- CloudEvents 1.0, structured and batched ----

CORE = {"specversion": "1.0", "id": "7", "source": "/shop", "type": "order"}
CE_CORE = {"ce-" + name: value for name, value in CORE.items()}
# more members -> data, and headers besides the four
CE_GOOD = {
    "no-data": ({}, None, {}), "data-object": ({"data": {"a": 1}}, {"a": 1}, {}), "data-number": ({"data": 5}, 5, {}),
    "data-string": ({"data": "text"}, "text", {}),
    "data-null": ({"data": None}, None, {}), "data-text": ({"data": "text", "datacontenttype": "text/plain"}, "text", {}),
    "data-csv": ({"data": "a,b", "datacontenttype": "text/csv"}, "a,b", {}),
    "data-json-type": ({"data": [1], "datacontenttype": "application/json"}, [1], {}),
    "data-base64": ({"data_base64": "/wA="}, b"\xff\0", {}), "data-base64-empty": ({"data_base64": ""}, b"", {}),
    "subject": ({"subject": "s"}, None, {"ce-subject": "s"}),
    "time": ({"time": "2024-11-25T08:30:00Z"}, None, {"ce-time": "2024-11-25T08:30:00Z"}),
    "schema": ({"dataschema": "http://x/y"}, None, {"ce-dataschema": "http://x/y"}),
    "extension": ({"comexample": "x"}, None, {"ce-comexample": "x"}), "extension-number": ({"n": 5}, None, {"ce-n": "5"}),
    "extension-minus": ({"n": -2147483648}, None, {
        "ce-n": "-2147483648"}), "extension-true": ({"b": True}, None, {"ce-b": "true"}), "extension-null": ({"x": None}, None, {}),
    "extension-empty": ({"x": ""}, None, {"ce-x": ""}),
    "extension-utf8": ({"x": "\u00e4\U0001f600"}, None, {"ce-x": "\u00e4\U0001f600"}),
    "subject-null": ({"subject": None}, None, {}),
}
CE_BAD = {
    "version-0.3": {"specversion": "0.3"}, "version-number": {"specversion": 1.0}, "version-null": {"specversion": None},
    "id-empty": {"id": ""}, "id-number-float": {"id": 1.5},
    "id-null": {"id": None}, "id-list": {"id": ["x"]}, "source-empty": {"source": ""}, "type-empty": {"type": ""},
    "type-object": {"type": {}}, "subject-empty": {"subject": ""},
    "subject-object": {"subject": {}}, "time-word": {"time": "now"}, "time-number": {"time": 1732523400},
    "time-date": {"time": "2024-11-25"},
    "time-no-zone": {"time": "2024-11-25T08:30:00"}, "time-month-13": {"time": "2024-13-25T08:30:00Z"},
    "name-upper": {"Subject": "s"}, "name-dash": {"my-name": "x"},
    "name-under": {"my_name": "x"}, "name-empty": {"": "x"}, "name-utf8": {"\u00e4": "x"}, "extension-object": {"x": {}},
    "extension-list": {"x": []},
    "extension-float": {"x": 1.5}, "extension-2^31": {"x": 2147483648}, "extension-newline": {"x": "a\nb"},
    "extension-nul": {"x": "\0"}, "extension-c1": {"x": "\u0085"},
    "extension-noncharacter": {"x": "\ufffe"}, "base64-number": {"data_base64": 5}, "base64-marks": {"data_base64": "?"},
    "base64-unpadded": {"data_base64": "/wA"},
    "base64-url": {"data_base64": "_-A="}, "base64-blank": {"data_base64": "/w A="},
    "both-data": {"data": 1, "data_base64": "/wA="},
    "data-text-number": {"data": 5, "datacontenttype": "text/plain"}, "content-type-word": {"datacontenttype": "text"},
    "content-type-number": {"datacontenttype": 5},
    "content-type-charset": {"data": 1, "datacontenttype": "application/json; charset=latin1"},
}


def events():
    one, many = "/v1/topics/corpus.events", "/v1/topics/corpus.events/batch"
    for name, (more, data, headers) in CE_GOOD.items():
        event = json.dumps({**CORE, **more}).encode()
        data = None if data is None else (data,)
        # JSON text keeps its quotes: it is JSON.
        yield Body(f"event-{name}", one, EVENT, event, taken(), data, headers={**CE_CORE, **headers})
        yield Body(f"events-{name}", many, EVENTS, b"[" + event + b"]", taken(), data, headers={**CE_CORE, **headers})
    for name, more in CE_BAD.items():
        event = json.dumps({**CORE, **more}).encode()
        good = json.dumps(CORE).encode()
        yield Body(f"event-bad-{name}", one, EVENT, event, NO_EVENT)
        yield Body(f"events-bad-{name}", many, EVENTS, b"[" + good + b"," + event + b"]", NO_EVENT._replace(index=1))
    for missing in CORE:
        event = {name: value for name, value in CORE.items() if name != missing}
        yield Body(f"event-without-{missing}", one, EVENT, json.dumps(event).encode(), NO_EVENT)
    for name, text in json_texts.BROKEN.items():
        event = json.dumps(CORE).encode()[:-1] + b',"data":' + text + b"}"
        yield Body(f"event-data-{name}", one, EVENT, event, NO_EVENT)
    for name, text in json_texts.BROKEN_WHOLE.items():
        yield Body(f"event-whole-{name}", one, EVENT, text, NO_EVENT)
        yield Body(f"events-whole-{name}", many, EVENTS, text, NO_EVENT)
    good = json.dumps(CORE).encode()
    yield Body("event-twice", one, EVENT, good[:-1] + b',"id":"8"}', NO_EVENT)
    yield Body("event-twice-escaped", one, EVENT, good[:-1] + rb',"\u0069d":"8"}', NO_EVENT)
    yield Body("event-extension-twice", one, EVENT, good[:-1] + b',"x":"1","x":"2"}', NO_EVENT)
    yield Body("event-array", one, EVENT, b"[" + good + b"]", NO_EVENT)
    yield Body("event-empty-object", one, EVENT, b"{}", NO_EVENT)
    yield Body("event-100-extensions", one, EVENT, json.dumps({**CORE, **{f"x{i}": "v" for i in range(100)}}).encode(),
               Want((400, 413)))
    yield Body("event-key", one, EVENT, good, taken(), None, ("Idempotency-Key: event-1",))
    yield Body("event-type-parameter", one, EVENT + "; charset=utf-8", good, taken())
    yield Body("event-type-latin1", one, EVENT + "; charset=latin1", good, Want(415, "unsupported-media-type"))
    yield Body("event-on-batch", many, EVENT, good, Want(415, "unsupported-media-type"))
    yield Body("events-on-single", one, EVENTS, b"[" + good + b"]", Want(415, "unsupported-media-type"))
    yield Body("events-none", many, EVENTS, b"[]", taken(0))
    yield Body("events-object", many, EVENTS, good, NO_EVENT)
    yield Body("events-strings", many, EVENTS, b'["a"]', NO_EVENT._replace(index=0))
    yield Body("events-three", many, EVENTS, b"[" + b",".join([good] * 3) + b"]", taken(3))
    yield Body("events-above-count", many, EVENTS, b"[" + b",".join([good] * (REQUEST_MESSAGES_MAX + 1)) + b"]", LARGE)
    encoded = base64.b64encode(bytes(range(256))).decode("ascii")
    yield Body("event-all-octets", one, EVENT, json.dumps({**CORE, "data_base64": encoded}).encode(), taken(), (bytes(range(256)),))


GROUPS = {"carried": (carried,), "lines": (lines,), "msgpack": (msgpack,), "events": (events,)}


def bodies(group):
    return [body for make in GROUPS[group] for body in make()]
