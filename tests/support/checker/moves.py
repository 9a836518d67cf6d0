"""Rule 15: while a stage is scaled or restarted, connections of the other stages stay, and its own end as documented. Where
more than one instance runs, somebody listens all the time.

Ownership: none; the rule reads the history and adds findings to the report.
Units: seconds.
Errors: none; a broken promise is a Finding.
Callers: check() only. Without a move in the history nothing is judged.

An end belongs to the last move that began before it. Who writes a history lets all ends come before the next move begins.
"""

from bisect import bisect_right

STAGE_OF = {"http": "ingest", "root": "dispatcher", "v1": "dispatcher", "sse": "dispatcher"}
ALONE = ("restarted alone", "killed", "upgraded")       # nobody else listens meanwhile
CODES = {"root": 1001, "v1": 3001}      # of an instance that goes away in order


def rule_connections(history, _index, _options, report):
    if not history.moves:
        return
    moves = sorted(history.moves)
    begins = [t for t, _stage, _what in moves]
    foreign, wrong = [], []
    ended = dict.fromkeys(STAGE_OF, 0)
    unanswered = 0
    for t, kind, code, answered in sorted(history.ended):
        at = bisect_right(begins, t)
        _begin, stage, what = moves[at - 1] if at else (0.0, "nobody", "moved")
        ended[kind] += 1
        if stage not in (STAGE_OF[kind], "all"):
            foreign.append(f"{kind} at {t:.3f} while {stage} was {what}, code {code}")
        elif what == "killed":
            continue
        elif code != CODES.get(kind) or kind == "sse" and not answered:
            wrong.append(f"{kind} at {t:.3f} with {code}")
        elif not answered:
            unanswered += 1
    for t, kind in sorted(history.refused):
        at = bisect_right(begins, t)
        _begin, stage, what = moves[at - 1] if at else (0.0, "nobody", "moved")
        if stage not in (STAGE_OF[kind], "all") or what not in ALONE:
            foreign.append(f"{kind} was refused at {t:.3f} while {stage} was {what}")
    report.figures["refused"] = len(history.refused)
    report.figures.update({f"ended_{kind}": count for kind, count in ended.items()})
    report.figures["unanswered"] = unanswered
    if foreign:
        report.add(15, "connections", f"{len(foreign)} ended though another stage was moved, first: {foreign[0]}")
    if wrong:
        report.add(15, "connections", f"{len(wrong)} ended not as documented, first: {wrong[0]}")


RULES = (rule_connections,)
