#!/usr/bin/python3
"""tests/bench/observe.py: what it costs to be looked at: the sustained load alone, and with Prometheus and a dashboard.

One broker (tests/support/broker.py, the settings of a new installation) runs all the time, with topics and groups in all rows of
its tables. Each round runs the load (cmq-bench, which checks each message) once alone and once observed, the next round the other
way round: /metrics is read once a second over a connection that stays, as Prometheus does, and a WebSocket of the dashboard gets
each second's look. Printed are the medians, their spread, the ratio of each round, and the CPU of the stages a message.

    tests/bench/observe.py [--build build/release] [--rounds 8] [--messages 60000000] [--interval 1] [--json FILE]

A ratio within the spread says nothing: repeat on a quiet machine, with more messages, or with --interval 0.1, whose cost is ten
times that of a second's.

Exit status: 0 measured and checked, 1 a check failed.
"""

import argparse
import http.client
import json
import os
import statistics
import sys
import threading

from compare import LOADS, Side, cell
from restart import CheckFailed, commit
from broker import HOST, find_build  # found by restart
from v1client import V1Client
from wsclient import WsClient, WsError

TOPICS, GROUPS = 128, 64  # rows of the tables


class Observer:
    """A scraper and a dashboard, from enter to exit."""

    def __init__(self, broker, interval):
        self.broker, self.interval = broker, interval
        self.scrapes, self.scraped_bytes, self.looks, self.look_bytes, self.failure = 0, 0, 0, 0, None
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._guard, args=(work,)) for work in (self._scrape, self._watch)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        for thread in self._threads:
            thread.join()
        if self.failure is None and (self.scrapes == 0 or self.looks == 0):
            self.failure = "nothing was observed"

    def _guard(self, work):
        try:
            work()
        except (OSError, http.client.HTTPException, WsError) as error:
            self.failure = f"{work.__name__}: {error!r}"

    def _read(self, port, path, needed):
        """Over one connection, each interval until the end; yields the size."""
        client = http.client.HTTPConnection(HOST, port, timeout=30)
        while True:
            client.request("GET", path)
            answer = client.getresponse()
            text = answer.read()
            if answer.status != 200 or needed not in text:
                raise OSError(f"{path}: {answer.status}")
            yield len(text)
            if self._ended.wait(self.interval):
                break
        client.close()

    def _scrape(self):
        for size in self._read(self.broker.http_port, "/metrics", b"ciphermq_group_lag_records{"):
            self.scrapes, self.scraped_bytes = self.scrapes + 1, size

    def _watch(self):
        """A dashboard gets a look a second, however many there are: what is to come more often is asked for instead."""
        if self.interval < 1:
            for size in self._read(self.broker.ws_port, "/v1/status", b'"groups":[{'):
                self.looks, self.look_bytes = self.looks + 1, size
            return
        board = WsClient(HOST, self.broker.ws_port, "/v1/status", subprotocol="ciphermq.status.json", timeout=30)
        while not self._ended.is_set():
            self.look_bytes = len(board.receive(30))
            self.looks += 1
        board.drop()


def fill_tables(broker):
    """As many topics and groups as have rows, so that looks have their full size."""
    client = http.client.HTTPConnection(HOST, broker.http_port, timeout=30)
    for number in range(TOPICS):
        client.request("POST", f"/v1/topics/observed.topic.{number}", "x", {"Content-Type": "text/plain"})
        answer = client.getresponse()
        answer.read()
        if answer.status != 200:
            raise CheckFailed(f"a topic could not be made: {answer.status}")
    client.close()
    with V1Client(HOST, broker.ws_port) as consumer:
        for number in range(GROUPS):
            consumer.consume("observed.>", f"group-{number}", since="latest")


def run(side, bench, observer=None):
    """One run of the load."""
    if observer is None:
        side.run(bench, "observed-load")
        return
    with observer:
        side.run(bench, "observed-load")
    if observer.failure is not None:
        raise CheckFailed(observer.failure)
    print(f"{'':15} {'':8}  {observer.scrapes} scrapes of {observer.scraped_bytes:,} bytes, {observer.looks} looks of "
          f"{observer.look_bytes:,} bytes", flush=True)


def report(alone, observed):
    """The table, and the ratio of each round."""
    print("\n| | alone | observed | observed of alone | of each round |\n|---|---|---|---|---|")
    for what in ("accepted", "delivered"):
        left, right = alone.rates("observed-load", what), observed.rates("observed-load", what)
        rounds = [after / before * 100 for before, after in zip(left, right)]
        print(f"| {what}/s | {cell(left)} | {cell(right)} | {statistics.median(right) / statistics.median(left) * 100:.1f} % | "
              f"{statistics.median(rounds):.1f} % ({min(rounds):.1f}–{max(rounds):.1f}) |")
    for stage in alone.runs["observed-load"][0]["cpu_ns_per_message"]:
        left, right = ([one["cpu_ns_per_message"][stage] for one in side.runs["observed-load"]] for side in (alone, observed))
        print(f"| {stage}, CPU ns a message | {statistics.median(left):.2f} | {statistics.median(right):.2f} | "
              f"{statistics.median(right) / max(statistics.median(left), 0.001) * 100:.1f} % | |")
    print("check     : ok, each message of all runs came exactly once and in order")


def main():
    """Parses arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", default=find_build("build/release"))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--messages", type=int, default=60000000, help="of one run; one should take many intervals")
    parser.add_argument("--interval", type=float, default=1.0, help="seconds between looks")
    parser.add_argument("--json", help="write the results there")
    args = parser.parse_args()
    if args.rounds < 1 or not 0.01 <= args.interval <= 60:
        parser.error("--rounds is at least 1, --interval 0.01 to 60 seconds")
    bench = os.path.join(os.path.abspath(args.build), "tests", "bench", "cmq-bench")
    LOADS["observed-load"] = ["sustained", "--messages", str(args.messages)]
    alone, observed = Side("alone", os.path.abspath(args.build)), Side("observed", os.path.abspath(args.build))
    observed.broker = alone.broker
    try:
        alone.start()
        fill_tables(alone.broker)
        print(f"machine   : {os.cpu_count()} cores, Linux {os.uname().release}, commit {commit()}; log on disk, sync = always")
        for number in range(args.rounds):
            for side in (alone, observed) if number % 2 == 0 else (observed, alone):
                run(side, bench, Observer(alone.broker, args.interval) if side is observed else None)
        report(alone, observed)
    except BaseException:
        alone.broker.abandon()
        raise
    alone.broker.stop()
    if args.json:
        with open(args.json, "w", encoding="ascii") as out:
            json.dump({"commit": commit(), "interval_s": args.interval,
                       "sides": {side.name: side.runs for side in (alone, observed)}}, out, indent=1)
            out.write("\n")


if __name__ == "__main__":
    try:
        main()
    except CheckFailed as failure:
        print(f"observe.py: {failure}", file=sys.stderr)
        sys.exit(1)
