#!/usr/bin/python3
"""A whole broker that ends and begins again, in order, by kill, and with its shared memory gone as after a reboot.

Ownership: each case has a broker of its own.
Units: messages, seconds.
Errors: unittest.
Callers: ctest, as integration.restart.
"""

import json
import os
import signal
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import STAGES  # noqa: E402
from cases import WAIT_S, Case, ids_of  # noqa: E402


class Restart(Case):
    def drain_all(self, broker):
        for stage in STAGES:
            process = broker.processes[stage, 0]
            broker.signal(stage, 0, signal.SIGTERM)
            self.assertEqual(process.child.wait(WAIT_S), 0, broker.log_tails())

    def in_order(self, broker):
        self.drain_all(broker)
        self.spawn_all(broker)

    def by_kill(self, broker):
        self.kill_all(broker)
        self.spawn_all(broker)

    def ways(self):
        return (self.in_order, self.by_kill, self.reboot)

    def test_messages_groups_and_cursors_are_there_after_a_restart(self):
        broker = self.broker()
        client = self.http(broker)
        ids = ids_of(client.publish("t", *[f"m{i}" for i in range(10)]), 10)
        member, reader = self.v1(broker), self.v1(broker)
        items = member.items(member.consume("t", "g", credit=6), 6)
        self.assertEqual(4, member.ack("g", [item["id"] for item in items[:4]])["acked"])
        self.same(reader.items(reader.subscribe("t", since="earliest"), 10), [f"m{i}" for i in range(10)])
        count = 10
        for way in self.ways():
            way(broker)
            client, reader = self.http(broker), self.v1(broker)
            # The cursor is an id: it goes on where it was, and the numbers go on, too.
            sub = reader.subscribe("t", since=ids[-1])
            new = client.publish("t", f"m{count}")
            self.assertGreater(int(new.split("-")[0]), int(ids[-1].split("-")[0]))
            self.same(reader.items(sub, 1), [f"m{count}"], new)
            ids.append(new)
            count += 1
            whole = reader.items(reader.subscribe("t", since="earliest"), count)
            self.assertEqual([item["id"] for item in whole], ids)
            self.assertEqual([item["data"] for item in whole], [f"m{i}" for i in range(count)])
        member = self.v1(broker)
        sub = member.consume(None, "g", credit=100)
        items = member.items(sub, count - 4)
        self.assertEqual(sorted(item["data"] for item in items), sorted(f"m{i}" for i in range(4, count)))
        self.assertEqual(count - 4, member.ack("g", [item["id"] for item in items])["acked"])
        self.assertEqual([], member.quiet(0.2))
        self.reboot(broker)
        member = self.v1(broker)
        sub = member.consume(None, "g")
        self.http(broker).publish("t", "last")
        self.same(member.items(sub, 1), ["last"])
        self.stop(broker)

    def test_root_endpoint_goes_on_where_it_was(self):
        broker = self.broker()
        for turn, way in enumerate(self.ways()):
            texts = [f"{turn}.{i}" for i in range(50)]
            for text in texts:
                self.assertEqual(self.http(broker).post("/input", {"content": text}).status, 200)
            root = self.root(broker)
            got = []
            while len(got) < 20:
                got += json.loads(root.receive(WAIT_S))
            self.assertEqual(got, texts[:len(got)])
            root.close()
            way(broker)
            self.assertEqual(self.http(broker).post("/input", {"content": f"{turn}.end"}).status, 200)
            root = self.root(broker)
            rest = json.loads(root.receive(WAIT_S))
            while rest[-1] != f"{turn}.end":
                rest += json.loads(root.receive(WAIT_S))
            root.close()
            # What was read may come again after a death, what was not read must come.
            self.assertEqual(texts, sorted(set(got + rest) - {f"{turn}.end"}, key=lambda text: int(text.split(".")[1])))
            self.in_order(broker)
        self.stop(broker)

    def test_store_in_memory_survives_processes_and_not_its_removal(self):
        broker = self.broker(settings={"log.store": "memory"})
        client = self.http(broker)
        reply = client.post("/v1/topics/t", "m0", "text/plain", CMQ_Ack="durable")
        self.assertEqual((reply.status, reply.body["ack"]), (200, "accepted"), reply)
        key = client.publish("t", "m1", Idempotency_Key="k")
        self.assertIn(f"cmq.{broker.instance}.idempotency", broker.shared_objects())
        self.by_kill(broker)
        again = self.http(broker).post("/v1/topics/t", "m1", "text/plain", Idempotency_Key="k")
        self.assertEqual((again.body["id"], again.body["duplicate"]), (key, True))
        reader = self.v1(broker)
        self.same(reader.items(reader.subscribe("t", since="earliest"), 2), ["m0", "m1"])
        self.reboot(broker)
        # Neither the log nor what names its records is left.
        self.assertEqual("1-0", self.http(broker).publish("t", "m2", Idempotency_Key="k"))
        reader = self.v1(broker)
        self.same(reader.items(reader.subscribe("t", since="earliest"), 1), ["m2"])
        self.stop(broker)

    def test_ack_says_what_was_given(self):
        for settings, asked, given in (({}, None, "durable"), ({}, "accepted", "accepted"), ({}, "durable", "durable"),
                                       ({"ingest.ack": "accepted"}, None, "accepted"),
                                       ({"log.sync": "interval", "log.sync_ms": 20}, "durable", "durable"),
                                       ({"log.sync": "none"}, "durable", "accepted")):
            with self.subTest(settings=settings, asked=asked):
                broker = self.broker(settings=settings)
                headers = {"CMQ_Ack": asked} if asked else {}
                reply = self.http(broker).post("/v1/topics/t", "m", "text/plain", **headers)
                self.assertEqual((reply.status, reply.body["ack"]), (200, given), reply)
                self.stop(broker)


if __name__ == "__main__":
    unittest.main(verbosity=2)
