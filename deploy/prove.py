#!/usr/bin/python3
"""deploy/prove.py: show that a running broker carries a message from HTTP to WebSocket. Python's own library only.

usage: prove.py CIPHERMQCTL CONFIG HTTP_HOST HTTP_PORT WS_HOST WS_PORT

The message goes to a topic of its own, to which the proof subscribes: nobody's messages are taken away, and nobody but a
subscriber of everything sees it. Then the log's figures are read.
Exit code: 0 proven, 1 not.
"""

import json
import os
import subprocess
import sys
import time
import urllib.request

from cmq_ws import WAIT_S, WebSocket, WebSocketError

TOPIC = "ciphermq.proof"


class NotProven(Exception):
    """The broker did not do what it should; the text is for the user."""


def status(ctl, config):
    result = subprocess.run([ctl, "--config", config, "status", "--json"], capture_output=True, text=True, timeout=10)
    if result.returncode != 0:
        raise NotProven(f"ciphermqctl status: {result.stderr.strip() or 'a stage does not run'}")
    return json.loads(result.stdout)


def post(base, text):
    """Publishes on the proof's topic; returns the reply."""
    request = urllib.request.Request(
        f"{base}/v1/topics/{TOPIC}", data=text.encode(), headers={"Content-Type": "text/plain"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=WAIT_S) as reply:
        return json.loads(reply.read())


def subscribe(ws_host, ws_port):
    client = WebSocket(ws_host, ws_port, "/v1/ws", "ciphermq.v1.json")
    client.send('{"id":1,"connect":{"client":"proof"}}')
    client.send(json.dumps({"id": 2, "subscribe": {"topic": TOPIC}}))
    deadline = time.monotonic() + WAIT_S
    while True:
        reply = json.loads(client.receive(deadline))
        if "error" in reply:
            raise NotProven(f"the WebSocket port answered {reply['error']}")
        if reply.get("id") == 2:
            return client


def prove_by_message(base, ws_host, ws_port):
    """Sends one message and waits for it. Returns (milliseconds, the level of acknowledgement that was given)."""
    text = f"deploy-proof-{os.urandom(8).hex()}"
    client = subscribe(ws_host, ws_port)
    start = time.monotonic()
    deadline = start + WAIT_S
    reply = post(base, text)
    while True:
        push = json.loads(client.receive(deadline))
        items = push.get("msgs", {}).get("items", [])
        if any(item["data"] == text and item["id"] == reply["id"] for item in items):
            break
    took_ms = (time.monotonic() - start) * 1000.0
    client.close()
    return took_ms, reply["ack"]


def main():
    ctl, config, http_host, http_port, ws_host, ws_port = sys.argv[1:7]
    base = f"http://[{http_host}]:{http_port}" if ":" in http_host else f"http://{http_host}:{http_port}"
    took_ms, ack = prove_by_message(base, ws_host, int(ws_port))
    print(f"proof: one message went from POST /v1/topics/{TOPIC} to a WebSocket subscriber in {took_ms:.1f} ms, and is {ack}")
    log = status(ctl, config)["log"]
    print(f"log: {log['health']}, {log['stored'] - 1} records stored, {log['durable'] - 1} durable")


if __name__ == "__main__":
    if len(sys.argv) != 7:
        sys.exit("usage: prove.py CIPHERMQCTL CONFIG HTTP_HOST HTTP_PORT WS_HOST WS_PORT")
    try:
        main()
    except (NotProven, WebSocketError, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        print(f"proof failed: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
