#!/usr/bin/python3
"""Reading without an SDK: /t/{topic}/json, /sse and /ws with curl, as an EventSource does it, and with a bare WebSocket.

Ownership: each case has a broker of its own; streams and sockets end with it.
Units: messages, bytes, seconds.
Errors: unittest.
Callers: ctest, as integration.no_sdk.
"""

import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import memory_bound, wait_until  # noqa: E402
from cases import HOST, WAIT_S, Case  # noqa: E402
from certs import Authority  # noqa: E402
from eventsource import EventSource, curl  # noqa: E402
from tokens import TokenFile  # noqa: E402
from wsclient import TEXT, WsClient, WsClosed, WsError  # noqa: E402

MIB = 1 << 20
SMALL_LOG = {"ingest.request_bytes_max": 524288, "ingest.message_bytes_max": 131072, "log.segment_bytes": MIB,
             "log.retention_bytes": 3 * MIB, "ring.slots": 64}


def lines_of(body):
    assert body == b"" or body.endswith(b"\n"), body[-100:]
    return [json.loads(line) for line in body.splitlines()]


class NoSdk(Case):
    def url(self, broker, path):
        return f"{'https' if broker.tls else 'http'}://{HOST}:{broker.ws_port}/t/{path}"

    def json(self, broker, path, *args):
        """The items of an answer that must be right."""
        code, status, headers, body = curl(*args, self.url(broker, path))
        self.assertEqual((0, 200, "application/x-ndjson"), (code, status, headers.get("content-type")), body)
        return lines_of(body)

    def events(self, broker, path, *args, **options):
        source = EventSource(self.url(broker, path), *args, **options)
        self.addCleanup(source.close)
        return source

    def ws(self, broker, path, **options):
        ws = WsClient(HOST, broker.ws_port, "/t/" + path, WAIT_S, tls=broker.tls, **options)
        self.addCleanup(ws.close)
        return ws

    def raw(self, broker, *requests, receive_buffer=None):
        sock = socket.socket()
        self.addCleanup(sock.close)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(WAIT_S)
        sock.connect((HOST, broker.ws_port))
        sock.sendall(b"".join(f"GET /t/{path} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode() for path in requests))
        return sock

    def all_of(self, sock):
        data = b""
        try:
            while True:
                part = sock.recv(1 << 20)
                if not part:
                    return data
                data += part
        except ConnectionResetError:
            return data

    def counter(self, broker, name):
        return sum(member["counters"][name] for member in broker.members() if member["stage"] == "dispatcher")

    def resident(self, broker):
        with open(f"/proc/{broker.processes[('dispatcher', 0)].child.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))

    def refused(self, broker, path, expected, part, *args):
        code, status, headers, body = curl(*args, self.url(broker, path))
        self.assertEqual((0, expected), (code, status), (path, body))
        problem = json.loads(body)
        self.assertEqual("application/problem+json", headers["content-type"])
        self.assertEqual(expected, problem["status"])
        self.assertIn(part, problem["detail"])
        return headers

    # ---- json ----

    def test_curl_alone_publishes_and_reads(self):
        broker = self.broker()
        published = curl("--data-binary", "hello", "-H", "Content-Type: text/plain",
                         f"http://{HOST}:{broker.http_port}/v1/topics/greetings")
        first = json.loads(published[3])["id"]
        item, = self.json(broker, "greetings/json")
        self.assertEqual({"topic": "greetings", "id": first, "data": "hello"},
                         {name: item[name] for name in ("topic", "id", "data")})
        self.assertEqual([], self.json(broker, f"greetings/json?since={first}"))
        self.assertEqual([], self.json(broker, "nothing/json"))
        self.stop(broker)

    def test_json_has_what_is_there_and_goes_on_behind_an_id(self):
        broker = self.broker()
        client = self.http(broker)
        for i in range(5):
            client.publish("a.b", *[f"m{i}-{j}" for j in range(100)])
        items = self.json(broker, "a.b/json")
        self.assertEqual([f"m{i}-{j}" for i in range(5) for j in range(100)], [item["data"] for item in items])
        parts, since = [], "earliest"
        while part := self.json(broker, f"a.b/json?limit=70&since={since}"):
            self.assertLessEqual(len(part), 70)
            parts += part
            since = part[-1]["id"]
        self.assertEqual(items, parts)
        self.stop(broker)

    def test_json_waits_for_a_first_message_and_no_longer(self):
        broker = self.broker(settings={"dispatcher.poll_wait_ms_max": 1000})
        # Bounded by the setting: this ends although nothing comes.
        self.assertEqual([], self.json(broker, "never/json?wait_ms=600000&since=latest"))
        self.stop(broker)
        broker = self.broker()
        sock = self.raw(broker, "later/json?wait_ms=30000")
        wait_until(lambda: self.counter(broker, "clients") == 1, WAIT_S, "it waits")
        self.http(broker).publish("other", "not this")
        first = self.http(broker).publish("later", "now")
        data = self.all_of(sock)
        self.assertIn(f'"id":"{first}","data":"now"'.encode(), data)
        self.assertTrue(data.endswith(b"\r\n0\r\n\r\n"), data)
        self.stop(broker)

    def test_line_breaks_in_json_do_not_break_lines(self):
        broker = self.broker()
        body = '{\r\n  "a": [1,\n 2],\r\n  "text": "one\\ntwo"\r\n}\n'
        client = self.http(broker)
        client.post("/v1/topics/doc", body)
        client.post("/v1/topics/doc", b"\xff\n\x00", "application/octet-stream")
        items = self.json(broker, "doc/json")
        self.assertEqual(json.loads(body), items[0]["data"])
        self.assertEqual("/woA", items[1]["data_base64"])
        source = self.events(broker, "doc/sse?since=earliest")
        self.assertEqual(items, [json.loads(source.event().data) for _ in items])
        self.stop(broker)

    def test_http_1_0_gets_no_chunks(self):
        broker = self.broker()
        self.http(broker).publish("old", "news")
        code, status, headers, body = curl("--http1.0", self.url(broker, "old/json"))
        self.assertEqual((0, 200), (code, status))
        self.assertNotIn("transfer-encoding", headers)
        self.assertEqual("news", lines_of(body)[0]["data"])
        source = self.events(broker, "old/sse?since=earliest", "--http1.0")
        self.assertEqual("news", json.loads(source.event().data)["data"])
        self.stop(broker)

    # ---- events ----

    def test_events_are_live_and_a_browser_goes_on_where_it_was(self):
        broker = self.broker(settings={"dispatcher.sse_retry_ms": 1234})
        client = self.http(broker)
        client.publish("o.eu", "before")
        source = self.events(broker, "o.*/sse")
        self.assertIsNone(source.block())   # where it is, and how soon to come again
        self.assertEqual(1234, source.retry)
        self.assertTrue(source.last_id)
        first = client.publish("o.eu", "one")
        event = source.event()
        self.assertEqual(("message", first), (event.kind, event.id))
        item = json.loads(event.data)
        self.assertEqual(("o.eu", first, "one"), (item["topic"], item["id"], item["data"]))
        source.close()
        ids = [client.publish(f"o.{i}", f"while away {i}") for i in range(3)]
        client.publish("other", "not this")
        source.connect()
        self.assertEqual(ids, [source.event().id for _ in ids])
        self.stop(broker)

    def test_browser_that_saw_no_message_misses_none_either(self):
        broker = self.broker()
        source = self.events(broker, "quiet/sse")
        self.assertIsNone(source.block())
        source.close()
        missed = self.http(broker).publish("quiet", "while away")
        source.connect()
        self.assertEqual(missed, source.event().id)
        self.stop(broker)

    def test_heartbeat_says_how_far_it_is(self):
        broker = self.broker(settings={"dispatcher.ping_s": 1})
        source = self.events(broker, "quiet/sse")
        self.assertIsNone(source.block())
        begin = source.last_id
        self.assertIsNone(source.block())
        self.assertEqual((1, begin), (source.comments, source.last_id))
        other = self.http(broker).publish("busy", "x")
        wait_until(lambda: source.block() is None and source.last_id != begin, WAIT_S, "the place moves")
        self.assertEqual(other.split("-")[0], source.last_id.split("-")[0])
        self.assertEqual(b"{}", self.ws(broker, "quiet/ws").receive(WAIT_S))
        self.stop(broker)

    def test_gap_is_an_event_once_and_a_line(self):
        broker = self.broker(settings=SMALL_LOG)
        client = self.http(broker)
        for i in range(100):
            client.publish("fill", f"{i:03d}" + "x" * 60000)
        wait_until(lambda: self.json(broker, "fill/json?limit=1&since=1-0")[0].get("gap"), WAIT_S, "the oldest are gone")
        source = self.events(broker, "fill/sse", last_id="1-0")
        event = source.event()
        self.assertEqual("gap", event.kind)
        gap = json.loads(event.data)
        self.assertEqual(("1-1", "retention"), (gap["from"], gap["reason"]))
        first = source.event()
        self.assertEqual(gap["to"], first.id)
        source.close()
        again = self.events(broker, "fill/sse", last_id=event.id)
        self.assertEqual(first.id, again.event().id)
        lines = self.json(broker, "fill/json?since=1-0")
        self.assertEqual(gap, lines[0]["gap"])
        numbers = [int(item["data"][:3]) for item in lines[1:]]
        self.assertEqual(list(range(numbers[0], 100)), numbers)
        self.stop(broker)

    def test_reader_that_stops_costs_no_memory_and_gets_everything_later(self):
        broker = self.broker(settings={"dispatcher.write_timeout_ms": 600000})
        client = self.http(broker)
        for i in range(4):
            client.publish("bulk", *[f"{i}-{j}" + "x" * 60000 for j in range(100)])
        self.json(broker, "bulk/json")   # what the cache keeps is there now
        before = self.resident(broker)
        slow = [self.raw(broker, f"bulk/{kind}?since=earliest", receive_buffer=65536) for kind in ("sse", "json") for _ in range(5)]
        wait_until(lambda: self.counter(broker, "clients") == len(slow), WAIT_S, "all are there")
        for sock in slow:
            self.assertTrue(sock.recv(1000, socket.MSG_PEEK))
        seen = []
        wait_until(lambda: seen.append(self.counter(broker, "frames")) or seen[-3:] == seen[-1:] * 3, WAIT_S, "all are stuck", 0.1)
        self.assertLess(self.resident(broker) - before, memory_bound(broker.build, 24 * MIB))
        data = self.all_of(slow[-1])
        self.assertEqual(400, data.count(b'"topic":"bulk"'))
        self.assertTrue(data.endswith(b"0\r\n\r\n"))
        data = b""
        while data.count(b"event: message") < 400:
            data += slow[0].recv(1 << 20)
        for sock in slow:
            sock.close()
        self.stop(broker)

    def test_reader_that_takes_nothing_is_dropped(self):
        broker = self.broker(settings={"dispatcher.write_timeout_ms": 300})
        self.http(broker).publish("bulk", *["x" * 60000 for _ in range(200)])
        self.raw(broker, "bulk/json", receive_buffer=4096)
        wait_until(lambda: self.counter(broker, "clients_dropped") == 1, WAIT_S, "it is dropped")
        wait_until(lambda: self.counter(broker, "clients") == 0, WAIT_S, "it is gone")
        self.stop(broker)

    # ---- WebSocket ----

    def test_ws_has_frames_of_v1_without_a_handshake(self):
        broker = self.broker()
        client = self.http(broker)
        client.publish("t", "before")
        ws = self.ws(broker, "t/ws")
        old = self.ws(broker, "*/ws?since=earliest")
        message = json.loads(old.receive(WAIT_S))["msgs"]
        self.assertEqual((1, "t", "before"), (message["sub"], message["topic"], message["items"][0]["data"]))
        new = client.publish("t", "new")
        message = json.loads(ws.receive(WAIT_S))["msgs"]
        self.assertEqual([(new, "new")], [(item["id"], item["data"]) for item in message["items"]])
        v1 = self.v1(broker)
        items = [{"topic": "t", **item} for item in message["items"]]
        self.assertEqual(items, v1.items(v1.subscribe("t", since="1-0"), 1))
        self.assertEqual(items, self.json(broker, "t/json?since=1-0"))
        ws.send(b"what clients say is ignored", TEXT)
        client.publish("t", "more")
        self.assertIn(b'"more"', ws.receive(WAIT_S))
        with self.assertRaises(WsClosed) as caught:
            ws.send(b"x" * 70000, TEXT)
            ws.receive(WAIT_S)
        self.assertEqual(3501, caught.exception.code)
        self.stop(broker)

    def test_subprotocol_is_none_or_its_own(self):
        broker = self.broker()
        self.assertEqual("ciphermq.topic.json", self.ws(broker, "t/ws", subprotocol="ciphermq.topic.json").subprotocol)
        self.assertIsNone(self.ws(broker, "t/ws").subprotocol)
        for path, names in [("/t/t/ws", "ciphermq.v1.json"), ("/t/t/ws", "cmq-root"), ("/t/t/ws", "chat"),
                            ("/t/t/ws", "ciphermq.topic.json, ciphermq.v1.json"), ("/v1/ws", "ciphermq.topic.json"),
                            ("/v1/ws", "ciphermq.topic.json, ciphermq.v1.json"), ("/", "ciphermq.topic.json"),
                            ("/t/t/sse", None), ("/t/t/json", None), ("/t/t/ws?since=x", None), ("/t/t/ws?limit=1", None)]:
            with self.assertRaises(WsError) as caught:
                WsClient(HOST, broker.ws_port, path, WAIT_S, subprotocol=names)
            self.assertIn("400", str(caught.exception), (path, names))
        with self.assertRaises(WsError) as caught:
            WsClient(HOST, broker.ws_port, "/t/t/xs", WAIT_S)
        self.assertIn("404", str(caught.exception))
        self.stop(broker)

    # ---- requests ----

    def test_topics_may_be_patterns_written_any_way(self):
        broker = self.broker()
        client = self.http(broker)
        for topic in ("a", "a.b", "a.b.c", "x.b"):
            client.publish(topic, topic)
        for path, topics in [("a.*", ["a.b"]), ("a.%2A", ["a.b"]), ("a.>", ["a.b", "a.b.c"]), ("a.%3E", ["a.b", "a.b.c"]),
                             ("*.b", ["a.b", "x.b"]), (">", ["a", "a.b", "a.b.c", "x.b"]), ("a%2eb", ["a.b"])]:
            self.assertEqual(topics, [item["topic"] for item in self.json(broker, path + "/json")], path)
        self.stop(broker)

    def test_what_is_wrong_with_a_request_is_said_with_the_fix(self):
        broker = self.broker()
        self.refused(broker, "t/json?since=yesterday", 400, "earliest")
        self.refused(broker, "t/json?since=99-0", 400, "no message has that id yet")
        self.refused(broker, "t/sse", 400, "since", "-H", "Last-Event-ID: nonsense")
        self.refused(broker, "t/sse", 400, "Last-Event-ID", "-H", "Last-Event-ID: " + "9" * 200)
        self.refused(broker, "t/json?sinse=1-0", 400, "limit=<messages>")
        self.refused(broker, "t/sse?limit=3", 400, "since=<id>, and nothing else")
        self.refused(broker, "t/json?limit=0", 400, "at least 1")
        self.refused(broker, "t/json?wait_ms=soon", 400, "milliseconds")
        self.refused(broker, "t/json?since=" + "9" * 200, 400, "too long")
        self.refused(broker, "t/json?" + "&".join(["limit=1"] * 9), 400, "too long")
        self.refused(broker, "a..b/json", 400, "empty level")
        self.refused(broker, "a.%22/json", 400, "byte")
        self.refused(broker, "t/xml", 404, "/t/{topic}/json")
        self.refused(broker, "t", 404, "/t/{topic}/json")
        self.refused(broker, "x" * 290 + "/json", 400, "too long")
        self.refused(broker, "t/json?token=cmq_secret", 400, "URL")
        self.assertEqual("websocket", self.refused(broker, "t/ws", 426, "WebSocket")["upgrade"])
        allow = self.refused(broker, "t/json", 405, "POST", "-d", "x")["allow"]
        self.assertEqual("GET, HEAD, OPTIONS", allow)
        self.refused(broker, "t/json", 405, "POST", "-X", "DELETE")
        self.refused(broker, "t/json", 400, "body", "-X", "GET", "-d", "x")
        self.stop(broker)

    def test_head_and_options(self):
        broker = self.broker()
        for kind, media in [("sse", "text/event-stream"), ("json", "application/x-ndjson")]:
            code, status, headers, body = curl("--head", self.url(broker, "t/" + kind))
            self.assertEqual((0, 200, media, b""), (code, status, headers["content-type"], body))
            self.assertIn("cmq-since", headers)
        code, status, _, body = curl("--head", self.url(broker, "t/json?since=x"))
        self.assertEqual((0, 400, b""), (code, status, body))
        code, status, headers, body = curl("-X", "OPTIONS", self.url(broker, "t/sse"))
        self.assertEqual((0, 204, "GET, HEAD, OPTIONS", b""), (code, status, headers["allow"], body))
        self.assertNotIn("access-control-allow-origin", headers)
        self.stop(broker)

    def test_pages_of_allowed_origins_may_read_and_others_may_not(self):
        broker = self.broker(settings={"dispatcher.origins": "https://app.example"})
        self.http(broker).publish("t", "x")
        for origin in ("https://app.example", "http://localhost:5173", f"http://{HOST}:{broker.ws_port}"):
            code, status, headers, body = curl("-H", f"Origin: {origin}", self.url(broker, "t/json"))
            self.assertEqual((0, 200, origin, "origin"),
                             (code, status, headers["access-control-allow-origin"], headers["vary"]))
            self.assertIn("cmq-since", headers["access-control-expose-headers"])
            self.assertEqual(1, len(lines_of(body)))
            headers = curl("-X", "OPTIONS", "-H", f"Origin: {origin}", "-H", "Access-Control-Request-Method: GET",
                           "-H", "Access-Control-Request-Headers: authorization", self.url(broker, "t/sse"))[2]
            self.assertEqual(origin, headers["access-control-allow-origin"])
            self.assertIn("authorization", headers["access-control-allow-headers"])
            headers = self.refused(broker, "t/json?since=x", 400, "earliest", "-H", f"Origin: {origin}")
            self.assertEqual(origin, headers["access-control-allow-origin"])
        for kind in ("json", "sse"):
            headers = self.refused(broker, "t/" + kind, 403, "dispatcher.origins", "-H", "Origin: https://evil.example")
            self.assertNotIn("access-control-allow-origin", headers)
        headers = curl("-X", "OPTIONS", "-H", "Origin: https://evil.example", self.url(broker, "t/sse"))[2]
        self.assertNotIn("access-control-allow-origin", headers)
        self.stop(broker)

    # ---- connections ----

    def test_requests_sent_ahead_are_refused_and_later_ones_end_it(self):
        broker = self.broker()
        self.http(broker).publish("t", "x")
        for first in ("t/json", "t/sse"):
            data = self.all_of(self.raw(broker, first, "t/json"))
            self.assertTrue(data.startswith(b"HTTP/1.1 400 "), data)
            self.assertIn(b"/problems/sent-ahead", data)
            self.assertEqual(1, data.count(b"HTTP/1.1"))
        sock = self.raw(broker, "t/sse?since=earliest")
        while b"event: message" not in sock.recv(65536):
            pass
        sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        self.all_of(sock)
        # A refusal leaves the connection as it was.
        sock = self.raw(broker, "t/xml", "t/json?since=x")
        data = b""
        while data.count(b"HTTP/1.1 4") < 2:
            data += sock.recv(65536)
        sock.close()
        wait_until(lambda: self.counter(broker, "clients") == 0, WAIT_S, "nobody is left")
        self.stop(broker)

    def test_client_that_goes_is_noticed_although_nothing_is_sent(self):
        broker = self.broker(settings={"dispatcher.ping_s": 600})
        sources = [self.events(broker, "quiet/sse") for _ in range(3)]
        for source in sources:
            self.assertIsNone(source.block())
        self.assertEqual(3, self.counter(broker, "clients"))
        sources[0].close()
        half = self.raw(broker, "quiet/sse")
        self.assertTrue(half.recv(1000))
        half.shutdown(socket.SHUT_WR)
        wait_until(lambda: self.counter(broker, "clients") == 2, WAIT_S, "both are gone")
        self.stop(broker)

    def test_there_are_clients_max(self):
        broker = self.broker(settings={"dispatcher.clients_max": 2})
        source, ws = self.events(broker, "t/sse"), self.ws(broker, "t/ws")
        self.assertIsNone(source.block())
        self.assertEqual("1", self.refused(broker, "t/json", 503, "clients_max")["retry-after"])
        with self.assertRaises(WsError):
            WsClient(HOST, broker.ws_port, "/t/t/ws", WAIT_S)
        ws.close()
        wait_until(lambda: self.counter(broker, "clients") == 1, WAIT_S, "one has gone")
        self.assertEqual([], self.json(broker, "t/json"))
        self.stop(broker)

    def test_drain_ends_streams_in_order_and_they_go_on_at_the_next_instance(self):
        broker = self.broker(settings={"dispatcher.ping_s": 600})
        client = self.http(broker)
        source, ws = self.events(broker, "t/sse"), self.ws(broker, "t/ws")
        self.assertIsNone(source.block())
        poll = self.raw(broker, "t/json?since=latest&wait_ms=30000")
        wait_until(lambda: self.counter(broker, "clients") == 3, WAIT_S, "all three wait")
        broker.signal("dispatcher", 0, signal.SIGTERM)
        self.assertEqual(0, source.end())
        self.assertTrue(self.all_of(poll).endswith(b"\r\n\r\n0\r\n\r\n"))
        with self.assertRaises(WsClosed) as caught:
            ws.receive(WAIT_S)
        self.assertEqual(3001, caught.exception.code)
        missed = client.publish("t", "while it is away")
        broker.processes[("dispatcher", 0)].child.wait(WAIT_S)
        broker.spawn("dispatcher", 0)
        broker.wait_ready()
        source.connect()
        self.assertEqual(missed, source.event().id)
        self.stop(broker)

    # ---- who may ----

    def test_tokens_are_asked_for_and_end_what_they_opened(self):
        with tempfile.TemporaryDirectory(prefix="cmq-no-sdk-") as home:
            tokens = TokenFile(home)
            publisher = tokens.add("publisher", publish=">")
            reader = tokens.add("reader", subscribe="orders.*")
            broker = self.broker(settings={"tokens.file": tokens.path})
            bearer = ["-H", f"Authorization: Bearer {reader}"]
            self.http(broker).publish("orders.eu", "x", Authorization=f"Bearer {publisher}")
            self.assertEqual("x", self.json(broker, "orders.eu/json", *bearer)[0]["data"])
            self.assertEqual("x", self.json(broker, "orders.*/json", "-H", f"X-API-Key: {reader}")[0]["data"])
            headers = self.refused(broker, "orders.eu/sse", 401, "token")
            self.assertIn("Bearer", headers["www-authenticate"])
            self.refused(broker, "orders.eu/sse", 401, "token", "-H", "Authorization: Bearer cmq_" + "A" * 43)
            self.refused(broker, "orders.>/sse", 403, "subscribe", *bearer)
            self.refused(broker, "orders.eu/json", 403, "subscribe", "-H", f"Authorization: Bearer {publisher}")
            source = self.events(broker, "orders.eu/sse", *bearer)
            self.assertIsNone(source.block())
            ws = self.ws(broker, "orders.*/ws", subprotocol=f"ciphermq.topic.json, ciphermq.token.{reader}")
            self.assertEqual("ciphermq.topic.json", ws.subprotocol)
            with self.assertRaises(WsError) as caught:
                WsClient(HOST, broker.ws_port, "/t/orders.eu/ws", WAIT_S)
            self.assertIn("401", str(caught.exception))
            tokens.revoke("reader")
            self.assertEqual(0, source.end())
            with self.assertRaises(WsClosed) as caught:
                ws.receive(WAIT_S)
            self.assertEqual(3502, caught.exception.code)
            self.stop(broker)

    def test_over_tls(self):
        home = tempfile.mkdtemp(prefix="cmq-no-sdk-")
        self.addCleanup(shutil.rmtree, home)
        authority = Authority(home)
        server = authority.issue_server("server")
        broker = self.broker(settings={"tls.cert_file": server.cert, "tls.key_file": server.key}, tls=authority.context())
        trust = ["--cacert", authority.cert]
        client = self.http(broker)
        client.publish("t", *["x" * 50000 for _ in range(20)])
        self.assertEqual(20, len(self.json(broker, "t/json", *trust)))
        source = self.events(broker, "t/sse", *trust)
        self.assertIsNone(source.block())
        new = client.publish("t", "new")
        self.assertEqual(new, source.event().id)
        self.assertEqual("t", json.loads(self.ws(broker, "t/ws?since=earliest").receive(WAIT_S))["msgs"]["topic"])
        # What is sent behind a request neither gathers nor keeps the others from being served.
        for parts in ([2], [1, 1]):
            sock = broker.tls.wrap_socket(socket.create_connection((HOST, broker.ws_port), WAIT_S), server_hostname=HOST)
            self.addCleanup(sock.close)
            for part in parts:
                sock.sendall(b"GET /t/t/sse HTTP/1.1\r\nHost: x\r\n\r\n" * part)
            while sock.recv(65536):
                pass
        client.publish("t", "newer")
        self.assertEqual("newer", json.loads(source.event().data)["data"])
        self.stop(broker)

    # ---- messages whose time is over ----

    def test_what_is_over_is_not_delivered_anywhere_and_counted(self):
        broker = self.broker()
        client = self.http(broker)
        for topic in ("t", "default"):
            client.publish(topic, "short", CMQ_TTL="1ms")
            client.publish(topic, "long", CMQ_TTL="1h")
        worker, watcher = self.v1(broker), self.v1(broker)
        # Its time is over for everybody once json has no more of it.
        wait_until(lambda: len(self.json(broker, ">/json")) == 2, WAIT_S, "the time is over")
        self.assertEqual(["long"], [item["data"] for item in watcher.items(watcher.subscribe("t", since="earliest"), 1)])
        sub = worker.consume("t", "workers")
        self.assertEqual(["long"], [item["data"] for item in worker.items(sub, 1)])
        root = self.root(broker)
        self.assertEqual(["long"], json.loads(root.receive(WAIT_S)))
        self.assertGreaterEqual(self.counter(broker, "expired"), 3)
        # The group is done with it: only what was delivered is left to acknowledge.
        worker.ack("workers", ["2-0"])
        wait_until(broker.delivered_all, WAIT_S, "everything is done")
        self.stop(broker)


if __name__ == "__main__":
    unittest.main()
