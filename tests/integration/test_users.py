"""A user per stage, as on servers: the broker works, and each stage can open only what it needs.

Needs root, or sudo without a password: the stages run as users of their own (plain numbers, nobody has to be made).
"""

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import HOST, config_text, find_build, reserve_port, wait_until  # noqa: E402
from wsclient import WsClient  # noqa: E402

GROUP = 64200
USERS = {"ingest": 64201, "encryptor": 64202, "dispatcher": 64203}
AS_ROOT = [] if os.geteuid() == 0 else ["sudo", "-n"]


def as_user(stage, *command):
    return [*AS_ROOT, "setpriv", f"--reuid={USERS[stage]}", f"--regid={GROUP}", "--clear-groups", "--", *command]


def run(*command, check=True):
    return subprocess.run(command, check=check, capture_output=True, text=True, timeout=30)


class Users(unittest.TestCase):
    def setUp(self):
        # Programs and state where strangers can reach them: a checkout may lie in a private home.
        self.dir = tempfile.mkdtemp(prefix="cmq-users-", dir="/tmp")
        os.chmod(self.dir, 0o755)
        self.instance = "u" + secrets.token_hex(5)
        self.ports = [reserve_port(), reserve_port()]
        self.processes = {}
        self.addCleanup(self.clean)
        build = find_build()
        self.programs = {stage: os.path.join(build, stage, "ciphermq-" + stage) for stage in USERS}
        self.programs["ctl"] = os.path.join(build, "deploy", "ctl", "ciphermqctl")
        for name, path in self.programs.items():
            self.programs[name] = shutil.copy(path, self.dir)
        for name in ("run", "keys", "data"):
            os.mkdir(os.path.join(self.dir, name))
        self.config = os.path.join(self.dir, "ciphermq.conf")
        with open(self.config, "w", encoding="ascii") as out:
            out.write(config_text({
                "common.instance": self.instance, "common.run_dir": self.path("run"), "common.drain_ms": 3000,
                "ring.slots": 64, "ingest.port": self.ports[0].getsockname()[1],
                "dispatcher.port": self.ports[1].getsockname()[1],
                "log.dir": self.path("data/log"), "encryptor.idempotency_dir": self.path("data/idempotency"),
                "dispatcher.groups_dir": self.path("data/groups"),
                "encryptor.kek_file": self.path("keys/kek"), "encryptor.keyring_file": self.path("keys/keyring"),
                "dispatcher.kek_file": self.path("keys/delivery.kek"),
                "dispatcher.keyring_file": self.path("keys/keyring")}))
        for name, mode in (("run", "2770"), ("keys", "0750"), ("data", "0750")):
            run(*AS_ROOT, "chown", f"{USERS['encryptor']}:{GROUP}", self.path(name))
            run(*AS_ROOT, "chmod", mode, self.path(name))
        run(*as_user("encryptor", self.programs["ctl"], "--config", self.config, "init"))
        run(*AS_ROOT, "chown", str(USERS["dispatcher"]), self.path("keys/delivery.kek"), self.path("data/groups"))

    def path(self, name):
        return os.path.join(self.dir, name)

    def start(self, stage):
        before = len(self.ready_lines(stage))
        with open(self.path(stage + ".log"), "ab") as log:
            self.processes[stage] = subprocess.Popen(
                as_user(stage, self.programs[stage], "--config", self.config), stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, start_new_session=True)
        wait_until(lambda: len(self.ready_lines(stage)) > before, 15, stage + " is ready")

    def process_id(self, stage):
        """Of the stage itself (sudo may stand before it), from its last ready line."""
        return int(self.ready_lines(stage)[-1].split("pid=")[1].split()[0])

    def ready_lines(self, stage):
        if not os.path.exists(self.path(stage + ".log")):
            return []
        with open(self.path(stage + ".log"), encoding="ascii") as log:
            return [line for line in log if "ev=ready" in line]

    def stop(self, stage, sig):
        run(*AS_ROOT, "kill", f"-{sig.value}", str(self.process_id(stage)))
        self.processes.pop(stage).wait(15)

    def clean(self):
        for stage, process in list(self.processes.items()):
            if process.poll() is None and self.ready_lines(stage):
                self.stop(stage, signal.SIGKILL)
            else:
                process.kill()
                process.wait()
        run(*AS_ROOT, self.programs["ctl"], "--config", self.config, "destroy", check=False)
        left = [f"/dev/shm/{name}" for name in os.listdir("/dev/shm") if name.startswith(f"cmq.{self.instance}.")]
        run(*AS_ROOT, "rm", "-rf", self.dir, *left)
        for sock in self.ports:
            sock.close()

    def publish(self, text, ack="durable"):
        request = urllib.request.Request(
            f"http://{HOST}:{self.ports[0].getsockname()[1]}/input", json.dumps({"content": text}).encode(),
            {"Content-Type": "application/json", "CMQ-Ack": ack})
        with urllib.request.urlopen(request, timeout=15) as response:
            self.assertEqual(response.status, 200)

    def test_stages_of_three_users_work_together_and_keep_apart(self):
        for stage in USERS:
            self.start(stage)
        client = WsClient(HOST, self.ports[1].getsockname()[1], timeout=15)
        self.publish("one")
        self.assertEqual(json.loads(client.receive(15)), ["one"])
        # Records of a dead encryptor reach the dispatcher; its successor collects what it left.
        self.stop("encryptor", signal.SIGKILL)
        self.publish("two", "accepted")
        self.start("encryptor")
        self.assertEqual(json.loads(client.receive(15)), ["two"])
        self.stop("ingest", signal.SIGKILL)
        self.start("ingest")
        self.publish("three")
        self.assertEqual(json.loads(client.receive(15)), ["three"])
        client.close()

        def objects():
            return [name for name in os.listdir("/dev/shm") if name.startswith(f"cmq.{self.instance}.m")]

        wait_until(lambda: len(objects()) == 3, 15, "objects of the dead are gone")
        self.check_rights()
        for stage in list(self.processes):
            self.stop(stage, signal.SIGTERM)

    def log_files(self):
        return run(*as_user("dispatcher", "find", self.path("data/log"), "-type", "f")).stdout.split()

    def check_rights(self):
        """Nobody can open what is not his: keys, and the records that others write."""

        def can(stage, how, path):
            return run(*as_user(stage, "test", how, path), check=False).returncode == 0

        def arena_of(stage):
            for name in os.listdir("/dev/shm"):
                path = "/dev/shm/" + name
                if name.startswith(f"cmq.{self.instance}.m") and os.stat(path).st_uid == USERS[stage]:
                    return path
            return None

        kek, delivery, keyring = (self.path("keys/" + name) for name in ("kek", "delivery.kek", "keyring"))
        segment = next(name for name in self.log_files() if name.endswith(".log"))
        groups, ids = self.path("data/groups"), self.path("data/idempotency")
        for stage, path, expected in (("encryptor", kek, True), ("ingest", kek, False), ("dispatcher", kek, False),
                                      ("dispatcher", delivery, True), ("ingest", delivery, False),
                                      ("dispatcher", keyring, True),
                                      ("dispatcher", segment, True), ("encryptor", groups, False),
                                      ("dispatcher", ids, False), ("ingest", ids, False)):
            self.assertEqual(can(stage, "-r", path), expected, (stage, path))
        for stage, path in (("ingest", arena_of("encryptor")), ("dispatcher", arena_of("encryptor")),
                            ("dispatcher", arena_of("ingest")), ("encryptor", arena_of("ingest")),
                            ("ingest", f"/dev/shm/cmq.{self.instance}.b"), ("dispatcher", f"/dev/shm/cmq.{self.instance}.b"),
                            ("ingest", f"/dev/shm/cmq.{self.instance}.d"), ("dispatcher", f"/dev/shm/cmq.{self.instance}.d"),
                            ("dispatcher", keyring), ("ingest", keyring),
                            ("dispatcher", segment), ("ingest", segment), ("dispatcher", self.path("data/log"))):
            self.assertFalse(can(stage, "-w", path), (stage, path))


if __name__ == "__main__":
    unittest.main(verbosity=2)
