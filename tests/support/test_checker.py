"""The checker must pass what is legal and must catch what is not: one broken history for each way to break a promise."""

import json
import os
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from checker import Ack, History, HistoryError, Options, check, make, parse  # noqa: E402


def good(records=10, count=3, sessions=1):
    """Producer 1 publishes one record after the other; each is delivered once, in order, round the sessions."""
    history = History()
    for session in range(sessions):
        history.session(session, "open", 0.0)
    for number in range(records):
        begin = 1.0 + number * 0.1
        history.publish(1, number * count, count, begin, begin + 0.01, "ok", seq=100 + number)
        history.deliver(number % sessions, begin + 0.05, [(1, number * count + k) for k in range(count)])
    return history


def drop_message(history, frame, at=0):
    del history.frames[frame][2][at]


def skipped_attempt(until):
    """Session 1 of a group sees the attempts 1 and 3 of a message; session 2 was killed before, and the broker knew `until`."""
    history = good(count=1)
    for session in (1, 2):
        history.session(session, "open", 0.0, group="w", kind="group", topic=">", credit=64)
    history.session(2, "kill", 1.9, group="w", kind="group", until=until)
    places = [(100 + number, 0) for number in range(10)]
    messages = [(1, number) for number in range(10)]
    history.deliver(1, 2.0, messages, seqs=places, attempts=[1] * 10)
    history.nacks.append(Ack("w", 1 << 40, 1, 2.01, 2.02, "confirmed", 1, places[0]))
    history.deliver(1, 2.1, messages[:1], seqs=places[:1], attempts=[3])
    for at in range(10):
        history.acks.append(Ack("w", (1 << 40) + at, 1 if at else 3, 2.2, 2.3, "confirmed", 1, places[at]))
    return history


class Good(unittest.TestCase):
    """Histories without a fault, however ugly."""

    def passes(self, history, **options):
        report = check(history, Options(**options))
        self.assertEqual([], [str(finding) for finding in report.findings])
        return report

    def test_plain_run(self):
        report = self.passes(good())
        self.assertEqual((30, 30, 0, 0), tuple(report.figures[name] for name in
                                               ("acknowledged", "delivered", "lost", "duplicates")))

    def test_several_sessions_share_the_work(self):
        self.passes(good(records=30, sessions=4))

    def test_nothing_happened(self):
        self.passes(History())

    def test_connections_of_the_stage_that_is_moved_end_as_documented(self):
        history = good()
        history.move("ingest", "restarted", 1.0)
        history.end("http", 1.2, answered=False)
        history.move("dispatcher", "scaled", 2.0)
        for kind, code in (("root", 1001), ("v1", 3001), ("sse", None)):
            history.end(kind, 2.1, code)
        history.move("dispatcher", "killed", 3.0)
        history.end("v1", 3.1, None)
        history.refused.append((3.2, "v1"))
        figures = self.passes(history).figures
        self.assertEqual((1, 2, 1), (figures["ended_http"], figures["ended_v1"], figures["unanswered"]))

    def test_redelivery_after_a_dispatcher_died(self):
        history = good()
        history.crash("dispatcher", 0, 1.2)
        history.deliver(0, 2.5, [(1, 3), (1, 4)])
        self.assertEqual(2, self.passes(history).figures["duplicates"])

    def test_redelivery_after_a_client_was_killed(self):
        history = good(sessions=2)
        history.session(1, "kill", 1.5)
        history.deliver(0, 2.5, [(1, 9)])
        self.passes(history)

    def test_attempt_that_went_to_a_session_whose_end_was_not_noticed_yet(self):
        self.passes(skipped_attempt(until=2.05))

    def test_late_first_delivery_after_a_dispatcher_was_stopped(self):
        history = good()
        late = history.frames[2][2].pop(0)
        history.stop("dispatcher", 0, 1.21)
        history.frames.append((0, 2.5, [late], (), None, None))
        self.assertEqual(1, self.passes(history).figures["late_after_disturbance"])

    def test_unknown_publish_was_not_done(self):
        history = good()
        history.publish(1, 30, 3, 3.0, None, "info")
        self.passes(history)

    def test_unknown_publish_was_done(self):
        history = good()
        history.publish(1, 30, 1, 3.0, None, "info")
        history.deliver(0, 3.1, [(1, 30)])
        self.passes(history)

    def test_retry_of_an_unknown_publish_makes_two_copies(self):
        history = good()
        history.publish(1, 30, 1, 3.0, None, "info")
        history.publish(1, 30, 1, 3.2, 3.3, "ok", seq=111)
        history.deliver(0, 3.25, [(1, 30)])
        history.deliver(0, 3.4, [(1, 30)])
        report = self.passes(history)
        self.assertEqual((1, 1), (report.figures["duplicates"], report.figures["duplicates_of_retries"]))

    def test_number_of_an_unknown_publish_is_missing(self):
        history = good()
        history.publish(1, 30, 1, 3.0, None, "info")
        history.publish(1, 31, 1, 3.2, 3.3, "ok", seq=111)
        history.deliver(0, 3.4, [(1, 31)])
        self.passes(history)

    def test_refused_then_accepted(self):
        history = good()
        history.publish(1, 30, 1, 3.0, 3.1, "fail")
        history.publish(1, 30, 1, 3.2, 3.3, "ok", seq=110)
        history.deliver(0, 3.4, [(1, 30)])
        self.passes(history)

    def test_concurrent_publishes_may_take_any_order(self):
        history = good()
        history.publish(2, 0, 1, 3.0, 3.5, "ok", seq=111)
        history.publish(3, 0, 1, 3.1, 3.4, "ok", seq=110)
        history.deliver(0, 3.6, [(3, 0), (2, 0)])
        self.passes(history)

    def test_killed_session_may_take_some_with_it(self):
        history = good(sessions=2)
        drop_message(history, 5)
        history.session(1, "kill", 1.9)
        self.assertEqual(1, self.passes(history, killed_unread_max=4).figures["lost"])

    def test_two_groups_see_everything_once_each(self):
        history = good()
        history.session(7, "open", 0.0, group="audit")
        for frame in list(history.frames):
            history.frames.append((7, frame[1] + 0.001, list(frame[2]), (), None, None))
        self.passes(history)


class Broken(unittest.TestCase):
    """Each history breaks one promise; exactly the rule for it must say so."""

    def breaks(self, rule, history, **options):
        report = check(history, Options(**options))
        self.assertEqual({rule}, report.rules(), [str(finding) for finding in report.findings])
        return report.findings[0].text

    def test_not_drained(self):
        history = good()
        history.drained = False
        self.breaks(0, history)

    def moved(self, *ends):
        history = good()
        history.move("encryptor", "scaled", 1.0)
        history.move("dispatcher", "restarted", 2.0)
        history.move("ingest", "restarted", 3.0)
        for end in ends:
            history.end(*end)
        return history

    def test_a_connection_of_another_stage_was_ended(self):
        for end in (("http", 1.5), ("http", 2.5), ("v1", 1.5, 3001), ("root", 3.5, 1001), ("sse", 0.5)):
            self.assertIn("another stage", self.breaks(15, self.moved(end)))

    def test_nobody_listened_though_another_instance_ran(self):
        for kind, t in (("http", 1.5), ("v1", 2.5), ("http", 3.5)):
            history = self.moved()
            history.refused.append((t, kind))
            self.assertIn("refused", self.breaks(15, history))

    def test_a_connection_was_ended_with_another_code(self):
        for end in (("v1", 2.5, 1001), ("v1", 2.5, None), ("root", 2.5, 3001), ("root", 2.5, None), ("sse", 2.5, None, False)):
            self.assertIn("as documented", self.breaks(15, self.moved(end)))

    def test_phantom(self):
        history = good()
        history.deliver(0, 3.0, [(9, 9)])
        self.assertIn("phantom", self.breaks(1, history))

    def test_damaged_content(self):
        history = good()
        history.deliver(0, 3.0, [], bad=["run|1|2|x"])
        self.breaks(1, history)

    def test_other_bytes(self):
        history = History()
        history.session(0, "open", 0.0)
        history.publish(1, 0, 2, 1.0, 1.1, "ok", seq=1, hashes=["aa", "bb"])
        history.deliver(0, 1.2, [(1, 0), (1, 1)], hashes=["aa", "bc"])
        self.assertIn("corrupt", self.breaks(1, history))

    def test_two_publishes_with_one_number(self):
        history = good()
        history.publish(2, 0, 1, 1.905, 3.1, "ok", seq=109)
        history.deliver(0, 3.2, [(2, 0)])
        self.breaks(2, history)

    def test_delivered_number_names_two_messages(self):
        history = History()
        history.session(0, "open", 0.0)
        history.publish(1, 0, 2, 1.0, 1.1, "ok", seq=1)
        history.deliver(0, 1.2, [(1, 0), (1, 1)], seqs=[[1, 0], [1, 0]])
        self.breaks(2, history)

    def test_lost_first_record(self):
        history = good()
        del history.frames[0]
        self.assertIn("3 prefix", self.breaks(3, history))

    def test_lost_in_the_middle_of_a_record(self):
        history = good()
        drop_message(history, 4, 1)
        self.assertIn("1 middle", self.breaks(3, history))

    def test_lost_tail(self):
        history = good()
        del history.frames[-1]
        self.assertIn("3 postfix", self.breaks(3, history))

    def test_lost_in_one_group_only(self):
        history = good()
        history.session(7, "open", 0.0, group="audit")
        for frame in history.frames[:-1]:
            history.frames.append((7, frame[1] + 0.001, list(frame[2]), (), None, None))
        self.assertIn("audit", self.breaks(3, history))

    def test_more_lost_than_a_killed_session_can_hold(self):
        history = good(sessions=2)
        del history.frames[5]
        history.session(1, "kill", 1.9)
        self.breaks(3, history, killed_unread_max=2)

    def test_lost_after_a_stage_died(self):
        history = good()
        history.crash("encryptor", 0, 1.3)
        drop_message(history, 3)
        self.breaks(3, history)

    def test_refused_but_delivered(self):
        history = good()
        history.publish(1, 30, 1, 3.0, 3.1, "fail")
        history.deliver(0, 3.2, [(1, 30)])
        self.breaks(4, history)

    def test_records_swapped_in_a_session(self):
        history = good()
        a, b = history.frames[3], history.frames[4]
        history.frames[3], history.frames[4] = (0, a[1], b[2], (), None, None), (0, b[1], a[2], (), None, None)
        self.breaks(5, history)

    def test_messages_swapped_in_a_record(self):
        history = good()
        history.frames[3][2].reverse()
        self.breaks(5, history)

    def test_late_delivery_after_a_death_that_is_no_excuse(self):
        history = good()
        late = history.frames[2][2].pop(0)
        history.crash("encryptor", 0, 1.21)
        history.frames.append((0, 2.5, [late], (), None, None))
        self.breaks(5, history)

    def test_late_delivery_long_after_the_death(self):
        history = good(records=100)
        history.crash("dispatcher", 0, 1.2)
        late = history.frames[80][2].pop(0)
        history.frames.append((0, 20.0, [late], (), None, None))
        self.breaks(5, history)

    def test_later_publish_has_a_lower_number(self):
        history = good()
        history.publish(2, 0, 1, 3.0, 3.1, "ok", seq=99)
        history.frames.insert(0, (0, 0.9, [2 << 40], (), None, None))
        self.breaks(5, history)

    def test_numbers_with_a_hole(self):
        history = good()
        history.publish(1, 30, 1, 3.0, 3.1, "ok", seq=112)
        history.deliver(0, 3.2, [(1, 30)])
        self.breaks(6, history)

    def test_acknowledged_twice(self):
        history = good()
        history.publish(1, 27, 3, 3.0, 3.1, "ok", seq=110)
        self.breaks(7, history)

    def test_unknown_after_the_second_success_is_no_excuse(self):
        history = good()
        history.publish(1, 27, 3, 3.0, 3.1, "ok", seq=110)
        history.publish(1, 27, 3, 3.2, None, "info")
        self.breaks(7, history)

    def test_delivered_twice(self):
        history = good()
        history.deliver(0, 3.0, [(1, 3)])
        self.breaks(8, history)

    def test_delivered_twice_in_one_frame(self):
        history = good()
        history.frames[4][2].append(history.frames[4][2][-1])
        self.breaks(8, history)

    def test_delivered_three_times_round_one_death(self):
        history = good()
        history.crash("dispatcher", 0, 5.0)
        history.deliver(0, 10.1, [(1, 3)])
        history.deliver(0, 15.0, [(1, 3)])
        self.breaks(8, history)

    def test_delivered_to_two_sessions(self):
        history = good(sessions=2)
        history.deliver(0, 3.0, [(1, 3)])
        self.breaks(8, history)

    def test_delivered_twice_after_an_ingest_died(self):
        history = good()
        history.crash("ingest", 0, 1.5)
        history.deliver(0, 3.0, [(1, 3)])
        self.breaks(8, history)

    def test_attempt_that_is_skipped_long_after_the_end_of_a_session(self):
        self.breaks(8, skipped_attempt(until=1.95))

    def test_old_attempt_confirmed(self):
        history = good()
        history.attempts += [(1.0, "g", 1 << 40, 1), (2.0, "g", 1 << 40, 2)]
        history.acks.append(Ack("g", 1 << 40, 1, 2.5, 2.6, "confirmed"))
        self.breaks(10, history)

    def test_nonce_used_twice(self):
        history = good()
        history.nonces += [("k", "01"), ("k", "02"), ("j", "01"), ("k", "01")]
        self.breaks(11, history)

    def test_figure_above_its_limit(self):
        history = good()
        history.bounds.append(("rss_mib", 17.0, 16.0))
        self.breaks(12, history)

    def test_too_many_duplicates(self):
        history = good()
        history.crash("dispatcher", 0, 2.0)
        history.deliver(0, 2.5, [(1, k) for k in range(20, 30)])
        self.breaks(12, history, duplicates_max=9)


class Files(unittest.TestCase):
    """Reading, and the command."""

    LINES = [
        {"type": "session", "session": 0, "event": "open", "t": 0.0},
        {"type": "publish", "producer": 1, "first": 0, "count": 2, "invoke": 1.0, "end": 1.1, "result": "ok", "seq": 5},
        {"type": "deliver", "session": 0, "t": 1.2, "ids": [1, 0, 1, 1]},
        {"type": "crash", "stage": "dispatcher", "instance": 0, "t": 1.3, "signal": 9},
        {"type": "stop", "stage": "dispatcher", "instance": 0, "t": 1.3},
        {"type": "ack", "group": "g", "session": 0, "id": [1, 0], "attempt": 1, "invoke": 1.3, "end": 1.4,
         "result": "confirmed"},
        {"type": "attempt", "group": "g", "id": [1, 0], "attempt": 1, "t": 1.2},
        {"type": "nonce", "key": "k", "nonce": ["01", "02"]},
        {"type": "bound", "name": "fds", "value": 5, "limit": 10},
        {"type": "session", "session": 1, "event": "open", "t": 0.0, "group": "w", "kind": "group", "topic": ">",
         "credit": 4},
        {"type": "session", "session": 2, "event": "open", "t": 0.0, "group": "s", "kind": "sub", "topic": ">",
         "since": "4-0"},
        {"type": "session", "session": 3, "event": "open", "t": 0.0, "group": "late", "kind": "sub", "topic": ">",
         "since": "latest", "from": "6-0"},
        {"type": "deliver", "session": 1, "t": 1.2, "ids": [1, 0, 1, 1], "seqs": ["5-0", "5-1"], "attempts": [1, 1]},
        {"type": "deliver", "session": 2, "t": 1.2, "ids": [1, 0, 1, 1], "seqs": ["5-0", "5-1"]},
        {"type": "ack", "group": "w", "session": 1, "invoke": 1.3, "end": 1.4, "items": [[1, 0, "5-0", 1, "confirmed"]]},
        {"type": "nack", "group": "w", "session": 1, "invoke": 1.3, "end": 1.4, "items": [[1, 1, "5-1", 1, "confirmed"]]},
        {"type": "dead", "group": "w", "id": [1, 1], "place": "5-1", "attempts": 1, "reason": "max_deliver", "t": 1.5},
        {"type": "gap", "session": 2, "from": "1-0", "to": "4-0", "reason": "retention", "t": 1.0},
        {"type": "floor", "group": "w", "seq": 6, "t": 1.9},
        {"type": "retained", "seq": 4, "t": 1.0},
        {"type": "expired", "id": [1, 7]},
        {"type": "publish", "producer": 1, "first": 9, "count": 1, "invoke": 1.5, "end": 1.6, "result": "fail",
         "key": "k", "topic": "jobs", "status": 503},
        {"type": "drain", "done": True, "t": 2.0},
    ]

    def run_cli(self, lines):
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
            file.write("".join(json.dumps(line) + "\n" if isinstance(line, dict) else line for line in lines))
            file.flush()
            return subprocess.run([sys.executable, "-m", "checker", "--json", file.name], capture_output=True, text=True,
                                  cwd=os.path.dirname(os.path.abspath(__file__)), check=False)

    def test_every_type_of_line(self):
        result = self.run_cli(self.LINES)
        self.assertEqual(0, result.returncode, result.stderr)
        figures = json.loads(result.stdout)["figures"]
        self.assertEqual((2, 6, 2), (figures["acknowledged"], figures["delivered"], figures["nonces"]))

    def test_publisher_that_died_leaves_an_unknown_publish(self):
        begun = {"type": "invoke", "producer": 1, "first": 2, "count": 1, "invoke": 1.5}
        seen = {"type": "deliver", "session": 0, "t": 1.6, "ids": [1, 2]}
        result = self.run_cli(self.LINES + [begun, seen])
        self.assertEqual(0, result.returncode, result.stdout)
        self.assertEqual(1, json.loads(result.stdout)["figures"]["unknown_publishes"])
        self.assertEqual(1, self.run_cli(self.LINES + [seen]).returncode)

    def test_broken_history_ends_with_1(self):
        result = self.run_cli(self.LINES[:2])
        self.assertEqual(1, result.returncode)
        self.assertEqual([3], [finding["rule"] for finding in json.loads(result.stdout)["findings"]])

    def test_unreadable_lines_end_with_2(self):
        for line in ("not json\n", {"type": "novel"}, {"type": "publish"},
                     {**self.LINES[1], "result": "maybe"}, {**self.LINES[0], "event": "nap"},
                     {**self.LINES[0], "kind": "crowd"}, {**self.LINES[5], "result": "perhaps"}):
            self.assertEqual(2, self.run_cli([line]).returncode, line)

    def test_history_error_names_the_line(self):
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
            file.write(json.dumps(self.LINES[0]) + "\n{}\n")
            file.flush()
            with self.assertRaisesRegex(HistoryError, ":2:"):
                History.load([file.name])


class Payload(unittest.TestCase):
    """Content that describes itself."""

    def test_what_is_made_can_be_parsed(self):
        for size in (0, 40, 1000):
            content = make("r1", 3, 17, size)
            self.assertEqual((3, 17), parse("r1", content))
            self.assertGreaterEqual(len(content), size)

    def test_every_single_change_is_seen(self):
        content = make("r1", 3, 17, 40)
        for at in range(len(content)):
            self.assertIsNone(parse("r1", content[:at] + chr(ord(content[at]) ^ 1) + content[at + 1:]))
            self.assertIsNone(parse("r1", content[:at]))

    def test_other_run_is_refused(self):
        self.assertIsNone(parse("r2", make("r1", 3, 17)))


if __name__ == "__main__":
    unittest.main()
