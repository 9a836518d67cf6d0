"""Decides from a log of publishes, deliveries and disturbances whether a broker kept its promises.

    history = History()                 # or History.load(paths)
    history.publish(...); history.deliver(...); ...
    report = check(history, Options())
    report.ok, report.findings, report.figures

The file format is in history.py, the rules and their numbers in rules.py.
"""

from .history import Ack, History, HistoryError
from .payload import make, parse
from .rules import Finding, Options, Report, check

__all__ = ["Ack", "Finding", "History", "HistoryError", "Options", "Report", "check", "make", "parse"]
