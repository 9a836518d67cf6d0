"""ciphermqctl doctor: a healthy broker has no finding; each planted fault is found, and its fix is named."""

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import unittest
import urllib.error
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import HOST, Broker, find_build, wait_until  # noqa: E402

SMALL_LOG = {"log.segment_bytes": 1 << 20, "log.retention_bytes": 4 << 20, "ingest.request_bytes_max": 65536,
             "ingest.message_bytes_max": 65536, "ingest.arena_bytes": 1 << 20, "encryptor.arena_bytes": 1 << 20,
             "dispatcher.dead_arena_bytes": 1 << 18}

# Valid in January 2020 only. The key protects nothing.
OLD_CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBFDCBugIBATAKBggqhkjOPQQDAjAWMRQwEgYDVQQDDAtvbGQuZXhhbXBsZTAe
Fw0yMDAxMDEwMDAwMDBaFw0yMDAyMDEwMDAwMDBaMBYxFDASBgNVBAMMC29sZC5l
eGFtcGxlMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEOtj/oI02qWS8UESbNRD7
QEv7oQuW+blmaP1AKYBqL4Qywy83kwHwylkm/RIZ8epjXW/mvYbigZ+fiRiOh4Ga
TjAKBggqhkjOPQQDAgNJADBGAiEAhDTjBULuYwnFcM8eItjTactP0wPsx91dHhqz
YjXSXeACIQDpssIhH99XHrNsp8gg6VyFXEfYZAX83wV0uBk3KXLyPg==
-----END CERTIFICATE-----
"""
OLD_KEY = """\
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIDbFSRMhI8XqPHZnyFNDAlo9JrMQg/k+XaexBuJZ5nZHoAoGCCqGSM49
AwEHoUQDQgAEOtj/oI02qWS8UESbNRD7QEv7oQuW+blmaP1AKYBqL4Qywy83kwHw
ylkm/RIZ8epjXW/mvYbigZ+fiRiOh4GaTg==
-----END EC PRIVATE KEY-----
"""


def doctor(broker, *words, **keys):
    """The report, and the exit code."""
    result = broker.ctl("doctor", "--json", *words, check=False, **keys)
    return json.loads(result.stdout), result.returncode


def failed(report):
    return [check for check in report["checks"] if check["level"] == "fail"]


def make_certificate(directory, name, days):
    cert, key = os.path.join(directory, f"{name}.crt"), os.path.join(directory, f"{name}.key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", key, "-out", cert, "-days", str(days), "-subj", f"/CN={name}"], check=True, capture_output=True)
    return cert, key


class Healthy(unittest.TestCase):
    def test_broker_that_works_has_no_failed_check_and_its_canary_arrives(self):
        with Broker(find_build(), ingest=2, encryptor=2, dispatcher=2) as broker:
            report, code = doctor(broker)
            self.assertEqual((failed(report), code), ([], 0))
            canary = [check for check in report["checks"] if check["check"] == "canary"]
            self.assertEqual([check["level"] for check in canary], ["ok"], canary)
            text = broker.ctl("doctor").stdout
            self.assertIn(" 0 failed", text.splitlines()[-1])


class Planted(unittest.TestCase):
    """One broker; every test plants a fault and takes it away."""

    @classmethod
    def setUpClass(cls):
        cls.broker = Broker(find_build(), settings=SMALL_LOG)
        cls.broker.start()
        cls.keys = {name: value for name, value in cls.broker.settings().items() if name.endswith("_file")}

    @classmethod
    def tearDownClass(cls):
        cls.broker.stop()

    def expect(self, check, seen, fix, *words):
        """Among the failed checks is this one, with these words in what it saw and in its fix."""
        report, code = doctor(self.broker, *words)
        found = [one for one in failed(report) if one["check"] == check and seen in one["text"] and fix in one["fix"]]
        self.assertEqual(len(found), 1, json.dumps(report, indent=1))
        self.assertEqual(code, 1)

    @contextlib.contextmanager
    def moved(self, path):
        """The file is elsewhere for a while; whatever took its place goes."""
        os.rename(path, path + ".moved")
        try:
            yield
        finally:
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            elif os.path.lexists(path):
                os.unlink(path)
            os.rename(path + ".moved", path)

    @contextlib.contextmanager
    def mode(self, path, mode):
        before = os.stat(path).st_mode & 0o7777
        os.chmod(path, mode)
        try:
            yield
        finally:
            os.chmod(path, before)

    def write(self, path, content, mode):
        with open(path, "wb") as out:
            out.write(content)
        os.chmod(path, mode)

    # ---- configuration ----

    def test_unknown_key(self):
        self.expect("config", "nearest known key", "config --sample", "--set", "ring.slot=16")

    def test_value_outside_its_range(self):
        self.expect("config", "ring.slots", "config --sample", "--set", "ring.slots=17")

    def test_address_of_the_network_without_tls(self):
        self.expect("config", "0.0.0.0", "", "--set", "ingest.listen=0.0.0.0")

    def test_run_directory_that_is_not_there(self):
        self.expect("run-dir", "does not exist", "ciphermqctl init", "--set", "common.run_dir=/nowhere/at/all")

    # ---- keys ----

    def test_missing_key(self):
        with self.moved(self.keys["encryptor.kek_file"]):
            self.expect("kek", "is missing", "your copy")

    def test_key_that_others_may_read(self):
        with self.mode(self.keys["encryptor.kek_file"], 0o644):
            self.expect("kek", "mode 0644", "chmod 0400")

    def test_truncated_key(self):
        path = self.keys["encryptor.kek_file"]
        with self.moved(path):
            self.write(path, b"x" * 31, 0o400)
            self.expect("kek", "31 bytes", "your copy")

    def test_key_that_is_a_link(self):
        path = self.keys["encryptor.kek_file"]
        with self.moved(path):
            os.symlink(path + ".moved", path)
            self.expect("kek", "not a regular file", "links are not followed")

    def test_key_of_another_keyring(self):
        path = self.keys["encryptor.kek_file"]
        with self.moved(path):
            self.write(path, os.urandom(32), 0o400)
            self.expect("keyring", "encryptor", "belong together")

    def test_missing_delivery_key(self):
        with self.moved(self.keys["dispatcher.kek_file"]):
            self.expect("delivery-kek", "is missing", "your copy")

    def test_delivery_key_of_another_keyring(self):
        path = self.keys["dispatcher.kek_file"]
        with self.moved(path):
            self.write(path, os.urandom(32), 0o400)
            self.expect("keyring", "dispatcher", "belong together")

    def test_missing_keyring(self):
        with self.moved(self.keys["encryptor.keyring_file"]):
            self.expect("keyring", "is missing", "your copy")

    def test_damaged_keyring(self):
        path = self.keys["encryptor.keyring_file"]
        with open(path, "rb") as file:
            content = bytearray(file.read())
        content[len(content) // 2] ^= 1
        with self.moved(path):
            self.write(path, bytes(content), 0o640)
            self.expect("keyring", "encryptor", "one copy")

    # ---- directories, memory, descriptors ----

    def test_log_that_is_a_file(self):
        path = os.path.join(self.broker.directory, "file")
        self.write(path, b"", 0o600)
        self.expect("log", "not a directory", "name a directory", "--set", f"log.dir={path}")

    def test_log_that_its_owner_may_not_write(self):
        with self.mode(self.broker.settings()["log.dir"], 0o500):
            self.expect("log", "cannot be written", "chmod u+w")

    def test_log_that_everybody_may_write(self):
        with self.mode(self.broker.settings()["log.dir"], 0o777):
            self.expect("log", "written by everybody", "chmod o-w")

    def test_table_of_groups_that_is_a_file(self):
        path = os.path.join(self.broker.directory, "file")
        self.write(path, b"", 0o600)
        self.expect("groups", "not a directory", "name a directory", "--set", f"dispatcher.groups_dir={path}")

    def test_disk_that_does_not_hold_a_segment(self):
        free = os.statvfs(self.broker.directory)
        if free.f_bavail * free.f_frsize < 1 << 30:  # the fault is there already
            self.expect("log-space", "free", "make room", "--set", "log.segment_bytes=1G", "--set", "log.retention_bytes=2G")
            return
        report, _ = doctor(self.broker, "--set", "log.retention_bytes=15000000M")
        notes = [check for check in report["checks"] if check["check"] == "log-space" and check["level"] == "note"]
        self.assertIn("retention_bytes", notes[0]["fix"])

    def test_shared_memory_that_is_too_small(self):
        shm = os.statvfs("/dev/shm")
        if shm.f_bavail * shm.f_frsize > 3 * 16383 << 20:
            self.fail("this machine has more shared memory than the settings can ask for")
        self.expect("shared-memory", "MiB free", "shm-size", "--set", "common.instance=another", "--set",
                    "ingest.arena_bytes=16383M", "--set", "encryptor.arena_bytes=16383M", "--set",
                    "dispatcher.dead_arena_bytes=16383M")

    def test_too_few_descriptors(self):
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        program = os.path.join(self.broker.build, "deploy", "ctl", "ciphermqctl")
        result = subprocess.run(["/bin/sh", "-c", 'ulimit -n 256; exec "$@"', "sh", program, "--config", self.broker.config,
                                 "doctor", "--json"], capture_output=True, text=True, check=False)
        found = [check for check in failed(json.loads(result.stdout)) if check["check"] == "descriptors"]
        self.assertIn("LimitNOFILE", found[0]["fix"], limit)

    # ---- tokens, certificates ----

    def test_token_file_with_a_line_that_is_not_understood(self):
        path = os.path.join(self.broker.directory, "tokens")
        self.write(path, b"token nonsense\n", 0o640)
        self.expect("tokens", "tokens", "token create", "--set", f"tokens.file={path}")

    def test_expired_certificate(self):
        cert, key = os.path.join(self.broker.directory, "old.crt"), os.path.join(self.broker.directory, "old.key")
        self.write(cert, OLD_CERTIFICATE.encode(), 0o644)
        self.write(key, OLD_KEY.encode(), 0o600)
        self.expect("tls", "has expired", "renew it", "--set", f"tls.cert_file={cert}", "--set", f"tls.key_file={key}")

    def test_certificate_with_the_key_of_another_one(self):
        cert, _ = make_certificate(self.broker.directory, "one", 30)
        _, key = make_certificate(self.broker.directory, "other", 30)
        self.expect("tls", "does not belong", "its own private key", "--set", f"tls.cert_file={cert}",
                    "--set", f"tls.key_file={key}")

    def test_missing_certificate(self):
        self.expect("tls", "No such file", "PEM", "--set", "tls.cert_file=/nowhere/a.crt", "--set", "tls.key_file=/nowhere/a.key")

    # ---- the broker ----

    def test_port_on_which_nobody_answers(self):
        with socket.socket() as listener:
            listener.bind((HOST, 0))  # bound, not listening: nobody else gets it
            self.expect("http", "http://", "ss -ltnp", "--set", f"ingest.port={listener.getsockname()[1]}")

    def test_ring_that_does_not_exist(self):
        self.expect("ring", "no ring", "ciphermqctl init", "--set", "common.instance=nobody-has-this")

    def test_stage_that_is_stopped(self):
        self.broker.signal("ingest", 0, signal.SIGSTOP)
        try:
            self.expect("stages", "is stopped", "kill -CONT")
        finally:
            self.broker.signal("ingest", 0, signal.SIGCONT)


class Broken(unittest.TestCase):
    """Faults that a broker does not come back from by itself."""

    def expect(self, broker, check, seen, fix):
        report, code = doctor(broker)
        found = [one for one in failed(report) if one["check"] == check and seen in one["text"] and fix in one["fix"]]
        self.assertEqual(len(found), 1, json.dumps(report, indent=1))
        self.assertEqual(code, 1)

    def test_dead_stage(self):
        for stage in ("ingest", "encryptor", "dispatcher"):
            with self.subTest(stage), Broker(find_build()) as broker:
                broker.kill(stage, 0)
                self.expect(broker, "stages", f"no {stage} runs", "supervisor")

    def test_missing_part_of_the_ring(self):
        with Broker(find_build()) as broker:
            part = [name for name in broker.shared_objects() if name.endswith(".b")]
            os.unlink(os.path.join("/dev/shm", os.path.basename(part[0])))
            self.expect(broker, "ring", ".b", "ciphermqctl destroy")

    def test_missing_segment_of_the_log(self):
        with Broker(find_build(), settings=SMALL_LOG) as broker:
            directory = broker.settings()["log.dir"]
            body = b"x" * 60000
            for _ in range(60):  # more than three segments
                publish(broker, body)
            segments = sorted(name for name in os.listdir(directory) if name.endswith(".log"))
            wait_until(lambda: os.path.exists(os.path.join(directory, segments[0][:-4] + ".idx")), 10, "an index")
            os.unlink(os.path.join(directory, segments[1]))
            self.expect(broker, "log", "lacks segment", "bring the file back")

    def test_log_that_is_full(self):
        with Broker(find_build(), settings=dict(SMALL_LOG, **{"log.retention": "reject_new", "log.retention_bytes": 2 << 20})) as broker:
            with self.assertRaises(urllib.error.HTTPError) as refused:
                for _ in range(200):
                    publish(broker, b"x" * 60000)
            self.assertEqual(refused.exception.code, 503)
            refused.exception.close()
            self.expect(broker, "log-writer", "full", "make room")


def publish(broker, body):
    request = urllib.request.Request(f"http://{HOST}:{broker.http_port}/v1/topics/full", body)
    with urllib.request.urlopen(request, timeout=15) as response:
        response.read()


if __name__ == "__main__":
    unittest.main(verbosity=2)
