"""A blocking client of the WebSocket protocol v1, in JSON or MessagePack. See docs/PROTOCOL.md.

Ownership: a client owns its connection.
Units: seconds.
Errors: V1Error for an error reply (code, message); WsClosed, WsError and OSError as in wsclient.py; TimeoutError when an
        answer or a push does not come.
Callers: one thread a client.

    client = V1Client(host, port)
    orders = client.subscribe("orders.*", since="earliest")
    for item in client.items(orders, 10): print(item["id"], item["data"])
    client.consume("jobs", "workers", credit=10)
    client.ack("workers", [item["id"]])
"""

import base64
import collections
import json
import time

import packing
from wsclient import BINARY, TEXT, WsClient, WsClosed, WsError

FORMATS = {"json": (TEXT, lambda value: json.dumps(value, separators=(",", ":")).encode("utf-8"), json.loads),
           "msgpack": (BINARY, packing.packb, packing.unpackb)}


class V1Error(Exception):
    """An error reply."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code, self.message = code, message


class V1Client:
    """Connects in the constructor."""

    def __init__(self, host, port, form="json", timeout=20.0, receive_buffer=None, connect=True, tls=None,
                 headers=(), token_protocol=None, **about):
        self.form, self.timeout = form, timeout
        self._opcode, self._encode, self._decode = FORMATS[form]
        names = f"ciphermq.v1.{form}"
        if token_protocol:  # as a page sends it; first, because the first that is known is answered
            names = f"ciphermq.token.{token_protocol}, {names}"
        self.ws = WsClient(host, port, "/v1/ws", timeout, receive_buffer, subprotocol=names, tls=tls, headers=headers)
        self._last_id = 0
        self._replies = {}                  # id -> reply that nobody has asked for yet
        self.errors = []                    # replies with "id": null
        self.pushes = collections.deque()   # msgs and gap, in order
        self.heartbeats = 0
        if self.ws.subprotocol != f"ciphermq.v1.{form}":
            raise WsError(f"the server chose {self.ws.subprotocol}")
        try:
            self.about = self.command("connect", about) if connect else None
        except BaseException:
            self.ws.end()
            raise

    # ---- commands ----

    def send(self, name, body, number=True):
        """Sends a command without waiting; returns its id. number: True takes the next one, None sends none."""
        if number is True:
            self._last_id += 1
            number = self._last_id
        self.send_raw({name: body} if number is None else {"id": number, name: body})
        return number

    def send_raw(self, value):
        self.ws.send(self._encode(value), self._opcode)

    def send_bytes(self, data, opcode=None):
        self.ws.send(data, opcode or self._opcode)

    def command(self, name, body, number=True, timeout=None):
        """Sends a command and returns what is ok; V1Error if it is not."""
        return self.reply(self.send(name, body, number), timeout)

    def reply(self, number, timeout=None):
        """The reply to the command with this id. Pushes that come before it are kept."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while number not in self._replies:
            try:
                self._step(deadline)
            except WsClosed:  # the reply may stand in front of it
                if number not in self._replies:
                    raise
        reply = self._replies.pop(number)
        if "error" in reply:
            raise V1Error(reply["error"]["code"], reply["error"]["message"])
        return reply["ok"]

    def take_reply(self, number):
        """The reply as it came, if it has come; else None. Reads nothing."""
        return self._replies.pop(number, None)

    def subscribe(self, topic, since=None):
        """Returns the id of the subscription; the reply is in `self.asked`."""
        body = {"topic": topic} if since is None else {"topic": topic, "since": since}
        number = self.send("subscribe", body)
        self.asked = self.reply(number)
        return number

    def consume(self, topic, group, **options):
        body = {"group": group, **options}
        if topic is not None:
            body["topic"] = topic
        number = self.send("consume", body)
        self.asked = self.reply(number)
        return number

    def ack(self, group, ids=None, upto=None):
        return self.command("ack", {"group": group, "ids": ids} if upto is None else {"group": group, "upto": upto})

    def nack(self, group, ids, delay_ms=None):
        body = {"group": group, "ids": ids}
        if delay_ms is not None:
            body["delay_ms"] = delay_ms
        return self.command("nack", body)

    def credit(self, group, credit):
        return self.command("credit", {"group": group, "credit": credit})

    def unsubscribe(self, number):
        return self.command("unsubscribe", {"id": number})

    def ping(self):
        return self.command("ping", {})

    # ---- pushes ----

    def _step(self, deadline):
        """Takes what has come whole, or reads once."""
        before = len(self._replies), len(self.pushes), len(self.errors), self.heartbeats
        self.sort()
        if before != (len(self._replies), len(self.pushes), len(self.errors), self.heartbeats):
            return
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("nothing came")
        self.ws.read(left)

    def sort(self):
        """Sorts what is in the buffer into replies and pushes. Reads nothing."""
        for data in self.ws.messages():
            if self.ws.opcode != self._opcode:
                raise WsError(f"opcode {self.ws.opcode} in {self.form}")
            value = self._decode(data)
            if value.get("id") is not None:
                if value["id"] in self._replies:
                    raise WsError(f"two replies to {value['id']}")
                self._replies[value["id"]] = value
            elif "error" in value:
                self.errors.append(value["error"])
            elif value:
                self.pushes.append(self._push(value))
            else:
                self.heartbeats += 1

    def _push(self, value):
        (kind, body), = value.items()
        if kind == "msgs":
            for item in body["items"]:
                if "data_base64" in item:
                    item["data"] = base64.b64decode(item.pop("data_base64"), validate=True)
        elif kind != "gap":
            raise WsError(f"unknown push {kind}")
        return kind, body

    def push(self, timeout=None):
        """The next push: ("msgs", {...}) or ("gap", {...})."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while not self.pushes:
            self._step(deadline)
        return self.pushes.popleft()

    def items(self, sub, count, timeout=None):
        """`count` items of one subscription or membership, with their topic; other pushes stay where they are."""
        deadline = time.monotonic() + (timeout or self.timeout)
        got, kept = [], collections.deque()
        try:
            while len(got) < count:
                while not self.pushes:
                    self._step(deadline)
                kind, body = self.pushes.popleft()
                if kind == "msgs" and body["sub"] == sub:
                    got += [{**item, "topic": body["topic"]} for item in body["items"]]
                else:
                    kept.append((kind, body))
        except TimeoutError:
            raise TimeoutError(f"{len(got)} of {count} items came: {got[-3:]}") from None
        finally:
            self.pushes.extendleft(reversed(kept))
        return got

    def gap(self, sub, timeout=None):
        """The next gap of one subscription; items before it stay where they are."""
        deadline = time.monotonic() + (timeout or self.timeout)
        looked = 0
        while True:
            for at in range(looked, len(self.pushes)):
                kind, body = self.pushes[at]
                if kind == "gap" and body["sub"] == sub:
                    del self.pushes[at]
                    return body
            looked = len(self.pushes)
            self._step(deadline)

    def error(self, timeout=None):
        """The next error without an id, as (code, message)."""
        deadline = time.monotonic() + (timeout or self.timeout)
        while not self.errors:
            self._step(deadline)
        error = self.errors.pop(0)
        return error["code"], error["message"]

    def quiet(self, seconds=0.3):
        """All pushes that come until nothing comes for so long."""
        got = []
        try:
            while True:
                got.append(self.push(seconds))
        except TimeoutError:
            return got

    def fileno(self):
        return self.ws.fileno()

    def close(self):
        self.ws.close()

    def drop(self):
        self.ws.drop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
