"""ciphermqctl pub, sub, top, metrics: as a person at a terminal uses them."""

import json
import os
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import Broker, find_build  # noqa: E402


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.broker = Broker(find_build())
        cls.broker.start()

    @classmethod
    def tearDownClass(cls):
        cls.broker.stop()

    def ctl(self, *words, **keys):
        program = os.path.join(self.broker.build, "deploy", "ctl", "ciphermqctl")
        return subprocess.run([program, words[0], "--config", self.broker.config, *words[1:]], capture_output=True,
                              check=False, timeout=60, **keys)

    def sub(self, *words):
        """The items that sub prints."""
        result = self.ctl("sub", *words)
        self.assertEqual((result.returncode, result.stderr), (0, b""))
        return [json.loads(line) for line in result.stdout.splitlines()]

    def test_published_message_is_printed_with_its_topic_and_id(self):
        reply = json.loads(self.ctl("pub", "ctl.one", "hello").stdout)
        self.assertEqual((reply["count"], reply["ack"]), (1, "durable"))
        items = self.sub("ctl.one", "--since", "earliest", "--count", "1")
        self.assertEqual([(item["id"], item["topic"], item["data"]) for item in items], [(reply["id"], "ctl.one", "hello")])

    def test_standard_input_is_one_message_byte_by_byte(self):
        body = "zwei\nZeilen \u00e4\n".encode()
        self.assertEqual(self.ctl("pub", "ctl.stdin", input=body).returncode, 0)
        self.assertEqual(self.sub("ctl.stdin", "--since", "earliest", "--count", "1")[0]["data"], body.decode())

    def test_lines_are_messages(self):
        lines = b'"one"\n{"data":{"n":2}}\n"three"\n'
        self.assertEqual(json.loads(self.ctl("pub", "ctl.lines", "--lines", input=lines).stdout)["count"], 3)
        items = self.sub("ctl.lines", "--since", "earliest", "--count", "3")
        self.assertEqual([item["data"] for item in items], ["one", {"n": 2}, "three"])

    def test_pattern_finds_the_topics_below_it(self):
        for topic in ("ctl.deep.a", "ctl.deep.b.c"):
            self.assertEqual(self.ctl("pub", topic, topic).returncode, 0)
        items = self.sub("ctl.deep.>", "--since", "earliest", "--count", "2")
        self.assertEqual([item["topic"] for item in items], ["ctl.deep.a", "ctl.deep.b.c"])

    def test_same_key_publishes_once(self):
        replies = [json.loads(self.ctl("pub", "ctl.key", "x", "--key", "k1").stdout) for _ in range(2)]
        self.assertEqual(replies[0]["id"], replies[1]["id"])
        self.assertTrue(replies[1]["duplicate"])

    def test_bad_topic_is_refused_before_anything_is_sent(self):
        result = self.ctl("pub", "a b", "x")
        self.assertEqual(result.returncode, 64)
        self.assertIn(b"topic has byte 0x20", result.stderr)

    def test_refusal_of_the_broker_is_shown(self):
        result = self.ctl("pub", "$ctl", "x")
        self.assertEqual((result.returncode, result.stdout), (1, b""))
        self.assertIn(b"reserved-topic", result.stderr)
        result = self.ctl("sub", "ctl.one", "--since", "99999999-0")
        self.assertEqual((result.returncode, result.stdout), (1, b""))
        self.assertIn(b"no message has that id yet", result.stderr)

    def test_top_shows_the_rates_of_each_instance(self):
        program = os.path.join(self.broker.build, "deploy", "ctl", "ciphermqctl")
        with subprocess.Popen([program, "top", "--config", self.broker.config, "--json", "--interval", "500"],
                              stdout=subprocess.PIPE) as top:
            json.loads(top.stdout.readline())
            for _ in range(5):
                self.assertEqual(self.ctl("pub", "ctl.top", "x").returncode, 0)
            rates = 0
            while rates == 0:
                look = json.loads(top.stdout.readline())
                rates = [one for one in look["instances"] if one["stage"] == "ingest"][0]["messages_per_s"]
            self.assertEqual({one["stage"] for one in look["instances"]}, {"ingest", "encryptor", "dispatcher"})
            self.assertTrue(all(one["alive"] for one in look["instances"]))
            top.terminate()
            self.assertEqual(top.wait(10), 0)

    def test_metrics_count_what_was_published(self):
        def published():
            text = self.ctl("metrics").stdout.decode()
            lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
            return int(lines['ciphermq_messages_total{stage="ingest",instance="0"}']), lines
        before, _ = published()
        self.assertEqual(self.ctl("pub", "ctl.metrics", "x").returncode, 0)
        after, lines = published()
        self.assertEqual(after, before + 1)
        self.assertGreater(int(lines['ciphermq_seal_duration_seconds_count{stage="encryptor",instance="0"}']), 0)
        self.assertGreater(int(lines['ciphermq_log_sync_duration_seconds_count{stage="encryptor",instance="0"}']), 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
