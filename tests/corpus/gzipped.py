"""Bodies with Content-Encoding: gzip (RFC 1952), good, broken and explosive. For a broker with ingest.gzip = on that needs tokens.

Ownership: none, tables and pure functions.
Units: bytes.
Errors: none.
Callers: tests/integration/test_corpus.py.
"""

import gzip
import hashlib
import zlib

from corpus.bodies import JSON, Body, taken
from corpus.formats import LINES
from corpus.replay import Want

NO_GZIP = Want(400, "malformed-gzip")
LARGE = Want(413, "too-large")
ROUTE = "/v1/topics/orders.gzip"


def packed(data):
    return gzip.compress(data, mtime=0)


def noise(size):
    """Does not become smaller than half, and is text."""
    return b"".join(hashlib.sha256(b"%d" % i).hexdigest().encode() for i in range(size // 64 + 1))[:size]


def with_flags(flags, extra, data=b"hello"):
    """A member whose head has what `flags` says."""
    deflate = zlib.compressobj(wbits=-15)
    body = deflate.compress(data) + deflate.flush()
    return b"\x1f\x8b\x08" + bytes([flags]) + b"\0\0\0\0\0\xff" + extra + body + zlib.crc32(data).to_bytes(4,
                                                                                                           "little") + len(data).to_bytes(4, "little")


HELLO = packed(b"hello")
GOOD = {"hello": HELLO, "empty": packed(b""), "60000-alike": packed(b"a" * 60000), "noise": packed(noise(300000)),
        "two-members": packed(b"hel") + packed(b"lo"),
        "three-members": packed(b"") + packed(b"hello") + packed(b""), "stored": gzip.compress(b"hello", 0, mtime=0),
        "name": with_flags(8, b"name\0"),
        "comment": with_flags(16, b"text\0"), "extra": with_flags(4, b"\x02\0ab"), "text-flag": with_flags(1, b"")}
BAD = {"plain": b"hello", "json": b"[1]", "zlib": zlib.compress(b"hello"), "deflate": zlib.compress(b"hello", wbits=-15),
       "nothing": b"", "magic": b"\x1f\x8b",
       "magic-only-1": b"\x1f", "method": b"\x1f\x8b\x07" + HELLO[3:], "magic-wrong": b"\x1f\x8c" + HELLO[2:],
       "crc": HELLO[:-8] + b"\0\0\0\0" + HELLO[-4:],
       "size": HELLO[:-4] + b"\xff\0\0\0", "behind": HELLO + b"garbage", "zeros-behind": HELLO + b"\0" * 20,
       "second-cut": HELLO + HELLO[:-3],
       "reserved-flags": with_flags(0xe0, b""), "name-open": with_flags(8, b"")[:10] + b"n" * 100,
       "block-type": HELLO[:10] + b"\x07" + HELLO[11:],
       "zeros": b"\0" * 100, "zstd": b"\x28\xb5\x2f\xfd\x04\x00", "bzip2": b"BZh91AY&SY", "compress": b"\x1f\x9d\x90",
       "random": noise(64)}
BOMBS = {"1-mib": b"\0" * (1 << 20), "10-mib": b"\0" * (10 << 20), "100-mib": b"\0" * (100 << 20), "spaces": b" " * (5 << 20),
         "json": b"[" * (5 << 20)}


def cases(token_line):
    def body(name, data, want, wanted=None, kind="text/plain", route=ROUTE, coding="gzip"):
        return Body("gzip-" + name, route, kind, data, want, wanted, (token_line, f"Content-Encoding: {coding}"))

    for name, data in GOOD.items():
        yield body(name, data, taken())
    for name, data in BAD.items():
        yield body("bad-" + name, data, NO_GZIP)
    for at in range(2, len(HELLO)):
        yield body(f"cut-at-{at}", HELLO[:at], NO_GZIP)
    for name, data in BOMBS.items():
        yield body("bomb-" + name, packed(data), LARGE)
    yield body("bomb-of-bombs", packed(packed(b"\0" * (10 << 20)) * 10), LARGE)
    yield body("bomb-of-members", packed(b"\0" * 50000) * 200, LARGE)
    yield body("large-message", packed(noise((1 << 20) + 1)), LARGE)
    yield body("json", packed(b"[1]"), taken(), None, JSON)
    yield body("json-broken", packed(b"[1"), Want(400, "malformed-json"), None, JSON)
    yield body("batch", packed(b'["a","b"]'), taken(2), None, JSON, ROUTE + "/batch")
    yield body("lines", packed(b'"a"\n7\n"b"\n'), Want(207, count=2, rejected=1, lines=(2,)), None, LINES, ROUTE + "/batch")
    yield body("lines-cut", packed(noise(2000).replace(b"0", b"\n"))[:-100], NO_GZIP, None, LINES, ROUTE + "/batch")
    for coding in ("GZIP", "x-gzip"):
        yield body(f"as-{coding}", HELLO, taken(), coding=coding)
    for coding in ("gzip, gzip", "deflate", "br", "gzip;q=1", "identity, gzip"):
        yield body(f"as-{coding}", HELLO, Want(415, "unsupported-content-coding"), coding=coding)
