"""What several rules need, computed once.

Ownership: an Index borrows its history.
Units: seconds, messages.
Errors: none.
Callers: check(), and the rules.
"""

from bisect import bisect_left


class Index:
    """What several rules need, computed once."""

    def __init__(self, history, options):
        self.tries = {}         # id -> index of its publish; -1: several, see `many`
        self.many = {}          # id -> [index of publish, ...]
        self._index_publishes(history.publishes)
        self.seen = {}          # group -> {id: time of the first delivery}
        self.again = {}         # root group -> {id: [time of every delivery, ...]} of those delivered more than once
        history.frames.sort(key=lambda frame: frame[1])
        self._index_frames(history)
        events = [t for t, stage, _ in history.crashes + history.stops if stage in options.disturbing_stages]
        events += [t for t, _, _ in history.session_ends]
        self._events = sorted(events)
        self._slack = options.slack_s
        # Consumers that see places are judged by their own ends.
        self._stage_events = sorted(t for t, stage, _ in history.crashes + history.stops
                                    if stage in options.disturbing_stages)

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
            root = history.kinds.get(group, "root") == "root"
            for message in ids:
                if message not in seen:
                    seen[message] = t
                elif root:
                    self.again.setdefault(group, {}).setdefault(message, [seen[message]]).append(t)

    def tries_of(self, message):
        """Indexes of all publishes of a message."""
        number = self.tries.get(message)
        if number is None:
            return []
        return [number] if number >= 0 else self.many[message]

    def disturbed(self, begin, end):
        """Whether a client or dispatcher went away between the two times."""
        return self._between(self._events, begin, end)

    def stage_disturbed(self, begin, end):
        """Whether a dispatcher went away between the two times."""
        return self._between(self._stage_events, begin, end)

    def _between(self, events, begin, end):
        at = bisect_left(events, begin - self._slack)
        return at < len(events) and events[at] <= end


def answered_places(history, index):
    """message -> place, of those whose only accepted try was answered."""
    places = {}
    for number, (first, count, _invoke, _end, result, seq, _hashes) in enumerate(history.publishes):
        at = history.key_of(number).index
        if result != "ok" or seq is None or at is None:
            continue
        for offset in range(count):
            tries = index.tries_of(first + offset)
            if len(tries) == 1 or all(history.publishes[other][4] == "fail" for other in tries if other != number):
                places[first + offset] = (seq, at + offset)
    return places


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


def acknowledged_messages(history):
    """Those that were answered with success, but for those whose time was over."""
    acknowledged = set()
    for first, count, _invoke, _end, result, *_ in history.publishes:
        if result == "ok":
            acknowledged.update(range(first, first + count))
    return acknowledged - history.expired


def lost_text(lost, acknowledged, seen):
    split = classify_lost(lost, acknowledged, seen)
    return ", ".join(f"{count} {name}" for name, count in split.items() if count)


def copies_published(history, index, message):
    """How many copies of a message may exist: tries without a key count one each, all tries with one key count one."""
    keys = [history.key_of(number).key for number in index.tries_of(message) if history.publishes[number][4] != "fail"]
    return keys.count(None) + len({key for key in keys if key is not None})
