#!/usr/bin/python3
"""Consumer groups: sharing, acks, redelivery, attempts, dead letters, credit, two dispatchers, members that vanish.

Ownership: each case has a broker of its own.
Units: messages, seconds.
Errors: unittest.
Callers: ctest, as integration.groups.
"""

import json
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import wait_until  # noqa: E402
from cases import HOST, WAIT_S, Case, ids_of  # noqa: E402
from v1client import FORMATS, V1Error  # noqa: E402
from wsclient import WsClient  # noqa: E402


class Groups(Case):
    def attempts(self, items):
        return [(item["data"], item["attempt"]) for item in items]

    def test_members_share_and_acks_are_confirmed(self):
        broker = self.broker()
        client = self.http(broker)
        members = [self.v1(broker, form) for form in FORMATS]
        subs = [member.consume("jobs.*", "workers", credit=5) for member in members]
        self.assertEqual({"group": "workers", "topic": "jobs.*"}, members[0].asked)
        first = client.publish("jobs.a", *map(str, range(10)))
        got = [member.items(sub, 5) for member, sub in zip(members, subs)]
        self.assertEqual(sorted(item["data"] for part in got for item in part), sorted(map(str, range(10))))
        for member, part in zip(members, got):
            self.assertEqual({1}, {item["attempt"] for item in part})
            reply = member.ack("workers", [item["id"] for item in part])
            self.assertEqual((reply["acked"], reply["stale"]), (5, []))
            again = member.ack("workers", [part[0]["id"], part[1]["id"] + ":1"])
            self.assertEqual((again["acked"], again["stale"]), (0, [part[0]["id"], part[1]["id"] + ":1"]))
        foreign = next(i for i in ids_of(first, 10) if i not in [item["id"] for item in got[0]])
        self.assertEqual([foreign], members[0].ack("workers", [foreign])["stale"])
        self.assertEqual([], members[0].quiet(0.2))
        self.stop(broker)

    def test_credit_bounds_what_a_member_holds_and_can_be_changed(self):
        broker = self.broker()
        member = self.v1(broker)
        sub = member.consume("t", "g", credit=3)
        self.http(broker).publish("t", *map(str, range(20)))
        items = member.items(sub, 3)
        self.assertEqual([], member.quiet(0.2))
        member.ack("g", [items[0]["id"]])
        items += member.items(sub, 1)
        self.assertEqual([], member.quiet(0.2))
        self.assertEqual({}, member.credit("g", 6))
        items += member.items(sub, 3)
        self.assertEqual([], member.quiet(0.2))
        member.credit("g", 0)
        member.ack("g", upto=items[-1]["id"])
        self.assertEqual([], member.quiet(0.2))
        member.credit("g", 100)
        items += member.items(sub, 13)
        self.assertEqual([item["data"] for item in items], list(map(str, range(20))))
        self.stop(broker)

    def test_max_ack_pending_bounds_the_group(self):
        broker = self.broker(settings={"dispatcher.max_ack_pending": 8, "dispatcher.credit": 8})
        members = [self.v1(broker), self.v1(broker)]
        subs = [member.consume("t", "g", credit=8) for member in members]
        self.http(broker).publish("t", *map(str, range(30)))
        got = []

        def eight():
            for member, sub in zip(members, subs):
                for _kind, body in member.quiet(0.05):
                    got.extend((member, item["id"]) for item in body["items"])
            return len(got) >= 8

        wait_until(eight, WAIT_S, "eight came")
        eight()
        self.assertEqual(8, len(got))
        for member, number in got:
            member.ack("g", [number])
        wait_until(lambda: eight() and len(got) >= 16, WAIT_S, "eight more")
        self.stop(broker)

    def test_message_comes_again_after_the_ack_wait_with_the_next_attempt(self):
        broker = self.broker()
        slow, quick = self.v1(broker), self.v1(broker, "msgpack")
        sub = slow.consume("t", "g", ack_wait_ms=300, credit=1)
        first = self.http(broker).publish("t", "work")
        self.assertEqual([("work", 1)], self.attempts(slow.items(sub, 1)))
        slow.credit("g", 0)
        other = quick.consume("t", "g", ack_wait_ms=60000)
        self.assertEqual([("work", 2)], self.attempts(quick.items(other, 1)))
        # The first attempt is over: its ack is refused, by number and without.
        self.assertEqual([first + ":1", first], slow.ack("g", [first + ":1", first])["stale"])
        self.assertEqual([first + ":1"], quick.ack("g", [first + ":1"])["stale"])
        self.assertEqual(1, quick.ack("g", [first + ":2"])["acked"])
        self.assertEqual([], slow.quiet(0.5) + quick.quiet(0.1))
        self.stop(broker)

    def test_nack_brings_a_message_back_at_once_or_after_its_delay(self):
        broker = self.broker()
        member = self.v1(broker)
        sub = member.consume("t", "g", credit=10)
        ids = ids_of(self.http(broker).publish("t", "a", "b", "c"), 3)
        self.assertEqual([("a", 1), ("b", 1), ("c", 1)], self.attempts(member.items(sub, 3)))
        reply = member.nack("g", [ids[0]], delay_ms=400)
        self.assertEqual((reply["nacked"], reply["stale"]), (1, []))
        member.nack("g", [ids[1] + ":1"])
        self.assertEqual([("b", 2)], self.attempts(member.items(sub, 1)))
        self.assertEqual([("a", 2)], self.attempts(member.items(sub, 1)))
        self.assertEqual([ids[1] + ":1"], member.nack("g", [ids[1] + ":1"])["stale"])
        self.assertEqual(3, member.ack("g", upto=ids[2])["acked"])
        self.stop(broker)

    def test_member_that_vanishes_or_unsubscribes_gives_its_messages_to_the_others(self):
        broker = self.broker()
        ids = ids_of(self.http(broker).publish("t", "a", "b", "c", "d"), 4)
        lost, leaver = self.v1(broker), self.v1(broker)
        sub = lost.consume("t", "g", credit=2)
        self.assertEqual(["a", "b"], [item["data"] for item in lost.items(sub, 2)])
        leaving = leaver.consume("t", "g", credit=2)
        self.assertEqual(["c", "d"], [item["data"] for item in leaver.items(leaving, 2)])
        lost.drop()
        self.assertEqual({}, leaver.unsubscribe(leaving))
        heir = self.v1(broker)
        items = heir.items(heir.consume("t", "g"), 4)
        self.assertEqual([("a", 2), ("b", 2), ("c", 2), ("d", 2)], sorted(self.attempts(items)))
        self.assertEqual(4, heir.ack("g", ids)["acked"])
        self.stop(broker)

    def test_poison_becomes_a_dead_letter_with_its_reason(self):
        broker = self.broker()
        for form in FORMATS:
            with self.subTest(form):
                topic = "jobs." + form
                member, letters = self.v1(broker, form), self.v1(broker, form)
                dead = letters.subscribe("$dead." + topic, since="earliest")
                sub = member.consume(topic, "g." + form, max_deliver=3)
                poison, fine = ids_of(self.http(broker).publish(topic, {"data": "bad", "type": "text/csv"}, "good"), 2)
                self.assertEqual(["bad", "good"], [item["data"] for item in member.items(sub, 2)])
                member.ack("g." + form, [fine])
                for attempt in (2, 3):
                    member.nack("g." + form, [poison])
                    self.assertEqual([("bad", attempt)], self.attempts(member.items(sub, 1)))
                member.nack("g." + form, [poison])
                letter, = letters.items(dead, 1)
                self.assertEqual((letter["data"], letter.get("type"), letter["topic"]), ("bad", "text/csv", "$dead." + topic))
                headers = letter["headers"]
                self.assertEqual(headers["cmq-dead-reason"], "max_deliver")
                self.assertEqual(headers["cmq-dead-group"], "g." + form)
                self.assertEqual(headers["cmq-dead-id"], poison)
                self.assertEqual(str(headers["cmq-dead-attempts"]), "3")
                self.assertEqual([], member.quiet(0.2))
                self.assertEqual([poison], member.ack("g." + form, [poison])["stale"])
        self.stop(broker)

    def test_a_dispatcher_that_drains_waits_for_its_dead_letters(self):
        broker = self.broker()
        member = self.v1(broker)
        sub = member.consume("jobs", "g", max_deliver=1)
        poison, = ids_of(self.http(broker).publish("jobs", "bad"), 1)
        member.items(sub, 1)
        broker.kill("encryptor", 0)     # nothing becomes durable
        member.nack("g", [poison])
        wait_until(lambda: not broker.delivered_all(), WAIT_S, "the letter in the ring")
        dispatcher = broker.processes["dispatcher", 0]
        dispatcher.child.terminate()
        wait_until(lambda: "ev=draining" in self.log(dispatcher, broker), WAIT_S, "the drain")
        member.close()
        broker.spawn("encryptor", 0)
        self.assertEqual(0, dispatcher.child.wait(WAIT_S))
        broker.spawn("dispatcher", 0)
        broker.wait_ready()
        again, letters = self.v1(broker), self.v1(broker)
        again.consume("jobs", "g")
        dead = letters.subscribe("$dead.jobs", since="earliest")
        self.assertEqual(["bad"], [item["data"] for item in letters.items(dead, 1)])
        self.assertEqual([], letters.quiet(0.3))
        self.stop(broker)

    @staticmethod
    def log(process, broker):
        with open(broker.log_path(process), encoding="utf-8") as log:
            return log.read()

    def test_group_keeps_its_topic_and_its_place(self):
        broker = self.broker()
        client = self.http(broker)
        client.publish("t", "before")
        member = self.v1(broker)
        sub = member.consume("t", "late", since="latest")
        early = member.consume("t", "early")
        client.publish("t", "after")
        self.same(member.items(sub, 1), ["after"])
        self.same(member.items(early, 2), ["before", "after"])
        with self.assertRaises(V1Error) as caught:
            member.consume("other", "early")
        self.assertEqual("group_mismatch", caught.exception.code)
        self.assertIn("t", caught.exception.message)
        other = self.v1(broker)
        other.consume(None, "late")
        self.assertEqual("t", other.asked["topic"])
        self.stop(broker)

    def test_two_dispatchers_share_one_group(self):
        broker = self.broker(dispatcher=2)
        members, spread = [], set()
        while len(spread) < 2:
            self.assertLess(len(members), 64, "the kernel spreads connections over the instances")
            members.append(self.v1(broker))
            spread = {i for i in range(2) if self.counters(broker, "dispatcher", i)["clients"] > 0}
        subs = [member.consume("t", "g", credit=10) for member in members]
        client = self.http(broker)
        want = [f"m{i}" for i in range(400)]
        for begin in range(0, 400, 8):
            client.publish("t", *want[begin:begin + 8])
        got = []

        def all_came():
            for member, sub in zip(members, subs):
                for kind, body in member.quiet(0.01):
                    self.assertEqual(("msgs", sub), (kind, body["sub"]))
                    got.extend(item["data"] for item in body["items"])
                    reply = member.ack("g", [item["id"] for item in body["items"]])
                    self.assertEqual([], reply["stale"])
            return len(got) >= 400

        wait_until(all_came, WAIT_S, "all came")
        all_came()
        self.assertEqual(sorted(got), sorted(want))
        self.stop(broker)

    def test_work_of_a_dead_dispatcher_is_delivered_by_another(self):
        broker = self.broker(dispatcher=2)
        members = {}
        while len(members) < 2:
            before = [self.counters(broker, "dispatcher", i)["clients"] for i in range(2)]
            member = self.v1(broker)
            after = [self.counters(broker, "dispatcher", i)["clients"] for i in range(2)]
            members.setdefault(0 if after[0] > before[0] else 1, member)
        ids = ids_of(self.http(broker).publish("t", "a", "b", "c"), 3)
        sub = members[0].consume("t", "g")
        self.same(members[0].items(sub, 3), ["a", "b", "c"])
        self.assertEqual(1, members[0].ack("g", [ids[1]])["acked"])
        heir = members[1].consume("t", "g")
        broker.kill("dispatcher", 0)
        items = members[1].items(heir, 2)
        self.assertEqual(["a", "c"], [item["data"] for item in items])
        self.assertTrue(all(item["attempt"] > 1 for item in items), items)
        self.assertEqual([], members[1].quiet(0.3))
        self.assertEqual(2, members[1].ack("g", [ids[0], ids[2]])["acked"])
        broker.spawn("dispatcher", 0)
        broker.wait_ready()
        self.stop(broker)

    def test_status_tells_how_far_the_slowest_reader_is_behind(self):
        broker = self.broker()
        client, http = self.v1(broker), self.http(broker)
        jobs = client.consume("jobs", "workers", credit=1)
        for i in range(10):
            http.publish("jobs", f"{i}")
        items = client.items(jobs, 1)
        lag = lambda: self.counters(broker)["lag"]  # noqa: E731
        wait_until(lambda: lag() == 9, WAIT_S, "one of ten is read")
        client.credit("workers", 20)
        items += client.items(jobs, 9)
        wait_until(lambda: lag() == 0, WAIT_S, "all are read")
        slow = self.v1(broker, receive_buffer=4096)
        slow.subscribe("big", since="earliest")
        for i in range(40):
            http.publish("big", "x" * 500000)
        wait_until(lambda: lag() > 10, WAIT_S, "a subscriber is behind")
        self.assertIn("40", broker.ctl("status").stdout)
        slow.close()
        wait_until(lambda: lag() == 0, WAIT_S, "it is gone")
        feed = WsClient(HOST, broker.ws_port, "/t/big/ws?since=earliest", WAIT_S, receive_buffer=4096)
        self.addCleanup(feed.close)
        wait_until(lambda: lag() > 10, WAIT_S, "a feed is behind")
        broker.stop()

    def test_root_endpoint_is_the_group_default_of_the_topic_default(self):
        broker = self.broker()
        client, root = self.http(broker), self.root(broker)
        client.publish("elsewhere", "not for the root")
        client.post("/input", {"content": "one"})
        client.publish("default", "two")
        got = []
        while len(got) < 2:
            got += json.loads(root.receive(WAIT_S))
        self.assertEqual(["one", "two"], got)
        reader = self.v1(broker)
        self.same(reader.items(reader.subscribe("default", since="earliest"), 2), ["one", "two"])
        with self.assertRaises(V1Error) as caught:
            reader.consume("other", "default")
        self.assertEqual("group_mismatch", caught.exception.code)
        self.stop(broker)


if __name__ == "__main__":
    unittest.main(verbosity=2)
