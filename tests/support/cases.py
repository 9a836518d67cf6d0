"""What integration tests share: a broker of the case, HTTP requests, v1 clients, and the checker's verdict.

Ownership: a case owns its brokers, connections and actors; all go away with it, also after a failure.
Units: seconds, messages.
Errors: unittest.
Callers: tests/integration.
"""

import http.client
import json
import os
import time
import unittest
from typing import NamedTuple

from actors import Troupe
from broker import STAGES, Broker, wait_until
from checker import Options, check
from v1client import V1Client
from wsclient import WsClient

HOST = "127.0.0.1"
WAIT_S = 20.0


class Reply(NamedTuple):
    status: int
    body: dict
    headers: object


class Http:
    """One connection to ingest."""

    def __init__(self, broker, timeout=WAIT_S):
        if broker.tls:
            self.connection = http.client.HTTPSConnection(HOST, broker.http_port, timeout=timeout, context=broker.tls)
        else:
            self.connection = http.client.HTTPConnection(HOST, broker.http_port, timeout=timeout)

    def post(self, path, body, kind="application/json", **headers):
        """headers: Idempotency_Key="..." and so on."""
        if not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        if kind:
            fields["Content-Type"] = kind
        self.connection.request("POST", path, body.encode("utf-8") if isinstance(body, str) else body, fields)
        response = self.connection.getresponse()
        data = response.read()
        return Reply(response.status, json.loads(data) if data else {}, response.headers)

    def publish(self, topic, *contents, **headers):
        """One record; returns the answer's id. One content that is text goes as it is, several go as a batch."""
        if len(contents) == 1 and isinstance(contents[0], (str, bytes)):
            reply = self.post(f"/v1/topics/{topic}", contents[0], "text/plain", **headers)
        else:
            reply = self.post(f"/v1/topics/{topic}/batch", list(contents), **headers)
        assert reply.status == 200, reply
        assert reply.body["count"] == len(contents), reply
        return reply.body["id"]

    def close(self):
        self.connection.close()


def ids_of(first, count):
    """Ids of the messages of a record, from the id of the first."""
    seq = first.split("-")[0]
    return [f"{seq}-{index}" for index in range(count)]


class Case(unittest.TestCase):
    """A test with brokers."""

    def broker(self, **options):
        broker = Broker(**options)
        broker.start()
        self.addCleanup(broker.abandon)
        return broker

    def http(self, broker):
        client = Http(broker)
        self.addCleanup(client.close)
        return client

    def v1(self, broker, form="json", **options):
        client = V1Client(HOST, broker.ws_port, form, timeout=WAIT_S, tls=broker.tls, **options)
        self.addCleanup(client.close)
        return client

    def root(self, broker, **options):
        client = WsClient(HOST, broker.ws_port, timeout=WAIT_S, tls=broker.tls, **options)
        self.addCleanup(client.close)
        return client

    def troupe(self, broker, seed=1):
        troupe = Troupe(broker, seed)
        self.addCleanup(troupe.stop)
        return troupe

    def stop(self, broker):
        """Every process ends in order."""
        broker.stop()

    def kill_all(self, broker, troupe=None):
        """SIGKILL of every process, and nothing is started. Without supervisor only."""
        for stage in STAGES:
            for number in range(broker.counts[stage]):
                if troupe:
                    troupe.crash(stage, number)
                broker.kill(stage, number)

    def spawn_all(self, broker):
        for stage in STAGES:
            for number in range(broker.counts[stage]):
                broker.spawn(stage, number)
        broker.wait_ready()

    def reboot(self, broker, troupe=None):
        """All processes die and the shared memory is gone; files stay. Then everything starts again."""
        self.kill_all(broker, troupe)
        broker.ctl("destroy")
        self.assertEqual([], broker.shared_objects())
        broker.ctl("init")
        self.spawn_all(broker)

    def kill_supervised(self, broker, stage, number=0, troupe=None):
        """SIGKILL; the supervisor starts the next one. Does not wait for it."""
        if troupe:
            troupe.crash(stage, number)
        broker.kill(stage, number)

    def verdict(self, troupe, **options):
        """The checker finds nothing."""
        report = check(troupe.history(), Options(**options))
        self.assertEqual([], [str(finding) for finding in report.findings])
        return report

    def settled(self, troupe, seconds=60.0, **options):
        """Waits until nothing acknowledged is missing anywhere, then gives the checker's verdict."""
        deadline = time.monotonic() + seconds

        def nothing_missing():
            history = troupe.history()
            history.drained = True
            return not {3, 6} & check(history, Options(**options)).rules()

        while not nothing_missing() and time.monotonic() < deadline:
            before = sum(actor.seen for actors in troupe.actors.values() for actor in actors if hasattr(actor, "seen"))
            wait_until(lambda: time.monotonic() > deadline or nothing_missing()
                       or sum(actor.seen for actors in troupe.actors.values() for actor in actors
                              if hasattr(actor, "seen")) > before, seconds, "more arrives", 0.2)
        troupe.sink.add(type="drain", done=nothing_missing(), t=time.monotonic())
        troupe.stop()
        return self.verdict(troupe, **options)

    def same(self, items, contents, first=None):
        """Items have these contents, and ids from `first` on."""
        self.assertEqual([item["data"] for item in items], list(contents))
        if first:
            self.assertEqual([item["id"] for item in items], ids_of(first, len(contents)))

    def counters(self, broker, stage="dispatcher", number=0):
        pid = broker.processes[stage, number].child.pid
        return next(m for m in broker.members() if m["pid"] == pid)["counters"]

    def directory_bytes(self, path):
        return sum(os.path.getsize(os.path.join(path, name)) for name in os.listdir(path))
