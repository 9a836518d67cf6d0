#!/usr/bin/python3
"""Tokens: made, shown and taken away by ciphermqctl.

Ownership: each case has a directory of its own.
Units: seconds.
Errors: unittest.
Callers: ctest, as integration.tokens.
"""

import concurrent.futures
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import find_build  # noqa: E402

CONFIG_EXIT, USAGE_EXIT = 78, 64
TOKEN = re.compile(r"cmq_[A-Za-z0-9_-]{43}")


class Ctl(unittest.TestCase):
    """The command alone; no broker runs."""

    def setUp(self):
        self.home = tempfile.TemporaryDirectory(prefix="cmq-tokens-")
        self.addCleanup(self.home.cleanup)
        self.file = os.path.join(self.home.name, "tokens")
        self.program = os.path.join(find_build(), "deploy", "ctl", "ciphermqctl")

    def ctl(self, *words, file=None):
        command = [self.program, "--set", f"tokens.file={self.file if file is None else file}", "token", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    def make(self, *words):
        result = self.ctl("create", *words)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout.strip()

    def refused(self, code, part, *words, **options):
        result = self.ctl(*words, **options)
        self.assertEqual((result.returncode, result.stdout), (code, ""))
        self.assertIn(part, result.stderr)

    def content(self):
        with open(self.file, encoding="utf-8") as file:
            return file.read()

    def listed(self):
        result = self.ctl("list", "--json")
        self.assertEqual(result.returncode, 0, result.stderr)
        return {entry.pop("name"): entry for entry in json.loads(result.stdout)}

    def test_a_token_is_printed_once_and_only_its_digest_is_kept(self):
        result = self.ctl("create", "app", "--publish", "orders.>", "--expires", "90d")
        token = result.stdout.strip()
        self.assertRegex(token, f"^{TOKEN.pattern}$")
        self.assertIn("not shown again", result.stderr)
        self.assertNotIn(token, result.stderr)
        self.assertIn(f"token app sha256:{hashlib.sha256(token.encode()).hexdigest()} ", self.content())
        for command in (["list"], ["list", "--json"]):
            listing = self.ctl(*command).stdout
            self.assertIn("app", listing)
            self.assertIsNone(TOKEN.search(listing))
        self.assertIsNone(TOKEN.search(self.content()))
        self.assertEqual(stat.S_IMODE(os.stat(self.file).st_mode), 0o640)

    def test_what_was_given_is_what_is_listed(self):
        self.assertEqual(self.listed(), {})
        made = json.loads(self.make("--json", "app", "--publish", "a,b.*", "--publish", "c.>", "--subscribe", ">",
                                    "--consume", "$dead.>", "--expires", "2099-01-31", "--messages-rate", "10",
                                    "--bytes-rate", "2K"))
        self.assertRegex(made.pop("token"), f"^{TOKEN.pattern}$")
        self.make("root", "--admin")
        self.make("service", "--certificate", "B\u00fcro 7", "--subscribe", "x")
        entries = self.listed()
        self.assertEqual(list(entries), ["app", "root", "service"])
        self.assertEqual({"name": "app", **entries["app"]}, made)
        self.assertEqual({key: value for key, value in entries["app"].items() if key != "created_ms"},
                         {"kind": "token", "expires_ms": 4073500800000, "expired": False, "publish": ["a", "b.*", "c.>"],
                          "subscribe": [">"], "consume": ["$dead.>"], "admin": False, "messages_rate": 10,
                          "bytes_rate": 2048})
        self.assertTrue(entries["root"]["admin"])
        self.assertIsNone(entries["root"]["expires_ms"])
        self.assertEqual((entries["service"]["kind"], entries["service"]["subject"]), ("certificate", "B\u00fcro 7"))
        text = self.ctl("list").stdout
        for part in ("app", "2099-01-31", "publish a,b.*,c.>; subscribe >; consume $dead.>; 10 messages/s; 2048 bytes/s",
                     "never", "admin", 'certificate "B\u00fcro 7"'):
            self.assertIn(part, text)

    def test_a_revoked_token_leaves_the_rest_of_the_file_alone(self):
        for name in ("a", "b", "c"):
            self.make(name, "--admin")
        with open(self.file, "a", encoding="utf-8") as file:
            file.write("# kept\n")
        lines = self.content().splitlines(keepends=True)
        self.assertIn("b: revoked", self.ctl("revoke", "b").stdout)
        self.assertEqual(self.content(), "".join(line for line in lines if not line.startswith("token b ")))
        self.refused(CONFIG_EXIT, "has that name", "revoke", "b")
        self.assertEqual(json.loads(self.ctl("revoke", "a", "--json").stdout), {"name": "a", "revoked": True})
        self.assertEqual(list(self.listed()), ["c"])

    def test_each_refusal_names_the_fix_and_changes_nothing(self):
        self.make("app", "--admin")
        before = self.content()
        self.refused(CONFIG_EXIT, "file = /etc/ciphermq/tokens", "list", file="")
        self.refused(CONFIG_EXIT, "the name app is used already: revoke it first", "create", "app", "--admin")
        self.refused(CONFIG_EXIT, "give at least one right", "create", "x")
        self.refused(CONFIG_EXIT, "a name has 1 to 63", "create", "a b", "--admin")
        self.refused(CONFIG_EXIT, "--subscribe: 2. pattern", "create", "x", "--subscribe", "a,b..c")
        self.refused(CONFIG_EXIT, "--expires: 30m, 12h, 90d", "create", "x", "--admin", "--expires", "soon")
        self.refused(CONFIG_EXIT, "--messages-rate: a number from 1", "create", "x", "--admin", "--messages-rate", "0")
        self.refused(CONFIG_EXIT, "--certificate: 1 to 253 bytes", "create", "x", "--admin", "--certificate", "a\nb")
        self.refused(USAGE_EXIT, "usage: ciphermqctl token create", "delete", "app")
        self.refused(CONFIG_EXIT, "make it first", "create", "x", "--admin",
                     file=os.path.join(self.home.name, "none", "tokens"))
        self.assertEqual(self.content(), before)
        os.chmod(self.file, 0o644)
        self.refused(CONFIG_EXIT, "chmod 0640", "create", "x", "--admin")
        os.chmod(self.file, 0o640)
        with open(self.file, "a", encoding="utf-8") as file:
            file.write("token broken\n")
        self.refused(CONFIG_EXIT, f"{self.file}:3: sha256: is missing", "create", "x", "--admin")
        self.refused(CONFIG_EXIT, f"{self.file}:3: sha256: is missing", "revoke", "app")

    def test_many_at_once_lose_nothing(self):
        names = [f"n{number}" for number in range(40)]
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            tokens = list(pool.map(lambda name: self.make(name, "--admin"), names))
            self.assertEqual(len(set(tokens)), len(names))
            gone = list(pool.map(lambda name: self.ctl("revoke", name).returncode, names[::2]))
        self.assertEqual(set(gone), {0})
        self.assertEqual(sorted(self.listed()), sorted(names[1::2]))
        self.assertEqual(sorted(os.listdir(self.home.name)), ["tokens", "tokens.lock"])


if __name__ == "__main__":
    unittest.main(verbosity=2)
