#!/usr/bin/python3
"""The HTTP port over real sockets, with a whole broker behind it: streams, formats, what goes with a message, readiness, limits.

Ownership: one broker for most cases, with topics of their own; some have their own.
Units: seconds, bytes.
Errors: unittest.
Callers: ctest, as integration.http.
"""

import gzip
import json
import os
import signal
import socket
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import Broker, memory_bound, wait_until  # noqa: E402
from cases import HOST, WAIT_S, Case  # noqa: E402
from certs import Authority  # noqa: E402

SHARED = {}
RECORD_BYTES = 16384
NDJSON = "application/x-ndjson"


def setUpModule():
    SHARED["broker"] = Broker(settings={"ingest.stream_record_bytes": RECORD_BYTES, "ingest.gzip": "on",
                                        "ingest.cors_origins": "https://page.example"}).start()


def tearDownModule():
    SHARED["broker"].stop()


class Raw:
    """A connection of bytes."""

    def __init__(self, port):
        self.sock = socket.create_connection((HOST, port), timeout=WAIT_S)
        self.held = b""

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def more(self):
        data = self.sock.recv(65536)
        self.held += data
        return data

    def reply(self, body=True):
        """(status, {header: value}, body), also 1xx."""
        while b"\r\n\r\n" not in self.held:
            if not self.more():
                raise EOFError(f"closed after {self.held!r}")
        head, self.held = self.held.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        size = int(headers.get("content-length", 0)) if body else 0
        while len(self.held) < size:
            if not self.more():
                raise EOFError("closed within a body")
        data, self.held = self.held[:size], self.held[size:]
        return int(first.split(" ")[1]), headers, data

    def at_end(self):
        while True:
            try:
                if not self.more():
                    return self.held == b""
            except ConnectionResetError:
                return True

    def close(self):
        self.sock.close()


class Http(Case):
    def setUp(self):
        self.one = SHARED["broker"]

    def raw(self, broker=None):
        connection = Raw((broker or self.one).http_port)
        self.addCleanup(connection.close)
        return connection

    def post(self, path, body, kind, *headers, broker=None):
        connection = self.raw(broker)
        body = body if isinstance(body, bytes) else body.encode()
        connection.send("".join((f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n",
                                 *(line + "\r\n" for line in headers), "\r\n")).encode() + body)
        status, fields, data = connection.reply()
        return status, fields, json.loads(data) if data else None

    def received(self, topic, count, broker=None):
        reader = self.v1(broker or self.one)
        return reader.items(reader.subscribe(topic, since="earliest"), count)


class Streams(Http):
    def lines(self, topic, body, *headers, broker=None):
        return self.post(f"/v1/topics/{topic}/batch", body, NDJSON, *headers, broker=broker)

    def test_lines_of_every_kind_arrive_in_order_and_bad_ones_are_named(self):
        body = '"one"\n\n{"data":{"n":2},"id":"s-2"}\r\nnot json\n{"data":"three","type":"text/csv"}\n{"novel":1}\n"four"'
        status, _, answer = self.lines("s.kinds", body)
        self.assertEqual((status, answer["count"], answer["rejected"], answer["lines"]), (207, 4, 2, 7), answer)
        self.assertEqual([error["line"] for error in answer["errors"]], [4, 6])
        items = self.received("s.kinds", 4)
        self.assertEqual([item["data"] for item in items], ["one", {"n": 2}, "three", "four"])
        self.assertEqual(items[2]["type"], "text/csv")
        self.assertEqual(items[0]["id"], answer["records"][0]["id"])

    def test_a_stream_without_an_end_is_delivered_while_it_comes(self):
        reader = self.v1(self.one)
        sub = reader.subscribe("s.live", since="earliest")
        stream = self.raw()
        stream.send(f"POST /v1/topics/s.live/batch HTTP/1.1\r\nHost: h\r\nContent-Type: {NDJSON}\r\n"
                    "Transfer-Encoding: chunked\r\n\r\n")
        line = json.dumps("x" * 1000).encode() + b"\n"
        chunk = b"%x\r\n%s\r\n" % (len(line), line)
        sent = 80
        stream.send(chunk * sent)
        self.assertGreaterEqual(len(reader.items(sub, RECORD_BYTES // len(line))), RECORD_BYTES // len(line))
        stream.send(b"0\r\n\r\n")
        status, _, data = stream.reply()
        answer = json.loads(data)
        self.assertEqual((status, answer["count"], answer["ack"]), (200, sent, "durable"))
        self.assertGreater(len(answer["records"]), 2)
        self.assertEqual(sum(record["count"] for record in answer["records"]), sent)

    def test_a_large_stream_takes_bounded_memory_and_loses_nothing(self):
        one = self.broker(settings={"log.retention_bytes": 1 << 30})
        pid = one.processes["ingest", 0].child.pid
        self.assertEqual(200, self.lines("big", '"warm"\n' * 100000, broker=one)[0])

        def resident():
            with open(f"/proc/{pid}/statm", encoding="ascii") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        before, most, size = resident(), 0, 96 << 20
        line = json.dumps("y" * 497).encode() + b"\n"
        part = line * 1000
        count = size // len(part) * 1000
        stream = self.raw(one)
        stream.send(f"POST /v1/topics/big/batch HTTP/1.1\r\nHost: h\r\nContent-Type: {NDJSON}\r\n"
                    f"Content-Length: {count * len(line)}\r\n\r\n")
        for _ in range(count // 1000):
            stream.send(part)
            most = max(most, resident())
        status, _, data = stream.reply()
        answer = json.loads(data)
        self.assertEqual((status, answer["count"], answer["rejected"]), (200, count, 0))
        # The arena is shared memory that becomes resident as it is used; the rest is the buffers of one stream.
        self.assertLess(most - before, memory_bound(one.build, (132 << 20) + (24 << 20)))

    def test_a_retry_after_a_cut_stream_gives_every_line_once(self):
        one = self.broker(settings={"ingest.stream_record_bytes": RECORD_BYTES})
        lines = "".join(json.dumps({"data": f"{n:0100}", "id": f"retry-{n}"}) + "\n" for n in range(2000))
        stream = self.raw(one)
        stream.send(f"POST /v1/topics/retry/batch HTTP/1.1\r\nHost: h\r\nContent-Type: {NDJSON}\r\n"
                    f"Content-Length: {len(lines)}\r\n\r\n" + lines[:len(lines) // 2])
        wait_until(lambda: self.counters(one, "ingest")["records"] >= 3, WAIT_S, "some records")
        one.kill("ingest", 0)
        one.spawn("ingest", 0)
        one.wait_ready()
        status, _, answer = self.lines("retry", lines, broker=one)
        self.assertEqual((status, answer["count"], answer["rejected"]), (200, 2000, 0), answer)
        self.assertGreater(answer["duplicates"], 0)
        items = self.received("retry", 2000, one)
        self.assertEqual([int(item["data"]) for item in items], list(range(2000)))
        one.stop()

    def test_a_stream_over_tls_goes_on_after_every_wait(self):
        """Each record waits for the log; what came meanwhile may lie in the session and not in the socket."""
        home = tempfile.TemporaryDirectory(prefix="cmq-http-")
        self.addCleanup(home.cleanup)
        authority = Authority(home.name)
        server = authority.issue_server("server")
        one = self.broker(tls=authority.context(), settings={
            "tls.cert_file": server.cert, "tls.key_file": server.key, "ingest.stream_record_bytes": RECORD_BYTES})
        lines = "".join(json.dumps(f"{n:0200}") + "\n" for n in range(5000))
        reply = self.http(one).post("/v1/topics/tls/batch", lines, NDJSON)
        self.assertEqual((reply.status, reply.body["count"], reply.body["ack"]), (200, 5000, "durable"))
        self.assertGreater(len(reply.body["records"]), 20)
        self.assertEqual([int(item["data"]) for item in self.received("tls", 5000, one)], list(range(5000)))

    def test_an_id_with_another_content_stops_the_stream_with_409(self):
        self.assertEqual(200, self.lines("s.conflict", '{"data":"a","id":"c-1"}\n')[0])
        status, _, answer = self.lines("s.conflict", '{"data":"b","id":"c-1"}\n')
        self.assertEqual((status, answer["type"], answer["count"]), (409, "/problems/idempotency-conflict", 0))

    def test_a_compressed_stream_is_taken(self):
        lines = "".join(json.dumps(f"{n:0200}") + "\n" for n in range(1000))
        status, _, answer = self.lines("s.gzip", gzip.compress(lines.encode()), "Content-Encoding: gzip")
        self.assertEqual((status, answer["count"]), (200, 1000), answer)
        self.assertGreater(len(answer["records"]), 2)
        self.assertEqual([int(item["data"]) for item in self.received("s.gzip", 1000)], list(range(1000)))

    def test_a_log_that_stops_in_the_middle_is_told_with_what_was_kept(self):
        one = self.broker(settings={"ingest.stream_record_bytes": RECORD_BYTES, "ingest.durable_wait_ms": 500})
        line = json.dumps("z" * 1000) + "\n"
        stream = self.raw(one)
        stream.send(f"POST /v1/topics/stop/batch HTTP/1.1\r\nHost: h\r\nContent-Type: {NDJSON}\r\n"
                    f"Content-Length: 100000000\r\n\r\n" + line * 40)
        wait_until(lambda: self.counters(one, "ingest")["records"] >= 1 and one.delivered_all(), WAIT_S, "a record")
        one.signal("encryptor", 0, signal.SIGSTOP)
        stream.send(line * 60)
        status, fields, data = stream.reply()
        answer = json.loads(data)
        self.assertEqual((status, answer["type"]), (503, "/problems/not-durable"), answer)
        self.assertEqual(fields["connection"], "close")
        self.assertGreaterEqual(answer["count"], 16)
        self.assertEqual(answer["lines"], answer["count"])
        one.signal("encryptor", 0, signal.SIGCONT)


class Formats(Http):
    def test_msgpack_arrives_as_what_it_is(self):
        body = (b"\x93\xa3one\xc4\x03\x00\xff\x80\x83\xa4data\xa3two\xa4type\xa8text/csv\xa2id\xa3m-1")
        status, _, answer = self.post("/v1/topics/f.msgpack/batch", body, "application/msgpack")
        self.assertEqual((status, answer["count"]), (200, 3), answer)
        reader = self.v1(self.one, "msgpack")
        items = reader.items(reader.subscribe("f.msgpack", since="earliest"), 3)
        self.assertEqual([item["data"] for item in items], ["one", b"\x00\xff\x80", "two"])
        self.assertEqual(items[2]["type"], "text/csv")

    def test_events_arrive_in_all_three_modes(self):
        event = {"specversion": "1.0", "id": "e1", "source": "/s", "type": "t", "subject": "17", "data": {"n": 1}}
        kind = "application/cloudevents+json"
        self.assertEqual(200, self.post("/v1/topics/f.events", json.dumps(event), kind)[0])
        octets = {**event, "id": "e2", "data_base64": "AP8=", "datacontenttype": "image/png"}
        del octets["data"]
        batch = json.dumps([event, octets])
        self.assertEqual(200, self.post("/v1/topics/f.events/batch", batch, "application/cloudevents-batch+json")[0])
        self.assertEqual(200, self.post("/v1/topics/f.events", '{"n":3}', "application/json", "ce-specversion: 1.0", "CE-ID: e3",
                                        "ce-source: /s", "ce-type: t", "ce-subject: caf%C3%A9")[0])
        items = self.received("f.events", 4)
        self.assertEqual([items[0]["data"], items[1]["data"], items[3]["data"]], [{"n": 1}, {"n": 1}, {"n": 3}])
        self.assertEqual(items[2]["type"], "image/png")
        for item, number in zip(items, ("e1", "e1", "e2", "e3")):
            self.assertEqual(item["headers"]["ce-id"], number)
            self.assertEqual(item["headers"]["ce-source"], "/s")
        self.assertEqual(items[3]["headers"]["ce-subject"], "caf\u00e9")
        status, _, answer = self.post("/v1/topics/f.events", "x", "text/plain", "ce-specversion: 1.0", "ce-id: e")
        self.assertEqual((status, answer["type"]), (400, "/problems/bad-header"))
        status, _, answer = self.post("/v1/topics/f.events", '{"specversion":"1.0"}', kind)
        self.assertEqual((status, answer["type"]), (400, "/problems/malformed-event"))

    def test_headers_go_with_every_message_and_elements_have_their_own(self):
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        body = json.dumps(["plain", {"data": "own", "headers": {"color": "blue", "size": "l"}}])
        status, _, answer = self.post("/v1/topics/f.headers/batch", body, "application/json", f"traceparent: {trace}",
                                      "tracestate: a=1", "CMQ-Meta-Color: red")
        self.assertEqual(status, 200, answer)
        items = self.received("f.headers", 2)
        self.assertEqual(items[0]["headers"], {"traceparent": trace, "tracestate": "a=1", "color": "red"})
        self.assertEqual(items[1]["headers"], {"traceparent": trace, "tracestate": "a=1", "color": "blue", "size": "l"})
        for line, part in (("CMQ-Meta-: x", ""), ("CMQ-Meta-A: " + "v" * 5000, ""), ("CMQ-Meta-\u00e9: x", None)):
            status, _, answer = self.post("/v1/topics/f.headers", "x", "text/plain", line)
            self.assertEqual(status, 400, (line, answer))

    def test_what_is_older_than_its_lifetime_is_not_delivered(self):
        body = json.dumps([{"data": "short", "ttl_ms": 1}, {"data": "long", "ttl_ms": 600000}, "of the request"])
        self.assertEqual(200, self.post("/v1/topics/f.ttl/batch", body, "application/json", "CMQ-TTL: 10m")[0])
        self.assertEqual(200, self.post("/v1/topics/f.ttl", "gone", "text/plain", "CMQ-TTL: 1ms")[0])
        self.assertEqual(200, self.post("/v1/topics/f.ttl", "there", "text/plain")[0])
        begin = time.monotonic()
        wait_until(lambda: time.monotonic() - begin > 0.01, 1, "they are over")
        self.assertEqual([item["data"] for item in self.received("f.ttl", 3)], ["long", "of the request", "there"])
        for wrong in ("0", "soon", "-1s", "999999999d"):
            status, _, answer = self.post("/v1/topics/f.ttl", "x", "text/plain", f"CMQ-TTL: {wrong}")
            self.assertEqual((status, answer["type"]), (400, "/problems/bad-header"), wrong)

    def test_compressed_bodies_are_taken_where_they_are_on_and_bombs_are_not(self):
        body = gzip.compress(json.dumps(["a", "b"]).encode())
        status, _, answer = self.post("/v1/topics/f.gzip/batch", body, "application/json", "Content-Encoding: gzip")
        self.assertEqual((status, answer["count"]), (200, 2), answer)
        bomb = gzip.compress(bytes(200 << 20))
        status, _, answer = self.post("/v1/topics/f.gzip", bomb, "text/plain", "Content-Encoding: gzip")
        self.assertEqual((status, answer["type"]), (413, "/problems/too-large"))
        off = self.broker()
        status, _, answer = self.post("/v1/topics/f.gzip/batch", body, "application/json", "Content-Encoding: gzip", broker=off)
        self.assertEqual((status, answer["type"]), (415, "/problems/unsupported-content-coding"))


class Port(Http):
    def test_a_client_that_expects_to_be_asked_is_asked_or_refused(self):
        head = "POST /v1/topics/{} HTTP/1.1\r\nHost: h\r\nContent-Type: {}\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n"
        one = self.raw()
        one.send(head.format("p.expect/batch", NDJSON, 4))
        self.assertEqual(one.reply()[0], 100)
        one.send('"a"\n')
        self.assertEqual(one.reply()[0], 200)
        one.send(head.format("p..x", "text/plain", 1 << 20))
        self.assertEqual(one.reply()[0], 400)
        self.assertTrue(one.at_end())

    def test_pipelined_requests_of_all_kinds_are_answered_in_order(self):
        one = self.raw()
        one.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n"
                 f"POST /v1/topics/p.pipe/batch HTTP/1.1\r\nHost: h\r\nContent-Type: {NDJSON}\r\nContent-Length: 8\r\n\r\n\"a\"\n\"b\"\n"
                 "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n"
                 "POST /v1/topics/p.pipe HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nc"
                 "GET /nowhere HTTP/1.1\r\nHost: h\r\n\r\nGET /readyz HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertEqual([one.reply()[0] for _ in range(6)], [200, 200, 204, 200, 404, 200])
        self.assertEqual([item["data"] for item in self.received("p.pipe", 3)], ["a", "b", "c"])

    def test_pages_of_other_origins(self):
        one = self.raw()
        one.send("OPTIONS /v1/topics/a HTTP/1.1\r\nHost: h\r\nOrigin: https://page.example\r\n"
                 "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization,content-type\r\n\r\n")
        status, fields, _ = one.reply()
        self.assertEqual((status, fields["access-control-allow-origin"], fields["access-control-allow-methods"],
                          fields["access-control-allow-headers"]),
                         (204, "https://page.example", "POST, OPTIONS", "authorization,content-type"))
        status, fields, _ = self.post("/v1/topics/p.cors", "x", "text/plain", "Origin: https://page.example")
        self.assertEqual((status, fields["access-control-allow-origin"], fields["vary"]), (200, "https://page.example", "Origin"))
        status, fields, _ = self.post("/v1/topics/p.cors", "x", "text/plain", "Origin: https://other.example")
        self.assertEqual(status, 200)
        self.assertNotIn("access-control-allow-origin", fields)

    def test_tokens_in_a_url_are_refused_and_not_logged(self):
        secret = "cmq_" + "S" * 43
        for path in (f"/v1/topics/a?token={secret}", f"/input?x=1&access_token={secret}", f"/readyz?api_key={secret}"):
            one = self.raw()
            one.send(f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx")
            status, _, data = one.reply()
            self.assertEqual((status, json.loads(data)["type"]), (400, "/problems/token-in-url"), path)
        self.assertNotIn(secret, self.one.log_tails(1000))

    def test_ready_is_false_without_an_encryptor_and_true_again_with_one(self):
        one = self.broker()

        def ready():
            connection = self.raw(one)
            connection.send("GET /readyz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            status, _, data = connection.reply()
            connection.close()
            return status, json.loads(data).get("detail", "")

        wait_until(lambda: ready()[0] == 200, WAIT_S, "ready")
        one.kill("encryptor", 0)
        wait_until(lambda: ready() == (503, "No encryptor is alive."), WAIT_S, "not ready")
        one.spawn("encryptor", 0)
        wait_until(lambda: ready()[0] == 200, WAIT_S, "ready again")
        one.stop()

    def test_an_address_has_its_share_of_connections_and_gets_it_back(self):
        one = self.broker(settings={"ingest.address_connections_max": 10})
        held = [self.raw(one) for _ in range(10)]
        for connection in held:
            connection.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
            self.assertEqual(connection.reply()[0], 200)
        over = self.raw(one)
        self.assertTrue(over.at_end())
        self.assertGreaterEqual(self.counters(one, "ingest")["refused_address"], 1)
        for connection in held:
            connection.close()
        wait_until(lambda: self.counters(one, "ingest")["clients"] == 0, WAIT_S, "all are gone")
        again = self.raw(one)
        again.send("GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n")
        self.assertEqual(again.reply()[0], 200)


if __name__ == "__main__":
    unittest.main(verbosity=2)
