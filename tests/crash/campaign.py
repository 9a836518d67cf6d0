#!/usr/bin/python3
"""The crash campaign: a whole broker on a tiny ring and a small log, under load, while its processes are killed.

The load: publishers to three topics, single and in batches, some with idempotency keys; consumers of the root endpoint;
subscribers that resume; members of a group that ack, nack, forget and leave; a reader of dead letters.

Usage: campaign.py [--points] [--kills N] [--client-kills N] [--ingest N] [--encryptor N] [--dispatcher N] ...
Phases, each with a broker, clients and a history of its own, each judged by the checker:
  points        every crash point of the sources, in every stage that can reach it: one incarnation dies there
  kills         random SIGKILL, and some SIGSTOP/SIGCONT, over the three stages, now and then all processes at once
  client kills  random SIGKILL of publishers, consumers, subscribers and members
After the faults everything acknowledged must arrive; every process must end with 0 on SIGTERM; /dev/shm must be empty.
Units: seconds unless a name says otherwise.
Errors: exit 1 with findings; the histories and logs stay in the directory that is named then.
Callers: ctest (crash.campaign), a developer.
"""

import argparse
import glob
import json
import os
import random
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCES = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(SOURCES, "tests", "support"))

from broker import STAGES, TINY, Broker, BrokerError, BrokerTimeout, find_build, wait_until  # noqa: E402
from checker import History, Options, check  # noqa: E402
from clients import ACK_WAIT_MS, DRAIN_S, MAX_DELIVER, Clients  # noqa: E402

POINT_S = 20.0      # a crash point must be reached within this
QUIET_S = 120.0     # a group that members keep waiting has a backlog
STOP_EFFECT_S = 2.5 # longest stop and stall_ms
SETTINGS = {**TINY, "log.retention_bytes": 256 << 20, "encryptor.idempotency_window_ms": 600000}
POINTS_SETTINGS = {"log.retention_bytes": 4 << 20}     # so that retention has points to die at
# Which stages reach a point of common/; points in a stage's own directory belong to that stage.
REACHED_BY = {"publish": ["ingest"], "lease": ["encryptor"], "commit": ["encryptor"], "stored": ["encryptor"],
              "join": list(STAGES), "leave": list(STAGES), "collect": list(STAGES)}
ONCE = ("join", "leave", "collect", "open", "segment", "index", "retain")   # an incarnation comes here once, or hardly more
LATER = {"ledger": 3, "sync": 10, "append": 10, "logger": 10}   # highest later visit that is tried; 40 without an entry
LOG = ("logger", "append", "sync", "stored", "open", "segment", "index", "retain")  # only of who holds the log's lock
# Reached only over a torn end, a record in two segments, or in a log that was never written: the tests of the log die at
# every call of those.
ELSEWHERE = ("append.part", "open.made", "retain.unlinked", "recover.cut", "recover.rewritten", "recover.synced", "retain.spared")
CREATION_POINTS = ("create.part",)  # reached by `ciphermqctl init`, not by a stage


class Phase:
    """One broker with its clients, from the first message to the verdict."""

    def __init__(self, args, name, settings=None):
        self.args, self.name = args, name
        self.random = random.Random(f"{args.seed} {name}")
        self.directory = tempfile.mkdtemp(prefix=f"cmq-crash-{name}-")
        self.broker = self.make_broker({**SETTINGS, "ring.slots": args.slots, **(settings or {})})
        self.clients = Clients(self.broker, self.directory, self.random.randrange(1 << 30))
        self.events = open(os.path.join(self.directory, "events.jsonl"), "w", encoding="ascii")
        self.events_lock = threading.Lock()
        self.expected = set()       # pids that were killed or sent to a crash point
        self.kills = dict.fromkeys(STAGES, 0)
        self.everything = 0         # deaths of all processes at once
        self.stops = dict.fromkeys(STAGES, 0)
        self.figures = {}
        self.clients_killed = 0

    def make_broker(self, settings):
        return Broker(self.args.build, self.args.ingest, self.args.encryptor, self.args.dispatcher, supervise=True,
                      settings=settings)

    def note(self, **entry):
        with self.events_lock:
            self.events.write(json.dumps(entry) + "\n")
            self.events.flush()

    # ---- faults ----

    def kill(self, stage, number):
        """SIGKILL; noted before it is sent, so that its effects come after it. None if it was dead already."""
        if not self.broker.processes[stage, number].alive():
            return None
        self.note(type="crash", stage=stage, instance=number, t=time.monotonic(), signal=9)
        pid = self.broker.signal(stage, number)
        if pid is not None:
            self.expected.add(pid)
            self.kills[stage] += 1
        return pid

    def pause(self, stage, number, seconds):
        """SIGSTOP for a while. The instance may be killed and replaced meanwhile; then SIGCONT does nothing."""
        self.note(type="stop", stage=stage, instance=number, t=time.monotonic())
        pid = self.broker.signal(stage, number, signal.SIGSTOP)
        if pid is None:
            return
        self.stops[stage] += 1
        if seconds * 1000 >= TINY["ring.stall_ms"]:
            self.expected.add(pid)      # another of its stage ends it, if no kill comes first

        def resume():
            if self.broker.processes[stage, number].child.pid == pid:
                self.broker.signal(stage, number, signal.SIGCONT)

        threading.Timer(seconds, resume).start()

    def on_death(self, death):
        """Supervisor's thread. A death at a crash point is noted here, when it has happened."""
        if "CMQ_CRASH" in death.env and death.code == -signal.SIGKILL and death.pid not in self.expected:
            self.expected.add(death.pid)
            self.kills[death.stage] += 1
            self.note(type="crash", stage=death.stage, instance=death.instance, t=death.time, signal=9)

    # ---- the course of a phase ----

    def start(self):
        self.broker.on_death = self.on_death
        self.broker.start()
        for _ in range(self.args.publishers):
            self.clients.start("publish")
        for role, count in (("consume", self.args.consumers), ("subscribe", self.args.subscribers),
                            ("member", self.args.members), ("letters", 1)):
            for _ in range(count):
                self.clients.start(role)
        wait_until(self.clients.delivered, POINT_S, "the first delivery")

    def drain(self):
        """Faults are over: publishers end, everything is delivered, consumers read to the end of their streams."""
        self.clients.stop("publish")
        done = False
        try:
            self.broker.wait_ready()
            self.quiet()
            done = self.complete()
            deadline = time.monotonic() + DRAIN_S
            while not done and time.monotonic() < deadline:
                self.quiet()
                done = self.complete()
        except BrokerError as error:
            print(f"{self.name}: {error}", file=sys.stderr)
        for role in self.clients.children:
            self.clients.stop(role)
        self.note(type="drain", done=done, t=time.monotonic())

    def quiet(self):
        """Until nothing is delivered any more for longer than a message waits for its ack."""
        last = [0, time.monotonic()]

        def still():
            self.clients.check_alive()
            size, now = self.clients.delivered(), time.monotonic()
            if size != last[0]:
                last[:] = size, now
            return now - last[1] > 1.5 * ACK_WAIT_MS / 1000

        wait_until(still, QUIET_S, "the drain", 0.05)

    def complete(self):
        """Whether everything acknowledged has arrived where it belongs."""
        seqs = [int(name[:16], 16) for name in os.listdir(self.broker.log_directory)
                if name.endswith(".log")]
        self.note(type="retained", seq=min(seqs, default=0), t=time.monotonic())
        for killed in self.clients.killed:
            mark_killed(self.directory, *killed)
        self.clients_killed += len(self.clients.killed)
        self.clients.killed = []
        history = History.load(sorted(glob.glob(os.path.join(self.directory, "*.jsonl"))))
        history.drained = True
        return not {3} & check(history, self.options).rules()

    def unexpected_deaths(self):
        return [f"{d.stage}.{d.instance} pid {d.pid} ended with {d.code} {d.env.get('CMQ_CRASH', '')}"
                for d in self.broker.deaths if d.pid not in self.expected or d.code != -signal.SIGKILL]

    def verdict(self, options):
        """Checks the histories; prints the summary. True if every promise was kept."""
        self.events.close()
        history = History.load(sorted(glob.glob(os.path.join(self.directory, "*.jsonl"))))
        report = check(history, options)
        faults = [str(finding) for finding in report.findings] + self.unexpected_deaths() + self.more_faults(report)
        figures = report.figures
        kills = " ".join(f"{stage}={self.kills[stage]}+{self.stops[stage]}" for stage in STAGES)
        kills += f" all_at_once={self.everything}"
        gaps = delivery_gaps(history)
        excused = figures["lost"] if 3 not in report.rules() else 0
        print(f"{self.name}: kills+stops {kills} clients={self.clients_killed} records={figures['records']} "
              f"messages={figures['acknowledged']} delivered={figures['delivered']} "
              f"duplicates={figures['duplicates']} (of retries {figures['duplicates_of_retries']}) "
              f"late={figures['late_after_disturbance']} unknown={figures['unknown_publishes']} "
              f"with_killed_clients={excused} loss={figures['lost'] - excused} "
              f"acks={len(history.acks)} nacks={len(history.nacks)} dead_letters={figures['dead_letters']} "
              f"keyed={len([k for k in history.keys.values() if k.key])} "
              f"repeats={len([k for k in history.keys.values() if k.duplicate])} "
              f"conflicts={len([k for k in history.keys.values() if k.status == 409])} gaps={len(history.gaps)} "
              f"gap_ms={gaps[0]} gap_of_stops_ms={gaps[1]}"
              + "".join(f" {name}={value}" for name, value in self.figures.items()), flush=True)
        for fault in faults:
            print(f"{self.name}: {fault}", file=sys.stderr)
        return not faults

    def more_faults(self, _report):
        """What a kind of campaign asks for beyond the rules."""
        return []

    def run(self, faults, options):
        """The whole phase; faults(self) does what the phase is about."""
        ok, self.options = False, options
        try:
            self.start()
            faults(self)
            self.drain()
            self.broker.stop()
            ok = self.verdict(options)
        except (BrokerError, subprocess.TimeoutExpired) as error:
            print(f"{self.name}: {error}\n" + "\n".join(self.unexpected_deaths()[:10]), file=sys.stderr)
            if self.broker.directory and os.path.isdir(self.broker.directory):
                print(self.broker.log_tails(), file=sys.stderr)
        finally:
            self.clients.abandon()
            self.broker.abandon()
            if ok:
                shutil.rmtree(self.directory)
            else:
                print(f"{self.name}: histories are in {self.directory}", file=sys.stderr)
        return ok


def mark_killed(directory, role, number, t, until):
    """A killed client could not write the end of its last session: that is done here."""
    path = os.path.join(directory, f"{role}-{number}.jsonl")
    if not os.path.exists(path):
        return
    with open(path, "r+", encoding="ascii") as file:
        text = file.read()
        whole = text[:text.rfind("\n") + 1]     # a line may be cut
        file.seek(0)
        file.truncate()
        file.write(whole)
        opened = [json.loads(line) for line in whole.splitlines() if '"type":"session"' in line]
        if opened and opened[-1]["event"] == "open":
            file.write(json.dumps({**opened[-1], "event": "kill", "t": t, "until": until}) + "\n")


def delivery_gaps(history):
    """Longest time without any delivery while faults went on, in ms: (round kills only, round stops). A stopped dispatcher
    holds its records until stall_ms has passed, so its gaps are counted apart."""
    events = sorted(history.crashes + history.stops + history.moves)
    times = sorted(frame[1] for frame in history.frames)
    longest = [0.0, 0.0]
    for a, b in zip(times, times[1:]):
        if events and b > events[0][0] and a < events[-1][0] + STOP_EFFECT_S:
            round_stop = any(t - 0.1 < b and a < t + STOP_EFFECT_S for t, *_ in history.stops)
            longest[round_stop] = max(longest[round_stop], b - a)
    return [round(1000 * gap) for gap in longest]


# ---- crash points ----


def crash_points():
    """[(label, [stage, ...])] from the sources."""
    found = {}
    for folder in ("common", *STAGES):
        for path in sorted(glob.glob(os.path.join(SOURCES, folder, "**", "*.c"), recursive=True)):
            with open(path, encoding="utf-8") as source:
                for label in re.findall(r'CMQ_CRASH_POINT\("([^"]+)"\)', source.read()):
                    stages = [folder] if folder in STAGES else REACHED_BY.get(label.split(".")[0], list(STAGES))
                    found[label] = stages
    return sorted(found.items())


def die_at(phase, label, count, stage, number):
    """Lets one incarnation of an instance die at the count-th visit of a point. True if it died there."""
    broker = phase.broker
    env = {"CMQ_CRASH": f"{label}:{count}"}
    broker.set_next_env(stage, number, env)
    before = len(broker.deaths)
    wait_until(lambda: phase.kill(stage, number), POINT_S, f"{stage}.{number} is alive")
    nudged = [0.0]

    def died():
        phase.clients.check_alive()
        for death in broker.deaths[before:]:
            if death.env == env and (death.stage, death.instance) == (stage, number):
                return death
        process = broker.processes[stage, number]
        if process.env == env and process.alive() and time.monotonic() - nudged[0] > 0.25:
            nudged[0] = time.monotonic()
            nudge(phase, label, stage, number)
        return None

    try:
        death = wait_until(died, POINT_S, f"{label} in {stage}", 0.005)
    except BrokerTimeout:
        return False
    return death.code == -signal.SIGKILL


def nudge(phase, label, stage, number):
    """Some points are reached only when something happens."""
    kind = label.split(".")[0]
    if kind == "leave":
        # Before it is a member a SIGTERM would end it without leaving anything.
        if phase.broker.processes[stage, number].child.pid in [m["pid"] for m in phase.broker.members()]:
            phase.broker.signal(stage, number, signal.SIGTERM)
    elif kind == "collect":
        others = [s for s in STAGES if s != stage] or [stage]
        phase.kill(phase.random.choice(others), 0)
    elif kind in LOG:
        phase.kill(stage, 1 - number)       # who takes over holds the lock
    elif stage == "dispatcher":
        phase.clients.leave()       # release needs clients that leave; the others need clients that come to this one


def points(phase):
    """Every label, in every stage that reaches it: at the first visit, and at a later one."""
    reached, missed = 0, []
    for label, stages in crash_points():
        if label in CREATION_POINTS or label in ELSEWHERE:
            continue
        kind = label.split(".")[0]
        counts = [1] if kind in ONCE else [1, phase.random.randint(2, 40) if kind not in LATER else LATER[kind]]
        tries = [(stage, count) for stage in stages for count in counts]
        died = []
        for stage, count in tries:
            begin = time.monotonic()
            died.append(die_at(phase, label, count, stage, 0))
            if phase.args.verbose:
                print(f"{label}:{count} in {stage} {died[-1]} {time.monotonic() - begin:.1f} s", flush=True)
        reached += sum(died)
        # Whoever sees a dead member first collects it: that need not be the one we look at.
        if kind != "collect" or not any(died):
            missed += [f"{label}:{count} in {stage}" for (stage, count), ok in zip(tries, died) if not ok]
    phase.figures["points_reached"] = reached
    if missed:
        raise BrokerError("crash points that were not reached: " + ", ".join(missed))


def creation_points(args):
    """`ciphermqctl init` dies at each of its points; the next one makes the ring."""
    for label in CREATION_POINTS:
        for count in range(1, 6):
            broker = Broker(args.build, settings=SETTINGS, env={})
            try:
                broker.prepare(init=False)
                os.environ["CMQ_CRASH"] = f"{label}:{count}"
                died = broker.ctl("init", check=False).returncode == -signal.SIGKILL
                del os.environ["CMQ_CRASH"]
                if count == 1 and not died:
                    print(f"points: {label} was not reached by init", file=sys.stderr)
                    return False
                broker.ctl("init")
                for stage in STAGES:
                    broker.spawn(stage, 0)
                broker.wait_ready()
                broker.stop()
            except BrokerError as error:
                print(f"points: after a death at {label}:{count}: {error}", file=sys.stderr)
                return False
            finally:
                os.environ.pop("CMQ_CRASH", None)
                broker.abandon()
    return True


# ---- random faults ----


def kills(phase):
    """N faults, a random time apart, on random instances of the stages."""
    pick = phase.random
    total = phase.args.kills
    while sum(phase.kills.values()) + sum(phase.stops.values()) < total:
        phase.clients.check_alive()
        stage = pick.choice(STAGES)
        number = pick.randrange(phase.broker.counts[stage])
        dice = pick.random()
        if dice > 0.985:
            phase.everything += 1
            for each, count in phase.broker.counts.items():
                for other in range(count):
                    phase.kill(each, other)
        elif dice < 0.03:
            phase.pause(stage, number, pick.choice((0.05, 0.3, 1.5)))
        else:
            phase.kill(stage, number)
        time.sleep(pick.uniform(0.001, 2 * phase.args.pace_ms / 1000))     # the pace of the faults, not a wait


def client_kills(phase):
    """N deaths of publishers and consumers."""
    pick = phase.random
    for _ in range(phase.args.client_kills):
        phase.clients.check_alive()
        phase.clients.kill_one(pick.choice(("publish", "consume", "subscribe", "member")), pick)
        time.sleep(pick.uniform(0.05, 0.2))                                # as above


def main():
    parser = argparse.ArgumentParser(description="kills the parts of a broker under load and checks its promises")
    parser.add_argument("--build", default=find_build(), help="build directory with crash points compiled in")
    parser.add_argument("--points", action="store_true")
    parser.add_argument("--kills", type=int, default=0, metavar="N")
    parser.add_argument("--client-kills", type=int, default=0, metavar="N")
    parser.add_argument("--slots", type=int, default=16)
    for stage in STAGES:
        parser.add_argument(f"--{stage}", type=int, default=2, metavar="N", help=f"instances of {stage}")
    parser.add_argument("--publishers", type=int, default=3, metavar="N")
    parser.add_argument("--consumers", type=int, default=3, metavar="N")
    parser.add_argument("--subscribers", type=int, default=2, metavar="N")
    parser.add_argument("--members", type=int, default=3, metavar="N")
    parser.add_argument("--verbose", action="store_true", help="each crash point as it is tried")
    parser.add_argument("--pace-ms", type=float, default=40, help="mean time between random faults")
    parser.add_argument("--killed-unread-max", type=int, default=1000,
                        help="client kills: messages that a killed consumer may not have read")
    parser.add_argument("--seed", type=int, default=secrets.randbits(31))
    args = parser.parse_args()
    if not (args.points or args.kills or args.client_kills):
        parser.error("nothing to do: give --points, --kills or --client-kills")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))   # so that everything started is ended
    print(f"seed {args.seed}", flush=True)
    promised = {"slack_s": 2.5, "ack_wait_s": ACK_WAIT_MS / 1000, "max_deliver": MAX_DELIVER, "window_s": 600.0}
    strict = Options(**promised)
    results = []
    if args.points:
        results.append(creation_points(args))
        results.append(Phase(args, "points", POINTS_SETTINGS).run(points, strict))
    if args.kills:
        results.append(Phase(args, "kills").run(kills, strict))
    if args.client_kills:
        results.append(Phase(args, "clients").run(client_kills, Options(
            **promised, killed_unread_max=args.killed_unread_max)))
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
