"""Who may connect to the WebSocket port, what a token allows, and what clients may send there."""

import concurrent.futures
import json
import os
import re
import shutil
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import memory_bound, wait_until  # noqa: E402
from cases import HOST, WAIT_S, Case  # noqa: E402
from certs import Authority  # noqa: E402
from tokens import TokenFile, make_token  # noqa: E402
from v1client import V1Client, V1Error  # noqa: E402
from wsclient import BINARY, PING, PONG, TEXT, WsClient, WsClosed  # noqa: E402

V1 = "ciphermq.v1.json"


def is_whole(reply):
    head, end, body = reply.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    return bool(end) and len(body) >= (int(length.group(1)) if length else 0)


def request(broker, path, *headers, upgrade=True):
    """One request, raw. Returns status, head (lower case) and body."""
    lines = [f"GET {path} HTTP/1.1", "Host: localhost"]
    if upgrade:
        lines += ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                  "Sec-WebSocket-Version: 13"]
    with socket.create_connection((HOST, broker.ws_port), WAIT_S) as sock:
        sock.sendall("\r\n".join([*lines, *headers, "", ""]).encode("latin-1"))
        data = b""
        while not is_whole(data):
            piece = sock.recv(65536)
            if not piece:
                break
            data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), head.decode("latin-1").lower(), json.loads(body) if body.startswith(b"{") else {}


def bearer(token):
    return f"Authorization: Bearer {token}"


def frame(payload, opcode, final=True):
    """A masked frame; the mask is zero."""
    head = bytes([(0x80 if final else 0) | opcode])
    if len(payload) < 126:
        return head + bytes([0x80 | len(payload)]) + bytes(4) + payload
    return head + struct.pack(">BH", 0x80 | 126, len(payload)) + bytes(4) + payload


class WsCase(Case):
    def tokens(self):
        directory = tempfile.mkdtemp(prefix="cmq-tokens-")
        self.addCleanup(shutil.rmtree, directory)
        return TokenFile(directory)

    def guarded(self, tokens, **settings):
        names = {name.replace("__", "."): value for name, value in settings.items()}
        return self.broker(settings={"tokens.file": tokens.path, **names})

    def closed_with(self, ws, timeout=WAIT_S):
        with self.assertRaises(WsClosed) as caught:
            while True:
                ws.receive(timeout)
        return caught.exception.code

    def refused(self, code, command, *args, **options):
        with self.assertRaises(V1Error) as caught:
            command(*args, **options)
        self.assertEqual(code, caught.exception.code)
        return caught.exception.message

    def counted(self, broker, name, value):
        wait_until(lambda: self.counters(broker)[name] >= value, WAIT_S, f"{name} is {value}")
        self.assertEqual(value, self.counters(broker)[name])

    def log(self, broker):
        with open(broker.log_path(broker.processes["dispatcher", 0]), encoding="utf-8") as log:
            return log.read()


class Identity(WsCase):
    def test_a_token_is_taken_from_each_place_and_its_protocol_is_never_the_answer(self):
        tokens = self.tokens()
        token = tokens.add("reader", subscribe="orders.>")
        broker = self.guarded(tokens)
        for options in [{"headers": [bearer(token)]}, {"headers": [f"authorization: bearer   {token}"]},
                        {"headers": [f"X-API-Key: {token}"]}, {"token_protocol": token}, {"token": token}]:
            client = self.v1(broker, **options)  # which checks the subprotocol of the answer
            client.subscribe("orders.eu")
            client.close()
        self.counted(broker, "rejected_auth", 0)
        self.assertNotIn(token, self.log(broker))
        broker.stop()

    def test_connect_says_what_was_missing_and_the_connection_ends(self):
        tokens = self.tokens()
        old = tokens.add("old", subscribe=">", expires_ms=int(time.time() * 1000) - 1)
        broker = self.guarded(tokens)
        for about, word in [({}, "no token was sent"), ({"token": make_token()}, "unknown"), ({"token": ""}, "unknown"),
                            ({"token": "tok\\u0000en"}, "unknown"), ({"token": old}, "expired")]:
            client = self.v1(broker, connect=False)
            self.assertIn(word, self.refused("unauthorized", client.command, "connect", about))
            self.assertEqual(3500, self.closed_with(client.ws))
        self.counted(broker, "rejected_auth", 5)
        self.counted(broker, "protocol_errors", 0)
        broker.stop()

    def test_what_came_with_the_upgrade_is_refused_there(self):
        tokens = self.tokens()
        good = tokens.add("good", subscribe=">")
        old = tokens.add("old", subscribe=">", expires_ms=int(time.time() * 1000) - 1)
        broker = self.guarded(tokens)
        protocol = f"Sec-WebSocket-Protocol: {V1}"
        unknown = make_token()
        for headers, status, word in [
                ([protocol, bearer(unknown)], 401, "unknown"), ([protocol, f"X-API-Key: {unknown}"], 401, "unknown"),
                ([f"{protocol}, ciphermq.token.{unknown}"], 401, "unknown"), ([protocol, bearer(old)], 401, "expired"),
                ([protocol, f"Authorization: Basic {good}"], 401, "unknown"), ([protocol, bearer(good + "x")], 401, "unknown"),
                ([protocol, bearer(good), f"X-API-Key: {good}"], 400, "one token"),
                ([protocol, bearer(good), bearer(good)], 400, "one token"),
                ([f"{protocol}, ciphermq.token.{good}, ciphermq.token.{good}"], 400, "one token"),
                ([f"{protocol}, ciphermq.token.{good}", bearer(good)], 400, "one token"),
                ([protocol, bearer(good)], 101, "")]:
            got, head, body = request(broker, "/v1/ws", *headers)
            self.assertEqual(status, got, headers)
            if status != 101:
                self.assertIn(word, body["detail"])
                self.assertEqual(status, body["status"])
                self.assertRegex(body["type"], "^/problems/")
            if status == 401:
                self.assertIn('www-authenticate: bearer realm="ciphermq", error="invalid_token"', head)
        log = self.log(broker)
        for token in (good, old, unknown):
            self.assertNotIn(token[4:], log)
        broker.stop()

    def test_tokens_do_not_belong_in_a_url(self):
        for tokens in (None, self.tokens()):
            broker = self.guarded(tokens) if tokens else self.broker()
            token = make_token()
            for path in (f"/v1/ws?token={token}", f"/?access_token={token}", f"/?a=1&Authorization={token}", "/?api_key",
                         f"/v1/ws?%74oken={token}", f"/nothing?token={token}"):
                for upgrade in (True, False):
                    status, _, body = request(broker, path, f"Sec-WebSocket-Protocol: {V1}", upgrade=upgrade)
                    self.assertEqual((400, "/problems/token-in-url"), (status, body["type"]), path)
                    self.assertIn("do not belong in a URL", body["detail"])
            self.assertEqual(101, request(broker, "/v1/ws?tokens=1", f"Sec-WebSocket-Protocol: {V1}")[0])
            self.assertNotIn(token[4:], self.log(broker))
            broker.stop()

    def test_a_scope_bounds_subscribe_and_consume_and_the_connection_stays(self):
        tokens = self.tokens()
        token = tokens.add("some", subscribe="orders.*", consume="jobs.>")
        everything = tokens.add("all", subscribe=">", consume=">,secret", publish=">")
        broker = self.guarded(tokens)
        owner = self.v1(broker, token=everything)
        owner.consume("secret.things", "owners", max_deliver=7)
        client = self.v1(broker, headers=[bearer(token)])
        for topic in ("orders", "orders.>", "orders.eu.west", ">", "$dead.>", "jobs.a"):
            self.assertIn("subscribe", self.refused("forbidden", client.subscribe, topic))
        for topic in ("orders.eu", "jobs", ">", "$dead.jobs.a"):
            self.assertIn("consume", self.refused("forbidden", client.consume, topic, "mine"))
        self.refused("forbidden", client.consume, None, "owners")  # the group's topic counts
        text = self.refused("group_mismatch", client.consume, "jobs.a", "owners")
        self.assertNotIn("secret", text)
        self.refused("no_such_group", client.ack, "owners", ["1-0"])
        self.refused("no_such_group", client.nack, "owners", ["1-0"])
        self.refused("no_such_group", client.consume, None, "mine")  # none was made
        self.refused("bad_command", client.command, "connect", {"token": token})
        self.refused("forbidden", self.v1(broker, token=everything).subscribe, "$dead.>")
        client.subscribe("orders.*")
        client.consume("jobs.>", "mine")
        self.counted(broker, "rejected_auth", 12)
        self.assertIn('name="some"', self.log(broker))
        broker.stop()

    def test_the_root_endpoint_needs_the_right_to_consume_default(self):
        tokens = self.tokens()
        good, other = tokens.add("good", consume="default"), tokens.add("other", consume="orders", subscribe=">")
        broker = self.guarded(tokens)
        status, head, body = request(broker, "/")
        self.assertEqual(401, status)
        self.assertRegex(head, '(?m)^www-authenticate: bearer realm="ciphermq"\r?$')
        self.assertIn("no token", body["detail"])
        status, _, body = request(broker, "/", bearer(other))
        self.assertEqual((403, "this token has no right to consume from this topic"), (status, body["detail"]))
        self.assertEqual(101, request(broker, "/", bearer(good))[0])
        self.assertEqual(200, request(broker, "/", upgrade=False)[0])
        broker.stop()

    def test_what_is_revoked_is_closed_and_the_rest_stays(self):
        tokens = self.tokens()
        gone = tokens.add("gone", subscribe=">", consume=">")
        kept = tokens.add("kept", subscribe=">", consume=">", publish=">")
        broker = self.guarded(tokens)
        reader, worker, other = (self.v1(broker, token=token) for token in (gone, gone, kept))
        reader.subscribe("a")
        worker.consume("a", "workers")
        other.subscribe("a")
        root, stays = (self.root(broker, headers=[bearer(token)]) for token in (gone, kept))
        tokens.revoke("gone")
        for ws in (reader.ws, worker.ws, root):
            self.assertEqual(3502, self.closed_with(ws))
        self.assertIn("unknown", self.refused("unauthorized", self.v1, broker, token=gone))
        other.ping()
        stays.send(b"", PING)
        self.counted(broker, "protocol_errors", 0)
        broker.stop()

    def test_a_changed_scope_closes_and_a_rewritten_file_does_not(self):
        tokens = self.tokens()
        token = tokens.add("one", subscribe="a,b")
        broker = self.guarded(tokens)
        client = self.v1(broker, token=token)
        tokens.add("two", subscribe="a")
        wait_until(lambda: request(broker, "/v1/ws", f"Sec-WebSocket-Protocol: {V1}",
                                   bearer(tokens.add("two", subscribe="a")))[0] in (101, 401), WAIT_S, "two")
        client.ping()
        tokens.add("one", token, subscribe="a")
        self.assertEqual(3502, self.closed_with(client.ws))
        again = self.v1(broker, token=token)
        self.refused("forbidden", again.subscribe, "b")
        broker.stop()

    def test_an_expired_token_is_closed_without_a_change_of_the_file(self):
        tokens = self.tokens()
        token = tokens.add("short", subscribe="a", expires_ms=int(time.time() * 1000) + 2500)
        broker = self.guarded(tokens)
        client = self.v1(broker, token=token)
        client.subscribe("a")
        self.assertEqual(3502, self.closed_with(client.ws))
        self.assertIn("expired", self.refused("unauthorized", self.v1, broker, token=token))
        broker.stop()

    def test_a_broken_file_changes_nothing(self):
        tokens = self.tokens()
        token = tokens.add("one", subscribe="a")
        broker = self.guarded(tokens)
        client = self.v1(broker, token=token)
        tokens.write("token one nonsense\n")
        wait_until(lambda: "action=kept" in self.log(broker), WAIT_S, "the file is refused")
        client.ping()
        self.v1(broker, token=token).ping()
        tokens.write()
        broker.stop()

    def test_tokens_begin_with_a_signal_and_open_sessions_end(self):
        tokens = self.tokens()
        token = tokens.add("one", subscribe="a", consume="default")
        broker = self.broker()
        client, root = self.v1(broker), self.root(broker)
        with open(broker.config, "a", encoding="ascii") as out:
            out.write(f"[tokens]\nfile = {tokens.path}\n")
        broker.signal("dispatcher", 0, signal.SIGHUP)
        self.assertEqual(3502, self.closed_with(client.ws))
        self.assertEqual(3502, self.closed_with(root))
        self.assertIn("no token", self.refused("unauthorized", self.v1, broker))
        self.v1(broker, token=token).subscribe("a")
        tokens.revoke("one")
        tokens.add("two", token, subscribe="a,b")  # the new file is the one that is watched
        wait_until(lambda: self.can_subscribe(broker, token, "b"), WAIT_S, "the change is seen")
        broker.stop()

    def can_subscribe(self, broker, token, topic):
        try:
            with V1Client(HOST, broker.ws_port, token=token) as client:
                client.subscribe(topic)
                return True
        except (V1Error, WsClosed):  # the grant may end between connect and subscribe
            return False

    def test_guessing_is_slowed_and_locks_nobody_out(self):
        tokens = self.tokens()
        token = tokens.add("one", subscribe="a")
        broker = self.guarded(tokens, tokens__failures_max=3)
        protocol = f"Sec-WebSocket-Protocol: {V1}"
        answers = [request(broker, "/v1/ws", protocol, bearer(make_token())) for _ in range(6)]
        self.assertEqual([401, 401, 401, 429, 429, 429], [status for status, _, _ in answers])
        self.assertIn("retry-after: 60", answers[-1][1])
        self.assertIn("too many", self.refused("unauthorized", self.v1, broker, token=make_token()))
        self.v1(broker, token=token).subscribe("a")
        broker.stop()


class Guards(WsCase):
    def raw(self, broker, path="/v1/ws"):
        """A WebSocket that sends nothing by itself."""
        ws = WsClient(HOST, broker.ws_port, path, WAIT_S, subprotocol=V1 if path == "/v1/ws" else None, tls=broker.tls)
        self.addCleanup(ws.end)
        return ws

    def test_who_does_not_connect_is_closed(self):
        broker = self.broker(settings={"dispatcher.login_ms": 400})
        client = self.v1(broker)
        silent = self.raw(broker)
        self.assertEqual(3500, self.closed_with(silent))
        client.ping()
        self.counted(broker, "protocol_errors", 1)
        self.assertIn("reason=login_ms", self.log(broker))
        broker.stop()

    def test_a_message_of_too_many_fragments_is_refused(self):
        broker = self.broker(settings={"dispatcher.fragments_max": 10})
        for piece in (b" ", b""):
            for path, code in (("/v1/ws", 3501), ("/", 1009)):
                ws = self.raw(broker, path)
                text = b'{"connect":{}}'
                ws._sock.sendall(frame(text, TEXT, False) + 8 * frame(piece, 0, False) + frame(b"", 0))  # 10 are fine
                ws._sock.sendall(frame(text, TEXT, False) + 9 * frame(piece, 0, False))
                self.assertEqual(0, len(ws._buffer))
                ws._sock.sendall(frame(piece, 0, False))
                self.assertEqual(code, self.closed_with(ws))
        self.counted(broker, "protocol_errors", 4)
        self.assertIn("reason=fragments_max", self.log(broker))
        broker.stop()

    def resident(self, broker):
        with open(f"/proc/{broker.processes['dispatcher', 0].child.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))

    def test_fragments_without_end_cost_no_memory(self):
        broker = self.broker(settings={"dispatcher.fragments_max": 1000000})
        before = self.resident(broker)
        clients = [self.raw(broker, path) for path in 4 * ["/v1/ws"] + 4 * ["/"]]
        for ws in clients:
            ws._sock.sendall(frame(b"x", TEXT, False) + 65000 * frame(b"x", 0, False))
            ws.send(b"", PING)  # answered when all before it was read
            ws.read(WAIT_S)
        self.assertLess(self.resident(broker) - before, memory_bound(broker.build, 2 << 20))
        for ws, code in zip(clients, 4 * [3501] + 4 * [1009]):
            try:
                ws._sock.sendall(70000 * frame(b"x", 0, False))
            except ConnectionError:
                pass  # it is closed before it has sent all
            self.assertIn(self.end_of(ws), (code, None))
        self.counted(broker, "protocol_errors", 8)
        broker.stop()

    def end_of(self, ws):
        """The code that it is closed with; None when a reset took that."""
        try:
            return self.closed_with(ws)
        except ConnectionError:
            return None

    def test_floods_of_control_frames_end_and_a_few_do_not(self):
        broker = self.broker(settings={"dispatcher.control_rate_max": 20})
        good = self.v1(broker)
        floods = [(path, data) for path in ("/v1/ws", "/")
                  for data in (frame(b"", PING), frame(b"x" * 125, PING), frame(b"", PONG), frame(b"pong", PONG))]

        def run(path, data):
            ws = self.raw(broker, path)
            if path == "/v1/ws":
                ws.send(b'{"connect":{}}')
            return self.flood(ws, data)
        with concurrent.futures.ThreadPoolExecutor(len(floods)) as threads:
            codes = list(threads.map(run, *zip(*floods)))
        self.assertEqual([1008 if path == "/" else 3500 for path, _ in floods], codes)
        good.ws.send(b"", PING)
        self.counted(broker, "protocol_errors", len(floods))
        good.ping()
        self.assertIn("reason=control_rate_max", self.log(broker))
        broker.stop()

    def test_floods_end_under_tls_and_a_busy_client_does_not(self):
        directory = tempfile.mkdtemp(prefix="cmq-tls-")
        self.addCleanup(shutil.rmtree, directory)
        authority = Authority(directory)
        server = authority.issue_server("server", "rsa")
        broker = self.broker(tls=authority.context(), settings={"tls.cert_file": server.cert, "tls.key_file": server.key,
                                                                "dispatcher.control_rate_max": 5})
        busy, http = self.v1(broker), self.http(broker)
        jobs = busy.consume("jobs", "workers")
        for path, code, data in (("/v1/ws", 3500, 10 * frame(b"x" * 100, PING)), ("/", 1008, 100 * frame(b"", PONG))):
            ws = self.raw(broker, path)
            if path == "/v1/ws":
                ws.send(b'{"connect":{}}')

            flooding = threading.Event()

            def work(flooding=flooding):
                while not flooding.is_set():
                    http.publish("jobs", *["x" * 100] * 50)
                    for item in busy.items(jobs, 50):
                        busy.ack("workers", [item["id"]])
                    busy.ws.send(b"alive", PING)

            with concurrent.futures.ThreadPoolExecutor(1) as executor:
                worker = executor.submit(work)
                try:
                    self.assertEqual(code, self.flood(ws, data))
                finally:
                    flooding.set()
                worker.result()
        busy.ping()
        self.counted(broker, "protocol_errors", 2)
        broker.stop()

    def flood(self, ws, data):
        """Sends it 100 times a second, in pieces, until it is closed."""
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            try:
                for _ in range(10):
                    ws._sock.sendall(data)
                ws.receive(0.1)
            except TimeoutError:
                pass
            except WsClosed as closed:
                return closed.code
        return None

    def test_a_steady_client_is_no_flood(self):
        """Acks in all sizes, fragments, answered pings and unasked pongs, while frames of all sizes come."""
        broker = self.broker(settings={"dispatcher.control_rate_max": 5, "dispatcher.ping_s": 1})
        http = self.http(broker)
        client, root = self.v1(broker), self.root(broker)
        jobs = client.consume("jobs", "workers")
        beats = client.heartbeats
        rounds = 0
        executor = concurrent.futures.ThreadPoolExecutor(1)
        self.addCleanup(executor.shutdown)

        def publish():
            http.publish("jobs", *[f"{i}" * (i * 40) for i in range(1, 60)])
            http.publish("default", "for the root endpoint")

        def have_all():
            """Reads both, so that both answer pings, however long the disk takes."""
            items.extend(item for _, body in client.quiet(0.02) for item in body["items"])
            try:
                texts.append(root.receive(0.02))
            except TimeoutError:
                pass
            return published.done() and len(items) == 59 and texts

        while client.heartbeats < beats + 6:  # each follows a second in which nothing else came
            items, texts, published = [], [], executor.submit(publish)
            wait_until(have_all, WAIT_S, "a round of messages")
            published.result()
            ids = json.dumps({"ack": {"group": "workers", "ids": [item["id"] for item in items]}}).encode()
            pieces = [ids[at:at + 99] for at in range(0, len(ids), 99)]
            client.ws._sock.sendall(b"".join(frame(piece, 0 if at else TEXT, at == len(pieces) - 1)
                                             for at, piece in enumerate(pieces)))
            for ws in (client.ws, root):
                ws.send(b"keepalive", PING)
                ws.send(b"", PONG)
            rounds += 1
            root.send(b"x" * (rounds * 9770), BINARY)
            before = client.heartbeats
            wait_until(lambda: client.quiet(0.2) is not None and client.heartbeats > before, WAIT_S, "a heartbeat")
        self.counted(broker, "protocol_errors", 0)
        root.send(b"", PING)
        broker.stop()

    def test_an_address_has_so_many_connections(self):
        broker = self.broker(settings={"dispatcher.address_clients_max": 3})
        first, _, idle = self.v1(broker), self.root(broker), socket.create_connection((HOST, broker.ws_port), WAIT_S)
        idle.settimeout(WAIT_S)
        self.addCleanup(idle.close)
        for _ in range(2):
            with self.assertRaises(OSError):
                WsClient(HOST, broker.ws_port, timeout=WAIT_S)
        self.counted(broker, "refused_address", 2)
        neighbour = WsClient(HOST, broker.ws_port, timeout=WAIT_S, source="127.0.0.2")
        self.addCleanup(neighbour.close)
        idle.close()  # room again, whatever the connection was

        def connects():
            try:
                self.root(broker)
                return True
            except OSError:
                return False
        wait_until(connects, WAIT_S, "there is room again")
        first.ping()
        self.assertIn("reason=address_clients_max", self.log(broker))
        broker.stop()

    def test_a_page_needs_an_origin_that_is_allowed(self):
        broker = self.broker(settings={"dispatcher.origins": "https://app.example https://b.example:8443"})
        protocol = f"Sec-WebSocket-Protocol: {V1}"
        for origin, status in [("https://app.example", 101), ("HTTPS://APP.example", 101), ("https://b.example:8443", 101),
                               ("https://b.example", 403), ("http://app.example", 403), ("https://app.example.evil", 403),
                               ("http://localhost:3000", 101), ("null", 403), ("*", 403)]:
            for path, headers in (("/v1/ws", [protocol]), ("/", [])):
                self.assertEqual(status, request(broker, path, f"Origin: {origin}", *headers)[0], origin)
        broker.stop()
        broker = self.broker(settings={"dispatcher.origins": "*"})
        self.assertEqual(101, request(broker, "/", "Origin: https://any.example")[0])
        broker.stop()

    def test_what_breaks_the_protocol_is_closed_and_counted(self):
        broker = self.broker()
        cases = [(frame(b"\xff\xfe", TEXT), 1007), (frame(b"\xc3", TEXT), 1007),
                 (frame(b"\xe2", TEXT, False) + frame(b"\x82", 0), 1007), (frame(b"", 3), None), (frame(b"", 11), None),
                 (b"\xc1\x80" + bytes(4), None), (b"\x89\xfe\x00\x80" + bytes(132), None), (frame(b"", PING, False), None),
                 (frame(b"x", 0), None)]
        for path in ("/v1/ws", "/"):
            for data, code in cases:
                ws = self.raw(broker, path)
                ws._sock.sendall(data)
                got = self.end_of(ws)
                self.assertEqual(code or got, got, data)
                self.assertIn(got, (code, 1002, None), data)
        self.counted(broker, "protocol_errors", 2 * len(cases))
        broker.stop()

    def test_ends_that_are_no_fault_are_not_counted(self):
        broker = self.broker()
        for path in ("/v1/ws", "/"):
            for end in (lambda ws: ws.close(), lambda ws: ws.end(), lambda ws: ws.drop(),
                        lambda ws: (ws.send(b"{}"), ws.drop()), lambda ws: (ws.send(b"x", 0x8))):
                ws = self.raw(broker, path)
                end(ws)
                wait_until(lambda: self.counters(broker)["clients"] == 0, WAIT_S, "it is gone")
        self.raw(broker), self.raw(broker, "/")
        self.counted(broker, "protocol_errors", 0)
        broker.stop()


if __name__ == "__main__":
    unittest.main(verbosity=2)
