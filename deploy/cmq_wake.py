"""cmq_wake: supervisord reacts to the death of a child at once.

supervisord's main loop sleeps in poll() for up to a second. Python resumes that poll() after a signal, so SIGCHLD does
not end it, and a restart takes two turns of the loop: one to reap the child, one to start it again.

This plugin is loaded by supervisord's [rpcinterface:...] section, which is its documented way to load code. It offers
no remote procedure. It adds one pipe to the loop:
  - signal.set_wakeup_fd: the interpreter writes a byte for each signal, so poll() returns and the child is reaped;
  - a subscription to changes of state writes another byte, so that the turn that acts on a change (restarts, stops
    the next group) comes at once.
Without it everything works as well, only up to two seconds later.
"""

import os
import signal

from supervisor import events


class _Wake:
    """The pipe's read end, in the form in which supervisord's loop keeps file descriptors."""

    def __init__(self):
        self.read_fd, self.write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def readable(self):
        return True

    def writable(self):
        return False

    def handle_read_event(self):
        try:
            while os.read(self.read_fd, 512):
                pass
        except BlockingIOError:
            pass

    def handle_write_event(self):
        """Never called: writable() is false."""

    def handle_error(self):
        """Reading a pipe of our own has no error to recover from; the loop's own time-out stays in force."""

    def notify(self, _event):
        try:
            os.write(self.write_fd, b"\0")
        except BlockingIOError:
            pass  # full: the loop wakes anyway


class _NoProcedures:
    """What supervisord expects a factory to return: an object whose methods can be called. This one has none."""


def make_wake(supervisord, **_config):
    loop = supervisord.options.get_socket_map()
    for fd in [fd for fd, entry in loop.items() if isinstance(entry, _Wake)]:
        del loop[fd]  # after "supervisorctl reload", which has closed the descriptors of the life before
    wake = _Wake()
    loop[wake.read_fd] = wake
    signal.set_wakeup_fd(wake.write_fd, warn_on_full_buffer=False)
    events.subscribe(events.ProcessStateEvent, wake.notify)
    wake.notify(None)  # the first turn starts the stages; it need not wait either
    return _NoProcedures()
