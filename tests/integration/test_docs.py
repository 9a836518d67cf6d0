#!/usr/bin/python3
"""The pages, held to what is so: commands and their output, links, names of commands, options, settings, metrics, alerts.

Ownership: brokers of deploy/up in homes of their own, private ones for names; all end with the test.
Units: none.
Errors: unittest; a finding names page and line.
Callers: ctest, as docs.pages.
"""

import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))

import pages  # noqa: E402
from broker import HOST, Broker, find_build  # noqa: E402

ROOMS = ("common", "deploy", "dispatcher", "encryptor", "ingest", "tests", "docs")
SECTIONS = ("common", "tokens", "tls", "ring", "log", "ingest", "encryptor", "dispatcher")


def ctl(*words):
    program = os.path.join(find_build(), "deploy", "ctl", "ciphermqctl")
    return subprocess.run([program, *words], capture_output=True, text=True, check=True).stdout


def free_ports(count):
    """Below the range from which the kernel gives ports to clients, so that nobody gets them meanwhile by chance."""
    found = []
    for port in random.sample(range(15000, 30000), 200):
        with socket.socket() as sock:
            try:
                sock.bind((HOST, port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise AssertionError("no free ports")


def located(text, expression):
    """(line, match) of everything in a page that looks like this."""
    for match in re.finditer(expression, text):
        yield text.count("\n", 0, match.start()) + 1, match


class Commands(unittest.TestCase):
    """Pages whose commands are typed and whose output is compared."""

    def terminals(self, home, http_port, ws_port, **more):
        env = {name: value for name, value in os.environ.items() if not name.startswith("CIPHERMQ_")}
        with open(os.path.join(home, ".curlrc"), "w", encoding="ascii") as curlrc:
            curlrc.write("no-progress-meter\n")  # as on a terminal
        env.update(HOME=home, CIPHERMQ_BUILD=find_build(), no_proxy=HOST, PYTHONDONTWRITEBYTECODE="1", **more)

        def substitute(line):
            for said, real in ((":3000", f":{http_port}"), (":8080", f":{ws_port}"), ("/home/me/", home + "/")):
                line = line.replace(said, real)
            return line

        terminals = pages.Terminals(env, substitute)
        self.addCleanup(terminals.close)
        return terminals

    def home(self):
        """Terminals in a home of their own. What was started there is stopped and removed at the end."""
        home = tempfile.mkdtemp(prefix="cmq-docs-")
        self.addCleanup(shutil.rmtree, home, ignore_errors=True)
        http_port, ws_port = free_ports(2)
        terminals = self.terminals(home, http_port, ws_port, CIPHERMQ_HTTP_PORT=str(http_port), CIPHERMQ_WS_PORT=str(ws_port))
        self.addCleanup(subprocess.run, [os.path.join(pages.ROOT, "deploy", "down"), "--purge", "--yes"], env=terminals.env,
                        stdout=subprocess.DEVNULL, check=True)
        return home, terminals

    def test_quick_start(self):
        home, terminals = self.home()
        self.assertGreater(terminals.run("docs/QUICKSTART.md"), 15)
        self.assertFalse(os.path.exists(os.path.join(home, ".ciphermq")))

    def test_readme(self):
        _, terminals = self.home()
        output, status = terminals.type("deploy/up")
        self.assertEqual(status, 0, output)
        self.assertGreater(terminals.run("README.md"), 10)

    def test_reference_pages(self):
        for page, least in (("docs/HTTP.md", 9), ("docs/PROTOCOL.md", 3)):
            with self.subTest(page=page), Broker() as broker:
                home = tempfile.mkdtemp(prefix="cmq-docs-")
                self.addCleanup(shutil.rmtree, home, ignore_errors=True)
                terminals = self.terminals(home, broker.http_port, broker.ws_port)
                self.assertGreaterEqual(terminals.run(page), least)
                terminals.close()


class Names(unittest.TestCase):
    """What pages name is there."""

    def none(self, findings):
        self.assertEqual([], findings, "\n" + "\n".join(findings))

    def test_links_and_anchors_lead_somewhere(self):
        findings, count = [], 0
        for path in pages.markdown_files():
            for line, match in located(pages.prose(pages.read(path)), r"\]\(([^)\s]+)\)"):
                target, _, anchor = match[1].partition("#")
                if re.match(r"[a-z]+:", target):
                    continue
                count += 1
                place = os.path.normpath(os.path.join(os.path.dirname(path), target)) if target else path
                if not os.path.exists(os.path.join(pages.ROOT, place)):
                    findings.append(f"{path}:{line}: {match[1]}: no such file")
                elif anchor and anchor not in pages.anchors(pages.read(place)):
                    findings.append(f"{path}:{line}: {match[1]}: no such heading")
        self.none(findings)
        self.assertGreater(count, 20)

    def test_index_has_every_page(self):
        index = pages.read("docs/README.md")
        here = [os.path.basename(path) for path in pages.markdown_files() if os.path.dirname(path) == "docs"]
        self.assertGreater(len(here), 10)
        self.none([f"docs/README.md does not name {name}" for name in here if name != "README.md" and f"({name})" not in index])

    def test_commands_and_their_options_exist(self):
        help_text = ctl("--help")
        known = set(re.findall(r"(?m)^  ([a-z]+)\b[^:\n]*:", help_text[help_text.index("Commands:"):]))
        self.assertIn("status", known)
        common = set(re.findall(r"--[a-z-]+", help_text))
        options = {name: set(re.findall(r"--[a-z-]+", ctl(name, "--help"))) | common for name in known}
        findings, count = [], 0
        for path in pages.markdown_files():
            used = r"\bciphermqctl((?: --[a-z-]+(?:[= ][A-Z][A-Z.=/a-z-]*)?)*) ([a-z]+)\b((?: +(?:--?[\w-]+|[^\s`)|;-][^\s`)|;]*))*)"
            for line, match in located(pages.read(path), used):
                count += 1
                if match[2] not in known:
                    if "`" in match[0] or re.search(r"(?:`|deploy/|^ {4,}|\$ |\$\()ciphermqctl", pages.read(path).split("\n")[line - 1]):
                        findings.append(f"{path}:{line}: there is no `ciphermqctl {match[2]}`")
                    continue
                for option in re.findall(r"(?<= )--[a-z-]+", match[1] + " " + match[3]):
                    if option not in options[match[2]]:
                        findings.append(f"{path}:{line}: `ciphermqctl {match[2]}` has no option {option}")
        self.none(findings)
        self.assertGreater(count, 30)

    def test_settings_exist(self):
        known, section = set(), None
        for line in pages.read("docs/CONFIGURATION.md").split("\n"):
            heading = re.match(r"## \[(\w+)\]", line)
            section = heading[1] if heading else section
            row = re.match(r"\| `(\w+)` \|", line)
            if row:
                known.add(f"{section}.{row[1]}")
        self.assertGreater(len(known), 60)
        findings, count = [], 0
        for path in pages.markdown_files():
            for line, match in located(pages.read(path), rf"(?<![\w/.-])({'|'.join(SECTIONS)})\.([a-z_]+)\b(?![./(])"):
                count += 1
                if match[0] not in known and match[2] not in ("conf", "md", "pml"):
                    findings.append(f"{path}:{line}: there is no setting {match[0]}")
        self.none(findings)
        self.assertGreater(count, 60)

    def test_files_exist(self):
        findings, count = [], 0
        for path in pages.markdown_files():
            for line, match in located(pages.read(path), rf"(?<![\w./:{{-])(?:{'|'.join(ROOMS)})/[\w./-]*[\w/]"):
                count += 1
                if not any(os.path.exists(os.path.join(root, match[0])) for root in (pages.ROOT, find_build())):
                    findings.append(f"{path}:{line}: there is no {match[0]}")
        self.none(findings)
        self.assertGreater(count, 60)

    def test_words_of_code_are_in_the_code(self):
        known = {"no_new_privs"}  # the kernel's
        for path in pages.source_files(ROOMS[:-1]):
            known |= set(re.findall(r"\w+", pages.read(path)))
        findings, count = [], 0
        for path in pages.markdown_files():
            for line, match in located(pages.read(path), r"`(?:[\w.]+\.)?([A-Za-z]\w*_\w+)(?:\(\))?`"):
                count += 1
                if match[1] not in known and not match[1].startswith("ciphermq_"):  # metrics: below
                    findings.append(f"{path}:{line}: nothing is named {match[1]}")
        self.none(findings)
        self.assertGreater(count, 200)

    def test_metrics_and_alerts_exist(self):
        with Broker() as broker:
            text = broker.ctl("metrics").stdout
        known = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
        known |= {name + end for name in set(known) for end in ("_bucket", "_sum", "_count")}
        self.assertGreater(len(known), 20)
        rules = pages.read("deploy/monitoring/ciphermq.rules.yml")
        alerts = set(re.findall(r"alert: (\w+)", rules))
        findings, named = [], set()
        for path in pages.markdown_files():
            for line, match in located(pages.read(path), r"\bciphermq_[a-z_]+"):
                if match[0] not in known:
                    findings.append(f"{path}:{line}: there is no metric {match[0]}")
            for line, match in located(pages.read(path), r"\bCiphermq[A-Z]\w+"):
                named.add(match[0])
                if match[0] not in alerts:
                    findings.append(f"{path}:{line}: there is no alert {match[0]}")
        self.none(findings)
        self.assertEqual(alerts, named, "alerts that no page explains")


if __name__ == "__main__":
    unittest.main(verbosity=2)
