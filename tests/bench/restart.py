#!/usr/bin/python3
"""tests/bench/restart.py: how long after the start of a whole broker with a large log is the first POST durable?

A broker of its own (tests/support/broker.py) gets a log of --mib MiB, is stopped (SIGTERM, then SIGKILL, then SIGKILL and the
loss of everything in /dev/shm, as after a boot), and started again each time. Measured is the time from the start of the
first process, ring included, to the last byte of the first 2xx, which must be a durable one. Checked: its id comes after every id
before the stop, and the last message before the stop is still in the log, with its bytes.

    tests/bench/restart.py --build build/release [--mib 1024] [--record 65536] [--small N] [--cold] [--json FILE]

--small N: N messages in records of their own come last, so that the newest segment, which is read at a start, has many.

Exit status: 0 measured and checked, 1 a check failed.
"""

import argparse
import http.client
import json
import os
import platform
import secrets
import signal
import socket
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "support"))
# pylint: disable=wrong-import-position
from broker import STAGES, Broker, find_build  # noqa: E402
from v1client import V1Client  # noqa: E402

TOPIC = "bench.restart"
WAYS = ("SIGTERM", "SIGKILL", "boot")


class CheckFailed(Exception):
    """The broker lost something, or did not come back."""


def post(connection, body):
    """One durable message; returns the id, or None when it was refused for now."""
    connection.request("POST", f"/v1/topics/{TOPIC}", body,
                       {"Content-Type": "application/octet-stream", "CMQ-Ack": "durable"})
    response = connection.getresponse()
    text = response.read()
    if response.status == 503:
        return None
    reply = json.loads(text)
    if response.status != 200 or reply.get("ack") != "durable":
        raise CheckFailed(f"a POST was answered with {response.status} {text!r}")
    return reply["id"]


def order(message_id):
    """Ids as something that can be compared."""
    seq, index = message_id.split("-")
    return int(seq), int(index)


def fill(broker, mib, record_bytes):
    """Publishes records until the log has so many MiB; returns id and body of the last one."""
    connection = http.client.HTTPConnection("127.0.0.1", broker.http_port, timeout=30)
    body = bytearray(secrets.token_bytes(record_bytes))
    message_id = None
    for number in range(mib * 1024 * 1024 // record_bytes):
        body[:8] = number.to_bytes(8, "little")
        message_id = post(connection, bytes(body)) or message_id
    connection.close()
    return message_id, bytes(body)


def add_small(broker, count):
    """Single messages over many connections."""
    bench = os.path.join(broker.build, "tests", "bench", "cmq-bench")
    result = subprocess.run([bench, "fanout", "--config", broker.config, "--subscribers", "1", "--size", "1", "--connections",
                             "64", "--messages", str(count)], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise CheckFailed(result.stdout + result.stderr)


def log_directory(broker):
    """Where the segments are."""
    return broker.settings()["log.dir"]


def log_bytes(broker):
    """Bytes of all segments."""
    return sum(entry.stat().st_size for entry in os.scandir(log_directory(broker)) if entry.name.endswith(".log"))


def drop_cache(broker):
    """The next reads of the log come from the disk."""
    os.sync()
    for entry in os.scandir(log_directory(broker)):
        fd = os.open(entry.path, os.O_RDONLY)
        try:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(fd)


def stop_all(broker, way):
    """Ends every process in the given way."""
    signum = signal.SIGTERM if way == "SIGTERM" else signal.SIGKILL
    for process in broker.processes.values():
        process.child.send_signal(signum)
    for process in broker.processes.values():
        code = process.child.wait(30)
        if code not in (0, -signal.SIGKILL):
            raise CheckFailed(f"{process.name} ended with {code}")
    if way == "boot":
        for name in broker.shared_objects():
            os.unlink(os.path.join("/dev/shm", name))


def first_answer(broker, body, timeout):
    """Tries until a POST is durable; returns its id."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", broker.http_port, timeout=timeout)
            connection.connect()
            connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            message_id = post(connection, body)
            connection.close()
            if message_id is not None:
                return message_id
        except (ConnectionError, http.client.HTTPException):
            pass
        time.sleep(0.001)  # between two tries of what cannot be waited for
    raise CheckFailed(f"no 2xx within {timeout} s\n{broker.log_tails()}")


def check_kept(broker, message_id, body):
    """The message is still there, with its bytes."""
    seq, index = order(message_id)
    with V1Client("127.0.0.1", broker.ws_port, "msgpack", timeout=30.0) as client:
        item = next(iter(client.items(client.subscribe(TOPIC, since=f"{seq - 1}-{index}"), 1)))
    if item["id"] != message_id or item["data"] != body:
        raise CheckFailed(f"message {message_id} is not what was published: {item['id']}, {len(item['body'])} bytes")


def measure(broker, way, last, cold):
    """One stop and start; returns seconds and the newest message."""
    stop_all(broker, way)
    if cold:
        drop_cache(broker)
    body = secrets.token_bytes(1024)
    began = time.monotonic()
    broker.ctl("init")
    for stage in STAGES:
        for number in range(broker.counts[stage]):
            broker.spawn(stage, number)
    message_id = first_answer(broker, body, 60)
    seconds = time.monotonic() - began
    if order(message_id) <= order(last[0]):
        raise CheckFailed(f"after {way} a message got the id {message_id}, which is not behind {last[0]}")
    broker.wait_ready()
    check_kept(broker, *last)
    return seconds, (message_id, body)


def commit():
    """The commit of this tree."""
    result = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True,
                            check=False)
    return result.stdout.strip() or "unknown"


def main():
    """Parses arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", default=find_build("build/release"))
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--record", type=int, default=65536, help="bytes of a record")
    parser.add_argument("--small", type=int, default=0, help="messages in records of their own, at the end")
    parser.add_argument("--cold", action="store_true", help="without the log in the page cache")
    parser.add_argument("--json", help="write the results there")
    args = parser.parse_args()
    settings = {"log.store": "disk", "log.sync": "always", "log.retention_bytes": "64G", "ring.slots": 16384}
    results = []
    with Broker(args.build, settings=settings) as broker:
        last = fill(broker, args.mib, args.record)
        if args.small:
            add_small(broker, args.small)
        size = log_bytes(broker) / 2**20
        print(f"machine   : {os.cpu_count()} cores, Linux {platform.release()}, commit {commit()}")
        print(f"log       : {size:.0f} MiB on disk, {'not ' if args.cold else ''}in the page cache, sync = always")
        for way in WAYS:
            seconds, last = measure(broker, way, last, args.cold)
            results.append({"stop": way, "first_2xx_s": seconds, "log_mib": size})
            print(f"{way:10}: first durable 2xx {seconds * 1000:.0f} ms after the start of the first process", flush=True)
    if args.json:
        with open(args.json, "w", encoding="ascii") as out:
            json.dump({"commit": commit(), "cold": args.cold, "small": args.small, "runs": results}, out, indent=1)
            out.write("\n")


if __name__ == "__main__":
    try:
        main()
    except CheckFailed as failure:
        print(f"restart.py: {failure}", file=sys.stderr)
        sys.exit(1)
