#!/usr/bin/python3
"""Runs the examples of docs/PROTOCOL.md against a broker, in both formats: what the page says is what happens.

Ownership: a broker for each kind of block; the connection of a block ends with it.
Units: seconds.
Errors: unittest; a difference names the line of the page.
Callers: ctest, as integration.protocol.

A block begins with ```frames and, maybe, the kind of broker it needs. Its lines:
    > {...}                          the client sends this
    < {...}                          the next reply, or the next push, is this; heartbeats before it are passed
    POST path content-type body      somebody publishes; \\xNN in the body is a byte
    200 {...}                        and gets this answer
    x code                           the server closes with this code
In what is expected "..." is any value, ts any number. The record number of an id stands for the one that really comes: the
first use of it binds it, on the whole page.
"""

import base64
import json
import os
import re
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import Broker, wait_until  # noqa: E402
from cases import HOST, WAIT_S, Http  # noqa: E402
from tokens import TokenFile  # noqa: E402
from v1client import FORMATS  # noqa: E402
from wsclient import WsClient, WsClosed  # noqa: E402

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "PROTOCOL.md")
ID = re.compile(r"(\d+)-(\d+)((?::\d+)?)")
BROKERS = {
    "": {},
    "heartbeat": {"dispatcher.ping_s": 1},
    "retention": {"log.segment_bytes": "1M", "log.retention_bytes": "3M", "ingest.request_bytes_max": "256K",
                  "ingest.message_bytes_max": "256K"},
    "tokens": {},
}
TOKEN = "cmq_" + 43 * "A"  # of the page


def blocks():
    """(line, kind, [(line, text)]) of every block."""
    found, inside = [], None
    with open(PAGE, encoding="utf-8") as page:
        for number, line in enumerate(page, 1):
            line = line.rstrip("\n")
            if inside is None and line.startswith("```frames"):
                inside = (number, line[len("```frames"):].strip(), [])
                found.append(inside)
            elif line.startswith("```"):
                inside = None
            elif inside is not None:
                inside[2].append((number, line))
    return found


class Mismatch(AssertionError):
    """What came is not what the page says."""


class Names:
    """Record numbers of the page, and those that really came."""

    def __init__(self):
        self.real = {}

    def translate(self, value):
        """What the client really sends."""
        if isinstance(value, dict):
            return {name: self.translate(part) for name, part in value.items()}
        if isinstance(value, list):
            return [self.translate(part) for part in value]
        match = ID.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            return value
        return f"{self.real.get(match[1], match[1])}-{match[2]}{match[3]}"

    def same_id(self, page, came):
        expected, real = ID.fullmatch(page), ID.fullmatch(came)
        if expected is None or real is None or expected.groups()[1:] != real.groups()[1:]:
            return False
        return self.real.setdefault(expected[1], real[1]) == real[1]

    def compare(self, page, came, where=""):
        """Mismatch if `came` is not what the page says."""
        if page == "...":
            return
        if where.endswith(".ts"):
            good = isinstance(came, int) and came > 1_600_000_000_000
        elif isinstance(page, str) and ID.fullmatch(page):
            good = isinstance(came, str) and self.same_id(page, came)
        elif isinstance(page, dict):
            good = isinstance(came, dict) and page.keys() == came.keys()
            for name in page if good else ():
                self.compare(page[name], came[name], f"{where}.{name}")
        elif isinstance(page, list):
            good = isinstance(came, list) and len(page) == len(came)
            for i in range(len(page) if good else 0):
                self.compare(page[i], came[i], f"{where}[{i}]")
        else:
            good = type(page) is type(came) and page == came
        if not good:
            raise Mismatch(f"{where or 'the frame'}: expected {page!r}, came {came!r}")


def in_msgpack(frame):
    """The same push as the page says that MessagePack has it: octets as bin, JSON as text with its type."""
    for item in frame.get("msgs", {}).get("items", ()):
        if "data_base64" in item:
            item["data"] = base64.b64decode(item.pop("data_base64"))
        elif not isinstance(item["data"], str):
            item["data"] = json.dumps(item["data"])
            item["type"] = "application/json"
    return frame


class Stream:
    """The connection of a block. Replies, pushes and heartbeats are three orders, not one."""

    def __init__(self, broker, form):
        self.opcode, self.encode, self.decode = FORMATS[form]
        self.client = WsClient(HOST, broker.ws_port, "/v1/ws", WAIT_S, subprotocol=f"ciphermq.v1.{form}")
        self.came = {"reply": [], "push": [], "heartbeat": []}

    @staticmethod
    def kind_of(frame):
        return "reply" if "id" in frame else "push" if frame else "heartbeat"

    def send(self, value):
        self.client.send(self.encode(value), self.opcode)

    def next_like(self, page):
        """The next frame of the kind that the page has."""
        frames = self.came[self.kind_of(page)]
        while not frames:
            frame = self.decode(self.client.receive(WAIT_S))
            self.came[self.kind_of(frame)].append(frame)
        return frames.pop(0)

    def close_code(self):
        try:
            while True:
                self.client.receive(WAIT_S)
        except WsClosed as closed:
            return closed.code


class Protocol(unittest.TestCase):
    maxDiff = None

    def begin(self, kind):
        settings = dict(BROKERS[kind])
        if kind == "tokens":
            directory = tempfile.mkdtemp(prefix="cmq-tokens-")
            self.addCleanup(shutil.rmtree, directory)
            tokens = TokenFile(directory)
            tokens.add("page", TOKEN, subscribe="orders.*")
            settings["tokens.file"] = tokens.path
        broker = Broker(settings=settings).start()
        self.addCleanup(broker.abandon)
        http = Http(broker)
        self.addCleanup(http.close)
        if kind == "retention":     # until the oldest segment is gone
            for _ in range(60):
                self.assertEqual(200, http.post("/v1/topics/filler", "x" * 100000, "text/plain").status)
            log = os.path.join(broker.directory, "data", "log")
            first = f"{1:016x}.log"
            wait_until(lambda: first not in os.listdir(log), WAIT_S, "the oldest segment is gone")
        return broker, http

    def post(self, http, line):
        _, path, kind, body = line.split(" ", 3)
        data = re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), body.encode("utf-8"))
        reply = http.post(path, data, kind)
        self.assertEqual(200, reply.status, reply)
        return reply.body

    def run_block(self, broker, http, names, form, lines):
        stream = Stream(broker, form)
        answer = None
        try:
            for number, line in lines:
                try:
                    if line.startswith("> "):
                        stream.send(names.translate(json.loads(line[2:])))
                    elif line.startswith("< "):
                        page = json.loads(line[2:])
                        came = stream.next_like(page)
                        names.compare(in_msgpack(page) if form == "msgpack" else page, self.squeeze(came, form))
                    elif line.startswith("POST "):
                        answer = self.post(http, line)
                    elif line.startswith("200 "):
                        names.compare(json.loads(line[4:]), answer)
                    elif line.startswith("x "):
                        self.assertEqual(int(line[2:]), stream.close_code())
                    else:
                        self.fail("not a line of an example")
                except (AssertionError, TimeoutError, WsClosed, ConnectionError, ValueError) as error:
                    raise AssertionError(f"PROTOCOL.md:{number} ({form}): {line}\n{type(error).__name__}: {error}") from None
        finally:
            stream.client.close()

    def squeeze(self, came, form):
        """JSON text as json.dumps writes it, whatever the publisher's blanks."""
        for item in came.get("msgs", {}).get("items", ()) if form == "msgpack" else ():
            if item.get("type") == "application/json":
                item["data"] = json.dumps(json.loads(item["data"]))
        return came

    def test_page_has_every_command_every_error_and_every_close_code_of_the_source(self):
        with open(PAGE, encoding="utf-8") as page:
            text = page.read()
        source = os.path.join(os.path.dirname(PAGE), "..", "dispatcher")
        with open(os.path.join(source, "dsp_proto.h"), encoding="utf-8") as header:
            proto = header.read()
        codes = re.findall(r'X\([A-Z_]+, "([a-z_]+)"\)', proto)
        closes = re.findall(r"DSP_CLOSE_[A-Z_]+ = (3\d+)", proto)
        self.assertGreater(len(codes), 10)
        self.assertGreater(len(closes), 4)
        with open(os.path.join(source, "dsp_proto.c"), encoding="utf-8") as code:
            verbs = re.findall(r'\{"([a-z]+)",\s+DSP_VERB_', code.read())
        self.assertGreater(len(verbs), 7)
        for word in codes:
            self.assertIn(f"`{word}`", text)
        for word in closes:
            self.assertIn(f"| {word} |", text)
        for word in verbs:
            self.assertRegex(text, rf'(?m)^> .*"{word}":')

    def check_page(self, form):
        brokers, names, ran = {}, {}, 0
        for line, kind, lines in blocks():
            if kind not in brokers:
                brokers[kind], names[kind] = self.begin(kind), Names()
            if kind == "retention":
                names[kind].real["1"] = "1"
            with self.subTest(line=line, form=form):
                self.run_block(*brokers[kind], names[kind], form, lines)
            ran += 1
        self.assertGreater(ran, 8)
        for broker, _http in brokers.values():
            broker.stop()

    def test_examples_in_json(self):
        self.check_page("json")

    def test_examples_in_msgpack(self):
        self.check_page("msgpack")


if __name__ == "__main__":
    unittest.main(verbosity=2)
