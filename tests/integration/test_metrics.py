"""Metrics: their format, and that the example alerts and the example dashboard speak of metrics that there are."""

import json
import os
import re
import signal
import subprocess
import sys
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.join(HERE, "..", "..")
sys.path.insert(0, os.path.join(HERE, "..", "support"))

from broker import HOST, Broker, find_build, wait_until  # noqa: E402
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


class Live(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.broker = Broker(find_build(), ingest=2, supervise=True)
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

    def publish(self, count=1):
        client = http.client.HTTPConnection(HOST, self.broker.http_port, timeout=15)
        for _ in range(count):
            client.request("POST", "/v1/topics/metrics", "x", {"Content-Type": "text/plain"})
            answer = client.getresponse()
            answer.read()
            self.assertEqual(answer.status, 200)
        client.close()

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

    def test_requests_and_durable_waits_are_timed(self):
        self.publish(3)
        text = samples(self.metrics())
        for name, stage in (("request", "ingest"), ("log_wait", "ingest"), ("seal", "encryptor"), ("log_append", "encryptor"),
                            ("log_sync", "encryptor")):
            total = sum(value for key, value in text.items()
                        if key.startswith(f'ciphermq_{name}_duration_seconds_count{{stage="{stage}"'))
            self.assertGreater(total, 0, name)


if __name__ == "__main__":
    unittest.main(verbosity=2)
