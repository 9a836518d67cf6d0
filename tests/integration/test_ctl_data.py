#!/usr/bin/python3
"""ciphermqctl topics, groups, consume: against a live broker, as an operator uses them.

Ownership: each case has a broker of its own.
Units: messages, seconds.
Errors: unittest.
Callers: ctest, as integration.ctl_data.
"""

import json
import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import wait_until  # noqa: E402
from cases import WAIT_S, Case, ids_of  # noqa: E402
from certs import Authority  # noqa: E402
from tokens import TokenFile  # noqa: E402


class Data(Case):
    def program(self, broker, *words):
        return [os.path.join(broker.build, "deploy", "ctl", "ciphermqctl"), words[0], "--config", broker.config, *words[1:]]

    def ctl(self, broker, *words, code=0):
        result = subprocess.run(self.program(broker, *words), capture_output=True, check=False, timeout=60, text=True)
        self.assertEqual(code, result.returncode, result.stderr)
        return result

    def consume(self, broker, *words):
        return [json.loads(line) for line in self.ctl(broker, "consume", *words).stdout.splitlines()]


class Topics(Data):
    def rows(self, broker, *words, code=0):
        answer = json.loads(self.ctl(broker, "topics", "--json", *words, code=code).stdout)
        return answer, {row["topic"]: row for row in answer["topics"]}

    def test_counts_are_what_was_published_and_a_retry_counts_once(self):
        broker = self.broker()
        client = self.http(broker)
        answer, rows = self.rows(broker)
        self.assertEqual((0, {}, None), (answer["messages"], rows, answer["others"]))
        first = client.publish("orders.eu", *map(str, range(7)))
        last = client.publish("orders.eu", "eight")
        client.publish("orders.us", "one", Idempotency_Key="k")
        client.publish("orders.us", "one", Idempotency_Key="k")  # the retry makes a void record
        client.publish("bills", "x" * 500)
        answer, rows = self.rows(broker)
        self.assertEqual({"orders.eu": 8, "orders.us": 1, "bills": 1}, {name: row["messages"] for name, row in rows.items()})
        self.assertEqual((10, 0), (answer["messages"], answer["damaged_records"]))
        self.assertEqual((first, last), (rows["orders.eu"]["first"], rows["orders.eu"]["last"]))
        items = self.v1(broker)
        items = items.items(items.subscribe("orders.eu", since="earliest"), 8)
        self.assertEqual((items[0]["ts"], items[-1]["ts"]), (rows["orders.eu"]["first_ts"], rows["orders.eu"]["last_ts"]))
        self.assertGreater(rows["bills"]["bytes"], 500)
        self.assertEqual(answer["bytes"], sum(row["bytes"] for row in rows.values()))
        for stage in ("ingest", "encryptor", "dispatcher"):
            broker.kill(stage, 0)
        broker.ctl("destroy")  # without a ring it reads the same
        self.assertEqual(rows, self.rows(broker)[1])

    def test_first_and_last_of_one_record_are_its_messages(self):
        broker = self.broker()
        reply = self.http(broker).post("/v1/topics/a/batch", [{"data": "1"}, {"data": "2"}])
        self.assertEqual(200, reply.status)
        _answer, rows = self.rows(broker)
        self.assertEqual(ids_of(reply.body["id"], 2), [rows["a"]["first"], rows["a"]["last"]])
        self.stop(broker)

    def test_pattern_order_and_maximum(self):
        broker = self.broker()
        client = self.http(broker)
        for number in range(1, 6):
            client.publish(f"t.{number}", *["x" * 100 * (6 - number)] * number)
        answer, rows = self.rows(broker, "t.*", "--sort", "messages")
        self.assertEqual([f"t.{number}" for number in (5, 4, 3, 2, 1)], [row["topic"] for row in answer["topics"]])
        self.assertEqual([f"t.{number}" for number in range(1, 6)],
                         [row["topic"] for row in self.rows(broker)[0]["topics"]])
        self.assertEqual(["t.3"], list(self.rows(broker, "t.3")[1]))
        answer, rows = self.rows(broker, "--max", "2")
        self.assertEqual({"t.1": 1, "t.2": 2}, {name: row["messages"] for name, row in rows.items()})
        self.assertEqual((12, 15), (answer["others"]["messages"], answer["messages"]))
        text = self.ctl(broker, "topics").stdout
        self.assertIn("5 topics, 15 messages", text)
        self.assertIn("--sort", self.ctl(broker, "topics", "--sort", "size", code=64).stderr)
        self.assertIn("topics:", self.ctl(broker, "topics", "a b", code=64).stderr)
        self.stop(broker)


class Consume(Data):
    def test_messages_are_acknowledged_when_they_were_written(self):
        broker = self.broker()
        client = self.http(broker)
        ids = ids_of(client.publish("orders", *map(str, range(10))), 10)
        first = self.consume(broker, "orders", "--group", "w", "--count", "4")
        self.assertEqual([("orders", ids[i], str(i), 1) for i in range(4)],
                         [(item["topic"], item["id"], item["data"], item["attempt"]) for item in first])
        rest = self.consume(broker, "orders", "--group", "w", "--idle", "1")
        self.assertEqual([(str(i), 1) for i in range(4, 10)], [(item["data"], item["attempt"]) for item in rest])
        self.stop(broker)

    def test_contents_of_every_kind_are_one_line(self):
        broker = self.broker()
        client = self.http(broker)
        client.post("/v1/topics/kinds", '{"a": [1,\n {"b": "}]\\n\\""}]}')
        client.post("/v1/topics/kinds", b"\xff\x00", "application/octet-stream")
        client.post("/v1/topics/kinds", "two\nlines \u00e4", "text/plain")
        items = self.consume(broker, "kinds", "--group", "w", "--count", "3")
        self.assertEqual({"a": [1, {"b": '}]\n"'}]}, items[0]["data"])
        self.assertEqual("/wA=", items[1]["data_base64"])
        self.assertEqual("two\nlines \u00e4", items[2]["data"])
        self.stop(broker)

    def test_many_messages_and_frames_of_every_length(self):
        broker = self.broker()
        client = self.http(broker)
        sizes = [0, 1, 100, 125, 126, 127, 65535, 65536, 300000] + [10] * 3000
        for size in sizes[:9]:
            client.publish("big", "y" * size)
        client.publish("big", *["y" * 10] * 3000)
        items = self.consume(broker, "big", "--group", "w", "--count", str(len(sizes)))
        self.assertEqual(sizes, [len(item["data"]) for item in items])
        self.assertEqual([], self.consume(broker, "big", "--group", "w", "--idle", "1"))
        self.stop(broker)

    def test_output_that_is_closed_leaves_messages_to_others(self):
        broker = self.broker()
        client = self.http(broker)
        client.publish("t", *map(str, range(5)))
        read, write = os.pipe()
        os.close(read)
        result = subprocess.run(self.program(broker, "consume", "t", "--group", "w", "--count", "5"), stdout=write,
                                stderr=subprocess.PIPE, check=False, timeout=60)
        os.close(write)
        self.assertEqual(75, result.returncode)
        self.assertIn(b"the output could not be written", result.stderr)
        items = self.consume(broker, "t", "--group", "w", "--count", "5")
        self.assertEqual([(str(i), 2) for i in range(5)], [(item["data"], item["attempt"]) for item in items])
        self.stop(broker)

    def test_unacknowledged_messages_come_again(self):
        broker = self.broker()
        self.http(broker).publish("t", "a", "b", "c")
        look = self.consume(broker, "t", "--group", "w", "--ack", "none", "--count", "2")
        self.assertEqual(["a", "b"], [item["data"] for item in look])
        items = self.consume(broker, "t", "--group", "w", "--count", "3")
        self.assertEqual(["a", "b", "c"], sorted(item["data"] for item in items))
        self.stop(broker)

    def test_it_speaks_tls_and_shows_its_token(self):
        with tempfile.TemporaryDirectory(prefix="cmq-ctl-") as directory:
            authority = Authority(directory)
            server = authority.issue_server("server")
            tokens = TokenFile(directory)
            secrets = {name: os.path.join(directory, name) for name in ("good", "weak")}
            for name, path in secrets.items():
                with open(path, "w", encoding="ascii") as out:
                    out.write(tokens.add(name, publish=">", **({"consume": "t"} if name == "good" else {})))
            broker = self.broker(tls=authority.context(), settings={
                "tls.cert_file": server.cert, "tls.key_file": server.key, "tokens.file": tokens.path})
            self.ctl(broker, "pub", "t", "secret", "--token-file", secrets["good"])
            items = self.consume(broker, "t", "--group", "w", "--count", "1", "--token-file", secrets["good"])
            self.assertEqual(["secret"], [item["data"] for item in items])
            refused = self.ctl(broker, "consume", "t", "--group", "w", "--token-file", secrets["weak"], code=1)
            self.assertIn("forbidden", refused.stderr)
            self.assertIn("unauthorized", self.ctl(broker, "consume", "t", "--group", "w", code=1).stderr)
            self.stop(broker)

    def test_refusals_name_the_reason(self):
        broker = self.broker()
        self.http(broker).publish("t", "a")
        self.assertIn("--group", self.ctl(broker, "consume", "t", code=64).stderr)
        self.assertIn("a group's name", self.ctl(broker, "consume", "t", "--group", "a b", code=64).stderr)
        self.consume(broker, "t", "--group", "w", "--count", "1")
        self.assertIn("group_mismatch", self.ctl(broker, "consume", "other", "--group", "w", code=1).stderr)
        self.stop(broker)


class Groups(Data):
    def groups(self, broker, *words):
        answer = json.loads(self.ctl(broker, "groups", "--json", *words).stdout)
        return {row["group"]: row for row in answer["groups"]}

    def lag(self, broker, name):
        row = self.groups(broker)[name]
        return row["lag_messages"], row["lag_records"]

    def taken(self, broker, name="w", topic="jobs"):
        """What the group gets now: all of it is acknowledged."""
        return [(item["data"], item["attempt"]) for item in self.consume(broker, topic, "--group", name, "--idle", "1")]

    def reset(self, broker, *words, code=0):
        return self.ctl(broker, "groups", "reset", "w", "jobs", *words, code=code)

    def idle(self, broker):
        """The dispatchers have seen that nobody is in a group any more."""
        wait_until(lambda: all(row["members"] == 0 for row in self.groups(broker).values()), WAIT_S, "no members")

    def test_lag_is_what_is_not_acknowledged(self):
        broker = self.broker()
        client = self.http(broker)
        self.assertEqual({}, self.groups(broker))
        member = self.v1(broker)
        sub = member.consume("jobs.*", "w", credit=100)
        client.publish("other", *map(str, range(50)))
        ids = ids_of(client.publish("jobs.a", *map(str, range(10))), 10)
        client.publish("other", "x")
        client.publish("jobs.b", "y", "z")
        member.items(sub, 12)
        wait_until(lambda: self.lag(broker, "w")[0] == 12, WAIT_S, "twelve messages to do")
        member.ack("w", [ids[3], ids[7]])
        self.assertEqual(10, self.lag(broker, "w")[0])
        member.ack("w", ids[:3] + ids[4:7] + ids[8:])
        self.assertEqual(2, self.lag(broker, "w")[0])
        row = wait_until(lambda: [row for row in self.groups(broker).values() if row["pending"] == 2], WAIT_S, "told")[0]
        self.assertEqual(("jobs.*", 1, 0), (row["topic"], row["members"], row["dead_letters"]))
        self.assertGreater(row["claimed_records"], 0)
        self.assertNotIn("lag_messages", self.groups(broker, "--records")["w"])
        member.ack("w", upto="999-0")
        wait_until(lambda: self.lag(broker, "w") == (0, 0), WAIT_S, "nothing to do")
        self.assertIn("LAG MESSAGES", self.ctl(broker, "groups").stdout)
        self.assertIn("LAG RECORDS", self.ctl(broker, "groups", "--records").stdout)
        self.stop(broker)

    def test_group_that_was_reset_gets_again_or_leaves_out_just_that(self):
        broker = self.broker(dispatcher=2)
        client = self.http(broker)
        ids = ids_of(client.publish("jobs", "a", "b", "c"), 3)
        client.publish("jobs", "d")
        every = [("a", 1), ("b", 1), ("c", 1), ("d", 1)]
        self.assertEqual(every, self.taken(broker))
        self.idle(broker)
        self.assertEqual("w: goes on at 1-0\n", self.reset(broker, "--to", "earliest").stdout)
        self.assertEqual((4, 2), self.lag(broker, "w"))
        self.assertEqual(every, self.taken(broker))
        self.idle(broker)
        self.reset(broker, "--to", ids[1])
        self.assertEqual(2, self.lag(broker, "w")[0])
        self.assertEqual(every[2:], self.taken(broker))
        self.assertEqual([], self.taken(broker))
        client.publish("jobs", "e")
        self.idle(broker)
        self.reset(broker, "--to", "latest")
        self.assertEqual((0, 0), self.lag(broker, "w"))
        client.publish("jobs", "f")
        self.assertEqual([("f", 1)], self.taken(broker))
        # What was acknowledged after a reset stays so over a restart of the dispatchers.
        for number in range(2):
            broker.restart("dispatcher", number)
        self.assertEqual([], self.taken(broker))
        self.stop(broker)

    def test_reset_needs_a_group_without_members_and_a_place_that_is_there(self):
        broker = self.broker()
        client = self.http(broker)
        client.publish("jobs", "a")
        member = self.v1(broker)
        sub = member.consume("jobs", "w")
        items = member.items(sub, 1)
        wait_until(lambda: self.groups(broker)["w"]["members"] == 1, WAIT_S, "a member")
        self.assertIn("it has 1 members; stop them first", self.reset(broker, "--to", "earliest", code=1).stderr)
        self.assertEqual(1, member.ack("w", [items[0]["id"]])["acked"])
        member.close()
        self.idle(broker)
        self.assertIn("--to earliest, latest", self.reset(broker, code=64).stderr)
        self.assertIn("no message has the id", self.reset(broker, "--to", "99-0", code=64).stderr)
        self.assertIn("--to is earliest", self.reset(broker, "--to", "now", code=64).stderr)
        self.ctl(broker, "groups", "reset", "nobody", "jobs", "--to", "latest", code=1)
        other = subprocess.run(self.program(broker, "groups", "reset", "w", "other", "--to", "latest"),
                               capture_output=True, check=False, timeout=60, text=True)
        self.assertNotEqual(0, other.returncode)
        self.assertIn("has topic jobs", other.stderr)
        self.assertEqual([], self.taken(broker))
        self.stop(broker)

    def test_deleted_group_begins_as_a_new_one_with_any_topic(self):
        broker = self.broker()
        client = self.http(broker)
        client.publish("jobs", "a")
        client.publish("other", "b")
        self.assertEqual([("a", 1)], self.taken(broker))
        self.assertEqual([("a", 1)], self.taken(broker, "v"))
        self.idle(broker)
        self.assertEqual("w: deleted\n", self.ctl(broker, "groups", "delete", "w", "jobs").stdout)
        self.assertEqual(["v"], list(self.groups(broker)))
        self.assertEqual([("b", 1)], self.taken(broker, "w", "other"))
        self.assertEqual([("a", 1)], self.taken(broker, "x"))
        self.assertEqual([], self.taken(broker, "v"))
        self.stop(broker)

    def test_death_in_the_middle_leaves_the_old_place_or_the_new_one(self):
        broker = self.broker()
        client = self.http(broker)
        client.publish("jobs", "a", "b")
        self.assertEqual(2, len(self.taken(broker)))
        for point, again in (("groups.checked", 0), ("groups.changed", 2)):
            self.idle(broker)
            death = subprocess.run(self.program(broker, "groups", "reset", "w", "jobs", "--to", "earliest"), check=False,
                                   env={**os.environ, "CMQ_CRASH": f"{point}:1"}, timeout=60)
            self.assertEqual(-9, death.returncode)
            self.assertEqual(again, self.lag(broker, "w")[0])
            self.assertEqual(again, len(self.taken(broker)))
        self.assertEqual([], self.taken(broker))
        self.stop(broker)

    def test_root_group_is_reset_by_requests(self):
        broker = self.broker()
        self.http(broker).post("/input", {"content": "one"})
        client = self.root(broker)
        self.assertEqual(["one"], json.loads(client.receive(WAIT_S)))
        client.close()
        wait_until(lambda: self.groups(broker)["default"]["lag_records"] == 0, WAIT_S, "acknowledged")
        self.idle(broker)
        self.assertIn("whole requests", self.ctl(broker, "groups", "reset", "default", "default", "--to", "1-0", code=64).stderr)
        self.ctl(broker, "groups", "reset", "default", "default", "--to", "earliest")
        self.assertEqual(["one"], json.loads(self.root(broker).receive(WAIT_S)))
        self.stop(broker)


if __name__ == "__main__":
    unittest.main(verbosity=2)
