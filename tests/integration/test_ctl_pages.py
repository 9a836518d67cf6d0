#!/usr/bin/python3
"""ciphermqctl completion and man: what a shell offers, and pages that groff takes without a warning.

Ownership: no broker.
Units: none.
Errors: unittest.
Callers: ctest, as integration.ctl_pages.
"""

import os
import re
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

from broker import find_build  # noqa: E402

PROGRAM = os.path.join(find_build(), "deploy", "ctl", "ciphermqctl")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CASES = (  # what is typed, the last word unfinished -> what is offered
    (["sca"], {"scale"}),
    (["scale", ""], {"ingest", "encryptor", "dispatcher"}),
    (["scale", "d"], {"dispatcher"}),
    (["scale", "ingest", ""], set()),
    (["key", ""], {"list", "rotate"}),
    (["--config", "x", "key", "r"], {"rotate"}),
    (["token", "c"], {"create"}),
    (["completion", ""], {"bash", "zsh", "fish"}),
    (["pub", "--ack", ""], {"accepted", "durable"}),
    (["restore", "--f"], {"--force"}),
    (["backup", "docs/pic"], {"docs/pictures"}),
    (["pub", "--token-file", "READ"], {"README.md"}),
)


def ctl(*words):
    return subprocess.run([PROGRAM, *words], capture_output=True, text=True, check=True).stdout


def commands():
    return re.findall(r"^\.TP\n\\fB\\&(\S+?)\\fR", ctl("man").split(".SH COMMANDS")[1].split(".SH OPTIONS")[0], re.M)


class Completion(unittest.TestCase):
    def bash(self, words):
        script = ctl("completion", "bash") + '\nCOMP_WORDS=(ciphermqctl "$@")\nCOMP_CWORD=$#\n_ciphermqctl\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
        done = subprocess.run(["bash", "-c", script, "bash", *words], capture_output=True, text=True, check=True, cwd=ROOT)
        self.assertEqual(done.stderr, "")
        return set(done.stdout.split())

    def test_bash_offers_what_fits(self):
        for words, offered in CASES:
            self.assertEqual(self.bash(words), offered, words)
        self.assertEqual(self.bash(["pub", "--ack", "=", "d"]), {"durable"})
        self.assertEqual(self.bash([""]), set(commands()))

    def test_fish_offers_what_fits(self):
        for words, offered in CASES:
            done = subprocess.run(["fish", "-c", "source -; complete -C \"$argv\"", "ciphermqctl " + " ".join(words)],
                                  input=ctl("completion", "fish"), capture_output=True, text=True, check=True, cwd=ROOT,
                                  env={**os.environ, "HOME": "/nonexistent"})
            got = {line.split("\t")[0].rstrip("/") for line in done.stdout.splitlines()}
            self.assertTrue(offered <= got, (words, got))

    def test_zsh_reads_its_script(self):
        subprocess.run(["zsh", "-f", "-n"], input=ctl("completion", "zsh"), text=True, check=True)


class Pages(unittest.TestCase):
    def test_groff_has_no_warning_and_sections_are_there(self):
        self.assertGreater(len(commands()), 15)
        for words in ([], ["ciphermq.conf"], *([name] for name in commands())):
            page = ctl("man", *words)
            done = subprocess.run(["groff", "-man", "-ww", "-Tutf8", "-P-c"], input=page, capture_output=True, text=True,
                                  check=True)
            self.assertEqual(done.stderr, "", words)
            sections = ["NAME", "SYNOPSIS", "DESCRIPTION"] + (["OPTIONS", "EXIT STATUS"] if words != ["ciphermq.conf"] else [])
            for section in sections:
                self.assertIn(f".SH {section}\n", page, words)

    def test_every_setting_is_in_its_page(self):
        page = ctl("man", "ciphermq.conf").replace("\\&", "").replace("\\-", "-")
        for name in re.findall(r"^#(\w+) =", ctl("config", "--sample"), re.M):
            self.assertIn(f"\\fB{name}\\fR", page)

    def test_unknown_page_is_refused(self):
        done = subprocess.run([PROGRAM, "man", "nothing"], capture_output=True, text=True, check=False)
        self.assertEqual((done.returncode, done.stdout), (64, ""))
        self.assertIn("no page about nothing", done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
