#!/usr/bin/python3
"""The rolling campaign: a broker as deploy/up makes it (the real supervisord), under the load of the crash campaign, while its
stages are scaled and restarted by `ciphermqctl`. Nothing may be lost, reordered or delivered twice, and the connections of
other stages must stay.

Usage: rolling.py [--minutes N | --slice] [--bench SECONDS] [--scale-max N] ...
Each round: scale encryptor 1..8..1, ingest 1..3..1, dispatcher 1..3..1; then restart every stage, alone and as one of two.
  --minutes N       rounds until so much time has passed; without it one round
  --slice           less than a round, for every run of all tests
  --bench SECONDS   then, with a broker of its own, `cmq-bench sustained` again and again while the encryptors are scaled
Units: seconds unless a name says otherwise.
Errors: exit 1 with findings; the histories and logs stay in the directory that is named then.
Callers: ctest (crash.rolling), a developer.
"""

import argparse
import glob
import os
import re
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
import time

from campaign import Phase
from clients import ACK_WAIT_MS, MAX_DELIVER

from actors import HOST, Stop
from broker import STAGES, BrokerError, find_build, wait_until
from checker import Options
from home import Home

SETTLED_S = 1.0         # so long no connection ends before the next stage is moved
SETTLE_S = 60.0
HISTORY_S = 120.0       # then the next broker: the checker keeps all of a history in memory
SETTINGS = {"ring.stall_ms": 20000, "ingest.idle_s": 3600}      # on a busy machine nobody is stopped
RATE = re.compile(r"^delivered *: *([0-9,]+) messages/s", re.MULTILINE)
SIDES = {"ingest": ("http",), "encryptor": (), "dispatcher": ("root", "v1", "sse")}


class Idlers:
    """Connections that only wait: kept HTTP ones, and Server-Sent Events of a topic without messages. Notes who is ended."""

    def __init__(self, http_port, ws_port, note):
        self.ports = {"http": http_port, "sse": ws_port}
        self.note = note
        self.stop_flag = Stop()
        self.fault = None
        self.connections = {}       # socket -> [kind, what has come]
        self.thread = threading.Thread(target=self._run, name="idlers", daemon=True)

    def start(self):
        for kind in ("http", "http", "sse", "sse"):
            self._open(kind)
        self.thread.start()

    def stop(self):
        self.stop_flag.stop()
        if self.thread.is_alive():
            self.thread.join()
        for sock in self.connections:
            sock.close()

    def _open(self, kind):
        path = "/healthz" if kind == "http" else "/t/quiet/sse"
        while not self.stop_flag.now:
            sock = socket.socket()
            sock.settimeout(10.0)
            try:
                sock.connect((HOST, self.ports[kind]))
                sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                head = sock.recv(4096)
            except OSError:
                head = b""
            if head and not head.startswith(b"HTTP/1.1 503"):   # one that goes away says so
                if not head.startswith(b"HTTP/1.1 200"):
                    self.fault = f"{kind}: {head[:100]!r}"
                self.connections[sock] = [kind, head]
                return
            sock.close()
            self.stop_flag.wait(0.01)

    def _run(self):
        while not self.stop_flag.now:
            ready, _, _ = select.select([self.stop_flag.fd, *self.connections], [], [])
            for sock in ready:
                if sock in self.connections:
                    self._read(sock)

    def _read(self, sock):
        connection = self.connections[sock]
        try:
            data = sock.recv(4096)
        except OSError:
            data = b""
        connection[1] = (connection[1] + data)[-64:]
        if not data:
            kind, tail = self.connections.pop(sock)
            sock.close()
            self.note(type="ended", kind=kind, t=time.monotonic(), answered=kind == "http" or tail.endswith(b"0\r\n\r\n"))
            self._open(kind)


class Ends:
    """Counts what the clients note of ended connections, by reading on in their histories."""

    def __init__(self, directory):
        self.directory, self.offsets = directory, {}
        self.counts = {}

    def look(self):
        """The sum of all so far."""
        for path in glob.glob(os.path.join(self.directory, "*.jsonl")):
            with open(path, "rb") as file:
                file.seek(self.offsets.get(path, 0))
                data = file.read()
            whole = data[:data.rfind(b"\n") + 1]
            self.offsets[path] = self.offsets.get(path, 0) + len(whole)
            for line in whole.splitlines():
                if b'"ended"' in line:
                    kind = line.replace(b" ", b"").partition(b'"kind":"')[2].partition(b'"')[0].decode()
                    self.counts[kind] = self.counts.get(kind, 0) + 1
        return sum(self.counts.values())


class Rolling(Phase):
    """One broker, and all that is done to it."""

    def __init__(self, args, name, settings=None):
        super().__init__(args, name, {**SETTINGS, **(settings or {})})
        self.clients.patterns = ("*", "jobs.*")     # deploy/up has published, too
        self.ends = Ends(self.directory)
        self.idlers = None
        self.moved = dict.fromkeys(STAGES, 0)
        self.slowest = 0.0

    def make_broker(self, settings):
        return Home(self.args.build, settings)

    def start(self):
        super().start()
        self.idlers = Idlers(self.broker.http_port, self.broker.ws_port, self.note)
        self.idlers.start()
        self.settle()

    def settle(self):
        """Until no connection has ended for a while, and messages go through: what comes later belongs to the next move."""
        last = [self.ends.look(), time.monotonic()]
        size = self.clients.delivered()

        def settled():
            self.clients.check_alive()
            count = self.ends.look()
            if count != last[0]:
                last[:] = count, time.monotonic()
            return time.monotonic() - last[1] > SETTLED_S and self.clients.delivered() > size

        wait_until(settled, SETTLE_S, "traffic that goes on", 0.05)

    def command(self, *words):
        begin = time.monotonic()
        self.broker.command(*words)
        self.slowest = max(self.slowest, time.monotonic() - begin)
        if self.args.verbose:
            print(f"{' '.join(words)}: {time.monotonic() - begin:.2f} s", flush=True)

    def scale(self, stage, top):
        """1, 2, ..., top, ..., 2, 1."""
        self.note(type="move", stage=stage, what="scaled", t=time.monotonic())
        for count in [*range(2, top + 1), *range(top - 1, 0, -1)]:
            self.command("scale", stage, str(count))
            self.moved[stage] += 1
            if self.broker.alive(stage) != list(range(count)):
                raise BrokerError(f"{stage} was scaled to {count}: {self.broker.alive(stage)} live")
        self.settle()

    def restart(self, stage, count):
        """All instances, one after the other, where so many run."""
        self.note(type="move", stage=stage, what="restarted" if count > 1 else "restarted alone", t=time.monotonic())
        if count > 1:
            self.command("scale", stage, str(count))
        self.command("restart", stage)
        self.moved[stage] += count
        if count > 1:
            self.command("scale", stage, "1")
        self.settle()

    def round(self):
        self.scale("encryptor", self.args.scale_max)
        self.scale("ingest", min(3, self.args.scale_max))
        self.scale("dispatcher", min(3, self.args.scale_max))
        for stage in STAGES:
            for count in (1, 2):
                self.restart(stage, count)

    def slice(self):
        self.scale("encryptor", min(3, self.args.scale_max))
        for stage, count in (("ingest", 2), ("encryptor", 1), ("dispatcher", 2)):
            self.restart(stage, count)

    def drain(self):
        self.idlers.stop()
        super().drain()
        self.figures.update({f"moved_{stage}": count for stage, count in self.moved.items()})
        self.figures["slowest_command_s"] = f"{self.slowest:.1f}"

    def more_faults(self, report):
        """An orderly end is no death: no message of the root endpoint comes again, and each side saw its ends."""
        figures, faults = report.figures, []
        self.ends.look()
        print(f"{self.name}: ended by the broker " + " ".join(f"{kind}={n}" for kind, n in sorted(self.ends.counts.items()))
              + f", without an answer {figures['unanswered']}, refused {figures['refused']}", flush=True)
        if figures["duplicates"] > figures["duplicates_of_retries"]:
            faults.append(f"{figures['duplicates'] - figures['duplicates_of_retries']} messages of / came twice")
        faults += [f"no connection of {stage} was ended by its restart ({kind})"
                   for stage, kinds in SIDES.items() for kind in kinds if not self.ends.counts.get(kind)]
        if self.idlers.fault:
            faults.append(self.idlers.fault)
        return faults


def rounds(phase):
    """As many as one history should have."""
    end = min(phase.args.end, time.monotonic() + HISTORY_S)
    if phase.args.slice:
        phase.slice()
        return
    while True:
        phase.round()
        if time.monotonic() >= end:
            return


def bench(args):
    """cmq-bench, which checks that every message came once and in order, again and again beside scaling encryptors."""
    program = os.path.join(args.build, "tests", "bench", "cmq-bench")
    end, rates, good, steps = time.monotonic() + args.bench, [], True, 0
    with Home(args.build, SETTINGS) as home:
        while good and time.monotonic() < end:
            child = subprocess.Popen([program, "sustained", "--config", home.config, "--messages", str(args.bench_messages)],
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            top = args.scale_max
            plan = [*range(2, top + 1), *range(top - 1, 0, -1)]
            while child.poll() is None:
                home.command("scale", "encryptor", str(plan[steps % len(plan)]))
                steps += 1
            text = child.stdout.read()
            good = child.returncode == 0
            rates += [int(rate.replace(",", "")) for rate in RATE.findall(text)]
            if not good or args.verbose:
                print(text, flush=True)
        home.command("scale", "encryptor", "1")
    print(f"bench: {len(rates)} runs of {args.bench_messages} messages beside {steps} steps of scale encryptor: "
          + ("every message once and in order" if good else "FAILED")
          + (f"; messages/s least {min(rates):,} median {sorted(rates)[len(rates) // 2]:,} most {max(rates):,}" if rates else ""),
          flush=True)
    return good and steps > 0


def main():
    parser = argparse.ArgumentParser(description="scales and restarts the stages of a broker under load")
    parser.add_argument("--build", default=find_build())
    parser.add_argument("--minutes", type=float, default=0, metavar="N", help="rounds until so much time has passed")
    parser.add_argument("--slice", action="store_true", help="less than a round")
    parser.add_argument("--bench", type=float, default=0, metavar="SECONDS", help="also cmq-bench beside scaling encryptors")
    parser.add_argument("--bench-messages", type=int, default=10000000, metavar="N")
    parser.add_argument("--scale-max", type=int, default=8, metavar="N", help="most encryptors (8)")
    parser.add_argument("--slots", type=int, default=16)
    for role, count in (("publishers", 3), ("consumers", 3), ("subscribers", 2), ("members", 3)):
        parser.add_argument(f"--{role}", type=int, default=count, metavar="N")
    parser.add_argument("--verbose", action="store_true", help="each command as it is done")
    parser.add_argument("--seed", type=int, default=secrets.randbits(31))
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))   # so that everything started is ended
    print(f"seed {args.seed}", flush=True)
    promised = Options(slack_s=2.5, ack_wait_s=ACK_WAIT_MS / 1000, max_deliver=MAX_DELIVER, window_s=600.0)
    args.end = time.monotonic() + args.minutes * 60
    good = Rolling(args, "rolling").run(rounds, promised)
    while good and time.monotonic() < args.end:
        good = Rolling(args, "rolling").run(rounds, promised)
    if args.bench:
        good = bench(args) and good
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
