"""Metrics: their format, and that the example alerts and the example dashboard speak of metrics that there are."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
sys.path.insert(0, os.path.join(HERE, "..", "support"))

from broker import HOST, Broker, find_build, wait_until  # noqa: E402
from eventsource import EventSource  # noqa: E402
from v1client import V1Client  # noqa: E402
from wsclient import WsClient, WsClosed  # noqa: E402
import http.client  # noqa: E402

RULES = os.path.join(ROOT, "deploy", "monitoring", "ciphermq.rules.yml")
DASHBOARD = os.path.join(ROOT, "deploy", "monitoring", "ciphermq.grafana.json")


def promtool(*words, stdin=None):
    result = subprocess.run([os.path.join(ROOT, "tests", "support", "promtool"), *words], input=stdin, text=True,
                            capture_output=True, check=False)
    return result.returncode, result.stdout + result.stderr


def samples(text):
    return {key: float(value) for key, value in
            (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))}


class Examples(unittest.TestCase):
    def test_alerts_fire_on_what_they_are_for(self):
        self.assertEqual(promtool("check", "rules", RULES)[0], 0)
        code, text = promtool("test", "rules", os.path.join(ROOT, "tests", "monitoring", "ciphermq.rules.test.yml"))
        self.assertEqual(code, 0, text)


class OfBroker(unittest.TestCase):
    """A broker for the tests of a class."""

    settings = {}
    broker = None

    @classmethod
    def setUpClass(cls):
        cls.broker = Broker(find_build(), **cls.settings)
        cls.broker.start()

    @classmethod
    def tearDownClass(cls):
        cls.broker.stop()

    def metrics(self):
        """As a scraper gets them."""
        client = http.client.HTTPConnection(HOST, self.broker.http_port, timeout=15)
        client.request("GET", "/metrics")
        answer = client.getresponse()
        text = answer.read().decode()
        self.assertEqual((answer.status, answer.getheader("Content-Type")), (200, "text/plain; version=0.0.4; charset=utf-8"))
        client.close()
        return text

    def publish(self, count=1, topic="metrics"):
        client = http.client.HTTPConnection(HOST, self.broker.http_port, timeout=15)
        for _ in range(count):
            client.request("POST", f"/v1/topics/{topic}", "x", {"Content-Type": "text/plain"})
            answer = client.getresponse()
            answer.read()
            self.assertEqual(answer.status, 200)
        client.close()

    def batch(self, topic, count):
        client = http.client.HTTPConnection(HOST, self.broker.http_port, timeout=15)
        client.request("POST", f"/v1/topics/{topic}/batch", json.dumps(["x"] * count), {"Content-Type": "application/json"})
        self.assertEqual(client.getresponse().status, 200)
        client.close()


class Live(OfBroker):
    settings = {"ingest": 2, "supervise": True}


    def test_format_is_what_promtool_wants(self):
        self.publish()
        code, text = promtool("check", "metrics", stdin=self.metrics())
        self.assertEqual((code, text), (0, ""))

    def test_scrape_and_command_tell_the_same(self):
        names = {line.split()[2] for line in self.metrics().splitlines() if line.startswith("# TYPE")}
        told = {line.split()[2] for line in self.broker.ctl("metrics").stdout.splitlines() if line.startswith("# TYPE")}
        self.assertEqual(names, told)

    def test_alerts_and_dashboard_name_metrics_that_there_are(self):
        text = self.metrics()
        known = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
        known |= {name + end for name in set(known) for end in ("_bucket", "_sum", "_count")}
        with open(RULES, encoding="utf-8") as file:
            used = set(re.findall(r"\bciphermq_[a-z_]+", "".join(line for line in file if "expr:" in line)))
        with open(DASHBOARD, encoding="utf-8") as file:
            panels = json.load(file)["panels"]
        for panel in panels:
            for target in panel["targets"]:
                used |= set(re.findall(r"\bciphermq_[a-z_]+", target["expr"]))
        self.assertGreater(len(used), 20)
        self.assertEqual(used - known, set())

    def test_counters_go_on_after_a_kill(self):
        key = 'ciphermq_messages_total{stage="encryptor",instance="0"}'
        starts = 'ciphermq_starts_total{stage="encryptor",instance="0"}'
        self.publish(20)
        before = samples(self.metrics())
        self.broker.signal("encryptor", 0, signal.SIGKILL)
        self.publish(5)
        wait_until(lambda: samples(self.metrics())[starts] > before[starts], 20, "another encryptor")
        after = samples(self.metrics())
        self.assertGreaterEqual(after[key], before[key] + 5)

    def test_ring_and_keys_tell_how_near_their_end_they_were(self):
        self.publish(3)
        key = 'ciphermq_key_seals_left{stage="encryptor",instance="0"}'
        wait_until(lambda: 0 < samples(self.metrics())[key] <= 3865470566, 20, "seals are counted")
        most = [value for name, value in samples(self.metrics()).items() if name.startswith("ciphermq_ring_high_water{")]
        self.assertEqual(len(most), 2)
        self.assertGreaterEqual(max(most), 1)

    def test_requests_and_durable_waits_are_timed(self):
        self.publish(3)
        text = samples(self.metrics())
        for name, stage in (("request", "ingest"), ("log_wait", "ingest"), ("seal", "encryptor"), ("log_append", "encryptor"),
                            ("log_sync", "encryptor")):
            total = sum(value for key, value in text.items()
                        if key.startswith(f'ciphermq_{name}_duration_seconds_count{{stage="{stage}"'))
            self.assertGreater(total, 0, name)

    def test_more_topics_than_rows_keep_the_sum(self):
        before = sum(row["messages"] for row in self.broker.status()["topics"])
        for number in range(300):
            self.publish(1, f"many.{number}")
        wait_until(lambda: sum(row["messages"] for row in self.broker.status()["topics"]) == before + 300, 20, "all are noted")
        rows = self.broker.status()["topics"]
        self.assertEqual(len(rows), 129)
        self.assertEqual(rows[-1]["topic"], "$other")
        self.assertEqual(promtool("check", "metrics", stdin=self.metrics()), (0, ""))


class Names(OfBroker):
    """Topics, groups, clients and the last errors: what was done is what is told."""

    settings = {"encryptor": 2, "dispatcher": 2, "supervise": True}

    def told(self, name, field="name", of="groups"):
        """The row of that name; None: there is none."""
        return next((row for row in self.broker.status()[of] if row[field] == name), None)

    def group(self, name):
        return self.told(name, "group")

    def wait_group(self, name, **wanted):
        """Tables are told a few times a second."""
        def is_so():
            row = self.group(name)
            return row is not None and {key: row[key] for key in wanted} == wanted
        wait_until(is_so, 20, f"{name}: {wanted}; it is {self.group(name)}")

    def of_metrics(self, name, **labels):
        """The sum of the samples with these labels; None: there is none."""
        found = [value for key, value in samples(self.metrics()).items() if key.startswith(name + "{") and
                 all(f'{label}="{text}"' in key for label, text in labels.items())]
        return sum(found) if found else None

    def test_topics_have_what_was_published(self):
        self.publish(7, "count.a")
        self.batch("count.b", 1000)
        for topic, messages in (("count.a", 7), ("count.b", 1000)):
            # A topic is noted behind the commit: the reply may be faster.
            wait_until(lambda row=topic: (self.told(row, "topic", "topics") or {}).get("messages"), 20, topic)
            wait_until(lambda row=topic, all_of=messages: self.told(row, "topic", "topics")["messages"] == all_of, 20, topic)
            self.assertEqual(self.told(topic, "topic", "topics")["bytes"], 2 * messages, topic)
            self.assertEqual(self.of_metrics("ciphermq_topic_messages_total", topic=topic), messages)
            self.assertEqual(self.of_metrics("ciphermq_topic_bytes_total", topic=topic), 2 * messages)
        status = self.broker.status()
        sealed = sum(one["counters"]["messages"] for one in status["instances"] if one["stage"] == "encryptor")
        self.assertEqual(sum(row["messages"] for row in status["topics"]), sealed)
        self.assertEqual(status["topics"][0]["topic"], "count.b")
        self.assertLess(abs(status["time_ms"] - status["topics"][0]["last_ms"]), 60000)

    def test_group_lag_is_what_is_not_done(self):
        self.publish(1, "jobs.first")
        with V1Client(HOST, self.broker.ws_port) as one, V1Client(HOST, self.broker.ws_port) as two:
            one.consume("jobs.*", "crew", since="latest")
            two.consume("jobs.*", "crew", since="latest", credit=0)
            self.wait_group("crew", lag_records=0, members=2, pending=0, topic="jobs.*")
            self.publish(10, "jobs.second")
            items = one.items(one.asked.get("id", 2), 10)
            self.wait_group("crew", lag_records=10, pending=10, redelivered=0, lag_messages=None)
            one.ack("crew", [item["id"] for item in items[3:7]])
            self.wait_group("crew", lag_records=6, pending=6)
            one.nack("crew", [items[0]["id"]])
            self.assertEqual(one.items(one.asked.get("id", 2), 1)[0]["id"], items[0]["id"])
            self.wait_group("crew", lag_records=6, pending=6, redelivered=1, dead_letters=0)
            for name, value in (("lag_records", 6), ("pending_messages", 6), ("members", 2), ("redelivered_total", 1),
                                ("dead_letters_total", 0)):
                self.assertEqual(self.of_metrics(f"ciphermq_group_{name}", group="crew", topic="jobs.*"), value, name)
        # Nobody is there: what comes now waits for it all the same, and is told.
        self.publish(5, "jobs.third")
        self.wait_group("crew", lag_records=11, members=0, pending=0, redelivered=1)
        # Whoever served it may die: the others know how far it is.
        for number in (0, 1):
            self.broker.signal("dispatcher", number, signal.SIGKILL)
        self.wait_group("crew", lag_records=11, members=0)
        self.assertEqual(promtool("check", "metrics", stdin=self.metrics()), (0, ""))

    def test_dead_letters_are_counted_for_their_group(self):
        with V1Client(HOST, self.broker.ws_port) as client:
            number = client.consume("sick", "ward", since="latest", max_deliver=1)
            self.publish(2, "sick")
            client.nack("ward", [item["id"] for item in client.items(number, 2)])
            self.wait_group("ward", dead_letters=2, lag_records=0, pending=0)
            self.assertEqual(self.of_metrics("ciphermq_group_dead_letters_total", group="ward"), 2)

    def test_clients_are_told_with_what_they_got(self):
        url = f"http://{HOST}:{self.broker.ws_port}/t/seen.*"
        self.publish(4, "seen.a")
        with V1Client(HOST, self.broker.ws_port) as reader, V1Client(HOST, self.broker.ws_port) as member:
            reader.items(reader.subscribe("seen.>", "earliest"), 4)
            reader.subscribe("nothing.here")
            member.items(member.consume("seen.*", "lookers", since="earliest"), 4)
            events = EventSource(url + "/sse?since=earliest")
            self.assertEqual([json.loads(events.event().data)["data"] for _ in range(4)], ["x"] * 4)
            poll = EventSource(url + "/json?since=latest&wait_ms=30000")
            root = WsClient(HOST, self.broker.ws_port)
            topic = WsClient(HOST, self.broker.ws_port, "/t/seen.*/ws")
            board = WsClient(HOST, self.broker.ws_port, "/v1/status", subprotocol="ciphermq.status.json")
            others = (events, poll, root, topic, board)

            def rows():
                told = self.broker.status()["clients"]
                found = {(row["kind"], row["subject"], row["group"]): row for row in told["rows"]}
                return found if told["total"] == 7 and ("v1", "seen.*", "lookers") in found else None

            found = wait_until(rows, 20, "the clients")
            self.assertEqual({kind for kind, _, _ in found}, {"v1", "sse", "json", "root", "ws", "board"})
            for key, messages, subscriptions in ((("v1", "seen.>", None), 4, 2), (("v1", "seen.*", "lookers"), 4, 1),
                                                 (("sse", "seen.*", None), 4, 1), (("json", "seen.*", None), 0, 1),
                                                 (("root", "default", "default"), 0, 1), (("ws", "seen.*", None), 0, 1)):
                self.assertEqual((found[key]["messages"], found[key]["subscriptions"], found[key]["address"]),
                                 (messages, subscriptions, HOST), key)
                self.assertLess(abs(found[key]["connected_ms"] / 1000 - time.time()), 60)
            self.assertEqual(found["v1", "seen.*", "lookers"]["lag_records"], self.group("lookers")["lag_records"])
            self.assertGreater(found["v1", "seen.>", None]["bytes"], 0)
            wait_until(lambda: self.of_metrics("ciphermq_subscriptions", stage="dispatcher") == 7, 20, "the sum in the metrics")
            for other in others:
                other.close()
        wait_until(lambda: self.broker.status()["clients"]["total"] == 0, 20, "no client")

    def test_last_errors_are_those_of_the_logs(self):
        client = WsClient(HOST, self.broker.ws_port, "/t/a/ws")
        client.send(b"x" * 200000)
        with self.assertRaises(WsClosed):
            client.receive()
        client.drop()
        error = wait_until(lambda: self.told("client_refused", "event", "errors"), 20, "a refused client")
        self.assertEqual((error["stage"], error["level"]), ("dispatcher", "warn"))
        self.assertIn(f'inst={error["instance"]} ', self.line_of(error))
        self.assertLess(abs(error["time_ms"] / 1000 - time.time()), 60)
        shown = [line for line in self.broker.ctl("status").stdout.splitlines() if " client_refused " in line]
        self.assertIn(f'warn  dispatcher {error["instance"]} client_refused {error["text"]}', "\n".join(shown))

    def test_status_and_top_show_groups_in_text(self):
        with V1Client(HOST, self.broker.ws_port) as client:
            client.consume("shown.*", "readers", since="latest")
            self.publish(3, "shown.a")
            self.wait_group("readers", lag_records=3, members=1, pending=3)
            for words in (["status"], ["top", "--count", "1"]):
                self.assertRegex(self.broker.ctl(*words).stdout, r"(?m)^readers +shown\.\* +3 +3 +1 +0 +0$")

    def line_of(self, error):
        """The line in the log of the stage."""
        with open(self.broker.log_path(self.broker.processes[error["stage"], error["instance"]]), encoding="utf-8") as log:
            lines = [line for line in log if line.endswith(f'ev={error["event"]} {error["text"]}\n')]
        self.assertTrue(lines, error)
        return lines[-1]


class Refused(OfBroker):
    """Few topics by name, none of them in the metrics; and a stage that does not start."""

    settings = {"settings": {"common.status_topics_max": 1, "common.metrics_topics": "off"}}

    def test_settings_bound_what_is_told_of_topics(self):
        self.publish(5, "one")
        self.publish(3, "two")
        wait_until(lambda: sum(row["messages"] for row in self.broker.status()["topics"]) == 8, 20, "all are noted")
        rows = self.broker.status()["topics"]
        self.assertEqual([(row["topic"], row["messages"]) for row in rows], [("one", 5), ("$other", 3)])
        self.assertNotIn("ciphermq_topic_", self.metrics())
        self.assertNotIn("ciphermq_topic_", self.broker.ctl("metrics").stdout)

    def test_a_stage_that_does_not_start_shows_why(self):
        self.broker.signal("dispatcher", 0, signal.SIGTERM)
        wait_until(lambda: not self.broker.processes["dispatcher", 0].alive(), 20, "the end of the dispatcher")
        for _ in range(2):
            done = subprocess.run([self.broker.program("dispatcher"), "--config", self.broker.config, "--instance", "0", "--set",
                                   "dispatcher.kek_file=/nowhere/kek"], capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual(done.returncode, 78)
        errors = [error for error in self.broker.status()["errors"] if error["stage"] == "dispatcher"]
        self.assertEqual([error["event"] for error in errors], ["stopped", "refused"] * 2)
        self.assertIn("/nowhere/kek", errors[1]["text"])
        self.assertEqual({error["level"] for error in errors}, {"error"})
        self.assertTrue(done.stderr.splitlines()[-2].endswith("ev=refused " + errors[1]["text"]), done.stderr)
        self.broker.spawn("dispatcher", 0)
        self.broker.wait_ready()
        self.assertEqual(len([error for error in self.broker.status()["errors"] if error["stage"] == "dispatcher"]), 4)


if __name__ == "__main__":
    unittest.main(verbosity=2)
