#!/usr/bin/python3
"""Idempotent publish: keys of requests and ids of messages; repeats, conflicts, the window, restarts, several ingests.

Ownership: each case has a broker of its own.
Units: messages, seconds.
Errors: unittest.
Callers: ctest, as integration.idempotency.
"""

import os
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from cases import Case, Http  # noqa: E402


class Idempotency(Case):
    def test_repeat_of_a_request_has_the_same_result_and_says_so(self):
        broker = self.broker()
        client = self.http(broker)
        for path, body, kind in (("/v1/topics/t", "one", "text/plain"), ("/v1/topics/t/batch", ["a", "b"], "application/json"),
                                 ("/input", {"content": "c"}, "application/json"),
                                 ("/input/batch", {"messages": [{"content": "d"}, {"content": "e"}]}, "application/json")):
            first = client.post(path, body, kind, Idempotency_Key="k" + path)
            again = client.post(path, body, kind, Idempotency_Key="k" + path)
            self.assertEqual((first.status, again.status), (200, 200), (first, again))
            self.assertNotIn("duplicate", {name for name, value in first.body.items() if value})
            self.assertTrue(again.body["duplicate"])
            self.assertEqual((first.body["id"], first.body["count"], first.body["ack"]),
                             (again.body["id"], again.body["count"], again.body["ack"]))
        reader = self.v1(broker)
        self.same(reader.items(reader.subscribe(">", since="earliest"), 6), ["one", "a", "b", "c", "d", "e"])
        self.assertEqual([], reader.quiet(0.2))
        self.stop(broker)

    def test_other_body_under_a_known_key_is_a_conflict_and_is_not_kept(self):
        broker = self.broker()
        client = self.http(broker)
        self.assertEqual(client.post("/v1/topics/t", "one", "text/plain", Idempotency_Key="k").status, 200)
        conflict = client.post("/v1/topics/t", "two", "text/plain", Idempotency_Key="k")
        self.assertEqual(conflict.status, 409, conflict)
        self.assertIn("idempotency-conflict", conflict.body["type"])
        client = self.http(broker)
        self.assertEqual(client.post("/v1/topics/t/batch", [{"data": "three", "id": "m"}, "four"]).status, 200)
        self.assertEqual(client.post("/v1/topics/t/batch", ["x", {"data": "other", "id": "m"}]).status, 409)
        client = self.http(broker)
        client.publish("t", "end")
        reader = self.v1(broker)
        self.same(reader.items(reader.subscribe("t", since="earliest"), 4), ["one", "three", "four", "end"])
        self.stop(broker)

    def test_time_to_live_counts_from_each_try_and_makes_no_other_request(self):
        broker = self.broker()
        client = self.http(broker)
        batch = [{"data": "b", "ttl_ms": 600000}, {"data": "c", "type": "x/y", "ttl_ms": 600000}, "d"]
        for path, body, kind in (("/v1/topics/t", "a", "text/plain"), ("/v1/topics/t/batch", batch, "application/json")):
            replies = []
            while len({reply.headers["date"] for reply in replies}) < 2:    # tries of different seconds
                replies.append(client.post(path, body, kind, Idempotency_Key="k" + path, CMQ_TTL="10m"))
                self.assertEqual(replies[-1].status, 200, replies[-1])
                time.sleep(0.1)     # the pace of trying
            self.assertEqual({replies[0].body["id"]}, {reply.body["id"] for reply in replies})
            self.assertTrue(all(reply.body["duplicate"] for reply in replies[1:]))
        for other in (batch[:2], batch[::-1], [{**batch[0], "data": "B"}, *batch[1:]], [batch[0], {**batch[1], "type": "x/z"}, "d"]):
            client = self.http(broker)
            self.assertEqual(client.post("/v1/topics/t/batch", other, Idempotency_Key="k/v1/topics/t/batch", CMQ_TTL="10m").status, 409)
        self.stop(broker)

    def test_ids_of_messages_leave_out_what_is_known(self):
        broker = self.broker()
        client = self.http(broker)
        first = client.post("/v1/topics/t/batch", [{"data": "a", "id": "1"}, {"data": "b", "id": "2"}])
        self.assertEqual(first.status, 200, first)
        part = client.post("/v1/topics/t/batch", [{"data": "b", "id": "2"}, {"data": "c", "id": "3"}, "d"])
        self.assertEqual((part.status, part.body["count"], part.body["duplicates"]), (200, 3, 1), part)
        whole = client.post("/v1/topics/t/batch", [{"data": "a", "id": "1"}, {"data": "b", "id": "2"}])
        self.assertEqual(whole.status, 200)
        self.assertTrue(whole.body.get("duplicate") or whole.body.get("duplicates") == 2, whole)
        single = client.post("/input", {"content": "e", "id": "5"})
        again = client.post("/input", {"content": "e", "id": "5"})
        self.assertEqual((single.status, again.status, again.body.get("duplicate")), (200, 200, True))
        self.assertEqual(single.body["id"], again.body["id"])
        both = client.post("/v1/topics/t/batch", [{"data": "f", "id": "6"}], Idempotency_Key="k")
        self.assertEqual(both.status, 400, both)
        reader = self.v1(broker)
        items = reader.items(reader.subscribe("t", since="earliest"), 4)
        self.same(items, ["a", "b", "c", "d"])
        seq = part.body["id"].split("-")[0]
        self.assertEqual([item["id"] for item in items[2:]], [f"{seq}-1", f"{seq}-2"])
        self.stop(broker)

    def test_keys_survive_the_restart_of_everything_and_the_loss_of_shared_memory(self):
        broker = self.broker(ingest=2, encryptor=2)
        client = self.http(broker)
        firsts = {f"k{i}": client.publish("t", f"m{i}", Idempotency_Key=f"k{i}") for i in range(20)}
        for again in range(2):
            if again:
                self.reboot(broker)
            else:
                self.kill_all(broker)
                self.spawn_all(broker)
            client = self.http(broker)
            for i in range(20):
                reply = client.post("/v1/topics/t", f"m{i}", "text/plain", Idempotency_Key=f"k{i}")
                self.assertEqual((reply.status, reply.body.get("duplicate"), reply.body.get("id")),
                                 (200, True, firsts[f"k{i}"]), reply)
        reader = self.v1(broker)
        self.same(reader.items(reader.subscribe("t", since="earliest"), 20), [f"m{i}" for i in range(20)])
        self.assertEqual([], reader.quiet(0.2))
        self.stop(broker)

    def test_window_ends(self):
        broker = self.broker(settings={"encryptor.idempotency_window_ms": 1000})
        client = self.http(broker)
        begin = time.monotonic()  # the window begins with the commit, which may be long before the reply
        first = client.publish("t", "m", Idempotency_Key="k")
        reply = client.post("/v1/topics/t", "m", "text/plain", Idempotency_Key="k")
        if time.monotonic() - begin < 0.5:
            self.assertTrue(reply.body.get("duplicate"), reply)
        while reply.body.get("duplicate"):
            self.assertLess(time.monotonic() - begin, 20, "the window does not end")
            self.assertEqual(first, reply.body["id"])
            time.sleep(0.1)     # the pace of asking
            reply = client.post("/v1/topics/t", "m", "text/plain", Idempotency_Key="k")
        self.assertEqual(reply.status, 200)
        self.assertNotEqual(first, reply.body["id"])
        self.stop(broker)

    def test_the_same_key_at_the_same_time_makes_one_message(self):
        broker = self.broker(ingest=2, encryptor=2)
        for turn in range(20):
            replies = []

            def publish(turn=turn, replies=replies):
                client = Http(broker)
                replies.append(client.post("/v1/topics/t", f"m{turn}", "text/plain", Idempotency_Key=f"k{turn}"))
                client.close()

            threads = [threading.Thread(target=publish) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual({200}, {reply.status for reply in replies}, replies)
            self.assertEqual(1, len({reply.body["id"] for reply in replies}), replies)
            self.assertEqual(5, sum(bool(reply.body.get("duplicate")) for reply in replies), replies)
        reader = self.v1(broker)
        self.same(reader.items(reader.subscribe("t", since="earliest"), 20), [f"m{i}" for i in range(20)])
        self.stop(broker)

    def test_bad_keys_are_refused(self):
        broker = self.broker()
        for key in ("", "k" * 129, "a b", "\u00e4"):
            reply = self.http(broker).post("/v1/topics/t", "m", "text/plain", Idempotency_Key=key)
            self.assertEqual(reply.status, 400, (key, reply))
        self.assertEqual(self.http(broker).post("/v1/topics/t", "m", "text/plain", Idempotency_Key="k" * 128).status, 200)
        reply = self.http(broker).post("/v1/topics/t", "m", "text/plain", CMQ_Ack="certain")
        self.assertEqual(reply.status, 400, reply)
        self.stop(broker)


if __name__ == "__main__":
    unittest.main(verbosity=2)
