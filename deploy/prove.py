#!/usr/bin/python3
"""deploy/prove.py: show that a running broker carries a message from HTTP to WebSocket. Python's own library only.

usage: prove.py CIPHERMQCTL CONFIG HTTP_HOST HTTP_PORT WS_HOST WS_PORT [CERT_FILE [tokens]]

CERT_FILE: both ports must show this certificate, for whatever name it was made. tokens: the broker wants a token; one is made
for this proof, with rights to its topic only, and revoked.

The message goes to a topic of its own, to which the proof subscribes: nobody's messages are taken away, and nobody but a
subscriber of everything sees it. Then the log's figures are read.
Exit code: 0 proven, 1 not.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request

from cmq_ws import WAIT_S, WebSocket, WebSocketError, tls_context

TOPIC = "ciphermq.proof"


class NotProven(Exception):
    """The broker did not do what it should; the text is for the user."""


def status(ctl, config):
    result = subprocess.run([ctl, "--config", config, "status", "--json"], capture_output=True, text=True, timeout=10)
    if result.returncode != 0:
        raise NotProven(f"ciphermqctl status: {result.stderr.strip() or 'a stage does not run'}")
    return json.loads(result.stdout)


class Access:
    """How the ports are spoken to: in TLS or not, with a token or not."""

    def __init__(self, cert_file):
        self.tls = self.token = None
        if cert_file:
            self.tls = tls_context(cert_file)
            self.tls.check_hostname = False

    def opener(self):
        return urllib.request.build_opener(
            urllib.request.ProxyHandler({}), *([urllib.request.HTTPSHandler(context=self.tls)] if self.tls else [])
        )

    def headers(self):
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


class Token:
    """A token for this proof; it is revoked at the end."""

    def __init__(self, ctl, config, access):
        self.ctl, self.config, self.access = ctl, config, access
        self.name = f"deploy-proof-{os.getpid()}"

    def _run(self, *words):
        result = subprocess.run(
            [self.ctl, "--config", self.config, "token", *words], capture_output=True, text=True, timeout=10
        )
        if result.returncode != 0:
            raise NotProven(f"ciphermqctl token {words[0]}: {result.stderr.strip()}")
        return result.stdout

    def __enter__(self):
        made = self._run("create", self.name, "--publish", TOPIC, "--subscribe", TOPIC, "--expires", "1h", "--json")
        self.access.token = json.loads(made)["token"]
        return self

    def __exit__(self, *_):
        self._run("revoke", self.name)
        return False


def post(base, text, access):
    """Publishes on the proof's topic; returns the reply."""
    request = urllib.request.Request(
        f"{base}/v1/topics/{TOPIC}", data=text.encode(), headers={"Content-Type": "text/plain", **access.headers()}
    )
    with access.opener().open(request, timeout=WAIT_S) as reply:
        return json.loads(reply.read())


def once_known(attempt, *args):
    """The stages look at the file of tokens now and then: a new token gets 401 until they have."""
    deadline = time.monotonic() + WAIT_S
    while True:
        try:
            return attempt(*args)
        except (urllib.error.HTTPError, WebSocketError) as error:
            if "401" not in str(error) or time.monotonic() >= deadline:
                raise
        time.sleep(0.5)


def subscribe(ws_host, ws_port, access):
    client = WebSocket(ws_host, ws_port, "/v1/ws", "ciphermq.v1.json", access.tls, access.token)
    client.send('{"id":1,"connect":{"client":"proof"}}')
    client.send(json.dumps({"id": 2, "subscribe": {"topic": TOPIC}}))
    deadline = time.monotonic() + WAIT_S
    while True:
        reply = json.loads(client.receive(deadline))
        if "error" in reply:
            raise NotProven(f"the WebSocket port answered {reply['error']}")
        if reply.get("id") == 2:
            return client


def prove_by_message(base, ws_host, ws_port, access):
    """Sends one message and waits for it. Returns (milliseconds, the level of acknowledgement that was given)."""
    text = f"deploy-proof-{os.urandom(8).hex()}"
    client = once_known(subscribe, ws_host, ws_port, access)
    start = time.monotonic()
    deadline = start + WAIT_S
    reply = once_known(post, base, text, access)
    while True:
        push = json.loads(client.receive(deadline))
        items = push.get("msgs", {}).get("items", [])
        if any(item["data"] == text and item["id"] == reply["id"] for item in items):
            break
    took_ms = (time.monotonic() - start) * 1000.0
    client.close()
    return took_ms, reply["ack"]


def main():
    ctl, config, http_host, http_port, ws_host, ws_port, *more = sys.argv[1:]
    access = Access(more[0] if more else None)
    base = f"{'https' if access.tls else 'http'}://{f'[{http_host}]' if ':' in http_host else http_host}:{http_port}"
    with Token(ctl, config, access) if "tokens" in more[1:] else contextlib.nullcontext():
        took_ms, ack = prove_by_message(base, ws_host, int(ws_port), access)
    print(f"proof: one message went from POST /v1/topics/{TOPIC} to a WebSocket subscriber in {took_ms:.1f} ms, and is {ack}")
    log = status(ctl, config)["log"]
    print(f"log: {log['health']}, {log['stored'] - 1} records stored, {log['durable'] - 1} durable")


if __name__ == "__main__":
    if not 7 <= len(sys.argv) <= 9:
        sys.exit("usage: prove.py CIPHERMQCTL CONFIG HTTP_HOST HTTP_PORT WS_HOST WS_PORT [CERT_FILE [tokens]]")
    try:
        main()
    except (NotProven, WebSocketError, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        print(f"proof failed: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
