"""The clients of the crash campaign, as processes of their own: client.py ROLE SETTINGS(JSON). The roles are in
tests/support/actors.py.

Ownership: a client writes its own history file, one write() a line, so that its death costs at most the line in hand.
Units: seconds, bytes.
Errors: what the broker does is history; a broken client, or a broken answer, ends with a traceback and exit 1.
Callers: campaign.py. SIGTERM: end in order. SIGUSR1 (all but publishers): leave in order, and come back.
"""

import ctypes
import json
import os
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from actors import ROLES, Stop  # noqa: E402


class FileSink:
    """Appends lines to a file, each with one write()."""

    def __init__(self, path):
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, **entry):
        os.write(self._fd, json.dumps(entry, separators=(",", ":")).encode("ascii") + b"\n")


class SignalStop(Stop):
    """Raised by signals."""

    def __init__(self):
        super().__init__()
        signal.set_wakeup_fd(self.wake_fd, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._term)
        signal.signal(signal.SIGUSR1, self._usr1)

    def _term(self, *_):
        self.now = True

    def _usr1(self, *_):
        self.leave = True


def main():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)      # PR_SET_PDEATHSIG: no client outlives the campaign
    settings = json.loads(sys.argv[2])
    client = ROLES[sys.argv[1]](settings, FileSink(settings["history"]), SignalStop())
    print("ready", flush=True)      # signals have their handlers from here on
    client.run()


if __name__ == "__main__":
    main()
