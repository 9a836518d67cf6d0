"""Starts, supervises and stops a private broker for a test.

Ownership: a Broker owns its processes, its temporary directory, its shared-memory objects and its two ports. All go away
           in stop(), also after a failure. If the test itself is killed, a guard process (guard.py) does it.
Units: seconds, unless a name says otherwise.
Errors: BrokerError, with the last log lines of the stages in the text.
Callers: any thread; processes are started under one lock.

    with Broker("build/dev", ingest=2, settings={"ring.slots": 16}) as broker:
        http.client.HTTPConnection("127.0.0.1", broker.http_port) ...
"""

import glob
import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field

STAGES = ("ingest", "encryptor", "dispatcher")
HOST = "127.0.0.1"
HOPELESS = (64, 78)  # usage, configuration: a restart changes nothing
READY_S = 20.0

# Wrap, full ring, full arena and take-over happen all the time with these.
TINY = {
    "ring.slots": 16,
    "ingest.request_bytes_max": 4096,
    "ingest.message_bytes_max": 1024,
    "ingest.arena_bytes": 81920,
    "encryptor.arena_bytes": 131072,
    "log.segment_bytes": 1048576,
    "dispatcher.dead_arena_bytes": 65536,
    "dispatcher.frame_bytes_max": 4096,
    "ring.stall_ms": 1000,
}


class BrokerError(Exception):
    """The broker did not do what a test needs before it can begin or end."""


class BrokerTimeout(BrokerError):
    """A condition did not become true in time."""


@dataclass
class Death:
    """How one incarnation of a process ended."""

    stage: str
    instance: int
    pid: int
    code: int  # exit code, or minus the signal
    env: dict
    time: float  # CLOCK_MONOTONIC


@dataclass
class Process:
    """One instance of a stage; its incarnations follow each other in `child`."""

    stage: str
    instance: int
    child: subprocess.Popen = None
    pidfd: int = -1
    env: dict = field(default_factory=dict)
    next_env: dict = field(default_factory=dict)
    keep: bool = True  # the supervisor restarts it
    reaped: bool = True
    started: float = 0.0

    @property
    def name(self):
        return f"{self.stage}.{self.instance}"

    def alive(self):
        return self.child is not None and self.child.poll() is None


def find_build(default="build/dev"):
    """The build directory of this run: $CMQ_BUILD, or the dev preset's."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return os.path.abspath(os.environ.get("CMQ_BUILD", os.path.join(root, default)))


# What a sanitizer keeps of freed memory (ASan's quarantine is 256 MiB), so that a bound is still one.
SANITIZER_BYTES = 384 << 20


def memory_bound(build, bytes_max):
    """How much a process of this build may grow where the program itself may grow by bytes_max."""
    with open(os.path.join(build, "CMakeCache.txt"), encoding="utf-8") as cache:
        sanitized = any(line.startswith("CMQ_SANITIZE:") and line.rstrip().split("=", 1)[1] for line in cache)
    return bytes_max + (SANITIZER_BYTES if sanitized else 0)


def wait_until(condition, timeout, what, step=0.01):
    """Polls until condition() is true; its last value is returned. Raises BrokerTimeout at the deadline."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise BrokerTimeout(f"{what}: not within {timeout:g} s")
        time.sleep(step)


def reserve_port():
    """A free port, kept from others by a socket that never listens. The stages bind beside it with SO_REUSEPORT."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((HOST, 0))
    return sock


def config_text(settings):
    """settings: {"section.key": value} -> text of a configuration file."""
    sections = {}
    for name, value in settings.items():
        section, key = name.split(".", 1)
        sections.setdefault(section, []).append(f"{key} = {value}\n")
    return "".join(f"[{section}]\n" + "".join(lines) + "\n" for section, lines in sections.items())


def remove_shared(instance):
    """Removes what a broker has in /dev/shm: objects, and with store = memory the directory of its log."""
    for path in glob.glob(f"/dev/shm/cmq.{instance}.*"):
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)


class Broker:
    """A broker of its own: instance name, directory and ports are private to it."""

    def __init__(self, build=None, ingest=1, encryptor=1, dispatcher=1, settings=None, env=None, supervise=False,
                 tls=None):
        self.build = os.path.abspath(build) if build else find_build()
        self.counts = {"ingest": ingest, "encryptor": encryptor, "dispatcher": dispatcher}
        self.extra = dict(settings or {})
        self.env = dict(env or {})
        self.supervise = supervise
        self.tls = tls  # ssl.SSLContext of a client that both ports accept; None: clear text
        self.instance = "t" + secrets.token_hex(5)
        self.processes = {}
        self.deaths = []
        self.started_count = 0
        self.on_death = None  # called with each Death, in the supervisor's thread
        self._lock = threading.RLock()
        self._directory = self._guard = self._supervisor = None
        self._ports = []
        self._wake_r = self._wake_w = -1
        self._stopping = False

    # ---- life ----

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        if kind is None:
            self.stop()
        else:
            self.abandon()
        return False

    def start(self, wait=True):
        """Creates ring and keys, starts every instance, waits until all are ready."""
        try:
            self.prepare()
            for stage in STAGES:
                for number in range(self.counts[stage]):
                    self.spawn(stage, number)
            if self.supervise:
                self._supervisor = threading.Thread(target=self._supervise, name="supervisor", daemon=True)
                self._supervisor.start()
            if wait:
                self.wait_ready()
        except BaseException:
            self.abandon()
            raise
        return self

    def prepare(self, init=True):
        """Directory, configuration, and (init) keys and ring; no processes yet."""
        for stage in STAGES:
            if not os.access(self.program(stage), os.X_OK):
                raise BrokerError(f"{self.program(stage)} is not built")
        self._directory = tempfile.mkdtemp(prefix="cmq-test-")
        self._ports = [reserve_port(), reserve_port()]
        self._wake_r, self._wake_w = os.pipe()
        guard = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guard.py")
        self._guard = subprocess.Popen([sys.executable, guard, self.instance, self._directory],
                                       stdin=subprocess.PIPE, start_new_session=True)
        with open(self.config, "w", encoding="ascii") as out:
            out.write(config_text(self.settings()))
        if init:
            self.ctl("init")

    def stop(self, timeout=20.0):
        """SIGTERM, exit 0 of every process, and nothing left in /dev/shm; anything else raises BrokerError."""
        self._halt_supervisor()
        faults = []
        try:
            with self._lock:
                living = [p for p in self.processes.values() if p.alive()]
                faults += [f"{p.name} had ended with {p.child.returncode}" for p in self.processes.values()
                           if not p.alive() and p.child.returncode > 0]
                for process in living:
                    process.child.send_signal(signal.SIGCONT)
                    process.child.terminate()
            deadline = time.monotonic() + timeout
            for process in living:
                try:
                    code = process.child.wait(max(0.01, deadline - time.monotonic()))
                    if code != 0:
                        faults.append(f"{process.name} ended with {code} after SIGTERM")
                except subprocess.TimeoutExpired:
                    faults.append(f"{process.name} did not end within {timeout:g} s of SIGTERM")
            if not faults:
                self.ctl("destroy")
                left = self.shared_objects()
                if left:
                    faults.append("left in /dev/shm: " + " ".join(left))
            if faults:
                raise BrokerError("; ".join(faults) + "\n" + self.log_tails())
        finally:
            self.abandon()

    def abandon(self):
        """Ends everything by force. Never raises; for use after a failure, and harmless after stop()."""
        self._halt_supervisor()
        with self._lock:
            for process in self.processes.values():
                if process.alive():
                    process.child.kill()
                    process.child.wait()
                if process.pidfd >= 0:
                    os.close(process.pidfd)
                    process.pidfd = -1
        remove_shared(self.instance)
        if self._guard:
            self._guard.stdin.close()
            self._guard.wait()
            self._guard = None
        for sock in self._ports:
            sock.close()
        self._ports = []
        for fd in (self._wake_r, self._wake_w):
            if fd >= 0:
                os.close(fd)
        self._wake_r = self._wake_w = -1
        if self._directory and not os.environ.get("CMQ_KEEP"):
            shutil.rmtree(self._directory, ignore_errors=True)

    # ---- names ----

    def program(self, stage):
        return os.path.join(self.build, stage, "ciphermq-" + stage)

    @property
    def config(self):
        return os.path.join(self._directory, "ciphermq.conf")

    @property
    def directory(self):
        return self._directory

    @property
    def http_port(self):
        return self._ports[0].getsockname()[1]

    @property
    def ws_port(self):
        return self._ports[1].getsockname()[1]

    @property
    def log_directory(self):
        return os.path.join(self._directory, "data", "log")

    def settings(self):
        path = self._directory
        base = {
            "common.instance": self.instance,
            "common.run_dir": path,
            "common.drain_ms": 5000,
            "ring.slots": 256,
            "ingest.listen": HOST,
            "ingest.port": self.http_port,
            "log.dir": os.path.join(path, "data", "log"),
            "encryptor.idempotency_dir": os.path.join(path, "data", "idempotency"),
            "dispatcher.groups_dir": os.path.join(path, "data", "groups"),
            "encryptor.kek_file": os.path.join(path, "kek"),
            "encryptor.keyring_file": os.path.join(path, "keyring"),
            "dispatcher.listen": HOST,
            "dispatcher.port": self.ws_port,
            "dispatcher.kek_file": os.path.join(path, "delivery.kek"),
            "dispatcher.keyring_file": os.path.join(path, "keyring"),
        }
        base.update(self.extra)
        return base

    def shared_objects(self):
        return sorted(os.path.basename(path) for path in glob.glob(f"/dev/shm/cmq.{self.instance}.*"))

    # ---- processes ----

    def spawn(self, stage, number, env=None):
        """Starts (or starts again) one instance; env is for this incarnation only. Returns its Process."""
        with self._lock:
            process = self.processes.setdefault((stage, number), Process(stage, number))
            assert not process.alive(), process.name
            process.env = dict(env or {})
            log = open(self.log_path(process), "ab")
            try:
                process.child = subprocess.Popen(
                    [self.program(stage), "--config", self.config, "--instance", str(number)],
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                    env={**os.environ, **self.env, **process.env})
            finally:
                log.close()
            if process.pidfd >= 0:
                os.close(process.pidfd)
            process.pidfd = os.pidfd_open(process.child.pid)
            process.started = time.monotonic()
            process.reaped = False
            self.started_count += 1
            self._tell_guard(f"+{process.child.pid}\n")
        if self._wake_w >= 0:
            os.write(self._wake_w, b"w")
        return process

    def signal(self, stage, number, signum=signal.SIGKILL):
        """Sends a signal to the present incarnation; returns its pid, or None if it was not alive."""
        with self._lock:
            process = self.processes[(stage, number)]
            if not process.alive():
                return None
            process.child.send_signal(signum)
            return process.child.pid

    def kill(self, stage, number):
        """SIGKILL, and wait for the end. With a supervisor the next incarnation follows by itself."""
        with self._lock:
            process = self.processes[(stage, number)]
            if process.alive():
                process.child.kill()
            if not self.supervise:
                process.child.wait()

    def restart(self, stage, number, timeout=READY_S):
        """SIGTERM, exit, a new incarnation, ready again. Without supervisor only."""
        process = self.processes[(stage, number)]
        process.child.terminate()
        code = process.child.wait(timeout)
        if code != 0:
            raise BrokerError(f"{process.name} ended with {code} after SIGTERM\n" + self.log_tails())
        self.spawn(stage, number)
        self.wait_ready(timeout)

    def set_next_env(self, stage, number, env):
        """Environment of the next incarnation that the supervisor starts, and of that one only."""
        with self._lock:
            self.processes[(stage, number)].next_env = dict(env)

    def _supervise(self):
        """Restarts whatever dies, at once; waits on pidfds, so a death costs no polling time."""
        while not self._stopping:
            with self._lock:
                watched = {p.pidfd: p for p in self.processes.values() if not p.reaped}
            ready, _, _ = select.select([self._wake_r, *watched], [], [])
            for fd in ready:
                if fd == self._wake_r:
                    os.read(self._wake_r, 4096)
                else:
                    self._reap(watched[fd])

    def _reap(self, process):
        with self._lock:
            code = process.child.wait()
            process.reaped = True
            self._tell_guard(f"-{process.child.pid}\n")
            death = Death(process.stage, process.instance, process.child.pid, code, process.env, time.monotonic())
            self.deaths.append(death)
            if not self._stopping and process.keep:
                env, process.next_env = process.next_env, {}
                process.keep = code not in HOPELESS
                if process.keep:
                    self.spawn(process.stage, process.instance, env)
        if self.on_death:
            self.on_death(death)

    def _halt_supervisor(self):
        self._stopping = True
        if self._supervisor and self._supervisor.is_alive():
            os.write(self._wake_w, b"x")
            self._supervisor.join()
        self._supervisor = None

    def _tell_guard(self, line):
        if self._guard:
            self._guard.stdin.write(line.encode("ascii"))
            self._guard.stdin.flush()

    # ---- state ----

    def ctl(self, *args, check=True, timeout=30.0):
        """Runs ciphermqctl on this broker; returns the finished process (text)."""
        program = os.path.join(self.build, "deploy", "ctl", "ciphermqctl")
        result = subprocess.run([program, "--config", self.config, *args], capture_output=True, text=True,
                                timeout=timeout, check=False)
        if check and result.returncode != 0:
            raise BrokerError(f"ciphermqctl {' '.join(args)}: exit {result.returncode}\n{result.stdout}{result.stderr}")
        return result

    def status(self):
        """The parsed output of `ciphermqctl status --json`; also while a stage has no live instance (exit not 0)."""
        result = self.ctl("status", "--json", check=False)
        try:
            return json.loads(result.stdout)
        except ValueError:
            raise BrokerError(f"ciphermqctl status: exit {result.returncode}\n{result.stdout}{result.stderr}") from None

    def members(self):
        """The members of the ring: dictionaries with stage, instance, pid, alive, counters."""
        return self.status()["instances"]

    def delivered_all(self):
        """Whether every published record is done."""
        ring = self.status()["ring"]
        return ring["gate"] == ring["published"]

    def wait_ready(self, timeout=READY_S):
        """Every instance is a live member of the ring, HTTP answers, and the WebSocket port accepts."""
        deadline = time.monotonic() + timeout

        def joined():
            self.check_alive()
            pids = {entry["pid"] for entry in self.members() if entry["alive"]}
            return all(p.child.pid in pids for p in self.processes.values())

        try:
            wait_until(joined, timeout, "all instances in the ring", 0.02)
            wait_until(self.http_answers, max(0.1, deadline - time.monotonic()), "HTTP answers")
            wait_until(self.ws_accepts, max(0.1, deadline - time.monotonic()), "the WebSocket port accepts")
        except BrokerError as error:
            raise BrokerError(f"{error}\n{self.log_tails()}") from None

    def check_alive(self):
        """Without a supervisor an early end of a process is a failure at once, not a time-out later."""
        if self.supervise:
            return
        for process in self.processes.values():
            if not process.alive():
                raise BrokerError(f"{process.name} ended with {process.child.returncode}")

    def dial(self, port, timeout=None):
        """A connection to one of the ports, with TLS if the broker has it."""
        sock = socket.create_connection((HOST, port), timeout=timeout)
        try:
            return self.tls.wrap_socket(sock, server_hostname=HOST) if self.tls else sock
        except BaseException:
            sock.close()
            raise

    def http_answers(self):
        try:
            with self.dial(self.http_port, timeout=2.0) as sock:
                sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return sock.recv(64).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    def ws_accepts(self):
        try:
            with socket.create_connection((HOST, self.ws_port), timeout=2.0):
                return True
        except OSError:
            return False

    def log_path(self, process):
        return os.path.join(self._directory, process.name + ".log")

    def log_tails(self, lines=15):
        """The last log lines of every instance, for failure texts."""
        text = []
        for path in sorted(glob.glob(os.path.join(self._directory or "/nonexistent", "*.log"))):
            with open(path, "r", encoding="utf-8", errors="replace") as log:
                tail = log.readlines()[-lines:]
            text.append(f"--- {os.path.basename(path)}\n" + "".join(tail))
        return "".join(text)
