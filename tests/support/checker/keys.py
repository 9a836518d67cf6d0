"""Rule 7 where a publish names a key: one key has one result within its window, whatever became of the tries.

Ownership: none; rules read the history and add findings to the report.
Units: seconds. The window counts from the commit, which lies between the begin and the end of a try; a try whose end is
       not known was committed by the time of the next one, or was not.
Errors: none; a broken promise is a Finding.
Callers: check() only.
"""

from itertools import pairwise


def tries_by_key(history):
    """key -> [index of its publish, ...] by the time of their begin."""
    by_key = {}
    for number, key in history.keys.items():
        if key.key is not None:
            by_key.setdefault(key.key, []).append(number)
    for numbers in by_key.values():
        numbers.sort(key=lambda number: history.publishes[number][2])
    return by_key


class Try:
    """One publish with its key, by name."""

    def __init__(self, history, number):
        self.first, self.count, self.invoke, self.end, self.result, self.seq, _ = history.publishes[number]
        key = history.key_of(number)
        self.duplicate, self.conflict = key.duplicate, key.status == 409
        self.place = None if self.seq is None or key.index is None else (self.seq, key.index)


def rule_one_result(history, _index, options, report):
    """Two answers within the window name the same place; a repeat is a repeat of something."""
    copies, phantoms, old = set(), set(), set()
    for numbers in tries_by_key(history).values():
        tries = [Try(history, number) for number in numbers]
        answered = [one for one in tries if one.result == "ok"]
        for a, b in pairwise(answered):
            if a.first == b.first and None not in (a.place, b.place) and a.place != b.place \
                    and b.end - a.invoke < options.window_s - options.slack_s:
                copies.add(a.first)
        for one in answered:
            before = [other for other in tries if other is not one and other.result != "fail" and other.invoke < one.end]
            if one.duplicate and not before:
                phantoms.add(one.first)
            # An implementation may keep keys in generations: twice the window is not exceeded.
            ends = [other.end or other.invoke for other in before]
            if one.duplicate and ends and one.invoke - max(ends) > 2 * options.window_s + options.slack_s:
                old.add(one.first)
    if copies:
        report.add(7, "dup-publish", f"{len(copies)} have two places under one key within its window", copies)
    if phantoms:
        report.add(7, "dup-publish", f"{len(phantoms)} were answered as repeats, but nobody had published them", phantoms)
    if old:
        report.add(7, "dup-publish", f"{len(old)} were answered as repeats long after the window", old)


def rule_other_body(history, _index, options, report):
    """One key, two contents: the second is refused, and only then."""
    accepted, refused = set(), set()
    for numbers in tries_by_key(history).values():
        tries = [Try(history, number) for number in numbers]
        answered = [one for one in tries if one.result == "ok"]
        for a, b in pairwise(answered):
            if a.first != b.first and b.end - a.invoke < options.window_s - options.slack_s:
                accepted.add(b.first)
        for one in tries:
            if one.conflict and not any(other.first != one.first and other.invoke < one.end for other in tries):
                refused.add(one.first)
    if accepted:
        report.add(7, "dup-publish", f"{len(accepted)} were accepted under the key of another content", accepted)
    if refused:
        report.add(7, "dup-publish", f"{len(refused)} were refused as conflicts, but their keys had no other content", refused)


def rule_one_copy(history, index, options, report):
    """A message whose tries all carry one key, within the window, is in one place."""
    places = {}
    for delivery in history.deliveries:
        known = places.setdefault(delivery.message, delivery.place)
        if known != delivery.place:
            places[delivery.message] = None
    wrong = set()
    for message, place in places.items():
        numbers = index.tries_of(message)
        keys = {history.key_of(number).key for number in numbers}
        if place is not None or len(keys) != 1 or None in keys:
            continue
        begins = [history.publishes[number][2] for number in numbers]
        if max(begins) - min(begins) < options.window_s - options.slack_s:
            wrong.add(message)
    if wrong:
        report.add(7, "dup-publish", f"{len(wrong)} are in two places, though every try had the same key", wrong)


RULES = (rule_one_result, rule_other_body, rule_one_copy)
