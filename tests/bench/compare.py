#!/usr/bin/python3
"""tests/bench/compare.py: the same loads against two brokers in turn: clear text and TLS, without and with tokens, two builds.

Both brokers (tests/support/broker.py, the settings of a new installation) run all the time, and the idle one costs next to
nothing. Each round runs every load (cmq-bench, which checks each message) against the one and then the other, the next round
the other way round; printed are the medians, their spread, and the CPU of the stages and of the generator a message.

    tests/bench/compare.py --tls                          # clear text against TLS on both ports
    tests/bench/compare.py --tokens 10000                 # nobody needs a token against one of so many
    tests/bench/compare.py --against build/before         # another build against this one
        [--build build/release] [--loads sustained,durable,...] [--rounds 3] [--json FILE]

Exit status: 0 measured and checked, 1 a check failed.
"""

import argparse
import base64
import hashlib
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time

from restart import CheckFailed, commit
from broker import STAGES, Broker, find_build  # found by restart

TICK_NS = 1e9 / os.sysconf("SC_CLK_TCK")
# Options of cmq-bench. Singles: 16 or 64 connections; batches: 20,000 messages a POST over 4.
LOADS = {
    "sustained": ["sustained"],
    "durable": ["durable"],
    "durable-single": ["durable-single"],
    "accepted": ["sustained", "--ack", "accepted"],
    "accepted-single": ["single", "--ack", "accepted"],
    "latency": ["latency", "--rate", "1000", "--seconds", "5"],
}


def make_certificate(directory):
    """A self-signed certificate for the loopback address; returns the settings."""
    cert, key = os.path.join(directory, "cert.pem"), os.path.join(directory, "key.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                    "-out", cert, "-days", "2", "-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1"],
                   check=True, capture_output=True)
    os.chmod(key, 0o600)
    return {"tls.cert_file": cert, "tls.key_file": key}


def make_tokens(directory, count):
    """A file of digests and a file with one of the tokens; returns the settings and the latter."""
    path, one = os.path.join(directory, "tokens"), os.path.join(directory, "token")
    lines = []
    token = ""
    for number in range(count):
        token = "cmq_" + base64.urlsafe_b64encode(secrets.token_bytes(32)).decode("ascii").rstrip("=")
        digest = hashlib.sha256(token.encode("ascii")).hexdigest()
        lines.append(f"token t{number} sha256:{digest} created:{int(time.time() * 1000)} expires:never publish:> "
                     "subscribe:> consume:>\n")
    with open(path, "w", encoding="ascii") as out:
        out.writelines(lines)
    os.chmod(path, 0o640)
    with open(one, "w", encoding="ascii") as out:
        out.write(token + "\n")
    os.chmod(one, 0o600)
    return {"tokens.file": path}, one


class Side:
    """One of the two brokers."""

    def __init__(self, name, build, settings=None, token_file=None):
        self.name = name
        self.broker = Broker(build, settings={"ring.slots": 65536, "log.retention_bytes": "4G", **(settings or {})})
        self.token_file = token_file
        self.runs = {}

    def start(self):
        """All stages; readiness is asked for where no TLS and no token is in the way."""
        self.broker.prepare()
        for stage in STAGES:
            self.broker.spawn(stage, 0)
        deadline = time.monotonic() + 20
        while sum(member["alive"] for member in self.broker.members()) < len(STAGES):
            self.broker.check_alive()
            if time.monotonic() > deadline:
                raise CheckFailed(f"{self.name}: not ready\n{self.broker.log_tails()}")
            time.sleep(0.02)

    def cpu_ns(self):
        """Of each stage, user and kernel."""
        used = {}
        for (stage, _), process in self.broker.processes.items():
            with open(f"/proc/{process.child.pid}/stat", encoding="ascii") as stat:
                fields = stat.read().rpartition(")")[2].split()
            used[stage] = (int(fields[11]) + int(fields[12])) * TICK_NS
        return used

    def run(self, bench, load):
        """One run of one load; keeps and prints it."""
        before = self.cpu_ns()
        command = [bench, *LOADS[load], "--config", self.broker.config, "--json", "-"]
        if self.token_file:
            command += ["--token-file", self.token_file]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            raise CheckFailed(f"{self.name}, {load}: exit {result.returncode}\n{result.stdout}{result.stderr}"
                              f"{self.broker.log_tails()}")
        report = json.loads(result.stdout)
        run = report["runs"][0]
        run["tls"] = report["tls"]
        run["cpu_ns_per_message"] = {stage: (used - before[stage]) / run["messages"] for stage, used in self.cpu_ns().items()}
        self.runs.setdefault(load, []).append(run)
        cpu = ", ".join(f"{stage} {used:.0f}" for stage, used in run["cpu_ns_per_message"].items())
        print(f"{load:15} {self.name:8}: accepted {run['accepted']['messages_per_s']:12,.0f}/s, delivered "
              f"{run['delivered']['messages_per_s']:12,.0f}/s; reply p50 {run['reply']['p50_us'] / 1000:.2f} ms, p99 "
              f"{run['reply']['p99_us'] / 1000:.2f} ms; CPU ns a message: {cpu}, publishers "
              f"{run['publishers_cpu_ns_per_message']:.0f}, consumer {run['consumer_cpu_ns_per_message']:.0f}", flush=True)

    def rates(self, load, what):
        """Messages a second of all rounds."""
        return [run[what]["messages_per_s"] for run in self.runs[load]]


def cell(values):
    """Median and spread."""
    return f"{statistics.median(values):,.0f} ({min(values):,.0f}–{max(values):,.0f})"


def table(one, other, loads):
    """As in the README."""
    print(f"\n| load | | {one.name} | {other.name} | {other.name} of {one.name} |\n|---|---|---|---|---|")
    for load in loads:
        for what in ("accepted", "delivered"):
            left, right = one.rates(load, what), other.rates(load, what)
            share = statistics.median(right) / statistics.median(left)
            print(f"| {load} | {what}/s | {cell(left)} | {cell(right)} | {share * 100:.0f} % |")
        for point in ("p50_us", "p99_us"):
            left, right = ([run["reply"][point] for run in side.runs[load]] for side in (one, other))
            print(f"| {load} | reply {point[:-3]}, us | {cell(left)} | {cell(right)} | "
                  f"{statistics.median(right) / statistics.median(left) * 100:.0f} % |")
    names = {run["tls"] for load in loads for run in other.runs[load] if run["tls"]}
    print("check     : ok, each message of all runs came exactly once and in order" + (f"; {', '.join(names)}" if names else ""))


def sides_of(args, directory):
    """The two brokers that are wanted."""
    build = os.path.abspath(args.build)
    if args.against:
        return Side("before", os.path.abspath(args.against)), Side("after", build)
    settings, names, token_file = {}, [], None
    if args.tls:
        settings.update(make_certificate(directory))
        names.append("TLS")
    if args.tokens:
        more, token_file = make_tokens(directory, args.tokens)
        settings.update(more)
        names.append("tokens")
    return Side("clear" if args.tls else "open", build), Side("+".join(names), build, settings, token_file)


def main():
    """Parses arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--build", default=find_build("build/release"))
    parser.add_argument("--against", help="the other build, clear text both")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--tokens", type=int, default=0)
    parser.add_argument("--loads", default="sustained,durable", help=", ".join(LOADS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="write the results there")
    args = parser.parse_args()
    loads = args.loads.split(",")
    if not (args.against or args.tls or args.tokens) or any(load not in LOADS for load in loads):
        parser.error("one of --tls, --tokens and --against is needed, and loads that are known")
    bench = os.path.join(os.path.abspath(args.build), "tests", "bench", "cmq-bench")
    with tempfile.TemporaryDirectory(prefix="cmq-compare-") as directory:
        one, other = sides_of(args, directory)
        try:
            one.start()
            other.start()
            print(f"machine   : {os.cpu_count()} cores, Linux {os.uname().release}, commit {commit()}; log on disk, sync = always")
            for number in range(args.rounds):
                for load in loads:
                    for side in (one, other) if number % 2 == 0 else (other, one):
                        side.run(bench, load)
            table(one, other, loads)
        except BaseException:
            one.broker.abandon()
            other.broker.abandon()
            raise
        one.broker.stop()
        other.broker.stop()
    if args.json:
        with open(args.json, "w", encoding="ascii") as out:
            json.dump({"commit": commit(), "sides": {side.name: side.runs for side in (one, other)}}, out, indent=1)
            out.write("\n")


if __name__ == "__main__":
    try:
        main()
    except CheckFailed as failure:
        print(f"compare.py: {failure}", file=sys.stderr)
        sys.exit(1)
