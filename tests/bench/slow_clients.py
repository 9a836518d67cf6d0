#!/usr/bin/python3
"""tests/bench/slow_clients.py: what do thousands of slow connections cost the publishers who behave?

A broker of its own (tests/support/broker.py, the settings of a new installation but for the limit of descriptors) is measured
quiet and under a slow load (slow_load.py) in turn: publishers send single durable POSTs at a fixed rate, whatever became of
the ones before (cmq-bench latency, which also consumes and checks each message). Printed are the times from the POST to the
durable 200, the memory of each stage, and how many of the slow connections the broker ended.

    tests/bench/slow_clients.py --build build/release [--slow 2000] [--idle 1000] [--rate 500] [--seconds 20] [--rounds 3]
                                [--json FILE]

Checked: each acknowledged message is delivered, once and in order; every stage stays within its bound of memory. The goal for
p99 under the load, at most twice the quiet value, is a verdict that is printed and no failure.

Exit status: 0 measured and checked, 1 a check failed.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import threading

from restart import CheckFailed, commit
from broker import STAGES, Broker, find_build, memory_bound, wait_until  # found by restart

HERE = os.path.dirname(os.path.abspath(__file__))
MIB = 1 << 20
P99_GOAL = 2.0
READY_S = 60.0
# Of one connection, as the READMEs of the stages say; a slow one reads nothing and has one subscription at most.
HTTP_CONNECTION_BYTES = 35 << 10
WS_CONNECTION_BYTES = 4 << 10


def memory_bytes(pid):
    """Anonymous and file pages of a process; the ring's pages are everybody's."""
    total = 0
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
        for line in status:
            if line.startswith(("RssAnon:", "RssFile:")):
                total += int(line.split()[1]) * 1024
    return total


class Memory:
    """The memory of each stage's process, and the most that was seen since the last call of `peak`."""

    def __init__(self, broker):
        self.pids = {stage: broker.processes[(stage, 0)].child.pid for stage in STAGES}
        self.most = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def now(self):
        """Bytes by stage."""
        return {stage: memory_bytes(pid) for stage, pid in self.pids.items()}

    def peak(self):
        """The largest of each stage since the last call."""
        most, self.most = self.most, {}
        return {stage: max(value, most.get(stage, 0)) for stage, value in self.now().items()}

    def _watch(self):
        while not self._stop.wait(0.2):
            for stage, value in self.now().items():
                self.most[stage] = max(value, self.most.get(stage, 0))

    def stop(self):
        """Ends the thread."""
        self._stop.set()
        self._thread.join()


class SlowLoad:
    """The process with the slow connections; ready when all are open."""

    def __init__(self, broker, slow, idle, only):
        each = slow // 3
        counts = {"heads": slow - 2 * each, "bodies": each, "unread": each, "idle": idle}
        kinds = [part for kind, count in counts.items() if not only or kind in only for part in (f"--{kind}", str(count))]
        self.child = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "slow_load.py"), str(broker.http_port), str(broker.ws_port),
             *kinds],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._lines = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_until(lambda: self._lines or self.child.poll() is not None, READY_S, "the slow connections are open")
        if not self._lines:
            raise CheckFailed("the slow load did not start")
        self.ready = self._lines[0]

    def _read(self):
        for line in self.child.stdout:
            self._lines.append(json.loads(line))

    def stop(self):
        """Closes them; returns what became of them."""
        self.child.stdin.close()
        code = self.child.wait(30)
        self._reader.join()
        if code != 0 or len(self._lines) < 2:
            raise CheckFailed(f"the slow load ended with {code}")
        return self._lines[-1]


def publish(broker, args):
    """One measurement of the publishers who behave; the run of cmq-bench's report."""
    program = os.path.join(broker.build, "tests", "bench", "cmq-bench")
    result = subprocess.run(
        [program, "latency", "--config", broker.config, "--rate", str(args.rate), "--seconds", str(args.seconds),
         "--connections", str(args.connections), "--ack", "durable", "--json", "-"],
        capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise CheckFailed(f"cmq-bench: exit {result.returncode}\n{result.stderr}{broker.log_tails()}")
    run = json.loads(result.stdout)["runs"][0]
    if not run["check"]["ok"] or run["accepted"]["messages_per_s"] <= 0:
        raise CheckFailed(f"acknowledged messages: {run['check']['verdict']}")
    return run


def show(name, run):
    """One line of a measurement."""
    reply, late = run["reply"], run["late"]
    print(f"{name:10}: reply p50 {reply['p50_us'] / 1000:.2f} ms, p99 {reply['p99_us'] / 1000:.2f} ms, "
          f"max {reply['max_us'] / 1000:.2f} ms; the generator was late by p99 {late['p99_us'] / 1000:.2f} ms; "
          f"{run['check']['retries']} retries; CPU "
          + ", ".join(f"{stage} {run['stages'][stage]['cpu_ns'] / 1e9:.2f} s" for stage in STAGES), flush=True)


def total(counts, what):
    """Over all kinds."""
    return sum(counts.get(what, {}).values())


def show_counts(report):
    """What became of the slow connections of a round."""
    counts = report["counts"]
    ended = counts.get("ended", {})
    by_kind = ", ".join(f"{kind} {ended.get(kind, 0):,}" for kind in ("heads", "bodies", "unread", "idle"))
    print(f"{'ended':10}: {total(counts, 'ended'):,} of {total(counts, 'opened'):,} connections were ended by the broker "
          f"({by_kind}); {report['open_mean']:,.0f} were open on average; their process took {report['cpu_s']:.1f} s of CPU",
          flush=True)


def median_p99(runs):
    """Of the replies, in microseconds."""
    return statistics.median(run["reply"]["p99_us"] for run in runs)


def bounds(broker, args):
    """How much each stage may grow, by its settings and its README; bytes."""
    settings = {**DEFAULTS, **broker.settings()}
    receive = int(settings["ingest.receive_bytes_max"]) + int(settings["ingest.waiting_bytes_max"])
    return {"ingest": memory_bound(broker.build, (args.slow + args.connections) * HTTP_CONNECTION_BYTES + receive),
            "encryptor": memory_bound(broker.build, 32 * MIB),
            "dispatcher": memory_bound(broker.build, args.idle * WS_CONNECTION_BYTES + 32 * MIB)}


DEFAULTS = {"ingest.receive_bytes_max": 64 * MIB, "ingest.waiting_bytes_max": 64 * MIB}


def check_memory(bound, samples):
    """Prints each stage and checks that none grew beyond its bound."""
    late = []
    for stage in STAGES:
        before = samples[0]["quiet"][stage]
        most = max(sample["slow"][stage] for sample in samples)
        after = samples[-1]["after"][stage]
        print(f"{stage:10}: {before / MIB:.1f} MiB before, at most {most / MIB:.1f} MiB under the load, {after / MIB:.1f} MiB "
              f"after; grew by {(most - before) / MIB:.1f} of at most {bound[stage] / MIB:.1f} MiB")
        if most - before > bound[stage]:
            late.append(stage)
    if late:
        raise CheckFailed("memory beyond the bound: " + ", ".join(late))


def measure(broker, args):
    """All rounds; returns the report."""
    publish(broker, args)  # the first one pays for pages and files
    memory = Memory(broker)
    try:
        return measure_rounds(broker, args, memory)
    finally:
        memory.stop()


def measure_rounds(broker, args, memory):
    """Quiet and under the load in turn."""
    quiet, slow, samples, reports = [], [], [], []
    for number in range(1, args.rounds + 1):
        sample = {}
        quiet.append(publish(broker, args))
        sample["quiet"] = memory.peak()
        show(f"quiet {number}", quiet[-1])
        load = SlowLoad(broker, args.slow, args.idle, args.only.split(",") if args.only else [])
        slow.append(publish(broker, args))
        show(f"slow {number}", slow[-1])
        reports.append(load.stop())
        sample["slow"] = memory.peak()
        show_counts(reports[-1])
        if not args.only and reports[-1]["open_mean"] < (args.slow + args.idle) * 0.9:
            raise CheckFailed("the broker did not let them in")
        sample["after"] = memory.now()
        samples.append(sample)
    broker.check_alive()
    bound = bounds(broker, args)
    check_memory(bound, samples)
    ratio = median_p99(slow) / median_p99(quiet)
    messages = args.rate * args.seconds * args.rounds
    met = "met" if ratio <= P99_GOAL else "MISSED"
    print(f"{'check':10}: ok, {messages * 2:,} messages were acknowledged as durable, each came exactly once and in order")
    print(f"{'verdict':10}: p99 {median_p99(slow) / 1000:.2f} ms under the load, {median_p99(quiet) / 1000:.2f} ms quiet (medians of "
          f"{args.rounds}): {ratio:.2f} times; goal: at most {P99_GOAL:g} times: {met}; memory within bounds; nothing lost")
    return {"quiet": quiet, "slow": slow, "memory": samples, "bounds": bound, "slow_load": reports, "p99_ratio": ratio}


def main():
    """Parses arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", default=find_build("build/release"))
    parser.add_argument("--slow", type=int, default=2000, help="slow connections, in thirds")
    parser.add_argument("--idle", type=int, default=1000, help="idle WebSockets")
    parser.add_argument("--only", default="", help="of heads,bodies,unread,idle; to find out which of them costs what")
    parser.add_argument("--rate", type=int, default=500, help="POSTs a second")
    parser.add_argument("--connections", type=int, default=8, help="of the publishers")
    parser.add_argument("--seconds", type=int, default=20, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="write the results there")
    args = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # the stages inherit it
    settings = {"ring.slots": 65536}
    with Broker(args.build, settings=settings) as broker:
        print(f"machine   : {os.cpu_count()} cores, Linux {os.uname().release}, commit {commit()}")
        print(f"load      : {args.slow:,} slow connections (heads, bodies, unread replies), {args.idle:,} idle WebSockets")
        print(f"publishers: {args.rate} single durable POSTs a second on {args.connections} connections, {args.seconds} s each")
        report = measure(broker, args)
    if args.json:
        with open(args.json, "w", encoding="ascii") as out:
            json.dump({"commit": commit(), **report}, out, indent=1)
            out.write("\n")


if __name__ == "__main__":
    try:
        main()
    except CheckFailed as failure:
        print(f"slow_clients.py: {failure}", file=sys.stderr)
        sys.exit(1)
