"""ciphermqctl status and verify: the log's figures while the broker runs, and every damaged record of a log by its number."""

import glob
import json
import os
import shutil
import sys
import unittest
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import HOST, Broker, find_build, wait_until  # noqa: E402

RECORDS = 20


class Verify(unittest.TestCase):
    def publish(self, broker, text):
        request = urllib.request.Request(f"http://{HOST}:{broker.http_port}/v1/topics/orders.eu", text.encode())
        with urllib.request.urlopen(request, timeout=15) as response:
            self.assertEqual(json.load(response)["ack"], "durable")

    def verify(self, broker):
        """(exit code, the report)"""
        result = broker.ctl("verify", "--json", check=False)
        return result.returncode, json.loads(result.stdout)

    def test_status_has_the_figures_of_the_log(self):
        with Broker(find_build()) as broker:
            for number in range(RECORDS):
                self.publish(broker, f"message {number}")
            log = broker.status()["log"]
            self.assertEqual((log["health"], log["stored"], log["durable"], log["writer"]), ("ok", RECORDS + 1, RECORDS + 1, 0))
            wait_until(lambda: broker.status()["log"]["floor"] == 1 and broker.status()["log"]["bytes"] > 0, 10, "gauges")
            text = broker.ctl("status").stdout
            self.assertIn(f"log ok  stored up to record {RECORDS + 1}", text)
            self.assertIn("written by encryptor 0", text)

    def test_verify_names_the_damaged_records_and_reads_the_others(self):
        with Broker(find_build()) as broker:
            for number in range(RECORDS):
                self.publish(broker, f"message {number}")
            code, report = self.verify(broker)
            self.assertEqual(code, 0, report)
            self.assertEqual((report["first"], report["end"], report["records"], report["messages"]),
                             (1, RECORDS + 1, RECORDS, RECORDS))
            self.assertEqual((report["damaged"], report["damaged_records"]), ([], 0))
            # A copy of the log, in which a bit of record 5's payload and one of record 9's head are flipped.
            log = os.path.join(broker.directory, "data", "log")
            segment, = [path for path in glob.glob(os.path.join(log, "*.log"))]
            with open(segment, "rb") as file:
                data = bytearray(file.read())
            magic = bytes(data[4096:4100])
            heads = [at for at in range(4096, len(data) - 64, 64) if data[at:at + 4] == magic][:RECORDS]
            data[heads[4] + 64 + 20] ^= 1
            data[heads[8] + 9] ^= 1
            copy = os.path.join(broker.directory, "copy")
            shutil.copytree(log, copy)
            with open(os.path.join(copy, os.path.basename(segment)), "wb") as file:
                file.write(data)
            result = broker.ctl("--set", f"log.dir={copy}", "verify", "--json", check=False)
            report = json.loads(result.stdout)
            self.assertEqual(result.returncode, 1, report)
            self.assertEqual([(one["from"], one["to"]) for one in report["damaged"]], [(5, 6), (9, 10)])
            self.assertEqual((report["records"], report["messages"]), (RECORDS - 2, RECORDS - 2))
            self.assertEqual(self.verify(broker)[0], 0)

    def test_verify_finds_a_record_whose_seal_does_not_fit(self):
        with Broker(find_build()) as broker, Broker(find_build()) as other:
            self.publish(broker, "one")
            self.publish(other, "one")
            # The other broker's log, read with this one's keys: checksums are right, keys are not.
            log = os.path.join(other.directory, "data", "log")
            result = broker.ctl("--set", f"log.dir={log}", "verify", check=False)
            self.assertEqual(result.returncode, 1)
            self.assertIn("record 1: its key is not in the keyring", result.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
