"""Raw HTTP requests, and what a broker that reads RFC 9110 and 9112 (and docs/HTTP.md) strictly answers.

Ownership: none, tables and pure functions.
Units: bytes.
Errors: none.
Callers: tests/integration/test_corpus.py.

Where a request could smuggle another one past a proxy, the hidden one publishes to `smuggled.*`; nothing may ever arrive there.
"""

from corpus.replay import ABSENT, CLOSED, EITHER, OPEN, HttpCase, Want

CRLF = b"\r\n"
REQUEST_BYTES_MAX = 4 << 20  # of the broker that is asked
MESSAGE_BYTES_MAX = 1 << 20
CANARY = b"corpus-canary-7f3a91"  # a secret of clients: may stand in no log

OK = Want(200)
BAD = Want(400, "bad-request")
# Refused by libmicrohttpd itself, before a handler of ours: no problem+json, and the head of the answer comes twice.
LIBRARY_400 = Want(400, library=True)
NOT_FOUND = Want(404, "not-found")
BAD_HEADER = Want(400, "bad-header")
BAD_TOPIC = Want(400, "bad-topic")
TOO_LARGE = Want(413, "too-large")
METHOD = Want(405, "method-not-allowed", headers=(("Allow", None),))
BARE_405 = Want(405, bare=True, headers=(("Allow", None),))
MEDIA = Want(415, "unsupported-media-type")
CODING = Want(415, "unsupported-content-coding")


def octets(text):
    return text if isinstance(text, bytes) else text.encode("latin-1")


def head(method="POST", target="/v1/topics/h", version="HTTP/1.1", lines=(), host=b"Host: h"):
    """A request head; lines are whole header lines."""
    first = b" ".join(octets(part) for part in (method, target, version))
    return CRLF.join([first, *([host] if host is not None else []), *(octets(line) for line in lines)]) + CRLF + CRLF


def post(body=b"x", lines=(), **options):
    """A POST whose Content-Length is right."""
    body = octets(body)
    return head(lines=[*lines, f"Content-Length: {len(body)}"], **options) + body


def get(target="/", **options):
    return head("GET", target, **options)


def chunked(*chunks, lines=(), last=b"0\r\n\r\n", **options):
    """chunks: bytes are chunks, as they should be."""
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head(lines=["Transfer-Encoding: chunked", *lines], **options) + body + last


def raw_chunked(body, lines=()):
    return head(lines=["Transfer-Encoding: chunked", *lines]) + octets(body)


def flood(name, raw):
    """A head that is too large for the library."""
    want = Want((400, 413, 414, 431), library=True, may_be_lost=True)
    return HttpCase(name, raw, (want,), limit="reset-behind-answer")


def hidden(name):
    """A whole request that must stay data, or be refused with what carries it."""
    return post(b"hidden", target=f"/v1/topics/smuggled.{name}")


# ---- Content-Length: one decimal number (RFC 9110, 8.6), else 400 and close (RFC 9112, 6.3) ----

LENGTHS_GOOD = {"plain": "1", "blank-before": " 1", "blanks-before": "  1", "tab-before": "\t1", "zero-before": "01",
                "zeros-before": "0" * 60 + "1"}
LENGTHS_BLANK_BEHIND = {"blank": "1 ", "blanks": " 1  ", "tab": "1\t"}
LENGTHS_BAD = {"empty": "", "blank": " ", "minus": "-1", "plus": "+1", "hex": "0x1", "hex-letters": "a", "point": "1.0",
               "exponent": "1e0", "comma": "1,1", "comma-blank": "1, 1", "comma-other": "1, 2", "semicolon": "1;", "word": "one",
               "quoted": '"1"', "underscore": "1_0", "two-words": "1 1", "tab-inside": "1\t1", "fullwidth": "\xef\xbc\x91",
               "slash": "1/1", "minus-zero": "-0", "minus-huge": "-9223372036854775808",
               "arabic": "\xd9\xa1", "letter-behind": "1a", "vertical-tab": "\x0b1", "percent": "%31", "bracket": "[1]"}

# More than 64 bits: whoever wraps them reads another length (RFC 9110, 8.6).
LENGTHS_OVERFLOW = {"over-64-bit": "18446744073709551616", "over-64-bit-by-1": "18446744073709551617", "twenty-nines": "9" * 20,
                    "hundred-digits": "1" * 100}


def content_lengths():
    for name, value in LENGTHS_GOOD.items():
        yield HttpCase(f"length-{name}", head(lines=[f"Content-Length:{value}"]) + b"x", (OK,), OPEN)
    for name, value in LENGTHS_BLANK_BEHIND.items():
        yield HttpCase(f"length-behind-{name}", head(lines=[f"Content-Length:{value}"]) + b"x", (OK,), OPEN, False,
                       "blank-behind-length", ((LIBRARY_400,), CLOSED))
    for name, value in LENGTHS_OVERFLOW.items():
        yield HttpCase(f"length-{name}", head(lines=[f"Content-Length: {value}"]) + b"x" + hidden("length-" + name),
                       (Want((400, 413), library=True),))
    for name, value in LENGTHS_BAD.items():
        yield HttpCase(f"length-{name}", head(lines=[f"Content-Length: {value}"]) + b"x" + hidden("length-" + name), (LIBRARY_400,))
    for name, first, second in (("same", "1", "1"), ("other", "1", "2"), ("zero-first", "0", "1"), ("empty-second", "1", ""),
                                ("bad-second", "1", "x"), ("zero-before", "1", "01"), ("huge-second", "1", "9" * 25)):
        raw = head(lines=[f"Content-Length: {first}", f"content-length: {second}"]) + b"x" + hidden("twice-" + name)
        yield HttpCase(f"length-twice-{name}", raw, (Want((400, 413), library=True),))
    many = head(lines=["Content-Length: 1"] * 20) + b"x" + hidden("twenty")
    yield HttpCase("length-twenty-times", many, (BAD,))
    yield HttpCase("length-largest", head(lines=[f"Content-Length: {(1 << 63) - 1}"]), (TOO_LARGE,))
    yield HttpCase("length-above-limit", head(lines=[f"Content-Length: {REQUEST_BYTES_MAX + 1}"]), (TOO_LARGE,))
    yield HttpCase("length-4-gib", head(lines=["Content-Length: 4294967297"]) + b"x", (TOO_LARGE,))
    yield HttpCase("length-zero", post(b""), (OK,), OPEN)
    yield HttpCase("length-missing", head(), (OK,), OPEN)  # no length, no coding: no body (RFC 9112, 6.3)
    # What is behind the body is the next request, and it is none.
    yield HttpCase("length-too-short", head(lines=["Content-Length: 2"]) + b"four\r\n\r\n", (OK, LIBRARY_400), CLOSED, False,
                   "no-answer-to-noise", ((OK,), CLOSED))
    yield HttpCase("length-too-long", head(lines=["Content-Length: 5"]) + b"four", (), end=True)
    yield HttpCase("length-of-get", get("/", lines=["Content-Length: 4"]) + b"four", (BAD,))
    yield HttpCase("length-zero-of-get", get("/", lines=["Content-Length: 0"]), (OK,), OPEN)
    yield HttpCase("length-name-lower", head(lines=["content-length: 1"]) + b"x", (OK,), OPEN)
    yield HttpCase("length-name-upper", head(lines=["CONTENT-LENGTH: 1"]) + b"x", (OK,), OPEN)
    # Another name: no length is said, so the body is read as the next request.
    yield HttpCase("length-name-underscore", head(lines=["Content_Length: 4"]) + b"four\r\n\r\n", (OK, LIBRARY_400), CLOSED, False,
                   "no-answer-to-noise", ((OK,), CLOSED))


# ---- Transfer-Encoding: exactly `chunked`, in HTTP/1.1, without Content-Length (RFC 9112, 6.1 and 6.3) ----

CODINGS_GOOD = {"plain": "chunked", "upper": "CHUNKED", "mixed": "Chunked", "blanks-before": "  chunked", "tab-before": "\tchunked"}
# Blanks behind a value are no part of it; the library keeps them, and would not read chunks then.
CODINGS_BLANK_BEHIND = {"blank": "chunked ", "blanks": " chunked   ", "tab": "chunked\t"}
CODINGS_BAD = {"empty": "", "identity": "identity", "gzip": "gzip", "gzip-chunked": "gzip, chunked", "twice": "chunked, chunked",
               "chunked-identity": "chunked, identity", "parameter": "chunked;q=1", "prefix": "xchunked", "suffix": "chunkedx",
               "chunk": "chunk", "quoted": '"chunked"', "comma": "chunked,", "comma-before": ",chunked", "inner-blank": "chun ked",
               "deflate": "deflate", "trailers": "trailers", "utf8": "chunked\xc2\xa0", "vertical-tab": "\x0bchunked",
               "form-feed": "chunked\x0c", "one": "1", "chunked-star": "chunked*", "compress": "compress, chunked"}


def transfer_encodings():
    body = b"1\r\nx\r\n0\r\n\r\n"
    for name, value in CODINGS_GOOD.items():
        yield HttpCase(f"coding-{name}", head(lines=[f"Transfer-Encoding: {value}"]) + body, (OK,), OPEN)
    for name, value in CODINGS_BLANK_BEHIND.items():
        yield HttpCase(f"coding-behind-{name}", head(lines=[f"Transfer-Encoding: {value}"]) + body, (OK,), OPEN, False,
                       "blank-behind-coding", ((BAD,), CLOSED))
    for name, value in CODINGS_BAD.items():
        raw = head(lines=[f"Transfer-Encoding: {value}"]) + body + hidden("coding-" + name)
        yield HttpCase(f"coding-{name}", raw, (BAD,))
    for name, lines in (("length-first", ["Content-Length: 4", "Transfer-Encoding: chunked"]),
                        ("length-last", ["Transfer-Encoding: chunked", "Content-Length: 4"]),
                        ("length-zero", ["Transfer-Encoding: chunked", "Content-Length: 0"]),
                        ("length-right", ["Content-Length: 11", "Transfer-Encoding: chunked"]),
                        ("length-identity", ["Content-Length: 1", "Transfer-Encoding: identity"]),
                        ("length-odd-coding", ["Content-Length: 1", "Transfer-Encoding: xchunked"]),
                        ("twice", ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"]),
                        ("twice-identity", ["Transfer-Encoding: identity", "Transfer-Encoding: chunked"]),
                        ("twice-case", ["transfer-encoding: chunked", "TRANSFER-ENCODING: x"])):
        yield HttpCase(f"coding-with-{name}", head(lines=lines) + body + hidden("with-" + name), (BAD,))
    # A blank before the colon (RFC 9112, 5.1: 400), and names that look alike.
    for name, line in (("blank", "Transfer-Encoding : chunked"), ("tab", "Transfer-Encoding\t: chunked"),
                       ("length-blank", "Content-Length : 5"), ("length-tab", "Content-Length\t: 5"),
                       ("host-blank", "Host : other"), ("leading-vt", "\x0bTransfer-Encoding: chunked")):
        yield HttpCase(f"colon-{name}", head(lines=[line]) + body + hidden("colon-" + name), (BAD,))
    yield HttpCase("coding-in-http-1.0", head(version="HTTP/1.0", lines=["Transfer-Encoding: chunked"]) + body + hidden("10"),
                   (BAD,))
    yield HttpCase("coding-name-underscore", head(lines=["Transfer_Encoding: chunked"]) + body, (OK, LIBRARY_400), CLOSED,
                   False, "no-answer-to-noise", ((OK,), CLOSED))
    yield HttpCase("coding-of-get", get("/", lines=["Transfer-Encoding: chunked"]) + body, (BAD,))
    yield HttpCase("te-header", post(lines=["TE: chunked, trailers"]), (OK,), OPEN)  # TE is about answers
    yield HttpCase("trailer-header", chunked(b"x", lines=["Trailer: Expires"]), (OK,), OPEN)


# ---- chunks (RFC 9112, 7.1) ----

CHUNKS_GOOD = {"one": b"1\r\nx\r\n0\r\n\r\n", "none": b"0\r\n\r\n", "upper-hex": b"A\r\n0123456789\r\n0\r\n\r\n",
               "lower-hex": b"a\r\n0123456789\r\n0\r\n\r\n", "zeros-before": b"0001\r\nx\r\n0\r\n\r\n",
               "zeros-last": b"1\r\nx\r\n000\r\n\r\n", "three": b"1\r\nx\r\n2\r\nyz\r\n1\r\n.\r\n0\r\n\r\n",
               "extension": b"1;a=b\r\nx\r\n0\r\n\r\n", "extension-quoted": b'1;a="b c"\r\nx\r\n0\r\n\r\n',
               "extension-bare": b"1;a\r\nx\r\n0;last\r\n\r\n", "crlf-inside": b"4\r\n\r\n\r\n\r\n0\r\n\r\n",
               "trailer": b"1\r\nx\r\n0\r\nExpires: never\r\n\r\n",
               "looks-like-end": b"5\r\n0\r\n\r\n\r\n0\r\n\r\n"}
CHUNKS_BAD = {"no-size": b"\r\nx\r\n0\r\n\r\n", "letter": b"g\r\nx\r\n0\r\n\r\n", "minus": b"-1\r\nx\r\n0\r\n\r\n",
              "plus": b"+1\r\nx\r\n0\r\n\r\n", "0x": b"0x1\r\nx\r\n0\r\n\r\n", "blank-before": b" 1\r\nx\r\n0\r\n\r\n",
              "too-long-for-size": b"1\r\nxy\r\n0\r\n\r\n", "no-crlf-behind": b"1\r\nx0\r\n\r\n",
              "blank-behind": b"1 \r\nx\r\n0\r\n\r\n",
              "word": b"chunk\r\nx\r\n", "decimal-point": b"1.0\r\nx\r\n0\r\n\r\n", "quote": b'"1"\r\nx\r\n0\r\n\r\n',
              "comma": b"1,2\r\nx\r\n0\r\n\r\n", "nul": b"1\0\r\nx\r\n0\r\n\r\n", "two-sizes": b"1 1\r\nx\r\n0\r\n\r\n",
              "utf8": b"\xef\xbc\x91\r\nx\r\n0\r\n\r\n"}


def chunks():
    for name, body in CHUNKS_GOOD.items():
        yield HttpCase(f"chunks-{name}", raw_chunked(body), (OK,), OPEN)
    for name, body in CHUNKS_BAD.items():
        yield HttpCase(f"chunks-{name}", raw_chunked(body + hidden("chunks-" + name)), (LIBRARY_400,))
    yield HttpCase("chunks-bare-lf", raw_chunked(b"1\nx\n0\n\n"), (LIBRARY_400,), CLOSED, False, "bare-lf", ((OK,), OPEN))
    for name, size in (("17-digits", b"1" + b"0" * 16), ("all-f", b"f" * 17), ("40-digits", b"1" * 40)):
        yield HttpCase(f"chunks-size-{name}", raw_chunked(size + b"\r\nx\r\n0\r\n\r\n"), (Want((400, 413), library=True),))
    yield HttpCase("chunks-cut-in-size", raw_chunked(b"1"), (), end=True)
    yield HttpCase("chunks-cut-in-data", raw_chunked(b"5\r\nab"), (), end=True)
    yield HttpCase("chunks-cut-before-last", raw_chunked(b"1\r\nx\r\n"), (), end=True)
    yield HttpCase("chunks-cut-in-trailer", raw_chunked(b"1\r\nx\r\n0\r\nA: b"), (), end=True)
    # A size that is more than the limit is refused before its bytes come, or with them.
    yield HttpCase("chunks-above-request", chunked(*[b"x" * 65536] * (REQUEST_BYTES_MAX // 65536 + 1)), (TOO_LARGE,))
    yield HttpCase("chunks-at-request", chunked(*[b"x" * 65536] * (REQUEST_BYTES_MAX // 65536)), (TOO_LARGE,), OPEN)
    yield HttpCase("chunks-above-message", chunked(*[b"x" * 65536] * (MESSAGE_BYTES_MAX // 65536), b"x"), (TOO_LARGE,), OPEN)
    yield HttpCase("chunks-at-message", chunked(*[b"x" * 65536] * (MESSAGE_BYTES_MAX // 65536)), (OK,), OPEN)
    yield HttpCase("chunks-of-one-byte", chunked(*[b"x"] * 3000), (OK,), OPEN)
    yield HttpCase("chunks-then-request", chunked(b"x") + post(b"y"), (OK, OK), OPEN)
    yield HttpCase("chunks-length-in-trailer", raw_chunked(b"1\r\nx\r\n0\r\nContent-Length: 500\r\n\r\n"), (OK,), OPEN)
    yield HttpCase("chunks-host-in-trailer", raw_chunked(b"1\r\nx\r\n0\r\nHost: other\r\n\r\n"), (OK,), OPEN)
    yield HttpCase("chunks-hidden-request", chunked(hidden("chunk-data")), (OK,), OPEN)


# ---- header names (RFC 9110, 5.1: tchar) ----

NAME_BYTES_BAD = '(),/;<=>?@[\\]{}" \t\x01\x7f\x80\xa0\xff'
NAME_BYTES_GOOD = "!#$%&'*+-.^_`|~0Zz"


def header_names():
    for byte in NAME_BYTES_BAD:
        yield HttpCase(f"name-byte-{ord(byte):02x}", post(lines=[f"X{byte}Y: v"]), (BAD,))
    for byte in NAME_BYTES_GOOD:
        yield HttpCase(f"name-byte-{ord(byte):02x}", post(lines=[f"X{byte}Y: v"]), (OK,), OPEN)
    yield HttpCase("name-empty", head(lines=[": v", "Content-Length: 0"]), (BAD,), CLOSED, False, "colon-ends-head",
                   ((OK, LIBRARY_400), CLOSED))
    yield HttpCase("name-blank", post(lines=["Known: v", " : v"]), (BAD,), CLOSED, False, "obs-fold", ((OK,), OPEN))
    yield HttpCase("name-without-colon", post(lines=["Known"]), (LIBRARY_400,))
    yield HttpCase("name-of-1000-bytes", post(lines=["X" * 1000 + ": v"]), (OK,), OPEN)
    yield HttpCase("name-nul", post(lines=["X\0Y: v"]), (LIBRARY_400,))
    yield HttpCase("name-first-line-folded", head(host=b" Host: h", lines=["Content-Length: 0"]), (LIBRARY_400,))
    yield HttpCase("name-colon-twice", post(lines=["A::b"]), (OK,), OPEN)
    yield HttpCase("name-utf8", post(lines=["N\xc3\xa4me: v"]), (BAD,))


# ---- header values (RFC 9110, 5.5) ----


def header_values():
    controls = [*range(1, 9), 11, 12, *range(14, 32), 127]
    for byte in controls:
        yield HttpCase(f"value-byte-{byte:02x}", post(lines=[f"X: a{chr(byte)}b"]), (BAD,))
    for byte in (9, 32, 33, 0x7e, 0x80, 0xa0, 0xff):
        yield HttpCase(f"value-byte-{byte:02x}", post(lines=[f"X: a{chr(byte)}b"]), (OK,), OPEN)
    yield HttpCase("value-empty", post(lines=["X:"]), (OK,), OPEN)
    yield HttpCase("value-blanks", post(lines=["X:   \t "]), (OK,), OPEN)
    yield HttpCase("value-utf8", post(lines=["X: \xc3\xa4\xe2\x82\xac"]), (OK,), OPEN)
    yield HttpCase("value-colons", post(lines=["X: a:b:c"]), (OK,), OPEN)
    yield HttpCase("value-nul", post(lines=["X: a\0b"]), (BAD,), CLOSED, False, "nul-in-value", ((OK,), OPEN))
    yield HttpCase("value-nul-before-coding", post(lines=["X: a\0\r\nTransfer-Encoding: identity"]), (BAD,))
    yield HttpCase("value-bare-cr", post(lines=["X: a\rb"]), (BAD,))
    yield HttpCase("value-bare-cr-coding", post(lines=["X: a\rTransfer-Encoding: chunked"]), (BAD,))
    yield HttpCase("value-bare-lf", post(lines=["X: a\nY: b"]), (BAD,), CLOSED, False, "bare-lf", ((OK,), OPEN))
    yield HttpCase("value-folded", post(lines=["X: a\r\n b"]), (BAD,), CLOSED, False, "obs-fold", ((OK,), OPEN))
    yield HttpCase("value-folded-tab", post(lines=["X: a\r\n\tb"]), (BAD,), CLOSED, False, "obs-fold", ((OK,), OPEN))
    yield HttpCase("value-folded-coding", head(lines=["Transfer-Encoding:\r\n identity"]), (BAD,), CLOSED, False, "obs-fold",
                   ((OK,), OPEN))
    yield HttpCase("value-folded-length", head(lines=["Content-Length: 0\r\n 0"]), (BAD,), CLOSED, False, "obs-fold", ((OK,), OPEN))
    for size in (1000, 4000, 8000):
        yield HttpCase(f"value-of-{size}-bytes", post(lines=["X: " + "v" * size]), (OK,), OPEN)


# ---- headers that may come once ----

ONCE = {"host": "Host: h", "type": "Content-Type: text/plain", "encoding": "Content-Encoding: identity",
        "authorization": "Authorization: Basic " + CANARY.decode(), "expect": "Expect: 100-continue", "ack": "CMQ-Ack: durable",
        "key": "Idempotency-Key: k", "api-key": "X-API-Key: " + CANARY.decode(), "ttl": "CMQ-TTL: 5s", "origin": "Origin: http://h"}
OFTEN = {"accept": "Accept: */*", "cookie": "Cookie: a=b", "via": "Via: 1.1 p", "x": "X: y",
         "forwarded": "X-Forwarded-For: 1.2.3.4",
         "user-agent": "User-Agent: u"}

HOSTS_BAD = {"blank": "a b", "slash": "a/b", "user": "u@h", "two": "h,h", "scheme": "http://h", "latin1": "h\xe4",
             "utf8": "\xc3\xa4",
             "quote": 'a"b', "fragment": "h#x", "query": "h?x", "brackets": "<h>", "backslash": "a\\b", "caret": "a^b",
             "pipe": "a|b",
             "braces": "{h}", "tab": "a\tb"}


def repeated_headers():
    for name, line in ONCE.items():
        upper = line.split(":")[0].upper() + ":" + line.split(":", 1)[1]
        yield HttpCase(f"twice-{name}", post(lines=[line, line]), (BAD,))
        yield HttpCase(f"twice-{name}-case", post(lines=[line, upper]), (BAD,))
    for name, line in OFTEN.items():
        yield HttpCase(f"twice-{name}", post(lines=[line, line, line]), (OK,), OPEN)
    yield HttpCase("host-missing", post(host=None), (BAD,))  # RFC 9112, 3.2
    yield HttpCase("host-missing-get", get(host=None), (BAD,))
    yield HttpCase("host-missing-1.0", post(host=None, version="HTTP/1.0"), (BAD,))  # stricter than the RFC: docs/HTTP.md
    yield HttpCase("host-empty", post(host=b"Host:"), (OK,), OPEN)
    yield HttpCase("authorization-and-api-key", post(lines=["Authorization: Bearer x", "X-API-Key: x"]), (BAD,))
    for name, value in HOSTS_BAD.items():  # RFC 9112, 3.2
        yield HttpCase(f"host-bad-{name}", post(host=b"Host: " + octets(value)), (BAD,))
    for name, value in (("port", "h:3000"), ("ipv4", "127.0.0.1:3000"), ("ipv6", "[::1]:3000"), ("upper", "EXAMPLE.org")):
        yield HttpCase(f"host-{name}", post(host=b"Host: " + octets(value)), (OK,), OPEN)


# ---- methods ----

METHODS = ["GET", "HEAD", "PUT", "DELETE", "PATCH", "TRACE", "post", "Post", "POSTX", "POS", "LOCK", "PROPFIND", "M" * 1000, "!",
           "_"]
ROUTES = {"topic": "/v1/topics/h", "batch": "/v1/topics/h/batch", "input": "/input", "input-batch": "/input/batch"}


def methods():
    for route, target in ROUTES.items():
        for method in METHODS:
            yield HttpCase(f"method-{method[:10]}-{route}", head(method, target), (BARE_405 if method == "HEAD" else METHOD,), OPEN)
    for method in ("POST", "PUT", "DELETE", "get", "PATCH", "options"):
        yield HttpCase(f"method-{method}-root", head(method, "/"), (METHOD,), OPEN)
    yield HttpCase("method-GET-root", get(), (OK,), OPEN)
    yield HttpCase("method-HEAD-root", head("HEAD", "/"), (Want(200, bare=True),), OPEN)
    yield HttpCase("method-GET-unknown", get("/nothing"), (NOT_FOUND,), OPEN)
    yield HttpCase("method-HEAD-unknown", head("HEAD", "/nothing"), (NOT_FOUND._replace(bare=True, problem=None),), OPEN)
    yield HttpCase("method-PUT-with-body", post(method="PUT", body=b"hello"), (METHOD,))
    yield HttpCase("method-empty", b" /v1/topics/h HTTP/1.1\r\nHost: h\r\n\r\n", (Want((400, 405)),), EITHER, False,
                   "no-answer-to-noise",
                   ((), CLOSED))
    yield HttpCase("method-connect", head("CONNECT", "example.org:443"), (Want((400, 404, 405)),), EITHER)
    yield HttpCase("method-quoted", head('"POST"', "/v1/topics/h"), (Want((400, 405)),), EITHER)


# ---- versions ----


def versions():
    for name, version in (("1.2", "HTTP/1.2"), ("1.9", "HTTP/1.9"), ("1", "HTTP/1"), ("lower", "http/1.1"), ("mixed", "Http/1.1"),
                          ("1.01", "HTTP/1.01"), ("01.1", "HTTP/01.1"), ("no-point", "HTTP/11"), ("letter", "HTTP/1.x"),
                          ("behind", "HTTP/1.1x"), ("other", "ICY/1.1"), ("slashes", "HTTP//1.1"), ("comma", "HTTP/1,1"),
                          ("huge", "HTTP/99999999999.1"), ("minus", "HTTP/-1.1"), ("word", "HTTPS/1.1"),
                          ("long", "HTTP/1.1" + "1" * 500)):
        yield HttpCase(f"version-{name}", post(version=version), (Want(400, library=True),))
    for name, version in (("2.0", "HTTP/2.0"), ("0.9", "HTTP/0.9"), ("3.0", "HTTP/3.0"), ("9.9", "HTTP/9.9")):
        yield HttpCase(f"version-{name}", post(version=version), (Want(505, library=True),))  # RFC 9110, 15.6.6
    yield HttpCase("version-1.0", post(version="HTTP/1.0"), (OK,), CLOSED)
    yield HttpCase("version-1.0-keep-alive", post(version="HTTP/1.0", lines=["Connection: keep-alive"]), (OK,), OPEN)
    yield HttpCase("version-none", b"GET /\r\nHost: h\r\n\r\n", (Want(400),))
    yield HttpCase("version-none-line-only", b"GET /\r\n\r\n", (Want(400),))
    yield HttpCase("version-http2-preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (Want(505, library=True),))
    yield HttpCase("version-1.0-get", get(version="HTTP/1.0"), (OK,), CLOSED)
    yield HttpCase("connection-close", post(lines=["Connection: close"]), (OK,), CLOSED)
    yield HttpCase("connection-keep-alive", post(lines=["Connection: keep-alive"]), (OK,), OPEN)
    yield HttpCase("connection-odd", post(lines=["Connection: teleport"]), (OK,), OPEN)
    yield HttpCase("upgrade-h2c", post(lines=["Connection: Upgrade", "Upgrade: h2c"]), (OK,), OPEN)
    yield HttpCase("upgrade-websocket", get("/v1/ws", lines=["Connection: Upgrade", "Upgrade: websocket"]), (NOT_FOUND,), OPEN)


# ---- targets ----

# Nothing is decoded and nothing is normalised: what is not written as the route is not found.
TARGETS_UNKNOWN = {"v1": "/v1", "v1-slash": "/v1/", "topics": "/v1/topics", "v2": "/v2/topics/h", "upper": "/V1/topics/h",
                   "upper-input": "/INPUT", "input-slash": "/input/", "input-other": "/input/other",
                   "double-slash": "//v1/topics/h",
                   "batch-slash": "/input/batch/", "batch-upper": "/input/BATCH", "dot": "/./v1/topics/h",
                   "dots": "/v1/../v1/topics/h", "dots-above": "/../../etc/passwd", "dots-escaped": "/v1/%2e%2e/v1/topics/h",
                   "slash-escaped": "/v1%2ftopics/h", "letter-escaped": "/v1/topic%73/h", "topic-escaped": "/v1/topics/%68",
                   "topic-dot-escaped": "/v1/topics/a%2eb", "topic-nul-escaped": "/v1/topics/a%00", "percent": "/v1/topics/%",
                   "percent-one-digit": "/v1/topics/%4", "percent-letters": "/v1/topics/%zz", "percent-utf8": "/v1/topics/%c3%a4",
                   "percent-bad-utf8": "/v1/topics/%ff%fe", "percent-overlong": "/v1/topics/%c0%ae%c0%ae",
                   "percent-double": "/v1/topics/%2565", "percent-u": "/v1/topics/%u0041", "input-escaped": "/%69nput",
                   "semicolon": "/input;a=b", "backslash": "\\input", "star": "*", "word": "input", "dot-only": ".",
                   "crlf-escaped": "/input%0d%0aX:y", "utf8": "/\xc3\xa4", "bad-utf8": "/\xff\xfe", "long": "/" + "a" * 4000}
TARGETS_BAD_TOPIC = {"fragment": "/v1/topics/h#part", "backslash": "/v1/topics/a\\b", "utf8": "/v1/topics/\xc3\xa4",
                     "control": "/v1/topics/a\x01b", "del": "/v1/topics/a\x7fb", "slash-behind": "/v1/topics/h/",
                     "dots": "/v1/topics/..", "dots-between": "/v1/topics/../input", "two": "/v1/topics/a/b",
                     "empty": "/v1/topics/", "empty-batch": "/v1/topics//batch", "semicolon": "/v1/topics/h;a",
                     "plus": "/v1/topics/a+b",
                     "batch-twice": "/v1/topics/h/batch/batch", "batch-upper": "/v1/topics/h/Batch"}
TARGETS_GOOD = {"query": "/v1/topics/h?x=y", "query-empty": "/v1/topics/h?", "query-percent": "/v1/topics/h?%zz",
                "query-slashes": "/v1/topics/h?/../..", "query-questions": "/v1/topics/h??", "query-plain": "/v1/topics/h?tokens",
                "absolute": "http://h/v1/topics/h", "absolute-port": "http://h:3000/v1/topics/h",
                "absolute-upper": "HTTP://h/v1/topics/h", "absolute-other-host": "http://elsewhere/v1/topics/h",
                "absolute-query": "http://h/v1/topics/h?x", "absolute-https": "https://h/v1/topics/h",
                "topic-batch": "/v1/topics/batch"}


def targets():
    for name, target in TARGETS_UNKNOWN.items():
        yield HttpCase(f"target-{name}", post(b"", target=target), (NOT_FOUND,), OPEN)
    for name, target in TARGETS_BAD_TOPIC.items():
        yield HttpCase(f"target-topic-{name}", post(b"", target=target), (BAD_TOPIC,), OPEN)
    for name, target in TARGETS_GOOD.items():
        yield HttpCase(f"target-{name}", post(target=target), (OK,), OPEN)
    yield HttpCase("target-3000-arguments", post(target="/v1/topics/h?" + "&".join("a" * 3000)), (OK,), OPEN, False,
                   "many-arguments",
                   ((), CLOSED))
    yield HttpCase("target-absolute-root", head("GET", "http://h"), (OK,), OPEN)
    yield HttpCase("target-absolute-ftp", post(b"", target="ftp://h/v1/topics/h"), (NOT_FOUND,), OPEN)
    yield HttpCase("target-authority", post(b"", target="h:3000"), (NOT_FOUND,), OPEN)
    yield HttpCase("target-nul", post(b"", target="/v1/topics/a\0b"), (Want((400, 404)),), EITHER, False, "nul-in-target",
                   ((OK,), OPEN))
    yield HttpCase("target-missing", b"POST HTTP/1.1\r\nHost: h\r\n\r\n", (Want(400),))
    yield HttpCase("target-two", post(target="/v1/topics/h /v1/topics/smuggled.two"), (Want(400),))
    yield HttpCase("target-tab", post(target="/v1/topics/h\tHTTP/1.1\tx"), (Want((400, 404)),))
    yield HttpCase("target-16-kib", post(b"", target="/" + "a" * 16384), (Want((404, 414, 431)),), EITHER)
    yield flood("target-64-kib", post(b"", target="/" + "a" * 65536))
    yield flood("target-64-kib-query", post(b"", target="/v1/topics/h?" + "a" * 65536))
    yield flood("target-1-mib", post(b"", target="/" + "a" * (1 << 20)))


# ---- topics (docs/HTTP.md) ----

TOPICS_GOOD = {"letter": "a", "digits": "123", "levels": "a.b.c", "32-levels": ".".join("a" * 32), "255-bytes": "t" * 255,
               "255-in-levels": ".".join(["abcdefg"] * 31 + ["abcdefg"]), "underscore": "_", "dash": "-", "dash-between": "a-b.c-d",
               "upper": "ABC", "numbers": "0.1.2"}
TOPICS_BAD = {"empty-first": ".a", "empty-last": "a.", "empty-middle": "a..b", "dot": ".", "33-levels": ".".join("a" * 33),
              "256-bytes": "t" * 256, "star": "*", "star-level": "a.*", "more": ">", "more-last": "a.>", "star-inside": "a*b",
              "dollar-inside": "a.$b", "dollar-behind": "a$", "colon": "a:b", "at": "a@b", "comma": "a,b", "quote": "'a'",
              "tilde": "~a",
              "bang": "a!", "equals": "a=b", "ampersand": "a&b", "bracket": "(a)", "dollar-alone": "$", "dollar-dot": "$.a"}
TOPICS_RESERVED = {"dead": "$dead.a", "sys": "$sys", "any": "$x.y.z"}


def topics():
    for name, topic in TOPICS_GOOD.items():
        yield HttpCase(f"topic-{name}", post(target=f"/v1/topics/{topic}"), (Want(200, count=1),), OPEN)
    for name, topic in TOPICS_BAD.items():
        yield HttpCase(f"topic-{name}", post(target=f"/v1/topics/{topic}"), (BAD_TOPIC,))
    for name, topic in TOPICS_RESERVED.items():
        yield HttpCase(f"topic-reserved-{name}", post(target=f"/v1/topics/{topic}"), (Want(403, "reserved-topic"),))
        yield HttpCase(f"topic-reserved-{name}-batch", post(b"[]", target=f"/v1/topics/{topic}/batch", lines=[JSON]),
                       (Want(403, "reserved-topic"),))


# ---- heads that are too large ----


def heads():
    too_many = Want(431, "too-many-headers")
    for count in (50, 98):  # and Host and Content-Length: ingest.headers_max is 100
        yield HttpCase(f"headers-{count}", post(lines=[f"X-{i}: v" for i in range(count)]), (OK,), OPEN)
    for count in (99, 100, 150):
        yield HttpCase(f"headers-{count}", post(lines=[f"X-{i}: v" for i in range(count)]), (too_many,))
    for count in (500, 5000, 100000):
        yield flood(f"headers-{count}", post(lines=[f"X-{i}: v" for i in range(count)]))
    for size in (32768, 65536, 1 << 20):
        yield flood(f"header-value-{size}", post(lines=["X: " + "v" * size]))
        yield flood(f"header-name-{size}", post(lines=["X" * size + ": v"]))
    yield flood("head-never-ends", b"POST / HTTP/1.1\r\n" + b"X: y\r\n" * 200000)
    yield flood("head-no-line-end", b"A" * 200000)
    yield flood("cookie-of-20-kib", post(lines=["Cookie: " + "a=b; " * 4000]))


# ---- Content-Type and Content-Encoding ----

JSON = "Content-Type: application/json"
TYPES_KEPT = {"none": None, "plain": "text/plain", "charset": "text/plain; charset=utf-8", "octets": "application/octet-stream",
              "form": "application/x-www-form-urlencoded", "multipart": "multipart/form-data; boundary=x",
              "tree": "application/vnd.a+b",
              "127-bytes": "a/" + "b" * 125, "latin1": "text/plain; charset=iso-8859-1", "upper": "TEXT/CSV",
              "parameter": "a/b;c=d",
              "semicolon": "a/b;", "tokens": "!#$%&'*+.^_`|~-/!#$"}
TYPES_BAD = {"word": "text", "slash": "/", "no-type": "/plain", "no-subtype": "text/", "two-slashes": "a/b/c",
             "blank": "text /plain",
             "128-bytes": "a/" + "b" * 126, "quote": '"text/plain"', "comma": "text/plain, text/html", "utf8": "text/pl\xc3\xa4in",
             "star": "*", "at": "a@b/c", "brackets": "<a/b>"}
TYPES_JSON = {"plain": "application/json", "upper": "APPLICATION/JSON", "utf8": "application/json; charset=utf-8",
              "utf8-upper": "application/json;charset=UTF-8", "utf8-quoted": 'application/json; charset="utf-8"',
              "semicolon": "application/json;", "blanks": "application/json  ;  charset=utf-8"}
TYPES_JSON_FOREIGN = {"latin1": "application/json; charset=iso-8859-1", "utf16": "application/json; charset=utf-16",
                      "utf-32": "application/json;charset=utf-32"}
# Routes that take JSON only.
TYPES_NOT_JSON = {"none": None, "plain": "text/plain", "html": "text/html", "form": "application/x-www-form-urlencoded",
                  "json5": "application/json5", "text-json": "text/json", "problem": "application/problem+json", "bad": "json",
                  "two": "application/json, application/json", "latin1": "application/json; charset=latin1"}
CODINGS_OF_CONTENT = ["gzip", "deflate", "br", "zstd", "compress", "x-gzip", "gzip, identity", "identity, gzip",
                      "identity, identity",
                      "", "unheard-of", "aes128gcm", "GZIP"]


def media_types():
    for name, kind in TYPES_KEPT.items():
        yield HttpCase(f"type-{name}", post(lines=[f"Content-Type: {kind}"] if kind else []), (OK,), OPEN)
    for name, kind in TYPES_BAD.items():
        yield HttpCase(f"type-bad-{name}", post(lines=[f"Content-Type: {kind}"]), (BAD_HEADER,))
    for name, kind in TYPES_JSON.items():
        yield HttpCase(f"type-json-{name}", post(b"[1]", lines=[f"Content-Type: {kind}"]), (OK,), OPEN)
        yield HttpCase(f"type-json-{name}-broken", post(b"[1", lines=[f"Content-Type: {kind}"]), (Want(400, "malformed-json"),),
                       OPEN)
    for name, kind in TYPES_JSON_FOREIGN.items():
        yield HttpCase(f"type-json-{name}", post(b"[1]", lines=[f"Content-Type: {kind}"]), (MEDIA,))
    for route in ("/input", "/input/batch", "/v1/topics/h/batch"):
        for name, kind in TYPES_NOT_JSON.items():
            yield HttpCase(f"type-only-json-{name}{route}",
                           post(b"{}", target=route, lines=[f"Content-Type: {kind}"] if kind else []),
                           (MEDIA,))


def content_codings():
    for name in ("identity", "IDENTITY", " identity "):
        yield HttpCase(f"content-coding-{name.strip()}{len(name)}", post(lines=[f"Content-Encoding: {name}"]), (OK,), OPEN)
    for coding in CODINGS_OF_CONTENT:
        yield HttpCase(f"content-coding-{coding or 'empty'}", post(lines=[f"Content-Encoding: {coding}"]), (CODING,))


# ---- headers of the broker ----


def own_headers():
    for value in ("durable", "accepted", "DURABLE", "Accepted", "  durable  "):
        yield HttpCase(f"ack-{value.strip()}{len(value)}", post(lines=[f"CMQ-Ack: {value}"]), (OK,), OPEN)
    for value in ("", "no", "durable, accepted", "0", "true", "durable;x", "fsync", "durable accepted"):
        yield HttpCase(f"ack-bad-{value or 'empty'}", post(lines=[f"CMQ-Ack: {value}"]), (BAD_HEADER,))
    for name, key in (("letter", "k1"), ("128", "k" * 128), ("marks", "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"),
                      ("uuid", "8e03978e-40d5"),
                      ("blanks-around", "  k2  ")):
        yield HttpCase(f"key-{name}", post(lines=[f"Idempotency-Key: {key}"], target="/v1/topics/keys"), (Want(200, count=1),),
                       OPEN)
    for name, key in (("empty", ""), ("129", "k" * 129), ("blank", "a b"), ("tab", "a\tb"), ("utf8", "\xc3\xa4"),
                      ("latin1", "\xe4"),
                      ("1000", "k" * 1000)):
        yield HttpCase(f"key-bad-{name}", post(lines=[f"Idempotency-Key: {key}"]), (BAD_HEADER,))


# ---- Expect (RFC 9110, 10.1.1) ----


def expects():
    go_on = Want(100)
    wait = ["Content-Length: 1"]
    for name, value in (("lower", "100-continue"), ("upper", "100-CONTINUE")):
        yield HttpCase(f"expect-{name}", head(lines=[f"Expect: {value}", *wait]) + b"x", (OK,), OPEN, limited=((go_on, OK), OPEN),
                       limit="continue-sent-anyway")
    yield HttpCase("expect-refused", head(target="/nothing", lines=["Expect: 100-continue", *wait]), (NOT_FOUND,))
    yield HttpCase("expect-too-large", head(lines=["Expect: 100-continue", "Content-Length: 99999999"]), (TOO_LARGE,))
    yield HttpCase("expect-1.0", head(version="HTTP/1.0", lines=["Expect: 100-continue", *wait]) + b"x", (OK,))
    yield HttpCase("expect-without-body", get("/", lines=["Expect: 100-continue"]), (OK,), OPEN, limited=((go_on, OK), OPEN),
                   limit="continue-sent-anyway")
    for name, value in (("other", "200-ok"), ("two", "100-continue, 100-continue"), ("empty", "")):
        yield HttpCase(f"expect-{name}", head(lines=[f"Expect: {value}", *wait]) + b"x", (OK,), OPEN)


# ---- several requests in one stream (RFC 9112, 9.3.2), and pieces ----


def pipelines():
    good = post(b"p")
    bad = head(lines=["Content-Length: 1", "Transfer-Encoding: chunked"])
    yield HttpCase("pipeline-two", good * 2, (OK, OK), OPEN)
    yield HttpCase("pipeline-hundred", good * 100, (OK,) * 100, OPEN)
    yield HttpCase("pipeline-good-bad", good + bad, (OK, BAD))
    yield HttpCase("pipeline-bad-good", bad + hidden("behind-bad"), (BAD,))
    yield HttpCase("pipeline-good-bad-good", good + bad + hidden("behind-bad-2"), (OK, BAD))
    yield HttpCase("pipeline-methods", get() + good + head("HEAD", "/") + good, (OK, OK, Want(200, bare=True), OK), OPEN)
    yield HttpCase("pipeline-unknown-good", get("/nothing") + good, (NOT_FOUND, OK), OPEN)
    yield HttpCase("pipeline-refused-good", head("PUT", "/input") + good, (METHOD, OK), OPEN)
    yield HttpCase("pipeline-malformed-good", post(b"{", lines=[JSON]) + good, (Want(400, "malformed-json"), OK), OPEN)
    yield HttpCase("pipeline-close-good", post(lines=["Connection: close"]) + hidden("behind-close"), (OK,))
    yield HttpCase("pipeline-1.0-good", post(version="HTTP/1.0") + hidden("behind-1.0"), (OK,))
    yield HttpCase("pipeline-too-large-good", head(lines=[f"Content-Length: {REQUEST_BYTES_MAX + 1}"]) + hidden("behind-large"),
                   (TOO_LARGE,))
    yield HttpCase("pipeline-chunked-length", chunked(b"a") + post(b"b") + chunked(b"c"), (OK, OK, OK), OPEN)
    yield HttpCase("pipeline-crlf-between", good + CRLF + good, (OK, OK), OPEN)  # RFC 9112, 2.2
    yield HttpCase("pipeline-crlf-before", CRLF + good, (OK,), OPEN)
    yield HttpCase("pipeline-garbage-between", good + b"garbage\r\n\r\n" + hidden("behind-garbage"), (OK, LIBRARY_400), CLOSED,
                   False,
                   "no-answer-to-noise", ((OK,), CLOSED))
    yield HttpCase("body-is-a-request", post(hidden("in-body")), (OK,), OPEN)
    # What must stay secret may stand in no log: payloads, queries, tokens, in requests that are taken and in others.
    secret = CANARY.decode()
    yield HttpCase("secret-in-body", post(CANARY), (OK,), OPEN)
    yield HttpCase("secret-in-query", post(target=f"/v1/topics/h?x={secret}"), (OK,), OPEN)
    yield HttpCase("secret-in-path", post(b"", target=f"/{secret}/%zz"), (NOT_FOUND,), OPEN)
    yield HttpCase("secret-in-json", post(b'{"' + CANARY, lines=[JSON]), (Want(400, "malformed-json"),), OPEN)
    yield HttpCase("secret-in-cookie", post(lines=[f"Cookie: s={secret}"]), (OK,), OPEN)
    yield HttpCase("secret-in-bad-header", post(lines=[f"X (y): {secret}"]), (BAD,))
    yield HttpCase("secret-in-method", head(secret, "/v1/topics/h"), (METHOD,), OPEN)
    yield HttpCase("secret-in-noise", CANARY * 3 + CRLF * 2, (), EITHER, end=True)
    yield HttpCase("body-holds-crlfs", post(CRLF * 10), (OK,), OPEN)
    for at in (1, 4, 5, 16, 24, 28, 30, 40, 55, 60):
        yield HttpCase(f"pieces-at-{at}", [good[:at], good[at:]], (OK,), OPEN)
    yield HttpCase("pieces-of-one-byte", [good[i:i + 1] for i in range(len(good))], (OK,), OPEN)
    slow = chunked(b"ab", b"cd")
    yield HttpCase("pieces-of-chunks", [slow[i:i + 1] for i in range(len(slow))], (OK,), OPEN)
    large = post(b"p", lines=[f"X-{i}: " + "v" * 5000 for i in range(3)])
    yield HttpCase("pieces-of-large-head", [large[i:i + 1000] for i in range(0, len(large), 1000)] + [good], (OK, OK), OPEN)
    many = post(b"p", lines=[f"X-{i}: {i}" for i in range(90)])
    yield HttpCase("pieces-of-many-headers", [many[i:i + 7] for i in range(0, len(many), 7)] + [many, large], (OK, OK, OK), OPEN)
    yield HttpCase("pieces-bad", [bad[:30], bad[30:60], bad[60:]], (BAD,))


# ---- what is no HTTP ----

NOISE = {"zeros": b"\0" * 500, "ones": b"\xff" * 500, "ssh": b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "smtp": b"EHLO x\r\n\r\n",
         "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x5a" * 200 + b"\r\n\r\n", "redis": b"*1\r\n$4\r\nPING\r\n\r\n",
         "amqp": b"AMQP\0\0\x09\x01\r\n\r\n", "json": b'{"content":"x"}\r\n\r\n', "rtsp": b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n",
         "line": b"hello\r\n\r\n", "two-words": b"hello world\r\n\r\n"}


def noise():
    for name, raw in NOISE.items():
        yield HttpCase(f"noise-{name}", raw, (Want((400, 404, 405, 505)),), EITHER, end=True, limit="no-answer-to-noise",
                       limited=((), CLOSED))
    yield HttpCase("half-closed", post(), (OK,), CLOSED, True, "half-closed-while-waiting", ((), CLOSED))
    yield HttpCase("half-closed-get", get(), (OK,), end=True)
    yield HttpCase("noise-nothing", b"", (), end=True)
    yield HttpCase("noise-crlf", CRLF, (), end=True)
    yield HttpCase("noise-crlfs", CRLF * 1000, (), EITHER, end=True)
    for at in (1, 10, 17, 24, 30):
        yield HttpCase(f"cut-at-{at}", post()[:at], (), end=True)


# ---- OPTIONS, pages of other origins, and what is asked besides publishing ----

ORIGINS = "https://shop.example http://localhost:5173"  # ingest.cors_origins of the broker that is asked
PLAIN_ROUTES = ("/", "/healthz", "/readyz", "/metrics", "/v1/openapi.json")


def options():
    for route in (*ROUTES.values(), *PLAIN_ROUTES, "*"):
        allowed = Want(204, headers=(("Allow", None), ("Access-Control-Allow-Origin", ABSENT)))
        yield HttpCase(f"options-{route}", head("OPTIONS", route), (allowed,), OPEN)
    yield HttpCase("options-unknown", head("OPTIONS", "/nothing"), (NOT_FOUND,), OPEN)
    yield HttpCase("options-body", post(method="OPTIONS"), (BAD,))
    for method in ("GET", "POST", "PUT"):
        yield HttpCase(f"star-{method}", head(method, "*"), (NOT_FOUND,), OPEN)
    for route in PLAIN_ROUTES:
        yield HttpCase(f"plain-get-{route}", get(route), (Want(200, headers=(("Content-Type", None),)),), OPEN)
        yield HttpCase(f"plain-head-{route}", head("HEAD", route), (Want(200, bare=True),), OPEN)
        yield HttpCase(f"plain-post-{route}", post(b"", target=route), (METHOD,), OPEN)
        yield HttpCase(f"plain-body-{route}", post(method="GET", target=route), (BAD,))
        yield HttpCase(f"plain-slash-{route}", get(route + "/x"), (NOT_FOUND,), OPEN)


def origins():
    for name, origin in (("shop", "https://shop.example"), ("local", "http://localhost:5173")):
        echoed = (("Access-Control-Allow-Origin", origin), ("Vary", "Origin"))
        yield HttpCase(f"origin-{name}", post(lines=[f"Origin: {origin}"]), (Want(200, headers=echoed),), OPEN)
        yield HttpCase(f"origin-{name}-refused", post(lines=[f"Origin: {origin}", JSON]),
                       (Want(400, "malformed-json", headers=echoed),), OPEN)
        asked = [f"Origin: {origin}", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: content-type"]
        told = (*echoed, ("Access-Control-Allow-Methods", None), ("Access-Control-Allow-Headers", "content-type"),
                ("Access-Control-Max-Age", None))
        yield HttpCase(f"preflight-{name}", head("OPTIONS", "/v1/topics/h", lines=asked), (Want(204, headers=told),), OPEN)
    for name, origin in (("other", "https://evil.example"), ("null", "null"), ("longer", "https://shop.example.evil"),
                         ("port", "https://shop.example:1"),
                         ("scheme", "http://shop.example"), ("upper", "HTTPS://SHOP.EXAMPLE"), ("path", "https://shop.example/"),
                         ("two", "https://shop.example http://localhost:5173"), ("empty", ""), ("star", "*"),
                         ("prefix", "https://shop.exampl")):
        silent = (("Access-Control-Allow-Origin", ABSENT),)
        yield HttpCase(f"origin-{name}", post(lines=[f"Origin: {origin}"]), (Want(200, headers=silent),), OPEN)
        asked = [f"Origin: {origin}", "Access-Control-Request-Method: POST"]
        yield HttpCase(f"preflight-{name}", head("OPTIONS", "/v1/topics/h", lines=asked),
                       (Want(204, headers=(*silent, ("Access-Control-Allow-Methods", ABSENT))),), OPEN)
    large = ["Origin: https://shop.example", "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: " + "x" * 5000]
    yield HttpCase("preflight-large", head("OPTIONS", "/v1/topics/h", lines=large), (Want(204),), OPEN)


# ---- tokens do not belong in a URL (RFC 6750, 5.3) ----


def secrets_in_urls():
    secret = "cmq_" + CANARY.decode() + "A" * 22
    refused = Want(400, "token-in-url")
    for name in ("token", "access_token", "authorization", "api_key", "TOKEN", "Access_Token"):
        yield HttpCase(f"url-{name}", post(b"", target=f"/v1/topics/h?{name}={secret}"), (refused,), OPEN)
        yield HttpCase(f"url-{name}-second", post(target=f"/v1/topics/h?a=b&{name}={secret}"), (refused,))
    for route in ("/", "/healthz", "/v1/openapi.json", "/nothing", "/input"):
        yield HttpCase(f"url-token{route}", get(f"{route}?token={secret}"), (refused,), OPEN)
    yield HttpCase("url-token-empty", post(b"", target="/v1/topics/h?token="), (refused,), OPEN)
    yield HttpCase("url-token-semicolon", post(b"", target="/v1/topics/h?a;token=x"), (refused,), OPEN)
    yield HttpCase("url-token-absolute", post(b"", target=f"http://h/v1/topics/h?token={secret}"), (refused,), OPEN)
    yield HttpCase("url-token-many", post(b"", target="/v1/topics/h?" + "&".join("a" * 100) + "&token=x"), (refused,), OPEN)
    for name, query in (("tokens", "tokens=1"), ("suffix", "my_token=1"), ("value", "x=token=1"), ("bare", "token"),
                        ("slash", "/token=1")):
        yield HttpCase(f"url-fine-{name}", post(target=f"/v1/topics/h?{query}"), (OK,), OPEN)


# ---- time to live, and headers that go with a message (docs/HTTP.md) ----

TTLS_GOOD = {"ms": "1500ms", "s": "30s", "m": "5m", "h": "2h", "d": "3d", "seconds": "60", "least": "1ms", "largest": "3650d",
             "zeros": "007s",
             "blanks": "  9s  "}
TTLS_BAD = {"zero": "0", "zero-s": "0s", "minus": "-1", "plus": "+1s", "point": "1.5s", "blank": "1 s", "unit-only": "s",
            "week": "1w", "upper": "1S",
            "word": "30sec", "empty": "", "20-digits": "9" * 20, "too-long": "3651d", "two-units": "1s1s", "two": "1h 30m",
            "hex": "0x10",
            "exponent": "1e3", "forever": "never", "overflow": "18446744073709551615d", "iso": "PT30S", "comma": "1,5s",
            "utf8": "1\xc2\xa0s"}


def ttls():
    for name, value in TTLS_GOOD.items():
        yield HttpCase(f"ttl-{name}", post(lines=[f"CMQ-TTL: {value}"]), (OK,), OPEN)
    for name, value in TTLS_BAD.items():
        yield HttpCase(f"ttl-bad-{name}", post(lines=[f"CMQ-TTL: {value}"]), (BAD_HEADER,))


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
META_GOOD = {"one": ["CMQ-Meta-Shop: berlin"], "empty-value": ["CMQ-Meta-a:"], "utf8": ["CMQ-Meta-a: \xc3\xa4"],
             "case": ["cmq-META-a: x"],
             "32": [f"CMQ-Meta-{i}: v" for i in range(32)], "4096-bytes": ["CMQ-Meta-a: " + "v" * 4095],
             "name-128": ["CMQ-Meta-" + "n" * 128 + ": v"],
             "trace": [f"traceparent: {TRACE}", "tracestate: a=b"], "marks": ["CMQ-Meta-!#$%&'*+.^_`|~-: v"],
             "tab-inside": ["Other: a\tb"],
             "colons": ["CMQ-Meta-a: a:b:c"], "percent": ["CMQ-Meta-a: 100%"]}
META_BAD = {"no-name": ["CMQ-Meta-: v"], "twice": ["CMQ-Meta-a: 1", "CMQ-Meta-a: 2"],
            "twice-case": ["CMQ-Meta-a: 1", "CMQ-Meta-A: 2"],
            "latin1": ["CMQ-Meta-a: \xe4"], "bad-utf8": ["CMQ-Meta-a: \xff\xfe"], "surrogate": ["CMQ-Meta-a: \xed\xa0\x80"],
            "33": [f"CMQ-Meta-{i}: v" for i in range(33)],
            "4097-bytes": ["CMQ-Meta-a: " + "v" * 4096], "together": [f"CMQ-Meta-{i}: " + "v" * 500 for i in range(9)],
            "name-129": ["CMQ-Meta-" + "n" * 129 + ": v"], "tab": ["CMQ-Meta-a: a\tb"],
            "trace-twice": [f"traceparent: {TRACE}"] * 2,
            "trace-and-meta": [f"traceparent: {TRACE}", "CMQ-Meta-traceparent: x"]}
EVENT = ["ce-specversion: 1.0", "ce-id: 7", "ce-source: /shop", "ce-type: order"]
EVENT_GOOD = {"least": [], "subject": ["ce-subject: a b"], "quoted": ['ce-subject: "a b"'],
              "quoted-escape": ['ce-subject: "a\\"b"'],
              "percent": ["ce-subject: Euro%20%E2%82%AC"], "upper-name": ["CE-Subject: x"], "extension": ["ce-comexample: 1"],
              "time": ["ce-time: 2024-11-25T08:30:00Z"], "time-offset": ["ce-time: 2024-11-25T08:30:00.123456789+01:00"],
              "time-leap": ["ce-time: 2024-02-29T23:59:60Z"], "time-lower": ["ce-time: 2024-11-25t08:30:00z"],
              "empty-extension": ["ce-x:"]}
EVENT_BAD = {"version": ["ce-specversion: 0.3"], "id-empty": ["ce-id:"], "id-twice": ["ce-id: 7", "ce-id: 8"],
             "name-dash": ["ce-my-name: x"],
             "name-under": ["ce-a_b: x"], "name-empty": ["ce-: x"], "data": ["ce-data: x"],
             "datacontenttype": ["ce-datacontenttype: a/b"],
             "time-word": ["ce-time: yesterday"], "time-date": ["ce-time: 2024-11-25"],
             "time-no-zone": ["ce-time: 2024-11-25T08:30:00"],
             "time-february": ["ce-time: 2023-02-29T00:00:00Z"], "time-hour": ["ce-time: 2024-11-25T24:00:00Z"],
             "percent-cut": ["ce-subject: %4"],
             "percent-zz": ["ce-subject: %zz"], "percent-nul": ["ce-subject: %00"], "percent-newline": ["ce-subject: a%0Ab"],
             "percent-utf8": ["ce-subject: %ff"], "noncharacter": ["ce-subject: %EF%BF%BE"], "quote-open": ['ce-subject: "a'],
             "quote-behind": ['ce-subject: "a"b'], "subject-empty": ["ce-subject:"], "latin1": ["ce-subject: \xe4"]}


def carried():
    for name, lines in META_GOOD.items():
        yield HttpCase(f"meta-{name}", post(lines=lines), (OK,), OPEN)
    for name, lines in META_BAD.items():
        yield HttpCase(f"meta-bad-{name}", post(lines=lines), (BAD_HEADER,))
    for name, lines in EVENT_GOOD.items():
        yield HttpCase(f"event-{name}", post(lines=[*EVENT, *lines]), (OK,), OPEN)
    for name, lines in EVENT_BAD.items():
        replaced = [line for line in EVENT if not lines[0].lower().startswith(line.split(":")[0] + ":")]
        yield HttpCase(f"event-bad-{name}", post(lines=[*replaced, *lines]), (BAD_HEADER,))
    for missing in range(4):
        lines = EVENT[:missing] + EVENT[missing + 1:]
        yield HttpCase(f"event-without-{EVENT[missing].split(':')[0]}", post(lines=lines), (BAD_HEADER,))


GROUPS = {"framing": (content_lengths, transfer_encodings, chunks),
          "headers": (header_names, header_values, repeated_headers, own_headers, media_types, content_codings, expects),
          "lines": (methods, versions, targets, topics),
          "streams": (heads, pipelines, noise),
          "edge": (options, origins, secrets_in_urls, ttls, carried)}


def cases(group):
    return [case for make in GROUPS[group] for case in make()]
