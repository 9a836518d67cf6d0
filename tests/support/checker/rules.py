"""The rules. Each is one function over an index of the history; its name and number are those of the fault catalogue.

Ownership: none; rules read the history and add findings to the report.
Units: seconds, messages.
Errors: none; a broken promise is a Finding.
Callers: check() only. A new rule is a function (history, index, options, report) in RULES.

   0 liveness      everything acknowledged arrived before the drain's deadline
   1 integrity     every delivered message was published, with the same bytes
   2 identity      a record number names one publish; a delivered number names the same message
   3 lost          every acknowledged message was seen by every group
   4 failed        a publish that was definitely refused is not delivered
   5 order         per session first deliveries rise; a publish that began after another's end has a higher number
   6 gaps          record numbers are contiguous, but for publishes whose outcome is unknown
   7 dup-publish   a message has two numbers only if an earlier try had an unknown outcome
   8 dup-deliver   a copy more than was published comes only after a disturbance: end of a dispatcher or a client
  10 fencing       an ack of an attempt that is not the current one is stale
  11 nonces        (key, nonce) is unique
  12 bounds        measured figures are within their limits; duplicates are counted

Disturbances. A client sees neither attempts nor numbers on the root endpoint. A message that was on its way when its
dispatcher died or was stopped, or its client left, comes again: late, and perhaps twice. So lateness (5) and copies (8)
are legal if such an event lies between the message's invoke (5) or its earlier delivery (8), less slack_s, and now.
A session that was killed may have taken messages with it that its socket had; see Options.killed_unread_max (3).
"""

from bisect import bisect_left
from dataclasses import dataclass, field

from .history import id_text

IDS_SHOWN = 10


@dataclass
class Options:
    """What the run allows beyond the rules."""

    slack_s: float = 1.0            # an event is noted when it is caused; its effect may come so much later
    killed_unread_max: int = 0      # messages that each killed session may have taken with it
    duplicates_max: int = None      # messages, all in all; None: no bound
    disturbing_stages: tuple = ("dispatcher",)


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


class Index:
    """What several rules need, computed once."""

    def __init__(self, history, options):
        self.tries = {}         # id -> index of its publish; -1: several, see `many`
        self.many = {}          # id -> [index of publish, ...]
        self._index_publishes(history.publishes)
        self.seen = {}          # group -> {id: time of the first delivery}
        self.again = {}         # group -> {id: [time of every delivery, ...]} of those delivered more than once
        history.frames.sort(key=lambda frame: frame[1])
        self._index_frames(history)
        events = [t for t, stage, _ in history.crashes + history.stops if stage in options.disturbing_stages]
        events += [t for t, _, _ in history.session_ends]
        self._events = sorted(events)
        self._slack = options.slack_s

    def _index_publishes(self, publishes):
        tries, many = self.tries, self.many
        for number, entry in enumerate(publishes):
            first = entry[0]
            for message in range(first, first + entry[1]):
                known = tries.setdefault(message, number)
                if known == number:
                    continue
                if known >= 0:
                    many[message] = [known]
                    tries[message] = -1
                many[message].append(number)

    def _index_frames(self, history):
        for session, t, ids, *_ in history.frames:
            group = history.sessions.get(session, "default")
            seen = self.seen.setdefault(group, {})
            for message in ids:
                if message not in seen:
                    seen[message] = t
                else:
                    self.again.setdefault(group, {}).setdefault(message, [seen[message]]).append(t)

    def tries_of(self, message):
        """Indexes of all publishes of a message."""
        number = self.tries.get(message)
        if number is None:
            return []
        return [number] if number >= 0 else self.many[message]

    def disturbed(self, begin, end):
        """Whether a client or dispatcher went away between the two times."""
        at = bisect_left(self._events, begin - self._slack)
        return at < len(self._events) and self._events[at] <= end


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


def rule_identity(history, _index, _options, report):
    numbers, divergent = {}, set()
    for first, _count, _invoke, _end, result, seq, _hashes in history.publishes:
        if result == "ok" and seq is not None and numbers.setdefault(seq, first) != first:
            divergent.update((first, numbers[seq]))
    delivered = {}
    for _session, _t, ids, _bad, seqs, _hashes in history.frames:
        for message, seq in zip(ids, seqs or ()):
            key = tuple(seq) if isinstance(seq, list) else seq
            if delivered.setdefault(key, message) != message:
                divergent.update((message, delivered[key]))
    if divergent:
        report.add(2, "identity", f"{len(divergent)} share a record number with another", divergent)


def classify_lost(lost, acknowledged, seen):
    """Counts of prefix, middle and postfix: before the first, between, after the last seen of the same producer."""
    counts = {"prefix": 0, "middle": 0, "postfix": 0}
    ranges = {}
    for message in acknowledged:
        if message in seen:
            low, high = ranges.get(message >> 40, (message, message))
            ranges[message >> 40] = (min(low, message), max(high, message))
    for message in lost:
        low, high = ranges.get(message >> 40, (None, None))
        if low is None or message > high:
            counts["postfix"] += 1
        elif message < low:
            counts["prefix"] += 1
        else:
            counts["middle"] += 1
    return counts


def rule_lost(history, index, options, report):
    acknowledged = set()
    for first, count, _invoke, _end, result, *_ in history.publishes:
        if result == "ok":
            acknowledged.update(range(first, first + count))
    groups = set(history.sessions.values()) or {"default"}
    kills = sum(1 for _t, _session, event in history.session_ends if event == "kill")
    allowance = kills * options.killed_unread_max
    total = 0
    for group in sorted(groups):
        lost = acknowledged - index.seen.get(group, {}).keys()
        total += len(lost)
        if len(lost) > allowance:
            split = classify_lost(lost, acknowledged, index.seen.get(group, {}))
            text = ", ".join(f"{count} {name}" for name, count in split.items() if count)
            report.add(3, "lost", f"{len(lost)} acknowledged, never seen by group {group} ({text}; "
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
        if result == "ok" and seq is not None and index.tries.get(first) == number:
            keys[number] = seq
    return keys


def rule_order_sessions(history, index, _options, report):
    publishes, keys, late = history.publishes, order_keys(history, index), set()
    high = {}
    excused = 0
    for session, t, ids, *_ in history.frames:
        seen = index.seen[history.sessions.get(session, "default")]
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


def rule_order_publishes(history, _index, _options, report):
    """Sweep by invoke time with the highest number that had been given by then: O(n log n)."""
    done = [(invoke, end, seq, first) for first, _count, invoke, end, result, seq, _hashes in history.publishes
            if result == "ok" and seq is not None]
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


def rule_gaps(history, _index, _options, report):
    numbers = {entry[5] for entry in history.publishes if entry[4] == "ok" and entry[5] is not None}
    unknown = sum(1 for entry in history.publishes if entry[4] == "info")
    missing = max(numbers) - min(numbers) + 1 - len(numbers) if numbers else 0
    report.figures["records"] = len(numbers)
    report.figures["unknown_publishes"] = unknown
    if missing > unknown:
        report.add(6, "gaps", f"{missing} record numbers are missing, {unknown} publishes have an unknown outcome")


def rule_dup_publish(history, index, _options, report):
    publishes, wrong = history.publishes, set()
    for message, numbers in index.many.items():
        numbers = sorted(numbers, key=lambda number: publishes[number][2])
        acknowledged = [number for number in numbers if publishes[number][4] == "ok"]
        # A try after a success, or two successes without an unknown outcome before the second.
        if len(acknowledged) > 1:
            before = publishes[acknowledged[1]][2]
            if not any(publishes[number][4] == "info" and publishes[number][2] < before for number in numbers):
                wrong.add(message)
    if wrong:
        report.add(7, "dup-publish", f"{len(wrong)} acknowledged twice without an unknown outcome before", wrong)


def rule_dup_deliver(history, index, options, report):
    publishes, wrong, duplicates, retried = history.publishes, set(), 0, 0
    for again in index.again.values():
        for message, times in again.items():
            copies = sum(1 for number in index.tries_of(message) if publishes[number][4] != "fail")
            extra = len(times) - max(1, copies)
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


def rule_fencing(history, _index, _options, report):
    attempts, wrong = {}, set()
    for t, group, message, attempt in history.attempts:
        attempts.setdefault((group, message), []).append((t, attempt))
    for group, message, attempt, invoke, _end, result in history.acks:
        # Times at clients are later than the broker's: only an attempt seen before the ack began counts.
        known = [number for t, number in attempts.get((group, message), []) if t < invoke]
        if result == "confirmed" and known and attempt < max(known):
            wrong.add(message)
    if wrong:
        report.add(10, "fencing", f"{len(wrong)} acks of an old attempt were confirmed", wrong)


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
         rule_order_publishes, rule_gaps, rule_dup_publish, rule_dup_deliver, rule_fencing, rule_nonces, rule_bounds)


def check(history, options=None):
    """Every rule over the history; returns the Report."""
    options = options or Options()
    report = Report()
    index = Index(history, options)
    report.figures["delivered"] = sum(len(frame[2]) for frame in history.frames)
    report.figures["disturbances"] = len(index._events)
    for rule in RULES:
        rule(history, index, options, report)
    return report
