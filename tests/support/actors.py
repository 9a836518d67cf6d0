"""Clients that note everything they do and see, for the checker: in threads of a test, or processes of the crash campaign.

Ownership: an actor owns its connections; what it notes goes to a sink, add(type=..., ...), that is not its own.
Units: seconds, messages.
Errors: what the broker does is history, not an error; what no broker may do (an answer that contradicts the request) is a
        RuntimeError.
Callers: one thread or process an actor. It runs until stop.now; stop.leave makes a consumer go and come back.
"""

import json
import os
import random
import select
import socket
import threading
import time

from checker import History, make, parse
from v1client import V1Client, V1Error
from wsclient import WsClient, WsClosed, WsError

HOST = "127.0.0.1"
ANSWER_S = 10.0
RECONNECT_S = 0.002
REQUESTS_MAX = 50       # on one connection: so that all instances behind the port get some
GONE = (OSError, WsClosed, WsError)


class MemorySink:
    """Entries of several threads, as one history."""

    def __init__(self):
        self._lock = threading.Lock()
        self._entries = []

    def add(self, **entry):
        with self._lock:
            self._entries.append(entry)

    def history(self):
        """What was noted so far, with what is still open as unknown."""
        with self._lock:
            return History.of(self._entries)


class Stop:
    """Flags that other threads, or signal handlers, raise; wait() returns at once then."""

    def __init__(self):
        self.now = self.leave = False
        self.fd, self.wake_fd = os.pipe()
        os.set_blocking(self.wake_fd, False)
        os.set_blocking(self.fd, False)

    def stop(self):
        self.now = True
        self._wake()

    def ask_to_leave(self):
        self.leave = True
        self._wake()

    def _wake(self):
        try:
            os.write(self.wake_fd, b"x")
        except BlockingIOError:
            pass

    def wait(self, timeout, *fds):
        """Until a descriptor is readable, a flag was raised, or the time is over."""
        ready, _, _ = select.select([self.fd, *fds], [], [], timeout)
        if self.fd in ready:
            os.read(self.fd, 512)
        return [fd for fd in ready if fd != self.fd]

    def close(self):
        os.close(self.fd)
        os.close(self.wake_fd)


def note_refusal(sink, kind, error):
    if isinstance(error, ConnectionRefusedError):
        sink.add(type="refused", kind=kind, t=time.monotonic())


class Publisher:
    """One producer, one request at a time. Without a key a request that got no answer is made again sometimes; with one,
    until there is an answer.

    settings: run, producer, port, seed, topics, batch_max, size_max, key_share, other_body_share, ack (or None)
    """

    def __init__(self, settings, sink, stop):
        self.settings, self.sink, self.stop = settings, sink, stop
        self.random = random.Random(settings["seed"])
        self.sock = None
        self.next = 0
        self.acknowledged = 0

    def run(self):
        while not self.stop.now:
            self.request()
        self.drop()

    def request(self):
        """Some new messages, with as many tries as they take. Returns the last answer's id, or None."""
        pick = self.random
        count = 1 if pick.random() < 0.5 else pick.randint(2, self.settings.get("batch_max", 12))
        first, self.next = self.next, self.next + count
        topic = pick.choice(self.settings.get("topics", ["default"]))
        keyed = pick.random() < self.settings.get("key_share", 0.0)
        key = f"{self.settings['run']}-{self.settings['producer']}-{first}" if keyed else None
        how = pick.choice(("header", "id")) if keyed and count == 1 else "header"
        texts = [self.text(first + offset) for offset in range(count)]
        while not self.stop.now:
            result, place = self.attempt(first, texts, topic, key, how)
            if result == "ok" or result == "fail-final" or result == "info" and not keyed and pick.random() < 0.5:
                break
        else:
            return None
        if keyed and result == "ok" and pick.random() < self.settings.get("other_body_share", 0.0):
            other, self.next = self.next, self.next + 1
            self.attempt(other, [self.text(other)], topic, key, how)
        if pick.randrange(REQUESTS_MAX) == 0:
            self.drop()
        return place

    def text(self, pseq):
        return make(self.settings["run"], self.settings["producer"], pseq,
                    self.random.randint(0, self.settings.get("size_max", 250)))

    def attempt(self, first, texts, topic, key, how):
        """One try: (result, id of the answer)."""
        while not self.connected():
            if self.stop.now:
                return "info", None
        entry = {"producer": self.settings["producer"], "first": first, "count": len(texts), "topic": topic, "key": key,
                 "invoke": time.monotonic()}
        self.sink.add(type="invoke", **entry)
        status, answer = self.post(texts, topic, key, how)
        end = None if status is None else time.monotonic()
        unknown = status is None or status == 503 and "not-durable" in answer.get("type", "")
        result = "info" if unknown else "ok" if status == 200 else "fail"
        place = answer["id"] if result == "ok" else None
        more = {}
        if place:
            seq, index = map(int, place.split("-"))
            more = {"seq": seq, "index": index, "duplicate": bool(answer.get("duplicate"))}
            if answer["count"] != len(texts):
                raise RuntimeError(f"{len(texts)} messages were sent, the answer says {answer}")
            self.acknowledged += len(texts)
        self.sink.add(type="publish", **entry, end=None if unknown else end, result=result, status=status, **more)
        if result == "fail":
            if status < 500:
                return "fail-final", None
            self.stop.wait(0.005)
        return result, place

    def connected(self):
        if self.sock is None:
            try:
                self.sock = socket.create_connection((HOST, self.settings["port"]), timeout=ANSWER_S)
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                note_refusal(self.sink, "http", error)
                self.stop.wait(RECONNECT_S)
                return False
        return True

    def post(self, texts, topic, key, how):
        """(status, answer) of one POST; (None, None) if no whole answer came."""
        fields = [f"Idempotency-Key: {key}"] if key and how == "header" else []
        if self.settings.get("ack"):
            fields.append(f"CMQ-Ack: {self.settings['ack']}")
        one = {"id": key} if key and how == "id" else {}
        kind = "application/json"
        if topic == "default":
            path = "/input" if len(texts) == 1 else "/input/batch"
            each = [{"content": text, **one} for text in texts]
            body = json.dumps(each[0] if len(texts) == 1 else {"messages": each})
        elif len(texts) == 1 and not one:
            path, body, kind = f"/v1/topics/{topic}", texts[0], "text/plain"
        else:
            path = f"/v1/topics/{topic}/batch"
            body = json.dumps([{"data": text, **one} if one else text for text in texts])
        head = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *fields]
        try:
            self.sock.sendall(("\r\n".join(head) + "\r\n\r\n" + body).encode("ascii"))
            return self.answer()
        except OSError:
            self.ended(False)
            return None, None

    def answer(self):
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.more()
        head, _, rest = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:])
        while len(rest) < int(fields["content-length"]):
            rest += self.more()
        status = int(lines[0].split(" ")[1])
        if fields.get("connection") == "close":
            self.drop() if status == 413 else self.ended(True)     # a body that is too large is not read
        return status, json.loads(rest)

    def more(self):
        data = self.sock.recv(65536)
        if not data:
            raise ConnectionResetError("end of stream")
        return data

    def ended(self, answered):
        """The broker ended the connection."""
        self.sink.add(type="ended", kind="http", t=time.monotonic(), answered=answered)
        self.drop()

    def drop(self):
        if self.sock is not None:
            self.sock.close()
            self.sock = None


class Consumer:
    """One consumer of the root endpoint, always coming back. settings: run, consumer, port"""

    kind = port_kind = "root"

    def __init__(self, settings, sink, stop):
        self.settings, self.sink, self.stop = settings, sink, stop
        self.random = random.Random(settings.get("seed"))
        self.sessions = 0
        self.seen = 0       # messages

    def run(self):
        while not self.stop.now:
            try:
                client = self.connect()
            except GONE as error:
                note_refusal(self.sink, self.port_kind, error)
                self.stop.wait(RECONNECT_S)
                continue
            session = self.settings["consumer"] * 1000000 + self.sessions
            self.sessions += 1
            self.stop.leave = False
            try:
                self.session(client, session)
            except GONE as error:
                if not (self.stop.now or self.stop.leave):
                    self.sink.add(type="ended", kind=self.port_kind, t=time.monotonic(), code=getattr(error, "code", None))
            self.close(client, session)
            if self.stop.leave:
                self.stop.wait(0.05)

    def connect(self):
        return WsClient(HOST, self.settings["port"], receive_buffer=16384)

    def session(self, client, session):
        """Reads to the end of the stream. To leave in order it asks for the close and goes on reading."""
        self.sink.add(type="session", session=session, event="open", t=time.monotonic())
        deadline = None
        while True:
            for content in client.messages():
                self.frame(content, session)
            if (self.stop.now or self.stop.leave) and deadline is None:
                client.ask_close()
                deadline = time.monotonic() + ANSWER_S
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if self.stop.wait(left, client.fileno()):
                client.read()
            elif left == 0.0:
                raise RuntimeError("the close frame was not answered")

    def close(self, client, session):
        client.end()
        self.sink.add(type="session", session=session, event="close", t=time.monotonic())

    def frame(self, content, session):
        now = time.monotonic()
        ids, bad = self.numbers(json.loads(content))
        self.seen += len(ids) // 2
        self.sink.add(type="deliver", session=session, t=now, ids=ids, bad=bad)

    def numbers(self, texts):
        """([producer, pseq, producer, pseq, ...], what is none of ours)"""
        ids, bad = [], []
        for text in texts:
            number = parse(self.settings["run"], text) if isinstance(text, str) else None
            if number is None:
                bad.append(str(text)[:200])
            else:
                ids.extend(number)
        return ids, bad


class Subscriber(Consumer):
    """A subscriber that goes on behind the last message it has seen. settings: also name, topic, form, last (id)"""

    kind, port_kind = "sub", "v1"

    def __init__(self, settings, sink, stop):
        super().__init__(settings, sink, stop)
        self.last = settings.get("last")

    def connect(self):
        return V1Client(HOST, self.settings["port"], self.settings.get("form", "json"), timeout=ANSWER_S,
                        receive_buffer=self.settings.get("receive_buffer", 16384), connect=False)

    def session(self, client, session):
        client.command("connect", {})
        since = self.last or "earliest"
        # Noted before it takes effect: what comes after the reply may come with it.
        self.sink.add(type="session", session=session, event="open", t=time.monotonic(), group=self.settings["name"],
                      kind="sub", topic=self.settings["topic"], since=since)
        client.subscribe(self.settings["topic"], since=since)
        self.pump(client, session)

    def pump(self, client, session):
        """Until it is told to go."""
        while not (self.stop.now or self.stop.leave):
            client.sort()
            self.take(client, session)
            if self.stop.wait(self.pause(), client.fileno()):
                client.ws.read(ANSWER_S)
        client.sort()
        self.take(client, session)

    def pause(self):
        return None

    def take(self, client, session):
        while client.pushes:
            kind, body = client.pushes.popleft()
            if kind == "gap":
                self.gap(session, body)
            else:
                self.items(client, session, body["items"])

    def gap(self, session, body):
        self.sink.add(type="gap", session=session, t=time.monotonic(),
                      **{"from": body["from"], "to": body["to"], "reason": body["reason"]})

    def items(self, _client, session, items):
        now = time.monotonic()
        ids, bad = self.numbers([item["data"] for item in items])
        self.seen += len(items)
        self.last = items[-1]["id"]
        self.sink.add(type="deliver", session=session, t=now, ids=ids, bad=bad,
                      seqs=[item["id"] for item in items] if not bad else None)

    def close(self, client, session):
        client.close()
        self.sink.add(type="session", session=session, event="close", t=time.monotonic(), group=self.settings["name"],
                      kind="sub")


class Letters(Subscriber):
    """Reads dead letters. settings: topic is $dead.<topic>"""

    kind = "letters"

    def session(self, client, session):
        client.command("connect", {})
        client.subscribe(self.settings["topic"], since=self.last or "earliest")
        self.pump(client, session)

    def gap(self, _session, _body):
        """Of dead letters nobody promises all."""

    def items(self, _client, _session, items):
        for item in items:
            number = parse(self.settings["run"], item["data"])
            headers = item.get("headers", {})
            if number is None:
                raise RuntimeError(f"a dead letter of nobody: {item}")
            self.sink.add(type="dead", group=headers.get("cmq-dead-group"), id=number, place=headers.get("cmq-dead-id"),
                          attempts=int(headers.get("cmq-dead-attempts", 0)), reason=headers.get("cmq-dead-reason"),
                          t=time.monotonic())
            self.last = item["id"]
            self.seen += 1

    def close(self, client, _session):
        client.close()


class Member(Subscriber):
    """A member of a group: acks most, nacks some, forgets some. settings: also group, credit, consume (more options),
    ack_share, nack_share; what is left is not answered at all. poison: every so many-th message is never acked."""

    kind = "group"

    def __init__(self, settings, sink, stop):
        super().__init__(settings, sink, stop)
        self.waiting = {}       # id of the command -> (what, begin, [(producer, pseq, id, attempt, as it was sent), ...])
        self.confirmed = 0

    def session(self, client, session):
        client.command("connect", {})
        credit = self.settings.get("credit", 64)
        self.sink.add(type="session", session=session, event="open", t=time.monotonic(), group=self.settings["group"],
                      kind="group", topic=self.settings["topic"], credit=credit)
        try:
            client.consume(self.settings["topic"], self.settings["group"], credit=credit, **self.settings.get("consume", {}))
            self.pump(client, session)
            self.settle(client, session)
        finally:
            for what, begin, items in self.waiting.values():
                self.note(session, what, begin, None, items, lambda _sent: "info")
            self.waiting = {}

    def settle(self, client, session):
        """Replies that are on their way are waited for."""
        deadline = time.monotonic() + ANSWER_S
        while self.waiting and time.monotonic() < deadline:
            client.ws.read(max(0.001, deadline - time.monotonic()))
            client.sort()
            self.take(client, session)

    def take(self, client, session):
        super().take(client, session)
        for number in list(self.waiting):
            reply = client.take_reply(number)
            if reply is not None:
                what, begin, items = self.waiting.pop(number)
                self.answered(session, what, begin, items, reply)

    def answered(self, session, what, begin, items, reply):
        if "ok" not in reply:
            raise RuntimeError(f"{what} was refused: {reply}")
        stale = set(reply["ok"]["stale"])
        count = reply["ok"]["acked" if what == "ack" else "nacked"]
        if stale - {item[4] for item in items} or count + len(stale) != len(items):
            raise RuntimeError(f"{what} of {items} was answered with {reply}")
        self.confirmed += count if what == "ack" else 0
        self.note(session, what, begin, time.monotonic(), items, lambda sent: "stale" if sent in stale else "confirmed")

    def note(self, session, what, begin, end, items, result_of):
        self.sink.add(type=what, group=self.settings["group"], session=session, invoke=begin, end=end,
                      items=[[*item[:4], result_of(item[4])] for item in items])

    def items(self, client, session, items):
        now = time.monotonic()
        ids, bad = self.numbers([item["data"] for item in items])
        self.seen += len(items)
        self.sink.add(type="deliver", session=session, t=now, ids=ids, bad=bad,
                      seqs=None if bad else [item["id"] for item in items],
                      attempts=[item["attempt"] for item in items])
        if bad or self.stop.now:
            return
        acks, nacks = [], []
        for at, item in enumerate(items):
            dice = self.random.random()
            sent = item["id"] if self.random.random() < 0.5 else f"{item['id']}:{item['attempt']}"
            entry = (ids[2 * at], ids[2 * at + 1], item["id"], item["attempt"], sent)
            if self.settings.get("poison") and entry[1] % self.settings["poison"] == 0:
                nacks.append(entry)
            elif dice < self.settings.get("ack_share", 1.0):
                acks.append(entry)
            elif dice < self.settings.get("ack_share", 1.0) + self.settings.get("nack_share", 0.0):
                nacks.append(entry)
        for what, entries in (("ack", acks), ("nack", nacks)):
            if entries:
                body = {"group": self.settings["group"], "ids": [entry[4] for entry in entries]}
                if what == "nack":
                    body["delay_ms"] = self.random.choice((0, 20, 200))
                begin = time.monotonic()
                self.waiting[client.send(what, body)] = what, begin, entries

    def close(self, client, session):
        client.close()
        self.sink.add(type="session", session=session, event="close", t=time.monotonic(), group=self.settings["group"],
                      kind="group")


ROLES = {"publish": Publisher, "consume": Consumer, "subscribe": Subscriber, "letters": Letters, "member": Member}


class Troupe:
    """Actors in threads of this process, over one broker."""

    def __init__(self, broker, seed=1):
        self.broker, self.seed = broker, seed
        self.run = f"r{seed:x}{os.urandom(3).hex()}"
        self.sink = MemorySink()
        self.actors = {}    # role -> [actor]
        self._threads = {}
        self._count = 0
        self.faults = []    # exceptions of actors

    def start(self, role, **settings):
        self._count += 1
        port = self.broker.http_port if role == "publish" else self.broker.ws_port
        actor = ROLES[role]({"run": self.run, "port": port, "seed": self.seed * 1000 + self._count, "producer": self._count,
                             "consumer": self._count, "name": f"s{self._count}", **settings}, self.sink, Stop())
        thread = threading.Thread(target=self._run, args=(actor,), daemon=True)
        self.actors.setdefault(role, []).append(actor)
        self._threads[actor] = thread
        thread.start()
        return actor

    def _run(self, actor):
        try:
            actor.run()
        except (RuntimeError, V1Error, TimeoutError, ValueError, KeyError) as error:
            self.faults.append(f"{type(actor).__name__}: {error!r}")

    def stop(self, *roles):
        """Ends the actors of these roles, or all."""
        for role in roles or tuple(self.actors):
            for actor in self.actors.pop(role, []):
                actor.stop.stop()
                self._threads.pop(actor).join(2 * ANSWER_S)
                actor.stop.close()

    def crash(self, stage, instance=0):
        """Notes a death; call it before the deed."""
        self.sink.add(type="crash", stage=stage, instance=instance, t=time.monotonic(), signal=9)

    def seen(self, role):
        return [actor.seen for actor in self.actors[role]]

    def history(self):
        if self.faults:
            raise RuntimeError("; ".join(self.faults))
        return self.sink.history()
