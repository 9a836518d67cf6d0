"""The rules for sessions that see places: subscribers with a cursor, and members of groups with acks.

Ownership: none; rules read the history and add findings to the report.
Units: seconds, messages.
Errors: none; a broken promise is a Finding.
Callers: check() only.

Times are those of the clients. What a client reads may have been sent long before, by a process that is dead by now; what
a client sends takes effect between the begin and the end of its command. So a rule speaks only where every order of
sending that fits these times breaks the promise.
"""

from bisect import bisect_left, bisect_right

from .index import acknowledged_messages, answered_places, lost_text


class View:
    """Deliveries, acks and ends of one group or subscriber."""

    def __init__(self, group, kind):
        self.group, self.kind = group, kind
        self.deliveries = []    # by time
        self.by_place = {}      # place -> [Delivery, ...] by time
        self.acks = {}          # place -> [Ack, ...]
        self.nacks = {}
        self.ends = {}          # session -> time
        self.noticed = []       # (end, when the broker knew of it) of each
        self.topic = ">"
        self.begins = []        # what its sessions had before: everything at or below
        self.gaps = []          # (from, to)

    def ended_between(self, begin, end):
        """Whether any of its sessions ended between the two times, or the broker may have learned of it then."""
        return any(ended <= end and noticed >= begin for ended, noticed in self.noticed)

    def announced(self, place):
        return any(low <= place < high for low, high in self.gaps)

    def settled(self):
        """Places whose ack was confirmed, or may have been."""
        return {place for place, acks in self.acks.items() if any(ack.result != "stale" for ack in acks)}


def views(history):
    """[View] of all groups and subscribers."""
    found = {group: View(group, kind) for group, kind in history.kinds.items() if kind != "root"}
    for session, opened in history.opened.items():
        view = found.get(history.sessions[session])
        if view:
            view.topic = opened.topic
            view.begins.append(opened.since or (0, -1))
    for delivery in sorted(history.deliveries, key=lambda delivery: delivery.t):
        view = found.get(history.sessions[delivery.session])
        view.deliveries.append(delivery)
        view.by_place.setdefault(delivery.place, []).append(delivery)
    for acks, name in ((history.acks, "acks"), (history.nacks, "nacks")):
        for ack in acks:
            if ack.group in found and ack.session is not None:
                getattr(found[ack.group], name).setdefault(ack.place, []).append(ack)
    for t, session, _event in history.session_ends:
        view = found.get(history.sessions[session])
        if view:
            view.ends[session] = t
            view.noticed.append((t, history.noticed[session]))
    for _t, session, low, high, _reason in history.gaps:
        found[history.sessions[session]].gaps.append((low, high))
    return list(found.values())


def topic_matches(pattern, topic):
    """Dots, * for one level, > for the rest."""
    want, have = pattern.split("."), topic.split(".")
    for at, level in enumerate(want):
        if level == ">":
            return len(have) > at
        if at >= len(have) or level not in ("*", have[at]):
            return False
    return len(want) == len(have)


def topic_of(history, index, message):
    numbers = index.tries_of(message)
    return history.key_of(numbers[0]).topic if numbers else None


def begin_of(history, index, message):
    """When the first try to publish it began."""
    return min((history.publishes[number][2] for number in index.tries_of(message)), default=0.0)


def places_known(history, index):
    """message -> place, from answers or, failing that, from a delivery."""
    places = {delivery.message: delivery.place for delivery in history.deliveries}
    places.update(answered_places(history, index))
    return places


def due(history, index, view, places):
    """Acknowledged messages that this group or subscriber has asked for, as far as that is known."""
    topics, wanted = {}, set()
    since = min(view.begins, default=(0, -1))
    for message in acknowledged_messages(history):
        topic = topic_of(history, index, message)
        if topic not in topics:
            topics[topic] = topic_matches(view.topic, topic)
        place = places.get(message)
        if topics[topic] and (since == (0, -1) or place is not None and place > since):
            wanted.add(message)
    return wanted


def rule_lost_places(history, index, _options, report):
    """3 and 6: everything asked for came, but for what retention took, and that was announced."""
    places = places_known(history, index)
    for view in index.views:
        seen = index.seen.get(view.group, {})
        wanted = due(history, index, view, places)
        missing = wanted - seen.keys() - {dead.message for dead in history.dead if dead.group == view.group}
        discarded = {message for message in missing
                     if history.retained and places.get(message, (0, 0))[0] < history.retained}
        silent = {message for message in discarded if message not in places or not view.announced(places[message])}
        silent = {message for message in silent if message in places}
        if view.kind == "group":
            # Told to the members of one dispatcher, which may have died with it: then the group has passed it unheard.
            silent = {message for message in silent
                      if not index.stage_disturbed(begin_of(history, index, message), float("inf"))}
        lost = missing - discarded
        report.figures["lost"] = report.figures.get("lost", 0) + len(lost)
        if lost:
            report.add(3, "lost", f"{len(lost)} acknowledged, never seen by {view.kind} {view.group} "
                                  f"({lost_text(lost, wanted, seen)})", lost)
        if silent:
            report.add(6, "gaps", f"{len(silent)} taken by retention, not announced to {view.kind} {view.group}", silent)


def rule_unsettled(history, index, _options, report):
    """3: after the drain nothing that a group has seen is without an ack or a dead letter."""
    if history.drained is None:
        return
    for view in index.views:
        if view.kind != "group":
            continue
        open_places = view.by_place.keys() - view.settled()
        open_places -= {dead.place for dead in history.dead if dead.group == view.group}
        # A member that was killed may have acked what it had, without a note of it.
        killed = {session for _t, session, event in history.session_ends if event == "kill"}
        open_places = {place for place in open_places if place[0] >= history.retained
                       and view.by_place[place][-1].session not in killed}
        if open_places:
            report.add(3, "lost", f"{len(open_places)} seen by group {view.group}, never acked, not delivered again",
                       open_places)


def rule_order_places(history, index, _options, report):
    """5: a session's first deliveries rise."""
    for view in index.views:
        late, top = set(), {}
        for delivery in view.deliveries:
            if delivery.attempt not in (None, 1):
                continue
            high = top.get(delivery.session, (-1, 0))
            if delivery.place > high:
                top[delivery.session] = delivery.place
            elif delivery.place < high:
                # What a dispatcher or a member had claimed and not delivered comes late, for the first time.
                begin = begin_of(history, index, delivery.message)
                if view.kind == "sub" or not (index.stage_disturbed(begin, delivery.t)
                                              or view.ended_between(begin, delivery.t)):
                    late.add(delivery.place)
        if late:
            report.add(5, "order", f"{len(late)} came to {view.kind} {view.group} after a later one of the same session",
                       late)


def rule_scope(history, index, _options, report):
    """14, and 8 for a subscriber: nothing beside the pattern, nothing at or below the cursor, nothing twice."""
    for view in index.views:
        foreign, again, seen, before = set(), set(), set(), set()
        for delivery in view.deliveries:
            opened = history.opened[delivery.session]
            topic = topic_of(history, index, delivery.message)
            if topic is not None and not topic_matches(opened.topic, topic):
                foreign.add(delivery.place)
            if opened.since is not None and delivery.place <= opened.since:
                (again if delivery.place in before else foreign).add(delivery.place)
            if view.kind == "sub" and (delivery.session, delivery.place) in seen:
                again.add(delivery.place)
            seen.add((delivery.session, delivery.place))
            before.add(delivery.place)
        if foreign:
            report.add(14, "scope", f"{len(foreign)} came to {view.kind} {view.group}, which had not asked for them", foreign)
        if again:
            report.add(8, "dup-deliver", f"{len(again)} came to subscriber {view.group} again", again)


def redelivery_has_reason(view, index, options, a, b):
    """Whether delivery b may follow a."""
    ended = view.ends.get(a.session)
    return (b.t - a.t >= options.ack_wait_s - options.slack_s
            or ended is not None and ended <= b.t
            or any(nack.session == a.session and nack.invoke <= b.t for nack in view.nacks.get(a.place, ()))
            or index.stage_disturbed(a.t, b.t))


def counts_on(history, view, index, a, b):
    """Whether the attempt of b may follow that of a."""
    if b.attempt == a.attempt + 1:
        return True
    # The count itself may go down with its dispatcher.
    if index.stage_disturbed(a.t, b.t):
        return True
    if b.attempt > a.attempt:       # those between went to sessions that are gone
        return view.ended_between(a.t, b.t)
    # Sent before a, and read after it by another session.
    return b.attempt < a.attempt and b.session != a.session and history.opened[b.session].opened < a.t


def rule_attempts(history, index, options, report):
    """8: attempts count 1, 2, 3, ..., and each but the first has a reason."""
    for view in index.views:
        if view.kind != "group":
            continue
        miscounted, unasked = set(), set()
        for place, deliveries in view.by_place.items():
            first = deliveries[0]
            if first.attempt != 1 and not index.stage_disturbed(0.0, first.t) and not view.ended_between(0.0, first.t):
                miscounted.add(place)
            for a, b in zip(deliveries, deliveries[1:]):
                if not counts_on(history, view, index, a, b):
                    miscounted.add(place)
                elif b.attempt > a.attempt and not redelivery_has_reason(view, index, options, a, b):
                    unasked.add(place)
        if miscounted:
            report.add(8, "dup-deliver", f"{len(miscounted)} of group {view.group} have attempts that do not count up",
                       miscounted)
        if unasked:
            report.add(8, "dup-deliver", f"{len(unasked)} of group {view.group} came again without a reason", unasked)


def rule_after_ack(history, index, options, report):
    """8: nothing follows a confirmed ack, not even over a restart of everything."""
    for view in index.views:
        wrong = set()
        for place, acks in view.acks.items():
            for ack in acks:
                if ack.result == "confirmed" and any(follows(history, index, options, ack, delivery)
                                                     for delivery in view.by_place.get(place, ())):
                    wrong.add(place)
        if wrong:
            report.add(8, "dup-deliver", f"{len(wrong)} of group {view.group} came after a confirmed ack", wrong)


def follows(history, index, options, ack, delivery):
    """Whether a delivery was sent after the ack was confirmed, whatever the network did."""
    if delivery.t <= ack.invoke:
        return False
    if delivery.t > ack.end and (delivery.session == ack.session
                                 or history.opened[delivery.session].opened > ack.end):
        return True
    # Sent before, it would have made the ack stale; but a dead dispatcher's socket may still be read.
    later = ack.attempt is not None and delivery.attempt > ack.attempt or delivery.t > ack.end + options.slack_s
    return later and not index.stage_disturbed(ack.invoke, delivery.t)


def rule_floor(history, index, options, report):
    """9: the floor is monotone, and what acks make of it."""
    places = answered_places(history, index)
    for view in index.views:
        floors = sorted((t, seq) for t, group, seq in history.floors if group == view.group)
        if not floors:
            continue
        fell = [(b[1], 0) for a, b in zip(floors, floors[1:]) if b[1] < a[1]]
        if fell:
            report.add(9, "ack-floor", f"the floor of group {view.group} fell {len(fell)} times", fell)
        begun, ended = ack_times(history, view)
        wanted = sorted(places[message] for message in due(history, index, view, places) if message in places)
        passed, behind = set(), set()
        start = max(1, min(view.begins)[0])
        known = {places[entry[0]][0]: entry[3] for entry in history.publishes if entry[4] == "ok" and entry[0] in places}
        for t, seq in floors:
            at = bisect_left(wanted, (max(seq, history.retained), 0))
            passed.update(place for place in wanted[bisect_left(wanted, (history.retained, 0)):at]
                          if begun.get(place, t + 1.0) > t)
            # Up to the first one that was not confirmed a while ago, as far as all numbers are known.
            if seq < implied_floor(known, wanted, ended, start, t - options.slack_s):
                behind.add((seq, 0))
        if passed:
            report.add(9, "ack-floor", f"the floor of group {view.group} passed {len(passed)} that nobody had acked", passed)
        if behind:
            report.add(9, "ack-floor", f"the floor of group {view.group} is below what confirmed acks imply", behind)


def ack_times(history, view):
    """place -> earliest begin of an ack that may have counted; place -> earliest end of one that did. Dead letters count."""
    begun, ended = {}, {}
    for place, acks in view.acks.items():
        for ack in acks:
            if ack.result != "stale":
                begun[place] = min(begun.get(place, ack.invoke), ack.invoke)
            if ack.result == "confirmed":
                ended[place] = min(ended.get(place, ack.end), ack.end)
    for dead in history.dead:
        if dead.group == view.group:
            begun[dead.place] = 0.0
    return begun, ended


def implied_floor(known, wanted, ended, start, before):
    """The lowest floor that acks confirmed by then allow, 0 where they say nothing. From `start` on all records must be
    known wholly, and have been answered by then."""
    end = start
    while known.get(end, before) < before:
        end += 1
    for place in wanted:
        if place[0] >= end:
            break
        if ended.get(place, before) >= before:
            return place[0]
    last = [place[0] for place in wanted[:bisect_right(wanted, (end, -1))]]
    return last[-1] + 1 if last else 0


def rule_pending(history, index, options, report):
    """9: what a group, and each session of it, holds unacknowledged is bounded."""
    for view in index.views:
        if view.kind != "group":
            continue
        most, over = pending_most(history, view, options)
        report.figures["pending_most"] = max(report.figures.get("pending_most", 0), most)
        if options.max_ack_pending is not None and most > options.max_ack_pending:
            report.add(9, "ack-floor", f"group {view.group} had {most} unacknowledged, at most {options.max_ack_pending}")
        for session, count in over.items():
            report.add(9, "ack-floor", f"session {session} had {count} unacknowledged, its credit was "
                                       f"{history.opened[session].credit}")


def pending_most(history, view, options):
    """(most in flight at any time, {session: most} of those above their credit). A hold ends when its ack or nack begins,
    its session ends, its ack wait may be over, or the message is seen elsewhere."""
    events = []
    for delivery in view.deliveries:
        events.append((delivery.t, 1, "take", delivery.place, delivery.session))
        # A wait that is shorter than what the times may be out by may be over at once.
        wait = max(0.0, options.ack_wait_s - options.slack_s)
        events.append((delivery.t + wait, 0 if wait > 0 else 2, "give", delivery.place, delivery.session))
    for acks in (view.acks, view.nacks):
        events += [(ack.invoke, 0, "give", place, ack.session) for place, each in acks.items() for ack in each]
    events += [(t, 0, "end", None, session) for session, t in view.ends.items()]
    held, counts, most, over = {}, {}, 0, {}
    for _t, _order, what, place, session in sorted(events, key=lambda event: event[:2]):
        if what == "take":
            before = held.get(place)
            if before is not None:
                counts[before] -= 1
            held[place] = session
            counts[session] = counts.get(session, 0) + 1
            most = max(most, len(held))
            credit = history.opened[session].credit
            if credit is not None and counts[session] > credit:
                over[session] = max(over.get(session, 0), counts[session])
        elif what == "give":
            if held.get(place) == session:
                del held[place]
                counts[session] -= 1
        else:
            for place in [place for place, holder in held.items() if holder == session]:
                del held[place]
            counts[session] = 0
    return most, over


def rule_fencing(history, index, options, report):
    """10: only the session that has the current attempt may ack it, once; and it may."""
    attempts, old, foreign, twice, refused = {}, set(), set(), set(), set()
    for t, group, place, attempt in sorted(history.attempts, key=lambda entry: entry[0]):
        attempts.setdefault((group, place), []).append((t, attempt))
    by_group = {view.group: view for view in index.views}
    confirmed = {}
    for ack in sorted(history.acks, key=lambda ack: ack.invoke):
        where = ack.place if ack.place is not None else ack.message
        known = [entry for entry in attempts.get((ack.group, where), []) if entry[0] < ack.invoke]
        view = by_group.get(ack.group) if ack.session is not None else None
        own = [d for d in view.by_place.get(where, ()) if d.session == ack.session and d.t <= ack.invoke] if view else []
        if ack.result == "confirmed":
            if known and ack.attempt is not None and ack.attempt < known[-1][1] \
                    and not index.stage_disturbed(known[0][0], ack.invoke):
                old.add(where)
            if view and not own:
                foreign.add(where)
            if confirmed.setdefault((ack.group, where), ack) is not ack:
                twice.add(where)
        elif ack.result == "stale" and own and not stale_has_reason(view, index, options, ack, own[-1]):
            refused.add(where)
    for wrong, text in ((old, "acks of an old attempt were confirmed"), (foreign, "acks by a session that had not got it"),
                        (twice, "were confirmed twice"), (refused, "acks of the current attempt were refused as stale")):
        if wrong:
            report.add(10, "fencing", f"{len(wrong)} {text}", wrong)


def stale_has_reason(view, index, options, ack, own):
    """Whether an ack of what this session had got last may be stale."""
    others = [d for d in view.by_place[own.place] if d is not own and d.t >= own.t - options.slack_s]
    before = [a for each in (view.acks, view.nacks) for a in each.get(own.place, ())
              if a is not ack and a.session == ack.session and a.invoke <= ack.invoke]
    return bool(others or before or ack.attempt not in (None, own.attempt)
                or ack.end - own.t >= options.ack_wait_s - options.slack_s
                or index.stage_disturbed(own.t, ack.end))


def first_of(view, dead):
    """When a message that died was delivered first."""
    return min((delivery.t for delivery in view.by_place.get(dead.place, ())), default=dead.t)


def rule_dead(history, index, options, report):
    """13: a dead letter says why, is the end of its message, and comes neither early, nor twice, nor for nothing."""
    nameless, early, over, again, acked = set(), set(), set(), set(), set()
    by_group = {view.group: view for view in index.views}
    seen = {}
    for dead in sorted(history.dead, key=lambda dead: dead.t):
        view = by_group[dead.group]
        if not dead.reason:
            nameless.add(dead.place)
        if options.max_deliver and dead.attempts < options.max_deliver:
            early.add(dead.place)
        earlier = seen.setdefault((dead.group, dead.place), dead)
        if earlier is not dead and not index.stage_disturbed(0.0, dead.t):
            again.add(dead.place)
        # A dispatcher that dies between the letter and its note of it leaves both to the next one, which delivers the
        # message once more; that may be acked.
        if any(ack.result == "confirmed" and not index.stage_disturbed(first_of(view, dead), max(ack.end, dead.t))
               for ack in view.acks.get(dead.place, ())):
            acked.add(dead.place)
        if any(history.opened[d.session].opened > dead.t and not index.stage_disturbed(dead.t, d.t)
               for d in view.by_place.get(dead.place, ())):
            over.add(dead.place)
    for view in by_group.values():
        if options.max_deliver and view.kind == "group":
            # A delivery that a dead dispatcher may have made is counted, whether it was made or not.
            over.update(d.place for d in view.deliveries if d.attempt > options.max_deliver
                        and not index.stage_disturbed(view.by_place[d.place][0].t, d.t))
    for wrong, text in ((nameless, "have no reason"), (early, "came before max_deliver attempts"),
                        (again, "came twice"), (acked, "had been acked"),
                        (over, "were delivered after they should have been dead")):
        if wrong:
            report.add(13, "dead-letter", f"{len(wrong)} {text}", wrong)
    report.figures["dead_letters"] = len(history.dead)


RULES = (rule_lost_places, rule_unsettled, rule_order_places, rule_scope, rule_attempts, rule_after_ack, rule_floor,
         rule_pending, rule_fencing, rule_dead)
