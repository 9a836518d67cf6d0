#!/usr/bin/python3
"""Upgrades: a later build of one stage works with running earlier ones, or refuses clearly; the procedure of
docs/OPERATIONS.md keeps log, keys, groups and messages.

Ownership: each case has a broker of its own. The other builds' programs are made by CMakeLists.txt beside this.
Units: messages, seconds.
Errors: unittest.
Callers: ctest, as integration.upgrade.
"""

import glob
import hashlib
import os
import struct
import subprocess
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import STAGES, find_build, wait_until  # noqa: E402
from cases import WAIT_S, Case  # noqa: E402

BUILD = find_build()
NEXT, OTHER = (os.path.join(BUILD, "tests", "upgrade", name) for name in ("next", "other"))
LATER = "99.0.0"
REFUSED = 78


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def rewrite_version(directory, version):
    """Another version in the head of the newest segment, with its checksum. Returns the one before."""
    path = sorted(glob.glob(os.path.join(directory, "*.log")))[-1]
    with open(path, "r+b") as segment:
        head = bytearray(segment.read(64))
        before, = struct.unpack_from("<I", head, 8)
        struct.pack_into("<II", head, 8, version, 0)
        struct.pack_into("<I", head, 12, crc32c(head))
        segment.seek(0)
        segment.write(head)
    return before


def digests(broker):
    """Of what must outlive every upgrade."""
    found = {}
    for name in ("kek", "delivery.kek", "keyring"):
        with open(os.path.join(broker.directory, name), "rb") as file:
            found[name] = hashlib.sha256(file.read()).hexdigest()
    return found


class Upgrade(Case):
    def log(self, broker, stage, number=0):
        with open(broker.log_path(broker.processes[stage, number]), encoding="utf-8") as log:
            return log.read()

    def refusal(self, broker, stage, number=0):
        """Starts an instance; it must end with 78. Returns what it logged."""
        process = broker.spawn(stage, number)
        self.assertEqual(REFUSED, process.child.wait(WAIT_S), self.log(broker, stage, number))
        del broker.processes[stage, number]
        with open(broker.log_path(process), encoding="utf-8") as log:
            return [line for line in log if "ev=refused" in line][-1]

    def roll(self, broker, troupe, build, stage):
        """The instances of a stage become those of another build, one by one."""
        troupe.sink.add(type="move", stage=stage, what="upgraded", t=time.monotonic())
        for number in range(broker.counts[stage]):
            broker.build = build
            broker.restart(stage, number)
            seen = sum(troupe.seen("subscribe") + troupe.seen("member") + troupe.seen("consume"))
            wait_until(lambda seen=seen: sum(troupe.seen("subscribe") + troupe.seen("member") + troupe.seen("consume")) > seen,
                       WAIT_S, "messages beside two builds")
        self.settle(troupe)

    def versions(self, broker):
        """{"stage:N": version} of those that live."""
        return {f"{one['stage']}:{one['instance']}": one["version"] for one in broker.members() if one["alive"]}

    def settle(self, troupe):
        """What ends because of a move is noted before the next one begins."""
        last = [0, time.monotonic()]

        def quiet():
            count = len(troupe.sink.history().ended)
            if count != last[0]:
                last[:] = count, time.monotonic()
            return time.monotonic() - last[1] > 0.5

        wait_until(quiet, WAIT_S, "the ends of connections")

    def test_a_later_build_of_each_stage_works_with_earlier_ones_and_back(self):
        for stage in STAGES:
            words = subprocess.run([os.path.join(NEXT, stage, "ciphermq-" + stage), "--version"], capture_output=True, text=True,
                                   check=True).stdout
            self.assertEqual(f"ciphermq {stage} {LATER}\n", words)
        broker = self.broker(ingest=2, encryptor=2, dispatcher=2)
        troupe = self.troupe(broker)
        for _ in range(2):
            troupe.start("publish", topics=["default", "jobs.a"], key_share=0.5)
            troupe.start("consume")
        troupe.start("subscribe", topic=">")
        troupe.start("member", name="w", group="w", topic="jobs.*")
        for build, order in ((NEXT, ("encryptor", "dispatcher", "ingest")), (BUILD, ("dispatcher", "ingest", "encryptor"))):
            for stage in order:
                self.roll(broker, troupe, build, stage)
            versions = self.versions(broker)
            self.assertEqual(6, len(versions))
            self.assertEqual(1, len(set(versions.values())))
            self.assertEqual(build == NEXT, LATER in versions.values())
            self.assertNotIn("is version", broker.ctl("status").stdout)
        broker.build = NEXT
        broker.restart("encryptor", 1)
        self.assertIn(f"encryptor:1 is version {LATER}", broker.ctl("status").stdout)
        self.assertNotIn(f"encryptor:0 is version {LATER}", broker.ctl("status").stdout)
        troupe.stop("publish")
        report = self.settled(troupe)
        for stage in STAGES:
            for number in range(2):
                log = self.log(broker, stage, number)
                self.assertIn(f"ev=starting version={LATER}", log)
        self.assertGreater(report.figures["ended_v1"], 0)
        self.assertEqual(report.figures["duplicates"], report.figures["duplicates_of_retries"])
        self.stop(broker)

    def test_another_layout_is_refused_and_the_documented_way_keeps_everything(self):
        broker = self.broker()
        http = self.http(broker)
        first = http.publish("orders", "one", "two", "three")
        group = self.v1(broker)
        sub = group.consume("orders", "g")
        items = group.items(sub, 3)
        self.assertEqual(2, group.ack("g", [item["id"] for item in items[:2]])["acked"])
        before = digests(broker)
        broker.build = OTHER
        for stage in STAGES:
            line = self.refusal(broker, stage, 1)
            for part in ("made by a build with another layout", "this build has 99", "stop all stages",
                         "ciphermqctl destroy and init"):
                self.assertIn(part, line)
        for command in ("status", "init"):
            result = broker.ctl(command, check=False)
            self.assertEqual(REFUSED, result.returncode, command)
            self.assertIn("another layout", result.stderr)
        http.publish("orders", "four")      # those that run go on
        self.assertEqual("four", group.items(sub, 1)[0]["data"])
        group.close()
        http.close()
        for stage in STAGES:    # docs/OPERATIONS.md, "Upgrade"
            process = broker.processes[stage, 0]
            process.child.terminate()
            self.assertEqual(0, process.child.wait(WAIT_S))
        broker.ctl("destroy")
        self.assertEqual([], broker.shared_objects())
        broker.ctl("init")
        self.spawn_all(broker)
        self.assertEqual(before, digests(broker))
        reader, heir = self.v1(broker), self.v1(broker)
        everything = reader.subscribe("orders", since="earliest")
        kept = reader.items(everything, 4)
        self.same(kept[:3], ["one", "two", "three"], first)
        self.assertEqual("four", kept[3]["data"])
        again = heir.consume("orders", "g")
        self.assertEqual(["three", "four"], [item["data"] for item in heir.items(again, 2)])
        last = self.http(broker).publish("orders", "five")
        self.assertGreater(int(last.split("-")[0]), int(first.split("-")[0]) + 1)
        self.same(reader.items(everything, 1), ["five"], last)
        broker.build = BUILD
        self.assertIn("this build has 2", self.refusal(broker, "ingest", 1))    # and not back without the same way
        broker.build = OTHER
        self.stop(broker)

    def test_a_log_of_another_version_is_refused_and_not_touched(self):
        broker = self.broker()
        first = self.http(broker).publish("orders", "kept")
        for stage in STAGES:
            process = broker.processes.pop((stage, 0))
            process.child.terminate()
            self.assertEqual(0, process.child.wait(WAIT_S))
        known = None
        for version in (0, 2, 4000000000):
            before = rewrite_version(broker.log_directory, version)
            known = before if known is None else known
            line = self.refusal(broker, "encryptor")
            for part in (f"has format version {version}, this build knows {known}", "start the build that wrote it"):
                self.assertIn(part, line)
            verify = broker.ctl("verify", check=False)
            self.assertNotEqual(0, verify.returncode)
            self.assertIn(f"version {version}", verify.stdout + verify.stderr)
        rewrite_version(broker.log_directory, known)
        self.spawn_all(broker)
        client = self.v1(broker)
        self.same(client.items(client.subscribe("orders", since="earliest"), 1), ["kept"], first)
        self.stop(broker)


if __name__ == "__main__":
    unittest.main()
