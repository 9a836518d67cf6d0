#!/usr/bin/python3
"""ciphermqctl backup and restore: what was durable comes back, in order and once; what is damaged or half made is refused.

Ownership: each case has a broker of its own; backups lie in its directory.
Units: messages, seconds.
Errors: unittest.
Callers: ctest, as integration.backup.
"""

import glob
import json
import os
import pty
import shutil
import signal
import stat
import subprocess
import sys
import threading
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import Broker, wait_until  # noqa: E402
from cases import WAIT_S, Case, Http  # noqa: E402

# Segments of 1 MiB, about 17 messages each.
SMALL = {"ingest.request_bytes_max": 524288, "ingest.message_bytes_max": 131072, "log.segment_bytes": 1048576,
         "ring.slots": 64}
TEXT = "x" * 60000


class Flow(threading.Thread):
    """Publishes numbered messages, one after the other, until it is stopped; ids[n] is that of number n, once it is durable."""

    def __init__(self, broker):
        super().__init__(daemon=True)
        self.client, self.ids, self.done = Http(broker), [], threading.Event()
        self.start()

    def run(self):
        while not self.done.is_set():
            self.ids.append(self.client.publish("flow", f"{len(self.ids):06d}" + TEXT))

    def reached(self, count):
        wait_until(lambda: len(self.ids) >= count, WAIT_S, f"{count} messages are published")

    def stop(self):
        self.done.set()
        self.join()
        self.client.close()


class Backup(Case):
    def program(self, broker):
        return [os.path.join(broker.build, "deploy", "ctl", "ciphermqctl"), "--config", broker.config]

    def backup(self, broker, *words, env=None, check=True):
        """The report (JSON), or the finished process."""
        result = subprocess.run([*self.program(broker), "backup", self.target(broker), "--json", *words],
                                capture_output=True, text=True, check=False, timeout=60,
                                env={**os.environ, **(env or {})})
        if not check:
            return result
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)

    def target(self, broker):
        return os.path.join(broker.directory, "backup")

    def data(self, broker, name=""):
        return os.path.join(broker.directory, "data", name)

    def files(self, broker):
        with open(os.path.join(self.target(broker), "manifest.json"), encoding="utf-8") as file:
            return json.load(file)["files"]

    def fill(self, broker, count, first=0):
        client = self.http(broker)
        for number in range(first, first + count):
            client.publish("flow", f"{number:06d}" + TEXT, CMQ_Ack="durable" if number == first + count - 1 else "accepted")

    def end(self, broker):
        """All processes die, the ring goes."""
        self.kill_all(broker)
        broker.ctl("destroy")

    def replay(self, broker, count):
        reader = self.v1(broker)
        return reader.items(reader.subscribe("flow", since="earliest"), count)

    # ---- there and back ----

    def test_broker_goes_on_where_a_backup_taken_under_load_ended(self):
        broker = self.broker(settings=SMALL)
        client, member = self.http(broker), self.v1(broker)
        jobs = [client.publish("jobs", f"job {number}") for number in range(20)]
        items = member.items(member.consume("jobs", "workers", credit=20), 20)
        member.ack("workers", [item["id"] for item in items[:5]])
        flow = Flow(broker)
        self.addCleanup(flow.stop)
        flow.reached(40)
        first = self.backup(broker)
        self.assertEqual((first["generation"], first["groups"], first["keys"]), (1, True, False))
        member.ack("workers", [item["id"] for item in items[5:10]])
        flow.reached(len(flow.ids) + 40)
        before = len(flow.ids)
        second = self.backup(broker)
        self.assertGreater(second["end"], first["end"])
        self.assertGreaterEqual(second["copied_files"], 2)
        # The sealed segments of the first were not copied again.
        self.assertLess(second["copied_bytes"], second["bytes"] - 1048576)
        flow.stop()
        self.end(broker)
        shutil.rmtree(self.data(broker))
        broker.ctl("restore", self.target(broker))
        self.assertEqual(stat.S_IMODE(os.stat(self.data(broker, "log")).st_mode), 0o750)
        for segment in glob.glob(self.data(broker, "log/*.log")):  # the newest has its space again
            found = os.stat(segment)
            self.assertEqual((stat.S_IMODE(found.st_mode), found.st_size), (0o640, 1048576))
        broker.ctl("init")
        broker.ctl("verify")
        self.spawn_all(broker)
        count = second["end"] - second["first"] - len(jobs)
        self.assertGreaterEqual(count, before)
        items = self.replay(broker, count)
        self.assertEqual([int(item["data"][:6]) for item in items], list(range(count)))
        self.assertEqual([item["id"] for item in items[:before]], flow.ids[:before])
        # The group lacks what was acknowledged before the second backup, and nothing else.
        member = self.v1(broker)
        items = member.items(member.consume("jobs", "workers", credit=20), 10)
        self.assertEqual([item["id"] for item in items], jobs[10:])
        self.assertEqual([], member.quiet(0.2))
        self.assertEqual(self.http(broker).publish("flow", "next"), f"{second['end']}-0")
        self.assertEqual(self.replay(broker, count + 1)[-1]["data"], "next")
        # And the backup goes on as well.
        self.assertEqual(self.backup(broker)["generation"], 3)
        broker.ctl("restore", "--check", self.target(broker))
        self.stop(broker)

    def test_stopped_broker_is_backed_up_and_restored_elsewhere_with_the_keys(self):
        broker, other = self.broker(settings=SMALL), Broker(settings=SMALL)
        self.fill(broker, 40)
        self.end(broker)
        result = self.backup(broker, "--keys", check=False)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("keys and log now lie together", result.stderr)
        self.addCleanup(other.abandon)
        other.prepare(init=False)
        keys = os.path.join(self.target(broker), "keys")
        for name in ("kek", "delivery.kek", "keyring"):
            self.assertEqual(stat.S_IMODE(os.stat(os.path.join(keys, name)).st_mode), 0o400)
        told = other.ctl("restore", self.target(broker)).stdout
        self.assertIn("put the keys back", told)
        for name in ("kek", "delivery.kek", "keyring"):
            shutil.copy2(os.path.join(keys, name), other.directory)
        other.ctl("init")
        self.spawn_all_of(other)
        items = self.replay(other, 40)
        self.assertEqual([int(item["data"][:6]) for item in items], list(range(40)))
        self.assertEqual(self.http(other).publish("flow", "next"), "41-0")
        self.stop(other)

    def spawn_all_of(self, broker):
        for stage in broker.counts:
            broker.spawn(stage, 0)
        broker.wait_ready()

    def test_keys_are_not_in_a_backup_unless_asked_for(self):
        broker = self.broker(settings=SMALL)
        self.fill(broker, 2)
        told = broker.ctl("backup", self.target(broker)).stdout
        self.assertIn("cp -p", told)
        secrets = []
        for name in ("kek", "delivery.kek"):
            with open(os.path.join(broker.directory, name), "rb") as file:
                secrets.append(file.read())
        for path in glob.glob(os.path.join(self.target(broker), "**"), recursive=True):
            if os.path.isfile(path):
                with open(path, "rb") as file:
                    content = file.read()
                self.assertFalse([secret for secret in secrets if secret in content or secret.hex().encode() in content])
        self.stop(broker)

    # ---- damage ----

    def test_damaged_backup_is_refused_by_name_and_nothing_is_touched(self):
        broker = self.broker(settings=SMALL)
        member = self.v1(broker)
        member.consume("jobs", "workers", credit=1)
        self.fill(broker, 40)
        self.backup(broker)
        kinds = {entry["kind"]: entry["file"] for entry in self.files(broker)}
        self.assertEqual(set(kinds), {"log", "index", "groups"})
        self.end(broker)
        log = sorted(os.listdir(self.data(broker, "log")))

        def flip(path):
            with open(path, "r+b") as file:
                file.seek(os.path.getsize(path) // 2)
                byte = file.read(1)
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte[0] ^ 1]))

        def cut(path):
            os.truncate(path, os.path.getsize(path) - 1)

        for name in [*sorted(kinds.values()), "manifest.json"]:
            path = os.path.join(self.target(broker), name)
            with open(path, "rb") as file:
                good = file.read()
            for harm in (flip, cut, os.unlink):
                harm(path)
                for words in (["--check"], ["--force"]):
                    result = broker.ctl("restore", *words, self.target(broker), check=False)
                    self.assertNotEqual(result.returncode, 0, (name, harm))
                    self.assertIn(name, result.stderr)
                with open(path, "wb") as file:
                    file.write(good)
        self.assertEqual(sorted(os.listdir(self.data(broker, "log"))), log)
        broker.ctl("restore", "--check", self.target(broker))

    # ---- interruption ----

    def test_killed_backup_leaves_the_one_before_and_the_next_one_cleans_up(self):
        broker = self.broker(settings=SMALL)
        self.fill(broker, 40)
        self.backup(broker)
        generation, count = 1, 40
        for point in ("filled:1", "copied:1", "copied:2", "manifest:1", "renamed:1"):
            self.fill(broker, 20, count)
            count += 20
            result = self.backup(broker, env={"CMQ_CRASH": f"backup.{point}"}, check=False)
            self.assertEqual(result.returncode, -signal.SIGKILL, point)
            report = json.loads(broker.ctl("restore", "--check", "--json", self.target(broker)).stdout)
            generation += point == "renamed:1"
            self.assertEqual(report["end"], (count if point == "renamed:1" else 40) + 1, point)
        report = self.backup(broker)
        self.assertEqual((report["generation"], report["end"]), (generation + 1, count + 1))
        self.assertEqual(sorted(os.listdir(self.target(broker))),
                         sorted([entry["file"] for entry in self.files(broker)] + ["lock", "manifest.json"]))
        self.stop(broker)

    def test_first_backup_that_was_killed_is_no_backup(self):
        broker = self.broker(settings=SMALL)
        self.fill(broker, 40)
        self.assertEqual(self.backup(broker, env={"CMQ_CRASH": "backup.copied:2"}, check=False).returncode, -signal.SIGKILL)
        result = broker.ctl("restore", "--check", self.target(broker), check=False)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("no finished backup", result.stderr)
        self.assertEqual(self.backup(broker)["generation"], 1)
        self.stop(broker)

    def test_killed_restore_leaves_no_log_that_a_writer_takes_for_whole(self):
        broker = self.broker(settings=SMALL)
        self.fill(broker, 60)
        self.backup(broker)
        self.end(broker)
        for point, empty in (("filled:3", True), ("named:3", False)):
            shutil.rmtree(self.data(broker))
            result = subprocess.run([*self.program(broker), "restore", self.target(broker)], capture_output=True,
                                    check=False, timeout=60, env={**os.environ, "CMQ_CRASH": f"restore.{point}"})
            self.assertEqual(result.returncode, -signal.SIGKILL)
            names = [name for name in os.listdir(self.data(broker, "log")) if not name.endswith(".tmp")]
            self.assertEqual(names == [], empty, names)
        broker.ctl("init")
        encryptor = broker.spawn("encryptor", 0)
        encryptor.child.wait(WAIT_S)
        with open(broker.log_path(encryptor), encoding="utf-8") as log:
            self.assertIn("lacks segment", log.read())
        self.kill_all(broker)
        broker.ctl("destroy")
        broker.ctl("restore", "--force", self.target(broker))
        broker.ctl("init")
        self.spawn_all(broker)
        self.assertEqual(len(self.replay(broker, 60)), 60)
        self.stop(broker)

    # ---- what is refused ----

    def test_directory_of_something_else_is_refused(self):
        broker, other = self.broker(settings=SMALL), self.broker(settings=SMALL)
        self.fill(broker, 3)
        self.fill(other, 3)
        self.backup(broker)
        result = other.ctl("backup", self.target(broker), check=False)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn(f'holds a backup of broker "{broker.instance}"', result.stderr)
        for path, text in ((self.data(broker, "log"), "the broker's own"), (broker.directory, "is not empty")):
            result = broker.ctl("backup", path, check=False)
            self.assertNotEqual(result.returncode, 0)
            self.assertIn(text, result.stderr)
            self.assertNotIn("manifest.json", os.listdir(path))
        # The same broker with a log that was begun anew, shorter and then longer than the one before.
        self.end(broker)
        shutil.rmtree(self.data(broker))
        broker.ctl("init")
        self.spawn_all(broker)
        for count in (1, 9):
            self.fill(broker, count)
            result = self.backup(broker, check=False)
            self.assertNotEqual(result.returncode, 0)
            self.assertIn("a backup of another log", result.stderr)
        broker.ctl("restore", "--check", self.target(broker))
        self.stop(broker)
        self.stop(other)

    def test_restore_refuses_what_runs_and_moves_aside_what_is_there(self):
        broker = self.broker(settings=SMALL)
        self.fill(broker, 3)
        self.backup(broker)
        self.fill(broker, 1, 3)
        before = sorted(os.listdir(self.data(broker, "log")))
        for words in ([], ["--force"]):
            result = broker.ctl("restore", *words, self.target(broker), check=False)
            self.assertNotEqual(result.returncode, 0)
            self.assertIn("ciphermqctl destroy", result.stderr)
        self.end(broker)
        result = broker.ctl("restore", self.target(broker), check=False)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("--force", result.stderr)
        self.assertEqual(sorted(os.listdir(self.data(broker, "log"))), before)
        report = json.loads(broker.ctl("restore", "--force", "--json", self.target(broker)).stdout)
        aside = [path for path in report["moved_aside"] if path.startswith(self.data(broker, "log"))]
        self.assertEqual(sorted(os.listdir(aside[0])), before)
        broker.ctl("init")
        self.spawn_all(broker)
        self.assertEqual([int(item["data"][:6]) for item in self.replay(broker, 3)], [0, 1, 2])
        self.stop(broker)

    # ---- retention, a terminal ----

    def test_segment_that_retention_takes_meanwhile_is_gone_and_no_error(self):
        broker = self.broker(settings={**SMALL, "log.retention_bytes": 6291456})
        log, count = self.data(broker, "log"), 0
        for _ in range(50):
            shutil.rmtree(self.target(broker), ignore_errors=True)
            self.fill(broker, 60, count)
            count += 60
            with subprocess.Popen([*self.program(broker), "backup", self.target(broker), "--json"],
                                  stdout=subprocess.PIPE, text=True) as running:
                copying = []
                while not copying and running.poll() is None:
                    copying = glob.glob(os.path.join(self.target(broker), "segment-*.tmp"))
                running.send_signal(signal.SIGSTOP)
                copying = glob.glob(os.path.join(self.target(broker), "segment-*.tmp"))
                first = min((os.path.basename(path)[8:24] for path in copying), default=None)
                while first and os.path.exists(os.path.join(log, first + ".log")):
                    self.fill(broker, 1, count)
                    count += 1
                running.send_signal(signal.SIGCONT)
                report = json.loads(running.communicate(timeout=60)[0])
                self.assertEqual(running.returncode, 0)
            broker.ctl("restore", "--check", self.target(broker))
            if first and report["first"] > int(first, 16):
                break
        else:
            self.fail("no segment was taken while it was copied")
        names = [entry["file"] for entry in self.files(broker)]
        self.assertFalse([name for name in names if first in name], names)
        self.end(broker)
        shutil.rmtree(self.data(broker))
        broker.ctl("restore", self.target(broker))
        broker.ctl("init")
        self.spawn_all(broker)
        items = self.replay(broker, report["end"] - report["first"])
        numbers = [int(item["data"][:6]) for item in items]
        self.assertEqual(numbers, list(range(report["first"] - 1, report["end"] - 1)))
        self.stop(broker)

    def test_progress_is_shown_on_a_terminal_only(self):
        broker = self.broker(settings=SMALL)
        self.fill(broker, 30)
        for words, bar in ((["backup", self.target(broker)], b"backup ["), (["verify"], b"verify ["),
                           (["restore", "--check", self.target(broker)], b"check [")):
            for extra, shown in (([], True), (["--json"], False)):
                if words[0] == "backup":
                    shutil.rmtree(self.target(broker), ignore_errors=True)
                master, slave = pty.openpty()
                result = subprocess.run([*self.program(broker), *words, *extra], stdout=subprocess.PIPE, stderr=slave,
                                        check=False, timeout=60)
                os.close(slave)
                os.set_blocking(master, False)
                try:
                    text = os.read(master, 65536)
                except OSError:
                    text = b""
                os.close(master)
                self.assertEqual(result.returncode, 0)
                self.assertEqual(bar in text and b" left" in text, shown, (words, extra, text))
                self.assertEqual(text == b"", not shown)
            result = broker.ctl(*words)
            self.assertEqual(result.stderr, "")
        self.stop(broker)


if __name__ == "__main__":
    unittest.main(verbosity=2)
