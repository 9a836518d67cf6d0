"""The history: what clients did and saw, and what was done to the broker.

Ownership: a History owns its lists; load() reads files, nothing is written back.
Units: times are seconds of CLOCK_MONOTONIC of one host; producers and pseqs are integers (producer < 2^20, pseq < 2^40).
Errors: HistoryError, with file and line, for a line that is not of the form below.
Callers: one thread a History. Several files of one run are read as one history, in any order.

A file has one JSON object a line. "type" says what it is:
  publish  producer, first, count, invoke, end, result, seq, hashes   one try to publish the messages [first, first+count)
           result: ok (answered with success), fail (definitely refused), info (no answer, unknown)
           seq: number of the record, if the answer named one; end is null for info; hashes is optional
  invoke   producer, first, count, invoke           a publish has begun; without its publish line it counts as info
  deliver  session, t, ids, bad, seqs, hashes       one frame; ids = [producer, pseq, producer, pseq, ...]
           bad: contents that could not be parsed; seqs and hashes run parallel to the messages and are optional
  session  session, group, event, t                 open, close (orderly, read to the end), kill (unread bytes may be gone)
  crash    stage, instance, t, signal               a process was killed or died
  stop     stage, instance, t                       a process was stopped (SIGSTOP) for a while
  ack      group, session, id, attempt, invoke, end, result     result: confirmed, stale, info
  attempt  group, id, attempt, t                    a delivery that names its attempt
  nonce    key, nonce                               of one sealed unit; nonce may be a list
  bound    name, value, limit                       a measured figure and its limit
  drain    done, t                                  faults ended; done: everything acknowledged came within the deadline
"""

import json

PSEQ_BITS = 40
RESULTS = ("ok", "fail", "info")


class HistoryError(Exception):
    """A line that is not part of a history."""


def id_of(producer, pseq):
    """One integer for a message."""
    return producer << PSEQ_BITS | pseq


def id_text(number):
    """producer:pseq, for people."""
    return f"{number >> PSEQ_BITS}:{number & ((1 << PSEQ_BITS) - 1)}"


class History:
    """Everything that the rules look at, in the order in which it was added."""

    def __init__(self):
        self.publishes = []     # (first id, count, invoke, end or None, result, seq or None, hashes or None)
        self.frames = []        # (session, t, [id, ...], bad, seqs or None, hashes or None)
        self.sessions = {}      # session -> group
        self.session_ends = []  # (t, session, "close" or "kill")
        self.crashes = []       # (t, stage, instance)
        self.stops = []         # (t, stage, instance)
        self.acks = []          # (group, id, attempt, invoke, end, result)
        self.attempts = []      # (t, group, id, attempt)
        self.nonces = []        # (key, nonce)
        self.bounds = []        # (name, value, limit)
        self.drained = None
        self._begun = {}        # (first id, invoke) -> count, of publishes without a result yet

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
        for (first, invoke), count in history._begun.items():
            history.publishes.append((first, count, invoke, None, "info", None, None))
        return history

    def add(self, entry):
        """One parsed line."""
        kind = entry["type"]
        adder = self._ADDERS.get(kind)
        if adder is None:
            raise ValueError(f"unknown type {kind!r}")
        adder(self, entry)

    def publish(self, producer, first, count, invoke, end, result, seq=None, hashes=None):
        if result not in RESULTS:
            raise ValueError(f"unknown result {result!r}")
        self.publishes.append((id_of(producer, first), count, invoke, end, result, seq, hashes))

    def deliver(self, session, t, ids, bad=(), seqs=None, hashes=None):
        """ids: [(producer, pseq), ...]"""
        self.frames.append((session, t, [producer << PSEQ_BITS | pseq for producer, pseq in ids], bad, seqs, hashes))

    def session(self, session, event, t, group="default"):
        self.sessions[session] = group
        if event in ("close", "kill"):
            self.session_ends.append((t, session, event))
        elif event != "open":
            raise ValueError(f"unknown session event {event!r}")

    def crash(self, stage, instance, t):
        self.crashes.append((t, stage, instance))

    def stop(self, stage, instance, t):
        self.stops.append((t, stage, instance))

    def _add_invoke(self, e):
        self._begun[id_of(e["producer"], e["first"]), e["invoke"]] = e["count"]

    def _add_publish(self, e):
        self._begun.pop((id_of(e["producer"], e["first"]), e["invoke"]), None)
        self.publish(e["producer"], e["first"], e["count"], e["invoke"], e.get("end"), e["result"], e.get("seq"),
                     e.get("hashes"))

    def _add_deliver(self, e):
        flat = e["ids"]
        self.frames.append((e["session"], e["t"],
                            [producer << PSEQ_BITS | pseq for producer, pseq in zip(flat[::2], flat[1::2])],
                            e.get("bad", ()), e.get("seqs"), e.get("hashes")))

    def _add_session(self, e):
        self.session(e["session"], e["event"], e["t"], e.get("group", "default"))

    def _add_crash(self, e):
        self.crash(e["stage"], e["instance"], e["t"])

    def _add_stop(self, e):
        self.stop(e["stage"], e["instance"], e["t"])

    def _add_ack(self, e):
        self.acks.append((e["group"], id_of(*e["id"]), e["attempt"], e["invoke"], e.get("end"), e["result"]))

    def _add_attempt(self, e):
        self.attempts.append((e["t"], e["group"], id_of(*e["id"]), e["attempt"]))

    def _add_nonce(self, e):
        nonces = e["nonce"] if isinstance(e["nonce"], list) else [e["nonce"]]
        self.nonces.extend((e["key"], nonce) for nonce in nonces)

    def _add_bound(self, e):
        self.bounds.append((e["name"], e["value"], e["limit"]))

    def _add_drain(self, e):
        self.drained = bool(e["done"])

    _ADDERS = {"invoke": _add_invoke, "publish": _add_publish, "deliver": _add_deliver, "session": _add_session, "crash": _add_crash,
               "stop": _add_stop, "ack": _add_ack, "attempt": _add_attempt, "nonce": _add_nonce,
               "bound": _add_bound, "drain": _add_drain}
