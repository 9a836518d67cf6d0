#!/usr/bin/python3
"""The dispatcher of a whole broker, from the side of its clients: sharing, deaths, slow ones, bad ones, instances, drain.

Ownership: each case has a broker of its own.
Units: messages, bytes, seconds.
Errors: unittest.
Callers: ctest, as integration.dispatcher.
"""

import base64
import concurrent.futures
import http.client
import json
import os
import select
import signal
import socket
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import Broker, memory_bound, wait_until  # noqa: E402
from wsclient import WsClient, WsClosed  # noqa: E402

HOST = "127.0.0.1"
WAIT_S = 20.0
UPGRADE = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13",
           "Sec-WebSocket-Key: " + base64.b64encode(bytes(16)).decode()]
VIOLATIONS = {  # name: (bytes on the wire, close code); masked with zeros
    "reserved bit": (b"\xc1\x80\0\0\0\0", 1002),
    "unknown opcode": (b"\x83\x80\0\0\0\0", 1002),
    "fragmented ping": (b"\x09\x80\0\0\0\0", 1002),
    "ping of 126 bytes": (b"\x89\xfe\0\x7e\0\0\0\0" + bytes(126), 1002),
    "continuation of nothing": (b"\x80\x81\0\0\0\0a", 1002),
    "text that is not UTF-8": (b"\x81\x82\0\0\0\0\xc3\x28", 1007),
}


def post(broker, contents):
    """One record of these messages."""
    connection = http.client.HTTPConnection(HOST, broker.http_port, timeout=WAIT_S)
    body = json.dumps({"messages": [{"content": content} for content in contents]})
    connection.request("POST", "/input/batch", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    text = response.read()
    connection.close()
    assert response.status == 200, (response.status, text)


def numbered(first, count, size=0):
    return [f"message_{i}".ljust(size, ".") for i in range(first, first + count)]


def connect(broker, **options):
    return WsClient(HOST, broker.ws_port, timeout=WAIT_S, **options)


def raw_request(broker, *lines):
    """Sends a request head; returns the socket and the response's status and head."""
    sock = socket.create_connection((HOST, broker.ws_port), WAIT_S)
    sock.sendall("\r\n".join([*lines, f"Host: {HOST}:{broker.ws_port}", "", ""]).encode())
    head = b""
    while b"\r\n\r\n" not in head:
        data = sock.recv(4096)
        if not data:
            break
        head += data
    return sock, int(head.split(b" ", 2)[1]), head


def receive(client, count):
    """At least `count` messages of one client."""
    got = []
    while len(got) < count:
        got += json.loads(client.receive(WAIT_S))
    return got


def receive_shared(clients, count):
    """`count` messages of several clients, a list for each."""
    got = [[] for _ in clients]
    deadline = time.monotonic() + WAIT_S
    while sum(map(len, got)) < count:
        assert time.monotonic() < deadline, f"{sum(map(len, got))} of {count} messages came"
        for i, client in enumerate(clients):
            got[i] += quietly(client, 0.02)
    return got


def quietly(client, seconds=0.2):
    """Everything that comes until nothing comes for so long."""
    got = []
    try:
        while True:
            got += json.loads(client.receive(seconds))
    except TimeoutError:
        return got


def quietly_raw(client):
    """Reads whatever comes until nothing does."""
    try:
        while True:
            client.receive(0.3)
    except TimeoutError:
        pass


def closed_code(client, seconds=WAIT_S):
    """The code of the close frame that comes, after any messages; None for an end without one. Ends the client."""
    try:
        while True:
            client.receive(seconds)
    except WsClosed as closed:
        return closed.code
    except ConnectionResetError:
        return None
    finally:
        client.end()


class Dispatcher(unittest.TestCase):
    def broker(self, **options):
        broker = Broker(**options)
        broker.start()
        self.addCleanup(broker.abandon)
        return broker

    def finish(self, broker):
        """Nothing is left undelivered, and every process ends in order."""
        wait_until(broker.delivered_all, WAIT_S, "all records done")
        broker.stop()

    def counters(self, broker, instance=0):
        pid = broker.processes[("dispatcher", instance)].child.pid
        return next(m for m in broker.members() if m["pid"] == pid)["counters"]

    def wait_counter(self, broker, name, value, instance=0):
        wait_until(lambda: self.counters(broker, instance)[name] >= value, WAIT_S, f"{name} {value}")

    def rss_kib(self, broker):
        with open(f"/proc/{broker.processes[('dispatcher', 0)].child.pid}/status", encoding="ascii") as status:
            fields = dict(line.split(":", 1) for line in status)
        return int(fields["RssAnon"].split()[0])

    # ---- delivery ----

    def test_messages_wait_while_nobody_is_connected(self):
        broker = self.broker()
        post(broker, numbered(0, 3))
        post(broker, numbered(3, 2))
        wait_until(lambda: broker.status()["ring"]["committed"] >= 3, WAIT_S, "sealed")
        self.assertEqual(self.counters(broker)["backlog"], 0)
        client = connect(broker)
        self.assertEqual(receive(client, 5), numbered(0, 5))
        client.close()
        self.finish(broker)

    def test_small_records_that_wait_share_a_frame(self):
        broker = self.broker()
        for i in range(50):
            post(broker, numbered(i, 1))
        wait_until(lambda: broker.status()["ring"]["committed"] >= 51, WAIT_S, "sealed")
        client = connect(broker)
        self.assertEqual(json.loads(client.receive(WAIT_S)), numbered(0, 50))
        client.close()
        self.finish(broker)

    def test_message_larger_than_a_frame_arrives_alone_and_whole(self):
        broker = self.broker(settings={"dispatcher.frame_bytes_max": 4096})
        large = '"\\\u0001\u00e4' * 20000
        post(broker, ["before", large, "after"])
        client = connect(broker)
        self.assertEqual(json.loads(client.receive(WAIT_S)), ["before"])
        self.assertEqual(json.loads(client.receive(WAIT_S)), [large])
        self.assertEqual(json.loads(client.receive(WAIT_S)), ["after"])
        client.close()
        self.finish(broker)

    def test_frames_that_the_socket_takes_piece_by_piece_are_delivered(self):
        broker = self.broker(settings={"dispatcher.frame_bytes_max": 1 << 20})
        for i in range(50):
            post(broker, numbered(i * 1000, 1000, 100))
        client = connect(broker, receive_buffer=4096)
        self.assertEqual(receive(client, 50000), numbered(0, 50000, 100))
        wait_until(broker.delivered_all, WAIT_S, "all noted while the client stays")
        client.close()
        self.finish(broker)

    def test_two_clients_share_and_nothing_comes_twice(self):
        # Small frames and socket buffers, so that neither can take everything.
        broker = self.broker(settings={"dispatcher.frame_bytes_max": 4096})
        clients = [connect(broker, receive_buffer=4096) for _ in range(2)]
        self.wait_counter(broker, "clients", 2)
        for i in range(20):
            post(broker, numbered(i * 1000, 1000, 100))
        got = receive_shared(clients, 20000)
        self.assertEqual(sorted(got[0] + got[1]), sorted(numbered(0, 20000, 100)))
        self.assertTrue(got[0] and got[1])
        for part in got:  # in order for each
            numbers = [int(text.rstrip(".")[8:]) for text in part]
            self.assertEqual(numbers, sorted(numbers))
        for client in clients:
            client.close()
        self.finish(broker)

    def test_killed_clients_messages_go_to_the_next(self):
        # Frames larger than what the kernel takes for a client that does not read.
        broker = self.broker(settings={"dispatcher.frame_bytes_max": 1 << 20})
        for i in range(100):
            post(broker, numbered(i * 1000, 1000, 100))
        stuck = connect(broker, receive_buffer=4096)
        self.wait_counter(broker, "backlog", 1)
        taken = self.counters(broker)["messages"]
        stuck.drop()
        client = connect(broker)
        # What the kernel had taken for the dead one is gone with it; everything else comes, and at most once here.
        got = receive(client, 100000 - taken)
        got += quietly(client)
        self.assertEqual(len(got), len(set(got)))
        self.assertEqual(set(got), set(numbered(taken, 100000 - taken, 100)))
        self.assertGreater(self.counters(broker)["redelivered"], 0)
        client.close()
        self.finish(broker)

    def test_slow_client_costs_one_frame_and_is_closed_when_it_takes_nothing(self):
        # AddressSanitizer keeps freed memory for a while; that isn't what is measured here.
        broker = self.broker(settings={"dispatcher.write_timeout_ms": 4000, "dispatcher.frame_bytes_max": 1 << 20},
                             env={"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=0"})
        before = self.rss_kib(broker)
        for i in range(100):
            post(broker, numbered(i * 1000, 1000, 200))
        slow = connect(broker, receive_buffer=4096)
        self.wait_counter(broker, "backlog", 1)
        client = connect(broker)
        got = receive(client, 1)

        def dropped():
            got.extend(quietly(client, 0.05))
            return self.counters(broker)["clients_dropped"] == 1

        wait_until(dropped, WAIT_S, "slow one closed")
        # 20 MB wait; held are a frame, its copy in the library, and the open records.
        self.assertLess((self.rss_kib(broker) - before) << 10, memory_bound(broker.build, 10 << 20))
        wait_until(lambda: got.extend(quietly(client, 0.05)) or broker.delivered_all(), WAIT_S, "all delivered")
        # All but what the kernel had taken for the slow one.
        self.assertEqual(len(got), len(set(got)))
        self.assertGreater(len(got), 100000 - 6000)
        self.assertEqual(self.counters(broker)["clients"], 1)
        slow.end()
        client.close()
        self.finish(broker)

    # ---- HTTP and upgrades ----

    def test_plain_http_answers_and_names_the_fix(self):
        broker = self.broker()
        connection = http.client.HTTPConnection(HOST, broker.ws_port, timeout=WAIT_S)
        for method, path, status, kind in (("GET", "/", 200, "text/plain"), ("GET", "/x", 404, "application/problem+json"),
                                           ("POST", "/", 405, "application/problem+json")):
            connection.request(method, path)
            response = connection.getresponse()
            body = response.read()
            self.assertEqual((response.status, response.getheader("content-type")), (status, kind))
            if status >= 400:
                self.assertEqual(json.loads(body)["status"], status)
        connection.close()
        self.finish(broker)

    def test_upgrades_elsewhere_or_with_a_subprotocol_or_of_other_sites_are_refused(self):
        broker = self.broker()
        for path, extra, status in (("/other", [], 404), ("/", ["Sec-WebSocket-Protocol: chat"], 400),
                                    ("/", ["Origin: https://evil.example"], 403), ("/", ["Origin: null"], 403),
                                    ("/", [f"Origin: http://{HOST}:1"], 101), ("/", ["Origin: http://localhost"], 101),
                                    ("/?a=b", [], 101)):
            with self.subTest(path=path, extra=extra):
                sock, got, _ = raw_request(broker, f"GET {path} HTTP/1.1", *UPGRADE, *extra)
                sock.close()
                self.assertEqual(got, status)
        self.finish(broker)

    def test_client_beyond_the_limit_gets_503(self):
        broker = self.broker(settings={"dispatcher.clients_max": 2})
        clients = [connect(broker) for _ in range(2)]
        self.wait_counter(broker, "clients", 2)
        sock, status, head = raw_request(broker, "GET / HTTP/1.1", *UPGRADE)
        sock.close()
        self.assertEqual(status, 503)
        self.assertIn(b"retry-after: 1", head.lower())
        clients.pop().close()
        wait_until(lambda: self.counters(broker)["clients"] == 1, WAIT_S, "one gone")
        clients.append(connect(broker))
        for client in clients:
            client.close()
        self.finish(broker)

    # ---- what clients send ----

    def test_large_message_of_a_client_closes_it_with_1009(self):
        broker = self.broker(settings={"dispatcher.receive_bytes_max": 1000})
        fine = connect(broker)
        for _ in range(50):
            fine.send(b"x" * 1000)
        large = connect(broker)
        large.send(b"x" * 1001)
        self.assertEqual(closed_code(large), 1009)
        fragments = connect(broker)
        fragments._sock.sendall(b"\x01\x81\0\0\0\0x")
        try:
            for _ in range(2000):
                fragments._sock.sendall(b"\x00\x81\0\0\0\0x")
        except OSError:
            pass
        self.assertIn(closed_code(fragments), (1009, None))
        post(broker, ["still here"])
        self.assertEqual(receive(fine, 1), ["still here"])
        fine.close()
        self.finish(broker)

    def test_protocol_violations_close_the_client_and_nobody_else(self):
        broker = self.broker()
        for name, (data, code) in VIOLATIONS.items():
            with self.subTest(name):
                client = connect(broker)
                client._sock.sendall(data)
                self.assertIn(closed_code(client), (code, None))
        wait_until(lambda: self.counters(broker)["clients"] == 0, WAIT_S, "all closed")
        fine = connect(broker)
        post(broker, ["still here"])
        self.assertEqual(receive(fine, 1), ["still here"])
        fine.close()
        self.finish(broker)

    def test_unmasked_frame_does_no_harm(self):
        # libwebsockets before 5.0 takes it, newer ones close with 1002: either way nothing is lost.
        broker = self.broker()
        client = connect(broker)
        client._sock.sendall(b"\x81\x02hi")
        post(broker, ["kept"])
        try:
            self.assertEqual(receive(client, 1), ["kept"])
        except WsClosed as closed:
            self.assertEqual(closed.code, 1002)
            client.end()
            client = connect(broker)
            self.assertEqual(receive(client, 1), ["kept"])
        client.close()
        self.finish(broker)

    def test_client_that_does_not_answer_pings_is_closed_and_one_that_does_is_kept(self):
        broker = self.broker(settings={"dispatcher.ping_s": 1})
        dead, living = connect(broker), connect(broker)
        self.wait_counter(broker, "clients", 2)

        def dropped():
            quietly(living, 0.05)
            return self.counters(broker)["clients_dropped"] == 1

        wait_until(dropped, WAIT_S, "dead one closed")
        # The post waits for the disk, however long that takes; pings are answered meanwhile.
        with concurrent.futures.ThreadPoolExecutor(1) as executor:
            posted = executor.submit(post, broker, ["for the living"])
            self.assertEqual(receive(living, 1), ["for the living"])
            posted.result()
        self.assertEqual(self.counters(broker)["clients"], 1)
        dead.end()
        living.close()
        self.finish(broker)

    # ---- instances ----

    def test_two_instances_on_one_port_deliver_each_message_once(self):
        broker = self.broker(dispatcher=2, settings={"dispatcher.frame_bytes_max": 4096})
        clients = []
        while not all(self.counters(broker, i)["clients"] > 0 for i in range(2)):
            self.assertLess(len(clients), 64, "the kernel spreads connections over the instances")
            clients.append(connect(broker))
            wait_until(lambda: sum(self.counters(broker, i)["clients"] for i in range(2)) == len(clients), WAIT_S, "in")
        for i in range(40):
            post(broker, numbered(i * 500, 500, 60))
        got = sum(receive_shared(clients, 20000), [])
        for client in clients:
            got += quietly(client, 0.02)
        self.assertEqual(sorted(got), sorted(numbered(0, 20000, 60)))
        for i in range(2):
            self.assertGreater(self.counters(broker, i)["messages"], 0)
        for client in clients:
            client.close()
        self.finish(broker)

    def test_messages_of_an_instance_whose_last_client_goes_reach_the_other(self):
        broker = self.broker(dispatcher=2, settings={"dispatcher.frame_bytes_max": 4096})
        by_instance = {}
        while len(by_instance) < 2:
            before = [self.counters(broker, i)["clients"] for i in range(2)]
            client = connect(broker, receive_buffer=4096)
            wait_until(lambda: sum(self.counters(broker, i)["clients"] for i in range(2)) == sum(before) + 1, WAIT_S, "in")
            after = [self.counters(broker, i)["clients"] for i in range(2)]
            by_instance.setdefault(0 if after[0] > before[0] else 1, client)
            if client not in by_instance.values():
                client.close()
                wait_until(lambda: sum(self.counters(broker, i)["clients"] for i in range(2)) == sum(before), WAIT_S, "out")
        for i in range(100):
            post(broker, numbered(i * 1000, 1000, 100))
        wait_until(lambda: all(self.counters(broker, i)["backlog"] > 0 for i in range(2)), WAIT_S, "both have some")
        by_instance[0].drop()
        wait_until(lambda: self.counters(broker, 0)["backlog"] == 0, WAIT_S, "released")
        total = lambda: sum(self.counters(broker, i)["messages"] for i in range(2))  # noqa: E731
        quiet = 0
        while total() < 100000 and quiet < 50:
            quiet = 0 if quietly(by_instance[1]) else quiet + 1
        self.assertEqual(total(), 100000)
        by_instance[1].close()
        self.finish(broker)

    def test_sigterm_closes_clients_with_1001_and_the_rest_is_delivered_after_the_restart(self):
        broker = self.broker(settings={"dispatcher.frame_bytes_max": 4096})
        client = connect(broker, receive_buffer=4096)
        self.wait_counter(broker, "clients", 1)
        for i in range(100):
            post(broker, numbered(i * 1000, 1000, 100))
        self.wait_counter(broker, "backlog", 1)
        process = broker.processes[("dispatcher", 0)]
        broker.signal("dispatcher", 0, signal.SIGTERM)
        got, code = [], 0
        try:
            while True:
                got += json.loads(client.receive(WAIT_S))
        except WsClosed as closed:
            code = closed.code
        self.assertEqual(code, 1001)
        client.end()
        self.assertEqual(process.child.wait(WAIT_S), 0)
        broker.spawn("dispatcher", 0)
        broker.wait_ready()
        client = connect(broker)
        got += receive(client, 100000 - len(got))
        self.assertEqual(got, numbered(0, 100000, 100))
        client.close()
        self.finish(broker)

    def test_close_frame_reaches_a_client_that_goes_on_sending(self):
        for path, subprotocol, code in (("/", None, 1001), ("/v1/ws", "ciphermq.v1.json", 3001),
                                        ("/t/default/ws", None, 3001), ("/v1/status", "ciphermq.status.json", 3001)):
            with self.subTest(path):
                broker = self.broker()
                client = connect(broker, path=path, subprotocol=subprotocol)
                if path == "/v1/ws":
                    client.send(b'{"id":1,"connect":{}}')
                    client.receive(WAIT_S)
                self.wait_counter(broker, "clients", 1)
                process = broker.processes[("dispatcher", 0)]
                quietly_raw(client)
                broker.signal("dispatcher", 0, signal.SIGTERM)
                self.assertTrue(select.select([client], [], [], WAIT_S)[0], "the close frame")
                for number in range(2, 22):
                    client.send(b'{"id":%d,"ping":{}}' % number)
                self.assertEqual(closed_code(client), code)
                self.assertEqual(process.child.wait(WAIT_S), 0)
                broker.spawn("dispatcher", 0)
                broker.wait_ready()
                self.finish(broker)

    def test_drain_ends_at_its_deadline_although_a_client_takes_nothing(self):
        broker = self.broker(settings={"common.drain_ms": 300, "dispatcher.frame_bytes_max": 1 << 20})
        for i in range(100):
            post(broker, numbered(i * 1000, 1000, 100))
        stuck = connect(broker, receive_buffer=4096)
        self.wait_counter(broker, "backlog", 1)
        process = broker.processes[("dispatcher", 0)]
        broker.signal("dispatcher", 0, signal.SIGTERM)
        self.assertEqual(process.child.wait(WAIT_S), 0)
        # What the kernel had taken still arrives. The frame that it had in part was not delivered: it comes again.
        got = []
        try:
            while True:
                got += json.loads(stuck.receive(WAIT_S))
        except (WsClosed, ConnectionResetError):
            stuck.end()
        broker.spawn("dispatcher", 0)
        broker.wait_ready()
        client = connect(broker)
        got += receive(client, 100000 - len(got))
        got += quietly(client)
        self.assertEqual(got, numbered(0, 100000, 100))
        client.close()
        self.finish(broker)


if __name__ == "__main__":
    unittest.main(verbosity=2)
