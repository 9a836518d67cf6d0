"""A broker as deploy/up makes it: supervisord, deploy/stage, a state directory; private, and gone afterwards.

Ownership: a Home owns its directory, its supervisord with the stages, its shared memory and its two ports. All go away in
           stop(), also after a failure. If the test itself is killed, a guard process (guard.py) ends the supervisord,
           whose stages end with it.
Units: seconds, unless a name says otherwise.
Errors: BrokerError, with what the script said.
Callers: one thread; command() any.

    with Home("build/dev", settings={"ring.slots": 16}) as home:
        home.command("scale", "encryptor", "3")
"""

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile

from broker import BrokerError, config_text, find_build, remove_shared, reserve_port

SOURCES = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
UP_S = 120.0
# What supervisord says of a process that ended: by its will, and by the process's own.
ENDED = re.compile(r"(?:stopped|exited): (\S+) \(([^);]*)")


class Home:
    """A state directory with its broker."""

    def __init__(self, build=None, settings=None):
        self.build = os.path.abspath(build) if build else find_build()
        self.extra = dict(settings or {})
        self.instance = "h" + secrets.token_hex(5)
        self.directory = None
        self._ports, self._guard = [], None

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        if kind is None:
            self.stop()
        else:
            self.abandon()
        return False

    # ---- life ----

    def start(self):
        """deploy/up, to the proof that a message goes through."""
        try:
            self.directory = tempfile.mkdtemp(prefix="cmq-home-")
            self._ports = [reserve_port(), reserve_port()]
            guard = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guard.py")
            self._guard = subprocess.Popen([sys.executable, guard, self.instance, self.directory], stdin=subprocess.PIPE,
                                           start_new_session=True)
            with open(self.config, "w", encoding="ascii") as out:
                out.write(config_text(self.settings()))
            self.up()
        except BaseException:
            self.abandon()
            raise
        return self

    def up(self):
        """deploy/up; may be called again."""
        self.script("up")
        with open(os.path.join(self.directory, "run", "supervisord.pid"), encoding="ascii") as pid:
            self._guard.stdin.write(f"+{int(pid.read())}\n".encode("ascii"))
            self._guard.stdin.flush()

    def stop(self):
        """deploy/down. Every process must have ended with 0 on every stop, and nothing may be left in /dev/shm."""
        try:
            self.script("down")
            faults = self.ends_not_in_order()
            left = [name for name in os.listdir("/dev/shm") if name.startswith(f"cmq.{self.instance}.")]
            faults += [f"left in /dev/shm: {name}" for name in left]
            if faults:
                raise BrokerError("; ".join(faults) + "\n" + self.log_tails())
        finally:
            self.abandon()

    def abandon(self):
        """Ends everything; never raises. Harmless after stop()."""
        if self.directory and os.path.isdir(self.directory):
            try:
                self.script("down")
            except (BrokerError, subprocess.TimeoutExpired):
                pass    # the guard ends it
        if self._guard:
            self._guard.stdin.close()
            self._guard.wait()
            self._guard = None
        remove_shared(self.instance)
        for sock in self._ports:
            sock.close()
        self._ports = []
        if self.directory and not os.environ.get("CMQ_KEEP"):
            shutil.rmtree(self.directory, ignore_errors=True)

    def ends_not_in_order(self):
        """What supervisord's log says of processes that did not end with 0 when they were told to."""
        with open(os.path.join(self.directory, "log", "supervisord.log"), encoding="utf-8") as log:
            ends = ENDED.findall(log.read())
        return [f"{name} ended with: {how}" for name, how in ends if how != "exit status 0"]

    def wait_ready(self):
        """deploy/up has waited."""

    @property
    def deaths(self):
        """Of a Broker; here supervisord's log has them, see stop()."""
        return []

    # ---- names ----

    @property
    def config(self):
        return os.path.join(self.directory, "ciphermq.conf")

    @property
    def http_port(self):
        return self._ports[0].getsockname()[1]

    @property
    def ws_port(self):
        return self._ports[1].getsockname()[1]

    @property
    def log_directory(self):
        return os.path.join(self.directory, "data", "log")

    def settings(self):
        """deploy/up adds the places of log and tables."""
        return {
            "common.instance": self.instance,
            "common.run_dir": os.path.join(self.directory, "run"),
            "ingest.port": self.http_port,
            "dispatcher.port": self.ws_port,
            "encryptor.kek_file": os.path.join(self.directory, "keys", "kek"),
            "encryptor.keyring_file": os.path.join(self.directory, "keys", "keyring"),
            "dispatcher.kek_file": os.path.join(self.directory, "keys", "delivery.kek"),
            "dispatcher.keyring_file": os.path.join(self.directory, "keys", "keyring"),
            **self.extra,
        }

    # ---- commands ----

    def script(self, name, *args, timeout=UP_S, check=True):
        """Runs a script of deploy/ on this state directory; returns the finished process (text)."""
        result = subprocess.run([os.path.join(SOURCES, "deploy", name), *args], capture_output=True, text=True,
                                timeout=timeout, check=False, stdin=subprocess.DEVNULL,
                                env={**os.environ, "CIPHERMQ_HOME": self.directory, "CIPHERMQ_BUILD": self.build})
        if check and result.returncode != 0:
            raise BrokerError(f"deploy/{name} {' '.join(args)}: exit {result.returncode}\n{result.stdout}{result.stderr}"
                              + self.log_tails())
        return result

    def command(self, *args, timeout=UP_S, check=True):
        """deploy/ciphermqctl."""
        return self.script("ciphermqctl", *args, timeout=timeout, check=check)

    def status(self):
        return json.loads(self.command("status", "--json", check=False).stdout)

    def alive(self, stage):
        """Numbers of the instances that live."""
        return sorted(one["instance"] for one in self.status()["instances"] if one["stage"] == stage and one["alive"])

    def log_tails(self, lines=12):
        """The last log lines of every instance, for failure texts."""
        text, place = [], os.path.join(self.directory or "/nonexistent", "log")
        for name in sorted(os.listdir(place)) if os.path.isdir(place) else []:
            with open(os.path.join(place, name), encoding="utf-8", errors="replace") as log:
                text.append(f"--- {name}\n" + "".join(log.readlines()[-lines:]))
        return "".join(text)
