"""Whole processes: start in any order, deaths and restarts, drain, reload, full ring, byte-exact content, silent logs."""

import glob
import http.client
import json
import os
import signal
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import Broker, wait_until  # noqa: E402
from wsclient import WsClient, WsClosed  # noqa: E402

HOST = "127.0.0.1"
JSON = {"Content-Type": "application/json"}
CANARY = "CANARY-3f9a51c7"


def post(connection, path, document, headers=None):
    body = document if isinstance(document, bytes) else json.dumps(document).encode("ascii")
    connection.request("POST", path, body, headers or JSON)
    response = connection.getresponse()
    return response, response.read()


ACCEPTED = {**JSON, "CMQ-Ack": "accepted"}


def publish(connection, *contents, headers=None):
    response, body = post(connection, "/input/batch", {"messages": [{"content": text} for text in contents]}, headers)
    assert response.status == 200, (response.status, body)
    return json.loads(body)


OPEN = []  # connections of the running test


def opened(connection):
    OPEN.append(connection)
    return connection


def http_to(broker):
    return opened(http.client.HTTPConnection(HOST, broker.http_port, timeout=20))


def ws_to(broker):
    return opened(WsClient(HOST, broker.ws_port, timeout=20))


def kill_and_wait(broker, stage):
    """SIGKILL; returns when the supervisor's next incarnation is ready."""
    process = broker.processes[(stage, 0)]
    pid = process.child.pid
    broker.kill(stage, 0)
    wait_until(lambda: process.child.pid != pid, 10, "a new incarnation")
    broker.wait_ready()


def receive(client, count):
    got = []
    while len(got) < count:
        got += json.loads(client.receive(20))
    return got


def log_of(broker, stage, number=0):
    with open(os.path.join(broker.directory, f"{stage}.{number}.log"), encoding="ascii") as log:
        return log.read()


class Lifecycle(unittest.TestCase):
    def tearDown(self):
        while OPEN:
            OPEN.pop().close()

    def test_stages_that_start_before_the_ring_wait_for_it(self):
        broker = Broker()
        try:
            broker.prepare(init=False)
            broker.spawn("dispatcher", 0)
            broker.spawn("ingest", 0)
            for stage in ("dispatcher", "ingest"):
                wait_until(lambda stage=stage: "ev=waiting" in log_of(broker, stage), 10, f"{stage} waits")
            broker.ctl("init")
            broker.spawn("encryptor", 0)
            broker.wait_ready()
            publish(http_to(broker), "hello")
            self.assertEqual(receive(ws_to(broker), 1), ["hello"])
            broker.stop()
        finally:
            broker.abandon()

    def test_second_process_of_the_same_number_goes_away_and_harms_nothing(self):
        with Broker() as broker:
            for stage in ("ingest", "encryptor", "dispatcher"):
                result = subprocess.run([broker.program(stage), "--config", broker.config, "--instance", "0"],
                                        capture_output=True, timeout=20, check=False)
                self.assertEqual(result.returncode, 75, result.stderr)
            publish(http_to(broker), "still here")
            self.assertEqual(receive(ws_to(broker), 1), ["still here"])

    def test_death_of_one_stage_keeps_the_connections_of_the_others(self):
        with Broker(supervise=True) as broker:
            for stage in ("encryptor", "dispatcher", "ingest"):
                http_side, ws_side = http_to(broker), ws_to(broker)
                publish(http_side, stage + " before")
                self.assertEqual(receive(ws_side, 1), [stage + " before"])
                http_socket = http_side.sock
                kill_and_wait(broker, stage)
                if stage == "ingest":
                    http_side = http_to(broker)
                if stage == "dispatcher":
                    ws_side = ws_to(broker)
                publish(http_side, stage + " after")
                got = receive(ws_side, 1)
                while got[-1] != stage + " after":
                    got += receive(ws_side, 1)
                if got[0] == stage + " before":  # legal: it died between the socket and its note of it
                    del got[0]
                self.assertEqual(got, [stage + " after"])
                if stage != "ingest":
                    self.assertIs(http_side.sock, http_socket)
                ws_side.close()
                wait_until(lambda: all(m["counters"]["clients"] == 0 for m in broker.members()
                                       if m["stage"] == "dispatcher" and m["alive"]), 10, "the client is gone")

    def test_acknowledged_messages_survive_the_death_of_all_stages(self):
        with Broker() as broker:
            texts = [f"message_{i}" for i in range(1000)]
            for begin in range(0, 1000, 100):
                publish(http_to(broker), *texts[begin:begin + 100])
            for stage in ("ingest", "dispatcher", "encryptor"):
                broker.kill(stage, 0)
            for stage in ("dispatcher", "ingest", "encryptor"):
                broker.spawn(stage, 0)
            broker.wait_ready()
            self.assertEqual(receive(ws_to(broker), 1000), texts)

    def test_messages_wait_for_an_encryptor(self):
        with Broker() as broker:
            broker.kill("encryptor", 0)
            self.assertEqual(publish(http_to(broker), "sealed later", headers=ACCEPTED)["ack"], "accepted")
            durable = http_to(broker)
            durable.request("POST", "/input", json.dumps({"content": "waits for the log"}), JSON)
            broker.spawn("encryptor", 0)
            broker.wait_ready()
            self.assertEqual(json.loads(durable.getresponse().read())["ack"], "durable")
            self.assertEqual(receive(ws_to(broker), 2), ["sealed later", "waits for the log"])

    def test_sigterm_drains_every_stage_and_ends_with_0(self):
        with Broker() as broker:
            client = ws_to(broker)
            for stage in ("ingest", "encryptor", "dispatcher"):
                publish(http_to(broker), stage)
                self.assertEqual(receive(client, 1), [stage])
                broker.restart(stage, 0)
                if stage == "dispatcher":
                    with self.assertRaises(WsClosed) as closed:
                        client.receive(10)
                    self.assertEqual(closed.exception.code, 1001)

    def test_sighup_takes_what_can_be_changed_and_names_what_cannot(self):
        with Broker() as broker:
            with open(broker.config, encoding="ascii") as source:
                text = source.read()
            with open(broker.config, "w", encoding="ascii") as target:
                target.write(text.replace("[common]\n", "[common]\nlog_level = debug\n"))
            broker.signal("ingest", 0, signal.SIGHUP)
            wait_until(lambda: "ev=reloaded" in log_of(broker, "ingest"), 10, "reloaded")
            with open(broker.config, "w", encoding="ascii") as target:
                target.write(text.replace("slots = 256", "slots = 512"))
            broker.signal("dispatcher", 0, signal.SIGHUP)
            wait_until(lambda: "ring.slots" in log_of(broker, "dispatcher"), 10, "refusal")
            publish(http_to(broker), "unharmed")
            self.assertEqual(receive(ws_to(broker), 1), ["unharmed"])

    def test_a_stage_that_is_told_to_end_while_it_reads_its_settings_ends_with_0(self):
        with Broker() as broker:
            with open(broker.config, "rb") as source:
                text = source.read()
            pipe = os.path.join(broker.directory, "pipe.conf")
            os.mkfifo(pipe)
            for stage in ("ingest", "encryptor", "dispatcher"):
                with subprocess.Popen([broker.program(stage), "--config", pipe, "--instance", "5"],
                                      stderr=subprocess.DEVNULL) as child:
                    with open(pipe, "wb") as settings:      # it has begun to read when this returns
                        child.send_signal(signal.SIGTERM)
                        settings.write(text)
                    self.assertEqual(child.wait(20), 0, stage)

    def test_full_ring_answers_503_and_takes_again_when_somebody_seals(self):
        with Broker(settings={"ring.slots": 8, "ingest.admission_wait_ms": 50}) as broker:
            broker.kill("encryptor", 0)
            connection = http_to(broker)
            accepted = []
            for i in range(100):
                response, body = post(connection, "/input", {"content": f"m{i}"}, ACCEPTED)
                if response.status != 200:
                    break
                accepted.append(f"m{i}")
            self.assertEqual(response.status, 503, body)
            self.assertEqual(len(accepted), 8)
            self.assertEqual(response.headers["Content-Type"], "application/problem+json")
            self.assertIsNotNone(response.headers["Retry-After"])
            broker.spawn("encryptor", 0)
            broker.wait_ready()
            client = ws_to(broker)
            self.assertEqual(receive(client, 8), accepted)
            publish(http_to(broker), "again")
            self.assertEqual(receive(client, 1), ["again"])

    def test_publisher_that_waits_for_room_is_served_when_there_is_some(self):
        with Broker(settings={"ring.slots": 8, "ingest.admission_wait_ms": 20000}) as broker:
            broker.kill("encryptor", 0)
            connection = http_to(broker)
            for i in range(8):
                publish(connection, f"m{i}", headers=ACCEPTED)
            body = json.dumps({"content": "m8"})
            connection.request("POST", "/input", body, ACCEPTED)
            wait_until(lambda: next(m for m in broker.members() if m["stage"] == "ingest")["counters"]["waits"] > 0, 10,
                       "the publisher waits")
            broker.spawn("encryptor", 0)
            broker.wait_ready()
            self.assertEqual(connection.getresponse().status, 200)
            self.assertEqual(receive(ws_to(broker), 9), [f"m{i}" for i in range(9)])

    def test_content_arrives_byte_exact(self):
        texts = ["", " ", "plain", "quote\" backslash\\ slash/", "tab\tnewline\nreturn\r", "nul\x00inside", "\x01\x1f\x7f",
                 "ünïcödé", "\u2028\u2029", "emoji \U0001f600", "\U0010ffff", "x" * 100000, "\"" * 5000, "\x00" * 300]
        with Broker() as broker:
            connection, client = http_to(broker), ws_to(broker)
            publish(connection, *texts)
            self.assertEqual(receive(client, len(texts)), texts)
            raw = json.dumps({"messages": [{"content": text} for text in texts]}, ensure_ascii=False).encode("utf-8")
            response, _ = post(connection, "/input/batch", raw)
            self.assertEqual(response.status, 200)
            self.assertEqual(receive(client, len(texts)), texts)

    def test_bad_batch_is_refused_whole(self):
        with Broker() as broker:
            connection, client = http_to(broker), ws_to(broker)
            bad = [b'{"messages":[{"content":"a"},{"content":7}]}', b'{"messages":[{"content":"a"},{"content":"b"}',
                   b'{"messages":[{"content":"a"},{"content":"\\ud800"}]}', b'{"messages":[{"content":"a"},{}]}', b""]
            for body in bad:
                response, answer = post(http_to(broker), "/input/batch", body)
                self.assertEqual(response.status, 400, (body, answer))
                self.assertEqual(response.headers["Content-Type"], "application/problem+json")
                self.assertEqual(json.loads(answer)["status"], 400)
            publish(connection, "only this")
            self.assertEqual(receive(client, 1), ["only this"])

    def test_nothing_of_a_message_reaches_the_logs(self):
        with Broker(settings={"common.log_level": "debug"}) as broker:
            client = ws_to(broker)
            publish(http_to(broker), CANARY, CANARY + "x" * 3000)
            receive(client, 2)
            for body in (f'{{"content":"{CANARY}"'.encode(), f'{{"{CANARY}":1}}'.encode(), CANARY.encode()):
                post(http_to(broker), "/input", body)
            post(http_to(broker), "/input", b"{}", {"Content-Type": CANARY})
            post(http_to(broker), "/" + CANARY, b"{}")
            client.send(CANARY.encode())
            publish(http_to(broker), "end")
            receive(client, 1)
            with open(os.path.join(broker.directory, "keyring"), "rb") as keyring:
                self.assertNotIn(CANARY.encode(), keyring.read())
            logs = glob.glob(os.path.join(broker.directory, "*.log"))
            self.assertEqual(len(logs), 3)
            for path in logs:
                with open(path, "rb") as log:
                    self.assertNotIn(CANARY.encode(), log.read(), path)

    def test_sealed_records_in_shared_memory_show_no_plaintext(self):
        with Broker() as broker:
            publish(http_to(broker), CANARY)
            before = broker.status()["ring"]["first_seq"]
            wait_until(lambda: broker.status()["ring"]["committed"] == before + 1, 10, "sealed")
            encryptor = next(m for m in broker.members() if m["stage"] == "encryptor")
            paths = glob.glob(f"/dev/shm/cmq.{broker.instance}.m{encryptor['id']}.*")
            self.assertEqual(len(paths), 1)
            with open(paths[0], "rb") as arena:
                self.assertNotIn(CANARY.encode(), arena.read())
            self.assertEqual(receive(ws_to(broker), 1), [CANARY])

    def test_key_is_rotated_while_messages_pass(self):
        with Broker(encryptor=2) as broker:
            connection, client = http_to(broker), ws_to(broker)

            def epochs():
                return {m["counters"]["key_epoch"] for m in broker.members() if m["stage"] == "encryptor"}

            def publish_until(epoch):
                texts = [f"epoch {epoch} message {i}" for i in range(20)]
                for text in texts:
                    publish(connection, text)
                self.assertEqual(sorted(receive(client, 20)), sorted(texts))
                return epochs() == {epoch}

            wait_until(lambda: publish_until(1), 20, "both encryptors have sealed")
            self.assertIn("epoch 2", broker.ctl("key", "rotate").stdout)
            wait_until(lambda: publish_until(2), 20, "both encryptors use the new epoch")
            keys = json.loads(broker.ctl("key", "list", "--json").stdout)
            self.assertEqual([(key["pattern"], key["epoch"]) for key in keys], [(">", 1), (">", 2)])
            self.assertNotEqual(keys[0]["key_id"], keys[1]["key_id"])
            self.assertEqual(broker.ctl("key", "rotate", "a..b", check=False).returncode, 78)
            self.assertEqual(broker.ctl("key", "erase", check=False).returncode, 64)

    def test_several_instances_share_ports_and_work(self):
        with Broker(ingest=2, encryptor=2, dispatcher=2) as broker:
            clients = [ws_to(broker) for _ in range(6)]
            texts = [f"m{i}" for i in range(600)]
            for text in texts:
                publish(http_to(broker), text)
            wait_until(broker.delivered_all, 20, "everything is delivered")
            got = []
            for client in clients:
                try:
                    while True:
                        got += json.loads(client.receive(0.3))
                except TimeoutError:
                    pass
            self.assertEqual(sorted(got), sorted(texts))

    def test_wrong_settings_are_refused_with_the_key_and_the_remedy(self):
        with Broker() as broker:
            for wrong, expected in (("ingest.prot=1", "ingest.port"), ("ring.slots=100", "power of two"),
                                    ("ingest.listen=0.0.0.0", "127.0.0.1")):
                result = subprocess.run([broker.program("ingest"), "--config", broker.config, "--set", wrong, "--check"],
                                        capture_output=True, text=True, timeout=20, check=False)
                self.assertEqual(result.returncode, 78, result)
                self.assertIn(expected, result.stdout + result.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
