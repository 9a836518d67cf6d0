#!/usr/bin/python3
"""The log when it is full: old records go, or new ones are refused; readers are told; service resumes by itself.

Ownership: each case has a broker of its own; a small file system is mounted where that is allowed, and unmounted.
Units: messages, bytes, seconds.
Errors: unittest.
Callers: ctest, as integration.retention.
"""

import ctypes
import os
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import wait_until  # noqa: E402
from cases import WAIT_S, Case  # noqa: E402

SMALL = {"ingest.request_bytes_max": 524288, "ingest.message_bytes_max": 131072, "log.segment_bytes": 1048576,
         "log.retention_bytes": 3145728, "ring.slots": 64}
TEXT = "x" * 60000


class Retention(Case):
    def fill(self, client, limit=400):
        """Publishes until it is refused; returns (how many were taken, the refusal)."""
        for i in range(limit):
            reply = client.post("/v1/topics/fill", f"{i:06d}" + TEXT, "text/plain")
            if reply.status != 200:
                return i, reply
        return limit, None

    def test_discard_old_keeps_the_log_small_and_tells_who_begins_at_the_beginning(self):
        broker = self.broker(settings=SMALL)
        taken, refusal = self.fill(self.http(broker), 200)
        self.assertIsNone(refusal)
        log = os.path.join(broker.directory, "data", "log")
        wait_until(lambda: self.directory_bytes(log) <= 3 * 1048576 + 1048576 + 65536, WAIT_S, "old segments are gone")
        reader = self.v1(broker)
        sub = reader.subscribe("fill", since="earliest")
        kind, gap = reader.push()
        items = []
        if kind == "msgs":      # the earliest is what is there
            items += gap["items"]
        else:
            self.assertEqual(("retention", "1-0"), (gap["reason"], gap["from"]))
        while not items or items[-1]["id"] != f"{taken}-0":
            items += reader.push()[1]["items"]
        numbers = [int(item["data"][:6]) for item in items]
        self.assertEqual(numbers, list(range(numbers[0], taken)))
        self.assertGreater(numbers[0], 0)
        late = self.v1(broker)
        sub = late.subscribe("fill", since="1-0")
        gap = late.gap(sub)
        self.assertEqual("retention", gap["reason"])
        first = late.items(sub, 1)[0]["id"]
        self.assertLessEqual(int(gap["to"].split("-")[0]), int(first.split("-")[0]))
        self.stop(broker)

    def test_group_that_is_overtaken_goes_on_with_what_is_there(self):
        broker = self.broker(settings=SMALL)
        member = self.v1(broker)
        sub = member.consume("fill", "g", credit=1)
        taken, refusal = self.fill(self.http(broker), 200)
        self.assertIsNone(refusal)
        last = None
        while last != f"{taken}-0":
            kind, body = member.push()
            if kind == "gap":
                self.assertEqual((sub, "retention"), (body["sub"], body["reason"]))
                continue
            last = body["items"][-1]["id"]
            member.ack("g", [item["id"] for item in body["items"]])
        self.stop(broker)

    def test_reject_new_answers_503_and_everything_that_was_taken_stays(self):
        broker = self.broker(settings={**SMALL, "log.retention": "reject_new", "ingest.durable_wait_ms": 2000})
        client = self.http(broker)
        taken, refusal = self.fill(client)
        self.assertIsNotNone(refusal)
        self.assertEqual(refusal.status, 503, refusal)
        self.assertTrue("log-full" in refusal.body["type"] or "not-durable" in refusal.body["type"], refusal)
        self.assertIsNotNone(refusal.headers["Retry-After"])
        wait_until(lambda: "log-full" in client.post("/v1/topics/fill", "x", "text/plain").body.get("type", ""), WAIT_S,
                   "refused at once")
        self.assertGreater(taken, 20)
        reader = self.v1(broker)
        items = reader.items(reader.subscribe("fill", since="earliest"), taken)
        self.assertEqual([int(item["data"][:6]) for item in items], list(range(taken)))
        self.stop(broker)

    def small_disk(self, size):
        """A tmpfs, where mount(2) is allowed."""
        path = tempfile.mkdtemp(prefix="cmq-disk-")
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"tmpfs", path.encode(), b"tmpfs", 0, f"size={size},mode=0700".encode()) != 0:
            os.rmdir(path)
            return None
        self.addCleanup(shutil.rmtree, path, True)
        self.addCleanup(libc.umount2, path.encode(), 2)
        return path

    def test_full_disk_answers_503_and_service_resumes_when_there_is_space(self):
        disk = self.small_disk(8 << 20)
        if disk is None:
            print("mount(2) is not allowed here: a full disk is tried by the log's own tests only")
            return
        broker = self.broker(settings={**SMALL, "log.dir": os.path.join(disk, "log"), "log.retention_bytes": 1 << 30,
                                       "ingest.durable_wait_ms": 2000})
        client = self.http(broker)
        ballast = os.path.join(disk, "ballast")
        first = client.publish("fill", "before")
        with open(ballast, "wb") as file:
            file.write(bytes(3 << 20))
        taken, refusal = self.fill(client)
        self.assertIsNotNone(refusal)
        self.assertEqual(refusal.status, 503, refusal)
        reader = self.v1(broker)        # deliveries go on
        sub = reader.subscribe("fill", since="earliest")
        items = reader.items(sub, taken + 1)
        self.assertEqual(items[0]["id"], first)
        self.assertEqual([int(item["data"][:6]) for item in items[1:]], list(range(taken)))
        os.unlink(ballast)
        wait_until(lambda: client.post("/v1/topics/fill", "after", "text/plain").status == 200, WAIT_S, "service resumes")
        while items[-1]["data"] != "after":
            items += reader.items(sub, 1)
        for process in broker.processes.values():
            self.assertTrue(process.alive())
        self.stop(broker)


if __name__ == "__main__":
    unittest.main(verbosity=2)
