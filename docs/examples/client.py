#!/usr/bin/python3
"""CipherMQ from Python. Python's own library; subscribe and consume need websocket-client (Debian: python3-websocket).

    client.py publish TOPIC TEXT           prints the reply
    client.py subscribe TOPIC [SINCE]      everything, one JSON a line; SINCE: earliest, latest, or the last id that you have
    client.py consume TOPIC GROUP          a share of it: each message is acknowledged once it is printed
"""

import json
import os
import sys
import time
import urllib.error
import urllib.request
import uuid

PUBLISH = os.environ.get("CIPHERMQ_URL", "http://127.0.0.1:3000")
READ = os.environ.get("CIPHERMQ_READ_URL", "http://127.0.0.1:8080")
TOKEN = os.environ.get("CIPHERMQ_TOKEN")
AUTH = {"Authorization": f"Bearer {TOKEN}"} if TOKEN else {}
AGAIN = (429, 500, 503)  # everything else that is not 2xx is final
TRY_S = 60


def publish(topic, text):
    """The key makes a retry safe: whatever became of the first try, the message is there once."""
    headers = {"Content-Type": "text/plain", "Idempotency-Key": str(uuid.uuid4()), **AUTH}
    request = urllib.request.Request(f"{PUBLISH}/v1/topics/{topic}", text.encode(), headers)
    deadline = time.monotonic() + TRY_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            wait_s = float(error.headers.get("Retry-After", 1))
            if error.code not in AGAIN or time.monotonic() > deadline:
                sys.exit(f"{error.code}: {error.read().decode()}")
        except OSError as error:
            wait_s = 1
            if time.monotonic() > deadline:
                sys.exit(f"no answer: {error}")
        time.sleep(wait_s)


def messages(command):
    """Yields (socket, message), for ever; command() is asked anew for each connection."""
    import websocket
    while True:
        try:
            ws = websocket.create_connection(READ.replace("http", "ws", 1) + "/v1/ws", subprotocols=["ciphermq.v1.json"],
                                             header=AUTH, timeout=60)  # a heartbeat comes more often
            ws.send(json.dumps({"id": 1, "connect": {"client": "client.py"}}))
            ws.send(json.dumps({"id": 2, **command()}))
            while True:
                frame = json.loads(ws.recv())
                if "error" in frame:
                    sys.exit(f"refused: {frame['error']['message']}")
                if "gap" in frame:
                    print("missing:", frame["gap"], file=sys.stderr)
                for item in frame.get("msgs", {}).get("items", []):
                    yield ws, {"topic": frame["msgs"]["topic"], **item}
        except websocket.WebSocketBadStatusException as error:
            if error.status_code in (400, 401, 403):
                sys.exit(f"refused: {error}")
        except (websocket.WebSocketException, ValueError, OSError):
            pass  # the broker restarts, or the network is away
        time.sleep(1)


def subscribe(topic, since="earliest"):
    for _, message in messages(lambda: {"subscribe": {"topic": topic, "since": since}}):
        print(json.dumps(message), flush=True)
        since = message["id"]  # the next connection goes on behind it


def consume(topic, group):
    for ws, message in messages(lambda: {"consume": {"topic": topic, "group": group}}):
        print(json.dumps(message), flush=True)  # the work; what is not acknowledged comes again
        ws.send(json.dumps({"ack": {"group": group, "ids": [f"{message['id']}:{message['attempt']}"]}}))


if __name__ == "__main__":
    words = sys.argv[2:]
    if sys.argv[1:2] == ["publish"] and len(words) == 2:
        print(json.dumps(publish(*words)))
    elif sys.argv[1:2] == ["subscribe"] and len(words) in (1, 2):
        subscribe(*words)
    elif sys.argv[1:2] == ["consume"] and len(words) == 2:
        consume(*words)
    else:
        sys.exit(__doc__)
