"""Ends what a killed test leaves: reads "+pid" and "-pid" lines from its standard input; at the end of the input it kills
the processes that are still noted and removes the broker's shared-memory objects and directory.

Ownership: none of its own. A pid is only killed if its start time is still the noted one.
Units: none.
Errors: none; what is gone already is fine.
Callers: broker.py only: guard.py INSTANCE DIRECTORY.
"""

import glob
import os
import shutil
import signal
import sys


def start_time(pid):
    """Field 22 of /proc/PID/stat, or None."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rsplit(b")", 1)[1].split()[19]
    except OSError:
        return None


def main():
    instance, directory = sys.argv[1:3]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    noted = {}
    for line in sys.stdin:
        pid = int(line[1:])
        if line[0] == "+":
            noted[pid] = start_time(pid)
        else:
            noted.pop(pid, None)
    for pid, started in noted.items():
        if started is not None and start_time(pid) == started:
            os.kill(pid, signal.SIGKILL)
    for path in glob.glob(f"/dev/shm/cmq.{instance}.*"):  # with store = memory one of them is a directory
        if os.path.isdir(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)
    if not os.environ.get("CMQ_KEEP"):
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
