"""A broker in a hundred lines, with its clients, in virtual time: what the checker must pass, and, with one switch, what it
must catch. Nothing here talks to a real broker.

Ownership: run() makes a model and returns its history.
Units: virtual seconds.
Errors: none.
Callers: test_mutants.py.

The model keeps records in a log (a list), answers a publish when its record is synced, delivers to two subscribers and a
group of three members, forgets what a power cut takes, and discards old records. Each mutant of MUTANTS changes one `if`.
"""

import random
from dataclasses import dataclass, field

from checker import History

# Every way in which the model can be broken, and the rule that it breaks.
MUTANTS = {
    "answers before the record is synced": 3,
    "drops the last record on a restart": 3,
    "reuses the number of the last record after a restart": 2,
    "answers with the number of the record before": 2,
    "delivers other bytes": 1,
    "delivers what was never published": 1,
    "leaves out the second message of a batch": 3,
    "loses a group's pending messages on a take-over": 3,
    "forgets a message instead of making it a dead letter": 3,
    "skips one record when a subscriber resumes": 3,
    "announces a gap over what is there and skips it": 3,
    "keeps and delivers what it refused": 4,
    "reorders two records for a subscriber": 5,
    "reorders two first deliveries of a member": 5,
    "discards old records without a gap": 6,
    "keeps a repeat inside the idempotency window": 7,
    "begins the idempotency window anew on a restart": 7,
    "accepts another body under a known key": 7,
    "answers a new message as a repeat": 7,
    "refuses a new key as a conflict": 7,
    "repeats the cursor's message when a subscriber resumes": 8,
    "delivers again after a confirmed ack": 8,
    "forgets confirmed acks on a restart": 8,
    "delivers again without a reason": 8,
    "delivers again with the same attempt": 8,
    "skips an attempt": 8,
    "lets a group's floor fall": 9,
    "lets the floor pass what nobody acked": 9,
    "keeps the floor below what was acked": 9,
    "holds more than max_ack_pending": 9,
    "holds more than the credit": 9,
    "counts stale acks": 10,
    "confirms an ack of what it never gave": 10,
    "refuses good acks as stale": 10,
    "names no reason in a dead letter": 13,
    "makes a dead letter too early": 13,
    "makes two dead letters of one message": 13,
    "delivers a message of another topic": 14,
}

WINDOW_S, ACK_WAIT_S, MAX_DELIVER, PENDING_MAX, CREDIT = 20.0, 2.0, 4, 12, 6
TOPICS = ("jobs.eu", "jobs.us", "logs")
KEEP_RECORDS = 30


@dataclass
class Record:
    seq: int
    topic: str
    messages: list  # pseqs
    t: float
    synced: bool = True


@dataclass
class Reader:
    """A subscriber: everything of its pattern."""

    name: str
    topic: str
    session: int = 0
    cursor: tuple = (0, -1)


@dataclass
class Group:
    """Deliveries of the group `workers`."""

    cursor: int = 0                                 # next record to take
    ready: list = field(default_factory=list)       # (place, message, attempt)
    flight: dict = field(default_factory=dict)      # place -> (session, attempt, t, message)
    done: set = field(default_factory=set)
    floor: int = 1


class Model:
    def __init__(self, seed, mutant=None, restarts=True, retention=True):
        self.random = random.Random(seed)
        self.mutant, self.restarts, self.retention = mutant, restarts, retention
        self.history = History()
        self.t = 1.0
        self.log, self.next_seq, self.floor = [], 1, 1
        self.keys = {}          # key -> (first, place, t)
        self.topics = {}        # first pseq of a publish -> topic
        self.group = Group()
        self.readers = [Reader("all", ">"), Reader("jobs", "jobs.*")]
        self.members = []
        self.sessions = self.pseq = 0
        self.fired = 0          # how often the mutant did its deed

    def broken(self, name, chance=1.0):
        """Whether this is the moment of the mutant of that name."""
        assert name in MUTANTS, name
        hit = self.mutant == name and self.random.random() < chance
        self.fired += hit
        return hit

    def step(self, least=0.001, most=0.02):
        self.t += self.random.uniform(least, most)
        return self.t

    # ---- publish ----

    def store(self, topic, messages, synced=True):
        record = Record(self.next_seq, topic, messages, self.t, synced)
        self.next_seq += 1
        self.log.append(record)
        return record

    def publish(self, key=None, first=None, count=None):
        """One request; with a chance its answer is lost, and it is made again with its key."""
        if first is None:
            first, count = self.pseq, self.random.randint(1, 3)
            self.pseq += count
            topic = self.random.choice(TOPICS)
            key = self.random.random() < 0.6 and f"key-{first}" or None
        else:
            topic = self.topics[first]
        self.topics[first] = topic
        invoke = self.step()
        if self.random.random() < 0.05:
            return self.refuse(first, count, topic, invoke)
        place, duplicate, conflict = self.accept(key, first, count, topic)
        end = self.step()
        lost = self.random.random() < 0.15
        more = {"topic": topic, "key": key, "duplicate": duplicate, "index": place[1], "status": 409 if conflict else None}
        seq = place[0] - (self.broken("answers with the number of the record before", 0.2) and place[0] > 1)
        if lost:
            self.history.publish(1, first, count, invoke, None, "info", **{**more, "duplicate": False, "status": None})
            if key:
                self.pause_sometimes()
                self.publish(key, first, count)
        elif conflict:
            self.history.publish(1, first, count, invoke, end, "fail", **more)
        else:
            self.history.publish(1, first, count, invoke, end, "ok", seq, **more)
            if key and self.random.random() < 0.2:
                self.other_body(key)
        return None

    def accept(self, key, first, count, topic):
        """(place, duplicate, conflict)"""
        known = self.keys.get(key) if key else None
        if known and self.t - known[2] > WINDOW_S:
            known = None
        if known and self.broken("keeps a repeat inside the idempotency window", 0.5):
            known = None
        if known:
            self.next_seq += 1      # a repeat has taken a number
            return known[1], True, known[0] != first and not self.broken("accepts another body under a known key")
        if key and self.broken("refuses a new key as a conflict", 0.1):
            return (0, 0), False, True
        if key and self.log and self.broken("answers a new message as a repeat", 0.1):
            return (self.log[-1].seq, 0), True, False
        record = self.store(topic, list(range(first, first + count)),
                            not self.broken("answers before the record is synced", 0.3))
        if key:
            self.keys[key] = (first, (record.seq, 0), self.t)
        return (record.seq, 0), False, False

    def refuse(self, first, count, topic, invoke):
        if self.broken("keeps and delivers what it refused"):
            self.store(topic, list(range(first, first + count)))
        self.history.publish(1, first, count, invoke, self.step(), "fail", topic=topic)

    def other_body(self, key):
        """The key again, for another message."""
        first, self.pseq = self.pseq, self.pseq + 1
        invoke = self.step()
        place, duplicate, conflict = self.accept(key, first, 1, "logs")
        result, seq = ("fail", None) if conflict else ("ok", place[0])
        self.history.publish(1, first, 1, invoke, self.step(), result, seq, topic="logs", key=key, duplicate=duplicate,
                             index=place[1], status=409 if conflict else None)

    def pause_sometimes(self):
        if self.restarts and self.random.random() < 0.2:
            self.restart()

    # ---- sessions ----

    def open(self, group, kind, **asked):
        self.sessions += 1
        self.history.session(self.sessions, "open", self.step(), group=group, kind=kind, **asked)
        return self.sessions

    def close(self, session):
        self.history.session(session, "close", self.step(), group=self.history.sessions[session],
                             kind=self.history.kinds[self.history.sessions[session]])

    def open_reader(self, reader):
        since = reader.cursor if reader.cursor > (0, -1) else None
        reader.session = self.open(reader.name, "sub", topic=reader.topic, since=since)
        if since and self.broken("skips one record when a subscriber resumes"):
            reader.cursor = (reader.cursor[0] + 1, 1 << 32)
        if since and self.broken("repeats the cursor's message when a subscriber resumes", 0.5):
            reader.cursor = (reader.cursor[0], reader.cursor[1] - 1)

    def open_members(self):
        while len(self.members) < 3:
            self.members.append(self.open("workers", "group", topic="jobs.*", credit=CREDIT))

    def leave(self, session):
        """A member goes; what it had comes back."""
        self.close(session)
        self.members.remove(session)
        for place, (holder, attempt, _t, message) in list(self.group.flight.items()):
            if holder == session:
                del self.group.flight[place]
                if not self.broken("loses a group's pending messages on a take-over", 0.5):
                    self.come_back(place, message, attempt)

    # ---- delivery ----

    def wanted(self, topic, pattern):
        return pattern == ">" or topic.startswith("jobs.") or self.broken("delivers a message of another topic", 0.1)

    def read(self, reader, records_max=3):
        """The next records for a subscriber, one frame each."""
        if reader.cursor[0] < self.floor - 1:
            if not self.broken("discards old records without a gap"):
                low = reader.cursor[0], reader.cursor[1] + 1
                self.history.gaps.append((self.step(), reader.session, low, (self.floor, 0), "retention"))
            reader.cursor = (self.floor - 1, 1 << 32)
        records = [r for r in self.log if (r.seq, len(r.messages) - 1) > reader.cursor][:records_max]
        if len(records) > 1 and self.broken("reorders two records for a subscriber", 0.3):
            records[0], records[1] = records[1], records[0]
        for record in records:
            if self.broken("announces a gap over what is there and skips it", 0.05):
                self.history.gaps.append((self.step(), reader.session, (record.seq, 0), (record.seq + 1, 0), "retention"))
                continue
            places = [((record.seq, i), message) for i, message in enumerate(record.messages)
                      if (record.seq, i) > reader.cursor or len(records) > 1]
            if self.broken("leaves out the second message of a batch", 0.2):
                places = places[:1] + places[2:]
            if places and self.wanted(record.topic, reader.topic):
                self.frame(reader.session, places)
        if records:
            reader.cursor = max((r.seq, len(r.messages) - 1) for r in records)

    def frame(self, session, places, attempts=None):
        ids = [(1, message) for _place, message in places]
        bad = ["damaged"] if self.broken("delivers other bytes", 0.02) else []
        if self.broken("delivers what was never published", 0.02):
            ids[0] = (9, 9)
        self.history.deliver(session, self.step(), ids, bad, [place for place, _message in places], attempts=attempts)

    def fill(self):
        """Takes records into the group, as far as there are some."""
        group = self.group
        for record in self.log:
            if record.seq >= group.cursor and record.topic.startswith("jobs."):
                group.ready += [((record.seq, i), m, 1) for i, m in enumerate(record.messages)
                                if (record.seq, i) not in group.done]
        if self.log:
            group.cursor = max(group.cursor, self.log[-1].seq + 1)
        if len(group.ready) > 1 and self.broken("reorders two first deliveries of a member", 0.2):
            group.ready[0], group.ready[1] = group.ready[1], group.ready[0]

    def hand_out(self):
        group = self.group
        self.fill()
        for session in self.members:
            held = sum(1 for holder, *_ in group.flight.values() if holder == session)
            room = min(PENDING_MAX - len(group.flight), CREDIT - held)
            if self.mutant == "holds more than max_ack_pending":
                room = CREDIT - held
                self.fired += 1
            if self.broken("holds more than the credit"):
                room = PENDING_MAX - len(group.flight)
            take, group.ready = group.ready[:max(0, room)], group.ready[max(0, room):]
            for place, message, attempt in take:
                group.flight[place] = (session, attempt, self.t, message)
            if take:
                self.frame(session, [entry[:2] for entry in take], [entry[2] for entry in take])

    def come_back(self, place, message, attempt):
        """Not acked: once more, or a dead letter."""
        last = attempt >= MAX_DELIVER or attempt >= 2 and self.broken("makes a dead letter too early", 0.5)
        if not last:
            attempt += 1
            attempt -= self.broken("delivers again with the same attempt", 0.3)
            attempt += self.broken("skips an attempt", 0.3)
            self.group.ready.insert(0, (place, message, attempt))
            return
        self.group.done.add(place)
        if self.broken("forgets a message instead of making it a dead letter"):
            return
        reason = None if self.broken("names no reason in a dead letter") else "max_deliver"
        for _ in range(1 + self.broken("makes two dead letters of one message")):
            self.history.add({"type": "dead", "group": "workers", "id": [1, message], "place": "%d-%d" % place,
                              "attempts": attempt, "reason": reason, "t": self.step()})

    def ack(self, place, session, attempt, message):
        group = self.group
        invoke = self.step()
        holder = group.flight.get(place)
        good = holder is not None and holder[:2] == (session, attempt)
        if good and self.broken("refuses good acks as stale", 0.1):
            good = False
        elif good:
            del group.flight[place]
            if self.broken("delivers again after a confirmed ack", 0.05):
                group.ready.append((place, message, attempt + 1))
            else:
                group.done.add(place)
        elif self.broken("counts stale acks"):
            good = True
        self.note_ack(place, session, attempt, message, invoke, "confirmed" if good else "stale")

    def note_ack(self, place, session, attempt, message, invoke, result, nack=False):
        self.history.add({"type": "nack" if nack else "ack", "group": "workers", "session": session, "invoke": invoke,
                          "end": self.step(), "items": [[1, message, "%d-%d" % place, attempt, result]]})

    def nack(self, place, session, attempt, message):
        invoke = self.step()
        del self.group.flight[place]
        self.note_ack(place, session, attempt, message, invoke, "confirmed", nack=True)
        self.come_back(place, message, attempt)

    def work(self, poison=0.15):
        """Members ack most of what they hold, nack some, and let some wait."""
        for place, (session, attempt, t, message) in list(self.group.flight.items()):
            dice = 0.0 if place[0] % 17 == 3 else self.random.random()      # some are poison
            if self.broken("confirms an ack of what it never gave", 0.2):
                other = self.members[0] if self.members[0] != session else self.members[1]
                del self.group.flight[place]
                self.group.done.add(place)
                self.note_ack(place, other, attempt, message, self.step(), "confirmed")
            elif self.t - t > ACK_WAIT_S:
                del self.group.flight[place]
                self.come_back(place, message, attempt)
                self.late_ack(place, session, attempt, message)
            elif dice < poison:
                self.nack(place, session, attempt, message)
            elif dice < 0.8:
                self.ack(place, session, attempt, message)
            elif self.broken("delivers again without a reason", 0.3):
                del self.group.flight[place]
                self.group.ready.insert(0, (place, message, attempt + 1))

    def late_ack(self, place, session, attempt, message):
        """The message has gone to somebody else by now."""
        if self.random.random() < 0.7:
            self.hand_out()
        if place in self.group.flight:
            self.ack(place, session, attempt, message)

    def open_records(self):
        """Numbers of those that the group has not done."""
        return [r.seq for r in self.log if r.topic.startswith("jobs.")
                and any((r.seq, i) not in self.group.done for i in range(len(r.messages)))]

    def note_floor(self):
        group = self.group
        open_places = self.open_records()
        floor = max(group.floor, min(open_places, default=self.next_seq))
        group.floor = floor
        if floor > 5 and self.broken("lets a group's floor fall", 0.5):
            floor -= 3
        if open_places and self.broken("lets the floor pass what nobody acked"):
            floor += 2
        if self.broken("keeps the floor below what was acked"):
            floor = 1
        self.history.floors.append((self.step(), "workers", floor))

    # ---- faults ----

    def restart(self):
        """A power cut of everything."""
        for session in list(self.members):
            self.close(session)
        for reader in self.readers:
            self.close(reader.session)
        for stage in ("ingest", "encryptor", "dispatcher"):
            self.history.crash(stage, 0, self.step())
        self.log = [record for record in self.log if record.synced]
        if self.log and self.broken("drops the last record on a restart"):
            del self.log[-1]
        if self.log and self.broken("reuses the number of the last record after a restart"):
            self.next_seq = self.log[-1].seq
            del self.log[-1]
        if self.broken("begins the idempotency window anew on a restart"):
            self.keys.clear()
        group = self.group
        if self.broken("forgets confirmed acks on a restart"):
            group.done = {place for place in group.done if self.random.random() < 0.9}
            group.cursor = self.floor
        self.members = []
        for place, (_session, attempt, _t, message) in group.flight.items():
            self.come_back(place, message, attempt)
        group.flight = {}
        self.t += 2.0
        for reader in self.readers:
            self.open_reader(reader)
        self.open_members()

    def retain(self):
        """Discards what the group does not need any more."""
        keep = min(self.open_records(), default=self.next_seq)
        while len(self.log) > KEEP_RECORDS and self.log[0].seq < keep:
            self.floor = self.log[0].seq + 1
            del self.log[0]
        self.history.retained = self.floor

    # ---- the course ----

    def run(self, steps=600):
        for reader in self.readers:
            self.open_reader(reader)
        self.open_members()
        for _ in range(steps):
            dice = self.random.random()
            if dice < 0.35:
                self.publish()
            elif dice < 0.5:
                self.read(self.random.choice(self.readers))
            elif dice < 0.7:
                self.hand_out()
            elif dice < 0.91:
                self.work()
                self.t += 0.1
            elif dice < 0.93:
                self.leave(self.random.choice(self.members))
                self.open_members()
            elif dice < 0.95:
                reader = self.random.choice(self.readers)
                self.close(reader.session)
                self.open_reader(reader)
            elif dice < 0.96 and self.restarts:
                self.restart()
            elif dice < 0.98 and self.retention:
                self.retain()
            else:
                self.t += 1.0
                self.note_floor()
        self.drain()
        return self.history

    def drain(self):
        for _ in range(400):
            self.hand_out()
            self.work(poison=0.0)
            self.t += 0.5
        for reader in self.readers:
            self.read(reader, records_max=len(self.log) + 1)
        self.note_floor()
        self.history.drained = True


def run(seed, mutant=None, restarts=True, retention=True):
    """The model, for better or worse."""
    model = Model(seed, mutant, restarts, retention)
    model.run()
    return model
