#!/usr/bin/python3
"""ciphermqctl drain: a broker of deploy/up under load comes to rest, and nothing of what was acknowledged is lost.

Ownership: the class has one broker, with its supervisord.
Units: messages, seconds.
Errors: unittest.
Callers: ctest, as integration.ctl_drain.
"""

import http.client
import json
import os
import socket
import sys
import threading
import unittest
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import find_build, wait_until  # noqa: E402
from cases import HOST, WAIT_S  # noqa: E402
from home import Home  # noqa: E402
from v1client import V1Client  # noqa: E402
from wsclient import WsClosed  # noqa: E402


class Publisher(threading.Thread):
    """Single durable messages, one after the other, until it is refused."""

    def __init__(self, home, number):
        super().__init__(daemon=True)
        self.home, self.number, self.acked, self.end = home, number, [], None

    def run(self):
        connection = http.client.HTTPConnection(HOST, self.home.http_port, timeout=WAIT_S)
        for count in range(1000000):
            text = f"{self.number}.{count}"
            try:
                connection.request("POST", "/v1/topics/load", text, {"Content-Type": "text/plain"})
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException) as error:
                self.end = error
                return
            if response.status != 200:
                self.end = response.status
                return
            self.acked.append(text)


class Reader(threading.Thread):
    """Everything of a topic, until the dispatcher goes."""

    def __init__(self, home, topic):
        super().__init__(daemon=True)
        self.client = V1Client(HOST, home.ws_port, timeout=60.0)
        self.subscription = self.client.subscribe(topic, since="earliest")
        self.got, self.code = set(), None

    def run(self):
        try:
            while True:
                self.got.update(item["data"] for item in self.client.items(self.subscription, 1))
        except WsClosed as closed:
            self.code = closed.code
        self.client.ws.end()


class Drain(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.home = Home(find_build()).start()

    @classmethod
    def tearDownClass(cls):
        cls.home.stop()

    def start_stages(self):
        for stage in ("ingest", "encryptor", "dispatcher"):
            self.home.command("scale", stage, "1")
        # A stage is in the ring a moment before it listens.
        for port in (self.home.http_port, self.home.ws_port):
            wait_until(lambda port=port: self.is_ready(port), WAIT_S, f"port {port} listens")

    def is_ready(self, port):
        try:
            socket.create_connection((HOST, port), WAIT_S).close()
            return True
        except OSError:
            return False

    def publish(self, topic, text):
        request = urllib.request.Request(f"http://{HOST}:{self.home.http_port}/v1/topics/{topic}", text.encode("ascii"),
                                         {"Content-Type": "text/plain"})
        with urllib.request.urlopen(request, timeout=WAIT_S) as reply:
            self.assertEqual(200, reply.status)

    def drain(self, *words, code=0):
        result = self.home.command("drain", *words, check=False)
        self.assertEqual(code, result.returncode, result.stdout + result.stderr)
        return result

    def live(self):
        return json.loads(self.home.command("status", "--json", check=False).stdout)["live"]

    def test_drain_under_load_loses_nothing_that_was_acknowledged(self):
        self.start_stages()
        reader = Reader(self.home, "load")
        reader.start()
        publishers = [Publisher(self.home, number) for number in range(4)]
        for publisher in publishers:
            publisher.start()
        wait_until(lambda: all(len(publisher.acked) > 20 for publisher in publishers), WAIT_S, "load")
        answer = json.loads(self.drain("--json").stdout)
        self.assertEqual((True, 0, 0), (answer["drained"], answer["not_stored_records"], answer["clients_behind"]))
        self.assertEqual({"ingest": 0, "encryptor": 0, "dispatcher": 0}, self.live())
        for publisher in publishers:
            publisher.join(WAIT_S)
            self.assertFalse(publisher.is_alive())
            self.assertTrue(publisher.end == 503 or isinstance(publisher.end, (OSError, http.client.HTTPException)))
        acked = {text for publisher in publishers for text in publisher.acked}
        # Whoever was connected had got everything before its dispatcher went.
        reader.join(WAIT_S)
        self.assertEqual((3001, set()), (reader.code, acked - reader.got))
        self.start_stages()
        with urllib.request.urlopen(f"http://{HOST}:{self.home.ws_port}/t/load/json?since=earliest", timeout=WAIT_S) as lines:
            stored = {json.loads(line)["data"] for line in lines}
        self.assertEqual(set(), acked - stored)
        self.assertEqual(set(), reader.got - stored)

    def test_message_that_a_member_keeps_is_waited_for_and_then_named(self):
        self.start_stages()
        member = V1Client(HOST, self.home.ws_port, timeout=WAIT_S)
        subscription = member.consume("held", "keeper", ack_wait_ms=600000)
        self.publish("held", "kept")
        items = member.items(subscription, 1)
        result = self.drain("--timeout", "1", code=1)
        self.assertIn("1 groups with members had more to get", result.stderr)
        self.assertIn("group keeper (held): ", result.stdout)
        self.assertEqual({"ingest": 0, "encryptor": 0, "dispatcher": 0}, self.live())
        member.ws.end()
        self.start_stages()
        member = V1Client(HOST, self.home.ws_port, timeout=WAIT_S)
        again = member.items(member.consume("held", "keeper"), 1)
        self.assertEqual([items[0]["id"]], [item["id"] for item in again])
        member.ack("keeper", [again[0]["id"]])
        member.close()
        self.assertIn("drained", self.drain().stdout)

    def test_one_instance_is_drained_and_the_others_go_on(self):
        self.start_stages()
        self.home.command("scale", "encryptor", "2")
        self.assertIn("encryptor:1 stopped", self.drain("encryptor:1").stdout)
        self.assertEqual({"ingest": 1, "encryptor": 1, "dispatcher": 1}, self.live())
        self.publish("load.one", "x")
        self.assertEqual(64, self.home.command("drain", "encryptor:9", check=False).returncode)


if __name__ == "__main__":
    unittest.main(verbosity=2)
