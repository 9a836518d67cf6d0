"""python3 -m checker [options] FILE...: checks a history, prints findings and figures. Exit 0 if every promise was kept,
1 if not, 2 for a file that cannot be read."""

import argparse
import json
import sys

from . import History, HistoryError, Options, check


def main():
    parser = argparse.ArgumentParser(prog="checker", description="checks a history of publishes and deliveries")
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--slack", type=float, default=Options.slack_s, help="seconds from an event to its last effect")
    parser.add_argument("--killed-unread-max", type=int, default=Options.killed_unread_max,
                        help="messages that each killed session may have taken with it")
    parser.add_argument("--duplicates-max", type=int, default=Options.duplicates_max)
    parser.add_argument("--window", type=float, default=Options.window_s, help="seconds of idempotency keys")
    parser.add_argument("--ack-wait", type=float, default=Options.ack_wait_s)
    parser.add_argument("--max-deliver", type=int, default=Options.max_deliver)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    try:
        history = History.load(args.files)
    except (HistoryError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    report = check(history, Options(slack_s=args.slack, killed_unread_max=args.killed_unread_max,
                                    duplicates_max=args.duplicates_max, window_s=args.window,
                                    ack_wait_s=args.ack_wait, max_deliver=args.max_deliver))
    if args.json:
        findings = [{"rule": f.rule, "name": f.name, "text": f.text, "count": len(f.ids)} for f in report.findings]
        print(json.dumps({"ok": report.ok, "findings": findings, "figures": report.figures}))
    else:
        for finding in report.findings:
            print(finding)
        print(" ".join(f"{name}={value}" for name, value in sorted(report.figures.items())))
        print("ok" if report.ok else f"FAILED: {len(report.findings)} findings")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
