#!/usr/bin/python3
"""Tokens: made, shown and taken away by ciphermqctl; and what they open and do not open, through both ports.

Ownership: each case has a directory of its own, and its own broker where one runs.
Units: seconds.
Errors: unittest.
Callers: ctest, as integration.tokens.
"""

import concurrent.futures
import glob
import hashlib
import http.client
import json
import os
import re
import stat
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import STAGES, Broker, find_build, wait_until  # noqa: E402
from cases import HOST, WAIT_S, Case, Http  # noqa: E402
from certs import Authority  # noqa: E402
from v1client import V1Client, V1Error  # noqa: E402
from wsclient import WsClosed, WsError  # noqa: E402

CONFIG_EXIT, USAGE_EXIT = 78, 64
TOKEN = re.compile(r"cmq_[A-Za-z0-9_-]{43}")


class Ctl(unittest.TestCase):
    """The command alone; no broker runs."""

    def setUp(self):
        self.home = tempfile.TemporaryDirectory(prefix="cmq-tokens-")
        self.addCleanup(self.home.cleanup)
        self.file = os.path.join(self.home.name, "tokens")
        self.program = os.path.join(find_build(), "deploy", "ctl", "ciphermqctl")

    def ctl(self, *words, file=None):
        command = [self.program, "--set", f"tokens.file={self.file if file is None else file}", "token", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    def make(self, *words):
        result = self.ctl("create", *words)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout.strip()

    def refused(self, code, part, *words, **options):
        result = self.ctl(*words, **options)
        self.assertEqual((result.returncode, result.stdout), (code, ""))
        self.assertIn(part, result.stderr)

    def content(self):
        with open(self.file, encoding="utf-8") as file:
            return file.read()

    def listed(self):
        result = self.ctl("list", "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        return {entry.pop("name"): entry for entry in json.loads(result.stdout)}

    def test_a_token_is_printed_once_and_only_its_digest_is_kept(self):
        result = self.ctl("create", "app", "--publish", "orders.>", "--expires", "90d")
        token = result.stdout.strip()
        self.assertRegex(token, f"^{TOKEN.pattern}$")
        self.assertIn("not shown again", result.stderr)
        self.assertNotIn(token, result.stderr)
        self.assertIn(f"token app sha256:{hashlib.sha256(token.encode()).hexdigest()} ", self.content())
        for command in (["list"], ["list", "--json"]):
            listing = self.ctl(*command).stdout
            self.assertIn("app", listing)
            self.assertIsNone(TOKEN.search(listing))
        self.assertIsNone(TOKEN.search(self.content()))
        self.assertEqual(stat.S_IMODE(os.stat(self.file).st_mode), 0o640)

    def test_what_was_given_is_what_is_listed(self):
        self.assertEqual(self.listed(), {})
        made = json.loads(self.make("--json", "app", "--publish", "a,b.*", "--publish", "c.>", "--subscribe", ">",
                                    "--consume", "$dead.>", "--expires", "2099-01-31", "--messages-rate", "10",
                                    "--bytes-rate", "2K"))
        self.assertRegex(made.pop("token"), f"^{TOKEN.pattern}$")
        self.make("root", "--admin")
        self.make("service", "--certificate", "Desk 7", "--subscribe", "x")
        self.make("bound", "--bound-to", "Desk 8", "--admin")
        entries = self.listed()
        self.assertEqual(list(entries), ["app", "root", "service", "bound"])
        self.assertEqual({"name": "app", **entries["app"]}, made)
        self.assertEqual({key: value for key, value in entries["app"].items() if key != "created_ms"},
                         {"kind": "token", "expires_ms": 4073500800000, "expired": False, "publish": ["a", "b.*", "c.>"],
                          "subscribe": [">"], "consume": ["$dead.>"], "admin": False, "messages_rate": 10,
                          "bytes_rate": 2048})
        self.assertTrue(entries["root"]["admin"])
        self.assertIsNone(entries["root"]["expires_ms"])
        self.assertEqual((entries["service"]["kind"], entries["service"]["subject"]), ("certificate", "Desk 7"))
        self.assertEqual((entries["bound"]["kind"], entries["bound"]["bound_to"]), ("token", "Desk 8"))
        self.assertNotIn("bound_to", entries["root"])
        text = self.ctl("list").stdout
        for part in ("app", "2099-01-31", "publish a,b.*,c.>; subscribe >; consume $dead.>; 10 messages/s; 2048 bytes/s",
                     "never", "admin", 'x; certificate "Desk 7"', 'only with certificate "Desk 8"'):
            self.assertIn(part, text)

    def test_a_revoked_token_leaves_the_rest_of_the_file_alone(self):
        for name in ("a", "b", "c"):
            self.make(name, "--admin")
        with open(self.file, "a", encoding="utf-8") as file:
            file.write("# kept\n")
        lines = self.content().splitlines(keepends=True)
        self.assertIn("b: revoked", self.ctl("revoke", "b").stdout)
        self.assertEqual(self.content(), "".join(line for line in lines if not line.startswith("token b ")))
        self.refused(CONFIG_EXIT, "has that name", "revoke", "b")
        self.assertEqual(json.loads(self.ctl("revoke", "a", "--json").stdout), {"name": "a", "revoked": True})
        self.assertEqual(list(self.listed()), ["c"])

    def test_each_refusal_names_the_fix_and_changes_nothing(self):
        self.make("app", "--admin")
        before = self.content()
        self.refused(CONFIG_EXIT, "file = /etc/ciphermq/tokens", "list", file="")
        self.refused(CONFIG_EXIT, "the name app is used already: revoke it first", "create", "app", "--admin")
        self.refused(CONFIG_EXIT, "give at least one right", "create", "x")
        self.refused(CONFIG_EXIT, "a name has 1 to 63", "create", "a b", "--admin")
        self.refused(CONFIG_EXIT, "--subscribe: 2. pattern", "create", "x", "--subscribe", "a,b..c")
        self.refused(CONFIG_EXIT, "--expires: 30m, 12h, 90d", "create", "x", "--admin", "--expires", "soon")
        self.refused(CONFIG_EXIT, "--messages-rate: a number from 1", "create", "x", "--admin", "--messages-rate", "0")
        for name in ("a\nb", "", "B\u00fcro", "a,b", " a", "x" * 254):
            self.refused(CONFIG_EXIT, "--certificate: 1 to 253 printable", "create", "x", "--admin", "--certificate", name)
        self.refused(CONFIG_EXIT, "--bound-to: 1 to 253 printable", "create", "x", "--admin", "--bound-to", "")
        self.refused(CONFIG_EXIT, "give one of them", "create", "x", "--admin", "--bound-to", "a", "--certificate", "a")
        self.refused(USAGE_EXIT, "usage: ciphermqctl token create", "delete", "app")
        self.refused(CONFIG_EXIT, "make it first", "create", "x", "--admin",
                     file=os.path.join(self.home.name, "none", "tokens"))
        self.assertEqual(self.content(), before)
        os.chmod(self.file, 0o644)
        self.refused(CONFIG_EXIT, "chmod 0640", "create", "x", "--admin")
        os.chmod(self.file, 0o640)
        with open(self.file, "a", encoding="utf-8") as file:
            file.write("token broken\n")
        self.refused(CONFIG_EXIT, f"{self.file}:3: sha256: is missing", "create", "x", "--admin")
        self.refused(CONFIG_EXIT, f"{self.file}:3: sha256: is missing", "revoke", "app")

    def test_many_at_once_lose_nothing(self):
        names = [f"n{number}" for number in range(40)]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            tokens = list(pool.map(lambda name: self.make(name, "--admin"), names))
            self.assertEqual(len(set(tokens)), len(names))
            gone = list(pool.map(lambda name: self.ctl("revoke", name).returncode, names[::2]))
        self.assertEqual(set(gone), {0})
        self.assertEqual(sorted(self.listed()), sorted(names[1::2]))
        self.assertEqual(sorted(os.listdir(self.home.name)), ["tokens", "tokens.lock"])


class WithBroker(Case):
    """Real stages, with tokens.file in the configuration."""

    def guarded(self, **settings):
        home = tempfile.TemporaryDirectory(prefix="cmq-tokens-")
        self.addCleanup(home.cleanup)
        self.file = os.path.join(home.name, "tokens")
        self.secrets = []
        names = {name.replace("__", "."): value for name, value in settings.items()}
        made = subprocess.run([os.path.join(find_build(), "deploy", "ctl", "ciphermqctl"), "--set",
                               f"tokens.file={self.file}", "token", "create", "first", "--publish", "first"],
                              capture_output=True, text=True, timeout=30, check=True)
        self.first = made.stdout.strip()
        self.secrets.append(self.first)
        self.one = self.broker(settings={"tokens.file": self.file, "common.log_level": "debug",
                                         "tokens.failures_max": 1000000, **names})
        return self.one

    def make(self, name, *rights):
        """A token that both ports know by now."""
        token = self.one.ctl("token", "create", name, *rights).stdout.strip()
        self.secrets.append(token)
        wait_until(lambda: self.get("/metrics", token).status in (200, 403) and self.is_known(token), WAIT_S, f"{name} is known")
        return token

    def is_known(self, token):
        try:
            V1Client(HOST, self.one.ws_port, timeout=WAIT_S, token=token).close()
            return True
        except V1Error:
            return False

    def get(self, path, token=None, **headers):
        if token:
            headers["Authorization"] = f"Bearer {token}"
        connection = http.client.HTTPConnection(HOST, self.one.http_port, timeout=WAIT_S)
        try:
            connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            response.text = response.read().decode("utf-8", "replace")
            return response
        finally:
            connection.close()

    def post(self, path, token=None, body="x", kind="text/plain", **headers):
        if token:
            headers["Authorization"] = f"Bearer {token}"
        client = self.http(self.one)  # a refused request may end the connection
        return client.post(path, body, kind, **headers)

    def ws(self, token=None):
        return self.v1(self.one, token=token)

    def refused(self, reply, status, kind, *parts):
        self.assertEqual((reply.status, reply.body["type"].rsplit("/", 1)[-1].rsplit(":", 1)[-1]), (status, kind), reply)
        self.assertIn("application/problem+json", reply.headers["Content-Type"])
        for part in parts:
            self.assertIn(part, json.dumps(reply.body))

    def forbidden(self, command, *args, **options):
        with self.assertRaises(V1Error) as caught:
            command(*args, **options)
        self.assertEqual(caught.exception.code, "forbidden", caught.exception.message)
        return caught.exception.message

    def test_a_publisher_may_publish_to_its_topics_only(self):
        self.guarded()
        token = self.make("shop", "--publish", "orders.>,default")
        for path, body, kind in (("/v1/topics/orders.eu", "x", "text/plain"), ("/input", {"content": "x"}, "application/json"),
                                 ("/v1/topics/orders.eu/batch", ["x"], "application/json")):
            self.assertEqual(self.post(path, token, body, kind).status, 200, path)
            reply = self.post(path, None, body, kind)
            self.refused(reply, 401, "unauthorized")
            self.assertEqual(reply.headers["WWW-Authenticate"], 'Bearer realm="ciphermq"')
            reply = self.post(path, token[:-1] + ("A" if token[-1] != "A" else "B"), body, kind)
            self.refused(reply, 401, "unauthorized")
            self.assertIn('error="invalid_token"', reply.headers["WWW-Authenticate"])
        self.assertEqual(self.post("/v1/topics/orders.eu", X_API_Key=token).status, 200)
        reply = self.post("/v1/topics/stocks", token)
        self.refused(reply, 403, "forbidden", "no right to publish to this topic")
        self.assertNotIn("orders", json.dumps(reply.body))
        self.refused(self.post("/v1/topics/orders", token), 403, "forbidden")
        self.refused(self.post("/v1/topics/stocks/batch", token, ["x"], "application/json"), 403, "forbidden")
        reader = self.ws(token)
        self.assertNotIn("orders", self.forbidden(reader.subscribe, "orders.eu"))
        self.forbidden(reader.consume, "orders.eu", "g")
        with self.assertRaises(WsError):
            self.root(self.one, headers=[f"Authorization: Bearer {token}"])
        self.stop(self.one)

    def test_the_root_topic_needs_its_own_right(self):
        self.guarded()
        token = self.make("shop", "--publish", "orders.>", "--consume", "orders.>")
        self.refused(self.post("/input", token, {"content": "x"}, "application/json"), 403, "forbidden")
        self.refused(self.post("/input/batch", token, {"messages": [{"content": "x"}]}, "application/json"), 403, "forbidden")
        both = self.make("both", "--publish", "default", "--consume", "default")
        root = self.root(self.one, headers=[f"X-API-Key: {both}"])
        self.assertEqual(self.post("/input", both, {"content": "hello"}, "application/json").status, 200)
        self.assertEqual(json.loads(root.receive(WAIT_S)), ["hello"])
        self.stop(self.one)

    def test_a_reader_gets_what_its_right_covers_and_no_more(self):
        self.guarded()
        writer = self.make("writer", "--publish", ">")
        reader = self.ws(self.make("reader", "--subscribe", "orders.*"))
        sub = reader.subscribe("orders.*")
        for pattern in ("orders.>", ">", "*", "orders", "orders.eu.fr", "*.eu", "$dead.orders.eu"):
            self.forbidden(reader.subscribe, pattern)
        self.forbidden(reader.consume, "orders.eu", "g")
        self.assertEqual(self.post("/v1/topics/orders.eu.fr", writer, "hidden").status, 200)
        self.assertEqual(self.post("/v1/topics/orders.eu", writer, "seen").status, 200)
        self.assertEqual([item["data"] for item in reader.items(sub, 1)], ["seen"])
        self.assertEqual(reader.subscribe("orders.eu") > sub, True)
        self.stop(self.one)

    def test_a_worker_consumes_and_acks_and_does_nothing_else(self):
        self.guarded()
        writer, token = self.make("writer", "--publish", "jobs.*"), self.make("worker", "--consume", "jobs.a")
        worker = self.ws(token)
        sub = worker.consume("jobs.a", "workers")
        self.assertEqual(self.post("/v1/topics/jobs.a", writer, "work").status, 200)
        item, = worker.items(sub, 1)
        worker.ack("workers", [item["id"]])
        self.forbidden(worker.consume, "jobs.b", "others")
        self.forbidden(worker.subscribe, "jobs.a")
        self.refused(self.post("/v1/topics/jobs.a", token), 403, "forbidden")
        # Who may not consume the topic cannot ack what a member got, either.
        other = self.ws(self.make("other", "--subscribe", ">", "--consume", "jobs.b"))
        self.forbidden(other.consume, "jobs.a", "workers")
        with self.assertRaises(V1Error):
            other.ack("workers", [item["id"]])
        self.stop(self.one)

    def test_metrics_are_for_admins_and_health_is_for_all(self):
        self.guarded()
        admin, user = self.make("ops", "--admin"), self.make("user", "--publish", ">", "--subscribe", ">", "--consume", ">")
        self.assertEqual(self.get("/metrics").status, 401)
        self.assertEqual(self.get("/metrics", user).status, 403)
        self.assertEqual(self.get("/metrics", admin).status, 200)
        self.refused(self.post("/v1/topics/a", admin), 403, "forbidden")
        for path in ("/", "/healthz"):
            self.assertEqual(self.get(path).status, 200, path)
        wait_until(lambda: self.get("/readyz").status == 200, WAIT_S, "the log")
        self.stop(self.one)

    def test_names_in_the_status_are_for_admins(self):
        self.guarded()
        admin, user = self.make("ops", "--admin"), self.make("user", "--publish", ">", "--subscribe", ">")
        self.assertEqual(self.post("/v1/topics/secret.name", user).status, 200)
        wait_until(lambda: self.one.status()["topics"], WAIT_S, "the topic")
        names = ("topics", "groups", "clients", "errors")

        def look(token):
            """By HTTP, and then as one who watches."""
            response = self.read_topic("/v1/status", token)
            self.assertEqual(response.status, 200)
            yield response.read().decode()
            watcher = self.root(self.one, path="/v1/status", subprotocol="ciphermq.status.json",
                                headers=[f"Authorization: Bearer {token}"])
            yield watcher.receive(WAIT_S).decode()
            watcher.close()

        self.assertEqual(self.read_topic("/v1/status").status, 401)
        # Both watch at once: each gets its own.
        kept = self.root(self.one, path="/v1/status", subprotocol="ciphermq.status.json",
                         headers=[f"Authorization: Bearer {admin}"])
        for text in look(user):
            self.assertNotIn("secret", text)
            self.assertEqual([json.loads(text)["state"][name] for name in names], [None] * 4)
            self.assertEqual(json.loads(text)["state"]["live"]["ingest"], 1)
        for text in [*look(admin), kept.receive(WAIT_S).decode()]:
            self.assertIn("secret.name", text)
            self.assertNotIn(None, [json.loads(text)["state"][name] for name in names])
        kept.close()
        self.stop(self.one)

    def read_topic(self, path, token=None, **headers):
        """GET on the WebSocket port; the response is open."""
        if token:
            headers["Authorization"] = f"Bearer {token}"
        connection = http.client.HTTPConnection(HOST, self.one.ws_port, timeout=WAIT_S)
        self.addCleanup(connection.close)
        connection.request("GET", path, headers=headers)
        return connection.getresponse()

    def test_topics_are_read_without_a_library_with_the_right_only(self):
        self.guarded()
        writer, token = self.make("writer", "--publish", ">"), self.make("reader", "--subscribe", "orders.*")
        self.assertEqual(self.post("/v1/topics/orders.eu", writer, "seen").status, 200)
        for form in ("json", "sse"):
            for topic in ("orders.eu", "orders.*", "orders.%2A"):
                response = self.read_topic(f"/t/{topic}/{form}?since=earliest", token)
                self.assertEqual(response.status, 200, (topic, form))
                lines = iter(response.readline, b"")
                self.assertTrue(any(b"seen" in line for line in lines), (topic, form))
            for topic, sent, status in (("orders.eu", None, 401), ("orders.eu", "cmq_" + "x" * 43, 401), ("orders.>", token, 403),
                                        ("stocks", token, 403), ("$dead.orders.eu", token, 403)):
                response = self.read_topic(f"/t/{topic}/{form}?since=earliest", sent)
                self.assertEqual(response.status, status, (topic, form))
                self.assertIn("application/problem+json", response.headers["Content-Type"])
                self.assertEqual(response.headers["WWW-Authenticate"] is not None, status == 401, (topic, form))
                self.assertNotIn(b"seen", response.read())
            self.assertEqual(self.read_topic(f"/t/orders.eu/{form}?token={token}").status, 400)
        reader = self.root(self.one, path="/t/orders.*/ws?since=earliest", headers=[f"Authorization: Bearer {token}"])
        self.assertIn("seen", reader.receive(WAIT_S).decode())
        for topic, headers in (("orders.eu", []), ("stocks", [f"Authorization: Bearer {token}"])):
            with self.assertRaises(WsError):
                self.root(self.one, path=f"/t/{topic}/ws", headers=headers)
        stream = self.read_topic("/t/orders.*/sse", token)
        self.assertEqual(stream.status, 200)
        self.one.ctl("token", "revoke", "reader")
        with self.assertRaises(WsClosed) as caught:
            reader.receive(WAIT_S)
        self.assertEqual(caught.exception.code, 3502)
        while stream.readline():  # until it ends
            pass
        self.stop(self.one)

    def test_a_bound_token_opens_nothing_without_its_certificate(self):
        home = tempfile.TemporaryDirectory(prefix="cmq-tokens-")
        self.addCleanup(home.cleanup)
        authority = Authority(home.name)
        server, own, other = authority.issue_server("server"), authority.issue("own desk"), authority.issue("other")
        broker = Broker(tls=authority.context(own), settings={
            "tokens.file": os.path.join(home.name, "tokens"), "tls.cert_file": server.cert, "tls.key_file": server.key,
            "tls.client_ca_file": authority.cert, "tls.client_cert": "optional"})
        self.addCleanup(broker.abandon)
        broker.prepare()
        token = broker.ctl("token", "create", "bound", "--bound-to", "own desk", "--publish", "a", "--consume",
                           "default").stdout.strip()
        for stage in STAGES:
            broker.spawn(stage, 0)
        broker.wait_ready()
        header = f"Authorization: Bearer {token}"
        for pair, status in ((own, 200), (other, 401), (None, 401)):
            broker.tls = authority.context(pair)
            client = Http(broker)
            self.addCleanup(client.close)
            self.assertEqual(client.post("/v1/topics/a", "x", "text/plain", Authorization=f"Bearer {token}").status, status, pair)
            if status == 200:
                self.root(broker, headers=[header]).close()
            else:
                with self.assertRaises(WsError):
                    self.root(broker, headers=[header])
        broker.stop()

    def test_what_is_revoked_ends_on_both_ports_without_a_restart(self):
        self.guarded()
        gone, kept = (self.make(name, "--publish", "a", "--subscribe", "a") for name in ("gone", "kept"))
        reader, other = self.ws(gone), self.ws(kept)
        reader.subscribe("a")
        sub = other.subscribe("a")
        pids = [self.one.processes[stage, 0].child.pid for stage in STAGES]
        self.one.ctl("token", "revoke", "gone")
        with self.assertRaises(WsClosed) as caught:
            reader.push()
        self.assertEqual(caught.exception.code, 3502)
        wait_until(lambda: self.post("/v1/topics/a", gone).status == 401, WAIT_S, "ingest refuses it")
        self.assertEqual(self.post("/v1/topics/a", kept, "still").status, 200)
        wait_until(lambda: other.items(sub, 1)[0]["data"] == "still", WAIT_S, "the other one goes on")
        self.assertEqual(pids, [self.one.processes[stage, 0].child.pid for stage in STAGES])
        self.stop(self.one)

    def test_a_rate_is_said_and_kept(self):
        self.guarded(tokens__bytes_rate=1000000)
        token = self.make("slow", "--publish", "a", "--messages-rate", "2")
        reply = self.post("/v1/topics/a/batch", token, ["x", "y"], "application/json")
        self.assertEqual((reply.status, reply.headers["RateLimit-Limit"], reply.headers["RateLimit-Remaining"]), (200, "2", "0"))
        replies = [self.post("/v1/topics/a/batch", token, ["x", "y"], "application/json") for _ in range(5)]
        late = [reply for reply in replies if reply.status == 429]
        self.assertTrue(late)
        self.refused(late[0], 429, "rate-limited")
        self.assertGreaterEqual(int(late[0].headers["Retry-After"]), 1)
        wait_until(lambda: self.post("/v1/topics/a", token).status == 200, WAIT_S, "the bucket is full again")
        self.stop(self.one)

    def test_guessing_is_slowed_and_locks_nobody_out(self):
        self.guarded(tokens__failures_max=3)
        replies = [self.post("/v1/topics/first", "cmq_" + "x" * 43) for _ in range(5)]
        self.assertEqual([reply.status for reply in replies], [401, 401, 401, 429, 429])
        self.refused(replies[-1], 429, "too-many-failures")
        self.assertGreaterEqual(int(replies[-1].headers["Retry-After"]), 1)
        self.assertEqual(self.post("/v1/topics/first", self.first).status, 200)
        self.refused(self.post("/v1/topics/first"), 401, "unauthorized")
        self.stop(self.one)

    def misuse(self, token, wrong):
        """Every way in which a token could get lost on its way into a log. Returns what must have been refused with 400."""
        for secret in (token, wrong):
            for path in (f"/v1/topics/a?token={secret}", f"/v1/topics/{secret}?access_token={secret}", f"/{secret}?api_key={secret}",
                         f"/v1/topics/{secret}.?.{secret}", f"/v1/ws?token={secret}"):
                self.get(path, secret)
                yield path, self.post(path, secret).status
            self.post("/v1/topics/a", None, X_API_Key=secret)
            yield "both", self.post("/v1/topics/a", secret, X_API_Key=secret).status
            self.post("/v1/topics/a", None, Authorization=f"Basic {secret}")
            self.post("/v1/topics/a", f"{secret} {secret}")
            self.post("/v1/topics/a", secret, Idempotency_Key=secret, CMQ_Ack=secret)
            self.post("/v1/topics/a", None, secret, CMQ_Meta_Key=secret)
            for headers in ([f"Authorization: Bearer {secret}", f"X-API-Key: {secret}"], [f"Origin: http://{secret}"],
                            [f"Authorization: {secret}"]):
                self.try_ws("/", headers)
            for protocol in (f"ciphermq.v1.json, ciphermq.token.{secret}", f"ciphermq.v1.{secret}", f"ciphermq.token.{secret}"):
                self.try_ws("/v1/ws", [f"Sec-WebSocket-Protocol: {protocol}"])
            self.try_ws(f"/v1/ws?token={secret}", ["Sec-WebSocket-Protocol: ciphermq.v1.json"])
            self.try_ws(f"/{secret}", [])
            for form in ("json", "sse", "ws"):
                for path in (f"/t/a/{form}?token={secret}", f"/t/{secret}/{form}?since={secret}", f"/t/a/{form}?since={secret}"):
                    self.try_ws(path, [f"X-API-Key: {secret}"])
                    status = self.read_topic(path, **{"Last-Event-ID": secret}).status
                    if "?token=" in path:
                        yield path, status
            for about in ({"token": secret, "client": secret}, {"token": {"x": secret}}, {secret: secret}):
                self.try_connect(about, secret)

    def try_ws(self, path, headers):
        try:
            self.root(self.one, path=path, headers=headers).end()
        except (WsError, OSError):
            pass

    def try_connect(self, about, secret):
        try:
            client = V1Client(HOST, self.one.ws_port, timeout=WAIT_S, **about)
            self.addCleanup(client.close)
            client.send("subscribe", {"topic": secret, "since": secret})
            client.send(secret, {secret: secret})
            client.send_bytes(secret.encode())
            client.quiet(0.05)
        except (V1Error, WsError, WsClosed, OSError):
            pass

    def test_no_token_comes_into_any_log(self):
        self.guarded()
        token = self.make("canary", "--publish", "a", "--subscribe", "a", "--consume", "default")
        wrong = "cmq_" + "CANARYwrongCANARYwrongCANARYwrongCANARYwrong"[:43]
        for what, status in self.misuse(token, wrong):
            self.assertIn(status, (400, 401, 404), what)
            if "=" in what or what == "both":
                self.assertEqual(status, 400, what)
        # Somebody puts a token where its digest belongs, and asks for a token with the name of one.
        with open(self.file, encoding="utf-8") as file:
            good = file.read()
        with open(self.file, "a", encoding="utf-8") as file:
            file.write(f"token {wrong} sha256:{token} created:1 expires:never publish:{wrong}\n")
        wait_until(lambda: all("sha256: is 64 digits" in self.log(stage) for stage in ("ingest", "dispatcher")), WAIT_S, "the fault is said")
        result = self.one.ctl("token", "list", check=False)
        self.assertNotIn(token, result.stdout + result.stderr)
        with open(self.file, "w", encoding="utf-8") as file:
            file.write(good)
        self.one.ctl("status", "--json")
        texts = {path: self.read(path) for path in glob.glob(os.path.join(self.one.directory, "*.log"))}
        self.assertEqual(len(texts), len(STAGES))
        # Nor into what status tells: topics, clients, the last lines of the logs.
        tables = [os.path.join("/dev/shm", name) for name in self.one.shared_objects() if name.split(".")[2].startswith("t")]
        self.assertEqual(len(tables), len(STAGES))
        for path in tables:
            with open(path, "rb") as memory:
                texts[path] = memory.read().decode("latin-1")
        self.assertTrue(any("client_refused" in texts[path] for path in tables))
        for path, text in texts.items():
            for secret in (*self.secrets, wrong):
                for part in (secret, secret[4:], secret[4:24], secret[24:], hashlib.sha256(secret.encode()).hexdigest()):
                    self.assertNotIn(part, text, path)
        self.stop(self.one)

    def read(self, path):
        with open(path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def log(self, stage):
        return self.read(self.one.log_path(self.one.processes[stage, 0]))


if __name__ == "__main__":
    unittest.main(verbosity=2)
