"""A broker as the Debian package runs it: systemd units on this machine, which must be a throw-away one (tests/systemd).

Ownership: none; the package owns everything. stop() leaves it stopped.
Units: seconds.
Errors: BrokerError, with what systemd said.
Callers: tests/systemd inside its container; one thread.
"""

import json
import subprocess

from broker import STAGES, BrokerError, config_text, wait_until

CONFIG = "/etc/ciphermq/ciphermq.conf"
READY_S = 30.0
STOP = ("systemctl", "stop", "ciphermq-*.service", "ciphermq.target")   # the target alone would not be waited for


def run(*argv, check=True, timeout=300.0):
    """The finished process (text); BrokerError if it fails."""
    result = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=timeout, check=False,
                            stdin=subprocess.DEVNULL)
    if check and result.returncode != 0:
        raise BrokerError(f"{' '.join(argv)}: exit {result.returncode}\n{result.stdout}{result.stderr}")
    return result


class Units:
    """ciphermq.target and its services."""

    http_port, ws_port = 3000, 8080
    log_directory = "/var/lib/ciphermq/log"
    config = CONFIG

    def __init__(self, settings):
        self.extra = dict(settings)
        self.deaths, self.directory = [], "/var/lib/ciphermq"

    def start(self):
        """With the settings, which need a new ring."""
        run(*STOP)
        run("ciphermqctl", "destroy")
        with open(CONFIG, "a", encoding="ascii") as out:
            out.write("\n" + config_text(self.extra))
        run("systemctl", "start", "ciphermq.target")
        self.wait_ready()

    def wait_ready(self):
        wait_until(lambda: all(self.alive(stage) for stage in STAGES), READY_S, "all stages")

    def stop(self):
        """Every unit must end in order."""
        run(*STOP)
        faults = [f"{unit} is {self.show(unit, 'ActiveState')}, {self.show(unit, 'Result')}"
                  for unit in self.units() if self.show(unit, "ActiveState") != "inactive"]
        if faults:
            raise BrokerError("; ".join(faults) + "\n" + self.log_tails())

    def abandon(self):
        run(*STOP, check=False)

    # ---- commands ----

    def command(self, *args, check=True):
        return run("ciphermqctl", args[0], "--systemd", *args[1:], check=check)

    def status(self):
        """Without a ring there are no instances."""
        return json.loads(run("ciphermqctl", "status", "--json", check=False).stdout or '{"instances":[]}')

    def alive(self, stage):
        """Numbers of the instances that live."""
        return sorted(one["instance"] for one in self.status()["instances"] if one["stage"] == stage and one["alive"])

    def pid(self, stage, number=0):
        """Of the unit's main process; 0: none."""
        return int(self.show(unit_of(stage, number), "MainPID"))

    @staticmethod
    def show(unit, what):
        return run("systemctl", "show", "--value", "-p", what, unit).stdout.strip()

    @staticmethod
    def units():
        """All of the broker that systemd knows of, stopped ones included."""
        lines = run("systemctl", "list-units", "--all", "--plain", "--no-legend", "ciphermq*").stdout.splitlines()
        return [line.split()[0] for line in lines]

    @staticmethod
    def log_tails():
        return run("journalctl", "-n", "60", "--no-pager", "-u", "ciphermq*", check=False).stdout


def unit_of(stage, number=0):
    return f"ciphermq-{stage}@{number}.service"
