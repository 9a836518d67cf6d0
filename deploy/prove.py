#!/usr/bin/python3
"""deploy/prove.py: show that a running broker carries a message from HTTP to WebSocket. Python's own library only.

usage: prove.py CIPHERMQCTL CONFIG HTTP_HOST HTTP_PORT WS_HOST WS_PORT

The root endpoint is the consumer group "default": whoever connects takes messages away from the others. So the proof
message is sent only when nothing waits and nobody else is connected. Otherwise the status counters are the proof.
A message of somebody else that arrives during the proof all the same is published again, and that is said.
Exit code: 0 proven, 1 not.
"""

import json
import os
import subprocess
import sys
import time
import urllib.request

from cmq_ws import WAIT_S, WebSocket, WebSocketError

STAGES = ("ingest", "encryptor", "dispatcher")


class NotProven(Exception):
    """The broker did not do what it should; the text is for the user."""


def status(ctl, config):
    result = subprocess.run([ctl, "--config", config, "status", "--json"], capture_output=True, text=True, timeout=10)
    if result.returncode != 0:
        raise NotProven(f"ciphermqctl status: {result.stderr.strip() or 'a stage does not run'}")
    return json.loads(result.stdout)


def occupied(state):
    """Why the proof message must not be sent now, or an empty text."""
    waiting = state["ring"]["published"] - state["ring"]["gate"]
    clients = sum(
        one["counters"]["clients"] for one in state["instances"] if one["alive"] and one["stage"] == "dispatcher"
    )
    reasons = []
    if waiting:
        reasons.append(f"{waiting} record(s) wait for a consumer")
    if clients:
        reasons.append(f"{clients} client(s) are connected")
    return " and ".join(reasons)


def settled(ctl, config):
    """occupied(), after a connection that just ended (the readiness check's) has been noticed by the dispatcher."""
    deadline = time.monotonic() + 1.0
    while True:
        reason = occupied(status(ctl, config))
        if not reason or time.monotonic() > deadline:
            return reason
        time.sleep(0.05)


def post(base, path, body):
    request = urllib.request.Request(
        base + path, data=json.dumps(body).encode(), headers={"Content-Type": "application/json"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=WAIT_S) as reply:
        return reply.status


def prove_by_message(base, ws_host, ws_port):
    """Sends one message and waits for it. Returns (milliseconds, messages of others that arrived)."""
    text = f"deploy-proof-{os.urandom(8).hex()}"
    foreign = []
    client = WebSocket(ws_host, ws_port)
    start = time.monotonic()
    deadline = start + WAIT_S
    if post(base, "/input", {"content": text}) != 200:
        raise NotProven("POST /input was not answered with 200")
    while True:
        messages = json.loads(client.receive(deadline))
        took_ms = (time.monotonic() - start) * 1000.0
        foreign += [one for one in messages if one != text]
        if text in messages:
            break
    client.close()
    return took_ms, foreign


def prove_by_counters(ctl, config):
    state = status(ctl, config)
    for stage in STAGES:
        lines = [one for one in state["instances"] if one["alive"] and one["stage"] == stage]
        for one in lines:
            print(
                f"  {stage} {one['instance']}: pid {one['pid']}, up {one['uptime_s']} s, "
                f"{one['counters']['records']} records, lag {one['lag']}"
            )


def main():
    ctl, config, http_host, http_port, ws_host, ws_port = sys.argv[1:7]
    base = f"http://[{http_host}]:{http_port}" if ":" in http_host else f"http://{http_host}:{http_port}"
    reason = settled(ctl, config)
    if reason:
        print(f"proof: no message sent, because {reason}; all stages are up and both ports answer:")
        prove_by_counters(ctl, config)
        return
    took_ms, foreign = prove_by_message(base, ws_host, int(ws_port))
    print(f"proof: one message went from POST /input to a WebSocket frame in {took_ms:.1f} ms")
    if foreign:
        post(base, "/input/batch", {"messages": [{"content": one} for one in foreign]})
        print(f"note: {len(foreign)} message(s) of others came during the proof and were published again, at the end")


if __name__ == "__main__":
    if len(sys.argv) != 7:
        sys.exit("usage: prove.py CIPHERMQCTL CONFIG HTTP_HOST HTTP_PORT WS_HOST WS_PORT")
    try:
        main()
    except (NotProven, WebSocketError, OSError, ValueError, KeyError, subprocess.SubprocessError) as error:
        print(f"proof failed: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
