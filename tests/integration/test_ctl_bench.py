#!/usr/bin/python3
"""ciphermqctl bench: what an operator is told, and what is told when it cannot be.

Ownership: each case has a broker of its own.
Units: messages.
Errors: unittest.
Callers: ctest, as integration.ctl_bench.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import Broker, wait_until  # noqa: E402
from cases import WAIT_S, Case  # noqa: E402
from certs import Authority  # noqa: E402
from tokens import TokenFile  # noqa: E402


class Bench(Case):
    def start(self, broker, *words):
        program = os.path.join(broker.build, "deploy", "ctl", "ciphermqctl")
        return subprocess.Popen([program, "bench", "--config", broker.config, *words], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def bench(self, broker, *words):
        """Exit code, standard output and error."""
        child = self.start(broker, *words)
        out, err = child.communicate(timeout=60)
        return child.returncode, out, err

    def count(self, broker, stage, name):
        return sum(member["counters"][name] for member in broker.members() if member["stage"] == stage)

    def test_everything_that_was_accepted_came_and_the_broker_counts_the_same(self):
        broker = self.broker()
        before = self.count(broker, "ingest", "messages")
        code, out, err = self.bench(broker, "--messages", "5000", "--batch", "70", "--connections", "3", "--json")
        self.assertEqual(code, 0, err)
        result = json.loads(out)
        self.assertEqual((result["accepted"], result["delivered"], result["missing"], result["repeated"], result["good"]),
                         (5000, 5000, 0, 0, True))
        self.assertEqual(result["posts"], 72)
        self.assertEqual(self.count(broker, "ingest", "messages") - before, 5000)
        self.assertLessEqual(result["delivery"]["p50_ms"], result["delivery"]["max_ms"])
        self.assertGreater(result["post"]["p50_ms"], 0)
        self.stop(broker)

    def test_text_and_rate_and_ack(self):
        broker = self.broker()
        code, out, err = self.bench(broker, "--seconds", "1", "--rate", "50", "--batch", "1", "--ack", "durable")
        self.assertEqual(code, 0, err)
        self.assertIn("check     : ok, each of", out)
        count = int(out.split("each of ")[1].split()[0])
        self.assertTrue(1 <= count <= 50, out)
        code, _, err = self.bench(broker, "--ack", "never")
        self.assertEqual((code, "accepted or durable" in err), (64, True))
        self.stop(broker)

    def test_interrupt_ends_it_and_it_still_reports(self):
        broker = self.broker()
        child = self.start(broker, "--seconds", "600", "--json")
        wait_until(lambda: self.count(broker, "ingest", "messages") > 0, WAIT_S, "it publishes")
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
        self.assertEqual(child.returncode, 0, err)
        self.assertTrue(json.loads(out)["good"])
        self.stop(broker)

    def test_stages_that_restart_lose_nothing_of_it(self):
        broker = self.broker()
        child = self.start(broker, "--seconds", "3", "--rate", "200", "--json")
        wait_until(lambda: self.count(broker, "ingest", "messages") > 0, WAIT_S, "it publishes")
        for stage in ("ingest", "encryptor"):
            broker.kill(stage, 0)
            broker.spawn(stage, 0)
            broker.wait_ready()
        out, err = child.communicate(timeout=60)
        self.assertEqual(child.returncode, 0, err)
        result = json.loads(out)
        self.assertTrue(result["good"], out)
        self.stop(broker)

    def test_without_a_broker_it_says_so(self):
        broker = self.broker()
        broker.kill("dispatcher", 0)
        code, out, err = self.bench(broker)
        self.assertNotEqual(code, 0)
        self.assertEqual(out, "")
        self.assertIn(f"127.0.0.1:{broker.ws_port}", err)
        broker.spawn("dispatcher", 0)
        broker.wait_ready()
        self.stop(broker)

    def test_over_tls_with_a_token(self):
        home = tempfile.mkdtemp(prefix="cmq-ctl-bench-")
        self.addCleanup(shutil.rmtree, home)
        authority = Authority(home)
        server = authority.issue_server("server")
        tokens = TokenFile(home)
        good = tokens.add("good", publish="bench.>", subscribe="bench.>")
        weak = tokens.add("weak", publish="bench.>")
        broker = self.broker(settings={"tls.cert_file": server.cert, "tls.key_file": server.key, "tokens.file": tokens.path},
                             tls=authority.context())
        files = {}
        for name, token in (("good", good), ("weak", weak)):
            files[name] = os.path.join(home, name)
            with open(files[name], "w", encoding="ascii") as file:
                file.write(token + "\n")
        code, out, err = self.bench(broker, "--messages", "500", "--json", "--token-file", files["good"])
        self.assertEqual(code, 0, err)
        self.assertEqual(json.loads(out)["delivered"], 500)
        for words in (["--token-file", files["weak"]], []):
            code, out, err = self.bench(broker, "--messages", "500", *words)
            self.assertNotEqual(code, 0)
            self.assertNotIn(weak, out + err)
        self.stop(broker)


if __name__ == "__main__":
    unittest.main(verbosity=2)
