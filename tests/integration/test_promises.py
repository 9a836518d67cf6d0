#!/usr/bin/python3
"""The seven promises of a broker, each with a test that tries to break it. What a power cut does to the log's files is tried
by the tests of the log itself, on recorded file calls; here processes die and shared memory vanishes.

Ownership: each case has a broker of its own.
Units: messages, seconds.
Errors: unittest.
Callers: ctest, as integration.promises.
"""

import json
import os
import random
import signal
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import STAGES, TINY, wait_until  # noqa: E402
from cases import WAIT_S, Case, Http  # noqa: E402

FAULTS = 25


class Promises(Case):
    def torment(self, broker, troupe, faults=FAULTS, stages=STAGES, everything=0.15, seed=7):
        """Kills instances at random moments, and now and then all at once; waits until work goes on after each."""
        pick = random.Random(seed)
        for _ in range(faults):
            time.sleep(pick.uniform(0.01, 0.15))        # the moment is random, nothing is waited for
            if pick.random() < everything:
                for stage in stages:
                    for number in range(broker.counts[stage]):
                        self.kill_supervised(broker, stage, number, troupe)
            else:
                stage = pick.choice(stages)
                self.kill_supervised(broker, stage, pick.randrange(broker.counts[stage]), troupe)
            before = sum(actor.acknowledged for actor in troupe.actors["publish"])
            wait_until(lambda before=before: sum(a.acknowledged for a in troupe.actors["publish"]) > before, WAIT_S,
                       "publishing goes on")
        broker.wait_ready()

    def test_1_what_was_answered_as_durable_survives_kills_at_any_moment_and_the_loss_of_shared_memory(self):
        broker = self.broker(supervise=True, settings=TINY)
        troupe = self.troupe(broker)
        for _ in range(3):
            troupe.start("publish", topics=["a.b", "default"], ack="durable")
        self.torment(broker, troupe)
        # The last requests are in the middle of things when everything goes.
        broker._halt_supervisor()
        broker.supervise = False
        self.reboot(broker, troupe)
        troupe.stop("publish")
        troupe.start("subscribe", topic=">", name="after")
        self.settled(troupe)
        self.stop(broker)

    def test_1_what_only_the_ring_has_is_not_answered_as_durable(self):
        broker = self.broker()
        self.http(broker).publish("t", "stored")
        broker.signal("encryptor", 0, signal.SIGSTOP)
        answers = []

        def publish():
            client = Http(broker)
            try:
                answers.append(client.post("/v1/topics/t", "in the ring", "text/plain", CMQ_Ack="durable").status)
            except OSError:
                pass            # no answer
            client.close()

        thread = threading.Thread(target=publish)
        thread.start()
        wait_until(lambda: broker.status()["ring"]["published"] == 3, WAIT_S, "it is in the ring")
        thread.join(0.5)        # an answer that comes too early comes at once
        self.reboot(broker)
        thread.join()
        reader = self.v1(broker)
        sub = reader.subscribe("t", since="earliest")
        last = self.http(broker).publish("t", "last")
        got = [item["data"] for item in reader.items(sub, 2)]
        self.assertEqual((got, answers), (["stored", "last"], []), last)
        self.stop(broker)

    def test_2_what_was_answered_as_accepted_survives_the_death_of_every_process(self):
        broker = self.broker(settings={"ring.slots": 256})
        # Nobody seals or stores: all there is is in shared memory.
        broker.signal("encryptor", 0, signal.SIGSTOP)
        client = self.http(broker)
        want = [f"message {i}" for i in range(100)]
        for i, text in enumerate(want):
            reply = client.post("/v1/topics/t", text, "text/plain", CMQ_Ack="accepted")
            self.assertEqual((reply.status, reply.body["ack"]), (200, "accepted"))
            if i == 50:
                broker.kill("ingest", 0)
                broker.spawn("ingest", 0)
                wait_until(broker.http_answers, WAIT_S, "the next ingest")
                client = self.http(broker)
        self.kill_all(broker)
        self.spawn_all(broker)
        reader = self.v1(broker)
        self.same(reader.items(reader.subscribe("t", since="earliest"), 100), want)
        self.stop(broker)

    def test_3_retries_with_the_same_key_give_exactly_one(self):
        broker = self.broker(ingest=2, encryptor=2, supervise=True, settings=TINY)
        troupe = self.troupe(broker)
        for _ in range(3):
            troupe.start("publish", topics=["a.b", "default"], key_share=1.0, other_body_share=0.1)
        troupe.start("subscribe", topic=">", name="live")
        self.torment(broker, troupe, stages=("ingest", "encryptor"))
        troupe.stop("publish")
        self.settled(troupe)
        history = troupe.history()
        self.assertTrue(any(entry[4] == "info" for entry in history.publishes), "nothing was ever unknown")
        self.assertTrue(any(key.duplicate for key in history.keys.values()), "nothing was ever a repeat")
        seen = {}
        for delivery in history.deliveries:
            seen.setdefault(delivery.message, set()).add(delivery.place)
        self.assertEqual([], [message for message, places in seen.items() if len(places) > 1])
        self.stop(broker)

    def test_4_first_deliveries_come_in_order_to_each_subscriber(self):
        broker = self.broker(ingest=2, encryptor=2, dispatcher=2, supervise=True, settings={**TINY, "ring.slots": 64})
        troupe = self.troupe(broker)
        for _ in range(3):
            troupe.start("publish", topics=["a.b", "a.c", "default"])
        for name, topic, form in (("all", ">", "json"), ("some", "a.*", "msgpack"), ("one", "a.b", "json"),
                                  ("slow", ">", "msgpack")):
            troupe.start("subscribe", topic=topic, name=name, form=form, receive_buffer=4096)
        for _ in range(2):
            troupe.start("member", topic="a.>", group="workers", name="w", consume={"ack_wait_ms": 60000})
        self.torment(broker, troupe)
        for actor in troupe.actors["subscribe"][:2]:
            actor.stop.ask_to_leave()
        troupe.stop("publish")
        self.settled(troupe, ack_wait_s=60.0)
        self.stop(broker)

    def test_5_a_groups_message_comes_until_it_is_acked_and_never_after_that(self):
        broker = self.broker(dispatcher=2, supervise=True, settings=TINY)
        troupe = self.troupe(broker)
        for _ in range(2):
            troupe.start("publish", topics=["jobs.a", "jobs.b", "other"])
        for i in range(4):
            troupe.start("member", topic="jobs.*", group="workers", name="w", form=("json", "msgpack")[i % 2],
                         ack_share=0.8, nack_share=0.1, credit=8, consume={"ack_wait_ms": 1000, "max_deliver": 0})
        self.torment(broker, troupe)
        troupe.stop("publish")
        for actor in troupe.actors["member"]:
            actor.settings.update(ack_share=1.0, nack_share=0.0)
        wait_until(lambda: all(actor.confirmed for actor in troupe.actors["member"]), WAIT_S, "all have acked")
        self.settled(troupe, ack_wait_s=1.0, slack_s=0.5)
        # All is acked. After the loss of everything but files there is nothing for the group.
        broker._halt_supervisor()
        broker.supervise = False
        self.reboot(broker)
        member = self.v1(broker)
        sub = member.consume("jobs.*", "workers")
        last = Http(broker)
        last.publish("jobs.a", "the next one")
        self.same(member.items(sub, 1), ["the next one"])
        last.close()
        self.stop(broker)

    def test_6_retention_that_overtakes_a_slow_cursor_is_announced(self):
        broker = self.broker(settings={"ingest.request_bytes_max": 524288, "ingest.message_bytes_max": 131072,
                                       "log.segment_bytes": 1048576, "log.retention_bytes": 2097152,
                                       "dispatcher.cache_bytes": 1048576, "ring.slots": 64})
        client, slow = self.http(broker), self.v1(broker, receive_buffer=4096)
        sub = slow.subscribe("big", since="earliest")
        texts = [f"{i:06d}" + "x" * 20000 for i in range(600)]
        for begin in range(0, 600, 20):
            client.publish("big", *texts[begin:begin + 20])
        ids, gaps = [], []
        while not ids or ids[-1] != "30-19":
            kind, body = slow.push()
            self.assertEqual(sub, body["sub"])
            if kind == "gap":
                self.assertEqual("retention", body["reason"])
                gaps.append((body["from"], body["to"]))
                continue
            for item in body["items"]:
                seq, index = map(int, item["id"].split("-"))
                self.assertEqual(item["data"], texts[(seq - 1) * 20 + index])
                ids.append(item["id"])
        self.assertTrue(gaps, "nothing was overtaken")
        place = lambda text: tuple(map(int, text.split("-")))  # noqa: E731
        ranges = [(place(low), place(high)) for low, high in gaps]
        self.assertEqual(ids, sorted(ids, key=place))
        have = set(map(place, ids))
        missing = [(seq, index) for seq in range(1, 31) for index in range(20) if (seq, index) not in have]
        self.assertTrue(missing)
        self.assertEqual([], [p for p in missing if not any(low <= p < high for low, high in ranges)])
        self.stop(broker)

    def from_root(self, root, text, turn):
        """The next message of this turn; one of the turn before may come again after its dispatcher was killed."""
        while True:
            for got in json.loads(root.receive(WAIT_S)):
                if got == text:
                    return
                self.assertEqual(f"{turn - 1} ", got[:2])

    def test_7_killing_one_stage_never_drops_a_connection_of_another(self):
        broker = self.broker(supervise=True)
        for turn, victim in enumerate(STAGES * 2):
            before, after = f"{turn} before", f"{turn} after {victim}"
            client, reader, root = self.http(broker), self.v1(broker), self.root(broker)
            sub = reader.subscribe("t")
            client.publish("t", before)
            self.same(reader.items(sub, 1), [before])
            client.post("/input", {"content": before})
            self.from_root(root, before, turn)
            sock, pid = client.connection.sock, broker.processes[victim, 0].child.pid
            broker.kill(victim, 0)
            wait_until(lambda pid=pid, victim=victim: broker.processes[victim, 0].child.pid != pid, WAIT_S, "the next")
            broker.wait_ready()
            if victim != "ingest":
                client.publish("t", after)
                self.assertIs(sock, client.connection.sock)
            else:
                self.http(broker).publish("t", after)
            if victim != "dispatcher":
                self.same(reader.items(sub, 1), [after])
                self.http(broker).post("/input", {"content": after})
                self.from_root(root, after, turn)
            reader.close()
            root.close()
            wait_until(lambda: self.counters(broker)["clients"] == 0, WAIT_S, "clients are gone")
        self.stop(broker)


if __name__ == "__main__":
    threading.stack_size(1 << 20)
    unittest.main(verbosity=2)
