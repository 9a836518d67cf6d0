"""docs/examples: each client against a live broker, with and without tokens: what it prints is what was published, a stage
that dies in the middle costs it nothing, and a refusal ends it with the reason."""

import contextlib
import functools
import http.server
import json
import os
import queue
import re
import subprocess
import sys
import tempfile
import threading
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import HOST, Broker, find_build, wait_until  # noqa: E402
from browser import Browser  # noqa: E402
from tokens import TokenFile, make_token  # noqa: E402

EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "examples")
WAIT_S = 30
CLIENTS = {
    "python": ["/usr/bin/python3", os.path.join(EXAMPLES, "client.py")],
    "node": ["node", os.path.join(EXAMPLES, "client.mjs")],
    "shell": ["sh", os.path.join(EXAMPLES, "client.sh")],
    "c": [os.path.join(find_build(), "tests", "integration", "example-client")],
}


class Client:
    """A running example; its lines come as they are printed."""

    def __init__(self, command, env):
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.errors, env=env,
                                        text=True, start_new_session=True)
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line)

    def message(self):
        return json.loads(self.lines.get(timeout=WAIT_S))

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, 15)
        self.process.wait(WAIT_S)
        self.reader.join(WAIT_S)
        self.process.stdout.close()
        self.errors.close()


class Examples:
    """The cases; with and without tokens below."""

    tokens = False

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory(prefix="cmq-examples-")
        cls.token = None
        settings = {"ingest.cors_origins": "*"}
        if cls.tokens:
            file = TokenFile(cls.directory.name)
            cls.token = file.add("example", publish="ex.>", subscribe="ex.>", consume="ex.>")
            settings["tokens.file"] = file.path
        cls.broker = Broker(find_build(), settings=settings)
        cls.broker.start()

    @classmethod
    def tearDownClass(cls):
        cls.broker.stop()
        cls.directory.cleanup()

    def env(self, token=None):
        env = {name: value for name, value in os.environ.items() if not name.startswith("CIPHERMQ_")}
        env.update(CIPHERMQ_URL=f"http://{HOST}:{self.broker.http_port}", no_proxy=HOST,
                   CIPHERMQ_READ_URL=f"http://{HOST}:{self.broker.ws_port}")
        token = token or self.token
        return {**env, "CIPHERMQ_TOKEN": token} if token else env

    def start(self, name, *words):
        client = Client([*CLIENTS[name], *words], self.env())
        self.addCleanup(client.close)
        return client

    def run_once(self, name, *words, **env):
        return subprocess.run([*CLIENTS[name], *words], env=self.env(**env), capture_output=True, text=True, timeout=90, check=False)

    def publish(self, name, topic, text):
        done = self.run_once(name, "publish", topic, text)
        self.assertEqual(done.returncode, 0, done.stderr)
        reply = json.loads(done.stdout)
        self.assertEqual((reply["count"], reply["ack"]), (1, "durable"))
        return reply["id"]

    def expect(self, client, topic, published):
        for ident, text in published:
            message = client.message()
            self.assertEqual((message["topic"], message["id"], message["data"]), (topic, ident, text))

    def test_subscriber_goes_on_behind_the_last_message_when_the_dispatcher_dies(self):
        for name in CLIENTS:
            with self.subTest(client=name):
                topic = f"ex.{name}.sub"
                texts = [f"{name} {number} ü \"quoted\" & <more>" for number in range(5)]
                published = [(self.publish(name, topic, text), text) for text in texts[:2]]
                subscriber = self.start(name, "subscribe", topic)
                self.expect(subscriber, topic, published)
                self.broker.kill("dispatcher", 0)
                more = [(self.publish(name, topic, text), text) for text in texts[2:4]]
                self.broker.spawn("dispatcher", 0)
                self.expect(subscriber, topic, more)
                last = (self.publish(name, topic, texts[4]), texts[4])
                self.expect(subscriber, topic, [last])
                self.assertTrue(subscriber.lines.empty())

    def test_subscriber_begins_behind_an_id(self):
        for name in CLIENTS:
            with self.subTest(client=name):
                topic = f"ex.{name}.since"
                published = [(self.publish(name, topic, text), text) for text in ("one", "two")]
                self.expect(self.start(name, "subscribe", topic, published[0][0]), topic, published[1:])

    def test_refusal_ends_it_and_says_why(self):
        words = ("subscribe", "bad..topic")
        for name in CLIENTS:
            with self.subTest(client=name):
                for done in (self.run_once(name, "publish", "bad..topic", "x"), self.run_once(name, *words)):
                    self.assertNotEqual(done.returncode, 0)
                    self.assertRegex(done.stdout + done.stderr, "level|topic")

    def test_group_member_gets_what_is_not_acknowledged_and_nothing_twice(self):
        topic = "ex.python.group"
        texts = [f"job {number}" for number in range(6)]
        published = [(self.publish("python", topic, text), text) for text in texts[:3]]
        first = self.start("python", "consume", topic, "workers")
        self.expect(first, topic, published)
        self.broker.kill("dispatcher", 0)
        more = [(self.publish("python", topic, text), text) for text in texts[3:5]]
        self.broker.spawn("dispatcher", 0)
        known = dict(published)
        while any(ident not in known for ident, _ in more):
            message = first.message()
            if message["id"] in dict(published):
                self.assertGreater(message["attempt"], 1)
            known[message["id"]] = message["data"]
        self.assertEqual(known, dict(published + more))
        wait_until(lambda: self.group_lag("workers") == 0, WAIT_S, "all is acknowledged")
        first.close()
        last = (self.publish("python", topic, texts[5]), texts[5])
        self.expect(self.start("python", "consume", topic, "workers"), topic, [last])

    def test_page_publishes_subscribes_and_consumes(self):
        handler = functools.partial(Quiet, directory=EXAMPLES)
        with http.server.ThreadingHTTPServer((HOST, 0), handler) as server, Browser() as browser:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self.addCleanup(server.shutdown)
            page = browser.open(f"http://localhost:{server.server_address[1]}/browser.html")
            fields = {"publishUrl": self.env()["CIPHERMQ_URL"], "readUrl": self.env()["CIPHERMQ_READ_URL"], "topic": "ex.page",
                      "group": "page", "token": self.token or ""}

            def click(action, **more):
                for name, value in {**fields, **more}.items():
                    page.evaluate(f"document.forms.form.elements[{json.dumps(name)}].value = {json.dumps(value)}")
                page.evaluate("document.querySelector('#told').textContent = ''")
                page.evaluate(f"document.querySelector('#{action}').click()")

            def publish(text):
                click("publish", text=text)
                return json.loads(page.wait("/^{/.test(document.querySelector('#told').textContent) && "
                                            "document.querySelector('#told').textContent"))["id"]

            def shown(count):
                page.wait(f"document.querySelectorAll('#messages li').length >= {count}")
                lines = page.evaluate("Array.from(document.querySelectorAll('#messages li'), line => line.textContent)")
                return [(message["id"], message["data"]) for message in map(json.loads, lines)]

            published = [(publish("one & <two>"), "one & <two>")]
            click("subscribe")
            self.assertEqual(shown(1), published)
            self.broker.kill("dispatcher", 0)
            published.append((publish("meanwhile"), "meanwhile"))
            self.broker.spawn("dispatcher", 0)
            self.assertEqual(shown(2), published)
            page.go(page.evaluate("location.href") + "?again")
            click("consume")
            self.assertEqual(shown(2), published)
            wait_until(lambda: self.group_lag("page") == 0, WAIT_S, "all is acknowledged")
            server.shutdown()

    def group_lag(self, group):
        found = re.search(rf'^ciphermq_group_lag\w*{{[^}}]*group="{group}"[^}}]*}} (\d+)$', self.broker.ctl("metrics").stdout, re.M)
        return int(found[1]) if found else None


class Troubled:
    """Answers publishers with these statuses, one after the other, the last one for ever; None: the connection ends. Notes
    (path, key, body) of each request."""

    REPLY = {"id": "9-0", "count": 1, "ack": "durable"}

    def __init__(self, *statuses):
        self.statuses = statuses
        self.requests = []

    def __enter__(self):
        requests, statuses = self.requests, self.statuses

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                requests.append((self.path, self.headers["Idempotency-Key"], body))
                self.close_connection = True
                status = statuses[min(len(requests), len(statuses)) - 1]
                if status is None:
                    return
                answer = json.dumps(Troubled.REPLY if status == 200 else {"status": status}).encode()
                self.send_response(status)
                self.send_header("Retry-After", "1")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer((HOST, 0), Handler)
        self.url = f"http://{HOST}:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class Publishers(unittest.TestCase):
    """What a publisher makes of trouble."""

    def publish_all(self, *statuses):
        """All clients at a time, since they wait: [(name, exit status, output, requests)]."""
        with contextlib.ExitStack() as stack:
            running = {}
            for name, command in CLIENTS.items():
                troubled = stack.enter_context(Troubled(*statuses))
                env = {**os.environ, "CIPHERMQ_URL": troubled.url, "no_proxy": HOST}
                running[name] = troubled, subprocess.Popen([*command, "publish", "ex.retry", "late"], text=True, env=env,
                                                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            outputs = {name: process.communicate(timeout=90)[0] for name, (_, process) in running.items()}
            return [(name, process.returncode, outputs[name], troubled.requests) for name, (troubled, process) in running.items()]

    def test_tries_again_with_the_same_key(self):
        for name, status, output, requests in self.publish_all(None, 503, 200):
            with self.subTest(client=name):
                self.assertEqual((status, json.loads(output)), (0, Troubled.REPLY))
                paths, keys, bodies = (set(seen) for seen in zip(*requests, strict=True))
                self.assertEqual((len(requests), paths, bodies), (3, {"/v1/topics/ex.retry"}, {b"late"}))
                self.assertEqual(len(keys), 1)
                self.assertGreaterEqual(len(keys.pop() or ""), 16)

    def test_does_not_ask_again_when_it_is_refused(self):
        for name, status, _, requests in self.publish_all(401):
            with self.subTest(client=name):
                self.assertNotEqual(status, 0)
                self.assertEqual(len(requests), 1)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


class WithoutTokens(Examples, unittest.TestCase):
    pass


class WithTokens(Examples, unittest.TestCase):
    tokens = True

    def test_wrong_token_ends_it_and_says_why(self):
        for name in CLIENTS:
            with self.subTest(client=name):
                for words in (("publish", "ex.x", "x"), ("subscribe", "ex.x")):
                    done = self.run_once(name, *words, token=make_token())
                    self.assertNotEqual(done.returncode, 0)
                    self.assertIn("401", done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
