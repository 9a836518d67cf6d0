"""The bad-input corpus against one running broker: each answer is the one that is written beside the case, and behind every
group the broker is the same as before: it publishes, delivers, counts, and has told its log no secret."""

import http.client
import json
import os
import shutil
import sys
import tempfile
import unittest

sys.path[:0] = [os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"),
                os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")]

from broker import STAGES, Broker, wait_until  # noqa: E402
from cases import HOST, WAIT_S, Case, Http, ids_of  # noqa: E402
from corpus import bodies, formats, gzipped, http_requests, identity, known, reads, replay, ws_streams  # noqa: E402
from tokens import TokenFile  # noqa: E402
from v1client import V1Client  # noqa: E402

SETTINGS = {"ingest.request_bytes_max": bodies.REQUEST_BYTES_MAX, "ingest.message_bytes_max": bodies.MESSAGE_BYTES_MAX,
            "ingest.request_messages_max": bodies.REQUEST_MESSAGES_MAX, "ingest.cors_origins": http_requests.ORIGINS}
SHARED = {}
ANYTHING = object()


def is_ready(broker):
    """As /readyz says, which looks around a few times a second only."""
    connection = http.client.HTTPConnection(HOST, broker.http_port, timeout=WAIT_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    finally:
        connection.close()


class Watcher:
    """Reads everything that is delivered. JSON stays text in MessagePack frames, so it can be compared to the digit."""

    def __init__(self, broker):
        self.client = V1Client(HOST, broker.ws_port, "msgpack", timeout=WAIT_S)
        self.sub = self.client.subscribe(">", since="earliest")
        self.items = {}

    def read_to(self, last):
        """Until the message with this id has come."""
        while last not in self.items:
            kind, body = self.client.push()
            assert kind == "msgs", (kind, body)
            for item in body["items"]:
                self.items[item["id"]] = {**item, "topic": body["topic"]}


def setUpModule():
    broker = SHARED["broker"] = Broker(settings=SETTINGS).start()
    wait_until(lambda: is_ready(broker), WAIT_S, "the broker is ready", 0.05)
    client = Http(broker)
    client.publish("corpus.first", "so that the log has a message")
    client.close()
    SHARED["pids"] = {key: process.child.pid for key, process in broker.processes.items()}
    SHARED["watcher"] = Watcher(broker)


def tearDownModule():
    SHARED["watcher"].client.close()
    SHARED["broker"].stop()


def files_with(broker, secret):
    """Files of the broker, its logs among them, in which the secret stands in clear."""
    found = []
    for directory, _, names in os.walk(broker.directory):
        for name in names:
            with open(os.path.join(directory, name), "rb") as file:
                if secret in file.read():
                    found.append(name)
    return found


def judge(case, results):
    wrong = [f"{result.case.name}: {result.wrong}" for result in results if result.wrong]
    if wrong:
        case.fail("\n".join([f"{len(wrong)} of {len(results)} cases", *wrong[:30]]))
    case.assertEqual(len(results), len({result.case.name for result in results}), "two cases have the same name")
    case.assertLessEqual({result.case.limit for result in results if result.limited}, set(known.LIMITS))
    limited = sum(result.limited for result in results)
    print(f"{case.id()}: {len(results)} cases, {limited} as the libraries have it", flush=True)


class Corpus(Case):
    def setUp(self):
        self.one, self.watcher = SHARED["broker"], SHARED["watcher"]
        self.before = {stage: self.counters(self.one, stage) for stage in STAGES}

    def tearDown(self):
        """What holds behind every group."""
        self.one.check_alive()
        self.assertEqual(SHARED["pids"], {key: process.child.pid for key, process in self.one.processes.items()})
        client = Http(self.one)
        marker = client.publish("corpus.marker", "still here")
        client.close()
        self.watcher.read_to(marker)
        self.assertEqual("still here", self.watcher.items[marker]["data"])
        self.assertEqual([], [item for item in self.watcher.items.values() if item["topic"].startswith("smuggled.")])
        self.assertEqual([], files_with(self.one, http_requests.CANARY))
        self.assertEqual([], files_with(self.one, b"runtime error:"), "UBSan goes on behind what it found")

    def files_with(self, secret):
        """Files of the broker, its logs among them, in which the secret stands in clear."""
        found = []
        for directory, _, names in os.walk(self.one.directory):
            for name in names:
                with open(os.path.join(directory, name), "rb") as file:
                    if secret in file.read():
                        found.append(name)
        return found

    def judge(self, results):
        wrong = [f"{result.case.name}: {result.wrong}" for result in results if result.wrong]
        self.assertEqual([], wrong, f"{len(wrong)} of {len(results)} cases")
        self.assertEqual(len(results), len({result.case.name for result in results}), "two cases have the same name")
        used = {result.case.limit for result in results if result.limited}
        self.assertLessEqual(used, set(known.LIMITS))
        print(f"{self.id()}: {len(results)} cases, {sum(result.limited for result in results)} as the libraries have it",
              flush=True)

    def counted(self, stage, name):
        return self.counters(self.one, stage)[name] - self.before[stage][name]

    def replay_http(self, cases):
        results = replay.run_http(self.one.http_port, cases)
        judge(self, results)
        # Answers of a handler of ours are counted, those of the library and of connections that just end are not.
        own = [reply for result in results for reply in result.replies if isinstance(reply, replay.Reply)
               and (reply.status == 200 or reply.headers.get("content-type") == "application/problem+json")]
        self.assertGreaterEqual(self.counted("ingest", "requests"), len(own))
        bad = [reply for reply in own if 400 <= reply.status < 500 and reply.status != 413]
        counted = sum(self.counted("ingest", "rejected_" + name) for name in ("bad", "auth", "rate"))
        self.assertGreaterEqual(counted, len(bad))
        self.assertGreaterEqual(self.counted("ingest", "rejected_large"), len([r for r in own if r.status == 413]))
        return results

    def replay_bodies(self, every):
        results = self.replay_http([body.case() for body in every])
        client = Http(self.one)
        self.watcher.read_to(client.publish("corpus.marker", "behind bodies"))
        client.close()
        wrong = [f"{body.name}: {fault}" for body, result in zip(every, results) if (fault := self.undelivered(body, result))]
        if wrong:
            self.fail("\n".join(wrong[:30]))

    def undelivered(self, body, result):
        """What is wrong with the messages that came of a body, or None."""
        reply = result.replies[0]
        if (body.data is None and body.headers is None) or reply.status not in (200, 207):
            return None
        answer = reply.json()
        records = answer.get("records") or [{"id": answer["id"] or "0-0", "count": answer["count"]}]
        names = [name for record in records for name in ids_of(record["id"], record["count"])]
        for number, (name, want) in enumerate(zip(names, body.data or [ANYTHING] * len(names), strict=True)):
            item = self.watcher.items.get(name)
            if item is None:
                return f"message {number} was not delivered"
            if not self.is_same(item, want):
                return f"message {number} is {str(item)[:200]}, wanted {str(want)[:200]}"
            if body.headers is not None and item.get("headers", {}) != body.headers:
                return f"message {number} has the headers {item.get('headers')}, wanted {body.headers}"
        return None

    def is_same(self, item, want):
        if want is ANYTHING:
            return True
        got, is_json = item["data"], item.get("type") == "application/json"
        if isinstance(want, bodies.Raw):
            return is_json and got == want.decode("utf-8")
        return json.loads(got) == want if is_json else got == want

    def replay_ws(self, cases):
        results = replay.run_ws(self.one.ws_port, cases)
        judge(self, results)
        faults = [result for result in results if any(isinstance(reply, replay.Frame) and reply.code() in (1002, 1007, 3500, 3501)
                                                      for reply in result.replies if getattr(reply, "opcode",
                                                                                             None) == replay.CLOSE)]
        self.assertGreater(self.counted("dispatcher", "clients_total"), 0)
        if faults:
            self.assertGreater(self.counted("dispatcher", "protocol_errors"), 0)

    def replay_reads(self, cases):
        judge(self, replay.run_http(self.one.ws_port, [case for case in cases if isinstance(case, replay.HttpCase)]))
        judge(self, replay.run_ws(self.one.ws_port, [case for case in cases if isinstance(case, replay.WsCase)]))

    def replay_ws_port(self, cases):
        judge(self, replay.run_http(self.one.ws_port, cases))


def test_of(replay_group, cases, *names):
    def test(self):
        replay_group(self, cases(*names))
    return test


# A test a group, so that a failure names where it is.
for each in http_requests.GROUPS:
    setattr(Corpus, f"test_http_{each}", test_of(Corpus.replay_http, http_requests.cases, each))
for each in bodies.GROUPS:
    setattr(Corpus, f"test_bodies_{each}", test_of(Corpus.replay_bodies, bodies.bodies, each))
for each in formats.GROUPS:
    setattr(Corpus, f"test_formats_{each}", test_of(Corpus.replay_bodies, formats.bodies, each))
for each in ws_streams.GROUPS:
    setattr(Corpus, f"test_websocket_{each}", test_of(Corpus.replay_ws, ws_streams.cases, each))
for each in reads.GROUPS:
    setattr(Corpus, f"test_{each}", test_of(Corpus.replay_reads, reads.cases, each))
setattr(Corpus, "test_websocket_port_http", test_of(Corpus.replay_ws_port, ws_streams.http_cases))


class Identity(Case):
    """A broker that needs tokens, and takes gzip."""

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.mkdtemp(prefix="cmq-tokens-")
        file = TokenFile(cls.directory)
        for name, rights in identity.TOKENS.items():
            file.add(name, identity.token_of(name), **rights)
        cls.one = Broker(settings={"tokens.file": file.path, "tokens.failures_max": identity.FAILURES_MAX,
                                   "ingest.gzip": "on"})
        cls.one.start()
        wait_until(lambda: is_ready(cls.one), WAIT_S, "the broker is ready", 0.05)

    @classmethod
    def tearDownClass(cls):
        cls.one.stop()
        shutil.rmtree(cls.directory)

    def tearDown(self):
        self.one.check_alive()
        for name in [*identity.TOKENS, "unheard-of"]:
            self.assertEqual([], files_with(self.one, identity.token_of(name).encode("ascii")))

    def test_tokens_at_the_http_port(self):
        before = self.counters(self.one, "ingest")["rejected_auth"]
        cases = [case for group in identity.HTTP_GROUPS for case in identity.cases(group)]
        results = replay.run_http(self.one.http_port, cases)
        judge(self, results)
        refused = [reply for result in results for reply in result.replies if reply.status in (401, 403)]
        self.assertEqual(len(refused), self.counters(self.one, "ingest")["rejected_auth"] - before - 1)  # and a token in a URL
        # Nothing that was refused came through.
        reader = self.v1(self.one, token=identity.token_of("all"))
        client = self.http(self.one)
        marker = client.post("/v1/topics/orders.marker", "m", "text/plain", X_API_Key=identity.token_of("all")).body["id"]
        topics, sub = set(), reader.subscribe(">", since="earliest")
        while marker not in topics:
            for item in reader.items(sub, 1):
                topics |= {item["topic"], item["id"]}
        allowed = {topic for (_who, topic), may in identity.SCOPES.items() if may}
        self.assertLessEqual({name for name in topics if not name[0].isdigit()},
                             allowed | {"orders.shown", "orders.gzip", "orders.marker", "default"})

    def test_tokens_at_the_websocket_port(self):
        cases = [case for group in identity.WS_GROUPS for case in identity.cases(group)]
        judge(self, replay.run_ws(self.one.ws_port, [case for case in cases if isinstance(case, replay.WsCase)]))
        judge(self, replay.run_http(self.one.ws_port, [case for case in cases if isinstance(case, replay.HttpCase)]))

    def test_compressed_bodies(self):
        judge(self, replay.run_http(self.one.http_port, [body.case() for body in gzipped.cases(identity.bearer("all"))]))

    def test_who_guesses_tokens_is_stopped_and_nobody_else(self):
        results = replay.run_http(self.one.http_port, identity.flood())
        judge(self, results)
        self.assertEqual({401, 429}, {result.replies[0].status for result in results})
        judge(self, replay.run_http(self.one.http_port, identity.behind_flood()))


class Size(unittest.TestCase):
    def test_the_corpus_has_its_size_and_no_name_twice(self):
        counts = {}
        for kind, module, make in (("requests", http_requests, http_requests.cases), ("streams", ws_streams, ws_streams.cases),
                                   ("reads", reads, reads.cases),
                                   ("bodies", bodies, bodies.bodies), ("bodies", formats, formats.bodies)):
            names = [case.name for group in module.GROUPS for case in make(group)]
            self.assertEqual(len(names), len(set(names)))
            counts[kind] = counts.get(kind, 0) + len(names)
        print(counts, flush=True)
        self.assertGreaterEqual(counts["requests"], 300)
        self.assertGreaterEqual(counts["streams"], 300)
        self.assertGreaterEqual(counts["bodies"], 1000)

    def test_every_limit_of_a_library_is_met_by_a_case(self):
        named = {case.limit for group in http_requests.GROUPS for case in http_requests.cases(group)}
        named |= {case.limit for group in ws_streams.GROUPS for case in ws_streams.cases(group)}
        named |= {case.limit for case in ws_streams.http_cases()}
        named |= {case.limit for group in [*identity.HTTP_GROUPS, *identity.WS_GROUPS] for case in identity.cases(group)}
        self.assertEqual(set(known.LIMITS), named - {None})


if __name__ == "__main__":
    unittest.main(verbosity=2)
