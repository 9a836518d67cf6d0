#!/usr/bin/python3
"""Topics: what can be published to them, who gets it, and what is refused with which words. Both formats of the protocol.

Ownership: one broker for all cases; each uses topics of its own.
Units: messages, seconds.
Errors: unittest.
Callers: ctest, as integration.topics.
"""

import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import Broker  # noqa: E402
from cases import HOST, WAIT_S, Case, ids_of  # noqa: E402
from v1client import FORMATS, V1Client, V1Error  # noqa: E402
from wsclient import TEXT, WsClient, WsClosed, WsError  # noqa: E402

SHARED = {}


def setUpModule():
    SHARED["broker"] = Broker().start()


def tearDownModule():
    SHARED["broker"].stop()


class Topics(Case):
    def setUp(self):
        self.one = SHARED["broker"]
        self.client = self.http(self.one)

    def both(self):
        """A client in each format."""
        return [(form, self.v1(self.one, form)) for form in FORMATS]

    def test_patterns_choose_what_a_subscriber_gets(self):
        cases = {"p.a.b": ["p.a.b"], "p.*.b": ["p.a.b", "p.c.b"], "p.>": ["p.a.b", "p.c.b", "p.a", "p.a.b.c"],
                 "p.a": ["p.a"], "p.a.>": ["p.a.b", "p.a.b.c"], "p.*": ["p.a"], "*.a.b": ["p.a.b"]}
        sent = ["p.a.b", "p.c.b", "q.x.b", "p.a", "p.a.b.c"]
        for _form, reader in self.both():
            subs = {pattern: reader.subscribe(pattern) for pattern in cases}
            for topic in sent:
                self.client.publish(topic, topic)
            for pattern, want in cases.items():
                items = reader.items(subs[pattern], len(want))
                self.assertEqual([item["data"] for item in items], want, pattern)
                self.assertEqual([item["topic"] for item in items], want, pattern)
            self.assertEqual([], reader.quiet(0.1))

    def test_contents_of_every_kind_arrive_as_what_they_are(self):
        json_text = '{"a": [1, 2.5, "\\u00e4"], "b": null}'
        posts = [("text/plain", "text \u00e4\u0000".encode(), "text \u00e4\u0000", None),
                 (None, b"no type", "no type", None),
                 ("application/octet-stream", bytes(range(256)), bytes(range(256)), "application/octet-stream"),
                 ("text/csv", b"a,b\n", "a,b\n", "text/csv"),
                 ("application/json", json_text.encode(), {"a": [1, 2.5, "\u00e4"], "b": None}, None),
                 ("text/plain", b"", "", None), ("text/plain", "x".encode() * 100000, "x" * 100000, None)]
        for form, reader in self.both():
            sub = reader.subscribe("kinds." + form)
            for kind, body, want, kept in posts:
                reply = self.client.post("/v1/topics/kinds." + form, body, kind)
                self.assertEqual((reply.status, reply.body["count"], reply.body["ack"]), (200, 1, "durable"), reply)
                item, = reader.items(sub, 1)
                data = item["data"]
                if kind == "application/json" and form == "msgpack" and isinstance(data, str):
                    self.assertEqual((data, item["type"]), (json_text, kind))
                    continue
                self.assertEqual(data, want)
                self.assertEqual(item.get("type"), kept)
                self.assertEqual(item["id"], reply.body["id"])

    def test_batch_keeps_order_types_and_ids(self):
        for form, reader in self.both():
            sub = reader.subscribe("batch." + form)
            batch = ["plain", {"data": "typed", "type": "text/csv"}, {"data": {"n": 1}}, {"data": [1, 2]}, ""]
            reply = self.client.post(f"/v1/topics/batch.{form}/batch", batch)
            self.assertEqual((reply.status, reply.body["count"]), (200, 5), reply)
            items = reader.items(sub, 5)
            self.assertEqual([item["id"] for item in items], ids_of(reply.body["id"], 5))
            self.assertEqual([items[i]["data"] for i in (0, 1, 4)], ["plain", "typed", ""])
            self.assertEqual(items[1]["type"], "text/csv")
            self.assertIn(items[2]["data"], ({"n": 1}, '{"n":1}', '{"n": 1}'))

    def test_input_is_the_topic_default(self):
        for _form, reader in self.both():
            sub = reader.subscribe("default")
            self.client.post("/input", {"content": "one"})
            self.client.post("/input/batch", {"messages": [{"content": "two"}, {"content": "three"}]})
            self.same(reader.items(sub, 3), ["one", "two", "three"])

    def test_bad_topics_are_refused_with_the_place(self):
        for topic in ("a..b", ".a", "a.", "a.*", "a.>", "a%20b", "a" * 256, "a b".replace(" ", "\x7f")):
            reply = self.client.post("/v1/topics/" + topic.replace("\x7f", "%7f"), "x", "text/plain")
            self.assertIn(reply.status, (400, 404), (topic, reply))
            self.assertEqual(reply.body["status"], reply.status)
        reply = self.client.post("/v1/topics/a..b", "x", "text/plain")
        self.assertEqual(reply.status, 400)
        self.assertIn("bad-topic", reply.body["type"])
        reply = self.client.post("/v1/topics/$dead.a", "x", "text/plain")
        self.assertEqual(reply.status, 403)
        self.assertIn("reserved-topic", reply.body["type"])

    def test_bad_batches_are_refused_whole(self):
        for _form, reader in self.both():
            sub = reader.subscribe("bad")
            for body in ('["a",', '["a", 7]', '["a", {"data":"b","novel":1}]', '{"a":1}', '["a", {"type":"x"}]', "", "[]]"):
                reply = self.client.post("/v1/topics/bad/batch", body)
                self.assertEqual(reply.status, 400, (body, reply))
                self.client = self.http(self.one)
            reply = self.client.post("/v1/topics/bad", "{", "application/json")
            self.assertEqual(reply.status, 400, reply)
            self.client = self.http(self.one)
            self.client.publish("bad", "good")
            self.same(reader.items(sub, 1), ["good"])

    def test_since_chooses_where_a_subscriber_begins(self):
        for form, reader in self.both():
            topic = "since." + form
            first = self.client.publish(topic, "0", "1", "2")
            second = self.client.publish(topic, "3", "4")
            ids = ids_of(first, 3) + ids_of(second, 2)
            for since, want in (("earliest", range(5)), (ids[0], range(1, 5)), (ids[2], range(3, 5)), (ids[3], range(4, 5))):
                self.same(reader.items(reader.subscribe(topic, since=since), len(want)), map(str, want))
            latest = reader.subscribe(topic, since="latest")
            third = self.client.publish(topic, "5")
            self.same(reader.items(latest, 1), ["5"], third)

    def test_errors_name_what_is_wrong_and_harm_nothing(self):
        for _form, reader in self.both():
            sub = reader.subscribe("fine")
            for name, body, code in (("subscribe", {"topic": "a..b"}, "bad_topic"), ("subscribe", {}, "bad_topic"),
                                     ("subscribe", {"topic": "a", "since": "x"}, "bad_since"),
                                     ("consume", {"topic": "a", "group": "b d"}, "bad_group"),
                                     ("consume", {"group": "unheard-of"}, "no_such_group"),
                                     ("ack", {"group": "nobody", "ids": ["1-0"]}, "no_such_group"),
                                     ("unsubscribe", {"id": 999}, "no_such_sub"), ("novel", {}, "bad_command")):
                with self.assertRaises(V1Error, msg=(name, body)) as caught:
                    reader.command(name, body)
                allowed = {code, "bad_command"} if body == {} else {code}
                self.assertIn(caught.exception.code, allowed, (name, body, caught.exception))
                self.assertTrue(caught.exception.message)
            with self.assertRaises(V1Error) as caught:
                reader.command("subscribe", {"topic": "fine"}, number=sub)
            self.assertEqual("id_in_use", caught.exception.code)
            reader.send("ack", {"group": "nobody", "ids": ["1-0"]}, number=None)
            self.assertEqual("no_such_group", reader.error()[0])
            self.client.publish("fine", "still")
            self.same(reader.items(sub, 1), ["still"])
            self.assertEqual({}, reader.ping())

    def test_unsubscribe_ends_a_subscription_and_no_other(self):
        for _form, reader in self.both():
            a, b = reader.subscribe("un"), reader.subscribe("un")
            self.client.publish("un", "both")
            self.same(reader.items(a, 1) + reader.items(b, 1), ["both", "both"])
            self.assertEqual({}, reader.unsubscribe(a))
            self.client.publish("un", "one")
            self.same(reader.items(b, 1), ["one"])
            self.assertEqual([], reader.quiet(0.1))

    def test_protocol_errors_close_with_3500_and_upgrades_need_a_subprotocol(self):
        for form in FORMATS:
            for data in {"json": (b"not json", b"[]", b"{\"id\":1"), "msgpack": (b"\xc1", b"\x90", b"\x82\xa2id\x01")}[form]:
                client = V1Client(HOST, self.one.ws_port, form, timeout=WAIT_S)
                client.send_bytes(data)
                self.assertEqual(3500, self.code(client), (form, data))
            early = V1Client(HOST, self.one.ws_port, form, timeout=WAIT_S, connect=False)
            early.send("subscribe", {"topic": "a"})
            self.assertEqual(3500, self.code(early))
        for protocol in (None, "chat"):
            with self.assertRaisesRegex(WsError, "400"):
                WsClient(HOST, self.one.ws_port, "/v1/ws", WAIT_S, subprotocol=protocol)
        large = V1Client(HOST, self.one.ws_port, timeout=WAIT_S)
        large.send_bytes(b'{"ping":"' + b"x" * (large.about["receive_bytes_max"] + 1) + b'"}', TEXT)
        self.assertIn(self.code(large), (3501, None))

    def code(self, client):
        """The code of the close that comes."""
        try:
            while True:
                client.ws.receive(WAIT_S)
        except WsClosed as closed:
            return closed.code
        except ConnectionResetError:
            return None
        finally:
            client.ws.end()

    def test_several_commands_need_not_wait_for_each_other(self):
        for form, reader in self.both():
            numbers = [reader.send("subscribe", {"topic": f"many.{form}.{i}"}) for i in range(20)]
            numbers += [reader.send("ping", {}) for _ in range(20)]
            for number in numbers:
                reader.reply(number)
            for i in range(20):
                self.client.publish(f"many.{form}.{i}", str(i))
            for i in range(20):
                self.same(reader.items(numbers[i], 1), [str(i)])


if __name__ == "__main__":
    unittest.main(verbosity=2)
