"""Bodies of every kind that publishes messages, and what the broker says to them: status, problem, place, and what is delivered.

Ownership: none, tables and pure functions.
Units: bytes; offset = byte of the body, index = position among the messages.
Errors: none.
Callers: tests/integration/test_corpus.py.
"""

import json
from typing import NamedTuple, Optional

from corpus import json_texts
from corpus.http_requests import MESSAGE_BYTES_MAX, REQUEST_BYTES_MAX, octets
from corpus.replay import EITHER, OPEN, HttpCase, Want

JSON = "application/json"
MALFORMED = Want(400, "malformed-json")
LARGE = Want(413, "too-large")
REQUEST_MESSAGES_MAX = 2000  # of the broker that is asked


class Body(NamedTuple):
    name: str
    route: str
    kind: Optional[str]           # Content-Type
    body: bytes
    want: Want
    data: Optional[tuple] = None  # of the messages as consumers get them in JSON frames; None: not looked at
    lines: tuple = ()             # more headers
    headers: Optional[dict] = None  # that each of its messages carries; None: not looked at

    def case(self):
        body = octets(self.body)
        head = [f"POST {self.route} HTTP/1.1", "Host: h", f"Content-Length: {len(body)}", *self.lines]
        if self.kind:
            head.append(f"Content-Type: {self.kind}")
        raw = ("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + body
        # Refused while the body comes, the connection ends; refused for what the whole body says, it goes on.
        problem = self.want.problem or ""
        read = self.want.status in (200, 207) or (problem.startswith("malformed-") and problem != "malformed-gzip")
        return HttpCase(self.name, raw, (self.want,), OPEN if read else EITHER)


class Raw(bytes):
    """A value that must be delivered as it stands: compared as text, since its numbers are more than Python's."""


# ---- one message of JSON: POST /v1/topics/{topic} ----


def taken(count=1):
    return Want(200, count=count)


def singles():
    route = "/v1/topics/corpus.single"
    for name, text in json_texts.good():
        yield Body(f"single-{name}", route, JSON, text, taken(), (Raw(text),))  # byte by byte
    for name, text in json_texts.BROKEN.items():
        yield Body(f"single-{name}", route, JSON, text, MALFORMED)
    for name, text in json_texts.BROKEN_WHOLE.items():
        yield Body(f"single-whole-{name}", route, JSON, text, MALFORMED)
    for name, text, offset in (("empty", b"", 0), ("bom", b"\xef\xbb\xbf{}", 0), ("behind", b"[1] x", 4),
                               ("inside", b'{"a":01}', 5),
                               ("utf8", b'["abc\xff"]', 5), ("control", b'["a\x01"]', 3), ("escape", rb'["ab\x"]', 4),
                               ("surrogate", rb'["\ud800"]', 2), ("deep", b"[" * 33 + b"]" * 33, 32), ("end", b"[1,", 3),
                               ("blank", b"   ", 3),
                               ("comma", b"[1,]", 3), ("colon", b'{"a" 1}', 5), ("name", b"{1:2}", 1), ("open", b'["abc', 1)):
        yield Body(f"single-offset-{name}", route, JSON, text, MALFORMED._replace(offset=offset))
    yield Body("single-depth-32", route, JSON, b"[" * 32 + b"]" * 32, taken())
    yield Body("single-depth-32-objects", route, JSON, b'{"a":' * 32 + b"1" + b"}" * 32, taken())
    yield Body("single-name-of-1-mib", route, JSON, b'{"' + b"n" * 1000000 + b'":1}', taken())
    yield Body("single-at-limit", route, JSON, b'"' + b"x" * (MESSAGE_BYTES_MAX - 2) + b'"', taken())
    yield Body("single-above-limit", route, JSON, b'"' + b"x" * (MESSAGE_BYTES_MAX - 1) + b'"', LARGE)
    yield Body("single-million-commas", route, JSON, b"[" + b"," * 1000000 + b"]", MALFORMED)
    yield Body("single-million-zeros", route, JSON, b"[" + b"0," * 400000 + b"0]", taken())
    yield Body("single-above-request", route, JSON, b" " * (REQUEST_BYTES_MAX + 1), LARGE)


def texts():
    """Not JSON: taken as it is; text if it is UTF-8, octets else."""
    route = "/v1/topics/corpus.text"
    for name, body in (("empty", b""), ("letter", b"a"), ("utf8", "\u00e4\u20ac\U0001f600".encode()), ("nul", b"a\0b"),
                       ("control", bytes(range(32))),
                       ("json", b'{"a":'), ("bom", b"\xef\xbb\xbfx"), ("crlf", b"\r\n\r\n"), ("long", b"t" * 100000)):
        for kind in (None, "text/plain", "text/plain; charset=utf-8"):
            yield Body(f"text-{name}-{kind}", route, kind, body, taken(), (body.decode("utf-8"),))
    for name, body in (("ff", b"\xff"), ("latin1", b"\xe4"), ("zeros", b"\0\xff\0"), ("all", bytes(range(256))),
                       ("surrogate", b"\xed\xa0\x80")):
        for kind in (None, "application/octet-stream", "text/plain"):
            yield Body(f"octets-{name}-{kind}", route, kind, body, taken(), (body,))
    yield Body("text-at-limit", route, "text/plain", b"x" * MESSAGE_BYTES_MAX, taken())
    yield Body("text-above-limit", route, "text/plain", b"x" * (MESSAGE_BYTES_MAX + 1), LARGE)


# ---- JSON array: POST /v1/topics/{topic}/batch ----

ELEMENTS_GOOD = {
    "text": ('"a"', ("a",)), "text-empty": ('""', ("",)), "text-escaped": (r'"\u00e4\n"', ("\u00e4\n",)),
    "text-nul": (r'"a\u0000b"', ("a\0b",)),
    "data-text": ('{"data":"a"}', ("a",)), "data-empty": ('{"data":""}', ("",)), "data-number": ('{"data":1}', (1,)),
    "data-null": ('{"data":null}', (None,)),
    "data-false": ('{"data":false}', (False,)), "data-array": ('{"data":[1,2]}', ([1, 2],)),
    "data-object": ('{"data":{"a":1}}', ({"a": 1},)),
    "data-named-id": ('{"data":{"id":1,"type":2}}', ({"id": 1, "type": 2},)), "blanks": (' { "data" : "a" } ', ("a",)),
    "name-escaped": (r'{"\u0064ata":"a"}', ("a",)), "type": ('{"data":"a","type":"text/csv"}', ("a",)),
    "type-first": ('{"type":"text/csv","data":"a"}', ("a",)), "type-plain": ('{"data":"a","type":"text/plain"}', ("a",)),
    "type-json": ('{"data":[1],"type":"application/json"}', ([1],)), "id": ('{"data":"a","id":"b1"}', ("a",)),
    "id-first": ('{"id":"b2","data":"a"}', ("a",)), "id-128": ('{"data":"a","id":"' + "k" * 128 + '"}', ("a",)),
    "id-marks": ('{"data":"a","id":"!#$%&()*+,-./:;<=>?@[]^_`{|}~"}', ("a",)),
    "all-three": ('{"type":"a/b","id":"b3","data":"a"}', ("a",)),
    "surrogate-pair": (r'"\ud83d\ude00"', ("\U0001f600",)), "bytes-31": ('"' + "x" * 31 + '"', ("x" * 31,)),
    "bytes-32": ('"' + "x" * 32 + '"', ("x" * 32,)),
}
ELEMENTS_BAD = {
    # the element must be a string, or an object with data and nothing that is not known
    "number": "1", "null": "null", "true": "true", "array": '["a"]', "object-empty": "{}", "no-data": '{"id":"x"}',
    "only-type": '{"type":"a/b"}',
    "unknown": '{"data":"a","novel":1}', "unknown-first": '{"novel":1,"data":"a"}', "data-upper": '{"Data":"a"}',
    "content": '{"content":"a"}',
    "name-empty": '{"":"a","data":"a"}', "data-twice": '{"data":"a","data":"b"}',
    "data-twice-escaped": r'{"data":"a","\u0064ata":"b"}',
    "id-twice": '{"data":"a","id":"x","id":"x"}', "type-twice": '{"data":"a","type":"a/b","type":"a/b"}',
    "id-number": '{"data":"a","id":1}',
    "id-null": '{"data":"a","id":null}', "id-empty": '{"data":"a","id":""}', "id-129": '{"data":"a","id":"' + "k" * 129 + '"}',
    "id-blank": '{"data":"a","id":"a b"}', "id-utf8": '{"data":"a","id":"\u00e4"}', "id-nul": r'{"data":"a","id":"a\u0000"}',
    "id-control": r'{"data":"a","id":"\n"}', "id-100000": '{"data":"a","id":"' + "k" * 100000 + '"}',
    "type-number": '{"data":"a","type":1}',
    "type-null": '{"data":"a","type":null}', "type-empty": '{"data":"a","type":""}', "type-word": '{"data":"a","type":"text"}',
    "type-128": '{"data":"a","type":"a/' + "b" * 126 + '"}', "type-utf8": '{"data":"a","type":"a/\u00e4"}',
    "type-crlf": r'{"data":"a","type":"a/b\r\nX: y"}',
    "type-json-text": '{"data":"a","type":"application/json"}', "type-blank": '{"data":"a","type":"a /b"}',
}


def batches():
    route = "/v1/topics/corpus.batch/batch"
    for name, (text, data) in ELEMENTS_GOOD.items():
        yield Body(f"batch-{name}", route, JSON, f"[{text}]".encode(), taken(), data)
        # With others around it, under ids that are not those of the case above.
        other = text.replace('"id":"', '"id":"o') if '"id":"k' not in text else text.replace('"id":"kkk', '"id":"ooo')
        yield Body(f"batch-{name}-between", route, JSON, f'["x",{other},"y"]'.encode(), taken(3), ("x", *data, "y"))
    for name, text in ELEMENTS_BAD.items():
        yield Body(f"batch-bad-{name}", route, JSON, f"[{text}]".encode(), MALFORMED._replace(index=0))
        yield Body(f"batch-bad-{name}-second", route, JSON, f'["x",{text},"y"]'.encode(), MALFORMED._replace(index=1))
    for name, text in json_texts.BROKEN.items():
        yield Body(f"batch-data-{name}", route, JSON, b'["x",{"data":' + text + b'},"y"]', MALFORMED)
    for name, text in json_texts.good():
        data = json.loads(text) if name.startswith("string-") else Raw(text.strip())
        yield Body(f"batch-data-{name}", route, JSON, b'[{"data":' + text + b'},"y"]', taken(2), (data, "y"))
    for name, text in json_texts.BROKEN_WHOLE.items():
        yield Body(f"batch-whole-{name}", route, JSON, text, MALFORMED)
    for name, text in (("object", "{}"), ("string", '"a"'), ("number", "1"), ("null", "null"), ("messages", '{"messages":[]}'),
                       ("array-array", "[[]]")):
        yield Body(f"batch-root-{name}", route, JSON, text.encode(), MALFORMED)
    yield Body("batch-empty", route, JSON, b"[]", taken(0))
    yield Body("batch-empty-blanks", route, JSON, b" [ ] ", taken(0))
    yield Body("batch-same-id", route, JSON, b'[{"data":"a","id":"s1"},{"data":"a","id":"s1"}]', Want((200, 409)))
    yield Body("batch-at-count", route, JSON, b"[" + b",".join([b'"m"'] * REQUEST_MESSAGES_MAX) + b"]", taken(REQUEST_MESSAGES_MAX))
    yield Body("batch-above-count", route, JSON, b"[" + b",".join([b'"m"'] * (REQUEST_MESSAGES_MAX + 1)) + b"]", LARGE)
    yield Body("batch-large-message", route, JSON, b'["' + b"x" * (MESSAGE_BYTES_MAX + 1) + b'"]', LARGE._replace(index=0))
    yield Body("batch-large-value", route, JSON, b'["x",{"data":[' + b"0," * (MESSAGE_BYTES_MAX // 2) + b"0]}]",
               LARGE._replace(index=1))
    yield Body("batch-name-of-1-mib", route, JSON, b'[{"' + b"n" * (1 << 20) + b'":1}]', MALFORMED._replace(index=0))
    yield Body("batch-key-and-id", route, JSON, b'[{"data":"a","id":"x1"}]', Want(400, "bad-header"),
               lines=("Idempotency-Key: k1",))
    yield Body("batch-above-request", route, JSON, b"[" + b" " * REQUEST_BYTES_MAX + b"]", LARGE)
    for name, text, offset, index in (
            ("unknown", b'["a",{"data":1,"x":5}]', 15, 1), ("number", b'["a",7]', 5, 1), ("first", b"[7]", 1, 0),
            ("cut", b'["a",', 5, 1), ("id", b'[{"data":"a","id":5}]', 18, 0),
            ("utf8", b'["a","\xff"]', 6, 1), ("behind", b'["a"]x', 5, None)):
        yield Body(f"batch-offset-{name}", route, JSON, text, MALFORMED._replace(offset=offset, index=index))


# ---- the original API: POST /input, /input/batch ----


def inputs():
    for name, text in json_texts.good():
        # Members that are not known are ignored, but they are read.
        yield Body(f"input-ignored-{name}", "/input", JSON, b'{"x":' + text + b',"content":"c"}', taken(), ("c",))
    for name, text in json_texts.BROKEN.items():
        yield Body(f"input-ignored-{name}", "/input", JSON, b'{"content":"c","x":' + text + b"}", MALFORMED)
        yield Body(f"input-content-{name}", "/input", JSON, b'{"content":' + text + b"}", MALFORMED)
    for name, text in json_texts.STRINGS.items():
        data = (json.loads(text),)
        yield Body(f"input-content-{name}", "/input", JSON, b'{"content":' + text.encode() + b"}", taken(), data)
        yield Body(f"input-batch-content-{name}", "/input/batch", JSON, b'{"messages":[{"content":' + text.encode() + b"}]}",
                   taken(), data)
    for name, text in json_texts.BROKEN_WHOLE.items():
        yield Body(f"input-whole-{name}", "/input", JSON, text, MALFORMED)
        yield Body(f"input-batch-whole-{name}", "/input/batch", JSON, text, MALFORMED)
    for name, text in (("array", "[]"), ("string", '"a"'), ("empty", "{}"), ("number", '{"content":1}'),
                       ("null", '{"content":null}'),
                       ("object", '{"content":{}}'), ("list", '{"content":["a"]}'), ("twice", '{"content":"a","content":"a"}'),
                       ("twice-escaped", r'{"content":"a","\u0063ontent":"a"}'), ("upper", '{"Content":"a"}'),
                       ("id-number", '{"content":"a","id":1}'),
                       ("id-empty", '{"content":"a","id":""}'), ("id-twice", '{"content":"a","id":"x","id":"y"}'),
                       ("id-129", '{"content":"a","id":"' + "k" * 129 + '"}'), ("id-only", '{"id":"a"}'),
                       ("messages", '{"messages":[]}')):
        yield Body(f"input-bad-{name}", "/input", JSON, text.encode(), MALFORMED)
    for name, text, data in (("plain", '{"content":"a"}', ("a",)), ("more", '{"a":1,"content":"b","z":[{}]}', ("b",)),
                             ("escaped-name", r'{"\u0063ontent":"a"}', ("a",)),
                             ("unknown-twice", '{"x":1,"x":2,"content":"a"}', ("a",)),
                             ("name-1-mib", '{"' + "n" * (1 << 20) + '":1,"content":"a"}', ("a",)),
                             ("name-empty", '{"":1,"content":"a"}', ("a",)),
                             ("id", '{"content":"a","id":"i1"}', ("a",)),
                             ("depth-32", '{"x":' + "[" * 31 + "]" * 31 + ',"content":"a"}', ("a",))):
        yield Body(f"input-good-{name}", "/input", JSON, text.encode(), taken(), data)
    yield Body("input-depth-33", "/input", JSON, b'{"x":' + b"[" * 32 + b"]" * 32 + b',"content":"a"}', MALFORMED)
    for name, text, want, data in (
            ("none", '{"messages":[]}', taken(0), ()),
            ("two", '{"messages":[{"content":"a"},{"content":"b"}]}', taken(2), ("a", "b")),
            ("more", '{"x":1,"messages":[{"content":"a","y":2}],"z":3}', taken(1), ("a",)), ("empty", "{}", MALFORMED, None),
            ("null", '{"messages":null}', MALFORMED, None), ("object", '{"messages":{}}', MALFORMED, None),
            ("strings", '{"messages":["a"]}', MALFORMED._replace(index=0), None),
            ("twice", '{"messages":[],"messages":[]}', MALFORMED, None),
            ("second", '{"messages":[{"content":"a"},{"content":1}]}', MALFORMED._replace(index=1), None),
            ("array", '[{"content":"a"}]', MALFORMED, None), ("single", '{"content":"a"}', MALFORMED, None),
            ("nested", '{"messages":[[{"content":"a"}]]}', MALFORMED._replace(index=0), None),
            ("cut", '{"messages":[{"content":"a"},', MALFORMED._replace(index=1), None)):
        yield Body(f"input-batch-{name}", "/input/batch", JSON, text.encode(), want, data)
    many = json.dumps({"messages": [{"content": str(i)} for i in range(REQUEST_MESSAGES_MAX)]}).encode()
    yield Body("input-batch-at-count", "/input/batch", JSON, many, taken(REQUEST_MESSAGES_MAX),
               tuple(map(str, range(REQUEST_MESSAGES_MAX))))
    more = json.dumps({"messages": [{"content": "m"}] * (REQUEST_MESSAGES_MAX + 1)}).encode()
    yield Body("input-batch-above-count", "/input/batch", JSON, more, LARGE)


GROUPS = {"one": (singles, texts), "batches": (batches,), "inputs": (inputs,)}


def bodies(group):
    return [body for make in GROUPS[group] for body in make()]
