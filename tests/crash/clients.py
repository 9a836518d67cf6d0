"""Publisher and consumer processes of the campaigns, with the load of an application: publishers to three topics, single and in
batches, some with idempotency keys; consumers of the root endpoint; subscribers that resume; members of a group that ack,
nack, forget and leave; a reader of dead letters.

Ownership: a Clients owns its processes (client.py); each writes a history file in the directory.
Units: seconds unless a name says otherwise.
Errors: BrokerError when a client ends by itself or does not start.
Callers: campaign.py, rolling.py; one thread.
"""

import glob
import json
import os
import secrets
import signal
import subprocess
import sys
import time

from broker import BrokerError

HERE = os.path.dirname(os.path.abspath(__file__))
DRAIN_S = 30.0
NOTICED_S = 0.1     # after a process is gone the broker knows of its connections
ACK_WAIT_MS, MAX_DELIVER = 1000, 5
POISON = 97         # every so many-th message of a publisher is never acked
TOPICS = ("default", "jobs.a", "jobs.b")


class Clients:
    """Publisher and consumer processes, restarted under a new name when they are killed."""

    patterns = (">", "jobs.*")      # of subscribers

    def __init__(self, broker, directory, seed):
        self.broker, self.directory, self.seed = broker, directory, seed
        self.run = secrets.token_hex(4)
        self.children = {"publish": [], "consume": [], "subscribe": [], "member": [], "letters": []}
        self.count = 0
        self.killed = []    # (role, number, time, when the broker knows at the latest)

    def settings(self, role):
        form = ("json", "msgpack")[self.count % 2]
        if role == "publish":
            return {"topics": TOPICS, "key_share": 0.5, "other_body_share": 0.02, "port": self.broker.http_port,
                    "size_max": 800, "batch_max": 8}
        more = {"subscribe": {"name": f"s{self.count}", "topic": self.patterns[self.count % 2]},
                "member": {"name": "w", "group": "workers", "topic": "jobs.*", "credit": 64, "ack_share": 0.88,
                           "nack_share": 0.1, "poison": POISON,
                           "consume": {"ack_wait_ms": ACK_WAIT_MS, "max_deliver": MAX_DELIVER}},
                "letters": {"name": "letters", "topic": "$dead.>"}, "consume": {}}
        return {"port": self.broker.ws_port, "form": form, **more[role]}

    def start(self, role, **more):
        self.count += 1
        settings = {"run": self.run, "history": os.path.join(self.directory, f"{role}-{self.count}.jsonl"),
                    "seed": self.seed + self.count, "producer": self.count, "consumer": self.count,
                    **self.settings(role), **more}
        child = subprocess.Popen([sys.executable, os.path.join(HERE, "client.py"), role, json.dumps(settings)],
                                 stdout=subprocess.PIPE, start_new_session=True)
        child.number, child.settings = self.count, settings
        if child.stdout.readline() != b"ready\n":
            raise BrokerError(f"client {role} {self.count} did not start")
        self.children[role].append(child)

    def kill_one(self, role, pick):
        child = pick.choice(self.children[role])
        self.children[role].remove(child)
        begin = time.monotonic()
        self.end(child)
        if role != "publish":
            self.killed.append((role, child.number, begin, time.monotonic() + NOTICED_S))
        # A subscriber is its cursor: the next process goes on with it.
        more = {"name": child.settings["name"], "topic": child.settings["topic"],
                "last": last_seen(child.settings["history"])} if role == "subscribe" else {}
        self.start(role, **more)

    @staticmethod
    def end(child):
        child.kill()
        child.wait()
        child.stdout.close()

    def leave(self):
        """All consumers and members disconnect in order, and come back."""
        for child in self.children["consume"] + self.children["member"]:
            child.send_signal(signal.SIGUSR1)

    def check_alive(self):
        for role, children in self.children.items():
            for child in children:
                if child.poll() is not None:
                    raise BrokerError(f"client {role} {child.number} ended with {child.returncode}")

    def stop(self, role, timeout=DRAIN_S):
        for child in self.children[role]:
            child.terminate()
        for child in self.children[role]:
            code = child.wait(timeout)
            child.stdout.close()
            if code != 0:
                raise BrokerError(f"client {role} {child.number} ended with {code}")
        self.children[role] = []

    def abandon(self):
        for children in self.children.values():
            for child in children:
                self.end(child)

    def delivered(self):
        """Bytes of delivery history: rises while messages arrive."""
        return sum(os.path.getsize(path) for path in glob.glob(os.path.join(self.directory, "*-*.jsonl")))


def last_seen(path):
    """Id of the last message in a subscriber's history, or None."""
    last = None
    if os.path.exists(path):
        with open(path, encoding="ascii") as lines:
            for line in lines:
                if line.endswith("\n") and '"type":"deliver"' in line:
                    last = json.loads(line)["seqs"][-1]
    return last
