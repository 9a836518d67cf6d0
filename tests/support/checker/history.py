"""The history: what clients did and saw, and what was done to the broker.

Ownership: a History owns its lists; load() reads files, nothing is written back.
Units: times are seconds of CLOCK_MONOTONIC of one host; producers and pseqs are integers (producer < 2^20, pseq < 2^40).
       A place is where a message is in the log, "seq-index"; here a tuple.
Errors: HistoryError, with file and line, for a line that is not of the form below.
Callers: one thread a History. Several files of one run are read as one history, in any order.

A file has one JSON object a line. "type" says what it is:
  publish  producer, first, count, invoke, end, result, seq, hashes   one try to publish the messages [first, first+count)
           result: ok (answered with success), fail (definitely refused), info (no answer, unknown)
           seq: number of the record, if the answer named one; end is null for info; hashes is optional
           Optional: topic; key (idempotency key, or id of the only message); duplicate (the answer said so);
           index (place of the first message is seq-index; null: the messages are not known to be together);
           status (409: refused because of its key)
  invoke   producer, first, count, invoke, [topic, key]     a publish has begun; without its publish line it counts as info
  deliver  session, t, ids, bad, seqs, hashes       one frame; ids = [producer, pseq, producer, pseq, ...]
           bad: contents that could not be parsed; seqs and hashes run parallel to the messages and are optional
           Where the client sees places: seqs = ["seq-index", ...], and in a group attempts = [attempt, ...]
  session  session, group, event, t                 open, close (orderly, read to the end), kill (unread bytes may be gone)
           until: when the broker knew of a kill at the latest; t without it
           kind: root (the default; shares unseen), sub (a subscriber: everything, in order), group (acks)
           of sub and group: topic (pattern), since ("seq-index" or earliest; latest counts from `from`),
           from ("seq-index" that the reply named), credit
  crash    stage, instance, t, signal               a process was killed or died
  stop     stage, instance, t                       a process was stopped (SIGSTOP) for a while
  move     stage, what, t                           a stage (or all) is scaled, restarted or killed from now on, until the next move
  ended    kind, t, code, answered                  the broker ended a connection. kind: http, root, v1, sse; code of a WebSocket;
           answered: no request was without its answer, and a stream ended in order
  refused  kind, t                                  nobody listened on the port; kind as in ended
  ack      group, session, id, attempt, invoke, end, result     result: confirmed, stale, info
           or, instead of id, attempt and result: items = [[producer, pseq, "seq-index", attempt, result], ...]
  nack     group, session, invoke, end, items       as in ack
  attempt  group, id, attempt, t                    a delivery that names its attempt
  gap      session, from, to, reason, t             from <= place < to may be missing
  dead     group, id, place, attempts, reason, t    a dead letter, as its subscriber saw it
  expired  id                                       may be missing: its time was over
  floor    group, seq, t                            all records below are done for the group, says the broker
  retained seq, t                                   what is below was discarded by retention
  nonce    key, nonce                               of one sealed unit; nonce may be a list
  bound    name, value, limit                       a measured figure and its limit
  drain    done, t                                  faults ended; done: everything acknowledged came within the deadline
"""

import json
from typing import NamedTuple, Optional

PSEQ_BITS = 40
RESULTS = ("ok", "fail", "info")
ACK_RESULTS = ("confirmed", "stale", "info")
KINDS = ("root", "sub", "group")


class HistoryError(Exception):
    """A line that is not part of a history."""


class Key(NamedTuple):
    """What a publish has beyond its messages."""

    topic: str = "default"
    key: Optional[str] = None
    duplicate: bool = False
    index: Optional[int] = 0
    status: Optional[int] = None


class Session(NamedTuple):
    """What the session of a subscriber or of a group's member has asked for."""

    opened: float
    topic: str = ">"
    since: Optional[tuple] = None   # everything at or below it was not asked for
    credit: Optional[int] = None


class Delivery(NamedTuple):
    """One message with its place; attempt is None for a subscriber."""

    t: float
    session: int
    message: int
    place: tuple
    attempt: Optional[int]


class Ack(NamedTuple):
    """An ack or a nack of one message. place: the message itself where places are not known."""

    group: str
    message: int
    attempt: Optional[int]
    invoke: float
    end: Optional[float]
    result: str
    session: Optional[int] = None
    place: object = None


class Dead(NamedTuple):
    """A dead letter."""

    t: float
    group: str
    message: int
    place: tuple
    attempts: int
    reason: Optional[str]


PLAIN = Key()


def id_of(producer, pseq):
    """One integer for a message."""
    return producer << PSEQ_BITS | pseq


def id_text(number):
    """producer:pseq, for people; a place as it is written."""
    if isinstance(number, tuple):
        return "-".join(map(str, number))
    return f"{number >> PSEQ_BITS}:{number & ((1 << PSEQ_BITS) - 1)}"


def place_of(text):
    """"seq-index" as a tuple."""
    seq, _, index = text.partition("-")
    return int(seq), int(index)


class History:
    """Everything that the rules look at, in the order in which it was added."""

    def __init__(self):
        self.publishes = []     # (first id, count, invoke, end or None, result, seq or None, hashes or None)
        self.keys = {}          # index in publishes -> Key, of those that have more than messages
        self.frames = []        # (session, t, [id, ...], bad, seqs or None, hashes or None)
        self.deliveries = []    # Delivery, of sessions that see places; these are in frames, too
        self.sessions = {}      # session -> group
        self.kinds = {}         # group -> kind
        self.opened = {}        # session -> Session
        self.session_ends = []  # (t, session, "close" or "kill")
        self.noticed = {}       # session that ended -> when the broker knew at the latest
        self.crashes = []       # (t, stage, instance)
        self.stops = []         # (t, stage, instance)
        self.moves = []         # (t, stage, what)
        self.ended = []         # (t, kind, code, answered)
        self.refused = []       # (t, kind)
        self.acks = []          # Ack
        self.nacks = []         # Ack
        self.attempts = []      # (t, group, id, attempt)
        self.gaps = []          # (t, session, from, to, reason)
        self.dead = []          # Dead
        self.expired = set()    # ids
        self.floors = []        # (t, group, seq)
        self.retained = 0       # what is below was discarded
        self.nonces = []        # (key, nonce)
        self.bounds = []        # (name, value, limit)
        self.drained = None
        self._begun = {}        # (first id, invoke) -> (count, Key or None), of publishes without a result yet

    @classmethod
    def load(cls, paths):
        """Reads files; sorts deliveries by time, since several consumers write several files."""
        history = cls()
        for path in paths:
            with open(path, "r", encoding="utf-8") as lines:
                for number, line in enumerate(lines, 1):
                    try:
                        history.add(json.loads(line))
                    except (ValueError, KeyError, TypeError) as error:
                        raise HistoryError(f"{path}:{number}: {error!r}") from None
        return history._finished()

    @classmethod
    def of(cls, entries):
        """From parsed lines."""
        history = cls()
        for entry in entries:
            history.add(entry)
        return history._finished()

    def _finished(self):
        """A publish that has begun and not ended is unknown."""
        for (first, invoke), (count, key) in self._begun.items():
            self._publish((first, count, invoke, None, "info", None, None), key)
        self._begun = {}
        return self

    def add(self, entry):
        """One parsed line."""
        kind = entry["type"]
        adder = self._ADDERS.get(kind)
        if adder is None:
            raise ValueError(f"unknown type {kind!r}")
        adder(self, entry)

    def publish(self, producer, first, count, invoke, end, result, seq=None, hashes=None, **key):
        if result not in RESULTS:
            raise ValueError(f"unknown result {result!r}")
        self._publish((id_of(producer, first), count, invoke, end, result, seq, hashes), Key(**key) if key else None)

    def _publish(self, entry, key):
        if key is not None and key != PLAIN:
            self.keys[len(self.publishes)] = key
        self.publishes.append(entry)

    def key_of(self, number):
        """The Key of a publish, by its index."""
        return self.keys.get(number, PLAIN)

    def deliver(self, session, t, ids, bad=(), seqs=None, hashes=None, attempts=None):
        """ids: [(producer, pseq), ...]; seqs: record numbers, or "seq-index" texts or tuples for each."""
        self._deliver(session, t, [producer << PSEQ_BITS | pseq for producer, pseq in ids], bad, seqs, hashes, attempts)

    def _deliver(self, session, t, ids, bad, seqs, hashes, attempts):
        if seqs and isinstance(seqs[0], (str, tuple)):
            seqs = [place_of(text) if isinstance(text, str) else text for text in seqs]
            group = self.sessions.get(session, "default")
            for at, (message, place) in enumerate(zip(ids, seqs)):
                attempt = attempts[at] if attempts else None
                self.deliveries.append(Delivery(t, session, message, place, attempt))
                if attempt is not None:
                    self.attempts.append((t, group, place, attempt))
        self.frames.append((session, t, ids, bad, seqs, hashes))

    def session(self, session, event, t, group="default", kind="root", until=None, **asked):
        if kind not in KINDS:
            raise ValueError(f"unknown kind {kind!r}")
        self.sessions[session] = group
        if event == "open":
            self.kinds[group] = kind
            self.opened[session] = Session(t, **asked)
        elif event in ("close", "kill"):
            self.session_ends.append((t, session, event))
            self.noticed[session] = until if until is not None else t
        else:
            raise ValueError(f"unknown session event {event!r}")

    def crash(self, stage, instance, t):
        self.crashes.append((t, stage, instance))

    def stop(self, stage, instance, t):
        self.stops.append((t, stage, instance))

    def move(self, stage, what, t):
        self.moves.append((t, stage, what))

    def end(self, kind, t, code=None, answered=True):
        self.ended.append((t, kind, code, answered))

    @staticmethod
    def _key(e):
        key = Key(e.get("topic", "default"), e.get("key"), bool(e.get("duplicate")), e.get("index", 0), e.get("status"))
        return key._replace(status=None) if key.status != 409 else key

    def _add_invoke(self, e):
        self._begun[id_of(e["producer"], e["first"]), e["invoke"]] = e["count"], self._key(e)

    def _add_publish(self, e):
        if e["result"] not in RESULTS:
            raise ValueError(f"unknown result {e['result']!r}")
        first = id_of(e["producer"], e["first"])
        self._begun.pop((first, e["invoke"]), None)
        self._publish((first, e["count"], e["invoke"], e.get("end"), e["result"], e.get("seq"), e.get("hashes")),
                      self._key(e))

    def _add_deliver(self, e):
        flat = e["ids"]
        self._deliver(e["session"], e["t"],
                      [producer << PSEQ_BITS | pseq for producer, pseq in zip(flat[::2], flat[1::2])],
                      e.get("bad", ()), e.get("seqs"), e.get("hashes"), e.get("attempts"))

    def _add_session(self, e):
        asked = {}
        if e.get("kind", "root") != "root":
            asked = {"topic": e.get("topic", ">"), "since": self._since(e), "credit": e.get("credit")}
        self.session(e["session"], e["event"], e["t"], e.get("group", "default"), e.get("kind", "root"), e.get("until"), **asked)

    @staticmethod
    def _since(e):
        """The place up to which nothing was asked for; None: the beginning."""
        if "from" in e:
            seq, index = place_of(e["from"])
            return (seq, index - 1) if index > 0 else (seq - 1, 1 << 32)
        since = e.get("since", "earliest")
        return None if since == "earliest" else place_of(since)

    def _add_crash(self, e):
        self.crash(e["stage"], e["instance"], e["t"])

    def _add_stop(self, e):
        self.stop(e["stage"], e["instance"], e["t"])

    def _add_move(self, e):
        self.move(e["stage"], e["what"], e["t"])

    def _add_ended(self, e):
        self.end(e["kind"], e["t"], e.get("code"), bool(e.get("answered", True)))

    def _add_refused(self, e):
        self.refused.append((e["t"], e["kind"]))

    @staticmethod
    def _acks(e):
        items = e["items"] if "items" in e else [[*e["id"], None, e["attempt"], e["result"]]]
        for producer, pseq, place, attempt, result in items:
            if result not in ACK_RESULTS:
                raise ValueError(f"unknown result {result!r}")
            message = id_of(producer, pseq)
            yield Ack(e["group"], message, attempt, e["invoke"], e.get("end"), result, e.get("session"),
                      place_of(place) if place else message)

    def _add_ack(self, e):
        self.acks.extend(self._acks(e))

    def _add_nack(self, e):
        self.nacks.extend(self._acks(e))

    def _add_attempt(self, e):
        self.attempts.append((e["t"], e["group"], id_of(*e["id"]), e["attempt"]))

    def _add_gap(self, e):
        self.gaps.append((e["t"], e["session"], place_of(e["from"]), place_of(e["to"]), e["reason"]))

    def _add_dead(self, e):
        self.dead.append(Dead(e["t"], e["group"], id_of(*e["id"]), place_of(e["place"]), e["attempts"], e.get("reason")))

    def _add_expired(self, e):
        self.expired.add(id_of(*e["id"]))

    def _add_floor(self, e):
        self.floors.append((e["t"], e["group"], e["seq"]))

    def _add_retained(self, e):
        self.retained = max(self.retained, e["seq"])

    def _add_nonce(self, e):
        nonces = e["nonce"] if isinstance(e["nonce"], list) else [e["nonce"]]
        self.nonces.extend((e["key"], nonce) for nonce in nonces)

    def _add_bound(self, e):
        self.bounds.append((e["name"], e["value"], e["limit"]))

    def _add_drain(self, e):
        self.drained = bool(e["done"])

    _ADDERS = {"invoke": _add_invoke, "publish": _add_publish, "deliver": _add_deliver, "session": _add_session,
               "crash": _add_crash, "stop": _add_stop, "move": _add_move, "ended": _add_ended, "refused": _add_refused,
               "ack": _add_ack, "nack": _add_nack, "attempt": _add_attempt, "gap": _add_gap, "dead": _add_dead,
               "expired": _add_expired, "floor": _add_floor, "retained": _add_retained, "nonce": _add_nonce,
               "bound": _add_bound, "drain": _add_drain}
