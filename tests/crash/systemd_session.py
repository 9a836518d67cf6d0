"""What tests/systemd does inside its container, as root, with a systemd that runs: the package is installed, judged, put under
the rolling campaign, killed, stopped, upgraded and removed. systemd_session.py ONE.deb TWO.deb THREE.deb; the third has
another layout of the shared memory.

Units: seconds.
Errors: a traceback, or findings; the last line is SESSION-OK if all is well.
Callers: tests/systemd only. It changes the machine that it runs on.
"""

import argparse
import json
import os
import re
import signal
import sys
import time

from rolling import Rolling
from clients import ACK_WAIT_MS, MAX_DELIVER

from broker import STAGES, wait_until
from checker import Options
from units import READY_S, Units, run, unit_of
from wsclient import WsClient

EXPOSURE_MAX = 3.0      # systemd-analyze security: below it is "OK"
WATCHDOG_S = 120.0
AGENT = "ciphermq-agent.service"
TOKENS = "\n[tokens]\nfile = /etc/ciphermq/tokens\n"
USERS = {"ingest": "cmq-in", "encryptor": "cmq-enc", "dispatcher": "cmq-out"}
KEK, DELIVERY_KEK, KEYRING = "/etc/ciphermq/kek", "/etc/ciphermq/delivery.kek", "/var/lib/ciphermq/keyring"
# Who may read what, by modes alone; the units hide more. The keyring has wrapped keys only.
READERS = {KEK: {"encryptor"}, DELIVERY_KEK: {"dispatcher"}}
# What a stage does not even see.
HIDDEN = {"ingest": (KEK, DELIVERY_KEK, KEYRING, "/var/lib/ciphermq/log"), "encryptor": (DELIVERY_KEK, "/var/lib/ciphermq/groups"),
          "dispatcher": (KEK, "/var/lib/ciphermq/idempotency")}


def step(text):
    print(f"step: {text}", flush=True)


def need(condition, text):
    if not condition:
        sys.exit(f"FAILED: {text}")


class UnderSystemd(Rolling):
    """The rolling campaign, on the units."""

    def make_broker(self, settings):
        return Units(settings)

    def kill_stage(self, stage):
        """SIGKILL; systemd starts it again."""
        self.note(type="move", stage=stage, what="killed", t=time.monotonic())
        pid = self.broker.pid(stage)
        self.note(type="crash", stage=stage, instance=0, t=time.monotonic(), signal=9)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: self.broker.pid(stage) not in (0, pid) and self.broker.alive(stage) == [0], READY_S,
                   f"{stage} again")
        self.kills[stage] += 1
        self.settle()

    def upgrade(self, package):
        """dpkg -i, whose postinst restarts one stage after the other."""
        self.note(type="move", stage="all", what="upgraded", t=time.monotonic())
        before = {stage: self.broker.pid(stage) for stage in STAGES}
        run("dpkg", "-i", package)
        for stage in STAGES:
            need(self.broker.pid(stage) not in (0, before[stage]), f"the upgrade did not restart {stage}")
            need(self.broker.alive(stage) == [0], f"{stage} after the upgrade: {self.broker.alive(stage)}")
        self.settle()

    def all_of_it(self, package):
        self.round()
        for stage in STAGES:
            self.kill_stage(stage)
        self.upgrade(package)

    def more_faults(self, report):
        faults = super().more_faults(report)
        if self.kills["dispatcher"]:    # around a death messages may come again
            faults = [fault for fault in faults if "came twice" not in fault]
        return faults


def install(package, units):
    step("install on a running system: postinst starts the broker")
    run("dpkg", "-i", package)
    need(run("systemctl", "is-enabled", "ciphermq.target").stdout.strip() == "enabled", "the target is not enabled")
    units.wait_ready()
    for unit in ("ciphermq-init.service", *(unit_of(stage) for stage in STAGES)):
        need(units.show(unit, "ActiveState") == "active", f"{unit} is not active\n" + units.log_tails())
    for stage in STAGES:
        need(units.show(unit_of(stage), "WatchdogUSec") == "20s", f"{stage} has no watchdog")
        status = open(f"/proc/{units.pid(stage)}/status", encoding="ascii").read()
        need(f"Uid:\t{run('id', '-u', USERS[stage]).stdout.strip()}" in status, f"{stage} runs as somebody else")
    need("durable" in run("ciphermqctl", "pub", "orders.eu", "first").stdout, "pub")
    need("first" in run("ciphermqctl", "sub", "orders.eu", "--since", "earliest", "--count", "1").stdout, "sub")
    print(run("ciphermqctl", "doctor").stdout, flush=True)


def hardening(units):
    step("hardening")
    for stage in STAGES:
        words = run("systemd-analyze", "security", "--no-pager", unit_of(stage)).stdout
        exposure = re.search(r"Overall exposure level for .*: ([0-9.]+) (\w+)", words)
        print(f"exposure of {stage}: {exposure.group(1)} {exposure.group(2)}", flush=True)
        need(float(exposure.group(1)) < EXPOSURE_MAX, words)
    for path, readers in READERS.items():
        for stage, user in USERS.items():
            code = run("setpriv", "--reuid", user, "--regid", "ciphermq", "--clear-groups", "cat", path, check=False).returncode
            need((code == 0) == (stage in readers), f"{user} and {path}: {code}")
    for stage, paths in HIDDEN.items():
        for path in paths:
            # Root may read what hides it, which is empty.
            seen = run("nsenter", "-t", str(units.pid(stage)), "-m", "--", "sh", "-c", f"cat {path} || ls -A {path}",
                       check=False).stdout
            need(seen == "", f"{stage} sees {path}")
    lines = open(f"/proc/{units.pid('encryptor')}/net/dev", encoding="ascii").read().splitlines()[2:]
    need([line.split(":")[0].strip() for line in lines] == ["lo"], f"the encryptor has a network: {lines}")


def watchdog(units):
    step("a stage that stands still is ended by the watchdog and started again")
    before = {stage: units.pid(stage) for stage in STAGES}
    for pid in before.values():
        os.kill(pid, signal.SIGSTOP)
    for stage, pid in before.items():
        wait_until(lambda stage=stage, pid=pid: units.pid(stage) not in (0, pid), WATCHDOG_S, f"the watchdog of {stage}", 0.2)
        print(f"{stage}: {units.show(unit_of(stage), 'NRestarts')} restarts", flush=True)
    units.wait_ready()
    wait_until(lambda: "durable" in run("ciphermqctl", "pub", "orders.eu", "second", check=False).stdout, READY_S, "a message", 0.2)


def refused(units):
    step("exit code 78 is not restarted, and the settings that are refused are named")
    with open(units.config, "a", encoding="ascii") as out:
        out.write("\n[common]\nno_such_key = 1\n")
    os.kill(units.pid("ingest"), signal.SIGKILL)
    wait_until(lambda: units.show(unit_of("ingest"), "ActiveState") == "failed", READY_S, "the refusal")
    need(units.show(unit_of("ingest"), "ExecMainStatus") == "78", "another exit code")
    need("no_such_key" in units.log_tails(), "the journal does not name the key")
    text = open(units.config, encoding="ascii").read()
    with open(units.config, "w", encoding="ascii") as out:
        out.write(text.replace("\n[common]\nno_such_key = 1\n", ""))
    run("systemctl", "reset-failed", unit_of("ingest"))
    run("systemctl", "start", unit_of("ingest"))
    units.wait_ready()


def operate(units, token, operation):
    """The last word of the agent about an operation, asked for as the dashboard does it."""
    client = WsClient("127.0.0.1", units.ws_port, "/v1/status", subprotocol="ciphermq.status.json",
                      headers=["Authorization: Bearer " + token])
    try:
        client.send(json.dumps({"operate": operation}).encode())
        while True:
            said = json.loads(client.receive(READY_S)).get("operation", {"state": "running"})
            if said["state"] != "running":
                return said
    finally:
        client.close()


def change_config(units, old, new):
    """Stages read it when they are restarted."""
    with open(units.config, encoding="ascii") as config:
        text = config.read()
    with open(units.config, "w", encoding="ascii") as config:
        config.write(text.replace(old, new) if old else text + new)


def restart_all(units):
    for stage in STAGES:
        units.command("restart", stage)
    units.wait_ready()


def operated(units):
    step("restarted and scaled by the agent, for who has the right admin")
    change_config(units, "", TOKENS)
    made = [run("ciphermqctl", "token", "create", *words).stdout.split() for words in
            (("ops", "--admin", "--subscribe", ">"), ("looker", "--subscribe", ">"))]
    admin, looker = (next(word for word in words if word.startswith("cmq_")) for words in made)
    restart_all(units)
    run("systemctl", "enable", "--now", AGENT)
    words = run("systemd-analyze", "security", "--no-pager", AGENT).stdout
    print(words.splitlines()[-1].strip(), flush=True)
    with open(f"/proc/{units.show(AGENT, 'MainPID')}/status", encoding="ascii") as status:
        need("CapBnd:\t0000000000000000" in status.read(), "the agent has a capability")
    before = units.pid("encryptor")
    restart = {"do": "restart", "stage": "encryptor", "instance": None}
    need(operate(units, looker, restart)["state"] == "denied", "who has no right admin restarts")
    need(units.pid("encryptor") == before, "it was restarted all the same")
    said = operate(units, admin, restart)
    need(said["state"] == "done" and units.pid("encryptor") not in (0, before), f"the restart: {said}")
    for count in (2, 1):
        said = operate(units, admin, {"do": "scale", "stage": "ingest", "count": count})
        need(said["state"] == "done" and units.alive("ingest") == list(range(count)), f"scale to {count}: {said}")
    need("by=ops" in run("journalctl", "--no-pager", "-u", AGENT).stdout, "the journal does not say who asked")
    change_config(units, TOKENS, "")
    restart_all(units)


def other_layout(units, package):
    step("upgrade to another layout: everything stops for a moment, and nothing is lost")
    need("durable" in run("ciphermqctl", "pub", "orders.us", "kept").stdout, "pub")
    before, agent = {stage: units.pid(stage) for stage in STAGES}, units.show(AGENT, "MainPID")
    run("dpkg", "-i", package)
    units.wait_ready()
    need(units.show(AGENT, "MainPID") not in ("0", agent), "the upgrade did not restart the agent")
    for stage in STAGES:
        need(units.pid(stage) not in (0, before[stage]), f"the upgrade did not restart {stage}")
    need("kept" in run("ciphermqctl", "sub", "orders.us", "--since", "earliest", "--count", "1").stdout, "the log was lost")
    need("durable" in run("ciphermqctl", "pub", "orders.us", "more").stdout, "pub after the upgrade")
    need(run("ciphermqctl", "status").returncode == 0, "status")


def main():
    units = Units({})
    try:
        session(units, *sys.argv[1:4])
    except BaseException:
        print(run("ciphermqctl", "status", check=False))
        print(run("systemctl", "--no-pager", "status", "ciphermq*", check=False).stdout + units.log_tails(), flush=True)
        raise


def session(units, one, two, three):
    # systemd-nspawn hides the boot's id, but not from units with a /proc of their own: rings would be of two boots.
    run("umount", "/proc/sys/kernel/random/boot_id")
    install(one, units)
    hardening(units)
    step("scaled, restarted, killed and upgraded under load")
    args = argparse.Namespace(seed=1, slots=16, publishers=2, consumers=2, subscribers=2, members=2, scale_max=8, slice=False,
                              minutes=0, verbose=True, build=None)
    promised = Options(slack_s=2.5, ack_wait_s=ACK_WAIT_MS / 1000, max_deliver=MAX_DELIVER, window_s=600.0)
    need(UnderSystemd(args, "systemd").run(lambda phase: phase.all_of_it(two), promised), "the campaign")
    step("start again")
    run("systemctl", "start", "ciphermq.target")
    units.wait_ready()
    operated(units)
    other_layout(units, three)
    watchdog(units)
    refused(units)
    need("second" in run("ciphermqctl", "sub", "orders.eu", "--since", "earliest", "--count", "2").stdout, "the log was lost")
    step("remove and purge")
    run("dpkg", "-r", "ciphermq")
    need(not [name for name in os.listdir("/dev/shm") if name.startswith("cmq.")], "left in /dev/shm")
    need(os.path.exists(KEK), "the removal took the key")
    run("dpkg", "-P", "ciphermq")
    need(not os.path.exists("/etc/ciphermq") and not os.path.exists("/var/lib/ciphermq"), "left by the purge")
    need(not Units.units(), f"units are left: {Units.units()}")
    links = run("find", "/etc/systemd", "-name", "ciphermq*").stdout
    need(links == "", f"left by the purge: {links}")
    print("SESSION-OK", flush=True)


if __name__ == "__main__":
    main()
