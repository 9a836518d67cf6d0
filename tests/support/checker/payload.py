"""Self-describing message content: run|producer|pseq|padding|hash.

Ownership: none, pure functions.
Units: bytes are characters, the content is ASCII.
Errors: parse returns None for content that is not exactly what make made.
Callers: any.
"""

import zlib


def make(run, producer, pseq, size=0):
    """Content of one message, at least `size` characters long when that is more than it needs."""
    head = f"{run}|{producer}|{pseq}|"
    head += "x" * max(0, size - len(head) - 9) + "|"
    return head + f"{zlib.crc32(head.encode()):08x}"


def parse(run, content):
    """(producer, pseq), or None if the content is damaged or of another run."""
    head, mark, digest = content.rpartition("|")
    head += mark
    parts = head.split("|")
    if len(parts) != 5 or parts[0] != run or f"{zlib.crc32(head.encode('utf-8', 'replace')):08x}" != digest:
        return None
    return int(parts[1]), int(parts[2])
