#!/usr/bin/python3
"""Connections of /v1/ws that are slow, large, in pieces, in a hurry, or sent away.

Ownership: each case has a broker of its own.
Units: messages, bytes, seconds.
Errors: unittest.
Callers: ctest, as integration.sessions.
"""

import json
import os
import signal
import struct
import sys
import threading
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import memory_bound, wait_until  # noqa: E402
from cases import HOST, WAIT_S, Case  # noqa: E402
from wsclient import CLOSE, TEXT, WsClient, WsClosed, WsError  # noqa: E402


def send_part(ws, data, first, last):
    """One masked fragment; the mask is zero."""
    head = (0x80 if last else 0) | (TEXT if first else 0)
    assert len(data) < 65536
    ws._sock.sendall(struct.pack(">BBHI", head, 0x80 | 126, len(data), 0) + data)


class Sessions(Case):
    def closed_with(self, client):
        with self.assertRaises(WsClosed) as caught:
            while True:
                client.ws.receive(WAIT_S)
        return caught.exception.code

    def resident(self, broker):
        with open(f"/proc/{broker.processes[('dispatcher', 0)].child.pid}/status", encoding="ascii") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))

    def dropped(self, broker):
        return sum(member["counters"]["clients_dropped"] for member in broker.members() if member["stage"] == "dispatcher")

    def test_upgrade_needs_the_path_and_one_of_our_subprotocols(self):
        broker = self.broker()
        for path, subprotocol in [("/v1/ws", None), ("/v1/ws", "chat"), ("/v1/ws", "cmq-root"), ("/v1/ws", "cmq-listener"),
                                  ("/v1/ws", "cmq-root, ciphermq.v1.json"), ("/", "ciphermq.v1.json"),
                                  ("/v1/wss", "ciphermq.v1.json"), ("/v1", "ciphermq.v1.json")]:
            with self.assertRaises(WsError) as caught:
                WsClient(HOST, broker.ws_port, path, WAIT_S, subprotocol=subprotocol)
            status = "404" if path in ("/v1/wss", "/v1") else "400"
            self.assertIn(status, str(caught.exception), (path, subprotocol))
        ws = WsClient(HOST, broker.ws_port, "/v1/ws", WAIT_S, subprotocol="chat, ciphermq.v1.json")
        self.assertEqual("ciphermq.v1.json", ws.subprotocol)
        ws.close()
        broker.stop()

    def test_message_in_pieces_is_one_command(self):
        broker = self.broker()
        client = self.v1(broker)
        text = json.dumps({"id": 77, "subscribe": {"topic": "a." + "b" * 200}}).encode()
        for i in range(0, len(text), 8):  # not more than dispatcher.fragments_max
            send_part(client.ws, text[i:i + 8], i == 0, i + 8 >= len(text))
        self.assertEqual("a." + "b" * 200, client.reply(77)["topic"])
        client.close()
        broker.stop()

    def test_message_that_is_too_large_closes_with_3501(self):
        broker = self.broker(settings={"dispatcher.receive_bytes_max": 1000})
        for size in (1001, 60000):
            client = self.v1(broker)
            client.send_bytes(b'{"id":9,"ping":{}}'.ljust(size))
            self.assertEqual(3501, self.closed_with(client))
        client = self.v1(broker)
        client.send_bytes(b'{"id":9,"ping":{}}'.ljust(1000))
        self.assertEqual({}, client.reply(9))
        for i in range(4):
            send_part(client.ws, b" " * 300, i == 0, False)
        self.assertEqual(3501, self.closed_with(client))
        broker.stop()

    def test_instance_that_goes_closes_with_3001_after_acks_are_confirmed(self):
        broker = self.broker()
        self.http(broker).publish("jobs", "one", "two")
        client, idle = self.v1(broker), self.v1(broker)
        items = client.items(client.consume("jobs", "w"), 2)
        number = client.send("ack", {"group": "w", "ids": [items[0]["id"]]})
        client.ping()       # so the ack was taken, whether or not it is durable yet
        broker.signal("dispatcher", 0, signal.SIGTERM)
        with self.assertRaises(WsClosed) as caught:
            client.quiet(WAIT_S)
        self.assertEqual(3001, caught.exception.code)
        self.assertEqual({"id": number, "ok": {"acked": 1, "stale": []}}, client.take_reply(number))
        self.assertEqual(3001, self.closed_with(idle))
        self.assertEqual(0, broker.processes[("dispatcher", 0)].child.wait(WAIT_S))
        broker.spawn("dispatcher", 0)
        broker.wait_ready()
        client = self.v1(broker)
        item, = client.items(client.consume(None, "w"), 1)
        self.assertEqual(("two", items[1]["id"]), (item["data"], item["id"]))
        broker.stop()

    def test_client_that_reads_nothing_costs_a_frame_and_is_dropped_others_go_on(self):
        broker = self.broker(settings={"dispatcher.write_timeout_ms": 1500})
        http, fast = self.http(broker), self.v1(broker)
        slow = self.v1(broker, receive_buffer=4096)
        slow.subscribe("t")
        sub = fast.subscribe("t")
        batch = ["x" * 1000] * 200
        http.publish("t", *batch)
        fast.items(sub, 200)
        before = self.resident(broker)
        for _ in range(200):
            http.publish("t", *batch)
            fast.items(sub, 200)
        self.assertLess(self.resident(broker) - before, memory_bound(broker.build, 8 << 20))
        wait_until(lambda: self.dropped(broker) == 1, WAIT_S, "the slow client is dropped")
        http.publish("t", "still here")
        self.assertEqual("still here", fast.items(sub, 1)[0]["data"])
        broker.stop()

    def test_client_that_sends_commands_and_reads_no_replies_is_not_read_from(self):
        broker = self.broker()
        flood, other = self.v1(broker, receive_buffer=4096), self.v1(broker)
        before = self.resident(broker)
        text = b'{"id":9,"ping":{}}'
        frame = struct.pack(">BBI", 0x80 | TEXT, 0x80 | len(text), 0) + text
        sent = []

        def pour():
            flood.ws._sock.settimeout(2.0)
            try:
                for _ in range(400):
                    flood.ws._sock.sendall(frame * 1000)
                    sent.append(1000)
            except (TimeoutError, OSError):
                pass

        thread = threading.Thread(target=pour)
        thread.start()
        for _ in range(20):
            other.ping()
        thread.join()
        self.assertLess(sum(sent), 400000, "it was read from without end")
        self.assertLess(self.resident(broker) - before, memory_bound(broker.build, 8 << 20))
        other.ping()
        flood.drop()
        broker.stop()

    def test_subscriber_far_behind_does_not_delay_a_live_one(self):
        broker = self.broker()
        http, live = self.http(broker), self.v1(broker)
        for _ in range(50):
            http.publish("backlog", *["y" * 100] * 2000)
        sub = live.subscribe("live")
        behind = self.v1(broker)
        old = behind.subscribe("backlog", since="earliest")
        got = []
        thread = threading.Thread(target=lambda: got.extend(behind.items(old, 100000, 60)))
        thread.start()
        for i in range(50):
            http.publish("live", str(i))
            self.assertEqual(str(i), live.items(sub, 1)[0]["data"])
        thread.join()
        self.assertEqual(100000, len(got))
        broker.stop()

    def test_close_frame_of_the_client_is_answered(self):
        broker = self.broker()
        client = self.v1(broker)
        client.ws.send(struct.pack(">H", 1000), CLOSE)
        self.assertEqual(1000, self.closed_with(client))
        broker.stop()


if __name__ == "__main__":
    unittest.main(verbosity=2)
