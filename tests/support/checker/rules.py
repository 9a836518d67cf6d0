"""The rules. Each is one function over an index of the history; its name and number are those of the fault catalogue.

Ownership: none; rules read the history and add findings to the report.
Units: seconds, messages.
Errors: none; a broken promise is a Finding.
Callers: check() only. A new rule is a function (history, index, options, report) in RULES.

   0 liveness      everything acknowledged arrived before the drain's deadline
   1 integrity     every delivered message was published, with the same bytes
   2 identity      a record number names one publish; a place names one message, in answers and deliveries alike
   3 lost          every acknowledged message was seen by every group and subscriber; in a group with acks each was
                   acked in the end, or is a dead letter
   4 failed        a publish that was definitely refused is not delivered
   5 order         per session first deliveries rise; a publish that began after another's end has a higher number
   6 gaps          record numbers are contiguous, but for publishes whose outcome is unknown; what retention took from
                   a reader was announced to it
   7 dup-publish   a message has two numbers only if an earlier try had an unknown outcome, and no key; a key has one
                   result within its window
   8 dup-deliver   a copy more than was published comes only after a disturbance: end of a dispatcher or a client.
                   With attempts: they count 1, 2, 3, ...; another one has a reason; none follows a confirmed ack
   9 ack-floor     a group's floor never falls, is not above a message that nobody acked and not below what acks imply;
                   no more is unacknowledged than max_ack_pending and the session's credit
  10 fencing       an ack of an attempt that is not the current one is stale, one of the current is not
  11 nonces        (key, nonce) is unique
  12 bounds        measured figures are within their limits; duplicates are counted
  13 dead-letter   a dead letter names its reason, comes after max_deliver attempts, once, and ends its message
  14 scope         nothing comes to a subscriber that its pattern and its `since` do not ask for
  15 connections   the broker ends only connections of the stage that is moved, and as documented

The rules 3, 5, 6, 8, 9, 10, 13, 14 of sessions that see places are in places.py, 7 with keys in keys.py, 15 in moves.py.

Disturbances. A client sees neither attempts nor numbers on the root endpoint. A message that was on its way when its
dispatcher died or was stopped, or its client left, comes again: late, and perhaps twice. So lateness (5) and copies (8)
are legal if such an event lies between the message's invoke (5) or its earlier delivery (8), less slack_s, and now.
A session that was killed may have taken messages with it that its socket had; see Options.killed_unread_max (3).
"""

from dataclasses import dataclass, field

from . import keys, moves, places
from .history import id_text
from .index import Index, acknowledged_messages, answered_places, copies_published, lost_text

IDS_SHOWN = 10


@dataclass
class Options:
    """What the run allows beyond the rules."""

    slack_s: float = 1.0            # an event is noted when it is caused; its effect may come so much later
    killed_unread_max: int = 0      # messages that each killed session may have taken with it
    duplicates_max: int = None      # messages, all in all; None: no bound
    disturbing_stages: tuple = ("dispatcher",)
    window_s: float = 120.0         # of idempotency keys
    ack_wait_s: float = 30.0
    max_deliver: int = None         # None: no dead letters
    max_ack_pending: int = None     # None: not checked. Counts a process, so only with one dispatcher
    extra_records: int = 0          # records that nobody in the history has published


@dataclass
class Finding:
    """One broken promise."""

    rule: int
    name: str
    text: str
    ids: list = field(default_factory=list)

    def __str__(self):
        shown = " ".join(id_text(number) for number in self.ids[:IDS_SHOWN])
        more = f" and {len(self.ids) - IDS_SHOWN} more" if len(self.ids) > IDS_SHOWN else ""
        return f"rule {self.rule} ({self.name}): {self.text}" + (f": {shown}{more}" if shown else "")


@dataclass
class Report:
    """The verdict and the figures of a run."""

    findings: list = field(default_factory=list)
    figures: dict = field(default_factory=dict)

    @property
    def ok(self):
        return not self.findings

    def rules(self):
        """Numbers of the broken rules."""
        return {finding.rule for finding in self.findings}

    def add(self, rule, name, text, ids=()):
        self.findings.append(Finding(rule, name, text, sorted(ids)))


def rule_liveness(history, _index, _options, report):
    if history.drained is False:
        report.add(0, "liveness", "not everything acknowledged arrived before the drain's deadline")


def hashes_published(history):
    """id -> set of hashes, for histories that carry them."""
    published = {}
    for first, _count, *_, hashes in history.publishes:
        for offset, value in enumerate(hashes or ()):
            published.setdefault(first + offset, set()).add(value)
    return published


def rule_integrity(history, index, _options, report):
    phantoms, corrupt, bad = set(), set(), []
    tries, published = index.tries, hashes_published(history)
    for _session, _t, ids, damaged, _seqs, hashes in history.frames:
        bad.extend(damaged)
        phantoms.update(message for message in ids if message not in tries)
        for message, value in zip(ids, hashes or ()):
            if message in published and value not in published[message]:
                corrupt.add(message)
    if phantoms:
        report.add(1, "integrity", f"{len(phantoms)} delivered but never published (phantom)", phantoms)
    if corrupt:
        report.add(1, "integrity", f"{len(corrupt)} delivered with other bytes (corrupt)", corrupt)
    if bad:
        report.add(1, "integrity", f"{len(bad)} contents damaged or foreign, first: {bad[0]!r:.120}")


def rule_identity(history, index, _options, report):
    numbers, divergent = {}, set()
    for number, (first, _count, _invoke, _end, result, seq, _hashes) in enumerate(history.publishes):
        at = history.key_of(number).index
        if result == "ok" and seq is not None and at is not None and numbers.setdefault((seq, at), first) != first:
            divergent.update((first, numbers[seq, at]))
    delivered = {}
    for _session, _t, ids, _bad, seqs, _hashes in history.frames:
        for message, seq in zip(ids, seqs or ()):
            key = tuple(seq) if isinstance(seq, list) else seq
            if delivered.setdefault(key, message) != message:
                divergent.update((message, delivered[key]))
    if divergent:
        report.add(2, "identity", f"{len(divergent)} share a record number with another", divergent)
    places = answered_places(history, index)
    moved = {message for message, place in ((d.message, d.place) for d in history.deliveries)
             if places.get(message, place) != place}
    if moved:
        report.add(2, "identity", f"{len(moved)} delivered from another place than the answer named", moved)


def rule_lost(history, index, options, report):
    acknowledged = acknowledged_messages(history)
    groups = set(history.sessions.values()) or {"default"}
    kills = sum(1 for _t, session, event in history.session_ends
                if event == "kill" and history.kinds.get(history.sessions[session], "root") == "root")
    allowance = kills * options.killed_unread_max
    topics = {number: key.topic for number, key in history.keys.items() if key.topic != "default"}
    elsewhere = {message for number in topics for message in
                 range(history.publishes[number][0], history.publishes[number][0] + history.publishes[number][1])}
    due = acknowledged - elsewhere
    total = 0
    for group in sorted(groups):
        if history.kinds.get(group, "root") != "root":
            continue
        lost = due - index.seen.get(group, {}).keys()
        total += len(lost)
        if len(lost) > allowance:
            report.add(3, "lost", f"{len(lost)} acknowledged, never seen by group {group} "
                                  f"({lost_text(lost, due, index.seen.get(group, {}))}; "
                                  f"{allowance} may have died with killed sessions)", lost)
    report.figures["acknowledged"] = len(acknowledged)
    report.figures["lost"] = total
    report.figures["killed_sessions"] = kills


def rule_failed(history, index, _options, report):
    publishes, wrong = history.publishes, set()
    refused = set()
    for first, count, _invoke, _end, result, *_ in publishes:
        if result == "fail":
            refused.update(range(first, first + count))
    for seen in index.seen.values():
        for message in refused & seen.keys():
            if all(publishes[number][4] == "fail" for number in index.tries_of(message)):
                wrong.add(message)
    if wrong:
        report.add(4, "failed", f"{len(wrong)} refused with an error, but delivered", wrong)


def order_keys(history, index):
    """publish index -> record number, of those publishes whose messages can only be in that record."""
    keys = [None] * len(history.publishes)
    for number, (first, _count, _invoke, _end, result, seq, _hashes) in enumerate(history.publishes):
        if result == "ok" and seq is not None and index.tries.get(first) == number and not history.key_of(number).duplicate:
            keys[number] = seq
    return keys


def rule_order_sessions(history, index, _options, report):
    publishes, keys, late = history.publishes, order_keys(history, index), set()
    high = {}
    excused = 0
    for session, t, ids, *_ in history.frames:
        group = history.sessions.get(session, "default")
        if history.kinds.get(group, "root") != "root":
            continue
        seen = index.seen[group]
        top = high.get(session, (-1, -1))
        for message in ids:
            number = index.tries.get(message, -1)
            if number < 0 or keys[number] is None or seen[message] != t:
                continue
            key = (keys[number], message)
            if key > top:
                top = key
            elif key < top:
                if index.disturbed(publishes[number][2], t):
                    excused += 1
                else:
                    late.add(message)
        high[session] = top
    report.figures["late_after_disturbance"] = excused
    if late:
        report.add(5, "order", f"{len(late)} delivered first after a later message of the same session", late)


def rule_order_publishes(history, index, _options, report):
    """Sweep by invoke time with the highest number that had been given by then: O(n log n). A retry may be answered with
    the number of the try before it."""
    done = [(invoke, end, seq, first)
            for number, (first, _count, invoke, end, result, seq, _hashes) in enumerate(history.publishes)
            if result == "ok" and seq is not None and not history.key_of(number).duplicate
            and (index.tries.get(first) == number or history.key_of(number).key is None)]
    by_invoke = sorted(done)
    by_end = sorted(done, key=lambda entry: entry[1])
    wrong, high, at = set(), -1, 0
    for invoke, _end, seq, first in by_invoke:
        while at < len(by_end) and by_end[at][1] < invoke:
            high = max(high, by_end[at][2])
            at += 1
        if seq < high:
            wrong.add(first)
    if wrong:
        report.add(5, "order", f"{len(wrong)} publishes have a lower record number than one that had ended before", wrong)


def rule_gaps(history, _index, options, report):
    numbers = {entry[5] for entry in history.publishes if entry[4] == "ok" and entry[5] is not None}
    unknown = sum(1 for entry in history.publishes if entry[4] == "info")
    # A repeat and a conflict have taken a number before they were found to be that; a dead letter is a record, too.
    other = sum(1 for key in history.keys.values() if key.duplicate or key.status == 409) + len(history.dead)
    missing = max(numbers) - min(numbers) + 1 - len(numbers) if numbers else 0
    report.figures["records"] = len(numbers)
    report.figures["unknown_publishes"] = unknown
    if missing > unknown + other + options.extra_records:
        report.add(6, "gaps", f"{missing} record numbers are missing, {unknown} publishes have an unknown outcome")


def rule_dup_publish(history, index, _options, report):
    publishes, wrong = history.publishes, set()
    for message, numbers in index.many.items():
        numbers = sorted(numbers, key=lambda number: publishes[number][2])
        if any(history.key_of(number).key for number in numbers):
            continue
        acknowledged = [number for number in numbers if publishes[number][4] == "ok"]
        # A try after a success, or two successes without an unknown outcome before the second.
        if len(acknowledged) > 1:
            before = publishes[acknowledged[1]][2]
            if not any(publishes[number][4] == "info" and publishes[number][2] < before for number in numbers):
                wrong.add(message)
    if wrong:
        report.add(7, "dup-publish", f"{len(wrong)} acknowledged twice without an unknown outcome before", wrong)


def rule_dup_deliver(history, index, options, report):
    wrong, duplicates, retried = set(), 0, 0
    for again in index.again.values():
        for message, times in again.items():
            extra = len(times) - max(1, copies_published(history, index, message))
            duplicates += len(times) - 1
            retried += len(times) - 1 - max(0, extra)
            excused = sum(1 for a, b in zip(times, times[1:]) if index.disturbed(a, b)) if extra > 0 else 0
            if extra > excused:
                wrong.add(message)
    report.figures["duplicates"] = duplicates
    report.figures["duplicates_of_retries"] = retried
    if wrong:
        report.add(8, "dup-deliver", f"{len(wrong)} delivered again without a disturbance", wrong)
    if options.duplicates_max is not None and duplicates > options.duplicates_max:
        report.add(12, "bounds", f"{duplicates} duplicates, at most {options.duplicates_max} are allowed")


def rule_nonces(history, _index, _options, report):
    repeated = len(history.nonces) - len(set(history.nonces))
    report.figures["nonces"] = len(history.nonces)
    if repeated:
        seen, example = set(), None
        for entry in history.nonces:
            if entry in seen:
                example = entry
                break
            seen.add(entry)
        report.add(11, "nonces", f"{repeated} repeated, first: key {example[0]} nonce {example[1]}")


def rule_bounds(history, _index, _options, report):
    for name, value, limit in history.bounds:
        if value > limit:
            report.add(12, "bounds", f"{name} is {value:g}, at most {limit:g} is allowed")


RULES = (rule_liveness, rule_integrity, rule_identity, rule_lost, rule_failed, rule_order_sessions,
         rule_order_publishes, rule_gaps, rule_dup_publish, rule_dup_deliver, rule_nonces, rule_bounds)


def check(history, options=None):
    """Every rule over the history; returns the Report."""
    options = options or Options()
    report = Report()
    index = Index(history, options)
    index.views = places.views(history)
    report.figures["delivered"] = sum(len(frame[2]) for frame in history.frames)
    report.figures["disturbances"] = len(index._events)
    for rule in RULES + keys.RULES + places.RULES + moves.RULES:
        rule(history, index, options, report)
    return report
